from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from superezio.errors import BusyError
from superezio.wire import Event, Role
from supereziod.observability.events import EventLog
from supereziod.rpc.peers import Peer
from supereziod.rpc.subscriptions import Subscriptions


class FakeSubscriber:
    """A connection that takes what it can; `writable` is the test's to set."""

    def __init__(self, *, uid: int = 1000, role: Role = "observer") -> None:
        self.peer = Peer(uid=uid, gid=uid, pid=1, groups=frozenset({uid}))
        self.role: Role = role
        self.subscriptions: dict[str, Callable[[], None]] = {}
        self.writable = True
        #: So many more lines go out before the connection takes no more.
        self.room = 10**9
        self.lines: list[dict[str, Any]] = []

    def push(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self.lines.append(json.loads(line))
        self.room -= 1
        self.writable = self.room > 0

    @property
    def seen(self) -> list[tuple[int, int]]:
        """Sequence number and losses of each event."""
        return [(each["params"]["event"]["seq"], each["params"]["lost"]) for each in self.lines]


@pytest.fixture
def events() -> EventLog:
    return EventLog()


@pytest.fixture
def subscriptions(events: EventLog) -> Subscriptions:
    return Subscriptions(events, max_per_connection=2, max_queued=3)


def emit(events: EventLog, count: int = 1, type_: str = "gpu.level") -> None:
    for _ in range(count):
        events.emit(type_, "something changed")


def test_an_event_is_a_notification_with_its_subscription(
    events: EventLog, subscriptions: Subscriptions
) -> None:
    subscriber = FakeSubscriber()
    result = subscriptions.subscribe(subscriber, types=[], replay=0)
    event = events.emit("gpu.level", "hot", gpu="GPU-1", level="hot")
    (line,) = subscriber.lines
    assert line["jsonrpc"] == "2.0"
    assert line["method"] == "event"
    assert "id" not in line
    assert line["params"]["subscription"] == result.subscription
    assert line["params"]["event"]["data"] == {"level": "hot"}
    assert line["params"]["event"]["seq"] == event.seq == result.next_seq


def test_events_are_chosen_by_name_or_by_family(
    events: EventLog, subscriptions: Subscriptions
) -> None:
    subscriber = FakeSubscriber()
    subscriptions.subscribe(subscriber, types=["lease.", "gpu.level"], replay=0)
    for type_ in ("lease.granted", "gpu.level", "gpu.level2", "gpu.status", "leases"):
        emit(events, type_=type_)
    assert [each["params"]["event"]["type"] for each in subscriber.lines] == [
        "lease.granted",
        "gpu.level",
    ]


def test_a_subscriber_is_told_which_types_no_event_has(subscriptions: Subscriptions) -> None:
    """They are subscribed to all the same: nothing that worked is refused."""
    types = ["lease.", "gpu.level", "gpu", "leese.", "lease.granted.", ""]
    result = subscriptions.subscribe(FakeSubscriber(), types=types, replay=0)
    assert result.unknown_types == ["gpu", "leese.", "lease.granted.", ""]
    assert subscriptions.subscribe(FakeSubscriber(), types=[], replay=0).unknown_types == []


@pytest.mark.parametrize(
    ("uid", "role", "sees"),
    [(1000, "observer", True), (1001, "user", False), (1001, "admin", True)],
)
def test_a_personal_event_is_for_its_owner_and_for_admins(
    events: EventLog, subscriptions: Subscriptions, uid: int, role: Role, *, sees: bool
) -> None:
    events.emit("lease.granted", "past", uid=1000)
    subscriber = FakeSubscriber(uid=uid, role=role)
    replayed = subscriptions.subscribe(subscriber, types=[], replay=9).replay
    events.emit("lease.released", "now", uid=1000)
    events.emit("gpu.level", "for all")
    assert bool(replayed) == sees
    assert len(subscriber.lines) == 1 + sees


def test_replay_is_of_what_was_asked_for_oldest_first(
    events: EventLog, subscriptions: Subscriptions
) -> None:
    for n in range(5):
        emit(events, type_="lease.granted" if n % 2 else "gpu.level")
    result = subscriptions.subscribe(FakeSubscriber(), types=["gpu."], replay=2)
    assert [each.seq for each in result.replay] == [3, 5]
    assert result.next_seq == 6


def test_a_subscriber_that_is_too_slow_is_told_how_many_it_lost(
    events: EventLog, subscriptions: Subscriptions
) -> None:
    subscriber = FakeSubscriber()
    subscriber.room = 1
    subscriptions.subscribe(subscriber, types=[], replay=0)
    emit(events, 10)
    assert subscriber.seen == [(1, 0)]
    subscriber.writable, subscriber.room = True, 2
    subscriptions.flush(subscriber)
    assert subscriber.seen == [(1, 0), (8, 6), (9, 0)]
    emit(events, 1)
    subscriber.writable, subscriber.room = True, 100
    subscriptions.flush(subscriber)
    emit(events, 1)
    assert subscriber.seen[3:] == [(10, 0), (11, 0), (12, 0)], "in order, what waited first"


def test_what_is_seen_and_lost_adds_up(events: EventLog, subscriptions: Subscriptions) -> None:
    subscriber = FakeSubscriber()
    subscriptions.subscribe(subscriber, types=[], replay=0)
    for room in (0, 3, 1, 0, 7):
        subscriber.room, subscriber.writable = room, room > 0
        subscriptions.flush(subscriber)
        emit(events, 11)
    subscriber.room, subscriber.writable = 100, True
    subscriptions.flush(subscriber)
    expected = 1
    for seq, lost in subscriber.seen:
        assert seq == expected + lost
        expected = seq + 1
    assert expected == events.next_seq


def test_a_slow_subscriber_slows_no_other(events: EventLog, subscriptions: Subscriptions) -> None:
    slow, quick = FakeSubscriber(), FakeSubscriber()
    slow.writable = False
    subscriptions.subscribe(slow, types=[], replay=0)
    subscriptions.subscribe(quick, types=[], replay=0)
    emit(events, 5)
    assert [seq for seq, _ in quick.seen] == [1, 2, 3, 4, 5]
    assert slow.lines == []


def test_a_subscription_ends(events: EventLog, subscriptions: Subscriptions) -> None:
    subscriber, other = FakeSubscriber(), FakeSubscriber()
    subscription = subscriptions.subscribe(subscriber, types=[], replay=0).subscription
    assert not subscriptions.unsubscribe(other, subscription), "it is not this connection's"
    assert subscriptions.unsubscribe(subscriber, subscription)
    assert not subscriptions.unsubscribe(subscriber, subscription)
    emit(events)
    assert subscriber.lines == []
    assert len(subscriptions) == 0


def test_all_end_with_their_connection(events: EventLog, subscriptions: Subscriptions) -> None:
    subscriber = FakeSubscriber()
    for _ in range(2):
        subscriptions.subscribe(subscriber, types=[], replay=0)
    assert len(subscriptions) == 2
    subscriptions.end_all(subscriber)
    emit(events)
    assert (len(subscriptions), subscriber.lines) == (0, [])


def test_subscriptions_are_bounded_per_connection(subscriptions: Subscriptions) -> None:
    subscriber = FakeSubscriber()
    for _ in range(2):
        subscriptions.subscribe(subscriber, types=[], replay=0)
    with pytest.raises(BusyError, match="up to 2 subscriptions"):
        subscriptions.subscribe(subscriber, types=[], replay=0)
    subscriptions.subscribe(FakeSubscriber(), types=[], replay=0)


def test_subscriptions_are_bounded_per_uid_but_not_for_admins(events: EventLog) -> None:
    subscriptions = Subscriptions(events, max_per_uid=2)
    first = FakeSubscriber()
    for each in (first, FakeSubscriber()):
        subscriptions.subscribe(each, types=[], replay=0)
    with pytest.raises(BusyError, match="uid 1000 has 2 subscriptions") as refused:
        subscriptions.subscribe(FakeSubscriber(), types=[], replay=0)
    assert refused.value.data == {"limit": "subscriptions_per_uid"}
    subscriptions.subscribe(FakeSubscriber(uid=1001), types=[], replay=0)
    subscriptions.subscribe(FakeSubscriber(role="admin"), types=[], replay=0)
    first.role = "admin"
    subscriptions.end_all(first)
    with pytest.raises(BusyError):
        subscriptions.subscribe(FakeSubscriber(), types=[], replay=0)


def test_a_subscription_that_ends_makes_room_for_its_uid(events: EventLog) -> None:
    subscriptions = Subscriptions(events, max_per_uid=1)
    for _ in range(3):
        subscriber = FakeSubscriber()
        subscriptions.subscribe(subscriber, types=[], replay=0)
        subscriptions.end_all(subscriber)


def test_an_event_is_encoded_once_for_quick_and_slow_subscribers_alike(
    events: EventLog, subscriptions: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def encode(event: Event) -> bytes:
        encoded.append(event.seq)
        return msgspec.json.encode(event)

    monkeypatch.setattr("supereziod.rpc.subscriptions._encode", encode)
    quick, *slow = (FakeSubscriber() for _ in range(4))
    for each in (quick, *slow):
        subscriptions.subscribe(each, types=[], replay=0)
    for each in slow:
        each.writable = False
    emit(events, 3)
    for each in slow:
        each.writable = True
        subscriptions.flush(each)
    assert [each.seen for each in slow] == [quick.seen] * 3
    assert encoded == [1, 2, 3]


def test_a_closed_hub_hears_nothing(events: EventLog, subscriptions: Subscriptions) -> None:
    subscriber = FakeSubscriber()
    subscriptions.subscribe(subscriber, types=[], replay=0)
    subscriptions.close()
    emit(events)
    assert subscriber.lines == []


def test_an_event_is_encoded_as_its_type_says(
    events: EventLog, subscriptions: Subscriptions
) -> None:
    subscriber = FakeSubscriber()
    subscriptions.subscribe(subscriber, types=[], replay=0)
    emit(events)
    assert set(subscriber.lines[0]["params"]["event"]) == set(Event.__struct_fields__)
