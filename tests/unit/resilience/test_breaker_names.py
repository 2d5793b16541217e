"""Who may do what to which breaker, and how much one user may have."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from superezio import wire
from superezio.errors import (
    BusyError,
    InvalidParamsError,
    NotFoundError,
    PermissionDeniedError,
)
from unit.resilience.breaker_host import ANNA, BEN, CARL, ROOT, SETTINGS, BreakerHost, User

Decision = Callable[[BreakerHost, str, User, int | None], wire.Breaker]


def force_open(host: BreakerHost, name: str, user: User, uid: int | None = None) -> wire.Breaker:
    return host.breakers.force_open(name, user.who, uid=uid)


def disable(host: BreakerHost, name: str, user: User, uid: int | None = None) -> wire.Breaker:
    return host.breakers.disable(name, user.who, uid=uid)


def reset(host: BreakerHost, name: str, user: User, uid: int | None = None) -> wire.Breaker:
    return host.breakers.reset(name, user.who, uid=uid)


DECISIONS = pytest.mark.parametrize("decide", [force_open, disable, reset])


# --- a hostile user -----------------------------------------------------------------------------


def test_who_does_not_share_a_breaker_is_refused_and_told_which_group_to_join(
    host: BreakerHost,
) -> None:
    for attempt in (
        lambda: host.acquire(CARL),
        lambda: host.settle(CARL, host.acquire(ANNA), "failure"),
        lambda: host.view("openai", CARL),
        lambda: force_open(host, "openai", CARL),
        lambda: reset(host, "openai", CARL),
    ):
        with pytest.raises(PermissionDeniedError, match="Join the group ai"):
            attempt()
    assert host.state() == "closed"
    assert [each.name for each in host.breakers.list(CARL.who).breakers] == []


@DECISIONS
def test_over_a_shared_breaker_an_admin_decides_and_none_of_those_who_share_it(
    host: BreakerHost, decide: Decision
) -> None:
    with pytest.raises(PermissionDeniedError, match="only an admin may"):
        decide(host, "openai", ANNA, None)
    assert host.events() == []
    decide(host, "openai", ROOT, None)
    assert len(host.events()) == 1


@DECISIONS
def test_nobody_but_an_admin_names_another_user(host: BreakerHost, decide: Decision) -> None:
    host.acquire(ANNA, "mine")
    for user in (BEN, CARL):
        with pytest.raises(PermissionDeniedError, match=f"breakers of uid {ANNA.uid}"):
            decide(host, "mine", user, ANNA.uid)
        with pytest.raises(PermissionDeniedError):
            host.view("mine", user, uid=ANNA.uid)
    assert host.state("mine", ANNA) == "closed"
    assert decide(host, "mine", ROOT, ANNA.uid).uid == ANNA.uid


@DECISIONS
def test_a_decision_over_a_name_of_ones_own_leaves_that_of_others(
    host: BreakerHost, decide: Decision
) -> None:
    host.acquire(ANNA, "mine")
    host.acquire(BEN, "mine")
    before = host.view("mine", ANNA)
    decide(host, "mine", BEN, None)
    decide(host, "mine", BEN, BEN.uid)
    assert host.view("mine", ANNA) == before


@DECISIONS
def test_an_admin_finds_what_there_is_and_makes_nothing_for_others(
    host: BreakerHost, decide: Decision
) -> None:
    for uid in (ANNA.uid, 4_000_000_000):
        with pytest.raises(NotFoundError, match="there is no breaker mine"):
            decide(host, "mine", ROOT, uid)
    for name in ("a b", "x" * 65, ""):
        with pytest.raises(InvalidParamsError, match="name has to be"):
            decide(host, name, ROOT, ANNA.uid)
    assert len(host.breakers.list(ROOT.who).breakers) == 1


# --- deciding -----------------------------------------------------------------------------------


def test_ones_own_may_be_forced_open_before_its_first_call(host: BreakerHost) -> None:
    force_open(host, "mine", ANNA)
    host.refused(ANNA, "mine")
    disable(host, "other", ANNA)
    host.acquire(ANNA, "other")
    with pytest.raises(NotFoundError):
        reset(host, "third", ANNA)
    with pytest.raises(NotFoundError):
        host.view("third", ANNA)


def test_reset_begins_anew_with_every_opening_forgiven(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    host.call(ANNA, "failure", times=2)
    assert host.refused(ANNA).retry_after_ms == 20_000
    view = reset(host, "openai", ROOT)
    assert (view.state, view.calls, view.retry_after_ms) == ("closed", 0, None)
    host.trip(ANNA)
    assert host.refused(ANNA).retry_after_ms == 10_000


def test_a_name_that_became_shared_while_a_user_had_its_own_is_the_shared_one(
    host: BreakerHost,
) -> None:
    host.trip(CARL, "claude")
    shared = dict(SETTINGS.shared) | {"claude": SETTINGS.default}
    audiences = dict(SETTINGS.audiences) | {"claude": SETTINGS.audiences["openai"]}
    changed = msgspec.structs.replace(SETTINGS, shared=shared, audiences=audiences)
    host.breakers.set_settings(changed)
    host.acquire(ANNA, "claude")
    with pytest.raises(PermissionDeniedError):
        host.acquire(CARL, "claude")
    assert {(each.name, each.uid) for each in host.breakers.list(ROOT.who).breakers} == {
        ("claude", None),
        ("claude", CARL.uid),
        ("openai", None),
    }
    force_open(host, "claude", ROOT)
    host.refused(ANNA, "claude")


# --- to look ------------------------------------------------------------------------------------


def test_one_sees_ones_own_and_the_shared_ones_and_an_admin_all(host: BreakerHost) -> None:
    host.acquire(ANNA, "mine")
    host.acquire(BEN, "mine")

    def seen(user: User) -> list[tuple[str, int | None]]:
        return [(each.name, each.uid) for each in host.breakers.list(user.who).breakers]

    assert seen(ANNA) == [("mine", ANNA.uid), ("openai", None)]
    assert seen(CARL) == []
    assert seen(ROOT) == [("mine", ANNA.uid), ("mine", BEN.uid), ("openai", None)]


def test_a_breaker_is_shown_as_it_is_now(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.refused(BEN)
    host.advance(4)
    view = host.view()
    assert (view.name, view.uid, view.shared, view.state) == ("openai", None, True, "open")
    assert (view.state_s, view.retry_after_ms) == (4.0, 6000)
    assert (view.calls, view.failures, view.failure_rate) == (2, 2, 1.0)
    assert (view.permits, view.rejected, view.generation) == (0, 1, 2)
    assert view.rules.open_s == 10.0
    host.clock.advance(6)
    assert host.view().retry_after_ms is None, "the next call is let through"


def test_what_is_due_is_made_up_for_before_it_is_shown(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.clock.advance(12)
    (view,) = host.breakers.list(BEN.who).breakers
    assert (view.state, view.state_s) == ("open", 2.0)


# --- how much one may have ----------------------------------------------------------------------


def test_one_user_has_so_many_breakers_and_takes_none_from_others(host: BreakerHost) -> None:
    for number in range(4):
        host.trip(ANNA, f"n{number}")
    with pytest.raises(BusyError, match="uid 1000 has 4 breakers") as caught:
        host.acquire(ANNA, "n4")
    assert caught.value.data == {"limit": "breakers_per_uid"}
    assert caught.value.retry_after_ms == 1000
    with pytest.raises(BusyError):
        force_open(host, "n4", ANNA)
    host.acquire(ANNA), "a shared one is not hers"
    host.acquire(BEN, "n4")


def test_one_that_knows_of_nothing_bad_makes_room_the_one_used_longest_ago_first(
    host: BreakerHost,
) -> None:
    for name in ("old", "new"):
        host.call(ANNA, "success", name)
    host.trip(ANNA, "bad")
    host.acquire(ANNA, "busy")
    host.call(ANNA, "success", "old")
    host.acquire(ANNA, "next")
    names = [each.name for each in host.breakers.list(ANNA.who).breakers]
    assert names == ["bad", "busy", "next", "old", "openai"]


def test_one_that_is_blocked_decided_over_or_called_makes_no_room(host: BreakerHost) -> None:
    force_open(host, "forced", ANNA)
    disable(host, "disabled", ANNA)
    host.settle(ANNA, host.acquire(ANNA, "busy"), "throttled", "busy", retry_after_s=100)
    host.acquire(ANNA, "called")
    with pytest.raises(BusyError):
        host.acquire(ANNA, "next")
    host.advance(30)
    host.acquire(ANNA, "next")
    with pytest.raises(NotFoundError):
        host.view("called", ANNA)


def test_a_connection_has_so_many_permits_out_and_may_settle_some(host: BreakerHost) -> None:
    permits = [host.acquire(ANNA, name) for name in ("mine", "openai") for _ in range(4)]
    with pytest.raises(BusyError, match="this connection has as many permits") as caught:
        host.acquire(ANNA)
    assert caught.value.data == {"limit": "permits_per_connection"}
    assert caught.value.retry_after_ms == 1000
    host.settle(ANNA, permits[0], "success", "mine")
    host.acquire(ANNA)
    with pytest.raises(BusyError):
        host.acquire(ANNA)


def test_a_user_has_so_many_over_all_connections_and_takes_none_from_others(
    host: BreakerHost,
) -> None:
    for number in range(12):
        host.acquire(ANNA, over=f"c{number % 2}")
    with pytest.raises(BusyError, match="uid 1000 has as many permits") as caught:
        host.acquire(ANNA, over="c2")
    assert caught.value.data == {"limit": "permits_per_uid"}
    host.acquire(BEN)
    host.breakers.connection_closed("c0")
    for _ in range(6):
        host.acquire(ANNA, over="c2")
    with pytest.raises(BusyError):
        host.acquire(ANNA, over="c2")


def test_those_who_are_turned_away_hold_nothing(host: BreakerHost) -> None:
    host.trip(ANNA)
    for _ in range(20):
        host.refused(ANNA)
    host.advance(10)
    host.acquire(ANNA)


# --- what is not used is forgotten --------------------------------------------------------------


def test_ones_own_that_nobody_has_used_for_long_is_forgotten(host: BreakerHost) -> None:
    host.call(ANNA, "failure", "mine")
    host.advance(3599)
    assert host.view("mine", ANNA).failures == 1
    host.advance(1)
    with pytest.raises(NotFoundError):
        host.view("mine", ANNA)
    assert host.view("openai").shared
    assert host.next_due_ns() is None
    assert host.breakers._book.holders._by_uid.keys() == {ANNA.uid}
    host.breakers.connection_closed(f"of {ANNA.uid}")
    assert not host.breakers._book.holders._by_uid, "nothing is left of a user who has gone"


def test_one_that_is_used_now_and_then_stays(host: BreakerHost) -> None:
    for _ in range(5):
        host.call(ANNA, "success", "mine")
        host.advance(3500)
    assert host.view("mine", ANNA).calls == 4


def test_one_whose_open_time_is_over_is_forgotten_when_nobody_calls(host: BreakerHost) -> None:
    host.trip(ANNA, "mine")
    host.advance(3600)
    with pytest.raises(NotFoundError):
        host.view("mine", ANNA)


def test_a_shared_one_stays_though_nobody_calls(host: BreakerHost) -> None:
    limits = msgspec.structs.replace(SETTINGS.limits, idle_s=5.0)
    host.breakers.set_settings(msgspec.structs.replace(SETTINGS, limits=limits))
    host.acquire(ANNA)
    host.advance(40)
    assert host.view().permits == 0


@pytest.mark.parametrize("decide", [force_open, disable])
def test_what_its_owner_decided_stays(host: BreakerHost, decide: Decision) -> None:
    decide(host, "mine", ANNA, None)
    host.advance(10 * 3600)
    assert host.state("mine", ANNA) in {"forced_open", "disabled"}


def test_one_with_a_call_that_is_out_stays_until_it_is_back(host: BreakerHost) -> None:
    long = wire.BreakerRules(permit_s=10_000.0)
    host.acquire(ANNA, "mine", rules=long)
    host.advance(9000)
    assert host.view("mine", ANNA).permits == 1
    host.advance(1000)
    with pytest.raises(NotFoundError):
        host.view("mine", ANNA)


def test_a_name_that_comes_back_hands_out_other_permits(host: BreakerHost) -> None:
    """A settle that comes too late is for none of the new ones."""
    old = host.acquire(ANNA, "mine")
    host.advance(2 * 3600)
    new = host.acquire(ANNA, "mine")
    assert host.settle(ANNA, old, "failure", "mine") == "unknown"
    assert host.settle(ANNA, new, "success", "mine") == "settled"


def test_a_connection_that_knew_a_forgotten_name_begins_anew_with_it(host: BreakerHost) -> None:
    host.call(ANNA, "failure", "mine")
    host.advance(2 * 3600)
    assert all(kept.owned.name != "mine" for kept in host.breakers._book)
    host.call(ANNA, "success", "mine")
    assert (host.view("mine", ANNA).calls, host.view("mine", ANNA).failures) == (1, 0)


def test_many_names_take_no_memory_for_ever(host: BreakerHost) -> None:
    for number in range(500):
        host.call(ANNA, "success", f"n{number}")
    book = host.breakers._book
    assert len(book._kept) == 1 + 4
    assert len(book._deadlines._heap) < 200
    holder = book.holders.get(f"of {ANNA.uid}")
    assert holder is not None
    assert not holder.of
    assert len(holder.ways) <= 64
