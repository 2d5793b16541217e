"""How the run before ended, told by what it left: killed, stopped, or gone with its host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from supereziod.health.record import WatchdogRecord, Withholding
from supereziod.health.run_record import Run, RunRecord
from supereziod.resilience.keeping import Keeper
from unit.health.host import Host

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RUN = Run(version=1, boot_id="boot-1", pid=7, started_at=NOON, last_seen=NOON, ended=False)


class Life:
    """Runs one after the other over one state database, on clocks that the test turns."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.documents = host.documents
        self.now = NOON
        self._pid = 6

    def begin(self, *, boot_id: str = "boot-1", explained: bool = False) -> RunRecord:
        """Start a run, as the daemon does: it reads, tells, and writes for the first time."""
        self._pid += 1
        record = RunRecord(
            boot_id=boot_id, pid=self._pid, clock=self.host.clock, now=lambda: self.now
        )
        self.keeper = Keeper(self.documents, {"run": record})
        record.load(self.keeper.found("run"), explained=explained, fault=self.host.database.fault)
        record.tell(self.host.events)
        self.keeper.keep()
        return record

    def pass_(self, seconds: float) -> None:
        """Let so much time go by, in which the keeper looks each second."""
        for _ in range(round(seconds)):
            self.host.clock.advance(1)
            self.now += timedelta(seconds=1)
            self.keeper.keep()

    def kept(self) -> Run:
        body = self.documents.get("run")
        assert body is not None
        return msgspec.json.decode(body, type=Run)


@pytest.fixture
def life(host: Host) -> Life:
    return Life(host)


def test_a_first_run_comes_after_none(life: Life) -> None:
    assert life.begin().sudden_end() is None
    assert life.host.told == []


def test_a_run_that_was_killed_is_told_of_by_the_next(life: Life) -> None:
    life.begin()
    life.pass_(25)
    record = life.begin()
    (event,) = life.host.told
    assert (event.type, event.severity) == ("daemon.ended_suddenly", "warning")
    assert event.data == {
        "previous_pid": 7,
        "started_at": "2026-11-22T12:00:00+00:00",
        "last_seen": "2026-11-22T12:00:20+00:00",
        "same_boot": True,
    }
    said = (
        "the previous run (pid 7, started 2026-11-22T12:00:00+00:00) ended suddenly, last seen"
        " 2026-11-22T12:00:20+00:00: killed by a signal (kill -9, the kernel's OOM killer,"
        " systemd's watchdog where it hung) or a crash; leases stand"
    )
    assert record.sudden_end() == said
    assert event.message == f"{said}; `journalctl -u superezio -b` has why"


def test_a_run_that_was_told_to_stop_is_not_told_of(life: Life) -> None:
    record = life.begin()
    life.pass_(3)
    record.stop()
    life.keeper.keep(final=True)
    assert life.kept().ended
    assert life.begin().sudden_end() is None
    assert life.host.told == []


def test_a_run_that_was_killed_while_it_stopped_is_told_of(life: Life) -> None:
    life.begin().stop()
    life.pass_(10)
    assert not life.kept().ended
    assert life.begin().sudden_end() is not None


def test_a_run_that_ends_by_an_exception_has_not_ended_in_order(life: Life) -> None:
    """What closes the daemon then writes for the last time, too."""
    life.begin()
    life.pass_(3)
    life.keeper.keep(final=True)
    assert life.kept().last_seen == life.now
    assert life.begin().sudden_end() is not None


def test_each_sudden_end_is_told_once_and_shown_in_the_run_after_it(life: Life) -> None:
    life.begin()
    again = life.begin()
    again.stop()
    life.keeper.keep(final=True)
    assert life.begin().sudden_end() is None
    assert life.host.types() == ["daemon.ended_suddenly"]


def test_a_run_that_ended_with_its_host_is_no_more_than_news(life: Life) -> None:
    life.begin()
    life.pass_(60)
    record = life.begin(boot_id="boot-2")
    (event,) = life.host.told
    assert (event.type, event.severity) == ("daemon.ended_suddenly", "info")
    said = record.sudden_end()
    assert said is not None
    assert said.startswith("the host ended suddenly under the previous run (pid 7, started ")
    assert said.endswith("or a reboot that did not wait; leases ended with that boot")
    assert event.message == f"{said}; `journalctl -b -1` has why"


def test_what_the_watchdog_explains_is_told_as_that_alone(life: Life) -> None:
    host = life.host
    life.begin()
    host.record.withhold(
        Withholding(kind="overheat", message="hot", time=NOON.isoformat(), boot_id="boot-1")
    )
    host.record = WatchdogRecord(host.documents)
    life.begin(explained=host.record.ended_last_run)
    assert host.told == []
    (reason,) = host.health().evaluate().reasons
    assert reason.check == "watchdog_restarted"
    # A kill after that is another end, which nothing else explains.
    host.record = WatchdogRecord(host.documents)
    record = life.begin(explained=host.record.ended_last_run)
    reasons = host.health(sudden_end=record.sudden_end).evaluate().reasons
    assert {each.check for each in reasons} == {"watchdog_restarted", "restarted_suddenly"}


def test_it_is_shown_for_a_quarter_of_an_hour_and_degrades_nothing(life: Life) -> None:
    life.begin()
    health = life.host.health(sudden_end=life.begin().sudden_end)
    life.host.clock.advance(899)
    (reason,) = health.evaluate().reasons
    assert (reason.check, reason.severity) == ("restarted_suddenly", "info")
    assert health.verdict == "healthy"
    life.host.clock.advance(1)
    assert health.evaluate().reasons == []


def test_it_is_written_at_the_start_and_once_in_ten_seconds(life: Life) -> None:
    life.begin()
    seen = []
    for _ in range(31):
        seen.append((life.kept().last_seen - NOON).total_seconds())
        life.pass_(1)
    assert seen == [0.0] * 10 + [10.0] * 10 + [20.0] * 10 + [30.0]


def _changed(**changes: Any) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(RUN), **changes})


def _without(member: str) -> bytes:
    fields = msgspec.to_builtins(RUN)
    del fields[member]
    return msgspec.json.encode(fields)


_SENSELESS = {
    "no text": b'{"boot_id": "\xff"}',
    "cut off": msgspec.json.encode(RUN)[:-1],
    "no object": b"[]",
    "too deep": b'{"a":' + b"[" * 100_000,
    "empty": b"",
    "another version": _changed(version=2),
    "a time without a zone": _changed(started_at="2026-11-22T12:00:00"),
    "a time that is none": _changed(last_seen="yesterday"),
    "seen before it began": _changed(last_seen="2026-11-22T11:59:59Z"),
    "seen when it is not yet": _changed(last_seen="2026-11-22T12:00:01Z"),
    **{f"no {name}": _without(name) for name in Run.__struct_fields__},
}


@pytest.mark.parametrize("body", _SENSELESS.values(), ids=_SENSELESS)
def test_what_makes_no_sense_is_told_as_nothing(life: Life, body: bytes) -> None:
    life.documents.put("run", body)
    assert life.begin().sudden_end() is None
    assert life.host.told == []
    assert life.kept().pid == 7, "and the run is kept as any other"


def test_what_makes_sense_is_told(life: Life) -> None:
    """The record that the others are changed from."""
    life.documents.put("run", msgspec.json.encode(RUN))
    assert life.begin().sudden_end() is not None


@pytest.mark.parametrize("year", ["0001-01-01", "9999-12-31"])
@pytest.mark.parametrize("zone", ["+14:00", "-12:00"])
def test_a_clock_at_either_end_of_time_stops_no_start(life: Life, year: str, zone: str) -> None:
    moment = f"{year}T00:00:00{zone}"
    life.documents.put("run", _changed(started_at=moment, last_seen=moment))
    life.begin()
    assert len(life.host.told) == (1 if year.startswith("0001") else 0)


def test_where_nothing_can_be_written_no_run_is_accused_of_what_it_could_not_say(
    life: Life,
) -> None:
    stopped = life.begin()
    life.host.database.execute("PRAGMA query_only = 1")
    stopped.stop()
    life.keeper.keep(final=True)
    assert not life.kept().ended
    for _ in range(2):
        assert life.begin().sudden_end() is None
    assert life.host.told == []


def test_a_record_that_cannot_be_written_is_when_it_can(life: Life) -> None:
    life.host.database.execute("PRAGMA query_only = 1")
    life.begin()
    life.host.database.execute("PRAGMA query_only = 0")
    life.pass_(1)
    assert life.kept().pid == 7
