"""Time that passes as fast as nothing happens: an event loop that jumps to its next timer."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: Every look at the clock costs this much, so that no two things happen at the same time.
_LOOK_NS = 997
_START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """The clocks of a host.

    Called, it is CLOCK_MONOTONIC in nanoseconds, which begins anew with each boot and stands still
    in a suspend. `loop_ns` drives the event loop and never goes back.
    """

    def __init__(self) -> None:
        self.loop_ns = 0
        self._boot_ns = -5_000_000_000
        self._suspended_ns = 0
        self._wall_jumps = timedelta()

    def __call__(self) -> int:
        self.loop_ns += _LOOK_NS
        return self.now_ns

    @property
    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, for an observer whose look takes no time."""
        return self.loop_ns - self._boot_ns

    @property
    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME: it goes on in a suspend."""
        return self.now_ns + self._suspended_ns

    def wall(self) -> datetime:
        """Return what the host takes for the time of day."""
        asleep = timedelta(microseconds=self._suspended_ns // 1000)
        return _START + timedelta(microseconds=self.loop_ns // 1000) + asleep + self._wall_jumps

    def reboot(self) -> None:
        """Begin a boot: it is five seconds old."""
        self._boot_ns = self.loop_ns - 5_000_000_000
        self._suspended_ns = 0

    def suspend(self, seconds: float) -> None:
        """Let the host sleep for a while."""
        self._suspended_ns += round(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        """Set the time of day, forward or back."""
        self._wall_jumps += timedelta(seconds=seconds)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs on a virtual clock. Descriptors that are ready are served before time goes on.

    `on_idle` is called when all has run that could, just before time goes on.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.on_idle: Callable[[], None] = lambda: None
        self._virtual = clock
        super().__init__(_JumpingSelector(clock, self._idle))

    def time(self) -> float:
        return self._virtual.loop_ns / 1e9

    def timers(self) -> int:
        """Return how many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]

    def _idle(self) -> bool:
        self.on_idle()
        return bool(self._ready)  # type: ignore[attr-defined]


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: VirtualClock, on_idle: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._on_idle = on_idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0) or self._on_idle():
            return ready
        if timeout is None:
            raise RuntimeError("nothing is ready, and nothing is due: this would wait for ever")
        self._clock.loop_ns += max(1, math.ceil(timeout * 1e9))
        return ready
