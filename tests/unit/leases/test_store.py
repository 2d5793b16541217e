"""Leases on disk: committed before anybody hears of them, void with another boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from lease_host import ask
from superezio.wire import Placement
from supereziod.leases.handles import HeldBy
from supereziod.leases.store import LeaseRecord, LeaseStore
from supereziod.storage import StorageError


def a_record(lease: str = "lease-1", *, granted_ns: int = 1) -> LeaseRecord:
    return LeaseRecord(
        id=lease,
        uid=1000,
        params=ask(4, name="llama"),
        gpus={"GPU-1": 4},
        processes=(HeldBy(pid=7, start_time=9, confirmed=True),),
        placement=Placement(
            decision="grant",
            policy="best_fit",
            vram_bytes=4,
            count=1,
            chosen=["GPU-1"],
            gpus=[],
            summary="fits",
        ),
        granted_at="2026-01-01T00:00:00+00:00",
        granted_ns=granted_ns,
        correlation_id="c",
        idempotency_key="k",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leases.db"


def test_what_was_put_is_loaded_oldest_first(path: Path) -> None:
    store = LeaseStore.open(path, boot_id="b")
    newer, older = a_record("a", granted_ns=2), a_record("b", granted_ns=1)
    store.put(newer)
    store.put(older)
    changed = structs.replace(newer, processes=())
    store.put(changed)
    store.close()
    store = LeaseStore.open(path, boot_id="b")
    assert store.load() == ([older, changed], [])
    store.delete("a")
    assert store.load() == ([older], [])
    store.close()


def test_another_boot_voids_all_for_good(path: Path) -> None:
    store = LeaseStore.open(path, boot_id="one")
    store.put(a_record())
    store.close()
    store = LeaseStore.open(path, boot_id="two")
    records, voided = store.load()
    assert records == []
    assert [row.id for row in voided] == ["lease-1"]
    store.close()
    store = LeaseStore.open(path, boot_id="one")
    assert store.load() == ([], [])
    store.close()


@pytest.mark.parametrize("body", ["{}", b'{"id": "\xff"}'])
def test_a_damaged_row_voids_itself_alone(path: Path, body: str | bytes) -> None:
    store = LeaseStore.open(path, boot_id="b")
    store.put(a_record())
    store._database.execute("INSERT INTO leases VALUES ('bad', 'b', ?)", (body,))
    records, voided = store.load()
    assert [record.id for record in records] == ["lease-1"]
    assert [row.id for row in voided] == ["bad"]
    assert "damaged" in voided[0].reason
    store.close()


def test_a_corrupt_file_is_moved_aside(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    store = LeaseStore.open(path, boot_id="b")
    assert store.moved_aside is not None
    assert store.fault is None
    assert store.load() == ([], [])
    store.close()


def test_a_deletion_that_failed_is_made_up_for_before_the_next_grant(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    store = LeaseStore.open(folder / "leases.db", boot_id="b")
    store.forget("lease-1")
    assert store.fault is not None
    with pytest.raises(StorageError):
        store.put(a_record("lease-2"))
    assert not store.recheck()
    folder.mkdir()
    other = LeaseStore.open(folder / "leases.db", boot_id="b")
    other.put(a_record("lease-1"))
    other.close()
    assert store.recheck()
    assert store.load() == ([], [])
    store.put(a_record("lease-2"))
    assert [record.id for record in store.load()[0]] == ["lease-2"]
    store.close()
