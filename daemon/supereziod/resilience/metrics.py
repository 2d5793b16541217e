"""Metrics of breakers, limits and the cache: each shared one by its name, all others together.

A shared name is the configuration's, so that there are few of them. What users call their own is
theirs to know: it is counted, and not named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, get_args

from superezio.resilience.cache_counters import Counters, Usage
from superezio.wire import BreakerState, CacheNamespace, LimitBudget, LimitState, SpendWindow
from supereziod.observability.metrics import (
    Family,
    Metric,
    Sample,
    counter,
    gauge,
    single,
    state_samples,
)
from supereziod.resilience.sharing import Owned

#: What money is counted in here: millionths of the configured currency.
_MILLION: Final = 1_000_000
STATES: Final[tuple[BreakerState, ...]] = get_args(BreakerState)
DIMENSIONS: Final = ("requests", "tokens", "money", "concurrency")
WINDOWS: Final = ("day", "month")
#: The causes of evictions, and the counters that have them.
CAUSES: Final = {
    "expired": "evicted_expired",
    "quota": "evicted_quota",
    "total": "evicted_total",
    "deleted": "deleted",
    "replaced": "replaced",
}

_OWN_BREAKERS: Final = gauge("superezio_breakers", "Users' own breakers, by their state", "state")
_STATE: Final = gauge(
    "superezio_breaker_state",
    "1 for the state that a shared breaker is in; half_open once it lets the next call through",
    "breaker",
    "state",
)
_REJECTED: Final = counter(
    "superezio_breaker_rejected_total", "Calls that a shared breaker turned away", "breaker"
)

_AVAILABLE: Final = gauge(
    "superezio_limit_available",
    "What is left for the whole host of a shared limit; money in the configured currency",
    "limit",
    "dimension",
)
_BURST: Final = gauge(
    "superezio_limit_burst", "What can be left of it at most", "limit", "dimension"
)
_SPENT: Final = gauge(
    "superezio_limit_spent",
    "Money that the whole host spent of a shared limit in this day or month, in UTC",
    "limit",
    "window",
)
_CAP: Final = gauge("superezio_limit_cap", "Money that it may spend in it", "limit", "window")
_GRANTED: Final = counter("superezio_limit_reservations_total", "Reservations in any limit")
_OPEN: Final = gauge("superezio_limit_reservations_open", "Reservations that are not settled")
_WAITERS: Final = gauge("superezio_limit_waiters", "Requests that wait for room in a limit")

_BYTES: Final = gauge("superezio_cache_bytes", "Memory that the cached values take")
_ENTRIES: Final = gauge("superezio_cache_entries", "Values that are cached")
_FILLS: Final = gauge("superezio_cache_fills", "Values that some caller fetches for all")
_CACHE_WAITERS: Final = gauge("superezio_cache_waiters", "Requests that wait for such a value")
_HITS: Final = counter("superezio_cache_hits_total", "Fresh values that were served")
_STALE: Final = counter("superezio_cache_stale_total", "Stale values that were served")
_MISSES: Final = counter("superezio_cache_misses_total", "Times that there was no value")
_COALESCED: Final = counter(
    "superezio_cache_coalesced_total", "Misses that waited for what another fetched"
)
_EVICTED: Final = counter(
    "superezio_cache_evictions_total", "Values that went, by what they went for", "cause"
)
_OF_ALL: Final = (_HITS, _STALE, _MISSES, _COALESCED)


def _of_one(family: Family, name: str, *labels: str) -> Family:
    return Family(
        name=name,
        kind=family.kind,
        help=f"The same of a shared namespace: {family.help[0].lower()}{family.help[1:]}",
        labels=("namespace", *labels),
    )


_SHARED_BYTES: Final = _of_one(_BYTES, "superezio_cache_namespace_bytes")
_SHARED_ENTRIES: Final = _of_one(_ENTRIES, "superezio_cache_namespace_entries")
_SHARED_HITS: Final = _of_one(_HITS, "superezio_cache_namespace_hits_total")
_SHARED_STALE: Final = _of_one(_STALE, "superezio_cache_namespace_stale_total")
_SHARED_MISSES: Final = _of_one(_MISSES, "superezio_cache_namespace_misses_total")
_SHARED_COALESCED: Final = _of_one(_COALESCED, "superezio_cache_namespace_coalesced_total")
_SHARED_EVICTED: Final = _of_one(_EVICTED, "superezio_cache_namespace_evictions_total", "cause")


class SeenBreaker(NamedTuple):
    """A breaker, as far as it is counted. `rejected` only grows."""

    owned: Owned
    state: BreakerState
    rejected: int


class SeenLimits(NamedTuple):
    """What all limits have together."""

    granted: int
    open: int
    waiters: int


class SeenCache(NamedTuple):
    """What all namespaces hold and have counted since the start, and what the shared ones do."""

    usage: Usage
    counters: Counters
    shared: Sequence[CacheNamespace]


class Breakers(Protocol):
    """The breakers, as far as they are asked."""

    def seen(self) -> Iterable[SeenBreaker]:
        """Return all breakers."""


class Limits(Protocol):
    """The limits, as far as they are asked."""

    def seen(self) -> SeenLimits:
        """Return what all have together."""

    def of_the_host(self) -> Iterable[LimitState]:
        """Return the shared limits, as far as they are the whole host's."""


class Caches(Protocol):
    """The cache, as far as it is asked."""

    def seen(self) -> SeenCache:
        """Return what it holds, and what happened in it."""


class BreakerMetrics:
    """The source of what is known of services."""

    families: Final[tuple[Family, ...]] = (_OWN_BREAKERS, _STATE, _REJECTED)

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers

    def collect(self) -> Iterator[Metric]:
        """Return what holds now."""
        own: Counter[BreakerState] = Counter()
        states: list[Sample] = []
        rejected: list[Sample] = []
        for owned, state, count in self._breakers.seen():
            if owned.owner is None:
                states += state_samples((owned.name,), STATES, state)
                rejected.append(((owned.name,), count))
            else:
                own[state] += 1
        yield Metric(_OWN_BREAKERS, [((state,), own[state]) for state in STATES])
        yield Metric(_STATE, states)
        yield Metric(_REJECTED, rejected)


class LimitMetrics:
    """The source of what is left of limits, and spent."""

    families: Final[tuple[Family, ...]] = (
        _AVAILABLE,
        _BURST,
        _SPENT,
        _CAP,
        _GRANTED,
        _OPEN,
        _WAITERS,
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Return what holds now."""
        limits = list(self._limits.of_the_host())
        budgets = [(limit.name, each) for limit in limits for each in limit.budgets]
        spend = [(limit.name, each) for limit in limits for each in limit.spend]
        yield Metric(_AVAILABLE, [_budget(name, each, each.available) for name, each in budgets])
        yield Metric(_BURST, [_budget(name, each, each.burst) for name, each in budgets])
        yield Metric(_SPENT, [_window(name, each, each.spent_micros) for name, each in spend])
        yield Metric(_CAP, [_window(name, each, each.cap_micros) for name, each in spend])
        granted, is_open, waiters = self._limits.seen()
        yield single(_GRANTED, granted)
        yield single(_OPEN, is_open)
        yield single(_WAITERS, waiters)


class CacheMetrics:
    """The source of what is cached."""

    families: Final[tuple[Family, ...]] = (
        _BYTES,
        _ENTRIES,
        _FILLS,
        _CACHE_WAITERS,
        *_OF_ALL,
        _EVICTED,
        _SHARED_BYTES,
        _SHARED_ENTRIES,
        _SHARED_HITS,
        _SHARED_STALE,
        _SHARED_MISSES,
        _SHARED_COALESCED,
        _SHARED_EVICTED,
    )

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """Return what holds now."""
        usage, counters, shared = self._caches.seen()
        yield single(_BYTES, usage.used_bytes)
        yield single(_ENTRIES, usage.entries)
        yield single(_FILLS, usage.fills)
        yield single(_CACHE_WAITERS, usage.waiting)
        yield single(_HITS, counters.hits)
        yield single(_STALE, counters.stale_served)
        yield single(_MISSES, counters.misses)
        yield single(_COALESCED, counters.coalesced)
        yield Metric(_EVICTED, [((cause,), getattr(counters, cause)) for cause in CAUSES])
        yield from _of_shared(shared)


def _of_shared(shared: Sequence[CacheNamespace]) -> Iterator[Metric]:
    counted = [(each.namespace, each, each.counters) for each in shared]
    yield Metric(_SHARED_BYTES, [((name,), each.used_bytes) for name, each, _ in counted])
    yield Metric(_SHARED_ENTRIES, [((name,), each.entries) for name, each, _ in counted])
    yield Metric(_SHARED_HITS, [((name,), of.hits) for name, _, of in counted])
    yield Metric(_SHARED_STALE, [((name,), of.stale_served) for name, _, of in counted])
    yield Metric(_SHARED_MISSES, [((name,), of.misses) for name, _, of in counted])
    yield Metric(_SHARED_COALESCED, [((name,), of.coalesced) for name, _, of in counted])
    yield Metric(
        _SHARED_EVICTED,
        [
            ((name, cause), getattr(of, member))
            for name, _, of in counted
            for cause, member in CAUSES.items()
        ],
    )


def _budget(limit: str, budget: LimitBudget, amount: int) -> Sample:
    money = budget.dimension == "money"
    return (limit, budget.dimension), amount / _MILLION if money else amount


def _window(limit: str, window: SpendWindow, micros: int) -> Sample:
    return (limit, window.window), micros / _MILLION
