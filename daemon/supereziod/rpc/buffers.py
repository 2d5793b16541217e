"""What is kept for clients in one direction: bounded by user and in all, over all connections.

That is what they leave unread (`unread.py`), or what they have sent and is not done (`intake.py`).
A connection that is full is not listened to any more, which bounds what it keeps for itself; but a
user may have thousands of them, and what is sent with no further request (what was waited for, and
events) asks nobody. So where a user has more than it may, the connection that has most of it is
closed, and where all together have, the one that has most of the user who does. Nobody else loses
anything, and of whom nothing is kept is not even counted.
"""

from __future__ import annotations

from typing import Final, Protocol

#: Closing goes on until so much of a bound is free again: to look at all that is kept takes long
#: where it is on thousands of connections, and it is not done anew before that is filled.
_FREED: Final = 16


class Buffer(Protocol):
    """What one connection keeps, for now."""

    @property
    def kept_bytes(self) -> int:
        """How much that is, as it stands."""

    def drop(self, why: str) -> None:
        """Close the connection at once, what is kept lost, and have it told."""


class Buffers:
    """Loop-owned. The bounds may be changed at any time; they hold from the next note on.

    `left` is what who is closed did, as those are told who look for the reason.
    """

    def __init__(self, *, max_per_uid_bytes: int, max_bytes: int, left: str) -> None:
        self._left = left
        self._max_per_uid_bytes = max_per_uid_bytes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_uid: dict[int, _OfUser] = {}

    @property
    def noted_bytes(self) -> int:
        """What is kept in all, as it was noted: some may have gone since."""
        return self._bytes

    def set_bounds(self, *, max_per_uid_bytes: int, max_bytes: int) -> None:
        """Go by other bounds from now on."""
        self._max_per_uid_bytes = max_per_uid_bytes
        self._max_bytes = max_bytes

    def note(self, buffer: Buffer, uid: int, kept_bytes: int) -> None:
        """Take down what a connection keeps; where that is too much, close who has most."""
        of_user = self._by_uid.get(uid)
        if of_user is None:
            of_user = self._by_uid[uid] = _OfUser()
        self._bytes += of_user.note(buffer, kept_bytes)
        if of_user.bytes > self._max_per_uid_bytes:
            self._look_at_user(uid, of_user)
        if self._bytes > self._max_bytes:
            self._look_at_all()

    def forget(self, buffer: Buffer, uid: int) -> None:
        """Count a connection no more: it keeps nothing, or is gone."""
        of_user = self._by_uid.get(uid)
        if of_user is None:
            return
        self._bytes -= of_user.forget(buffer)
        if not of_user.buffers:
            del self._by_uid[uid]

    def _look_at_user(self, uid: int, of_user: _OfUser) -> None:
        self._bytes += of_user.look()
        if of_user.bytes <= self._max_per_uid_bytes:
            return
        why = f"uid {uid} {self._left} over all its connections"
        room = self._max_per_uid_bytes - self._max_per_uid_bytes // _FREED
        for buffer in of_user.by_size():
            if of_user.bytes <= room:
                break
            self._close(buffer, uid, why)

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

    def _close(self, buffer: Buffer, uid: int, why: str) -> None:
        self.forget(buffer, uid)
        buffer.drop(why)


class _OfUser:
    """What is kept for one user, by its connections."""

    __slots__ = ("buffers", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self.buffers: dict[Buffer, int] = {}

    def note(self, buffer: Buffer, kept_bytes: int) -> int:
        """Return by how much it is more than it was."""
        more = kept_bytes - self.buffers.get(buffer, 0)
        self.buffers[buffer] = kept_bytes
        self.bytes += more
        return more

    def forget(self, buffer: Buffer) -> int:
        """Return how much it was."""
        kept_bytes = self.buffers.pop(buffer, 0)
        self.bytes -= kept_bytes
        return kept_bytes

    def look(self) -> int:
        """Count what has gone since; return by how much it is more, which is 0 or less."""
        before = self.bytes
        self.buffers = {buffer: buffer.kept_bytes for buffer in self.buffers}
        self.bytes = sum(self.buffers.values())
        return self.bytes - before

    def by_size(self) -> list[Buffer]:
        """Return what the connections keep, the largest first."""
        return sorted(self.buffers, key=self.buffers.__getitem__, reverse=True)
