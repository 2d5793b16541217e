"""Refusals of limits as they go over the wire: what is short, for whom, and what helps."""

from __future__ import annotations

from typing import Final

from superezio import milliseconds
from superezio.errors import (
    BusyError,
    NeverPassesError,
    NotFoundError,
    RateLimitedError,
    StateNotWritableError,
)
from superezio.quantities import format_money
from superezio.resilience.limits import never_words, whom
from superezio.resilience.rate_limiter import Dimension, Rejection, Scope
from superezio.resilience.rate_limiter import NeverPassesError as NoWaitWouldDo

_NONE_LEFT: Final = {
    Dimension.REQUESTS: "no requests are left",
    Dimension.TOKENS: "there are too few tokens left",
    Dimension.MONEY: "there is too little money left",
    Dimension.CONCURRENCY: "no slot is free",
}


def limited(name: str, rejection: Rejection, began: str | None = None) -> RateLimitedError:
    """Return the refusal of a request that may pass later.

    `began` is that the limit began with nothing: see `limit_beginnings`.
    """
    retry_after_ms = milliseconds.rounded_up(rejection.retry_after_ns)
    why = (
        "the service that it is for asked to wait"
        if rejection.blocked
        else f"{_NONE_LEFT[rejection.dimension]} for {whom(rejection.scope)}"
    )
    # Slots begin free, and a block is no matter of how a limit began.
    is_felt = not rejection.blocked and rejection.dimension is not Dimension.CONCURRENCY
    besides = f" {began[0].upper()}{began[1:]}" if began and is_felt else ""
    return RateLimitedError(
        f"the limit {name} has no room now: {why}.{besides} Ask again later, or wait for room:"
        ' wait_ms (guard --wait 10s, Python wait="10s").',
        retry_after_ms=retry_after_ms,
        data={
            "name": name,
            "dimension": str(rejection.dimension),
            "scope": rejection.scope.kind,
            "scope_name": rejection.scope.name,
            "blocked": rejection.blocked,
        },
    )


def never_passes(name: str, error: NoWaitWouldDo, currency: str) -> NeverPassesError:
    """Return the refusal of a request for which no wait would do."""
    why = never_words(
        error.dimension, error.scope, cost=error.cost, burst=error.burst, currency=currency
    )
    return NeverPassesError(
        f"the limit {name} never lets this pass: {why}",
        data={
            "name": name,
            "dimension": str(error.dimension),
            "scope": error.scope.kind,
            "scope_name": error.scope.name,
            "cost": error.cost,
            "burst": error.burst,
        },
    )


def over_cap(
    name: str, scope: Scope, kind: str, *, left_ms: int, left_micros: int, currency: str
) -> RateLimitedError:
    """Return the refusal of what would go over a cap on money of a day or a month."""
    left = (
        f"{format_money(left_micros, currency)} left this {kind} for {whom(scope)}: ask for less,"
        f" or when the {kind} is over"
        if left_micros > 0
        else f"no money left this {kind} for {whom(scope)}: nothing passes before the {kind} is"
        f" over, or an admin resets it (superezioctl limit reset {name} --spend)"
    )
    return RateLimitedError(
        f"the limit {name} has {left}",
        retry_after_ms=left_ms,
        data={
            "name": name,
            "dimension": "money",
            "scope": scope.kind,
            "scope_name": scope.name,
            "blocked": False,
            "window": kind,
            "left_micros": max(0, left_micros),
        },
    )


def spent_words(refusal: RateLimitedError, scope: Scope, currency: str) -> str:
    """Return the event of which `refusal` (see `over_cap`) tells one caller."""
    data = refusal.data
    left = format_money(data["left_micros"], currency) if data["left_micros"] else "nothing"
    return (
        f"what the limit {data['name']} may cost this {data['window']} is spent: {left} is left"
        f" for {whom(scope)}"
    )


def over_whole_cap(
    name: str, scope: Scope, *, cost: int, cap: int, currency: str
) -> NeverPassesError:
    """Return the refusal of what is more than a whole window's cap."""
    return NeverPassesError(
        f"the limit {name} never lets this pass: it costs {format_money(cost, currency)}, and"
        f" {whom(scope)} may spend {format_money(cap, currency)} in all",
        data={
            "name": name,
            "dimension": "money",
            "scope": scope.kind,
            "scope_name": scope.name,
            "cost": cost,
            "burst": cap,
        },
    )


def overshot(
    name: str, scope: Scope, kind: str, *, left_ms: int, micros: int, currency: str
) -> RateLimitedError:
    """Return the refusal of a user that has spent too much beyond what it had reserved."""
    return RateLimitedError(
        f"the limit {name} lets nothing of yours pass before the {kind} is over: you spent"
        f" {format_money(micros, currency)} of {whom(scope)} beyond what you had reserved. Reserve"
        " what a request may cost (money_micros), or have an admin reset it"
        f" (superezioctl limit reset {name} --spend)",
        retry_after_ms=left_ms,
        data={
            "name": name,
            "dimension": "money",
            "scope": scope.kind,
            "scope_name": scope.name,
            "blocked": False,
        },
    )


def not_recorded(name: str, error: Exception) -> StateNotWritableError:
    """Return the refusal of what costs money that cannot be committed."""
    return StateNotWritableError(
        f"the limit {name} grants nothing that costs money: what is spent cannot be recorded"
        f" ({error})"
    )


def needs_rates(name: str) -> NotFoundError:
    """Return the refusal of a name that is nobody's limit yet."""
    return NotFoundError(
        f"there is no limit {name} yet: give its rates with the first limit.acquire, such as"
        ' {"requests": {"limit": 60, "period_ms": 60000}}, or have an admin add it to the'
        f" configuration, as [limit.shared.{name}]",
        data={"name": name},
    )


def no_limit(name: str) -> NotFoundError:
    """Return the refusal to show or reset what is not there."""
    return NotFoundError(
        f"there is no limit {name}: `superezioctl limit list` shows those there are",
        data={"name": name},
    )


def nothing_of(name: str, uid: int) -> NotFoundError:
    """Return the refusal to show or reset a user's part of a shared limit that has none."""
    return NotFoundError(
        f"the limit {name} is shared and has nothing apart for uid {uid}: without a uid it is the"
        " whole limit",
        data={"name": name},
    )


def slots_are_kept(limit: str, count: int) -> BusyError:
    """Return the refusal of one more reservation that keeps slots."""
    return BusyError(
        f"{count} reservations keep slots already: settle each when its request has ended"
        f" (limit.settle), or have an admin raise limit.{limit} in the configuration",
        retry_after_ms=1000,
        data={"limit": limit},
    )


def too_many(what: str, limit: str, count: int, *, wait: bool = False) -> BusyError:
    """Return the refusal of what would be more than may be remembered."""
    return BusyError(
        f"{count} {what} already", retry_after_ms=1000 if wait else None, data={"limit": limit}
    )
