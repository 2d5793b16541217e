"""Cordons and fitness outlive the daemon, and a state that cannot be used stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from probe_doubles import SilentLog
from supereziod.gpu.fitness import Fitness
from supereziod.gpu.records import GpuRecords
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents


def records(documents: Documents) -> GpuRecords:
    return GpuRecords(documents, boot_id="boot", logger=SilentLog())


def documents_at(path: Path, *, stopgap: Path | None = None) -> Documents:
    database = Database.open(path, schema=Documents.SCHEMA)
    return Documents(database, stopgap=None if stopgap is None else Stopgap(stopgap))


def test_what_was_recorded_is_there_again(tmp_path: Path) -> None:
    first = records(documents_at(tmp_path / "state.db"))
    assert (first.cordons, first.fitness) == ({}, {})
    first.cordons["GPU-a"] = "fan"
    first.fitness["GPU-a"] = Fitness().dump(5, boot_id="boot")
    assert first.save_cordons()
    assert first.save_fitness()
    second = records(documents_at(tmp_path / "state.db"))
    assert second.cordons == first.cordons
    assert second.fitness == first.fitness


def test_a_document_that_makes_no_sense_is_left_out(tmp_path: Path) -> None:
    documents = documents_at(tmp_path / "state.db")
    documents.put("cordons", b"[1, 2]")
    documents.put("fitness", b"{")
    kept = records(documents)
    assert (kept.cordons, kept.fitness) == ({}, {})


def test_what_cannot_be_written_holds_in_memory(tmp_path: Path) -> None:
    kept = records(documents_at(tmp_path / "no" / "such" / "directory" / "state.db"))
    kept.cordons["GPU-a"] = "fan"
    assert not kept.save_cordons()
    assert not kept.save_fitness()
    assert kept.cordons == {"GPU-a": "fan"}


@pytest.mark.parametrize("name", ["cordons", "fitness", "hot"])
def test_what_cannot_be_written_is_told_in_a_sentence_once(tmp_path: Path, name: str) -> None:
    state = tmp_path / "not there yet" / "state.db"
    with capture_logs() as logs:
        kept = GpuRecords(documents_at(state), boot_id="boot")
        assert kept.has_written(name)
        for is_hot in (True, False):
            kept.save_cordons()
            kept.save_fitness()
            kept.note_heat("GPU-a", is_hot=is_hot)
        assert not kept.has_written(name)
        state.parent.mkdir()
        kept.write_owed()
    assert kept.has_written(name)
    (told,) = [line["message"] for line in logs if line.get("document") == name]
    assert "cannot be written, and is forgotten with a reboot: " in told


def test_what_could_not_be_written_is_once_it_can_be(tmp_path: Path) -> None:
    state = tmp_path / "not there yet" / "state.db"
    kept = records(documents_at(state))
    kept.cordons["GPU-a"] = "fan"
    kept.save_cordons()
    kept.note_heat("GPU-b", is_hot=True)
    kept.cordons["GPU-c"] = "dust"
    kept.write_owed()
    state.parent.mkdir()
    kept.write_owed()
    later = records(documents_at(state))
    assert later.cordons == {"GPU-a": "fan", "GPU-c": "dust"}
    assert later.was_hot("GPU-b")
    # It is owed no more: what another wrote since stays.
    later.cordons.clear()
    later.save_cordons()
    kept.write_owed()
    assert records(documents_at(state)).cordons == {}


def test_what_could_not_be_written_outlives_a_restart_and_is_written_by_the_next_life(
    tmp_path: Path,
) -> None:
    state = tmp_path / "not there yet" / "state.db"
    kept = records(documents_at(state, stopgap=tmp_path))
    kept.cordons["GPU-a"] = "fan"
    kept.save_cordons()
    kept.fitness["GPU-b"] = Fitness().dump(5, boot_id="boot")
    kept.save_fitness()
    kept.note_heat("GPU-c", is_hot=True)
    later = records(documents_at(state, stopgap=tmp_path))
    assert (later.cordons, later.fitness) == (kept.cordons, kept.fitness)
    assert later.was_hot("GPU-c")
    later.cordons["GPU-d"] = "dust"
    state.parent.mkdir()
    later.write_owed()
    assert records(documents_at(state)).cordons == {"GPU-a": "fan", "GPU-d": "dust"}
    assert records(documents_at(state)).was_hot("GPU-c")
    assert records(documents_at(state, stopgap=tmp_path)).cordons == later.cordons


def test_the_boot_is_this_one(tmp_path: Path) -> None:
    kept = GpuRecords(documents_at(tmp_path / "state.db"), logger=SilentLog())
    assert len(kept.boot_id) == 36


def test_a_gpu_that_was_hot_in_this_boot_is_known_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    first = records(documents_at(state))
    first.note_heat("GPU-a", is_hot=True)
    assert records(documents_at(state)).was_hot("GPU-a")
    assert not GpuRecords(documents_at(state), boot_id="next", logger=SilentLog()).was_hot("GPU-a")
    first.note_heat("GPU-a", is_hot=False)
    assert not records(documents_at(state)).was_hot("GPU-a")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"GPU-a": 1}', b'{"GPU-a": "\xff"}'])
def test_a_document_that_is_damaged_stops_no_start_and_loses_nothing_else(
    tmp_path: Path, body: bytes
) -> None:
    documents = documents_at(tmp_path / "state.db")
    documents.put("cordons", body)
    documents.put("hot", b'{"GPU-a": "boot"}')
    kept = records(documents)
    assert kept.cordons == {}
    assert kept.was_hot("GPU-a")
