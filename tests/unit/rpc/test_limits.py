from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superezio.resilience.rate_limiter import Gcra
from supereziod.rpc.limits import Accounts, RequestRate

SECOND = 1_000_000_000


def test_a_uid_has_one_account() -> None:
    accounts = Accounts(requests_per_second=1, requests_burst=1)
    assert accounts.of(1000, SECOND) is accounts.of(1000, SECOND)
    assert accounts.of(1000, SECOND) is not accounts.of(1001, SECOND)


def test_accounts_are_bounded_and_none_in_use_or_in_debt_is_forgotten() -> None:
    accounts = Accounts(requests_per_second=1, requests_burst=5)
    connected = accounts.of(1, SECOND)
    connected.connections = 1
    in_debt = accounts.of(2, SECOND)
    in_debt.rate.acquire(SECOND, 5)
    for uid in range(10, 5000):
        accounts.of(uid, SECOND)
    assert len(accounts) < 1030
    assert accounts.of(1, SECOND) is connected
    assert accounts.of(2, SECOND) is in_debt


def test_accounts_in_use_are_all_kept() -> None:
    accounts = Accounts(requests_per_second=1, requests_burst=5)
    for uid in range(3000):
        accounts.of(uid, SECOND).connections = 1
    assert len(accounts) == 3000


def test_another_rate_is_for_all_uids_and_forgives_nothing() -> None:
    accounts = Accounts(requests_per_second=1, requests_burst=1)
    known = accounts.of(1, SECOND)
    assert known.rate.acquire(SECOND) == 0
    accounts.set_rate(requests_per_second=5, requests_burst=7)
    assert accounts.of(2, SECOND).rate.burst == 7
    assert known.rate.burst == 7
    assert known.rate.acquire(SECOND, 7) == SECOND
    assert known.rate.acquire(2 * SECOND, 7) == 0


@given(
    burst=st.integers(1, 5000),
    steps=st.lists(
        st.tuples(st.integers(0, SECOND), st.integers(1, 3000), st.booleans()), max_size=12
    ),
)
def test_requests_paid_ahead_never_exceed_the_limit(
    burst: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Against plain GCRA of the same limit: what passes here must pass there."""
    rate = RequestRate(requests_per_second=1000, requests_burst=burst)
    judge = Gcra(limit=1000, period_ns=SECOND, burst=burst)
    now = SECOND
    for elapsed, count, at_once in steps:
        now += elapsed
        if at_once:
            cost = min(count, max(rate.available(now), 1))
            if not rate.acquire(now, cost):
                assert judge.acquire(now, cost) == 0
            continue
        passed = 0
        while passed < count and not rate.acquire(now):
            assert judge.acquire(now) == 0
            passed += 1
        assert passed == count or judge.available(now) <= burst // 400


def test_of_a_small_burst_nothing_is_paid_ahead() -> None:
    rate = RequestRate(requests_per_second=1, requests_burst=100)
    assert [rate.acquire(SECOND) for _ in range(100)] == [0] * 100
    assert rate.acquire(SECOND) == SECOND


def test_a_lower_limit_takes_back_what_was_paid_ahead() -> None:
    rate = RequestRate(requests_per_second=1000, requests_burst=4000)
    assert rate.acquire(SECOND) == 0
    assert rate.paid == 10
    rate.set_rate(requests_per_second=1000, requests_burst=100)
    assert rate.paid == 0
