"""Refusals of limits as they go over the wire: what is short, for whom, and what helps."""

from __future__ import annotations

from typing import Final

from superezio.errors import (
    BusyError,
    NeverPassesError,
    NotFoundError,
    RateLimitedError,
)
from superezio.quantities import format_duration
from superezio.resilience.rate_limiter import NeverPassesError as NoWaitWouldDo
from superezio.resilience.rate_limiter import Rejection, Scope

_MS: Final = 1_000_000
_MILLION: Final = 1_000_000


def limited(name: str, rejection: Rejection) -> RateLimitedError:
    """Return the refusal of a request that may pass later."""
    retry_after_ms = -(-rejection.retry_after_ns // _MS)
    why = (
        "the service that it is for asked to wait"
        if rejection.blocked
        else f"no {rejection.dimension} are left for {rejection.scope}"
    )
    return RateLimitedError(
        f"the limit {name} has no room now: {why}."
        f" Ask again in {format_duration(retry_after_ms / 1000)}, or with a wait_ms.",
        retry_after_ms=retry_after_ms,
        data={
            "name": name,
            "dimension": str(rejection.dimension),
            "scope": rejection.scope.kind,
            "scope_name": rejection.scope.name,
            "blocked": rejection.blocked,
        },
    )


def never_passes(name: str, error: NoWaitWouldDo) -> NeverPassesError:
    """Return the refusal of a request for which no wait would do."""
    return NeverPassesError(
        f"the limit {name} never lets this pass: {error}",
        data={
            "name": name,
            "dimension": str(error.dimension),
            "scope": error.scope.kind,
            "scope_name": error.scope.name,
            "cost": error.cost,
            "burst": error.burst,
        },
    )


def over_cap(name: str, scope: Scope, kind: str, *, left_ms: int) -> RateLimitedError:
    """Return the refusal of what would go over a cap on money of a day or a month."""
    return RateLimitedError(
        f"the limit {name} has no money left this {kind} for {scope}:"
        f" ask again in {format_duration(left_ms / 1000)}, or for less",
        retry_after_ms=left_ms,
        data={
            "name": name,
            "dimension": "money",
            "scope": scope.kind,
            "scope_name": scope.name,
            "blocked": False,
        },
    )


def over_whole_cap(name: str, scope: Scope, *, cost: int, cap: int) -> NeverPassesError:
    """Return the refusal of what is more than a whole window's cap."""
    return NeverPassesError(
        f"the limit {name} never lets this pass: it costs {cost / _MILLION:.2f}, and {scope} may"
        f" spend {cap / _MILLION:.2f} in all",
        data={
            "name": name,
            "dimension": "money",
            "scope": scope.kind,
            "scope_name": scope.name,
            "cost": cost,
            "burst": cap,
        },
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


def too_many(what: str, limit: str, count: int, *, wait: bool = False) -> BusyError:
    """Return the refusal of what would be more than may be remembered."""
    return BusyError(
        f"{count} {what} already", retry_after_ms=1000 if wait else None, data={"limit": limit}
    )
