"""Whose a name is: of those whom the configuration lists with it, or else of one user alone.

Two users who call a breaker `openai` have one each, which the other cannot see or disturb, unless
the configuration names it and says who shares it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from superezio.errors import InvalidParamsError, PermissionDeniedError

#: As they stand in paths of the configuration, in shells and in labels of metrics.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
#: Users whose way to each name is remembered; it is found again where it is forgotten.
_REMEMBERED: Final = 4096


class Asker(Protocol):
    """Who asks: a process, as the kernel tells of it."""

    @property
    def uid(self) -> int: ...
    @property
    def groups(self) -> frozenset[int]: ...


class Audience(Struct, frozen=True, kw_only=True):
    """Who may use a shared name. `group_names` is for the sentence that refuses."""

    everyone: bool = False
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    group_names: tuple[str, ...] = ()

    def includes(self, asker: Asker) -> bool:
        """Whether `asker` is one of them."""
        return self.everyone or asker.uid in self.uids or not self.gids.isdisjoint(asker.groups)


class Owned(NamedTuple):
    """A name, and the uid that it is private to: None where it is shared."""

    owner: int | None
    name: str


def is_name(name: str) -> bool:
    """Whether anything may be called so."""
    return _NAME.fullmatch(name) is not None


class SharedNames:
    """The names of one kind (`breaker`, `limit`, `namespace`) that the configuration shares."""

    def __init__(self, kind: str, audiences: Mapping[str, Audience]) -> None:
        self._kind = kind
        self._audiences = dict(audiences)
        self._private: dict[tuple[int, str], Owned] = {}

    def set_audiences(self, audiences: Mapping[str, Audience]) -> None:
        """Share other names from now on, or with others."""
        self._audiences = dict(audiences)
        self._private.clear()

    def is_shared(self, name: str) -> bool:
        """Whether the configuration shares `name`."""
        return name in self._audiences

    def find(self, name: str, asker: Asker) -> Owned:
        """Return what `name` means to `asker`.

        Raises InvalidParamsError where it is no name, PermissionDeniedError where it is shared by
        others.
        """
        own = self._private.get((asker.uid, name))
        if own is not None:
            return own
        audience = self._audiences.get(name)
        if audience is None:
            return self._remember(asker.uid, name)
        if not audience.includes(asker):
            raise self._refusal(name, audience)
        return Owned(None, name)

    def may_see(self, owned: Owned, asker: Asker) -> bool:
        """Whether `asker` is the owner, or one of those who share it."""
        if owned.owner is not None:
            return owned.owner == asker.uid
        audience = self._audiences.get(owned.name)
        return audience is not None and audience.includes(asker)

    def _remember(self, uid: int, name: str) -> Owned:
        if not is_name(name):
            raise InvalidParamsError(
                "name has to be 1 to 64 letters, digits or any of . _ : / -, and begin with a"
                f" letter or a digit, not {name[:80]!r}"
            )
        if len(self._private) >= _REMEMBERED:
            self._private.clear()
        own = self._private[uid, name] = Owned(uid, name)
        return own

    def _refusal(self, name: str, audience: Audience) -> PermissionDeniedError:
        if audience.group_names:
            group = audience.group_names[0]
            way = f'Join the group {group} (sudo usermod -aG {group} "$USER"), then log in again.'
            # One that the host does not know has no gid here.
            if not audience.gids:
                way = (
                    f"It is for the group {group}, which this host does not have: an admin can make"
                    f" it (sudo groupadd {group}), add you to it and reload (superezioctl reload)."
                )
        else:
            way = "An admin can add you to its `users`."
        return PermissionDeniedError(
            f"cannot use the {self._kind} {name}: on this host it is shared by others. {way} Any"
            " name that is not in the configuration is your own.",
            data={"name": name, "groups": list(audience.group_names)},
        )
