"""Rate limits: room for a request, what it used, and what is left.

A limit is named. The name is private to the caller's uid, and the caller says its rates, unless
the configuration shares it: then it has budgets of several scopes, all of which have to have room.
Money is in millionths of the configured currency.
"""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result

LimitDimension = Literal["requests", "tokens", "money", "concurrency"]
LimitScope = Literal["host", "group", "user", "session", "key"]


class LimitRate(Params):
    """`limit` units in each `period_ms`; up to `burst` at once (as many as `limit`, if null)."""

    limit: int
    period_ms: int = 1000
    burst: int | None = None


class LimitRates(Params):
    """What is limited, and to what. A dimension that is null is not. `concurrency` is slots."""

    requests: LimitRate | None = None
    tokens: LimitRate | None = None
    money_micros: LimitRate | None = None
    concurrency: int | None = None


class LimitAcquireParams(Params):
    """Reserve room for one request. What it takes of each dimension; more is settled later.

    `concurrency` is the slots that it keeps until it is settled or the connection ends: where null,
    one of a limit that has slots in any scope, and none of another. 0 takes none.
    `wait_ms` 0 answers at once; more waits so long for room, in the order of arrival. `key` is
    whose request it is, where the limit has a scope of keys (a customer, a model). `rates` are for
    a limit of one's own, which has none before; a shared one has its own. Whatever takes slots,
    or is to be settled, is to be settled over this connection. `if_exists`: where there is no limit
    of that name, and no rates make one, nothing is limited, which is no error then.
    """

    name: str
    requests: int = 1
    tokens: int = 0
    money_micros: int = 0
    concurrency: int | None = None
    key: str | None = None
    wait_ms: int = 0
    rates: LimitRates | None = None
    if_exists: bool = False


class LimitReservation(Result):
    """Room for one request. It is settled as reserved when the connection ends.

    `absent`: there is no such limit, and `if_exists` was said. Nothing is reserved then, and there
    is nothing to settle.
    """

    name: str
    reservation: int
    shared: bool
    waited_ms: int
    absent: bool = False


class LimitRemaining(Params):
    """What the far side said is left (x-ratelimit-remaining-*), and until when (reset).

    It only ever lowers what is left here.
    """

    requests: int | None = None
    requests_reset_ms: int | None = None
    tokens: int | None = None
    tokens_reset_ms: int | None = None


class LimitSettleParams(Params):
    """Say what was used. What is null was used as reserved.

    `retry_after_ms`: the far side wants no request for so long (HTTP 429). It is capped, and never
    ends a block sooner.
    """

    reservation: int
    requests: int | None = None
    tokens: int | None = None
    money_micros: int | None = None
    retry_after_ms: int | None = None
    remaining: LimitRemaining | None = None


class LimitOvershoot(Result):
    """What was used beyond the reservation and does not count in some budget shared with others."""

    requests: int = 0
    tokens: int = 0
    money_micros: int = 0


class LimitSettlement(Result):
    """`settled` is false where the reservation is not open any more.

    `not_counted`: one user's word counts up to a share in what it shares with others (the host, a
    group, a key); in its own budgets it counts in full.
    """

    settled: bool
    not_counted: LimitOvershoot | None = None


class LimitParams(Params):
    """A limit by name. `key` as for limit.acquire; `uid`: that of another user, for admins.

    Of a shared one, `uid` is for what that user has apart: its own budget, its keys and sessions.
    `skip`: of so many scopes nothing is to be told; see `LimitState.left_out`.
    """

    name: str
    key: str | None = None
    uid: int | None = None
    skip: int = 0


class LimitResetParams(Params):
    """A limit by name, and of which key and user, as for limit.peek.

    `spend`: take it that nothing was spent in this day and month either.
    """

    name: str
    key: str | None = None
    uid: int | None = None
    spend: bool = False


class LimitBudget(Result):
    """What one scope has left of one dimension.

    `available`: what would pass now. `limit` a `period_ms` and `burst`: null for slots, where
    `burst` is how many there are. `blocked_ms`: for how long the far side wants nothing.
    """

    scope: LimitScope
    scope_name: str
    dimension: LimitDimension
    available: int
    burst: int
    limit: int | None
    period_ms: int | None
    in_use: int | None
    blocked_ms: int | None


class SpendWindow(Result):
    """Money spent in a day or a month of the host's calendar (UTC), of what may be."""

    scope: LimitScope
    scope_name: str
    window: Literal["day", "month"]
    key: str
    spent_micros: int
    cap_micros: int


class LimitState(Result):
    """A limit as it is. `uid` is its owner's, null where it is shared.

    `note` says, for people, what else explains what is left: that it began with nothing when the
    daemon was started, for as long as that matters. `left_out`: there are so many scopes more, of
    which nothing is told; limit.peek tells of them with `skip`.
    """

    name: str
    uid: int | None
    shared: bool
    currency: str
    budgets: list[LimitBudget]
    spend: list[SpendWindow]
    reservations: int
    waiters: int
    note: str | None = None
    left_out: int = 0


class LimitList(Result):
    limits: list[LimitState]
