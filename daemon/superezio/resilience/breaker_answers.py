"""What a circuit breaker answers: permits, rejections, and the steps between its states."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, TypeAlias

from msgspec import Struct

from superezio.resilience.call_window import Counts

BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled"]
Outcome = Literal["success", "failure", "ignore"]
#: settled: it was out, and is used up. stale: so it was, but of an earlier generation, and changes
#: nothing. unknown: it is not out; it was settled, dropped or too old, or never handed out.
Effect = Literal["settled", "stale", "unknown"]
TransitionReason = Literal[
    "failure_rate",  # as many calls failed as the threshold says
    "slow_call_rate",  # as many were slow
    "retry_after",  # the service said when to come back
    "half_open_wait",  # half-open, it was not decided in time
    "open_over",  # the time of OPEN is over, and a call asked
    "recovered",  # the calls of HALF_OPEN went well
    "restored",  # a restart, which HALF_OPEN does not survive
    "forced_open",
    "disabled",
    "reset",
]


#: The call behind something: its correlation id, or what that is made from where it is told of,
#: which is for few calls of many; None where it was no call.
Cause: TypeAlias = str | tuple[str, int] | None


class Transition(Struct, frozen=True, kw_only=True):
    """One step from a state to another, at `at_ns`, and what it was decided by.

    The counts and rates are of the state that ends; those of OPEN are what it opened for.
    `rejected`: how many calls that state turned away. `correlation_id` is that of the call that
    caused it, None where time did. `open_ns`: how long OPEN is to last.
    """

    previous: BreakerState
    state: BreakerState
    reason: TransitionReason
    at_ns: int
    generation: int
    calls: int
    failures: int
    slow_calls: int
    failure_rate: float
    slow_call_rate: float
    rejected: int
    correlation_id: Cause = None
    open_ns: int | None = None


class Permit(Struct, frozen=True):
    """Leave for one call, to be settled once. `transitions` is what the asking brought about."""

    id: int
    generation: int
    started_ns: int
    holder: Hashable = None
    correlation_id: Cause = None
    transitions: tuple[Transition, ...] = ()


class Rejection(Struct, frozen=True, kw_only=True):
    """No leave; it is of no use to ask again before `retry_after_ns`, which is never 0.

    OPEN ends then. HALF_OPEN is decided by then, mostly sooner. FORCED_OPEN has no end that is
    known: it is how often to look. Whoever passes it on to many may add a little to each at
    random, so that they do not come back at once; those who do are turned away, for HALF_OPEN
    lets no more through than its rules say.
    """

    state: BreakerState
    retry_after_ns: int
    transitions: tuple[Transition, ...] = ()


class Settlement(Struct, frozen=True):
    """What a settle did."""

    effect: Effect
    transitions: tuple[Transition, ...] = ()


class Returned(Struct, frozen=True, kw_only=True):
    """The permits that came back without a settle, oldest first."""

    permits: tuple[Permit, ...] = ()
    transitions: tuple[Transition, ...] = ()


class BreakerRecord(Struct, frozen=True, kw_only=True):
    """What outlives a restart. Times are CLOCK_MONOTONIC of the boot `boot_id`."""

    state: BreakerState
    generation: int
    openings: int
    open_wait_ns: int
    open_until_ns: int
    healthy_since_ns: int
    changed_ns: int
    counts: Counts
    boot_id: str
    at_ns: int
