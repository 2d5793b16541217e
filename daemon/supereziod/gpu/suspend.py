"""Whether the host has slept: CLOCK_MONOTONIC stands still meanwhile, and hides it.

A reading from before looks fresh after a night's sleep, and a dwell goes on where it stopped: what
says how the GPUs are now has to be read again. A TTL, a grace or a deadline in the queue is right
to stand still, as nobody could renew anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from superezio.quantities import format_duration
from supereziod.observability.correlation import in_scope
from supereziod.observability.events import EventLog

#: A shorter sleep makes no reading older than one that is fresh enough in any case.
_LEAST_NS: Final = 500_000_000
_TRIES: Final = 3


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME, which counts the time that the host sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SuspendWatch:
    """Notices a sleep when it is asked, and tells of it with `host.resumed`. Loop-owned."""

    def __init__(
        self,
        *,
        events: EventLog,
        clock: Callable[[], int] = time.monotonic_ns,
        boottime: Callable[[], int] = boottime_ns,
    ) -> None:
        self._events = events
        self._clock = clock
        self._boottime = boottime
        self._resumed_ns = 0
        self._ahead_ns = max(self._ahead() for _ in range(_TRIES))

    def resumed_ns(self) -> int:
        """Return when it was noticed (CLOCK_MONOTONIC) that the host had slept; 0 if it has not.

        What was read before says nothing of now.
        """
        ahead_ns = self._ahead()
        slept_ns = ahead_ns - self._ahead_ns
        if slept_ns >= _LEAST_NS:
            self._ahead_ns = ahead_ns
            self._resumed_ns = self._clock()
            self._tell(slept_ns / 1e9)
        return self._resumed_ns

    def _ahead(self) -> int:
        # In this order a pause between the two makes it less, so that none is taken for a sleep.
        boottime_ns = self._boottime()
        return boottime_ns - self._clock()

    def _tell(self, suspended_s: float) -> None:
        with in_scope(None):  # nobody's request made it sleep
            self._events.emit(
                "host.resumed",
                f"the host slept for {format_duration(suspended_s)}: the GPUs are read again",
                suspended_s=suspended_s,
            )
