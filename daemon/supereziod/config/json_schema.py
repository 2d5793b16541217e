"""docs/superezio.schema.json, for editors: `python -m supereziod.config.json_schema`.

It accepts every file that supereziod accepts, and refuses what a schema can refuse: unknown keys,
wrong types, single values out of their bounds, durations, sizes and rates that nobody can read.
What keys mean to each other, and bounds of a duration or size that is text, only the daemon checks.
"""

from __future__ import annotations

import json
import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import fields

from superezio.quantities import LARGEST, LONGEST_S
from superezio.toml_lines import KeyPath
from supereziod.config.changes import is_live
from supereziod.config.schema import Config
from supereziod.config.section import Section, section_type
from supereziod.config.written import written

Json = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DURATION: Final = r"^\s*([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)\s*$"
_SIZE: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*[KMGTkmgt]?[Ii]?[Bb]?\s*$"
_PLAIN: Final[dict[Any, str]] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}


def json_schema() -> Json:
    """Return the schema of a configuration file."""
    return {
        "$schema": _DIALECT,
        "title": "superezio.toml",
        "description": "The configuration of supereziod; files in conf.d have the same keys.",
        **_section((), Config, Config()),
    }


def _section(path: KeyPath, section: type[Section], defaults: Section) -> Json:
    types = get_type_hints(section, include_extras=True)
    properties = {
        field.encode_name: _field(
            (*path, field.encode_name),
            field.name,
            types[field.name],
            getattr(defaults, field.name),
        )
        for field in fields(section)
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _field(path: KeyPath, name: str, type_: Any, default: Any) -> Json:  # noqa: ANN401 - any field
    inner = section_type(type_)
    if inner is not None:
        return _section(path, inner, inner() if default is None else default)
    if get_origin(type_) is dict:
        named = get_args(type_)[1]
        members = _section((*path, "NAME"), named, named())
        return {"type": "object", "additionalProperties": members}
    metas = type_.__metadata__ if get_origin(type_) is Annotated else ()
    found = _described(path, metas) | _value(name, _plain(type_), _bounds(metas))
    value = written(name, default)
    return found if value is None else {**found, "default": value}


def _described(path: KeyPath, metas: tuple[msgspec.Meta, ...]) -> Json:
    # Rules of one of the shared are those of all, and described there.
    text = next((m.description for m in metas if m.description), f"As {path[0]}.{path[-1]}.")
    applied = "a reload applies it" if is_live(".".join(path)) else "needs a restart"
    found: Json = {"description": f"{text} ({applied})"}
    for meta in metas:
        if meta.examples:
            found["examples"] = meta.examples
    return found


def _bounds(metas: tuple[msgspec.Meta, ...]) -> Json:
    found: Json = {}
    for meta in metas:
        given = {keyword: getattr(meta, name) for name, keyword in _BOUNDS.items()}
        found |= {keyword: bound for keyword, bound in given.items() if bound is not None}
        found |= meta.extra_json_schema or {}
    return found


def _value(name: str, plain: Any, bounds: Json) -> Json:  # noqa: ANN401 - a type form
    if name.endswith(("_s", "_bytes")):
        is_size = name.endswith("_bytes")
        most = LARGEST if is_size else LONGEST_S
        kind = "integer" if is_size else "number"
        number = {"type": kind, "minimum": 0, "maximum": most, **bounds}
        return {"anyOf": [{"type": "string", "pattern": _SIZE if is_size else _DURATION}, number]}
    if get_origin(plain) is Literal:
        return {"enum": list(get_args(plain))}
    if get_origin(plain) is list:
        return {"type": "array", "items": {"type": _PLAIN[get_args(plain)[0]]}}
    return {"type": _PLAIN[plain], **bounds}


def _plain(type_: Any) -> Any:  # noqa: ANN401 - a type form
    plain = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    if get_origin(plain) is UnionType:
        return next(arm for arm in get_args(plain) if arm is not NoneType)
    return plain


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
