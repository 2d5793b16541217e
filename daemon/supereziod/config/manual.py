"""superezio.toml(5), made from the schema: `python -m supereziod.config.manual`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, Final

from superezio.roff import Page
from supereziod.config.example import TABLES
from supereziod.config.json_schema import json_schema

Json = dict[str, Any]

_DESCRIPTION: Final = """\
The configuration of supereziod(8). A file without any key is a good one, and so is none: the
defaults work on a new host. It is TOML: a key `leases.grace` of this page is `grace` under the
heading `[leases]`.

Files in `/etc/superezio/conf.d` whose names end in `.toml` are read after it, in the order of
their names, but for hidden ones, and a key set later wins, key by key. The environment wins over
the files: each key is a variable, too, in capitals with two underscores between its parts
(`SUPEREZIO__LEASES__GRACE=10s`). The options of supereziod win over all.

A *duration* is text (`250ms`, `30s`, `1m30s`, `2h`) or a number of seconds. A *size* is text
(`512MiB`, `8GiB`, `10GB`) or a number of bytes. A *rate* is an amount in a duration (`500/1m`).
Money is text (`5.00`).

`systemctl reload superezio` applies what can change in a running daemon, and says what waits
for a restart; no lease notices either. A mistake leaves what was in force in force. At a start
it is refused with exit code 78: every mistake is told with file, line and key.
"""
_FILES: Final = {
    "/etc/superezio/superezio.toml": "The configuration; root's alone to write.",
    "/etc/superezio/conf.d/*.toml": "What is read after it.",
    "/usr/share/doc/superezio/superezio.toml": "Every key with its default, to copy from.",
    "/usr/share/superezio/superezio.schema.json": "A JSON Schema, by which an editor checks and"
    " completes keys. The first line of the file above names it.",
}
_EXAMPLES: Final = (
    (
        "A host whose card 0 drives a desktop, and where no user may lease more than 16 GiB:",
        (
            "[gpu]",
            'reserve = "1GiB"',
            "",
            "[leases.quota.default]",
            'vram = "16GiB"',
        ),
    ),
    (
        "What is wrong, what would change, and what is in force:",
        (
            "superezioctl config check",
            "superezioctl config diff",
            "superezioctl config show --origin",
        ),
    ),
)


def render_manual() -> str:
    """Return the page."""
    page = Page("superezio.toml", 5, "configuration of supereziod")
    page.heading("SYNOPSIS")
    page.synopsis("`/etc/superezio/superezio.toml`", "`/etc/superezio/conf.d/*.toml`")
    page.heading("DESCRIPTION")
    page.prose(_DESCRIPTION)
    page.heading("OPTIONS")
    _Keys(page).add("", json_schema())
    page.heading("FILES")
    for name, text in _FILES.items():
        page.tagged(f"`{name}`", text)
    page.examples(_EXAMPLES)
    page.see_also(("superezio", 7), ("supereziod", 8), ("superezioctl", 1))
    return page.text


class _Keys:
    """Sections and their keys; of sections that are alike the first is told in full."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._told: dict[str, str] = {}

    def add(self, path: str, section: Json, *, headed: bool = False) -> None:
        """Add a section, and those in it. `headed`: it has its heading already."""
        properties = section["properties"]
        keys = {name: each for name, each in properties.items() if not _is_section(each)}
        if keys:
            if not headed:
                self._page.subheading(f"[{path}]")
            self._add_keys(path, keys)
        for name, inner in properties.items():
            if _is_section(inner):
                self._add_inner(f"{path}.{name}" if path else name, inner)

    def _add_inner(self, path: str, inner: Json) -> None:
        if "properties" in inner:
            self.add(path, inner)
            return
        if path in TABLES:
            self._page.subheading(f"[{path}.NAME]")
            prose, lines = _of_table(TABLES[path])
            self._page.prose(prose)
            self._page.example(lines)
        self.add(f"{path}.NAME", inner["additionalProperties"], headed=path in TABLES)

    def _add_keys(self, path: str, keys: Json) -> None:
        alike = json.dumps({name: {**each, "default": None} for name, each in keys.items()})
        told = self._told.setdefault(alike, path)
        if told != path:
            self._page.paragraph(f"The keys of `[{told}]`.")
            return
        for name, each in keys.items():
            text, _, change = each["description"].removesuffix(")").rpartition(" (")
            self._page.tagged(f"`{path}.{name}`", text, f"{_value(each)} {_sentence(change)}")


def _is_section(schema: Json) -> bool:
    return "properties" in schema or isinstance(schema.get("additionalProperties"), dict)


def _of_table(text: str) -> tuple[str, list[str]]:
    """Return what the example says of a table: in prose, and in lines to copy."""
    lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.startswith("["))
    return "\n".join(lines[:begin]).replace(" (live)", ""), lines[begin:]


def _value(schema: Json) -> str:
    parts = [_kind(schema), *_bounds(schema)]
    if "examples" in schema:
        parts.append(f"such as {_written(schema['examples'])}")
    if "default" in schema:
        parts.append(f"default {_written([schema['default']])}")
    else:
        parts.append("not set by default")
    return _sentence(", ".join(parts))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _kind(schema: Json) -> str:
    if "enum" in schema:
        return f"one of {_written(schema['enum'])}"
    if "anyOf" in schema:
        return "a size" if schema["anyOf"][1]["type"] == "integer" else "a duration"
    if schema["type"] == "array":
        inner = "whole numbers" if schema["items"]["type"] == "integer" else "texts"
        return f"a list of {inner}"
    return {
        "boolean": "`true` or `false`",
        "integer": "a whole number",
        "number": "a number",
        "string": "a text",
    }[schema["type"]]


def _bounds(schema: Json) -> Iterable[str]:
    if "minimum" in schema:
        yield f"at least {schema['minimum']}"
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']}"
    if "maximum" in schema:
        yield f"at most {schema['maximum']}"


def _written(values: Iterable[object]) -> str:
    return ", ".join(f"`{json.dumps(each, ensure_ascii=False)}`" for each in values)


if __name__ == "__main__":
    sys.stdout.write(render_manual())
