"""No user's own events push those of others, or of the host, out of the history."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.wire import Event
from supereziod.observability.events import EventLog

FLOODER, OTHER = 1000, 1001


class Silent:
    def info(self, *_: object, **__: object) -> None: ...


@pytest.fixture
def log() -> EventLog:
    return EventLog(capacity=40, logger=Silent())


def told(log: EventLog, uid: int | None) -> list[Event]:
    return [each for each in log.recent(4096) if each.uid == uid]


def emit(log: EventLog, uid: int | None, count: int = 1) -> list[int]:
    return [log.emit("breaker.opened", "it is open", uid=uid).seq for _ in range(count)]


def test_events_of_others_and_of_the_host_survive_a_users_flood(log: EventLog) -> None:
    host, other = emit(log, None, 5), emit(log, OTHER, 5)
    own = emit(log, FLOODER, 1000)
    assert [each.seq for each in told(log, None)] == host
    assert [each.seq for each in told(log, OTHER)] == other
    assert [each.seq for each in told(log, FLOODER)] == own[-10:]


def test_a_flood_of_many_users_leaves_the_host_its_half(log: EventLog) -> None:
    host = emit(log, None, 30)
    for uid in range(100):
        emit(log, uid, 30)
    assert [each.seq for each in told(log, None)] == host[-20:]
    assert len(log.recent(4096)) == 40


def test_what_users_do_not_need_is_the_hosts_and_what_they_do_need_is_not(log: EventLog) -> None:
    host, own = emit(log, None, 1000), emit(log, OTHER, 10)
    assert [each.seq for each in told(log, None)] == host[-30:]
    emit(log, None, 1000)
    assert [each.seq for each in told(log, OTHER)] == own


def test_what_a_user_does_to_what_is_shared_counts_as_the_users(log: EventLog) -> None:
    """All hear of it; but nobody pushes out the host's events by it."""
    host, other = emit(log, None, 5), emit(log, OTHER, 5)
    for _ in range(1000):
        log.emit("breaker.opened", "it is open", by_uid=FLOODER)
    kept = log.recent(4096)
    assert [each.seq for each in kept[:10]] == host + other
    assert len(kept) == 20


def test_they_are_told_in_their_order_and_only_so_many(log: EventLog) -> None:
    seqs = [emit(log, uid)[0] for uid in (None, OTHER, None, FLOODER, OTHER)]
    assert [each.seq for each in log.recent(10)] == seqs
    assert [each.seq for each in log.recent(2)] == seqs[-2:]
    assert log.recent(0) == []


@given(uids=st.lists(st.sampled_from([None, 1, 2, 3, 4, 5]), max_size=60))
def test_the_newest_of_everyone_is_there_and_no_more_than_fits(uids: list[int | None]) -> None:
    """As many are kept as fit, but that nobody has more than a quarter of users' own."""
    log: Any = EventLog(capacity=16, logger=Silent())
    for uid in uids:
        emit(log, uid)
    kept = log.recent(4096)
    assert len(kept) <= 16
    assert [each.seq for each in kept] == sorted(each.seq for each in kept)
    everyone = {None, *uids}
    for uid in everyone:
        seqs = [each.seq for each in told(log, uid)]
        emitted = [seq for seq, each in enumerate(uids, 1) if each == uid]
        assert seqs == emitted[len(emitted) - len(seqs) :]
        assert len(seqs) <= 4 or uid is None
    hosts = uids.count(None)
    assert len(told(log, None)) >= min(hosts, 8)
    shares = sum(min(uids.count(uid), 4) for uid in everyone if uid is not None)
    assert len(kept) == min(16, hosts + shares)
