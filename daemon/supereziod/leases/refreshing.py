"""When the GPUs are read for the leases: for those who wait, after releases, while use changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from contextlib import suppress
from typing import Final

from supereziod.deadlines import Deadlines
from supereziod.leases.ledger import Ledger
from supereziod.leases.readings import Monitor, Readings

_REFRESH: Final = "refresh"
_CALM: Final = "calm"


class Refresher:
    """Has the GPUs read when that may let somebody in, and often while leases change.

    `refresh_s`: how often for those in the `room`. `calm_s`: how long after the last change of a
    lease processes are read more often. `on_read` is called after each reading it had made.
    """

    def __init__(
        self,
        *,
        readings: Readings,
        monitor: Monitor,
        ledger: Ledger,
        room: Sized,
        on_read: Callable[[], None],
        refresh_s: float,
        calm_s: float,
        clock: Callable[[], int],
    ) -> None:
        self._readings = readings
        self._monitor = monitor
        self._ledger = ledger
        self._room = room
        self._on_read = on_read
        self._refresh_ns = round(refresh_s * 1e9)
        self._calm_after_ns = round(calm_s * 1e9)
        self._clock = clock
        self._deadlines: Deadlines[str] = Deadlines(clock=clock, on_due=self._due)
        self._busy: bool | None = None
        self._wanted = asyncio.Event()
        self._is_set = False
        self._calm_ns = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read when it is wanted."""
        self._task = asyncio.create_task(self._keep_fresh(), name="lease-refresh")

    async def aclose(self) -> None:
        """Stop."""
        self._deadlines.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def want(self) -> None:
        """Have the GPUs read now."""
        self._wanted.set()
        self.tell_busy()

    def vram_given_up(self) -> None:
        """Have the GPUs read for what a lease gave up: at once, if somebody waits for it."""
        self._readings.note_release()
        self.leases_changed()
        if len(self._room):
            self.want()
        else:
            self._read_soon()
        self.tell_busy()

    def leases_changed(self) -> None:
        """Have processes read more often for a while: whoever has a lease is about to use it."""
        was_calm = self._calm_ns == 0
        self._calm_ns = self._clock() + self._calm_after_ns
        if was_calm:
            self._deadlines.set(_CALM, self._calm_ns)
            self.tell_busy()

    def tell_busy(self) -> None:
        """Tell the monitor, if that has changed, whether processes are to be read often."""
        busy = self._calm_ns > 0 or len(self._room) > 0 or self._ledger.awaits_pass
        if busy != self._busy:
            self._busy = busy
            self._monitor.set_busy(busy)

    def run_due(self) -> None:
        """Do what is due by the clock."""
        self._deadlines.run_due()

    async def _keep_fresh(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._readings.refresh()
            self._on_read()
            if len(self._room) or self._ledger.awaits_pass:
                self._read_soon()

    def _read_soon(self) -> None:
        """Have the GPUs read in a moment: one reading serves all that was given up till then."""
        if not self._is_set:
            self._is_set = True
            self._deadlines.set(_REFRESH, self._clock() + self._refresh_ns)

    def _due(self, key: str) -> None:
        if key == _REFRESH:
            self._is_set = False
            self._wanted.set()
        else:
            self._calm_down()

    def _calm_down(self) -> None:
        if self._clock() < self._calm_ns:
            self._deadlines.set(_CALM, self._calm_ns)
            return
        self._calm_ns = 0
        self.tell_busy()
