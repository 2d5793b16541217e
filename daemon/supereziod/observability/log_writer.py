"""Getting log lines out without ever making the caller wait for a reader.

A line goes out at once where the sink can take it without blocking. Otherwise it joins a bounded
queue that a thread empties. A full queue drops the new line and counts it, and the count is told
as soon as lines flow again.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)


class Sink(Protocol[P_contra]):
    """Where lines go."""

    def try_send(self, payload: P_contra) -> bool:
        """Send without blocking. False: not sent, the thread has to."""

    def send(self, payload: P_contra) -> None:
        """Send, however long it takes. Raises OSError if it cannot be sent at all."""

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

    def close(self) -> None:
        """Leave the descriptor open: it is not ours."""


class LogWriter(Generic[P]):
    """Owns the sink, the queue and the thread. `put` may be called from any thread.

    `notice(dropped)` makes the line that tells how many lines were dropped.
    """

    def __init__(
        self, sink: Sink[P], *, notice: Callable[[int], P], capacity: int = 10_000
    ) -> None:
        self._sink = sink
        self._notice = notice
        self._capacity = capacity
        # Reentrant by design: a destructor that logs may run in the middle of a put.
        self._queue: SimpleQueue[P | None] = SimpleQueue()
        self._draining = False
        self._drops = count(1)
        self._told = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._drain, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, payload: P) -> None:
        """Send the line now, or later, or count it as dropped. Never blocks, never raises."""
        if not self._draining and self._queue.empty() and self._sink.try_send(payload):
            return
        if self._queue.qsize() >= self._capacity:
            self._count_drop()
            return
        self._queue.put(payload)

    def close(self, *, timeout_s: float = 2.0) -> bool:
        """Send what is queued, for so long at most. False: the reader did not take it all."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._sink.close()
        return True

    def _drain(self) -> None:
        while (payload := self._queue.get()) is not None:
            self._draining = True
            self._send(payload)
            self._tell_drops()
            self._draining = not self._queue.empty()

    def _send(self, payload: P) -> None:
        try:
            self._sink.send(payload)
        except OSError:
            # There is nowhere left to say so but in the count.
            self._count_drop()

    def _tell_drops(self) -> None:
        dropped = self.dropped
        # Only when the backlog is gone: while it is full, each notice would cost a line.
        if dropped == self._told or not self._queue.empty():
            return
        try:
            self._sink.send(self._notice(dropped - self._told))
        except OSError:
            return
        self._told = dropped

    def _count_drop(self) -> None:
        self.dropped = next(self._drops)
