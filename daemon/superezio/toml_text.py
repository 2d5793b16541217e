"""Writing TOML: keys and values so that they are read as they were."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_LAST_SHORT: Final = 0xFFFF


def dotted(path: Sequence[str]) -> str:
    """Return a key as TOML writes it: parts that are no plain words are in quotes."""
    return ".".join(part if _BARE.fullmatch(part) else quoted(part) for part in path)


def quoted(text: str) -> str:
    """Return `text` as a string of TOML, with all escaped that is not printable."""
    return '"' + "".join(map(_escaped, text)) + '"'


def value_text(value: bool | float | str | Sequence[int | str]) -> str:  # noqa: FBT001 - a value
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int | float):
        return repr(value)
    return f"[{', '.join(map(value_text, value))}]"


def _escaped(each: str) -> str:
    if each in {'"', "\\"}:
        return f"\\{each}"
    if each.isprintable():
        return each
    return f"\\u{ord(each):04X}" if ord(each) <= _LAST_SHORT else f"\\U{ord(each):08X}"
