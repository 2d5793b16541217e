"""The namespaces of the cache by their names: whose each is, and how many a user may have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from superezio import milliseconds
from superezio.errors import BusyError
from supereziod.resilience.sharing import Owned

#: A user whose namespaces are all in use is told so, and they are not looked through again so soon.
_LOOK_AGAIN_NS: Final = 1_000_000_000


def full_name(owned: Owned) -> str:
    """Return the name within the cache: no two users', nor one's own and a shared one, are one.

    A uid is a number and never empty, so that what stands before the first colon says whose it is.
    """
    return f":{owned.name}" if owned.owner is None else f"{owned.owner}:{owned.name}"


def owner_of(full: str) -> str | None:
    """Return who has a namespace together with others: a uid, or None for a shared one."""
    return full.partition(":")[0] or None


class KnownNamespaces:
    """The private namespaces that are in use, so many of each uid at most.

    `is_empty` tells of a full name whether nothing is in it and nobody fetches for it. Such a one
    gives its place to another of its user's when there is none left.
    """

    def __init__(self, *, per_uid: int, is_empty: Callable[[str], bool]) -> None:
        self._per_uid = per_uid
        self._is_empty = is_empty
        self._full_names: dict[int, dict[str, str]] = {}
        self._full_until_ns: dict[int, int] = {}

    def enter(self, owned: Owned, now_ns: int) -> str:
        """Return the full name of a namespace that is to be used.

        Raises BusyError where its user has too many.
        """
        if owned.owner is None:
            return full_name(owned)
        names = self._full_names.get(owned.owner)
        if names is None:
            names = self._full_names[owned.owner] = {}
        full = names.get(owned.name)
        if full is None:
            self._make_room(owned.owner, names, now_ns)
            full = names[owned.name] = full_name(owned)
        return full

    def of(self, uid: int) -> list[Owned]:
        """Return those of a user."""
        return [Owned(uid, name) for name in self._full_names.get(uid, ())]

    def __iter__(self) -> Iterator[Owned]:
        """Yield those of all users."""
        for uid in self._full_names:
            yield from self.of(uid)

    def _make_room(self, uid: int, names: dict[str, str], now_ns: int) -> None:
        if len(names) < self._per_uid:
            return
        until_ns = self._full_until_ns.pop(uid, now_ns)
        if until_ns <= now_ns:
            for name in [each for each, full in names.items() if self._is_empty(full)]:
                del names[name]
            if len(names) < self._per_uid:
                return
            until_ns = now_ns + _LOOK_AGAIN_NS
        self._full_until_ns[uid] = until_ns
        raise BusyError(
            f"uid {uid} has {len(names)} namespaces of the cache in use, which is as many as one"
            " may have: clear one with cache.clear, or use fewer",
            retry_after_ms=milliseconds.rounded_up(until_ns - now_ns),
            data={"limit": "namespaces_per_uid"},
        )
