"""What was stopped is on disk before it is, and counts for its boot."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from supereziod.overheat.record import Stopped, StoppedRecord, StoppedUnit

STOPPED = Stopped(
    boot_id="boot-1", since_ns=5, gpus=("GPU-1",), units=(StoppedUnit(name="a.service"),)
)


def test_what_was_saved_is_found_by_the_next_run_until_it_is_removed(tmp_path: Path) -> None:
    record = StoppedRecord(tmp_path, boot_id="boot-1")
    assert record.load() is None
    record.save(STOPPED)
    assert StoppedRecord(tmp_path, boot_id="boot-1").load() == STOPPED
    assert [file.name for file in tmp_path.iterdir()] == ["stopped.json"]
    record.remove()
    record.remove()
    assert record.load() is None


def test_another_boot_has_nothing_to_bring_back(tmp_path: Path) -> None:
    StoppedRecord(tmp_path, boot_id="boot-1").save(STOPPED)
    assert StoppedRecord(tmp_path, boot_id="boot-2").load() is None


def test_a_record_of_before_says_nothing_of_who_held_a_lease_and_goes_by_name(
    tmp_path: Path,
) -> None:
    units = '[{"name": "a.service", "transient": false}]'
    (tmp_path / "stopped.json").write_text(
        f'{{"boot_id": "boot-1", "since_ns": 5, "gpus": ["GPU-1"], "units": {units}}}'
    )
    assert StoppedRecord(tmp_path, boot_id="boot-1").load() == STOPPED


def test_who_held_a_lease_has_the_first_turn_then_who_served_then_the_name() -> None:
    units = [
        StoppedUnit(name="a.service"),
        StoppedUnit(name="b.service"),
        StoppedUnit(name="c.service", served=True),
        StoppedUnit(name="d.service", held=True),
        StoppedUnit(name="e.service", held=True, served=True),
        StoppedUnit(name="f.service", held=True, served=True),
    ]
    inorder = sorted(units, key=lambda unit: unit.turn)
    assert [unit.name[0] for unit in inorder] == ["e", "f", "d", "c", "a", "b"]


def test_a_file_that_is_no_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "stopped.json").write_text("{")
    with pytest.raises(msgspec.MsgspecError):
        StoppedRecord(tmp_path, boot_id="boot-1").load()
