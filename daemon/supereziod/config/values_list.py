"""Every key of a configuration with its value, its default and where it was set, in one list."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from superezio.toml_lines import KeyPath
from supereziod.config.changes import is_live
from supereziod.config.loader import Loaded
from supereziod.config.section import Section, section_type
from supereziod.config.setting import Origin
from supereziod.config.written import Written, written

#: By the order of the fields; names that somebody chose are in the order of the alphabet.
_Rank = tuple[tuple[int, str], ...]


class Listed(Struct, frozen=True, kw_only=True):
    """A key. `origin` None: nobody has set it."""

    path: KeyPath
    value: Written
    default: Written
    origin: Origin | None
    live: bool
    rank: _Rank


def list_values(loaded: Loaded) -> Iterator[Listed]:
    """Yield each key that a configuration has, also those that nobody has set."""
    for path, name, value, default, rank in _walk(loaded.config, None, (), ()):
        yield Listed(
            path=path,
            value=written(name, value),
            default=written(name, default),
            origin=_origin(loaded, path),
            live=is_live(".".join(path)),
            rank=rank,
        )


def list_in_force(started: Loaded, now: Loaded) -> list[Listed]:
    """Return what a daemon goes by that was started with one configuration and now has another.

    What cannot change in a running daemon is as it was at the start.
    """
    found = [each for each in list_values(started) if not each.live]
    found += [each for each in list_values(now) if each.live]
    return sorted(found, key=lambda each: each.rank)


def _walk(
    section: Section, defaults: Section | None, path: KeyPath, rank: _Rank
) -> Iterator[tuple[KeyPath, str, Any, Any, _Rank]]:
    defaults = type(section)() if defaults is None else defaults
    for index, (name, key, holds_section) in enumerate(_fields(type(section))):
        value = getattr(section, name)
        at, of = (*path, key), (*rank, (index, ""))
        if isinstance(value, Section):
            yield from _walk(value, getattr(defaults, name), at, of)
        elif isinstance(value, dict):
            for chosen, inner in value.items():
                yield from _walk(inner, None, (*at, chosen), (*of, (0, chosen)))
        elif not holds_section:
            yield at, name, value, getattr(defaults, name), of


@cache
def _fields(section: type[Section]) -> tuple[tuple[str, str, bool], ...]:
    """Return the name and the key of each field, and whether it holds a section."""
    types = get_type_hints(section)
    return tuple(
        (field.name, field.encode_name, section_type(types[field.name]) is not None)
        for field in fields(section)
    )


def _origin(loaded: Loaded, path: KeyPath) -> Origin | None:
    own = loaded.origins.get(path)
    match path:
        case ("gpu", "override", _, "thermal", key) if own is None:
            # What one GPU's ladder leaves open is as in the common one.
            return loaded.origins.get(("gpu", "thermal", key))
    return own
