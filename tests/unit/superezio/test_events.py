from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon, HangUp
from superezio import Client, errors, wire
from superezio.following import CATCH_UP


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(str(daemon.path), timeout_s=5.0) as made:
        yield made


def test_past_events_come_first_then_new_ones_with_what_was_lost(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(3, [wire_samples.event(2)])
    with client.events(["lease."], replay=1) as events:
        assert events.replayed == 1
        assert next(events).event.seq == 2
        daemon.push("somebody.elses", {})
        daemon.push("event", wire_samples.notification(7, lost=4))
        seventh = next(events)
        assert (seventh.event.seq, seventh.lost) == (7, 4)
    assert daemon.params_of("events.subscribe") == {"types": ["lease."], "replay": 1}
    assert list(events) == []


def test_events_pushed_with_the_answer_are_not_lost(client: Client, daemon: FakeDaemon) -> None:
    def push_at_once(_: dict[str, Any]) -> wire.SubscribeResult:
        daemon.push("event", wire_samples.notification(3))
        return wire_samples.subscribed(3, [wire_samples.event(2)])

    daemon.answers["events.subscribe"] = push_at_once
    with client.events(replay=1) as events:
        assert sorted([next(events).event.seq, next(events).event.seq]) == [2, 3]


def test_a_lost_connection_is_caught_up_without_repeating(
    client: Client, daemon: FakeDaemon
) -> None:
    with client.events() as events:
        daemon.push("event", wire_samples.notification(1))
        assert next(events).event.seq == 1
        daemon.answers["events.subscribe"] = [
            HangUp,
            errors.ShuttingDownError("stopping"),
            wire_samples.subscribed(4, [wire_samples.event(n) for n in (1, 2, 3)]),
        ]
        daemon.hang_up()
        assert [next(events).event.seq for _ in range(2)] == [2, 3]
    assert daemon.params_of("events.subscribe")["replay"] == CATCH_UP


def test_another_daemon_counts_from_one_again(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(50)
    with client.events() as events:
        daemon.answers["system.ping"] = wire.Pong(pid=78, uptime_s=0.1)
        daemon.answers["events.subscribe"] = wire_samples.subscribed(2, [wire_samples.event(1)])
        daemon.stop()
        daemon.start()
        assert next(events).event.seq == 1


def test_the_impatient_are_told_at_once_that_there_is_no_daemon(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "no.sock"))
    with pytest.raises(errors.DaemonNotRunningError):
        client.events(patient=False)


def test_a_daemon_that_stays_away_is_told_when_the_time_is_up(
    client: Client, daemon: FakeDaemon
) -> None:
    events = client.events(reconnect_timeout_s=0.05)
    daemon.stop()
    with pytest.raises(errors.DaemonNotRunningError):
        next(events)
    events.close()


def test_a_subscription_that_always_fails_is_given_up(daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = errors.ShuttingDownError("stopping")
    with pytest.raises((errors.ShuttingDownError, errors.ReplyTimeoutError)):
        Client(str(daemon.path), timeout_s=0.05).events()
