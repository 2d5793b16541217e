"""Getting log lines out without ever making the caller wait for a reader.

A line goes out at once where the sink can take it without blocking. Otherwise it joins a bounded
queue that a thread empties, in order; a reader that is away for now, as a journal that is being
restarted, is tried again until it takes the line. A full queue drops the new line and counts it,
and the count is told as soon as lines flow again. What matters more may fill the queue further, so
that no flood of what matters less leaves no room for it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from queue import SimpleQueue
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)

#: How much a line matters: each rank may fill half a capacity more of the queue than the last one.
ORDINARY: Final = 0
IMPORTANT: Final = 1
CRITICAL: Final = 2

_SECOND: Final = 1_000_000_000
#: The pauses between tries to reach a reader that is away.
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class Sink(Protocol[P_contra]):
    """Where lines go."""

    def try_send(self, payload: P_contra) -> bool:
        """Send without blocking. False: not sent, the thread has to."""

    def send(self, payload: P_contra) -> None:
        """Send, however long it takes. Raises OSError if it cannot be sent now, or at all."""

    def is_away(self, error: OSError) -> bool:
        """Whether the reader may take what `send` failed with later."""

    def save(self, payloads: Iterable[P_contra]) -> int:
        """Leave what the reader did not take by the end elsewhere, if there is such a place.

        Never blocks, never raises; returns how many are left there.
        """

    def close(self) -> None:
        """Let go of the sink."""


class StreamSink:
    """A file descriptor whose reader may stall: a terminal, a pipe, a file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def try_send(self, payload: bytes) -> bool:
        """Return False: a terminal or a pipe cannot be asked whether it would block.

        Making it non-blocking would do so for every process that shares it.
        """
        del payload
        return False

    def send(self, payload: bytes) -> None:
        """Write all of it. Raises OSError."""
        view = memoryview(payload)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Somebody else who holds this descriptor made it non-blocking.
                select.select([], [self._fd], [])

    def is_away(self, error: OSError) -> bool:
        """Return False: part of the line may be out, and whoever has gone stays away."""
        del error
        return False

    def save(self, payloads: Iterable[bytes]) -> int:
        """Return 0: there is no other place."""
        del payloads
        return 0

    def close(self) -> None:
        """Leave the descriptor open: it is not ours."""


class _Line(NamedTuple, Generic[P]):
    payload: P
    rank: int
    put_ns: int


class LogWriter(Generic[P]):
    """Owns the sink, the queue and the thread. `put` may be called from any thread.

    `notice(dropped)` makes the line that tells how many lines were dropped.
    """

    def __init__(
        self,
        sink: Sink[P],
        *,
        notice: Callable[[int], P],
        capacity: int = 10_000,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._sink = sink
        self._notice = notice
        self._capacity = capacity
        self._clock = clock
        #: The one that is being sent is the first, until it is out.
        self._lines: deque[_Line[P]] = deque()
        # Reentrant by design: a destructor that logs may run in the middle of a put.
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._closing = threading.Event()
        self._drops = count(1)
        self._told = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._drain, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, payload: P, rank: int = ORDINARY) -> None:
        """Send the line now, or later, or count it as dropped. Never blocks, never raises."""
        if not self._lines and self._sink.try_send(payload):
            return
        if len(self._lines) >= self._capacity + rank * self._capacity // 2:
            self._count_drop()
            return
        self._lines.append(_Line(payload, rank, self._clock()))
        self._wake.put(True)  # noqa: FBT003 - positional-only

    def waiting(self) -> tuple[int, float]:
        """Return how many lines wait, and for how many seconds the first of them has."""
        try:
            return len(self._lines), (self._clock() - self._lines[0].put_ns) / _SECOND
        except IndexError:
            return 0, 0.0

    def close(self, *, timeout_s: float = 2.0) -> bool:
        """Send what is queued, for so long at most. False: the reader did not take it all.

        What matters is left where the sink can save it then.
        """
        self._closing.set()
        self._wake.put(False)  # noqa: FBT003 - positional-only
        self._thread.join(timeout_s)
        left = [line.payload for line in self._lines if line.rank > ORDINARY]
        if left:
            self._sink.save(left)
        if self._thread.is_alive():
            return False
        self._sink.close()
        return not self._lines

    def _drain(self) -> None:
        more = True
        while more:
            more = self._wake.get()
            while self._lines:
                if not self._send(self._lines[0].payload):
                    return
                self._lines.popleft()
                self._tell_drops()

    def _send(self, payload: P) -> bool:
        """Send one, however long its reader is away. False: it still is, and all is closing."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._sink.send(payload)
            except OSError as error:
                if not self._sink.is_away(error):
                    # There is nowhere left to say so but in the count.
                    self._count_drop()
                    return True
                if self._closing.wait(pause_s):
                    return False
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                return True

    def _tell_drops(self) -> None:
        dropped = self.dropped
        # Only when the backlog is gone: while it is full, each notice would cost a line.
        if dropped == self._told or self._lines:
            return
        try:
            self._sink.send(self._notice(dropped - self._told))
        except OSError:
            return
        self._told = dropped

    def _count_drop(self) -> None:
        self.dropped = next(self._drops)
