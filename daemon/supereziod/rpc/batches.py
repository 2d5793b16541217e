"""Batches: worked on member by member, in several turns if need be, and answered with one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from supereziod.rpc.decoding import Batch, Call, Refusal

Send = Callable[[bytes], None]


class BatchReply:
    """Collects the answers to the members of a batch; sent when the last one is there.

    A batch of notifications alone is answered with nothing, not with an empty array.
    """

    __slots__ = ("_lines", "_outstanding", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lines: list[bytes] = []
        self._outstanding = 1

    def expect(self) -> None:
        """Wait for one more answer, which `add` brings."""
        self._outstanding += 1

    def add(self, line: bytes | None) -> None:
        """Take an expected answer; None if that member is answered with nothing."""
        if line is not None:
            self._lines.append(line)
        self._outstanding -= 1
        if self._outstanding == 0 and self._lines:
            self._send(b"[" + b",".join(line[:-1] for line in self._lines) + b"]\n")

    def close(self, lines: list[bytes]) -> None:
        """Take the answers that were there at once: no further member will be expected."""
        self._lines.extend(lines)
        self.add(None)


class OpenBatch:
    """A batch that is worked on: what is left of it, and the answers so far."""

    __slots__ = ("_left", "_lines", "reply", "size")

    def __init__(self, batch: Batch, send: Send) -> None:
        self._left = deque(batch.items)
        self._lines: list[bytes] = []
        self.reply = BatchReply(send)
        #: How many bytes of answers there are.
        self.size = 0

    def take(self) -> Call | Refusal:
        """Return the next member, which is not done yet."""
        return self._left.popleft()

    def add(self, line: bytes | None) -> None:
        """Take the answer that a member got at once, if it got one."""
        if line is not None:
            self._lines.append(line)
            self.size += len(line)

    @property
    def is_taken(self) -> bool:
        """Whether all members were taken."""
        return not self._left

    def close_if_done(self) -> bool:
        """Tell whether all members were taken; the answer is on its way then."""
        if self._left:
            return False
        self.reply.close(self._lines)
        return True
