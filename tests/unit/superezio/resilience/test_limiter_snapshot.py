"""No restart gives anybody a fresh burst."""

from __future__ import annotations

import msgspec
import pytest

from superezio.resilience.rate_limiter import (
    Cost,
    Dimension,
    Limit,
    Rate,
    RateLimiter,
    Rejection,
    Reservation,
    Restart,
    Scope,
    Snapshot,
)

SECOND = 1_000_000_000
NOW = 1_000 * SECOND
HOST, ANN = Scope("host"), Scope("user", "ann")
LIMIT = Limit(tokens=Rate(limit=1, burst=10), longest_block_ns=60 * SECOND)


def before(*, tokens: int, final: bool) -> Snapshot:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, LIMIT)
    answer = limiter.acquire(NOW, [budget], Cost(tokens=1))
    assert isinstance(answer, Reservation)
    limiter.settle(NOW, answer, Cost(tokens=tokens))
    ann = limiter.budget(NOW, ANN, LIMIT)
    ann.block(NOW, 30 * SECOND)
    ann.lower(NOW, Dimension.TOKENS, remaining=0, reset_after_ns=40 * SECOND)
    snapshot = limiter.snapshot(NOW, boot_id="this", final=final)
    saved = msgspec.json.encode(snapshot)
    return msgspec.json.decode(saved, type=Snapshot)


def wait(limiter: RateLimiter, now: int, scope: Scope, tokens: int = 10) -> int:
    answer = limiter.acquire(now, [limiter.budget(now, scope, LIMIT)], Cost(tokens=tokens))
    return answer.retry_after_ns if isinstance(answer, Rejection) else 0


def test_what_was_owed_stays_owed_by_the_clock_of_the_same_boot() -> None:
    later = NOW + 4 * SECOND
    restart = Restart(before(tokens=7, final=True), now_ns=later, boot_id="this")
    limiter = RateLimiter(restart=restart)
    assert wait(limiter, later, HOST) == 3 * SECOND
    assert wait(limiter, later, ANN, 1) == 36 * SECOND
    assert wait(limiter, later, Scope("user", "bob")) == 0, "was full, is full"


@pytest.mark.parametrize(("final", "boot_id"), [(False, "this"), (True, "another")])
def test_where_something_is_not_known_every_rate_starts_empty(*, final: bool, boot_id: str) -> None:
    later = NOW + 4 * SECOND
    restart = Restart(before(tokens=7, final=final), now_ns=later, boot_id=boot_id)
    limiter = RateLimiter(restart=restart)
    assert wait(limiter, later, HOST) == 10 * SECOND
    assert wait(limiter, later, Scope("user", "bob")) == 10 * SECOND
    assert wait(limiter, later + 10 * SECOND, Scope("user", "eve")) == 0


def test_where_the_snapshot_is_lost_every_rate_starts_empty() -> None:
    limiter = RateLimiter(restart=Restart(None, now_ns=NOW, boot_id="this"))
    assert wait(limiter, NOW + SECOND, HOST) == 9 * SECOND


def test_a_clock_behind_the_snapshots_is_another_boots() -> None:
    restart = Restart(before(tokens=7, final=True), now_ns=SECOND, boot_id="this")
    assert wait(RateLimiter(restart=restart), SECOND, HOST) == 10 * SECOND


def test_a_block_and_a_debt_beyond_the_burst_go_on_in_another_boot() -> None:
    restart = Restart(before(tokens=50, final=True), now_ns=SECOND, boot_id="another")
    limiter = RateLimiter(restart=restart)
    assert wait(limiter, SECOND, HOST) == 50 * SECOND
    assert wait(limiter, SECOND, ANN, 1) == 40 * SECOND


def test_a_second_restart_forgets_nothing_of_a_scope_that_nobody_asked_for_between() -> None:
    first = RateLimiter(
        restart=Restart(before(tokens=50, final=True), now_ns=SECOND, boot_id="another")
    )
    snapshot = first.snapshot(2 * SECOND, boot_id="another", final=True)
    restart = Restart(snapshot, now_ns=3 * SECOND, boot_id="another")
    second = RateLimiter(restart=restart)
    assert wait(second, 3 * SECOND, HOST) == 48 * SECOND
    assert wait(second, 3 * SECOND, Scope("user", "bob")) == 8 * SECOND


def test_money_of_another_currency_is_not_taken_over() -> None:
    restart = Restart(before(tokens=1, final=True), now_ns=NOW, boot_id="this")
    with pytest.raises(ValueError, match="counts money in USD, not in EUR"):
        RateLimiter(currency="EUR", restart=restart)
