"""Rates as they are sent, turned into a limit: of the daemon, or of what stands in for it."""

from __future__ import annotations

from typing import Final

from superezio.resilience.limits import Limit, Rate
from superezio.wire import LimitRate, LimitRates

_MS: Final = 1_000_000
_LONGEST_PERIOD_MS: Final = 366 * 86_400_000


def limit_of(rates: LimitRates, *, longest_block_ns: int = 600 * 10**9) -> Limit:
    """Return the limit that has these rates; a word of the far side blocks it for so long at most.

    Raises ValueError for rates that limit nothing, or that are none.
    """
    if rates == LimitRates():
        raise ValueError(
            "rates limits nothing: give at least one of requests, tokens, money_micros and"
            " concurrency"
        )
    try:
        return Limit(
            requests=_rate(rates.requests),
            tokens=_rate(rates.tokens),
            money=_rate(rates.money_micros),
            concurrency=rates.concurrency,
            longest_block_ns=longest_block_ns,
        )
    except ValueError as error:
        raise ValueError(f"rates: {error}") from None


def _rate(rate: LimitRate | None) -> Rate | None:
    if rate is None:
        return None
    if not 1 <= rate.period_ms <= _LONGEST_PERIOD_MS:
        raise ValueError(
            f"period_ms has to be from 1 to {_LONGEST_PERIOD_MS} (366 days), not {rate.period_ms}"
        )
    if rate.burst is not None and rate.burst < 1:
        raise ValueError(f"burst has to be positive, not {rate.burst}")
    return Rate(limit=rate.limit, period_ns=rate.period_ms * _MS, burst=rate.burst or 0)
