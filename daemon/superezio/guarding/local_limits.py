"""The limits that stand in for the daemon's, in this process."""

from __future__ import annotations

from typing import Final

from superezio import milliseconds, wire
from superezio.errors import InvalidParamsError, NeverPassesError, RateLimitedError
from superezio.guarding.pending import Pending
from superezio.limit_rates import limit_of
from superezio.resilience import limits as pure
from superezio.resilience.budget import Budget
from superezio.resilience.rate_limiter import RateLimiter, Reservation, Waiter

_MS_NS: Final = 1_000_000


class LocalLimits:
    """Limits by name, with the rates that they were last asked with; without any, none."""

    def __init__(self) -> None:
        self._limiter = RateLimiter()
        self._limits: dict[str, pure.Limit] = {}
        self._open: dict[int, tuple[Reservation, pure.Cost]] = {}
        self._waiting: dict[Waiter, tuple[Pending[wire.LimitReservation], str, int]] = {}
        self._last = 0

    def acquire(
        self, params: wire.LimitAcquireParams, now_ns: int
    ) -> wire.LimitReservation | Pending[wire.LimitReservation]:
        """Raises RateLimitedError, NeverPassesError, InvalidParamsError."""
        name = params.name
        if params.rates is not None:
            try:
                self._limits[name] = limit_of(params.rates)
            except ValueError as error:
                raise InvalidParamsError(str(error)) from error
        budgets = self._budgets(name, now_ns)
        slots = params.concurrency
        if slots is None:
            slots = int(any(each.limit.concurrency is not None for each in budgets))
        cost = pure.Cost(params.requests, params.tokens, params.money_micros, slots)
        try:
            answer = self._limiter.acquire(now_ns, budgets, cost, key=name)
            if isinstance(answer, Reservation):
                return self._granted(name, answer, waited_ms=0)
            if not params.wait_ms:
                raise _rejection(name, answer)
            waiter = self._limiter.enqueue(
                now_ns, budgets, cost, key=name, deadline_ns=now_ns + params.wait_ms * _MS_NS
            )
        except pure.NeverPassesError as error:
            raise _never(name, error) from error
        pending: Pending[wire.LimitReservation] = Pending()
        self._waiting[waiter] = (pending, name, now_ns)
        return pending

    def settle(self, params: wire.LimitSettleParams, now_ns: int) -> wire.LimitSettlement:
        reservation, reserved = self._open.pop(params.reservation, (None, None))
        if reservation is None or reserved is None:
            return wire.LimitSettlement(settled=False)
        for budget in reservation.budgets:
            _lower(budget, params, now_ns)
        used = pure.Cost(
            reserved.requests if params.requests is None else params.requests,
            reserved.tokens if params.tokens is None else params.tokens,
            reserved.money_micros if params.money_micros is None else params.money_micros,
            reserved.concurrency,
        )
        return wire.LimitSettlement(settled=self._limiter.settle(now_ns, reservation, used))

    def leave(self, pending: Pending[wire.LimitReservation], now_ns: int) -> None:
        """Let one go that does not wait any more, if it does here."""
        for waiter, (waiting, _, _) in self._waiting.items():
            if waiting is pending:
                del self._waiting[waiter]
                self._limiter.cancel(now_ns, waiter)
                return

    def turn(self, now_ns: int) -> None:
        """Answer those that wait and can be answered now."""
        if not self._waiting:
            return
        due = self._limiter.due(now_ns)
        for waiter, reservation in due.granted:
            pending, name, since_ns = self._waiting.pop(waiter)
            waited_ms = (now_ns - since_ns) // _MS_NS
            pending.resolve(self._granted(name, reservation, waited_ms=waited_ms))
        for waiter in due.late:
            pending, name, _ = self._waiting.pop(waiter)
            pending.fail(_rejection(name, _shortage(waiter, now_ns)))
        for waiter, error in due.hopeless:
            pending, name, _ = self._waiting.pop(waiter)
            pending.fail(_never(name, error))

    def next_ns(self) -> int | None:
        """Return when `turn` has something to do."""
        return self._limiter.next_at_ns

    def _budgets(self, name: str, now_ns: int) -> list[Budget]:
        limit = self._limits.get(name)
        return [] if limit is None else [self._limiter.budget(now_ns, _scope(name), limit)]

    def _granted(
        self, name: str, reservation: Reservation, *, waited_ms: int
    ) -> wire.LimitReservation:
        self._last += 1
        self._open[self._last] = (reservation, reservation.cost)
        return wire.LimitReservation(
            name=name, reservation=self._last, shared=False, waited_ms=waited_ms
        )


def _scope(name: str) -> pure.Scope:
    return pure.Scope("user", name)


def _lower(budget: Budget, params: wire.LimitSettleParams, now_ns: int) -> None:
    """Take in what the service said of its own limits."""
    if params.retry_after_ms is not None:
        budget.block(now_ns, params.retry_after_ms * _MS_NS)
    left = params.remaining
    if left is None:
        return
    for dimension, remaining, reset_ms in (
        (pure.Dimension.REQUESTS, left.requests, left.requests_reset_ms),
        (pure.Dimension.TOKENS, left.tokens, left.tokens_reset_ms),
    ):
        if remaining is not None:
            reset_ns = (reset_ms or 0) * _MS_NS
            budget.lower(now_ns, dimension, remaining=remaining, reset_after_ns=reset_ns)


def _shortage(waiter: Waiter, now_ns: int) -> pure.Rejection:
    """Return what one that waited in vain is short of: of its turn, where of nothing else."""
    (budget,) = waiter.budgets
    short = budget.shortage(now_ns, waiter.cost)
    if short is None:
        short = pure.Rejection(
            dimension=pure.Dimension.REQUESTS, scope=budget.scope, retry_after_ns=_MS_NS
        )
    return short


def _rejection(name: str, short: pure.Rejection) -> RateLimitedError:
    return RateLimitedError(
        f"the limit {name} has no room for these {short.dimension} in this process",
        retry_after_ms=milliseconds.rounded_up(short.retry_after_ns),
        data={
            "name": name,
            "dimension": str(short.dimension),
            "scope": short.scope.kind,
            "scope_name": short.scope.name,
            "blocked": short.blocked,
        },
    )


def _never(name: str, error: pure.NeverPassesError) -> NeverPassesError:
    return NeverPassesError(
        f"cannot pass the limit {name}: {error}",
        data={
            "name": name,
            "dimension": str(error.dimension),
            "scope": error.scope.kind,
            "scope_name": error.scope.name,
            "cost": error.cost,
            "burst": error.burst,
        },
    )
