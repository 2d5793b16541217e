"""Breakers that users share, rule by rule (semantics 1), as the daemon's methods have them."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from superezio import wire
from superezio.errors import BreakerOpenError, InvalidParamsError
from supereziod.observability.events import EventLog
from supereziod.resilience.breakers import Breakers
from unit.resilience.breaker_host import (
    ANNA,
    BEN,
    CARL,
    ROOT,
    SECOND,
    SETTINGS,
    BreakerHost,
    a_request,
    with_rules,
)

# --- what one finds out, all know ---------------------------------------------------------------


def test_a_breaker_that_is_shared_by_configuration_is_one_for_all_who_share_it(
    host: BreakerHost,
) -> None:
    host.trip(ANNA)
    error = host.refused(BEN)
    assert error.retry_after_ms == 10_000
    assert error.data == {"name": "openai", "state": "open"}
    assert "openai is open" in error.message
    assert "ask again in 10s" in error.message


def test_any_other_name_is_private_to_the_uid(host: BreakerHost) -> None:
    host.trip(ANNA, "mine")
    host.refused(ANNA, "mine")
    host.acquire(BEN, "mine")
    assert host.state("mine", BEN) == "closed"


def test_trip_when_the_failure_rate_is_reached_and_not_below_minimum_calls(
    host: BreakerHost,
) -> None:
    host.call(ANNA, "failure")
    assert host.state() == "closed"
    host.call(BEN, "failure")
    assert host.state() == "open"


def test_a_call_is_slow_by_the_time_between_acquire_and_settle(host: BreakerHost) -> None:
    for _ in range(2):
        permit = host.acquire(ANNA)
        host.advance(1.5)
        host.settle(ANNA, permit, "success")
    assert (host.view().slow_calls, host.state()) == (2, "open")


def test_half_open_admits_its_permits_and_closes_when_all_went_well(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    permits = [host.acquire(ANNA), host.acquire(BEN)]
    assert host.refused(ANNA).data["state"] == "half_open"
    host.settle(ANNA, permits[0], "success")
    host.settle(BEN, permits[1], "success")
    assert host.state() == "closed"


def test_half_open_always_has_a_maximum_wait_after_which_it_re_opens(host: BreakerHost) -> None:
    """Nobody asks: the timer does it, and tells of it."""
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.advance(10)
    event = host.event()
    assert (event.type, event.data["reason"]) == ("breaker.opened", "half_open_wait")
    assert event.correlation_id is None, "time did it, not whoever happens to ask"
    assert event.data["open_s"] == 20.0
    assert host.view().state_s == 0.0


# --- permits ------------------------------------------------------------------------------------


def test_a_double_settle_is_a_no_op(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    assert host.settle(ANNA, permit, "failure") == "settled"
    assert host.settle(ANNA, permit, "failure") == "unknown"
    assert host.view().calls == 1
    assert host.state() == "closed"


def test_a_stale_generation_settle_is_a_no_op(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    assert host.settle(ANNA, permit, "success") == "stale"
    assert host.view().calls == 0


def test_a_permit_is_settled_over_the_connection_that_it_was_given_to(host: BreakerHost) -> None:
    """Another one learns nothing: not that the permit is out, and not from its own user's."""
    permit = host.acquire(ANNA, over="first")
    assert host.settle(ANNA, permit, "failure", over="second") == "unknown"
    assert host.settle(BEN, permit, "failure", over="third") == "unknown"
    assert host.view().permits == 1
    assert host.view().calls == 0
    assert host.settle(ANNA, permit, "success", over="first") == "settled"


def test_a_permit_is_ignored_when_its_holder_disconnects(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    host.acquire(BEN, over="gone")
    host.acquire(BEN, over="gone")
    host.refused(ANNA)
    host.breakers.connection_closed("gone")
    assert host.state() == "half_open", "a call that is ignored decides nothing"
    host.acquire(ANNA)
    host.acquire(ANNA)
    host.breakers.connection_closed("gone")
    host.breakers.connection_closed("never there")
    host.refused(ANNA)


def test_a_disconnect_takes_back_what_is_held_of_every_breaker(host: BreakerHost) -> None:
    host.acquire(ANNA, "openai", over="c")
    host.acquire(ANNA, "mine", over="c")
    kept = host.acquire(ANNA, "mine", over="d")
    host.breakers.connection_closed("c")
    assert host.view("openai").permits == 0
    assert host.view("mine", ANNA).permits == 1
    assert host.settle(ANNA, kept, "success", "mine", over="d") == "settled"


def test_a_permit_is_ignored_when_it_outlives_its_time(host: BreakerHost) -> None:
    """The timer takes it back, for the bounds too."""
    permits = [host.acquire(ANNA) for _ in range(8)]
    host.advance(29)
    assert host.view().permits == 8
    host.advance(1)
    assert host.breakers._book._kept[(None, "openai")].breaker.out == 0  # type: ignore[index]
    assert host.settle(ANNA, permits[0], "failure") == "unknown"
    assert host.view().calls == 0
    host.acquire(ANNA)


def test_a_settle_before_the_timer_was_heard_comes_too_late_all_the_same(
    host: BreakerHost,
) -> None:
    permit = host.acquire(ANNA)
    host.clock.advance(30)
    assert host.settle(ANNA, permit, "failure") == "unknown"
    host.clock.advance(1)
    for _ in range(8):
        host.acquire(ANNA)


def test_what_is_ignored_does_not_count(host: BreakerHost) -> None:
    host.call(ANNA, "ignore", times=5)
    assert host.view().calls == 0
    assert host.state() == "closed"


# --- 429 ----------------------------------------------------------------------------------------


def test_429_is_no_failure_and_opens_for_retry_after(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    assert host.settle(ANNA, permit, "throttled", retry_after_s=42, cause="r1") == "settled"
    assert host.refused(BEN).retry_after_ms == 42_000
    event = host.event()
    assert (event.type, event.data["reason"]) == ("breaker.opened", "retry_after")
    assert event.correlation_id == "r1"
    assert (event.data["calls"], event.data["open_s"]) == (0, 42.0)
    host.advance(42)
    host.acquire(BEN)


def test_429_is_open_until_the_later_of_old_and_new(host: BreakerHost) -> None:
    """Of many calls at once each is told its own time; the first one opens the breaker."""
    permits = [host.acquire(ANNA) for _ in range(3)]
    host.settle(ANNA, permits[0], "throttled", retry_after_s=20)
    assert host.settle(ANNA, permits[1], "throttled", retry_after_s=5) == "stale"
    assert host.refused(BEN).retry_after_ms == 20_000
    host.settle(ANNA, permits[2], "throttled", retry_after_s=60)
    assert host.refused(BEN).retry_after_ms == 60_000


def test_what_a_caller_reports_is_capped(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    host.settle(ANNA, permit, "throttled", retry_after_s=365 * 86_400)
    assert host.refused(BEN).retry_after_ms == 120_000


def test_a_service_that_does_not_say_for_how_long_is_left_for_open(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    host.settle(ANNA, permit, "throttled")
    assert host.refused(BEN).retry_after_ms == 10_000


@pytest.mark.parametrize("retry_after_s", [-5.0, 0.0])
def test_a_time_that_is_over_blocks_nothing(host: BreakerHost, retry_after_s: float) -> None:
    permit = host.acquire(ANNA)
    host.settle(ANNA, permit, "throttled", retry_after_s=retry_after_s)
    assert host.state() == "closed"


def test_without_a_permit_nobody_blocks_anything(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    assert host.settle(BEN, permit, "throttled", retry_after_s=60) == "unknown"
    assert host.settle(BEN, 1, "throttled", retry_after_s=60) == "unknown"
    host.settle(ANNA, permit, "ignore")
    assert host.settle(ANNA, permit, "throttled", retry_after_s=60) == "unknown"
    assert host.state() == "closed"


def test_a_retry_after_without_429_is_refused(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    with pytest.raises(InvalidParamsError, match="retry_after_ms goes with"):
        host.settle(ANNA, permit, "failure", retry_after_s=1)
    assert host.settle(ANNA, permit, "success") == "settled"


# --- rejections ---------------------------------------------------------------------------------


def test_those_turned_away_do_not_come_back_at_once(host: BreakerHost) -> None:
    host.breakers.set_settings(with_rules(open_duration_ns=5 * SECOND))
    host.trip(ANNA)
    waits = []
    for spread in (0.0, 0.5, 0.999):
        host.spread = spread
        waits.append(host.refused(BEN).retry_after_ms)
    assert waits == [5000, 5250, 5500]


def test_the_spread_of_a_long_wait_is_a_second_at_most(host: BreakerHost) -> None:
    permit = host.acquire(ANNA)
    host.settle(ANNA, permit, "throttled", retry_after_s=120)
    host.spread = 1.0
    assert host.refused(BEN).retry_after_ms == 121_000
    assert host.view().retry_after_ms == 120_000


def test_a_rejection_always_carries_retry_after(host: BreakerHost) -> None:
    host.breakers.force_open("openai", ROOT.who)
    error = host.refused(ANNA)
    assert (error.retry_after_ms, error.data["state"]) == (10_000, "forced_open")
    assert "until somebody closes it" in error.message
    assert "ask again" not in error.message, "nobody knows when, and it is not promised"
    host.breakers.reset("openai", ROOT.who)
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.acquire(ANNA)
    error = host.refused(ANNA)
    assert (error.retry_after_ms, error.data["state"]) == (10_000, "half_open")
    # Not a moment of it is 0: that would be an invitation.
    host.clock.now_ns += 10 * SECOND - 1
    assert host.refused(ANNA).retry_after_ms == 1


# --- events -------------------------------------------------------------------------------------


def test_every_transition_is_an_event_with_rates_counts_and_the_call_that_caused_it(
    host: BreakerHost,
) -> None:
    host.settle(ANNA, host.acquire(ANNA, cause="first"), "success", cause="x")
    host.settle(ANNA, host.acquire(ANNA, cause="guilty"), "failure", cause="y")
    host.refused(BEN)
    host.refused(BEN)
    opened = host.event()
    assert opened.type == "breaker.opened"
    assert opened.severity == "warning"
    assert opened.correlation_id == "guilty", "the call's own, not that of what reports its end"
    assert opened.uid is None, "a shared breaker's events are for all who may listen"
    assert opened.data == {
        "name": "openai",
        "state": "open",
        "previous": "closed",
        "reason": "failure_rate",
        "calls": 2,
        "failures": 1,
        "slow_calls": 0,
        "failure_rate": 0.5,
        "slow_call_rate": 0.0,
        "rejected": 0,
        "open_s": 10.0,
        "by_uid": ANNA.uid,
        "reported_by": [{"uid": ANNA.uid, "reports": 1}],
    }
    host.advance(10)
    host.settle(BEN, host.acquire(BEN, cause="probe"), "success")
    probing = host.event()
    assert (probing.type, probing.correlation_id) == ("breaker.half_open", "probe")
    assert (probing.data["rejected"], probing.data["failures"]) == (2, 1)
    host.settle(BEN, host.acquire(BEN, cause="last"), "success")
    closed = host.event()
    assert (closed.type, closed.correlation_id) == ("breaker.closed", "last")
    assert (closed.data["reason"], closed.data["calls"]) == ("recovered", 2)
    assert closed.data["open_s"] is None


def test_what_an_administrator_decides_is_told_with_who_asked(host: BreakerHost) -> None:
    host.breakers.force_open("openai", ROOT.who, correlation_id="a")
    host.breakers.disable("openai", ROOT.who, correlation_id="b")
    host.breakers.reset("openai", ROOT.who, correlation_id="c")
    assert [(event.type, event.correlation_id) for event in host.events()] == [
        ("breaker.forced_open", "a"),
        ("breaker.disabled", "b"),
        ("breaker.closed", "c"),
    ]
    host.breakers.disable("openai", ROOT.who)
    host.breakers.disable("openai", ROOT.who)
    assert len(host.events()) == 4, "that it is so already is no transition"


def test_a_private_breakers_events_are_its_owners(host: BreakerHost) -> None:
    host.trip(CARL, "mine")
    assert host.event().uid == CARL.uid


def test_a_rejection_that_time_brought_about_is_told_as_times(host: BreakerHost) -> None:
    """It re-opened while the daemon was busy, and a call came before the timer was heard."""
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.clock.advance(11)
    assert host.refused(BEN).data["state"] == "open"
    event = host.event()
    assert (event.data["reason"], event.correlation_id) == ("half_open_wait", None)


# --- the timer ----------------------------------------------------------------------------------


def test_a_call_that_comes_and_goes_sets_no_timer_each_time(host: BreakerHost) -> None:
    host.call(ANNA, "success")
    due_ns = host.next_due_ns()
    for _ in range(100):
        host.clock.advance(0.001)
        host.call(ANNA, "success")
    assert host.next_due_ns() == due_ns
    assert len(host.breakers._book._deadlines._heap) == 1


async def test_the_timer_fires_in_real_time() -> None:
    told = asyncio.Event()
    log = EventLog()
    settings = with_rules(
        SETTINGS,
        open_duration_ns=SECOND // 10,
        half_open_wait_ns=SECOND // 50,
        slow_call_duration_ns=SECOND // 100,
    )
    breakers = Breakers(settings, events=log, boot_id="b", clock=time.monotonic_ns)
    request, params = a_request(ANNA), wire.BreakerAcquireParams(name="openai")
    for _ in range(2):
        granted = msgspec.json.decode(breakers.acquire(request, params))
        settled = {"name": "openai", "permit": granted["permit"], "outcome": "failure"}
        breakers.settle(request, msgspec.convert(settled, wire.BreakerSettleParams))
    with pytest.raises(BreakerOpenError):
        breakers.acquire(request, params)
    log.listen(lambda event: told.set() if event.data["reason"] == "half_open_wait" else None)
    async with asyncio.timeout(10):
        while True:
            try:
                breakers.acquire(request, params)
                break
            except BreakerOpenError:
                await asyncio.sleep(0)
        await told.wait()
    breakers.close()


def test_a_user_who_drives_a_breaker_fast_is_told_of_by_a_count(host: BreakerHost) -> None:
    """Own ones alone: transitions beyond the rate are no events, and none is silent."""
    for _ in range(300):
        host.breakers.force_open("mine", ANNA.who)
        host.breakers.reset("mine", ANNA.who)
    told = [event for event in host.events() if event.uid == ANNA.uid]
    assert len(told) == 200
    assert not any("left_out" in event.data for event in told)
    host.trip(BEN, "mine")
    assert (host.event().uid, host.event().type) == (BEN.uid, "breaker.opened")
    host.clock.advance(0.05)
    host.breakers.force_open("mine", ANNA.who)
    assert (host.event().type, host.event().data["left_out"]) == ("breaker.forced_open", 400)
    host.clock.advance(0.05)
    host.breakers.reset("mine", ANNA.who)
    assert host.event().type == "breaker.closed"
    assert "left_out" not in host.event().data


def test_what_an_admin_does_to_a_shared_breaker_is_told_each(host: BreakerHost) -> None:
    for _ in range(300):
        host.breakers.force_open("openai", ROOT.who)
        host.breakers.reset("openai", ROOT.who)
    assert len(host.events()) == 600


def test_one_user_of_a_shared_breaker_does_not_fill_the_journal(host: BreakerHost) -> None:
    for _ in range(600):
        host.settle(ANNA, host.granted(ANNA).permit, "throttled", retry_after_s=0.001)
        host.advance(0.002)
    by_anna = [each for each in host.events() if each.data["by_uid"] == ANNA.uid]
    assert len(by_anna) < 250
    host.settle(BEN, host.granted(BEN).permit, "throttled", retry_after_s=0.001)
    assert host.event().data["by_uid"] == BEN.uid, "what another brings about is told"


def test_the_answer_says_how_the_breaker_is_now(host: BreakerHost) -> None:
    """In each state, and by the rules that it goes by since."""
    granted = host.granted(ANNA)
    assert granted == wire.BreakerPermit(
        name="openai", permit=granted.permit, state="closed", shared=True, expires_in_ms=30_000
    )
    host.trip(BEN)
    host.advance(10)
    assert host.granted(ANNA).state == "half_open"
    host.breakers.disable("openai", ROOT.who)
    assert host.granted(ANNA).state == "disabled"
    host.breakers.set_settings(with_rules(permit_ttl_ns=5 * SECOND))
    assert host.granted(ANNA).expires_in_ms == 5000
    own = host.granted(ANNA, "mine", rules=wire.BreakerRules(permit_s=2.5))
    assert (own.name, own.shared, own.expires_in_ms) == ("mine", False, 2500)


def test_a_call_that_came_without_an_id_is_told_of_by_its_connection_and_number(
    host: BreakerHost,
) -> None:
    for number in (1, 2):
        asking = msgspec.structs.replace(a_request(ANNA), number=number)
        answer = host.breakers.acquire(asking, wire.BreakerAcquireParams(name="openai"))
        host.settle(ANNA, msgspec.json.decode(answer)["permit"], "failure")
    assert host.event().correlation_id == f"of {ANNA.uid}.2"


def test_permits_are_told_apart_over_lives_and_names(host: BreakerHost) -> None:
    first = host.acquire(ANNA, "a")
    other = host.acquire(ANNA, "b")
    host.restart()
    again = host.acquire(ANNA, "a")
    assert len({first, other, again}) == 3
    assert max(first, other, again) < 1 << 53, "every JSON reader keeps it"
    assert host.settle(ANNA, first, "failure", "a") == "unknown"
    assert host.settle(ANNA, other, "failure", "a") == "unknown"


def test_a_disabled_breaker_lets_every_call_through_and_records_none(host: BreakerHost) -> None:
    host.breakers.disable("openai", ROOT.who)
    host.call(ANNA, "failure", times=5)
    permit = host.acquire(ANNA)
    host.settle(ANNA, permit, "throttled", retry_after_s=60)
    view = host.view()
    assert (view.state, view.calls) == ("disabled", 0)
