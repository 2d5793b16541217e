"""Who may do what: roles from the peer's credentials, and refusals that say what would help.

The socket is open to all; each method names the least role it takes (see `methods.py`).
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec import Struct

from superezio.errors import PermissionDeniedError
from superezio.wire import Role
from supereziod.rpc.peers import Peer

#: What a caller sees of others in the answers of a method. Admins see everything.
#: `public`: nothing in it is personal. `masked`: others' entries are there, their personal members
#: null. `own`: only what belongs to the caller's uid.
Visibility = Literal["public", "masked", "own"]

#: Each role may do what those before it may.
ROLES: Final[tuple[Role, ...]] = ("observer", "user", "admin")
RANK: Final[dict[Role, int]] = {role: rank for rank, role in enumerate(ROLES)}


class AccessPolicy(Struct, frozen=True, kw_only=True):
    """Which peers have which role; ids only, so that asking it never waits for a name service.

    `own_uid` is the daemon's: whoever runs the daemon in a terminal administers it. The groups
    by name are those to join; None where the configuration has none for that role.
    """

    own_uid: int
    user_gids: frozenset[int] = frozenset()
    admin_gids: frozenset[int] = frozenset()
    user_uids: frozenset[int] = frozenset()
    admin_uids: frozenset[int] = frozenset()
    user_group: str | None = "superezio"
    admin_group: str | None = "superezio-admin"
    max_priority_user: int = 100
    max_priority_admin: int = 1000

    def role_of(self, peer: Peer) -> Role:
        """Return the role of a peer."""
        if peer.uid in (0, self.own_uid) or peer.uid in self.admin_uids:
            return "admin"
        if not self.admin_gids.isdisjoint(peer.groups):
            return "admin"
        if peer.uid in self.user_uids or not self.user_gids.isdisjoint(peer.groups):
            return "user"
        return "observer"

    def max_priority(self, role: Role) -> int:
        """Return the highest priority that a role may ask for."""
        if role == "admin":
            return self.max_priority_admin
        return self.max_priority_user if role == "user" else 0

    def refusal(self, method: str, *, role: Role, needs: Role) -> PermissionDeniedError:
        """Return the error for a caller whose role does not reach, and how to get there."""
        group = self.admin_group if needs == "admin" else self.user_group
        way = _join(group) if group is not None else _ask(needs)
        return PermissionDeniedError(
            f"cannot call {method} as {role}: it needs the role {needs}. {way}",
            data={"role": role, "needs": needs, "group": group},
        )

    def with_the_way(self, refusal: PermissionDeniedError) -> PermissionDeniedError:
        """Return a method's own refusal with what would help, where that is to be an admin.

        Whoever raises it knows that (`needs` in its data), and nothing of groups.
        """
        if refusal.data.get("needs") != "admin" or "group" in refusal.data:
            return refusal
        group = self.admin_group
        way = _join(group, "join") if group is not None else _ask("admin", "no")
        return PermissionDeniedError(
            f"{refusal.message.removesuffix('.')}. Admins may: {way}",
            data={**refusal.data, "group": group},
        )


def _join(group: str, join: str = "Join") -> str:
    return f'{join} the group {group} (sudo usermod -aG {group} "$USER"), then log in again.'


def _ask(needs: Role, no: str = "No") -> str:
    keys = f"access.{needs}s or access.{needs}_groups"
    return f"{no} group has it here: ask for your name in {keys} of the configuration."


class ResolvedAccess(Struct, frozen=True, kw_only=True):
    """A policy, and the names of users and groups that this host does not know."""

    policy: AccessPolicy
    unknown: list[str]


def resolve_access(
    *,
    user_groups: Iterable[str] = ("superezio",),
    admin_groups: Iterable[str] = ("superezio-admin",),
    users: Iterable[str] = (),
    admins: Iterable[str] = (),
    max_priority_user: int = 100,
    max_priority_admin: int = 1000,
    own_uid: int | None = None,
) -> ResolvedAccess:
    """Turn names (or ids written as numbers) into a policy.

    Asks the name service, which may block: at start and in a thread at a reload, never per request.
    """
    unknown: list[str] = []
    user_groups, admin_groups = list(user_groups), list(admin_groups)
    policy = AccessPolicy(
        own_uid=os.geteuid() if own_uid is None else own_uid,
        user_gids=_ids(user_groups, _gid, unknown),
        admin_gids=_ids(admin_groups, _gid, unknown),
        user_uids=_ids(users, _uid, unknown),
        admin_uids=_ids(admins, _uid, unknown),
        user_group=next(iter(user_groups), None),
        admin_group=next(iter(admin_groups), None),
        max_priority_user=max_priority_user,
        max_priority_admin=max_priority_admin,
    )
    return ResolvedAccess(policy=policy, unknown=unknown)


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _ids(names: Iterable[str], look_up: Callable[[str], int], unknown: list[str]) -> frozenset[int]:
    found = set()
    for name in names:
        try:
            found.add(int(name) if name.isdecimal() else look_up(name))
        except (KeyError, ValueError):  # ValueError: no name at all, as one with a null character
            unknown.append(name)
    return frozenset(found)
