"""What callers report of their requests: what was used, what the far side said, why one waited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from superezio.errors import InvalidParamsError, SuperezioError
from superezio.resilience.rate_limiter import Budget, Cost, Dimension, Rejection, Waiter
from superezio.resilience.rate_limiter import NeverPassesError as NoWaitWouldDo
from superezio.wire import LimitRemaining, LimitSettleParams
from supereziod.resilience.limit_answers import never_passes

_MS: Final = 1_000_000
#: The most of anything that a JSON reader everywhere reads as it was written.
_MOST: Final = 2**53


def is_more(used: Cost, reserved: Cost) -> bool:
    """Whether more was used than was reserved, of anything."""
    return any(is_ > was for is_, was in zip(used, reserved, strict=True))


def used_of(params: LimitSettleParams, reserved: Cost) -> Cost | None:
    """Return what was used, None where it is what was reserved. Raises InvalidParamsError."""
    given = (params.requests, params.tokens, params.money_micros)
    if given == (None, None, None):
        return None
    requests, tokens, micros = (
        was if now is None else now for now, was in zip(given, reserved, strict=False)
    )
    used = Cost(requests, tokens, micros, reserved.concurrency)
    if min(used) < 0 or max(used) > _MOST:
        raise InvalidParamsError(f"what was used has to be from 0 to {_MOST} of anything")
    return used


def refusal_of(name: str, error: ValueError, currency: str) -> SuperezioError:
    """Return what a caller is told of a request that the limiter does not take."""
    if isinstance(error, NoWaitWouldDo):
        return never_passes(name, error, currency)
    return InvalidParamsError(f"cannot reserve that: {error}")


def lower(budget: Budget, remaining: LimitRemaining, now_ns: int) -> None:
    """Leave no more of a budget than the far side says is left."""
    for dimension, left, reset_ms in (
        (Dimension.REQUESTS, remaining.requests, remaining.requests_reset_ms),
        (Dimension.TOKENS, remaining.tokens, remaining.tokens_reset_ms),
    ):
        if left is not None:
            budget.lower(now_ns, dimension, remaining=left, reset_after_ns=(reset_ms or 0) * _MS)


def wait_of(budgets: Sequence[Budget], cost: Cost, now_ns: int) -> str:
    """Return in a few words what one waits for that is to wait now. Raises as `shortage` does."""
    short = _longest_shortage(budgets, cost, now_ns)
    if short is None:
        return "by those before it"
    return "by the service" if short.blocked else f"{short.dimension} of {short.scope}"


def shortage_of(waiter: Waiter, now_ns: int) -> Rejection:
    """Return what keeps one waiting whose time is up."""
    short = _longest_shortage(waiter.budgets, waiter.cost, now_ns)
    if short is not None:
        return short
    # Nothing but those before it, who have not been looked at since.
    return Rejection(
        dimension=Dimension.REQUESTS, scope=waiter.budgets[0].scope, retry_after_ns=_MS
    )


def _longest_shortage(budgets: Sequence[Budget], cost: Cost, now_ns: int) -> Rejection | None:
    short = [
        shortage for budget in budgets if (shortage := budget.shortage(now_ns, cost)) is not None
    ]
    return max(short, key=lambda each: each.retry_after_ns, default=None)
