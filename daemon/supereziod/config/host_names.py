"""Users and groups that a configuration names and this host does not know.

That is no mistake in the file: they may come later, or have been deleted while the daemon runs,
which leaves them out and says so.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec.structs import fields

from superezio.toml_lines import KeyPath
from supereziod.config.loader import Loaded
from supereziod.config.section import Shared
from supereziod.config.setting import Problem

_LOOK_UP: Final[dict[str, Callable[[str], object]]] = {
    "user": pwd.getpwnam,
    "group": grp.getgrnam,
}


def unknown_names(loaded: Loaded) -> list[Problem]:
    """Return what the files name that is not there, with its line; what is a default is not told.

    Asks the name service, which may block.
    """
    return [
        Problem(
            origin=loaded.origins[path],
            key=".".join(key),
            message=f"this host has no {kind} {name}",
        )
        for path, key, kind, name in _named(loaded)
        if not _is_known(name, _LOOK_UP[kind])
    ]


def _named(loaded: Loaded) -> Iterator[tuple[KeyPath, KeyPath, str, str]]:
    """Yield each name, its kind, the key to tell, and one that has its line."""
    access = loaded.config.access
    for key, kind, names in (
        ("user_groups", "group", access.user_groups),
        ("admin_groups", "group", access.admin_groups),
        ("users", "user", access.users),
        ("admins", "user", access.admins),
    ):
        path: KeyPath = ("access", key)
        if path in loaded.origins:
            yield from ((path, path, kind, name) for name in names)
    for section, shared in _shared(loaded):
        for kind, names in (("user", shared.users), ("group", shared.groups)):
            path = (*section, f"{kind}s")
            if path in loaded.origins:
                yield from ((path, path, kind, name) for name in names)
    quota = loaded.config.leases.quota
    for kind, named in (("user", quota.user), ("group", quota.group)):
        for name in named:
            key_path = ("leases", "quota", kind, name)
            # The line of its first limit: a table is told of by what is in it.
            yield from ((p, key_path, kind, name) for p in _inside(loaded, key_path)[:1])


def _shared(loaded: Loaded) -> Iterator[tuple[KeyPath, Shared]]:
    """Yield what is shared by a name, with where that stands."""
    for field in fields(loaded.config):
        named: Mapping[str, Shared] = getattr(getattr(loaded.config, field.name), "shared", {})
        yield from (((field.encode_name, "shared", name), each) for name, each in named.items())


def _inside(loaded: Loaded, section: KeyPath) -> list[KeyPath]:
    return [path for path in loaded.origins if path[: len(section)] == section]


def _is_known(name: str, look_up: Callable[[str], object]) -> bool:
    try:
        return name.isdecimal() or look_up(name) is not None
    except (KeyError, ValueError):  # ValueError: no name at all, as one with a null character
        return False
