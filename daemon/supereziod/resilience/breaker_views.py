"""Breakers as they are shown."""

from __future__ import annotations

from typing import Final

from superezio import milliseconds, wire
from supereziod.resilience.breaker_settings import on_wire
from supereziod.resilience.kept_breaker import KeptBreaker

_SECOND: Final = 1_000_000_000


def view_of(kept: KeptBreaker, now_ns: int) -> wire.Breaker:
    """Return a breaker as it is: to be asked after `expire`."""
    breaker = kept.breaker
    counts = breaker.counts(now_ns)
    wait_ns = breaker.retry_after_ns(now_ns)
    return wire.Breaker(
        name=kept.owned.name,
        uid=kept.owned.owner,
        shared=kept.user is None,
        state=breaker.state,
        state_s=max(now_ns - breaker.changed_ns, 0) / _SECOND,
        retry_after_ms=milliseconds.rounded_up(wait_ns) if wait_ns else None,
        calls=counts.calls,
        failures=counts.failures,
        slow_calls=counts.slow_calls,
        failure_rate=counts.failure_rate,
        slow_call_rate=counts.slow_call_rate,
        permits=breaker.out,
        rejected=breaker.rejected,
        generation=breaker.generation,
        rules=on_wire(breaker.rules),
        opened_by=kept.opened_by,
        reported_by=[] if kept.reports is None else kept.reports.by_uid(),
        opened_for=kept.opened_for,
        called=kept.called,
    )
