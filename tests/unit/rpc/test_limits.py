from __future__ import annotations

from supereziod.rpc.limits import Accounts

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
