"""What callers report of their limits goes into the budgets: capped, and told where it blocks."""

from __future__ import annotations

from typing import Final

from superezio.resilience.rate_limiter import Budget
from superezio.wire import LimitOvershoot, LimitSettleParams
from supereziod.observability.events import EventLog
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.limit_reports import lower
from supereziod.resilience.named_limit import NamedLimit

_MS: Final = 1_000_000


class LimitSignals:
    """What the far side says, as callers tell it, and what they themselves say they used."""

    def __init__(self, *, events: EventLog, event_rate: EventRate) -> None:
        self._events = events
        self._event_rate = event_rate

    def heed(
        self,
        named: NamedLimit,
        budgets: tuple[Budget, ...],
        params: LimitSettleParams,
        *,
        now_ns: int,
        number: int,
        by_uid: int,
    ) -> None:
        """Let the widest budgets go by what the far side told: it knows nothing of the others.

        Reservations up to `number` are not given back of what it has counted.
        """
        for budget in budgets:
            if budget.scope.kind != budgets[0].scope.kind:
                break
            was_blocked = budget.blocked_until_ns > now_ns
            if params.retry_after_ms is not None:
                budget.block(now_ns, params.retry_after_ms * _MS)
            if params.remaining is not None:
                lower(budget, params.remaining, now_ns)
                if any(rate.final_ns >= now_ns for rate in budget.rates().values()):
                    named.final_by_scope[budget.scope] = number
            if budget.blocked_until_ns > now_ns and not was_blocked:
                self._tell_block(named, budget, now_ns, by_uid)

    def tell_overshoot(self, named: NamedLimit, uid: int, left_out: LimitOvershoot) -> None:
        """Say that a user used more beyond what it had reserved than counts for all."""
        besides = self._event_rate.take(uid)
        if besides is None:
            return
        self._events.emit(
            "limit.overshot",
            f"uid {uid} used more of the limit {named.owned.name} beyond what it had reserved than"
            " counts in budgets that others share",
            severity="warning",
            uid=uid,
            name=named.owned.name,
            requests=left_out.requests,
            tokens=left_out.tokens,
            money_micros=left_out.money_micros,
            **besides,
        )

    def _tell_block(self, named: NamedLimit, budget: Budget, now_ns: int, by_uid: int) -> None:
        besides = self._event_rate.take(named.owned.owner, by=by_uid)
        if besides is None:
            return
        blocked_s = (budget.blocked_until_ns - now_ns) / 1e9
        self._events.emit(
            "limit.blocked",
            f"the service behind the limit {named.owned.name} wants no requests for"
            f" {blocked_s:.0f} s",
            uid=named.owned.owner,
            name=named.owned.name,
            scope=str(budget.scope),
            blocked_s=round(blocked_s, 3),
            by_uid=by_uid,
            **besides,
        )
