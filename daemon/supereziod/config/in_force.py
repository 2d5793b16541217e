"""What the running daemon goes by, and how the files differ from it, as it is told to callers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from superezio import wire
from superezio.toml_lines import KeyPath
from superezio.toml_text import dotted
from supereziod.config.fields import find_part
from supereziod.config.loader import Loaded
from supereziod.config.setting import Origin
from supereziod.config.values_list import Listed, list_in_force, list_values
from supereziod.config.written import Written

#: What was set in the running daemon since the files were read.
SetSince = Mapping[KeyPath, wire.ConfigRunTime]


def values_in_force(
    started: Loaded,
    now: Loaded,
    *,
    key: str | None,
    everything: bool,
    set_since: SetSince = MappingProxyType({}),
) -> list[wire.ConfigValue]:
    """Return the values of a key or section, or all: what somebody has set, or everything.

    Raises NoSuchKeyError.
    """
    part = find_part(key or "")
    return [
        wire.ConfigValue(
            key=dotted(each.path),
            path=list(each.path),
            value=each.value,
            default=each.default,
            origin=_origin(each.origin),
            live=each.live,
            run_time=set_since.get(each.path),
        )
        for each in _running(started, now, set_since)
        if each.path[: len(part)] == part
        # Who names a key wants to know of it, set or not.
        and (everything or each.origin is not None or each.path == part or each.path in set_since)
    ]


def changes_on_disk(
    started: Loaded, now: Loaded, disk: Loaded, *, set_since: SetSince = MappingProxyType({})
) -> list[wire.ConfigChange]:
    """Return each key whose value in the files is not the one in force.

    Of a table that came or went those keys are told that are set in it.
    """
    old = {each.path: each for each in _running(started, now, set_since)}
    new = {each.path: each for each in list_values(disk)}
    changed = [each for path, each in old.items() if _differs(each, new.get(path))]
    changed += [each for path, each in new.items() if path not in old and _differs(each, None)]
    return [_change(each.path, old, new) for each in sorted(changed, key=lambda each: each.rank)]


def _running(started: Loaded, now: Loaded, set_since: SetSince) -> list[Listed]:
    return [
        replace(each, value=set_since[each.path].value) if each.path in set_since else each
        for each in list_in_force(started, now)
    ]


def _differs(one: Listed, other: Listed | None) -> bool:
    return one.origin is not None if other is None else one.value != other.value


def _change(
    path: KeyPath, old: Mapping[KeyPath, Listed], new: Mapping[KeyPath, Listed]
) -> wire.ConfigChange:
    there = new.get(path)
    return wire.ConfigChange(
        key=dotted(path),
        path=list(path),
        old=_value(old, path),
        new=_value(new, path),
        origin=_origin(there.origin if there is not None else None),
        live=(there or old[path]).live,
    )


def _value(listed: Mapping[KeyPath, Listed], path: KeyPath) -> Written:
    found = listed.get(path)
    return None if found is None else found.value


def _origin(origin: Origin | None) -> wire.ConfigOrigin:
    if origin is None:
        return wire.ConfigOrigin(place="default", name=None, line=None)
    return wire.ConfigOrigin(place=origin.place, name=origin.name, line=origin.line)
