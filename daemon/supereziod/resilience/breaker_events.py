"""What a breaker did, told as events: one for each transition, by the call that caused it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from msgspec import to_builtins

from superezio import wire
from superezio.resilience.breaker_answers import BreakerState, Cause, Transition, TransitionReason
from superezio.wire import Event, Severity
from supereziod.observability.correlation import (
    RequestScope,
    correlation_id,
    in_scope,
    numbered_id,
)
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.sharing import Owned

_SECOND: Final = 1_000_000_000
#: Why, in words.
_REASONS: Final[dict[TransitionReason, str]] = {
    "failure_rate": "too many of its calls failed",
    "slow_call_rate": "too many of its calls were slow",
    "retry_after": "its service asks for a pause",
    "half_open_wait": "the calls that were to decide did not come back in time",
    "open_over": "its time is over, and the next calls decide",
    "recovered": "the calls that were to decide went well",
    "restored": "the daemon restarted while it was half-open",
    "forced_open": "it was ordered to reject all calls",
    "disabled": "it was ordered to let all calls through",
    "reset": "it was reset",
}
_ORDERED: Final = frozenset({"forced_open", "disabled", "reset"})
_WORDS: Final[dict[BreakerState, str]] = {
    "open": "open",
    "half_open": "half-open",
    "closed": "closed",
    "forced_open": "held open",
    "disabled": "disabled",
}


class Emitter(Protocol):
    """The log of events."""

    @property
    def emit(self) -> Callable[..., Event]: ...


class BreakerEvents:
    """Tells of transitions. Private breakers' events are their owner's, and come at its rate."""

    def __init__(self, events: Emitter, *, rate: EventRate) -> None:
        self._rate = rate
        self._emit: Mapping[BreakerState, Callable[..., Event]] = {
            "open": partial(events.emit, "breaker.opened"),
            "half_open": partial(events.emit, "breaker.half_open"),
            "closed": partial(events.emit, "breaker.closed"),
            "forced_open": partial(events.emit, "breaker.forced_open"),
            "disabled": partial(events.emit, "breaker.disabled"),
        }

    def tell(
        self,
        owned: Owned,
        step: Transition,
        *,
        by: int | None,
        reported_by: Sequence[wire.BreakerReports],
    ) -> None:
        """Tell of a transition that has come about.

        `by` is the user who brought it about, None where time did; `reported_by` who has spoken
        against the service of a shared breaker. Of a user's own it is nobody else.
        """
        besides: dict[str, Any] = {}
        if owned.owner is None:
            besides["by_uid"] = by
            if step.state == "open":
                besides["reported_by"] = to_builtins(reported_by)
        cause = _id_of(step.correlation_id)
        if cause == correlation_id():
            self._tell(owned, step, besides)
            return
        # The call that caused it came earlier, or time did: not the request that is worked on.
        with in_scope(None if cause is None else RequestScope(correlation_id=cause)):
            self._tell(owned, step, besides)

    def _tell(self, owned: Owned, step: Transition, who: Mapping[str, Any]) -> None:
        if owned.owner is None and step.reason in _ORDERED:
            besides: Mapping[str, Any] | None = {}  # by an admin, as each is to hear
        else:
            besides = self._rate.take(owned.owner, by=who.get("by_uid"))
        if besides is None:
            return
        severity: Severity = "warning" if step.state in {"open", "forced_open"} else "info"
        data: dict[str, Any] = {
            "name": owned.name,
            "state": step.state,
            "previous": step.previous,
            "reason": step.reason,
            "calls": step.calls,
            "failures": step.failures,
            "slow_calls": step.slow_calls,
            "failure_rate": round(step.failure_rate, 6),
            "slow_call_rate": round(step.slow_call_rate, 6),
            "rejected": step.rejected,
            "open_s": None if step.open_ns is None else step.open_ns / _SECOND,
        }
        self._emit[step.state](
            f"the breaker {owned.name} is {_WORDS[step.state]}: {_REASONS[step.reason]}",
            severity=severity,
            uid=owned.owner,
            **data,
            **who,
            **besides,
        )


def _id_of(cause: Cause) -> str | None:
    """Return the correlation id of a call; most have one that nobody asks for, until here."""
    return numbered_id(*cause) if isinstance(cause, tuple) else cause
