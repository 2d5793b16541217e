"""What clients leave unread: bounded by user and in all, over however many connections.

A client that leaves answers is not listened to any more, which the connection sees to. That bounds
nothing that is sent to it without a further request: what it waited for, and events. So where a
user has more unread than it may, the connection that holds most of it is closed, and where all
together have, the one that holds most of the user who does. Nobody else loses anything, and whoever
reads is not even counted: a connection is known here from when a write has not gone through until
it takes data again.

What clients have sent and is not done is bounded in the same way, as something else that is `left`
(see `unfinished.py`).
"""

from __future__ import annotations

from typing import Final, Protocol

#: Closing goes on until so much of a bound is free again: to look at all that is unread takes long
#: where it is on thousands of connections, and it is not done anew before that is filled.
_FREED: Final = 16


class Reader(Protocol):
    """A connection whose client does not read, for now."""

    @property
    def unread_bytes(self) -> int:
        """What it has still to read, as it stands."""

    def drop(self, why: str) -> None:
        """Close at once, unsent answers lost, and have it told."""


class Unread:
    """Loop-owned. The bounds may be changed at any time; they hold from the next note on."""

    def __init__(
        self, *, max_per_uid_bytes: int, max_bytes: int, left: str = "left too many answers unread"
    ) -> None:
        self._left = left
        self._max_per_uid_bytes = max_per_uid_bytes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_uid: dict[int, _OfUser] = {}

    @property
    def noted_bytes(self) -> int:
        """What all have unread, as it was noted: some may have been read since."""
        return self._bytes

    def set_bounds(self, *, max_per_uid_bytes: int, max_bytes: int) -> None:
        """Go by other bounds from now on."""
        self._max_per_uid_bytes = max_per_uid_bytes
        self._max_bytes = max_bytes

    def note(self, reader: Reader, uid: int, unread_bytes: int) -> None:
        """Take down what a connection has unread; where that is too much, close who has most."""
        of_user = self._by_uid.get(uid)
        if of_user is None:
            of_user = self._by_uid[uid] = _OfUser()
        self._bytes += of_user.note(reader, unread_bytes)
        if of_user.bytes > self._max_per_uid_bytes:
            self._look_at_user(uid, of_user)
        if self._bytes > self._max_bytes:
            self._look_at_all()

    def forget(self, reader: Reader, uid: int) -> None:
        """Count a connection no more: it takes data again, or is gone."""
        of_user = self._by_uid.get(uid)
        if of_user is None:
            return
        self._bytes -= of_user.forget(reader)
        if not of_user.readers:
            del self._by_uid[uid]

    def _look_at_user(self, uid: int, of_user: _OfUser) -> None:
        self._bytes += of_user.look()
        if of_user.bytes <= self._max_per_uid_bytes:
            return
        why = f"uid {uid} {self._left} over all its connections"
        room = self._max_per_uid_bytes - self._max_per_uid_bytes // _FREED
        for reader in of_user.by_size():
            if of_user.bytes <= room:
                break
            self._close(reader, uid, why)

    def _look_at_all(self) -> None:
        for of_user in self._by_uid.values():
            self._bytes += of_user.look()
        if self._bytes <= self._max_bytes:
            return
        why = f"all clients together {self._left}, and most of it is uid {{}}'s"
        room = self._max_bytes - self._max_bytes // _FREED
        largest = {uid: iter(of_user.by_size()) for uid, of_user in self._by_uid.items()}
        while self._bytes > room:
            uid = max(self._by_uid, key=lambda each: self._by_uid[each].bytes)
            self._close(next(largest[uid]), uid, why.format(uid))

    def _close(self, reader: Reader, uid: int, why: str) -> None:
        self.forget(reader, uid)
        reader.drop(why)


class _OfUser:
    """What one user has unread, by its connections."""

    __slots__ = ("bytes", "readers")

    def __init__(self) -> None:
        self.bytes = 0
        self.readers: dict[Reader, int] = {}

    def note(self, reader: Reader, unread_bytes: int) -> int:
        """Return by how much it is more than it was."""
        more = unread_bytes - self.readers.get(reader, 0)
        self.readers[reader] = unread_bytes
        self.bytes += more
        return more

    def forget(self, reader: Reader) -> int:
        """Return how much it was."""
        unread_bytes = self.readers.pop(reader, 0)
        self.bytes -= unread_bytes
        return unread_bytes

    def look(self) -> int:
        """Count what has been read since; return by how much it is more, which is 0 or less."""
        before = self.bytes
        self.readers = {reader: reader.unread_bytes for reader in self.readers}
        self.bytes = sum(self.readers.values())
        return self.bytes - before

    def by_size(self) -> list[Reader]:
        """Return the connections, the one with most unread first."""
        return sorted(self.readers, key=self.readers.__getitem__, reverse=True)
