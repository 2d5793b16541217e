"""Who opened a shared breaker, and on whose word: those who share it are believed, and named."""

from __future__ import annotations

import pytest
from msgspec import Struct

from superezio.resilience.call_window import CountWindow
from superezio.wire import CallOutcome
from unit.resilience.breaker_host import (
    ANNA,
    BEN,
    CARL,
    ROOT,
    SETTINGS,
    BreakerHost,
    User,
    with_rules,
)


class Named(Struct):
    opened_by: int | None
    reported_by: dict[int, int]


def named(host: BreakerHost, name: str = "openai", user: User = ROOT) -> Named:
    shown = host.view(name, user)
    return Named(shown.opened_by, {each.uid: each.reports for each in shown.reported_by})


@pytest.fixture
def wide() -> BreakerHost:
    """A breaker that opens where half of its last 200 calls, and at least 40, failed."""
    return BreakerHost(with_rules(SETTINGS, window=CountWindow(calls=200), minimum_calls=40))


def test_who_opened_it_and_who_reported_what_is_shown_and_told(wide: BreakerHost) -> None:
    """The last straw may be an honest one: so all reports are told, by who made them."""
    wide.call(BEN, "success", times=20)
    wide.call(BEN, "failure", times=19)
    wide.call(ANNA, "failure")
    assert named(wide) == Named(ANNA.uid, {BEN.uid: 19, ANNA.uid: 1})
    event = wide.event()
    assert (event.type, event.data["by_uid"]) == ("breaker.opened", ANNA.uid)
    assert event.data["reported_by"] == [
        {"uid": BEN.uid, "reports": 19},
        {"uid": ANNA.uid, "reports": 1},
    ]
    assert named(wide, user=BEN) == named(wide), "those who share it see it as well"
    wide.close()


def test_one_in_the_audience_is_believed(host: BreakerHost) -> None:
    """What one of them finds out, all know: it takes no second one."""
    host.call(ANNA, "success")
    host.call(BEN, "failure")
    assert host.state() == "open"
    assert named(host).opened_by == BEN.uid


def test_who_is_no_longer_in_the_audience_reports_nothing(host: BreakerHost) -> None:
    host.trip(BEN)
    audiences = {"openai": SETTINGS.audiences["openai"].__class__(uids=frozenset({ANNA.uid}))}
    shared = SETTINGS.__class__(
        default=SETTINGS.default,
        shared=SETTINGS.shared,
        audiences=audiences,
        limits=SETTINGS.limits,
    )
    host.breakers.set_settings(shared)
    with pytest.raises(Exception, match="shared by others"):
        host.acquire(BEN)
    host.breakers.reset("openai", ROOT.who)
    host.acquire(ANNA)


@pytest.mark.parametrize(
    ("outcome", "took_s", "reports"),
    [
        ("success", 0.5, 0),
        ("success", 1.0, 0),
        ("success", 1.5, 1),
        ("failure", 0.5, 1),
        ("throttled", 0.5, 1),
        ("ignore", 1.5, 0),
    ],
)
def test_failures_slow_calls_and_429_are_reports_and_nothing_else(
    host: BreakerHost, outcome: CallOutcome, took_s: float, reports: int
) -> None:
    permit = host.acquire(ANNA)
    host.clock.advance(took_s)
    host.settle(ANNA, permit, outcome)
    assert named(host).reported_by == ({ANNA.uid: reports} if reports else {})


def test_what_does_not_count_is_no_report(host: BreakerHost) -> None:
    """A stale failure, a permit of another connection, and what a held or disabled one is told."""
    late, other = host.acquire(ANNA), host.acquire(BEN, over="another")
    host.trip(ANNA)
    before = named(host).reported_by
    host.settle(ANNA, late, "failure")
    host.acquire(CARL, "own", over="third")
    host.settle(CARL, other, "failure", "own", over="third")
    host.settle(BEN, other + 1000, "failure", over="another")
    assert named(host).reported_by == before
    host.breakers.reset("openai", ROOT.who)
    permit = host.acquire(BEN)
    host.settle(ANNA, permit, "failure")
    assert named(host).reported_by == {}
    host.breakers.disable("openai", ROOT.who)
    host.call(ANNA, "failure", times=3)
    host.call(ANNA, "throttled", times=3)
    assert named(host) == Named(None, {})


def test_a_429_after_it_opened_is_a_report(host: BreakerHost) -> None:
    late = host.acquire(BEN)
    host.trip(ANNA)
    host.settle(BEN, late, "throttled", retry_after_s=100)
    assert named(host) == Named(ANNA.uid, {ANNA.uid: 2, BEN.uid: 1})


def test_it_is_forgotten_when_the_service_is_well(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    permits = [host.acquire(BEN), host.acquire(BEN)]
    assert named(host) == Named(ANNA.uid, {ANNA.uid: 2})
    assert host.event().data["by_uid"] == BEN.uid
    assert "reported_by" not in host.event().data
    for each in permits:
        host.settle(BEN, each, "success")
    assert named(host) == Named(None, {})


def test_what_time_opens_is_nobodys_doing(host: BreakerHost) -> None:
    """The timer tells of it, and no call: who opened it the time before is still shown."""
    host.trip(ANNA)
    host.advance(10)
    host.acquire(BEN)
    seen: list[str] = []
    host.log.listen(lambda event: seen.append(event.type))
    host.advance(9.999)
    assert seen == []
    host.advance(0.001)
    assert seen == ["breaker.opened"], "at its time, with nobody asking"
    event = host.event()
    assert (event.data["reason"], event.data["by_uid"]) == ("half_open_wait", None)
    assert (event.correlation_id, event.severity) == (None, "warning")
    assert event.data["open_s"] == 20.0
    assert event.data["reported_by"] == [{"uid": ANNA.uid, "reports": 2}]
    assert named(host).opened_by == ANNA.uid
    assert host.view().state == "open"


def test_what_time_opened_is_not_laid_to_who_asks_next(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.clock.advance(11)
    host.breakers.force_open("openai", ROOT.who)
    opened, forced = host.events()[-2:]
    assert (opened.type, opened.data["by_uid"]) == ("breaker.opened", None)
    assert (forced.type, forced.data["by_uid"]) == ("breaker.forced_open", ROOT.uid)
    assert named(host).opened_by == ROOT.uid


def test_why_it_opened_is_shown_until_it_closes(host: BreakerHost) -> None:
    assert host.view().opened_for is None
    host.trip(ANNA)
    assert host.view().opened_for == "failure_rate"
    host.advance(10)
    host.acquire(BEN)
    assert (host.view().state, host.view().opened_for) == ("half_open", "failure_rate")
    host.advance(10)
    assert host.view().opened_for == "half_open_wait"
    host.advance(20)
    host.call(BEN, "success", times=2)
    assert (host.view().state, host.view().opened_for) == ("closed", None)
    host.settle(ANNA, host.acquire(ANNA), "throttled", retry_after_s=5)
    assert host.view().opened_for == "retry_after"
    host.breakers.force_open("openai", ROOT.who)
    assert host.view().opened_for == "forced_open"
    host.breakers.disable("openai", ROOT.who)
    assert host.view().opened_for is None


def test_why_it_opened_is_known_after_a_restart_which_is_no_reason(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.trip(ANNA, "mine")
    host.advance(10)
    host.acquire(ANNA)
    host.restart(kill=True)
    assert host.view().opened_for == "failure_rate", "it was half-open, and is open again"
    assert host.view("mine", ANNA).opened_for == "failure_rate"


def test_whether_any_call_has_asked_for_one_is_shown_and_outlives_a_restart(
    host: BreakerHost,
) -> None:
    host.breakers.force_open("typo", ANNA.who)
    host.breakers.disable("mine", ANNA.who)
    host.call(ANNA, "success", "mine")
    for _ in range(2):
        called = {name: host.view(name, ANNA).called for name in ("typo", "mine")}
        assert called == {"typo": False, "mine": True}
        host.restart()
    host.refused(ANNA, "typo")
    assert host.view("typo", ANNA).called


def test_who_opened_it_is_known_after_a_restart(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.restart()
    assert named(host) == Named(ANNA.uid, {})


def test_a_users_own_has_no_reports_of_others(host: BreakerHost) -> None:
    host.trip(CARL, "mine")
    assert named(host, "mine", CARL) == Named(CARL.uid, {})
    assert not {"by_uid", "reported_by"} & host.event().data.keys()


def test_reports_are_bounded() -> None:
    """The newest hundred are told."""
    rules = {"window": CountWindow(calls=200), "failure_rate_threshold": 1.0}
    host = BreakerHost(with_rules(SETTINGS, **rules))
    host.call(ANNA, "success", times=10)
    host.call(BEN, "failure", times=60)
    host.call(ANNA, "failure", times=60)
    assert named(host).reported_by == {ANNA.uid: 60, BEN.uid: 40}
    host.close()
