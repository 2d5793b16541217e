"""Money under a cap of the day or month is committed before the grant, and stays spent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from limit_host import SECOND, Connection, LimitHost, User
from superezio.errors import (
    CancelledRequestError,
    NeverPassesError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    StateNotWritableError,
)
from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import LimitReservation
from supereziod.resilience.limit_rules import LimitRules, ScopeRules
from supereziod.resilience.sharing import Audience
from supereziod.resilience.spend import Calendar
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, StorageError

ANN, BOB = User(1001), User(1002)
CENT = 10_000
DAY_S = 86_400
RULES = LimitRules(
    scopes={
        "host": ScopeRules(
            limit=Limit(requests=Rate(limit=100, period_ns=SECOND)),
            caps_micros={"day": 100 * CENT, "month": 150 * CENT},
        ),
        "user": ScopeRules(limit=Limit(concurrency=3), caps_micros={"day": 60 * CENT}),
    }
)


@pytest.fixture
async def host(tmp_path: Path) -> LimitHost:
    return LimitHost(tmp_path, shared={"paid": RULES}, audiences={"paid": Audience(everyone=True)})


def spent(host: LimitHost, scope: str, name: str = "", kind: str = "day") -> int:
    return host.on_disk()["paid", scope, name, kind][1]


async def test_what_a_grant_spends_is_on_disk_when_it_is_told(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=10 * CENT)
    host.acquire(ann, "paid", money_micros=5 * CENT)
    assert spent(host, "host") == spent(host, "host", kind="month") == 15 * CENT
    assert spent(host, "user", "1001") == 15 * CENT
    host.acquire(ann, "paid")
    assert spent(host, "host") == 15 * CENT, "what costs no money writes nothing"


async def test_over_the_cap_is_refused_until_the_window_ends(host: LimitHost) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "paid", money_micros=60 * CENT)
    for _ in range(2):
        with pytest.raises(RateLimitedError) as caught:
            host.acquire(ann, "paid", money_micros=1)
    data = caught.value.data
    assert (data["dimension"], data["scope"], data["scope_name"]) == ("money", "user", "1001")
    now = datetime.fromtimestamp(host.wall, UTC)
    of_day_ms = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).seconds * 1000
    assert caught.value.retry_after_ms == DAY_S * 1000 - of_day_ms
    host.acquire(bob, "paid", money_micros=40 * CENT)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(bob, "paid", money_micros=1)
    assert caught.value.data["scope"] == "host"
    assert [e.message for e in host.events.recent(20) if e.type == "limit.spent"] == [
        "what the limit paid may cost this day is spent: nothing is left for uid 1001",
        "what the limit paid may cost this day is spent: nothing is left for the whole host",
    ]
    host.wall += (caught.value.retry_after_ms or 0) / 1000
    host.acquire(ann, "paid", money_micros=50 * CENT)
    with pytest.raises(RateLimitedError) as caught:  # the month's
        host.acquire(bob, "paid", money_micros=1)
    assert (caught.value.retry_after_ms or 0) > 5 * DAY_S * 1000


async def test_a_cap_is_told_with_what_is_left_of_it(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=45 * CENT)
    some = "has 0.15 USD left this day for uid 1001: ask for less, or when the day is over$"
    with pytest.raises(RateLimitedError, match=some):
        host.acquire(ann, "paid", money_micros=16 * CENT)
    host.acquire(ann, "paid", money_micros=15 * CENT)
    none = "has no money left this day for uid 1001: nothing passes before the day is over, or"
    with pytest.raises(RateLimitedError, match=none):
        host.acquire(ann, "paid")
    with pytest.raises(
        NeverPassesError, match=r"costs 0\.61 USD, and uid 1001 may spend 0\.60 USD"
    ):
        host.acquire(ann, "paid", money_micros=61 * CENT)


async def test_more_than_a_whole_cap_never_passes(host: LimitHost) -> None:
    with pytest.raises(NeverPassesError) as caught:
        host.acquire(host.connect(ANN), "paid", money_micros=60 * CENT + 1)
    assert caught.value.data["burst"] == 60 * CENT
    assert host.on_disk() == {}


async def test_what_no_rate_lets_pass_spends_nothing(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", concurrency=3)
    with pytest.raises(RateLimitedError):
        host.acquire(ann, "paid", money_micros=CENT, concurrency=1)
    assert host.on_disk() == {}


async def test_settling_corrects_what_was_spent_and_commits_it(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.settle(ann, host.acquire(ann, "paid", money_micros=10 * CENT), money_micros=25 * CENT)
    assert spent(host, "host") == spent(host, "user", "1001") == 25 * CENT
    host.settle(ann, host.acquire(ann, "paid", money_micros=10 * CENT), money_micros=CENT)
    assert spent(host, "host") == 26 * CENT


async def test_a_caller_that_settles_more_than_it_reserved_empties_nobody_elses_cap(
    host: LimitHost,
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    answer = host.settled(ann, host.acquire(ann, "paid", money_micros=CENT), money_micros=2**53)
    # In full of its own cap; a half of what the host may spend of it: that of the day, 100 cents.
    assert spent(host, "user", "1001") == 2**53
    assert spent(host, "host") == 51 * CENT
    assert spent(host, "host", kind="month") == 76 * CENT
    over = 2**53 - CENT
    assert answer["not_counted"]["money_micros"] == over - 50 * CENT
    told = next(e for e in host.events.recent(20) if e.type == "limit.overshot")
    assert (told.uid, told.data["money_micros"]) == (1001, over - 50 * CENT)
    host.acquire(bob, "paid", money_micros=48 * CENT)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(ann, "paid", money_micros=1)
    assert caught.value.data["scope_name"] == "1001", "its own cap is reached"


@pytest.mark.parametrize("again", [False, True])
async def test_who_overshoots_a_shared_cap_gets_nothing_before_the_window_is_over(
    tmp_path: Path, *, again: bool
) -> None:
    rules = LimitRules(scopes={"host": RULES.scopes["host"]}, overshoot_share=100_000)
    host = LimitHost(tmp_path, shared={"paid": rules}, audiences={"paid": Audience(everyone=True)})
    ann, bob = host.connect(ANN), host.connect(BOB)
    open_still = host.acquire(ann, "paid")
    host.settle(ann, host.acquire(ann, "paid"), money_micros=10 * CENT)
    host.acquire(ann, "paid", money_micros=CENT)  # a tenth may be overshot
    host.settle(ann, open_still, money_micros=3 * CENT)
    assert spent(host, "host") == 11 * CENT
    if again:  # over a restart too
        host.end(final=False)
        host.start()
        ann, bob = host.connect(ANN), host.connect(BOB)
        host.turn(1000)
    with pytest.raises(
        RateLimitedError, match=r"you spent 0\.13 USD of the whole host beyond what"
    ) as caught:
        host.acquire(ann, "paid", money_micros=1)
    assert (caught.value.data["dimension"], caught.value.data["scope"]) == ("money", "host")
    assert not [e for e in host.events.recent(9) if e.type == "limit.spent"], "others have some"
    host.acquire(bob, "paid", money_micros=89 * CENT)
    host.wall += (caught.value.retry_after_ms or 0) / 1000
    host.now += 10 * SECOND
    host.settle(ann, host.acquire(ann, "paid"), money_micros=3 * CENT)
    # Of the month it has overshot more than a tenth now.
    with pytest.raises(RateLimitedError, match="before the month is over") as caught:
        host.acquire(ann, "paid", money_micros=1)
    host.wall += (caught.value.retry_after_ms or 0) / 1000
    host.acquire(ann, "paid", money_micros=1)


async def test_an_admin_lets_one_spend_again_who_has_overshot(tmp_path: Path) -> None:
    rules = LimitRules(scopes={"host": RULES.scopes["host"]})
    host = LimitHost(tmp_path, shared={"paid": rules}, audiences={"paid": Audience(everyone=True)})
    ann, bob = host.connect(ANN), host.connect(BOB)
    for user in (ann, bob):
        host.settle(user, host.acquire(user, "paid"), money_micros=500 * CENT)
    host.reset(User(0), "paid", uid=1001, is_admin=True, spend=True)
    host.end(final=False)
    host.start()
    host.turn(1000)
    host.reset(User(0), "paid", uid=1001, is_admin=True)
    # All of the host's day is spent: a half by each.
    assert spent(host, "host") == 100 * CENT
    host.reset(User(0), "paid", is_admin=True, spend=True)
    host.acquire(host.connect(BOB), "paid", money_micros=CENT)


async def test_overshot_money_is_forgotten_with_its_window(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.settle(ann, host.acquire(ann, "paid"), money_micros=2**53)
    named = next(iter(host.service._registry.limits.values()))
    host.service._registry.sweep()
    assert named.spend_overshoots
    host.wall += 40 * DAY_S
    host.service._registry.sweep()
    assert not named.spend_overshoots


async def test_money_that_was_not_reserved_counts_when_it_is_settled_and_is_committed(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid")
    assert host.settle(ann, number, money_micros=30 * CENT)
    assert spent(host, "host") == spent(host, "user", "1001") == 30 * CENT
    assert not host.settle(ann, number, money_micros=30 * CENT)
    assert spent(host, "host") == 30 * CENT, "once"
    host.acquire(ann, "paid", money_micros=30 * CENT)
    with pytest.raises(RateLimitedError):
        host.acquire(ann, "paid", money_micros=1)


async def test_a_cap_that_is_reached_refuses_what_names_no_money_until_the_window_ends(
    host: LimitHost,
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    before = host.acquire(ann, "paid", concurrency=3)
    waiter = host.wait(ann, "paid", concurrency=1)
    host.settle(ann, before, money_micros=60 * CENT)
    host.turn(0)
    with pytest.raises(RateLimitedError):
        await waiter
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(ann, "paid")
    data = caught.value.data
    assert (data["dimension"], data["scope"], data["scope_name"]) == ("money", "user", "1001")
    host.acquire(bob, "paid")  # who has something left of it
    host.wall += (caught.value.retry_after_ms or 0) / 1000 - 1
    with pytest.raises(RateLimitedError):
        host.acquire(ann, "paid")
    host.wall += 1
    host.acquire(ann, "paid")


async def test_money_of_a_reservation_that_is_older_than_the_cap_counts(host: LimitHost) -> None:
    free = ScopeRules(limit=Limit(requests=Rate(limit=100, period_ns=SECOND)))
    everyone = {"paid": Audience(everyone=True)}
    host.service.configure({"paid": LimitRules(scopes={"host": free})}, everyone, host.bounds)
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid")
    host.service.configure({"paid": RULES}, everyone, host.bounds)
    host.settle(ann, number, money_micros=7 * CENT)
    assert spent(host, "host") == 7 * CENT


@pytest.mark.parametrize("reserved", [0, 2 * CENT])
async def test_money_beyond_what_was_reserved_pushes_its_rate(
    tmp_path: Path, reserved: int
) -> None:
    limit = Limit(
        requests=Rate(limit=100, period_ns=SECOND), money=Rate(limit=10 * CENT, period_ns=SECOND)
    )
    host = LimitHost(
        tmp_path,
        shared={"paid": LimitRules(scopes={"host": ScopeRules(limit=limit)})},
        audiences={"paid": Audience(everyone=True)},
    )
    ann = host.connect(ANN)
    host.settle(ann, host.acquire(ann, "paid", money_micros=reserved), money_micros=15 * CENT)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(ann, "paid", money_micros=CENT)
    assert caught.value.data["dimension"] == "money"
    assert caught.value.retry_after_ms == 600, "five cents beyond the burst, and one more"


async def test_what_is_settled_beyond_it_in_another_window_counts_in_that_one(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    more, less = (host.acquire(ann, "paid", money_micros=10 * CENT) for _ in range(2))
    host.wall += DAY_S
    host.settle(ann, more, money_micros=25 * CENT)
    host.settle(ann, less, money_micros=0)
    assert spent(host, "user", "1001") == 15 * CENT
    assert spent(host, "host", kind="month") == 25 * CENT


async def test_what_a_connection_that_ends_had_reserved_counts_as_spent(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=10 * CENT)
    host.disconnect(ann)
    assert spent(host, "host") == 10 * CENT


async def test_a_sudden_end_forgets_no_money(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=60 * CENT)
    bob = host.connect(BOB)
    host.settle(bob, host.acquire(bob, "paid"), money_micros=5 * CENT)
    host.end(final=False)
    host.start()
    host.turn(1000)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(host.connect(ANN), "paid", money_micros=1)
    assert caught.value.data["dimension"] == "money"
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(host.connect(BOB), "paid", money_micros=36 * CENT)
    assert caught.value.data["scope"] == "host"
    host.acquire(host.connect(BOB), "paid", money_micros=35 * CENT)


async def test_where_it_cannot_be_committed_nothing_that_costs_money_is_granted(
    host: LimitHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=10 * CENT, concurrency=0)

    def full(*_: object, **__: object) -> None:
        raise StorageError("cannot write state.db: the disk is full")

    with monkeypatch.context() as patched:
        # A read-only directory does not stop root, which tests run as.
        patched.setattr(Database, "execute", full)
        with pytest.raises(StateNotWritableError, match="the disk is full"):
            host.acquire(ann, "paid", money_micros=10 * CENT, concurrency=1)
        for _ in range(3):
            host.acquire(ann, "paid", concurrency=1)
        number = host.acquire(ann, "paid", concurrency=0)
        assert host.settle(ann, number, money_micros=2 * CENT)
    assert spent(host, "host") == 10 * CENT
    state = host.peek(ANN, "paid")
    assert {each.spent_micros for each in state.spend} == {12 * CENT}
    host.acquire(ann, "paid", money_micros=CENT, concurrency=0)
    assert spent(host, "host") == 13 * CENT


async def test_what_was_settled_while_it_could_not_be_committed_is_made_up_for(
    host: LimitHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid", money_micros=10 * CENT)

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "execute", full)
        assert host.settle(ann, number, money_micros=20 * CENT)
    host.keep()
    assert spent(host, "host") == 20 * CENT


@pytest.mark.parametrize("final", [False, True])
async def test_what_was_settled_while_it_could_not_be_committed_outlives_a_restart(
    host: LimitHost,
    monkeypatch: pytest.MonkeyPatch,
    final: bool,  # noqa: FBT001
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid", money_micros=10 * CENT)

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "execute", full)
        assert host.settle(ann, number, money_micros=40 * CENT)
        host.keep()
        with suppress(StorageError):
            host.end(final=final)
        host.start()
        assert {each.spent_micros for each in host.peek(ANN, "paid").spend} == {40 * CENT}
        host.end(final=False)
        host.start()
        assert {each.spent_micros for each in host.peek(ANN, "paid").spend} == {40 * CENT}
    assert spent(host, "host") == 10 * CENT
    host.keep()
    assert spent(host, "host") == spent(host, "host", kind="month") == 40 * CENT
    assert spent(host, "user", "1001") == 40 * CENT
    host.now += 10 * SECOND  # a sudden end gives no fresh burst
    host.acquire(host.connect(ANN), "paid", money_micros=CENT)
    host.end(final=False)
    host.start()
    assert {each.spent_micros for each in host.peek(ANN, "paid").spend} == {41 * CENT}


@pytest.mark.parametrize(
    "left",
    [
        b"{",
        b'{"currency": "EUR", "rows": [["paid", ["host", ""], "day", 1]]}',
        b'{"currency": "\xff", "rows": []}',
    ],
)
async def test_what_is_left_of_debts_that_makes_no_sense_is_said_and_spends_nothing(
    host: LimitHost, left: bytes
) -> None:
    host.acquire(host.connect(ANN), "paid", money_micros=10 * CENT)
    host.end(final=False)
    Stopgap(host.path.parent).put("spend", left)
    with capture_logs() as logs:
        host.start()
    assert "limit.debts_unreadable" in [each["event"] for each in logs]
    assert {each.spent_micros for each in host.peek(ANN, "paid").spend} == {10 * CENT}


async def test_a_waiter_spends_when_it_is_granted(host: LimitHost) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid", money_micros=30 * CENT, concurrency=3)
    first = host.wait(ann, "paid", money_micros=20 * CENT, concurrency=1)
    second = host.wait(ann, "paid", money_micros=20 * CENT, concurrency=1)
    assert spent(host, "host") == 30 * CENT
    host.settle(ann, number)
    host.turn(0)
    await first
    with pytest.raises(RateLimitedError) as caught:
        await second
    assert caught.value.data["dimension"] == "money"
    assert spent(host, "user", "1001") == 50 * CENT
    assert host.left(ANN, "paid", "concurrency") == 2


def asked(host: LimitHost, connection: Connection) -> asyncio.Future[LimitReservation]:
    """Ask for a cent, which waits for the disk at least."""
    waiting = host.wait(connection, "paid", money_micros=CENT, concurrency=0, wait_ms=0)
    return cast("asyncio.Future[LimitReservation]", waiting)


async def test_nobody_is_told_of_money_that_a_power_cut_could_undo(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.disk.slow = True
    first = asked(host, ann)
    assert not host.on_disk(), "what else is asked now is taken in first"
    host.disk.turn()
    assert spent(host, "host") == CENT, "committed"
    host.disk.acts.clear()
    # The disk is busy with the first: these are committed together, after it.
    later = [asked(host, ann) for _ in range(3)]
    assert not first.done()
    assert spent(host, "host") == CENT
    host.disk.turn()
    assert first.done()
    assert (spent(host, "host"), host.disk.syncs) == (4 * CENT, 2)
    assert not any(each.done() for each in later)
    host.disk.turn()
    assert len({each.result().reservation for each in (first, *later)}) == 4
    assert (host.disk.syncs, host.disk.done) == (2, [])


async def test_grants_that_waited_together_are_committed_at_once(host: LimitHost) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    slots = [host.acquire(each, "paid", concurrency=3) for each in (ann, bob)]
    waiting = [
        host.wait(each, "paid", money_micros=CENT, concurrency=1)
        for each in (ann, bob, ann, bob, ann)
    ]
    for each, number in zip((ann, bob), slots, strict=True):
        host.settle(each, number)
    host.disk.slow = True
    host.turn(0)
    host.disk.turn()
    assert (spent(host, "host"), host.disk.syncs) == (5 * CENT, 1)
    host.disk.turn()
    for future in waiting:
        assert (await future).reservation
    # What is settled waits for no disk.
    host.settle(ann, (await waiting[0]).reservation, money_micros=0)
    assert (spent(host, "host"), host.disk.syncs) == (4 * CENT, 1)


async def test_who_is_gone_before_the_disk_is_done_has_nothing_but_what_it_reserved(
    host: LimitHost,
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.disk.slow = True
    gone, cancelled = asked(host, ann), asked(host, bob)
    host.disk.turn()
    host.disconnect(ann)
    cancelled.cancel()
    host.disk.turn()
    with pytest.raises(CancelledRequestError):
        gone.result()
    # A connection that ends has used what it reserved; a request that is cancelled nothing.
    assert (spent(host, "user", "1001"), spent(host, "user", "1002")) == (CENT, 0)
    assert host.service._registry.reservations == 0


async def test_money_that_does_not_get_to_the_disk_is_not_granted(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.disk.slow = True
    future = asked(host, ann)
    host.disk.turn()
    host.disk.turn(StorageError("cannot have it written to the disk"))
    with pytest.raises(StateNotWritableError, match="cannot have it written to the disk"):
        future.result()
    assert spent(host, "host") == 0
    assert host.service._registry.reservations == 0
    again = asked(host, ann)
    host.disk.turn()
    host.disk.turn()
    assert again.result().reservation


async def test_waiters_whose_money_cannot_be_committed_have_nothing(
    host: LimitHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid", concurrency=3)
    paid, second = (host.wait(ann, "paid", money_micros=CENT, concurrency=1) for _ in range(2))
    free = host.wait(ann, "paid", concurrency=1)
    host.settle(ann, number)

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "execute", full)
        host.turn(0)
    for future in (paid, second):
        with pytest.raises(StateNotWritableError, match="the disk is full"):
            await future
    await free
    assert host.left(ANN, "paid", "concurrency") == 2
    assert {each.spent_micros for each in host.peek(ANN, "paid").spend} == {0}


async def test_a_clock_that_goes_back_opens_no_earlier_window(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "paid", money_micros=60 * CENT)
    host.wall -= DAY_S
    with pytest.raises(RateLimitedError):
        host.acquire(ann, "paid", money_micros=1)
    host.end(final=False)
    host.start()
    host.turn(1000)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(host.connect(ANN), "paid", money_micros=1)
    assert (caught.value.retry_after_ms or 0) > DAY_S * 1000, "until the later window ends"


async def test_what_of_money_is_lost_with_the_file_counts_as_spent_until_an_admin_says_not(
    host: LimitHost,
) -> None:
    host.acquire(host.connect(ANN), "paid", money_micros=CENT)
    host.end(final=True)
    host.path.write_bytes(b"this is no database" * 100)
    for _ in range(2):  # the second life has a file that can be read again
        host.start()
        host.turn(2000)
        with pytest.raises(RateLimitedError) as caught:
            host.acquire(host.connect(BOB), "paid", money_micros=1)
        assert caught.value.data["dimension"] == "money"
        with pytest.raises(RateLimitedError):
            host.acquire(host.connect(BOB), "paid")
        host.end(final=True)
    host.start()
    host.reset(ANN, "paid", is_admin=True, spend=True)
    host.acquire(host.connect(BOB), "paid", money_micros=60 * CENT)
    host.end(final=True)
    host.start()
    with pytest.raises(RateLimitedError):
        host.acquire(host.connect(BOB), "paid", money_micros=1)


async def test_a_reset_of_what_was_spent_is_committed_and_gives_nothing_back_twice(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "paid", money_micros=60 * CENT)
    host.reset(ANN, "paid", is_admin=True)
    assert spent(host, "host") == 60 * CENT, "without `spend` it stays spent"
    host.reset(ANN, "paid", is_admin=True, spend=True)
    assert spent(host, "host") == 0
    host.settle(ann, number, money_micros=0)
    assert spent(host, "host") == 0


async def test_an_admin_sees_and_resets_one_users_part_of_a_shared_limit(host: LimitHost) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "paid", money_micros=60 * CENT, concurrency=2)
    host.acquire(bob, "paid", money_micros=10 * CENT)
    state = host.peek(User(0), "paid", uid=1001, is_admin=True)
    assert {(each.scope, each.scope_name) for each in state.budgets} == {("user", "1001")}
    assert [(each.scope_name, each.spent_micros) for each in state.spend] == [("1001", 60 * CENT)]
    with pytest.raises(RateLimitedError):
        host.acquire(ann, "paid")
    host.reset(User(0), "paid", uid=1001, is_admin=True, spend=True)
    assert (spent(host, "user", "1001"), spent(host, "user", "1002")) == (0, 10 * CENT)
    assert spent(host, "host") == 70 * CENT
    host.acquire(ann, "paid", money_micros=30 * CENT)
    with pytest.raises(PermissionDeniedError):
        host.peek(BOB, "paid", uid=1001)


async def test_a_shared_limit_without_a_budget_for_each_user_has_nothing_apart(
    tmp_path: Path,
) -> None:
    everyone = {"paid": Audience(everyone=True)}
    rules = LimitRules(scopes={"host": RULES.scopes["host"]})
    host = LimitHost(tmp_path, shared={"paid": rules}, audiences=everyone)
    for look in (host.peek, host.reset):
        with pytest.raises(NotFoundError, match="without a uid it is the whole limit"):
            look(User(0), "paid", uid=1001, is_admin=True)


async def test_idle_keys_are_forgotten_but_not_what_another_has_spent(tmp_path: Path) -> None:
    of_key = ScopeRules(
        limit=Limit(requests=RULES.scopes["host"].limit.requests), caps_micros={"day": 10 * CENT}
    )
    host = LimitHost(
        tmp_path,
        shared={"keyed": LimitRules(scopes={"key": of_key})},
        audiences={"keyed": Audience(everyone=True)},
    )
    ann = host.connect(ANN)
    host.acquire(ann, "keyed", key="acme", money_micros=10 * CENT)
    host.settle(ann, host.acquire(ann, "keyed", key="idle", money_micros=CENT), money_micros=0)
    host.disconnect(ann)
    host.turn(11_000)
    host.turn(11_000)
    assert host.service._registry._keys == 1
    with pytest.raises(RateLimitedError):
        host.acquire(host.connect(ANN), "keyed", key="acme", money_micros=1)
    host.acquire(host.connect(ANN), "keyed", key="idle", money_micros=10 * CENT)


def test_the_calendar_never_goes_back() -> None:
    times = iter((1_900_000_000.0, 1_900_000_000.0 - 40 * DAY_S, 1_900_000_000.0 + 40 * DAY_S))
    calendar = Calendar(lambda: next(times))
    first, second, third = (calendar.keys() for _ in range(3))
    assert first == second
    assert third["month"] > first["month"]


async def test_rows_of_windows_that_are_over_are_deleted(host: LimitHost) -> None:
    host.acquire(host.connect(ANN), "paid", money_micros=CENT)
    host.end(final=True)
    host.wall += 40 * DAY_S
    host.start()
    assert host.on_disk() == {}


@pytest.mark.parametrize(
    ("now", "day_ms", "month_ms"),
    [
        ("2031-04-30T23:59:59.500", 500, 500),
        ("2031-12-31T00:00:00", DAY_S * 1000, DAY_S * 1000),
        ("2028-02-01T12:00:00", DAY_S * 500, 28 * DAY_S * 1000 + DAY_S * 500),
    ],
)
def test_windows_end_at_midnight_utc_and_with_the_month(
    now: str, day_ms: int, month_ms: int
) -> None:
    calendar = Calendar(lambda: datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp())
    keys = calendar.keys()
    assert keys == {"day": now[:10], "month": now[:7]}
    assert calendar.left_ms("day", keys["day"]) == day_ms
    assert calendar.left_ms("month", keys["month"]) == month_ms
