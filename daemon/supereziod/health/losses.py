"""Losses that are over, told for a while and then forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable


class RecentLosses:
    """A sentence while a counter has grown within the last `window_s` seconds, else None."""

    def __init__(
        self,
        count: Callable[[], int],
        *,
        noun: str,
        window_s: float = 300.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._count = count
        self._noun = noun
        self._window_ns = round(window_s * 1e9)
        self._clock = clock
        self._seen = count()
        self._lost = 0
        self._grew_ns = 0

    def __call__(self) -> str | None:
        """Look at the counter."""
        now_ns, count = self._clock(), self._count()
        if count > self._seen:
            self._lost += count - self._seen
            self._seen, self._grew_ns = count, now_ns
        elif now_ns - self._grew_ns > self._window_ns:
            self._lost = 0
        return f"{self._lost} {self._noun} were lost lately" if self._lost else None
