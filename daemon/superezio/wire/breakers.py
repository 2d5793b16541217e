"""Circuit breakers: leave to call a service, how the call ended, and what is known of the service.

A breaker is named. The name is private to the caller's uid, unless the configuration shares it.
"""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result

BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled"]
#: How a call ended. ignore: it says nothing of the service (cancelled, turned away by a limit).
#: throttled: the service said that it has had enough for now (HTTP 429), which is no failure.
CallOutcome = Literal["success", "failure", "ignore", "throttled"]

#: Why a breaker opened. retry_after: the service said that it has had enough (HTTP 429).
#: half_open_wait: half-open, too few calls came back in time to decide.
BreakerOpenedFor = Literal[
    "failure_rate", "slow_call_rate", "retry_after", "half_open_wait", "forced_open"
]


class BreakerRules(Params):
    """When a breaker opens, for how long, and what it takes to close again.

    What is not given is as the configuration says. `window_calls`: the last so many calls count;
    `window_s`: those of the last so many seconds, instead. Rates are from 0 to 1.
    """

    window_calls: int | None = None
    window_s: int | None = None
    minimum_calls: int | None = None
    failure_rate: float | None = None
    slow_call_rate: float | None = None
    slow_call_s: float | None = None
    open_s: float | None = None
    open_limit_s: float | None = None
    half_open_calls: int | None = None
    half_open_wait_s: float | None = None
    healthy_interval_s: float | None = None
    permit_s: float | None = None
    block_limit_s: float | None = None


class BreakerAcquireParams(Params):
    """Ask for leave to call. `rules` are for a breaker of one's own; a shared one has its own."""

    name: str
    rules: BreakerRules | None = None


class BreakerPermit(Result):
    """Leave for one call, to be settled once, over this connection, within `expires_in_ms`.

    It returns by itself, as ignored, when the connection ends or its time is over.
    """

    name: str
    permit: int
    state: BreakerState
    shared: bool
    expires_in_ms: int


class BreakerSettleParams(Params):
    """Tell how the call of a permit ended. `retry_after_ms` goes with throttled."""

    name: str
    permit: int
    outcome: CallOutcome
    retry_after_ms: int | None = None


class BreakerSettlement(Result):
    """What a settle did.

    settled: it counts. stale: the breaker has changed since, and it does not. unknown: the permit
    is not out; it was settled before, was dropped or is too old.
    """

    effect: Literal["settled", "stale", "unknown"]
    state: BreakerState


class BreakerParams(Params):
    """A breaker by name. `uid`: that of another user, for admins."""

    name: str
    uid: int | None = None


class BreakerReports(Result):
    """How many failures, slow calls and 429s of a service a user has reported."""

    uid: int
    reports: int


class Breaker(Result):
    """A breaker as it is. `uid` is its owner's, null where it is shared.

    The counts are of the window; in open, of what it opened for. `retry_after_ms`: when a call may
    be let through, null where it is now. `rejected`: calls that this state has turned away.
    `opened_by`: the user whose call or order opened it last, null where it closed since.
    `reported_by`: of a shared one, whose reports the last 100 were that spoke against the service
    since it closed last, up to eight users, who reported most first. `opened_for`: why it opened
    last, null where it closed since. `called`: whether any call has asked for it; false of one that
    was forced open or disabled before.
    """

    name: str
    uid: int | None
    shared: bool
    state: BreakerState
    state_s: float
    retry_after_ms: int | None
    calls: int
    failures: int
    slow_calls: int
    failure_rate: float
    slow_call_rate: float
    permits: int
    rejected: int
    generation: int
    rules: BreakerRules
    opened_by: int | None = None
    reported_by: list[BreakerReports] = []
    opened_for: BreakerOpenedFor | None = None
    called: bool = True


class BreakerList(Result):
    breakers: list[Breaker]
