"""How late the event loop runs what is due."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class LoopLag:
    """The worst lateness of the last `window_s` seconds."""

    def __init__(
        self, *, clock: Callable[[], int] = time.monotonic_ns, window_s: float = 60.0
    ) -> None:
        self._clock = clock
        self._window_ns = round(window_s * 1e9)
        self._late: deque[tuple[int, int]] = deque()

    def observe(self, late_ns: int) -> None:
        """Note that something ran `late_ns` after it was due."""
        now_ns = self._clock()
        # Falling from left to right: what is older and no worse will never be the worst again.
        while self._late and self._late[-1][1] <= late_ns:
            self._late.pop()
        self._late.append((now_ns, late_ns))
        self._forget(now_ns)

    def worst_s(self) -> float:
        """Return the worst lateness in the window, in seconds."""
        self._forget(self._clock())
        return max(0.0, self._late[0][1] / 1e9) if self._late else 0.0

    def _forget(self, now_ns: int) -> None:
        while self._late and now_ns - self._late[0][0] > self._window_ns:
            self._late.popleft()
