"""What to say of a key that a section does not have: where it belongs, or which was meant."""

from __future__ import annotations

import difflib
from typing import get_type_hints

from msgspec.structs import fields

from superezio.toml_lines import KeyPath
from supereziod.config.section import Section, section_type

_SHARED = "shared"


def unknown_key(path: KeyPath, key: str, value: object, section: type[Section]) -> str:
    """Return a sentence about `key`, which stands in the section at `path` and is none of its."""
    known = [field.encode_name for field in fields(section)]
    near = difflib.get_close_matches(key, known, n=1)
    if isinstance(value, dict) and _SHARED in known and near != [_SHARED]:
        name = ".".join((*path, _SHARED, key))
        return f"no such key; what several users share by its name is [{name}]"
    inner = _sections_with(key, section)
    if inner:
        others = ", ".join(f".{each}" for each in inner[1:])
        place = ".".join((*path, inner[0]))
        return f"no such key; it belongs to [{place}]" + (f" (or {others})" if others else "")
    return f"no such key; did you mean {near[0]}?" if near else "no such key"


def _sections_with(key: str, section: type[Section]) -> list[str]:
    """Return the sections of a section that have such a key."""
    types = get_type_hints(section)
    held = {field.encode_name: section_type(types[field.name]) for field in fields(section)}
    return [
        name
        for name, inner in held.items()
        if inner is not None and any(field.encode_name == key for field in fields(inner))
    ]
