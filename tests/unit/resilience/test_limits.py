"""Rate limits that programs share, by the rules of section 2, and whose they are."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from limit_host import MS, SECOND, Connection, LimitHost, User
from superezio.errors import (
    BusyError,
    CancelledRequestError,
    InvalidParamsError,
    NeverPassesError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    SuperezioError,
)
from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import (
    LimitAcquireParams,
    LimitRate,
    LimitRates,
    LimitRemaining,
    LimitReservation,
)
from supereziod.resilience.limit_rules import LimitBounds, LimitRules, ScopeRules
from supereziod.resilience.limit_writing import SLICE
from supereziod.resilience.sharing import Audience, Owned
from supereziod.storage import Database, Documents

STUDENTS, STAFF = 10, 20
ANN = User(1001, frozenset({STUDENTS}))
BOB = User(1002, frozenset({STUDENTS, STAFF}))
EVE = User(1003)
#: Ten requests at once, one more a second.
TEN = Rate(limit=1, period_ns=SECOND, burst=10)
RATES = LimitRates(requests=LimitRate(limit=1, period_ms=1000, burst=10))


def rules(**scopes: Limit) -> LimitRules:
    return LimitRules(
        scopes={kind: ScopeRules(limit=limit) for kind, limit in scopes.items()},  # type: ignore[misc]
        group_names={STUDENTS: "students", STAFF: "staff"},
    )


SHARED = {
    "plain": rules(host=Limit(requests=TEN)),
    "openai": rules(
        host=Limit(requests=TEN, tokens=Rate(limit=10, period_ns=SECOND, burst=100)),
        group=Limit(tokens=Rate(limit=10, period_ns=SECOND, burst=60)),
        user=Limit(tokens=Rate(limit=10, period_ns=SECOND, burst=40), concurrency=2),
    ),
    "keyed": rules(key=Limit(requests=TEN), session=Limit(concurrency=1)),
}
AUDIENCES = {name: Audience(gids=frozenset({STUDENTS, STAFF})) for name in SHARED}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., LimitHost]:
    def made(**options: Any) -> LimitHost:
        return LimitHost(tmp_path, **{"shared": SHARED, "audiences": AUDIENCES, **options})

    return made


@pytest.fixture
async def host(make: Callable[..., LimitHost]) -> LimitHost:
    return make()


@contextmanager
def limited(dimension: str, scope: str, name: str = "") -> Iterator[pytest.ExceptionInfo[Any]]:
    with pytest.raises(RateLimitedError) as caught:
        yield caught
    data = caught.value.data
    assert (data["dimension"], data["scope"], data["scope_name"]) == (dimension, scope, name)
    assert caught.value.retry_after_ms is not None
    assert caught.value.retry_after_ms > 0


async def told(future: Awaitable[LimitReservation]) -> LimitReservation:
    return await asyncio.wait_for(future, 5)


# --- whose a limit is ---------------------------------------------------------------------------


async def test_a_limit_of_ones_own_is_made_by_its_first_rates_and_is_nobody_elses(
    host: LimitHost,
) -> None:
    ann, eve = host.connect(ANN), host.connect(EVE)
    with pytest.raises(NotFoundError, match="give its rates"):
        host.acquire(ann, "mine")
    host.acquire(ann, "mine", requests=10, rates=RATES)
    with limited("requests", "user", "1001"):
        host.acquire(ann, "mine")
    host.acquire(eve, "mine", requests=10, rates=RATES)
    assert host.left(ANN, "mine", "requests") == 0
    with pytest.raises(NotFoundError):
        host.peek(BOB, "mine")
    with pytest.raises(PermissionDeniedError, match="only an admin"):
        host.peek(EVE, "mine", uid=ANN.uid)
    assert host.peek(EVE, "mine", uid=ANN.uid, is_admin=True).uid == ANN.uid


async def test_other_rates_of_a_later_acquire_apply_from_then_on_and_what_is_owed_stays_owed(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "mine", requests=10, rates=RATES)
    wider = LimitRates(requests=LimitRate(limit=10, period_ms=1000, burst=100))
    with limited("requests", "user", "1001") as caught:
        host.acquire(ann, "mine", requests=100, rates=wider)
    assert caught.value.retry_after_ms == 10_000, "ten seconds are owed, at any rate"
    host.turn(100)
    host.acquire(ann, "mine")
    assert host.peek(ANN, "mine").budgets[0].burst == 100


@pytest.mark.parametrize(
    "rates",
    [
        LimitRates(),
        LimitRates(concurrency=0),
        LimitRates(requests=LimitRate(limit=0)),
        LimitRates(requests=LimitRate(limit=1, burst=0)),
        LimitRates(tokens=LimitRate(limit=1, period_ms=-1)),
        LimitRates(money_micros=LimitRate(limit=2**60)),
    ],
)
async def test_rates_that_are_none_are_refused(host: LimitHost, rates: LimitRates) -> None:
    with pytest.raises(InvalidParamsError, match="rates"):
        host.acquire(host.connect(ANN), "mine", rates=rates)
    with pytest.raises(NotFoundError):
        host.peek(ANN, "mine")


async def test_who_may_not_use_a_shared_limit_takes_nothing_of_it(host: LimitHost) -> None:
    eve = host.connect(EVE)
    for _ in range(20):
        with pytest.raises(PermissionDeniedError):
            host.acquire(eve, "plain", rates=RATES)
    with pytest.raises(PermissionDeniedError):
        host.peek(EVE, "plain")
    assert [
        each.name
        for each in host.service.administration.list(EVE, session="", is_admin=False).limits
    ] == []
    assert host.left(ANN, "plain", "requests") == 10


async def test_a_dimension_that_is_added_gives_back_from_the_first_settlement_on(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    plain = host.acquire(ann, "mine", tokens=900, rates=RATES)
    more = LimitRates(requests=RATES.requests, tokens=LimitRate(limit=1000, period_ms=3_600_000))
    host.settle(ann, host.acquire(ann, "mine", tokens=900, rates=more), tokens=412)
    assert host.left(ANN, "mine", "tokens") == 588
    host.settle(ann, plain, tokens=0)
    assert host.left(ANN, "mine", "tokens") == 588, "it was not charged"


@pytest.mark.parametrize("period_ms", [0, -1, 366 * 86_400_000 + 1])
async def test_a_period_that_cannot_be_is_told_in_the_callers_units(
    host: LimitHost, period_ms: int
) -> None:
    rates = LimitRates(tokens=LimitRate(limit=1, period_ms=period_ms))
    told_of = rf"period_ms has to be from 1 to 31622400000 .366 days., not {period_ms}$"
    with pytest.raises(InvalidParamsError, match=told_of):
        host.acquire(host.connect(ANN), "mine", rates=rates)


@pytest.mark.parametrize(
    ("cost", "told_of"),
    [
        ({"concurrency": 99}, "it asks for 99 slots, and uid 1001 has 2 in all: ask for fewer"),
        ({"tokens": 41}, "it asks for 41 tokens, and uid 1001 may take 40 at once"),
        ({"requests": 11}, "it asks for 11 requests, and uid 1001 may take 10 at once"),
        ({"money_micros": 2_500_000}, "it may cost 2.50 USD, and uid 1001 may spend 0.20 USD at"),
    ],
)
async def test_what_never_passes_is_told_in_the_words_of_what_is_limited(
    make: Callable[..., LimitHost], cost: dict[str, int], told_of: str
) -> None:
    user = Limit(
        requests=TEN,
        tokens=Rate(limit=10, burst=40),
        money=Rate(limit=200_000, period_ns=SECOND),
        concurrency=2,
    )
    host = make(shared={"all": rules(user=user)}, audiences={"all": Audience(everyone=True)})
    with pytest.raises(NeverPassesError, match=told_of):
        host.acquire(host.connect(ANN), "all", **cost)


async def test_who_has_no_slot_is_told_to_wait_and_the_time_stands_beside(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "openai", concurrency=2)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(ann, "openai")
    assert caught.value.message == (
        "the limit openai has no room now: no slot is free for uid 1001. Ask again later, or"
        ' wait for room: wait_ms (guard --wait 10s, Python wait="10s").'
    )
    assert caught.value.retry_after_ms == 1000


async def test_a_shared_limit_has_its_own_rates_whatever_a_caller_gives(host: LimitHost) -> None:
    more = LimitRates(requests=LimitRate(limit=1000))
    host.acquire(host.connect(ANN), "plain", requests=10, rates=more)
    with limited("requests", "host"):
        host.acquire(host.connect(BOB), "plain", rates=more)


# --- scopes and dimensions ----------------------------------------------------------------------


async def test_all_scopes_have_to_have_room_and_a_rejection_names_the_one_that_has_none(
    host: LimitHost,
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "openai", tokens=40)
    with limited("tokens", "user", "1001"):
        host.acquire(ann, "openai", tokens=1)
    assert host.left(BOB, "openai", "tokens") == 40
    with limited("tokens", "group", "students"):  # 20 of its 60 are left, 60 of the host's
        host.acquire(bob, "openai", tokens=30)
    host.acquire(bob, "openai", tokens=20)
    state = host.peek(BOB, "openai")
    assert {
        (each.scope, each.scope_name): each.available
        for each in state.budgets
        if each.dimension == "tokens"
    } == {
        ("host", ""): 40,
        ("group", "students"): 0,
        ("group", "staff"): 40,
        ("user", "1002"): 20,
    }


async def test_where_one_dimension_is_short_nothing_is_taken_of_any(host: LimitHost) -> None:
    ann = host.connect(ANN)
    for _ in range(2):
        host.acquire(ann, "openai", concurrency=1)
    with limited("concurrency", "user", "1001"):
        host.acquire(ann, "openai", tokens=30, concurrency=1)
    assert host.left(ANN, "openai", "tokens") == 40
    assert host.left(BOB, "openai", "requests") == 8


async def test_more_than_the_burst_is_an_error_and_no_wait(host: LimitHost) -> None:
    ann = host.connect(ANN)
    for wait_ms in (0, 1000):
        with pytest.raises(NeverPassesError) as caught:
            host.acquire(ann, "openai", tokens=61, wait_ms=wait_ms)
    assert caught.value.data["burst"] in {40, 60}
    with pytest.raises(InvalidParamsError):
        host.acquire(ann, "openai", tokens=-1)


async def test_each_key_and_session_has_a_budget_of_its_own(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "keyed", key="acme", requests=10, concurrency=0)
    with limited("requests", "key", "acme"):
        host.acquire(ann, "keyed", key="acme")
    host.acquire(ann, "keyed", key="other", requests=10, concurrency=0)
    host.acquire(ann, "keyed", concurrency=1, session="one")
    with limited("concurrency", "session", "one"):
        host.acquire(ann, "keyed", concurrency=1, session="one")
    host.acquire(ann, "keyed", concurrency=1, session="two")
    # Those who name no key share one.
    host.acquire(host.connect(BOB), "keyed", requests=8)
    with limited("requests", "key", ""):
        host.acquire(ann, "keyed")
    for key in ("", "x" * 129, "a\nb"):
        with pytest.raises(InvalidParamsError, match="key"):
            host.acquire(ann, "keyed", key=key)
        with pytest.raises(InvalidParamsError, match="key"):
            host.peek(ANN, "keyed", key=key)
        # What is told of in an event is bounded, whoever asks.
        with pytest.raises(InvalidParamsError, match="key"):
            host.reset(User(0), "keyed", key=key, is_admin=True)


# --- reserve and settle -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "openai"])
async def test_settling_more_pushes_the_next_callers_and_less_is_given_back(
    host: LimitHost, name: str
) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, name)
    assert host.settle(ann, number, requests=14)
    with limited("requests", "host") as caught:
        host.acquire(ann, name)
    assert caught.value.retry_after_ms == 5000
    host.turn(100_000)
    number = host.acquire(ann, name)
    assert host.left(ANN, "plain" if name == "plain" else name, "requests") == 9
    host.settle(ann, number, requests=0)
    assert host.left(ANN, name, "requests") == 10


async def test_a_reservation_is_settled_once_and_by_its_own_connection_alone(
    host: LimitHost,
) -> None:
    ann, beside, bob = host.connect(ANN), host.connect(ANN), host.connect(BOB)
    host.acquire(bob, "plain")
    for number in (host.acquire(ann, "plain"), host.acquire(ann, "openai", tokens=10)):
        for stranger in (beside, bob):
            assert not host.settle(stranger, number, requests=1000)
        assert host.settle(ann, number)
        assert not host.settle(ann, number, requests=1000)
    assert host.left(BOB, "plain", "requests") == 8


async def test_what_one_says_it_used_keeps_others_out_no_longer_than_a_block(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    for name in ("plain", "openai"):
        host.settle(ann, host.acquire(ann, name), requests=2**53)
        with limited("requests", "host") as caught:
            host.acquire(host.connect(BOB), name)
        # It took one of ten, and one is asked for: the rest of ten is paid back meanwhile.
        assert caught.value.retry_after_ms == 592_000
    number = host.acquire(ann, "keyed")
    with pytest.raises(InvalidParamsError):
        host.settle(ann, number, requests=2**53 + 1)
    assert host.settle(ann, number)


@pytest.mark.parametrize("scope", ["host", "key"])
async def test_a_caller_that_settles_more_than_it_reserved_takes_half_a_long_rate_at_most(
    make: Callable[..., LimitHost], scope: Any
) -> None:
    month = 30 * 86_400 * SECOND
    limit = Limit(tokens=Rate(limit=1000, period_ns=month))
    shared = {"all": rules(**{scope: limit})}
    host = make(shared=shared, audiences={"all": Audience(everyone=True)})
    ann, bob = host.connect(ANN), host.connect(BOB)
    for counted in (500, 0):
        number = host.acquire(ann, "all", key="acme", tokens=10)
        over = 2**53 - 10
        answer = host.settled(ann, number, tokens=2**53)
        assert answer["not_counted"]["tokens"] == over - counted
    told = [e for e in host.events.recent(9) if e.type == "limit.overshot"]
    assert [(e.uid, e.data["name"], e.data["tokens"]) for e in told] == [
        (1001, "all", over - 500),
        (1001, "all", over),
    ]
    # What it was admitted to is none of it.
    host.acquire(bob, "all", key="acme", tokens=480)
    with limited("tokens", scope, "acme" if scope == "key" else ""):
        host.acquire(bob, "all", key="acme", tokens=1)
    # It grows back at half of the rate: after half a month there is a quarter.
    host.now += month // 2
    number = host.acquire(ann, "all", key="acme", tokens=0)
    assert host.settled(ann, number, tokens=300)["not_counted"]["tokens"] == 50
    host.now += month
    host.turn(11_000)
    named = next(iter(host.service._registry.limits.values()))
    host.service._registry.sweep()
    assert named.rate_overshoots._by_user == {}


async def test_what_is_settled_beyond_a_reservation_counts_in_full_for_its_user_alone(
    make: Callable[..., LimitHost],
) -> None:
    hour = 3600 * SECOND
    own = Limit(tokens=Rate(limit=1000, period_ns=hour))
    shared = {"all": rules(user=own, host=Limit(tokens=Rate(limit=2000, period_ns=hour)))}
    host = make(shared=shared, audiences={"all": Audience(everyone=True)})
    ann, bob = host.connect(ANN), host.connect(BOB)
    number = host.acquire(ann, "all")
    assert host.settled(ann, number, tokens=900) == {"settled": True, "not_counted": None}
    assert host.left(ANN, "all", "tokens") == 100
    host.acquire(bob, "all", tokens=1000)
    # Its own budget keeps it out no longer than a block, once it has grown back.
    host.settle(ann, host.acquire(ann, "all"), tokens=2**53)
    host.now += hour
    with limited("tokens", "user", "1001") as caught:
        host.acquire(ann, "all", tokens=1000)
    assert caught.value.retry_after_ms == 600_000


async def test_a_limit_of_ones_own_is_kept_by_no_settlement_for_more_than_a_year(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    rates = LimitRates(tokens=LimitRate(limit=1, period_ms=86_400_000))
    host.settle(ann, host.acquire(ann, "mine", rates=rates), tokens=2**53)
    with limited("tokens", "user", "1001") as caught:
        host.acquire(ann, "mine", tokens=1, rates=rates)
    assert caught.value.retry_after_ms == (366 + 1) * 86_400_000


async def test_who_names_no_slots_takes_one_where_the_limit_has_any(host: LimitHost) -> None:
    ann = host.connect(ANN)
    first, _ = (host.acquire(ann, "openai") for _ in range(2))
    with limited("concurrency", "user", "1001"):
        host.acquire(ann, "openai")
    host.acquire(ann, "openai", concurrency=0)
    waiter = host.wait(ann, "openai")
    host.settle(ann, first)
    host.turn()
    assert (await told(waiter)).waited_ms == 0
    assert host.left(ANN, "openai", "concurrency") == 0
    host.disconnect(ann)
    assert host.left(ANN, "openai", "concurrency") == 2


async def test_a_limit_of_ones_own_that_gets_slots_has_them_taken_over_every_connection(
    host: LimitHost,
) -> None:
    ann, beside = host.connect(ANN), host.connect(ANN)
    host.acquire(beside, "mine", rates=RATES)
    host.acquire(ann, "mine", rates=LimitRates(requests=RATES.requests, concurrency=1))
    with limited("concurrency", "user", "1001"):
        host.acquire(beside, "mine")


async def test_who_never_settles_a_limit_without_slots_keeps_nothing(
    make: Callable[..., LimitHost],
) -> None:
    host = make(bounds=LimitBounds(reservations_per_connection=3))
    ann = host.connect(ANN)
    for _ in range(9):
        host.acquire(ann, "plain")
    with limited("requests", "host"):
        for _ in range(2):
            host.acquire(ann, "plain")


async def test_a_slot_is_free_when_its_request_is_settled_or_its_connection_ends(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    first, _ = (host.acquire(ann, "openai", concurrency=1, tokens=5) for _ in range(2))
    host.settle(ann, first)
    assert host.left(ANN, "openai", "concurrency") == 1
    host.disconnect(ann)
    assert host.left(ANN, "openai", "concurrency") == 2
    assert host.left(ANN, "openai", "tokens") == 30, "what it used is not known: it counts"
    assert host.peek(ANN, "openai").reservations == 0


async def test_numbers_are_of_another_range_in_each_life(host: LimitHost) -> None:
    before = host.acquire(host.connect(ANN), "plain")
    host.end(final=True)
    host.start()
    after = host.acquire(host.connect(ANN), "plain")
    assert before >> 32 != after >> 32
    assert max(before, after) < 2**53


# --- what the far side says ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "openai"])
async def test_a_retry_after_blocks_all_capped_and_never_shortened(
    host: LimitHost, name: str
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    one, two, three = (host.acquire(ann, name, concurrency=0) for _ in range(3))
    host.settle(ann, one, retry_after_ms=60_000)
    with limited("requests", "host") as caught:
        host.acquire(bob, name)
    assert (caught.value.retry_after_ms, caught.value.data["blocked"]) == (60_000, True)
    host.settle(ann, two, retry_after_ms=10)
    host.settle(ann, three, retry_after_ms=10**18)
    with limited("requests", "host") as caught:
        host.acquire(bob, name)
    assert caught.value.retry_after_ms == 600_000
    told_of = [each for each in host.events.recent(10) if each.type == "limit.blocked"]
    assert len(told_of) == 1, "once, not with each request"
    assert told_of[0].data["by_uid"] == ANN.uid, "who reported it, for an admin to see"


async def test_one_whose_own_limit_changes_at_request_rate_is_told_of_by_a_count(
    host: LimitHost,
) -> None:
    """Blocks and resets together; of what is shared, each is told."""
    ann = host.connect(ANN)
    rates = LimitRates(requests=LimitRate(limit=10**6, period_ms=1000))
    for _ in range(300):
        own = host.acquire(ann, "mine", rates=rates)
        host.settle(ann, own, retry_after_ms=1000)
        host.reset(ANN, "mine")
        host.reset(User(0), "openai", is_admin=True)
    told = [(each.type, each.uid) for each in host.events.recent(4096)]
    assert told.count(("limit.reset", None)) == 300
    assert told.count(("limit.blocked", ANN.uid)) == told.count(("limit.reset", ANN.uid)) == 100
    host.now += SECOND
    host.reset(ANN, "mine")
    assert host.events.recent(1)[0].data["left_out"] == 400


async def test_what_the_far_side_has_left_only_ever_lowers(host: LimitHost) -> None:
    ann = host.connect(ANN)
    one, two = (host.acquire(ann, "openai") for _ in range(2))
    host.settle(ann, one, remaining=LimitRemaining(requests=3, tokens=500))
    assert host.left(BOB, "openai", "requests") == 3
    host.settle(ann, two, requests=0, remaining=LimitRemaining(requests=1000))
    assert host.left(BOB, "openai", "requests") == 3, "what the far side counted is not given back"
    host.settle(
        ann,
        host.acquire(ann, "openai"),
        remaining=LimitRemaining(tokens=0, tokens_reset_ms=30_000),
    )
    with limited("tokens", "host") as caught:
        host.acquire(host.connect(BOB), "openai", tokens=1)
    assert caught.value.retry_after_ms == 30_000
    host.acquire(host.connect(BOB), "openai")


async def test_a_plain_reservation_from_before_a_signal_is_given_nothing_back(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    before, telling = host.acquire(ann, "plain"), host.acquire(ann, "plain")
    host.settle(ann, telling, remaining=LimitRemaining(requests=5))
    host.turn(100)
    host.settle(ann, before, requests=0)
    assert host.left(ANN, "plain", "requests") == 5
    host.turn(1)
    host.settle(ann, host.acquire(ann, "plain"), requests=0)
    assert host.left(ANN, "plain", "requests") == 5


async def test_who_waits_for_the_end_of_a_block_is_before_who_comes_then(host: LimitHost) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.settle(ann, host.acquire(ann, "plain"), retry_after_ms=5000)
    future = host.wait(ann, "plain")
    host.now += 5 * SECOND
    with limited("requests", "host"):
        host.acquire(bob, "plain")
    host.turn(0)
    assert (await told(future)).waited_ms == 5000


async def test_who_has_settled_already_cannot_block_anybody(host: LimitHost) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "plain")
    host.settle(ann, number)
    host.settle(ann, number, retry_after_ms=60_000)
    host.acquire(host.connect(BOB), "plain")


# --- waiting ------------------------------------------------------------------------------------


async def test_waiters_are_served_in_the_order_of_arrival_and_a_newcomer_passes_nobody(
    host: LimitHost,
) -> None:
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "plain", requests=10)
    first = host.wait(ann, "plain", requests=3)
    second = host.wait(bob, "plain")
    host.turn(2000)
    with limited("requests", "host"):  # a small one does not starve the big one before it
        host.acquire(bob, "plain")
    assert not first.done()  # type: ignore[attr-defined]
    host.turn(1000)
    assert (await told(first)).waited_ms == 3000
    assert not second.done()  # type: ignore[attr-defined]
    host.turn(1000)
    granted = await told(second)
    assert granted.waited_ms == 4000
    assert host.settle(bob, granted.reservation)


async def test_a_wait_ends_at_its_deadline_with_the_reason(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    late = host.wait(ann, "plain", requests=5, wait_ms=2000)
    behind = host.wait(ann, "plain", wait_ms=2000)
    host.turn(2000)
    for future in (late, behind):
        with limited("requests", "host"):
            await told(future)
    host.turn(0)
    host.acquire(ann, "plain")
    assert host.peek(ANN, "plain").waiters == 0


async def test_no_wait_is_longer_than_the_longest(make: Callable[..., LimitHost]) -> None:
    host = make(bounds=LimitBounds(longest_wait_ns=3 * SECOND))
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    future = host.wait(ann, "plain", requests=5, wait_ms=10**12)
    host.turn(3000)
    with limited("requests", "host"):
        await told(future)


async def test_a_waiter_whose_request_is_cancelled_leaves_the_line(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    first, second = host.wait(ann, "plain", requests=9), host.wait(ann, "plain")
    first.cancel()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    host.turn(1000)
    assert (await told(second)).waited_ms == 1000


async def test_a_grant_to_a_request_that_was_cancelled_just_now_is_undone(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    future = host.wait(ann, "plain")
    host.now += SECOND
    future.cancel()  # type: ignore[attr-defined]
    host.turn(0)  # before the loop has told of the cancellation
    await asyncio.sleep(0)
    assert host.left(ANN, "plain", "requests") == 1
    assert host.peek(ANN, "plain").reservations == 1
    assert host.peek(ANN, "plain").waiters == 0


async def test_waiters_of_a_connection_that_ends_leave_and_its_slots_go_to_the_next(
    host: LimitHost,
) -> None:
    ann, beside = host.connect(ANN), host.connect(ANN)
    for _ in range(2):
        host.acquire(ann, "openai", concurrency=1)
    gone = host.wait(ann, "openai", concurrency=1)
    stays = host.wait(beside, "openai", concurrency=1)
    host.disconnect(ann)
    with pytest.raises(CancelledRequestError):
        await told(gone)
    host.turn(0)
    await told(stays)
    assert host.peek(ANN, "openai").reservations == 1


async def test_a_settled_slot_goes_to_the_next_within_a_turn_of_the_loop(host: LimitHost) -> None:
    ann = host.connect(ANN)
    numbers = [host.acquire(ann, "openai", concurrency=1) for _ in range(2)]
    waiting = [host.wait(ann, "openai", concurrency=1) for _ in range(2)]
    for number in numbers:
        host.settle(ann, number)
    # The real timer, not the test's.
    await asyncio.gather(*map(told, waiting))


async def test_a_limit_made_smaller_lets_nobody_wait_in_vain(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "mine", requests=10, rates=RATES)
    future = host.wait(ann, "mine", requests=8)
    smaller = LimitRates(requests=LimitRate(limit=1, burst=5))
    with limited("requests", "user", "1001"):
        host.acquire(ann, "mine", rates=smaller)
    host.turn(0)
    with pytest.raises(NeverPassesError):
        await told(future)


# --- bounds -------------------------------------------------------------------------------------


async def test_names_of_one_user_are_bounded_and_idle_ones_make_room(
    make: Callable[..., LimitHost],
) -> None:
    host = make(bounds=LimitBounds(names_per_uid=2))
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "one", rates=RATES)
    host.acquire(ann, "two", rates=RATES)
    with pytest.raises(BusyError) as caught:
        host.acquire(ann, "three", rates=RATES)
    assert caught.value.data["limit"] == "names_per_uid"
    host.acquire(bob, "three", rates=RATES)
    host.disconnect(ann)
    ann = host.connect(ANN)
    host.turn(1000)
    host.acquire(ann, "three", rates=RATES)
    with pytest.raises(NotFoundError, match="give its rates"):
        host.acquire(ann, "one")


@pytest.fixture
def wide(make: Callable[..., LimitHost]) -> LimitHost:
    bounds = LimitBounds(
        reservations_per_connection=3,
        reservations_per_uid=5,
        slot_reservations_per_connection=20,
        slot_reservations_per_uid=25,
    )
    shared = {
        "wide": rules(host=Limit(concurrency=100)),
        "plain": SHARED["plain"],
        "paid": LimitRules(
            scopes={"host": ScopeRules(limit=Limit(requests=TEN), caps_micros={"day": 1000})}
        ),
    }
    return make(bounds=bounds, shared=shared, audiences=dict.fromkeys(shared, AUDIENCES["plain"]))


async def test_the_oldest_reservation_of_a_connection_without_a_slot_makes_room(
    wide: LimitHost,
) -> None:
    ann = wide.connect(ANN)
    slots = [wide.acquire(ann, "wide") for _ in range(20)]
    first, *rest = (wide.acquire(ann, "plain") for _ in range(3))
    # Whatever keeps slots is older, and none of it goes.
    last = wide.acquire(ann, "plain")
    assert not wide.settle(ann, first, requests=0)
    # It was settled as reserved: its charge stands.
    assert wide.left(ANN, "plain", "requests") == 6
    assert all(wide.settle(ann, number) for number in (*slots, *rest, last))


async def test_a_user_with_all_its_reservations_open_still_gets_room_over_a_new_connection(
    wide: LimitHost,
) -> None:
    ann, beside = wide.connect(ANN), wide.connect(ANN)
    numbers = [wide.acquire(each, "plain") for each in (beside, ann, ann, beside, beside)]
    for _ in range(3):
        wide.acquire(wide.connect(ANN), "wide", concurrency=0)
    # The oldest of all its connections went, one for each.
    settled = [wide.settle(beside, n) or wide.settle(ann, n) for n in numbers]
    assert settled == [False, False, False, True, True]
    assert wide.service._registry.account(1001).reservations == 3


async def test_no_other_user_makes_room(wide: LimitHost) -> None:
    bob, ann = wide.connect(BOB), wide.connect(ANN)
    kept = wide.acquire(bob, "plain")
    for _ in range(9):
        wide.acquire(ann, "wide", concurrency=0)
    assert wide.settle(bob, kept)


async def test_money_that_is_to_be_settled_makes_room_last_and_stays_spent(
    wide: LimitHost,
) -> None:
    ann = wide.connect(ANN)
    paid = [wide.acquire(ann, "paid", money_micros=10) for _ in range(3)]
    plain = [wide.acquire(ann, "plain") for _ in range(2)]
    wide.acquire(ann, "plain")
    assert not wide.settle(ann, plain[0])
    # A fourth of money over this connection, and one where nothing else is left of the user.
    last = wide.acquire(ann, "paid", money_micros=10)
    assert not wide.settle(ann, paid[0], money_micros=0)
    beside = wide.connect(ANN)
    for _ in range(3):
        wide.acquire(beside, "paid", money_micros=10)
    assert wide.service._registry.account(1001).reservations == 5
    wide.acquire(wide.connect(ANN), "paid")
    assert not any(wide.settle(ann, number, money_micros=0) for number in paid)
    assert wide.settle(ann, last, money_micros=0)
    assert wide.on_disk()["paid", "host", "", "day"][1] == 60


@pytest.mark.parametrize(("count", "of"), [(20, "connection"), (5, "uid")])
async def test_what_keeps_slots_is_bounded_and_a_refusal_says_what_to_do(
    wide: LimitHost, count: int, of: str
) -> None:
    ann, beside = wide.connect(ANN), wide.connect(ANN)
    kept = [wide.acquire(ann, "wide") for _ in range(20)]
    for _ in range(0 if of == "connection" else count):
        wide.acquire(beside, "wide")
    asker = ann if of == "connection" else beside
    with pytest.raises(BusyError, match="settle each when its request has ended") as caught:
        wide.acquire(asker, "wide")
    assert caught.value.data["limit"] == f"slot_reservations_per_{of}"
    assert caught.value.retry_after_ms
    wide.acquire(asker, "plain")
    wide.acquire(wide.connect(BOB), "wide")
    assert wide.settle(ann, kept[0])
    wide.acquire(asker, "wide")


async def test_many_that_are_never_settled_are_found_by_age_a_few_at_a_time(
    make: Callable[..., LimitHost],
) -> None:
    bounds = LimitBounds(reservations_per_connection=300, reservations_per_uid=600)
    host = make(bounds=bounds)
    rates = LimitRates(requests=LimitRate(limit=10**6))
    connections = [host.connect(ANN) for _ in range(3)]
    numbers = [host.acquire(connections[n % 3], "mine", rates=rates) for n in range(600)]
    # Some of those that were found are settled meanwhile.
    host.acquire(connections[0], "mine", rates=rates)
    assert all(host.settle(connections[n % 3], numbers[n]) for n in range(1, 200))
    for n in range(599):
        host.acquire(connections[n % 3], "mine", rates=rates)
    assert host.service._registry.account(1001).reservations == 600
    left = [n for n in range(200, 600) if host.settle(connections[n % 3], numbers[n])]
    assert left == [], "the oldest went first"


async def test_waiters_of_one_user_are_bounded(make: Callable[..., LimitHost]) -> None:
    host = make(bounds=LimitBounds(waiters_per_uid=2))
    ann, bob = host.connect(ANN), host.connect(BOB)
    host.acquire(ann, "plain", requests=10)
    waiting = [host.wait(ann, "plain") for _ in range(2)]
    with pytest.raises(BusyError) as caught:
        host.wait(ann, "plain")
    assert caught.value.data["limit"] == "waiters_per_uid"
    host.wait(bob, "plain")
    host.turn(1000)
    await told(waiting[0])
    host.wait(ann, "plain")


async def test_keys_of_one_user_are_bounded_until_they_are_idle(
    make: Callable[..., LimitHost],
) -> None:
    host = make(bounds=LimitBounds(keys_per_uid=3))
    ann = host.connect(ANN)
    host.acquire(ann, "keyed", key="a", concurrency=0)
    host.acquire(ann, "keyed", key="b", concurrency=0)
    with pytest.raises(BusyError) as caught:
        host.acquire(ann, "keyed", key="c")
    assert caught.value.data["limit"] == "keys_per_uid"
    host.acquire(host.connect(BOB), "keyed", key="c")
    host.disconnect(ann)
    host.turn(11_000)
    host.acquire(host.connect(ANN), "keyed", key="d")


# --- looked at and changed ----------------------------------------------------------------------


async def test_a_reset_is_for_the_owner_or_of_a_shared_limit_for_admins(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    host.acquire(ann, "mine", requests=10, rates=RATES)
    with pytest.raises(PermissionDeniedError, match="only an admin"):
        host.reset(ANN, "plain")
    with pytest.raises(SuperezioError):
        host.reset(EVE, "mine")
    host.reset(ANN, "mine")
    host.reset(EVE, "plain", is_admin=True)
    waiting = host.left(ANN, "plain", "requests"), host.left(ANN, "mine", "requests")
    assert waiting == (10, 10)


async def test_a_reset_lets_those_pass_who_wait_and_frees_nobodys_slot(host: LimitHost) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "openai", requests=10, concurrency=2)
    future = host.wait(ann, "openai", concurrency=0)
    host.reset(ANN, "openai", is_admin=True)
    host.turn(0)
    await told(future)
    assert host.left(ANN, "openai", "concurrency") == 0
    host.settle(ann, number, requests=0)
    assert host.left(ANN, "openai", "requests") == 9, "what it took was given back already"


async def test_another_configuration_applies_at_once_and_what_is_owed_stays_owed(
    host: LimitHost,
) -> None:
    ann, eve = host.connect(ANN), host.connect(EVE)
    host.acquire(ann, "plain", requests=10)
    wider = {
        **SHARED,
        "plain": rules(host=Limit(requests=Rate(limit=1, period_ns=SECOND, burst=15))),
    }
    host.service.configure(wider, {**AUDIENCES, "plain": Audience(everyone=True)}, LimitBounds())
    host.acquire(eve, "plain", requests=5)
    with limited("requests", "host"):
        host.acquire(ann, "plain")


async def test_a_limit_that_is_shared_no_more_is_each_ones_own(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=10)
    future = host.wait(ann, "plain")
    host.service.configure({}, {}, LimitBounds())
    host.turn(0)
    await told(future)
    with pytest.raises(NotFoundError, match="give its rates"):
        host.acquire(ann, "plain")
    host.acquire(ann, "plain", requests=10, rates=RATES)
    assert host.peek(ANN, "plain").uid == ANN.uid


async def test_idle_budgets_are_forgotten_and_found_again(host: LimitHost) -> None:
    ann = host.connect(ANN)
    number = host.acquire(ann, "plain")
    host.turn(11_000)
    host.settle(ann, number, requests=11)
    assert host.left(ANN, "plain", "requests") == 0, "a budget in use is not forgotten"
    host.turn(30_000)
    host.turn(30_000)
    host.acquire(ann, "plain", requests=10)
    with limited("requests", "host"):
        host.acquire(host.connect(BOB), "plain")


# --- restarts -----------------------------------------------------------------------------------


async def test_a_limit_of_ones_own_that_is_idle_for_long_is_forgotten(
    make: Callable[..., LimitHost],
) -> None:
    host = make(bounds=LimitBounds(forget_after_ns=60 * SECOND))
    ann = host.connect(ANN)
    for name in ("idle", "slots", "debt", "asked"):
        host.acquire(ann, name, rates=LimitRates(requests=LimitRate(limit=10)))
    host.disconnect(ann)
    ann = host.connect(ANN)
    slots = LimitRates(concurrency=1)
    host.acquire(ann, "slots", rates=slots)
    debt = LimitRates(requests=LimitRate(limit=1, period_ms=3_600_000))
    host.acquire(host.connect(BOB), "debt", rates=debt)
    beside = host.connect(ANN)
    for _ in range(7):
        host.turn(10_001)
        host.settle(beside, host.acquire(beside, "asked"), requests=0)
    left = {(o.owner, o.name) for o in host.service._registry.limits if o.owner is not None}
    assert left == {(1001, "slots"), (1001, "asked"), (1002, "debt")}
    assert host.service._registry.account(1001).names == 2
    with pytest.raises(NotFoundError, match="give its rates"):
        host.acquire(ann, "idle")
    # It is not found again after a restart either.
    host.keep()
    host.end(final=True)
    host.start()
    with pytest.raises(NotFoundError, match="give its rates"):
        host.acquire(host.connect(ANN), "idle")
    host.acquire(host.connect(ANN), "asked")


async def test_what_is_idle_is_forgotten_in_small_steps(
    make: Callable[..., LimitHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supereziod.resilience.limit_registry._SWEPT_AT_ONCE", 8)
    host = make(bounds=LimitBounds(forget_after_ns=5 * SECOND))
    ann = host.connect(ANN)
    for number in range(20):
        host.acquire(ann, f"own-{number}", rates=RATES)
        host.acquire(ann, "keyed", key=str(number), concurrency=0)
    host.disconnect(ann)
    registry = host.service._registry

    def there() -> int:
        keys = registry.limits[Owned(None, "keyed")].limiter.budget_count
        return keys + sum(each.owner is not None for each in registry.limits)

    before, steps = there(), []
    host.turn(10_001)
    while there() < before:
        steps.append(before - there())
        before = there()
        host.turn(50)
    assert before == 0
    assert all(0 < step <= 8 for step in steps)
    host.turn(10_001)
    host.turn(50)
    assert registry._keys == 0


async def test_what_a_signal_made_final_is_forgotten_with_its_budget(
    make: Callable[..., LimitHost],
) -> None:
    host = make(
        shared={"keyed": rules(key=Limit(requests=TEN))},
        audiences={"keyed": Audience(everyone=True)},
    )
    ann = host.connect(ANN)
    for key in ("a", "b"):
        number = host.acquire(ann, "keyed", key=key)
        host.settle(ann, number, remaining=LimitRemaining(requests=0))
    named = host.service._registry.limits[Owned(None, "keyed")]
    assert named.final_by_scope
    host.disconnect(ann)
    host.now += 100 * SECOND
    host.turn(10_001)
    assert named.final_by_scope == {}


async def test_an_admin_is_told_of_how_many_scopes_nothing_is_shown_and_sees_the_rest(
    make: Callable[..., LimitHost],
) -> None:
    shared = {"keyed": rules(key=Limit(requests=TEN))}
    host = make(shared=shared, audiences={"keyed": Audience(everyone=True)})
    ann = host.connect(ANN)
    for number in range(450):
        host.acquire(ann, "keyed", key=f"k{number}")
    (state,) = host.service.administration.list(User(0), session="", is_admin=True).limits
    assert (len(state.budgets), state.left_out) == (200, 250)
    seen = [each.scope_name for each in state.budgets]
    for skip, left_out in ((200, 50), (400, 0)):
        state = host.peek(User(0), "keyed", is_admin=True, skip=skip)
        assert state.left_out == left_out
        seen += [each.scope_name for each in state.budgets]
    assert sorted(seen) == sorted(f"k{number}" for number in range(450))
    (own,) = host.service.administration.list(BOB, session="", is_admin=False).limits
    assert own.left_out == 0


async def test_a_restart_in_order_forgets_nothing_that_is_owed(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=8)
    host.acquire(ann, "mine", requests=8, rates=RATES)
    host.end(final=True)
    host.now += 3 * SECOND
    host.start()
    assert host.left(ANN, "plain", "requests") == 5
    host.acquire(host.connect(ANN), "mine", requests=5)  # its rates are remembered with the name
    assert host.left(BOB, "openai", "requests") == 10


async def test_no_sudden_end_gives_a_fresh_burst(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "plain", requests=2)
    host.settle(ann, host.acquire(ann, "openai"), retry_after_ms=60_000)
    host.keep()
    host.acquire(ann, "plain", requests=8)  # after the last snapshot
    host.end(final=False)
    host.start()
    ann = host.connect(ANN)
    for name in ("plain", "keyed"):
        with limited("requests", "host" if name == "plain" else "key"):
            host.acquire(ann, name)
    with limited("requests", "host") as caught:
        host.acquire(ann, "openai")
    assert (caught.value.retry_after_ms, caught.value.data["blocked"]) == (60_000, True)
    host.turn(1000)
    host.acquire(ann, "plain")


async def test_a_life_that_ended_suddenly_before_its_first_second_gives_none_either(
    host: LimitHost,
) -> None:
    host.end(final=True)
    host.start()
    host.acquire(host.connect(ANN), "plain", requests=10)
    host.end(final=False)
    host.start()
    with limited("requests", "host"):
        host.acquire(host.connect(ANN), "plain")


async def test_a_life_that_could_not_write_gives_no_fresh_burst_nor_does_the_next(
    host: LimitHost,
) -> None:
    host.end(final=True)
    other = sqlite3.connect(host.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    host.start()
    with limited("requests", "host"):
        host.acquire(host.connect(ANN), "plain")
    host.now += 1000 * SECOND
    host.acquire(host.connect(ANN), "plain", requests=10)
    host.end(final=False)
    other.close()
    host.start()
    with limited("requests", "host"):
        host.acquire(host.connect(ANN), "plain")


async def test_much_is_written_a_slice_at_a_time_and_says_what_it_would_at_once(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    for number in range(10 * SLICE):
        host.acquire(ann, "keyed", key=str(number), concurrency=0)
    host.acquire(ann, "mine", rates=RATES)
    *rest, body = host.service.slices()
    assert rest == [None] * 10
    assert body is not None
    told = json.loads(body)
    assert [len(each["budgets"]) for each in told["limits"] if each["name"] == "keyed"] == [1000]
    assert list(host.service.slices()) == [], "nothing is new"
    at_once = json.loads(host.service.snapshot(final=True) or b"")
    assert told.pop("final") is False
    assert at_once.pop("final") is True
    assert at_once == told


async def test_what_comes_between_two_slices_is_in_a_later_one_or_the_next_document(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    for number in range(3 * SLICE):
        host.acquire(ann, "keyed", key=str(number), concurrency=0)
    slices = host.service.slices()
    assert next(slices) is None
    host.acquire(ann, "mine", rates=RATES, requests=9)
    host.acquire(ann, "keyed", key="0", requests=9, concurrency=0)
    host.acquire(ann, "keyed", key="new", concurrency=0)
    assert json.loads([*slices][-1] or b"")["limits"]
    host.now += 3600 * SECOND
    host.acquire(ann, "mine", rates=RATES, requests=9)
    host.now += 1
    assert host.service.snapshot(final=False) is not None, "there is news again"
    host.end(final=False)
    host.start()
    with limited("requests", "key", "0"):
        host.acquire(host.connect(ANN), "keyed", key="0")


async def test_what_is_taken_up_between_two_slices_after_a_restart_is_not_lost(
    tmp_path: Path,
) -> None:
    """The far side's block is kept over a second sudden end, whoever asks while it is written."""
    of_keys = ScopeRules(limit=Limit(requests=Rate(limit=10, period_ns=60 * SECOND)))
    host = LimitHost(
        tmp_path,
        shared={"keys": LimitRules(scopes={"key": of_keys})},
        audiences={"keys": Audience(everyone=True)},
    )
    ann = host.connect(ANN)
    blocked = host.acquire(ann, "keys", key="blocked")
    host.settle(ann, blocked, retry_after_ms=500_000)
    host.keep()
    host.end(final=False)
    host.now += SECOND
    host.start()
    host.now += 60 * SECOND
    ann = host.connect(ANN)
    for number in range(2 * SLICE):
        host.acquire(ann, "keys", key=str(number))
    slices = host.service.slices()
    assert next(slices) is None
    with limited("requests", "key", "blocked"):
        host.acquire(ann, "keys", key="blocked")
    (told,) = json.loads([*slices][-1] or b"")["limits"]
    assert "blocked" in [each["scope"]["name"] for each in told["budgets"]]
    host.end(final=True)


async def test_a_first_start_begins_with_all(host: LimitHost) -> None:
    assert host.left(ANN, "plain", "requests") == 10
    assert not [each for each in host.events.recent(10) if each.type == "limit.state_lost"]


@pytest.mark.parametrize(
    ("boot_id", "final", "reason", "severity"),
    [
        ("boot", False, "sudden_end", "warning"),
        ("another", True, "another_boot", "info"),
        ("another", False, "another_boot", "info"),
    ],
)
async def test_that_limits_begin_with_nothing_is_told_once_and_shown_while_it_matters(
    host: LimitHost, *, boot_id: str, final: bool, reason: str, severity: str
) -> None:
    host.acquire(host.connect(ANN), "plain")
    assert host.peek(ANN, "plain").note is None
    host.end(final=final)
    host.boot_id = boot_id
    host.start()
    (told_of,) = [each for each in host.events.recent(10) if each.type == "limit.restarted"]
    assert (told_of.data["reason"], told_of.severity) == (reason, severity)
    host.acquire(host.connect(ANN), "first", rates=RATES, requests=0)
    host.turn(3000)
    for name in ("plain", "first"):
        note = host.peek(ANN, name).note
        assert note is not None
        assert "began with nothing 3s ago" in note
        assert "again in 7s" in note
        assert f"`superezioctl limit reset {name}`" in note
    host.reset(ANN, "first")
    assert host.peek(ANN, "first").note is None
    host.turn(7000)
    host.acquire(host.connect(ANN), "plain", requests=10)
    assert host.peek(ANN, "plain").note is None, "what is missing now was granted since"


async def test_who_needs_no_limit_is_told_that_there_is_none_and_goes_on(host: LimitHost) -> None:
    ann = host.connect(ANN)
    asked = host.asked(ann)
    answer = host.service.requests.acquire(asked, LimitAcquireParams(name="none", if_exists=True))
    told = msgspec.json.decode(answer or b"", type=LimitReservation)
    assert (told.absent, told.reservation, asked.came_to) == (True, 0, "unlimited")
    assert not host.settle(ann, told.reservation)
    with pytest.raises(NotFoundError):
        host.acquire(ann, "none")
    with pytest.raises(InvalidParamsError):
        host.acquire(ann, "no name!", if_exists=True)
    assert host.acquire(ann, "none", if_exists=True, rates=RATES), "its rates make it"
    assert host.acquire(ann, "none", if_exists=True, requests=9)
    with limited("requests", "user", str(ANN.uid)):
        host.acquire(ann, "none", if_exists=True)
    host.acquire(ann, "plain", if_exists=True)


@pytest.mark.parametrize("wait_ms", [0, 500])
async def test_who_is_refused_for_how_a_limit_began_is_told_so_and_what_ends_it(
    host: LimitHost, wait_ms: int
) -> None:
    host.acquire(host.connect(ANN), "plain")
    host.end(final=False)
    host.start()
    ann = host.connect(ANN)
    host.acquire(ann, "first", rates=RATES, requests=0)
    host.turn(3000)
    for name, who in (("plain", "an admin has"), ("first", "you have")):
        if wait_ms:
            waiting = host.wait(ann, name, requests=9, wait_ms=wait_ms)
            host.turn(wait_ms)
            with pytest.raises(RateLimitedError) as caught:
                await waiting
        else:
            with pytest.raises(RateLimitedError) as caught:
                host.acquire(ann, name, requests=9)
        assert "ago: the daemon had ended without writing down all that was granted. All is" in (
            str(caught.value)
        )
        assert f"once {who} run `superezioctl limit reset {name}`" in str(caught.value)
    host.reset(ANN, "first")
    host.acquire(ann, "first", requests=9)
    with pytest.raises(RateLimitedError) as caught:
        host.acquire(ann, "first", requests=9)
    assert "began" not in str(caught.value)


async def test_an_orderly_restart_has_nothing_to_tell(host: LimitHost) -> None:
    host.acquire(host.connect(ANN), "plain")
    host.end(final=True)
    host.start()
    assert not [each for each in host.events.recent(10) if each.type == "limit.restarted"]
    assert host.peek(ANN, "plain").note is None


@pytest.mark.parametrize("body", [b"no JSON", b"{}", b'{"boot_id": 3}'])
async def test_a_corrupt_snapshot_is_as_though_all_was_spent_and_is_said(
    host: LimitHost, body: bytes
) -> None:
    host.end(final=True)
    database = Database.open(host.path, schema=Documents.SCHEMA)
    Documents(database).put("limit", body)
    database.close()
    host.start()
    for name, scope in (("plain", "host"), ("openai", "host"), ("keyed", "key")):
        with limited("requests", scope):
            host.acquire(host.connect(ANN), name)
    assert [e.severity for e in host.events.recent(10) if e.type == "limit.state_lost"] == [
        "warning"
    ]
    host.turn(1000)
    host.acquire(host.connect(ANN), "plain")


async def test_a_second_restart_knows_what_nobody_asked_for_in_between(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.settle(ann, host.acquire(ann, "plain"), retry_after_ms=60_000)
    host.acquire(ann, "mine", requests=10, rates=RATES)
    for _ in range(2):
        host.end(final=True)
        host.start()
    with limited("requests", "user", "1001"):
        host.acquire(host.connect(ANN), "mine")
    with limited("requests", "host") as caught:
        host.acquire(host.connect(BOB), "plain")
    assert caught.value.data["blocked"]


async def test_a_limit_that_is_shared_again_after_a_life_without_owes_what_it_owed(
    host: LimitHost,
) -> None:
    ann = host.connect(ANN)
    host.settle(ann, host.acquire(ann, "plain"), retry_after_ms=60_000)
    shared = host.shared
    for host.shared in ({}, shared):
        host.end(final=True)
        host.start()
    with limited("requests", "host") as caught:
        host.acquire(host.connect(BOB), "plain")
    assert caught.value.data["blocked"]


async def test_nothing_is_written_where_nothing_is_new(host: LimitHost) -> None:
    host.now += 1000 * SECOND
    assert host.service.snapshot(final=False) is None
    connection: Connection = host.connect(ANN)
    host.acquire(connection, "plain")
    assert host.service.snapshot(final=False) is not None
    host.now += 1000 * MS
    assert host.service.snapshot(final=False) is None
