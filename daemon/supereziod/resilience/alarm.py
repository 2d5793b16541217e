"""One timer of the event loop, for a part that knows itself what is due next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context


class Alarm:
    """Calls `ring` when the clock has reached the earliest time that it was set to.

    It may ring once too often, for what is not due any more: whoever hears it looks at the clock,
    and sets it anew. So what is set and over before its time, as each fill is, moves no timer, as
    it would in `Deadlines` with one key: a twentieth of the time of a `set`.
    """

    def __init__(self, *, clock: Callable[[], int], ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0

    def set(self, due_ns: int | None) -> None:
        """Ring at `due_ns` at the latest; None changes nothing."""
        if due_ns is None or (self._timer is not None and self._due_ns <= due_ns):
            return
        self.close()
        delay_s = max(0, due_ns - self._clock()) / 1e9
        # What is due works for nobody's request: not for the one that happened to set it.
        self._timer = asyncio.get_running_loop().call_later(
            delay_s, self._on_timer, context=Context()
        )
        self._due_ns = due_ns

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._ring()
