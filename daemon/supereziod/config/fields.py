"""Finding a field of the configuration by the key that it has in a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from superezio.toml_lines import KeyPath, read_key
from supereziod.config.schema import Config
from supereziod.config.section import Section, section_type

_LONGEST_KEY: Final = 512
#: So many keys of a section are named to who missed one.
_FEW: Final = 8


class Field(Struct, frozen=True, kw_only=True):
    """A key: its path in a file, and the name and type of its field."""

    path: KeyPath
    name: str
    type: Any


class NoSuchKeyError(ValueError):
    """There is no such key. The message says what there is; `key` is as far as it was found."""

    def __init__(self, path: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.key = ".".join(path)


def find_field(parts: Sequence[str], *, fold: bool = False) -> Field:
    """Return the field that a key leads to. Raises NoSuchKeyError.

    `fold`: the parts are in capitals, but for names that somebody chose.
    """
    found = _find(parts, fold=fold)
    if isinstance(found, Field):
        return found
    raise NoSuchKeyError(found.path, f"it is a section: name one of its keys ({_some(found)})")


def find_part(text: str) -> KeyPath:
    """Return the path of a key or section, written as in TOML. Raises NoSuchKeyError."""
    parts = _parse(text)
    return _find(parts).path if parts else ()


class _Place(Struct, frozen=True):
    """A section, or a table of sections that go by a name (`named`)."""

    path: KeyPath
    section: type[Section]
    named: bool = False


def _find(parts: Sequence[str], *, fold: bool = False) -> Field | _Place:
    at: Field | _Place = _Place((), Config)
    for part in parts:
        if isinstance(at, Field):
            raise NoSuchKeyError((*at.path, part), "no such key: it ends before")
        if at.named:
            if not part:
                raise NoSuchKeyError(at.path, "a name is missing")
            at = _Place((*at.path, part), at.section)
        else:
            at = _step(at, part.lower() if fold else part)
    return at


def _step(at: _Place, key: str) -> Field | _Place:
    types = get_type_hints(at.section, include_extras=True)
    path = (*at.path, key)
    known = {field.encode_name: field.name for field in fields(at.section)}
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {_some(at)}"
        raise NoSuchKeyError(path, f"no such key{hint}")
    type_ = types[known[key]]
    inner = section_type(type_)
    if inner is not None:
        return _Place(path, inner)
    if get_origin(type_) is dict:
        return _Place(path, get_args(type_)[1], named=True)
    return Field(path=path, name=known[key], type=type_)


def _some(place: _Place) -> str:
    names = [field.encode_name for field in fields(place.section)]
    return ", ".join([*names[:_FEW], "..."] if len(names) > _FEW else names)


def _parse(text: str) -> KeyPath:
    """Return the parts of a key. A name may stand in it without the quotes that TOML wants."""
    if not text:
        return ()
    if len(text) > _LONGEST_KEY:
        raise NoSuchKeyError((f"{text[:80]}...",), "no such key: it is too long for one")
    return read_key(text) or tuple(text.split("."))
