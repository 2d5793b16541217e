"""The stored reason of the watchdog, over restarts and with a disk that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from supereziod.health.record import (
    StoredReasons,
    WatchdogRecord,
    Withholding,
    read_reasons,
)
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents, StorageError
from unit.health.host import Host

HEAT = Withholding(
    kind="overheat",
    message="GPU 0 is CRITICAL",
    time="2026-11-22T12:00:00.000+00:00",
    boot_id="boot-1",
    gpu="GPU-0",
    temperature_c=95,
)


def test_a_first_start_knows_of_nothing(host: Host) -> None:
    assert host.record.last is None
    assert host.record.current is None


def test_a_run_that_ends_withholding_tells_the_next_one_why(host: Host) -> None:
    assert host.record.withhold(HEAT)
    assert WatchdogRecord(host.documents).last == HEAT


def test_a_run_that_resumed_tells_nothing(host: Host) -> None:
    host.record.withhold(HEAT)
    host.record.resume()
    assert WatchdogRecord(host.documents).last is None


def test_a_later_death_for_another_reason_is_not_taken_for_overheating(host: Host) -> None:
    host.record.withhold(HEAT)
    WatchdogRecord(host.documents)
    body = host.documents.get("watchdog")
    assert body is not None
    assert b'"current":null' in body
    assert WatchdogRecord(host.documents).last == HEAT


def test_what_is_cleared_stays_cleared(host: Host) -> None:
    host.record.withhold(HEAT)
    again = WatchdogRecord(host.documents)
    again.clear_last()
    assert again.last is None
    assert WatchdogRecord(host.documents).last is None


@pytest.mark.parametrize(
    "body", [b"not json", b'{"current": 5}', b"[]", b'{"current": {"kind": "\xff"}}']
)
def test_a_record_that_cannot_be_read_is_said_and_taken_for_none(host: Host, body: bytes) -> None:
    host.documents.put("watchdog", body)
    with capture_logs() as logs:
        assert WatchdogRecord(host.documents).last is None
    assert [each["event"] for each in logs] == ["watchdog.record_unreadable"]


def test_a_reason_that_cannot_be_stored_is_said_once_and_stored_when_it_can(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    database = Database.open(blocked / "state.db", schema=Documents.SCHEMA)
    record = WatchdogRecord(Documents(database))
    with capture_logs() as logs:
        assert not record.withhold(HEAT)
        assert not record.withhold(HEAT)
    assert [each["event"] for each in logs] == ["watchdog.record_not_stored"]
    assert record.current == HEAT
    database.close()


def test_a_reason_that_cannot_be_stored_is_known_to_the_next_life_and_to_the_overheat_unit(
    tmp_path: Path,
) -> None:
    """Semantics 7: the reason is stored first, so that the next start, and that unit, know it."""
    state = tmp_path / "state"
    runtime_dir = tmp_path / "run"
    runtime_dir.mkdir()

    def life() -> WatchdogRecord:
        database = Database.open(state / "state.db", schema=Documents.SCHEMA)
        return WatchdogRecord(Documents(database, stopgap=Stopgap(runtime_dir)))

    assert not life().withhold(HEAT)
    left = read_reasons(state / "state.db", runtime_dir=runtime_dir)
    assert left == StoredReasons(current=HEAT)
    assert life().last == HEAT
    left = read_reasons(state / "state.db", runtime_dir=runtime_dir)
    assert left == StoredReasons(last=HEAT), "it withholds nothing"
    state.mkdir()
    assert life().last == HEAT
    assert read_reasons(state / "state.db") == StoredReasons(last=HEAT), "written when it can be"


def test_what_a_run_stored_is_read_when_it_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = Database.open(path, schema=Documents.SCHEMA)
    assert read_reasons(path) == StoredReasons()
    WatchdogRecord(Documents(database)).withhold(HEAT)
    assert read_reasons(path) == StoredReasons(current=HEAT)
    WatchdogRecord(Documents(database))
    assert read_reasons(path) == StoredReasons(last=HEAT)
    for body in (b"{", b'{"current": {"kind": "\xff"}}'):
        Documents(database).put("watchdog", body)
        with pytest.raises(StorageError, match="is damaged"):
            read_reasons(path)
    database.close()
