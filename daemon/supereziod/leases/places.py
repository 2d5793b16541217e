"""Where each waiter stands and why it waits: told to its owner when that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from msgspec import Struct

from superezio.wire import Placement
from supereziod.deadlines import Deadlines
from supereziod.leases.queue import Waiting
from supereziod.observability.correlation import Scope, in_scope
from supereziod.observability.events import EventLog

#: A queue that moves fast is told of as it stands each second, not at each step.
_PERIOD_NS: Final = 1_000_000_000
_DUE: Final = "due"

#: How near a GPU with this code is to admitting a lease; what is not here comes between. `fits`
#: is no reason to wait: the lease needs several GPUs, and the others are the reason.
_NEAR: Final = (
    "returning", "growing", "queued", "insufficient_vram", "not_empty", "foreign_use",
    "exclusive_taken", "compute_exclusive_taken",
)  # fmt: skip
_BETWEEN: Final = len(_NEAR)
_FAR: Final = (
    "fits", "settling", "capability_unknown", "compute_mode_unknown", "display_unknown",
    "capability_too_low", "compute_mode_differs", "drives_display", "compute_prohibited",
    "mig_enabled", "mig_shared", "mig_single", "no_permission", "too_small", "elsewhere", "avoided",
    "beyond_quota",
)  # fmt: skip
_RANKS: Final = {code: rank for rank, code in enumerate((*_NEAR, "", *_FAR))}


def reason_code(placement: Placement) -> str:
    """Return the code of the GPU that is nearest to admitting the lease; `` without GPUs.

    Where a quota stands against it, that is the reason.
    """
    if placement.quota is not None:
        return "quota_exceeded"
    codes = (reason.code for reason in placement.gpus)
    return min(codes, key=lambda code: _RANKS.get(code, _BETWEEN), default="")


class Place(Struct, frozen=True, kw_only=True):
    """Where a waiter stands: `position` (1 is next) of `queue_length`, and why it waits."""

    position: int
    queue_length: int
    code: str
    reason: str

    def is_news(self, told: Place | None) -> bool:
        """Tell whether it is news after `told`: that a GPU was not read for a moment is none."""
        if told is None or self.position != told.position:
            return True
        return self.code not in (told.code, "settling")


class Listening(Protocol):
    """One that waits, and what it was told last."""

    waiting: Waiting
    scope: Scope | None
    told: Place | None


class PlaceNews:
    """Tells those of `places()` that are news, each second at most."""

    def __init__(
        self,
        *,
        places: Callable[[], Iterable[tuple[Listening, Place]]],
        events: EventLog,
        clock: Callable[[], int],
    ) -> None:
        self._places = places
        self._events = events
        self._clock = clock
        self._next_ns = 0
        self._deadlines: Deadlines[str] = Deadlines(clock=clock, on_due=self._tell)

    def changed(self) -> None:
        """Have it told what may have changed, once this step of the event loop is over."""
        if self._deadlines.get(_DUE) is None:
            self._deadlines.set(_DUE, max(self._clock(), self._next_ns))

    def run_due(self) -> None:
        """Tell what is due."""
        self._deadlines.run_due()

    def close(self) -> None:
        """Tell nothing more."""
        self._deadlines.close()

    def _tell(self, _: str) -> None:
        self._next_ns = self._clock() + _PERIOD_NS
        for listening, place in self._places():
            if not place.is_news(listening.told):
                continue
            listening.told = place
            waiting = listening.waiting
            with in_scope(listening.scope):
                self._events.emit(
                    "lease.position",
                    f"an acquire waits at place {place.position} of {place.queue_length}:"
                    f" {place.reason}",
                    uid=waiting.uid,
                    passing=True,
                    waiter=waiting.id,
                    name=waiting.name,
                    position=place.position,
                    queue_length=place.queue_length,
                    code=place.code,
                    reason=place.reason,
                )
