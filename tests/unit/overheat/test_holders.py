"""Lease holders in the slice of the models are told from those outside, and the dead are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lease_host import ask
from superezio.wire import Placement
from supereziod.leases.handles import HeldBy
from supereziod.leases.processes import ProcessTable
from supereziod.leases.store import LeaseRecord, LeaseStore, read_leases
from supereziod.overheat.holders import lease_holders
from supereziod.storage import StorageError

SLICE = "superezio-models.slice"
MODEL = "/superezio.slice/superezio-models.slice/superezio-model@a.service"
SHELL = "/user.slice/user-1000.slice/session-3.scope"


def a_lease(lease: str, *pids: int) -> LeaseRecord:
    placement = Placement(
        decision="grant",
        policy="best_fit",
        vram_bytes=4,
        count=1,
        chosen=["GPU-1"],
        gpus=[],
        summary="fits",
    )
    return LeaseRecord(
        id=lease,
        uid=1000,
        params=ask(4),
        gpus={"GPU-1": 4},
        processes=tuple(HeldBy(pid=pid, start_time=9, confirmed=True) for pid in pids),
        placement=placement,
        granted_at="2026-01-01T00:00:00+00:00",
        granted_ns=1,
        correlation_id=None,
        idempotency_key=None,
    )


def a_process(root: Path, pid: int, *, cgroup: str, start_time: int = 9) -> None:
    folder = root / str(pid)
    folder.mkdir(parents=True)
    zeros = "0 " * 18
    (folder / "stat").write_text(f"{pid} (python) S 1 {zeros.strip()[2:]} {start_time} 0")
    (folder / "cgroup").write_text(f"0::{cgroup}\n")
    (folder / "cmdline").write_bytes(b"python\0train.py\0")


def test_who_holds_a_lease_is_named_with_pid_and_unit(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    a_process(root, 10, cgroup=MODEL)
    a_process(root, 11, cgroup=SHELL)
    a_process(root, 12, cgroup="/")
    a_process(root, 13, cgroup=SHELL, start_time=99)
    path = tmp_path / "leases.db"
    store = LeaseStore.open(path, boot_id="b")
    store.put(a_lease("in-it", 10))
    store.put(a_lease("outside", 11, 12))
    store.put(a_lease("of-the-dead", 13, 14))
    # The daemon is gone, and has closed nothing.
    records = read_leases(path, boot_id="b")
    assert [record.id for record in records] == ["in-it", "of-the-dead", "outside"]
    found = list(lease_holders(records, ProcessTable(root), slice_=SLICE))
    assert [(each.lease, each.pid, each.unit, each.command) for each in found] == [
        ("in-it", 10, "superezio-model@a.service", "python train.py"),
        ("outside", 11, "session-3.scope", "python train.py"),
        ("outside", 12, None, "python train.py"),
    ]
    assert [each.in_slice for each in found] == [True, False, False]
    assert read_leases(path, boot_id="another") == []
    store.close()


def test_reading_leases_of_a_dead_daemon_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leases.db"
    store = LeaseStore.open(path, boot_id="b")
    store.put(a_lease("one", 11))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert "leases.db-wal" in before
    assert [record.id for record in read_leases(path, boot_id="b")] == ["one"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    store.close()


def test_a_store_that_is_not_there_is_an_error_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*leases\.db"):
        read_leases(tmp_path / "leases.db", boot_id="b")
    assert list(tmp_path.iterdir()) == []
