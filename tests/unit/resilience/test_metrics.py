"""What is told of breakers, limits and the cache to a monitoring system."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache_host import ANN, BEN, CacheHost, shared_with
from limit_host import SECOND, LimitHost, User
from metrics_lint import labelled, problems, series, value
from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import LimitRate, LimitRates
from supereziod.observability.exposition import Exposition
from supereziod.observability.metrics import MetricSource
from supereziod.resilience.limit_rules import LimitRules, ScopeRules
from supereziod.resilience.metrics import BreakerMetrics, CacheMetrics, LimitMetrics
from supereziod.resilience.sharing import Audience
from unit.resilience.breaker_host import ANNA, CARL, ROOT, BreakerHost

ANYBODY = Audience(everyone=True)
PAID = LimitRules(
    scopes={
        "host": ScopeRules(
            limit=Limit(
                requests=Rate(limit=100, period_ns=60 * SECOND),
                money=Rate(limit=5_000_000, period_ns=3600 * SECOND),
                concurrency=4,
            ),
            caps_micros={"day": 2_000_000},
        ),
        "user": ScopeRules(limit=Limit(concurrency=3), caps_micros={"day": 1_500_000}),
    }
)
EACH = LimitRules(scopes={"user": ScopeRules(limit=Limit(concurrency=3))})


def told(source: MetricSource) -> str:
    text = Exposition([source]).text()
    assert problems(text) == []
    return text


# --- breakers -------------------------------------------------------------------------------------


@pytest.fixture
def breakers() -> Iterator[BreakerHost]:
    host = BreakerHost()
    yield host
    host.close()


def holding(text: str, name: str) -> list[str]:
    """Return the states that hold of a shared breaker."""
    return [
        dict(labels)["state"]
        for (family, labels), holds in series(text).items()
        if family == "superezio_breaker_state" and dict(labels)["breaker"] == name and holds
    ]


def test_a_shared_breaker_has_its_state_by_its_name(breakers: BreakerHost) -> None:
    source = BreakerMetrics(breakers.breakers)
    assert holding(told(source), "openai") == ["closed"]
    breakers.trip(ANNA)
    assert holding(told(source), "openai") == ["open"]
    breakers.breakers.force_open("openai", ROOT.who)
    assert holding(told(source), "openai") == ["forced_open"]


def test_one_that_lets_the_next_call_through_is_not_told_to_be_open(breakers: BreakerHost) -> None:
    """Where nobody calls, it stays as it is for days: that is nothing to be woken up for."""
    source = BreakerMetrics(breakers.breakers)
    breakers.settle(ANNA, breakers.acquire(ANNA), "throttled", retry_after_s=2)
    assert holding(told(source), "openai") == ["open"]
    breakers.advance(2)
    assert holding(told(source), "openai") == ["half_open"]
    assert breakers.view().state == "open", "no call has asked yet"
    assert breakers.view().retry_after_ms is None


def test_calls_that_were_turned_away_only_grow(breakers: BreakerHost) -> None:
    source = BreakerMetrics(breakers.breakers)
    breakers.trip(ANNA)
    breakers.refused(ANNA)
    breakers.refused(ANNA)
    assert value(told(source), "superezio_breaker_rejected_total", breaker="openai") == 2
    breakers.breakers.reset("openai", ROOT.who)
    breakers.trip(ANNA)
    breakers.refused(ANNA)
    assert breakers.view().rejected == 1
    assert value(told(source), "superezio_breaker_rejected_total", breaker="openai") == 3


def test_users_own_breakers_are_counted_and_not_named(breakers: BreakerHost) -> None:
    breakers.trip(ANNA, "secret-a")
    breakers.trip(CARL, "secret-b")
    breakers.acquire(CARL, "secret-c")
    text = told(BreakerMetrics(breakers.breakers))
    assert labelled(text, "superezio_breakers", "state") == {
        "closed": 1,
        "open": 2,
        "half_open": 0,
        "forced_open": 0,
        "disabled": 0,
    }
    assert "secret" not in text


# --- limits ---------------------------------------------------------------------------------------


@pytest.fixture
async def limits(tmp_path: Path) -> LimitHost:
    return LimitHost(
        tmp_path, shared={"paid": PAID, "each": EACH}, audiences={"paid": ANYBODY, "each": ANYBODY}
    )


async def test_what_is_left_for_the_whole_host_is_told_and_of_nobody_else(
    limits: LimitHost,
) -> None:
    anna = limits.connect(User(1001))
    limits.acquire(anna, "paid", requests=10, money_micros=1_250_000, concurrency=1)
    limits.acquire(anna, "each", concurrency=1)
    text = told(LimitMetrics(limits.service.administration))
    assert labelled(text, "superezio_limit_available", "dimension") == {
        "requests": 90,
        "money": 3.75,
        "concurrency": 3,
    }
    assert labelled(text, "superezio_limit_burst", "dimension") == {
        "requests": 100,
        "money": 5,
        "concurrency": 4,
    }
    assert value(text, "superezio_limit_spent", limit="paid", window="day") == 1.25
    assert value(text, "superezio_limit_cap", limit="paid", window="day") == 2
    assert '"each"' not in text
    assert "1001" not in text


async def test_reservations_and_waiters_are_those_of_all_limits(limits: LimitHost) -> None:
    anna = limits.connect(User(1001))
    rates = LimitRates(requests=LimitRate(limit=1, period_ms=60_000))
    first = limits.acquire(anna, "secret", rates=rates)
    limits.acquire(anna, "each", concurrency=3)
    waits = asyncio.ensure_future(limits.wait(anna, "each", concurrency=1))
    source = LimitMetrics(limits.service.administration)
    text = told(source)
    assert value(text, "superezio_limit_reservations_total") == 2
    assert value(text, "superezio_limit_reservations_open") == 2
    assert value(text, "superezio_limit_waiters") == 1
    assert "secret" not in text
    limits.settle(anna, first)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    text = told(source)
    assert value(text, "superezio_limit_reservations_total") == 2
    assert value(text, "superezio_limit_reservations_open") == 1
    assert value(text, "superezio_limit_waiters") == 0


# --- cache ----------------------------------------------------------------------------------------


@pytest.fixture
async def caches() -> CacheHost:
    return CacheHost(shared={"common": shared_with(ANN, BEN)})


def total(text: str, what: str) -> float | None:
    return value(text, f"superezio_cache_{what}_total")


def of_shared(text: str, what: str) -> float | None:
    return value(text, f"superezio_cache_namespace_{what}", namespace="common")


async def test_the_cache_is_told_of_as_a_whole_and_shared_namespaces_by_name(
    caches: CacheHost,
) -> None:
    ann, ben = caches.connect(ANN), caches.connect(BEN)
    ann.set("v", namespace="common", ttl_ms=10, grace_ms=1000)
    ben.get(namespace="common")
    caches.pass_ms(20)
    ann.get(namespace="common")
    ann.set("w", namespace="common")
    ann.lead(namespace="secret")
    waits = ann.join(namespace="secret")
    text = told(CacheMetrics(caches.caches))
    assert [total(text, each) for each in ("hits", "stale", "misses", "coalesced")] == [1, 1, 2, 1]
    assert (value(text, "superezio_cache_fills"), value(text, "superezio_cache_waiters")) == (2, 1)
    assert of_shared(text, "hits_total") == of_shared(text, "stale_total") == 1
    assert of_shared(text, "misses_total") == of_shared(text, "coalesced_total") == 0
    assert of_shared(text, "entries") == value(text, "superezio_cache_entries") == 1
    assert of_shared(text, "bytes") == value(text, "superezio_cache_bytes")
    evicted = labelled(text, "superezio_cache_evictions_total", "cause")
    assert evicted == {"expired": 0, "quota": 0, "total": 0, "deleted": 0, "replaced": 1}
    shared = labelled(text, "superezio_cache_namespace_evictions_total", "cause")
    assert shared == evicted
    assert "secret" not in text
    waits.cancel()


async def test_totals_only_grow_though_namespaces_are_forgotten(caches: CacheHost) -> None:
    source = CacheMetrics(caches.caches)
    ann = caches.connect(ANN)
    ann.get(namespace="first", fill=False)
    for number in range(1000):
        ann.get(namespace=f"n{number % 60}", fill=False)
        caches.caches._cache.peek(f"other:{number}", "k", now_ns=caches.now)
    assert "1000:first" not in caches.caches._cache.namespaces()
    assert total(told(source), "misses") == 2001
