"""SEMANTICS 5 and 9: the host suspends, and CLOCK_MONOTONIC does not show it."""

from __future__ import annotations

import pytest

from gpu_views import FakeClock
from supereziod.gpu.suspend import SuspendWatch
from supereziod.observability.correlation import RequestScope, in_scope
from supereziod.observability.events import EventLog


class Host:
    """Two clocks: one goes on while the host sleeps."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.slept_ns = 7_000_000_000_000
        self.pause_s = 0.0
        self.events = EventLog()
        self.watch = SuspendWatch(events=self.events, clock=self.clock, boottime=self.boottime)

    def boottime(self) -> int:
        now_ns = self.clock() + self.slept_ns
        self.clock.advance(self.pause_s)
        return now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_ns += round(seconds * 1e9)


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_host_that_has_not_slept_since_the_start_has_not_resumed(host: Host) -> None:
    for _ in range(5):
        host.clock.advance(3600)
        assert host.watch.resumed_ns() == 0
    assert not host.events.recent(9)


def test_a_sleep_is_told_once_and_dated_when_it_was_noticed(host: Host) -> None:
    host.sleep(8 * 3600)
    host.clock.advance(1)
    noticed = host.clock()
    assert host.watch.resumed_ns() == noticed
    host.clock.advance(60)
    assert host.watch.resumed_ns() == noticed
    (told,) = host.events.recent(9)
    assert (told.type, told.data["suspended_s"]) == ("host.resumed", 8 * 3600)
    assert "8h" in told.message
    host.sleep(2)
    assert host.watch.resumed_ns() == host.clock()
    assert [event.data["suspended_s"] for event in host.events.recent(9)] == [8 * 3600, 2]


def test_a_pause_between_two_readings_of_the_clocks_is_no_sleep(host: Host) -> None:
    host.pause_s = 30
    assert host.watch.resumed_ns() == 0
    host.pause_s = 0
    assert host.watch.resumed_ns() == 0
    assert not host.events.recent(9)


def test_a_sleep_that_a_pause_hides_is_found_the_next_time(host: Host) -> None:
    host.sleep(20)
    host.pause_s = 30
    assert host.watch.resumed_ns() == 0
    host.pause_s = 0
    assert host.watch.resumed_ns() == host.clock()


def test_nobodys_request_made_the_host_sleep(host: Host) -> None:
    host.sleep(20)
    with in_scope(RequestScope(correlation_id="c0ffee")):
        host.watch.resumed_ns()
    assert host.events.recent(1)[0].correlation_id is None


def test_the_clocks_of_this_host_do_not_drift_apart_while_it_is_awake() -> None:
    events = EventLog()
    watch = SuspendWatch(events=events)
    assert {watch.resumed_ns() for _ in range(1000)} == {0}
