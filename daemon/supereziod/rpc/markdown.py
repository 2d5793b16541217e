"""Types, tables and JSON as Markdown, for the reference."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from inspect import cleandoc
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

_WIDTH: Final = 98
_ENTRIES_SHOWN: Final = 2
_PLAIN: Final = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    bytes: "string in base64",
    Any: "anything",
    types.NoneType: "null",
}

_JSON_WORDS: Final = {"None": "null", "False": "false", "True": "true"}

StructType = type[Struct]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(each)} |\n" for each in lines)


def type_text(type_: Any) -> str:  # noqa: ANN401 - a type form
    """Return how a type of the wire reads; structs are links to their sections."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin in {Union, types.UnionType}:
        return " or ".join(type_text(each) for each in arguments)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(each)}`" for each in arguments)
    if origin is list:
        return f"array of {type_text(arguments[0])}"
    if origin is dict:
        values = "" if arguments[1] is Any else f" of {type_text(arguments[1])} by name"
        return f"object{values}"
    if is_struct(type_):
        return f"[{type_.__name__}](#{type_.__name__.lower()})"
    return _PLAIN[type_]


def is_struct(type_: object) -> bool:
    """Whether a type is a struct of the wire."""
    return isinstance(type_, type) and issubclass(type_, Struct)


def params_table(params: StructType) -> str:
    """Return the table of a method's parameters."""
    hints = get_type_hints(params)
    return table(
        ("parameter", "type", "default"),
        [
            (f"`{field.encode_name}`", type_text(hints[field.name]), _default(field))
            for field in fields(params)
        ],
    )


def members_table(result: StructType) -> str:
    """Return the table of a struct's members."""
    hints = get_type_hints(result)
    return table(
        ("member", "type"),
        [(f"`{field.encode_name}`", type_text(hints[field.name])) for field in fields(result)],
    )


def structs_in(type_: Any) -> Iterator[StructType]:  # noqa: ANN401 - a type form
    """Yield the structs that a type names, not those inside them."""
    if is_struct(type_):
        yield type_
    for argument in get_args(type_):
        yield from structs_in(argument)


def own_text(struct: StructType) -> str:
    """Return a struct's own docstring as a paragraph; empty where it has none."""
    text = struct.__dict__.get("__doc__") or ""
    in_json = re.sub(r"\b(None|False|True)\b", lambda match: _JSON_WORDS[match[0]], text)
    return cleandoc(in_json) + "\n" if text else ""


def json_block(*values: object) -> str:
    """Return values as JSON, folded to the width of a page."""
    return "```json\n" + "".join(f"{_folded(each, 0)}\n" for each in values) + "```\n"


def cut(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with only the first entries of arrays of objects or arrays."""
    if isinstance(value, dict):
        return {name: cut(each) for name, each in value.items()}
    if isinstance(value, list):
        structured = value and isinstance(value[0], dict | list)
        return [cut(each) for each in (value[:_ENTRIES_SHOWN] if structured else value)]
    return value


def _default(field: FieldInfo) -> str:
    if field.required:
        return "required"
    made = field.default if field.default is not NODEFAULT else field.default_factory()
    return f"`{json.dumps(made)}`"


def _folded(value: Any, indent: int, before: int = 0) -> str:  # noqa: ANN401 - any JSON
    """Return JSON with as much on a line as fits; `before` is what stands left of it already."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) + indent + before <= _WIDTH or not isinstance(value, dict | list):
        return text
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(name)}: {_folded(each, indent + 2, len(name) + 5)}"
            for name, each in value.items()
        ]
    else:
        parts = [_folded(each, indent + 2, 1) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    body = "\n".join(" " * (indent + 2) + line for line in _filled(parts, _WIDTH - indent - 2))
    return f"{start}\n{body}\n{' ' * indent}{end}"


def _filled(parts: Sequence[str], width: int) -> Iterator[str]:
    line = ""
    for number, part in enumerate(parts):
        piece = part if number == len(parts) - 1 else f"{part},"
        whole = "\n" not in piece
        if line and not (whole and len(line) + 1 + len(piece) <= width):
            yield line
            line = ""
        line = f"{line} {piece}" if line else piece
        if not whole:
            yield line
            line = ""
    if line:
        yield line
