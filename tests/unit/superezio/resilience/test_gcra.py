"""The limiter against its definition in exact fractions (semantics 2)."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.resilience.gcra import Gcra

SECOND = 1_000_000_000


class Definition:
    """tat' = max(now, tat) + ceil(cost * period / limit), and now >= tat' - ceil(burst ...)."""

    def __init__(self, limit: int, period: int, burst: int) -> None:
        self.limit, self.period, self.burst = limit, period, burst
        self.tat = 0

    def acquire(self, now: int, cost: int) -> int:
        tat = max(now, self.tat) + ceil(Fraction(cost * self.period, self.limit))
        allow_at = tat - ceil(Fraction(self.burst * self.period, self.limit))
        if now < allow_at:
            return allow_at - now
        self.tat = tat
        return 0


@given(
    limit=st.integers(1, 10**10),
    period=st.integers(1, 10**12),
    burst=st.integers(1, 1000),
    calls=st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 1000)), max_size=40),
)
def test_it_decides_as_its_definition_does(
    limit: int, period: int, burst: int, calls: list[tuple[int, int]]
) -> None:
    gcra = Gcra(limit=limit, period_ns=period, burst=burst)
    definition = Definition(limit, period, burst)
    now = 1
    for elapsed, cost in calls:
        now += elapsed
        if cost <= burst:
            assert gcra.acquire(now, cost) == definition.acquire(now, cost)
            assert gcra.tat_ns == definition.tat
        assert gcra.available(now) == _most(definition, now)


@pytest.mark.parametrize(
    ("limit", "period_s", "burst"),
    [(90_000, 60, 90_000), (90_000, 60, 7), (7, 3600, 7), (3, 1, 100), (10**8, 1, 10**8)],
)
def test_what_is_there_before_any_use_is_the_burst_and_what_is_taken_is_gone(
    limit: int, period_s: int, burst: int
) -> None:
    gcra = Gcra(limit=limit, period_ns=period_s * SECOND, burst=burst)
    assert gcra.available(SECOND) == burst
    gcra.take(SECOND, 5)
    left = gcra.available(SECOND)
    assert burst - 6 <= left <= burst - 5, "a cost is rounded up to a nanosecond"
    assert gcra.acquire(SECOND, left) == 0


def _most(definition: Definition, now: int) -> int:
    """Return the highest cost that passes."""
    room = ceil(Fraction(definition.burst * definition.period, definition.limit))
    room -= max(definition.tat - now, 0)
    return min(definition.burst, floor(Fraction(room * definition.limit, definition.period)))


@given(
    limit=st.integers(1, 10**10),
    burst=st.integers(1, 50),
    steps=st.lists(st.integers(0, 10**9), min_size=1, max_size=200),
)
def test_no_span_of_time_grants_more_than_its_rate_and_one_burst(
    limit: int, burst: int, steps: list[int]
) -> None:
    gcra = Gcra(limit=limit, period_ns=SECOND, burst=burst)
    now, granted = 1, 0
    for step in steps:
        now += step
        granted += gcra.acquire(now) == 0
        assert granted <= burst + Fraction((now - 1) * limit, SECOND)


@given(limit=st.integers(1, 10**6), burst=st.integers(1, 20), cost=st.integers(1, 20))
def test_who_waits_as_told_passes_and_no_sooner(limit: int, burst: int, cost: int) -> None:
    cost = min(cost, burst)
    gcra = Gcra(limit=limit, period_ns=SECOND, burst=burst)
    now = 1
    while not (wait := gcra.acquire(now, cost)):
        pass
    before = gcra.tat_ns
    assert gcra.acquire(now + wait - 1, cost) == 1
    assert gcra.tat_ns == before, "a rejection changes nothing"
    assert gcra.acquire(now + wait, cost) == 0


@pytest.mark.parametrize("rate", [150_000, 10**10])
def test_a_rate_that_divides_no_second_neither_over_grants_nor_is_unlimited(rate: int) -> None:
    gcra = Gcra(limit=rate, period_ns=SECOND, burst=1)
    granted = sum(gcra.acquire(now) == 0 for now in range(1, 100_000))
    assert granted <= 1 + rate * 100_000 // SECOND


def test_more_than_the_burst_is_an_error_and_not_a_wait() -> None:
    gcra = Gcra(limit=1, period_ns=SECOND, burst=2)
    with pytest.raises(ValueError, match="never passes"):
        gcra.acquire(1, cost=3)


@pytest.mark.parametrize("values", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_senseless_limits_are_refused(values: tuple[int, int, int]) -> None:
    limit, period, burst = values
    with pytest.raises(ValueError, match="positive"):
        Gcra(limit=limit, period_ns=period, burst=burst)


def test_it_is_full_when_all_is_paid_back() -> None:
    gcra = Gcra(limit=1, period_ns=SECOND, burst=2)
    gcra.acquire(1)
    assert not gcra.is_full(SECOND)
    assert gcra.is_full(1 + SECOND)
