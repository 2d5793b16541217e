"""SEMANTICS 4 and 5: what holders have started is theirs over a restart, by pid and start time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from gpu_views import GIB
from lease_host import BIG, BOOT, Child, LeaseHost, caller_of, lease_host, tree, until
from superezio.wire import LeaseAttachParams
from supereziod.leases.processes import Identity, ProcessTable
from supereziod.leases.store import LeaseRecord, LeaseStore
from supereziod.storage import StorageError

ME = caller_of()


async def orphaned(host: LeaseHost, top: Child, middle: int, leaf: int) -> None:
    """Let the process in between end, once a pass has shown the leaf."""
    host.big.processes[leaf] = 3 * GIB
    host.clock.advance(10)
    host.monitor.read()
    os.kill(middle, 9)
    origin = ProcessTable().origin
    await until(lambda: (found := origin(leaf)) is not None and found.parent_pid != middle)
    assert top.process.poll() is None


def recorded(directory: Path) -> list[LeaseRecord]:
    store = LeaseStore.open(directory / "leases.db", boot_id=BOOT)
    records, _ = store.load()
    store.close()
    return records


def use(host: LeaseHost, leaf: int) -> tuple[int | None, int | None]:
    """Return what the lease uses, and what is foreign, with the leaf at work."""
    host.big.processes[leaf] = 3 * GIB
    host.clock.advance(1)
    host.monitor.read()
    (lease,) = host.leases.list(ME).leases
    return lease.gpus[0].actual_bytes, host.leases.usage()[BIG].foreign_bytes


async def test_an_orphan_is_its_holders_after_a_restart(tmp_path: Path) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as before:
            before.now(top.caller(), prefer=[BIG])
            await orphaned(before, top, middle, leaf)
        async with lease_host(tmp_path, clock=before.clock) as after:
            assert use(after, leaf) == (3 * GIB, 0)


async def test_what_was_found_is_on_disk_before_anything_else_happens(tmp_path: Path) -> None:
    """A kill -9 loses what nobody had seen yet, and nothing more."""
    with tree() as (top, _, leaf):
        async with lease_host(tmp_path) as host:
            host.now(top.caller(), prefer=[BIG])
            host.big.processes[leaf] = GIB
            host.monitor.read()
            (record,) = recorded(tmp_path)
            assert leaf in {each.pid for each in record.kin}


async def test_a_search_finds_those_that_use_no_gpu_yet(tmp_path: Path) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as before:
            before.now(top.caller(), prefer=[BIG])
            before.clock.advance(10)
            before.monitor.read()
            os.kill(middle, 9)
        await until(lambda: not Path(f"/proc/{middle}/exe").exists())
        async with lease_host(tmp_path, clock=before.clock) as after:
            assert use(after, leaf) == (3 * GIB, 0)


async def test_a_reused_pid_is_nobodys_after_a_restart(tmp_path: Path) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as before:
            before.now(top.caller(), prefer=[BIG])
            await orphaned(before, top, middle, leaf)
        (record,) = recorded(tmp_path)
        others = tuple(Identity(each.pid, each.start_time + 1) for each in record.kin)
        store = LeaseStore.open(tmp_path / "leases.db", boot_id=BOOT)
        store.put(structs.replace(record, kin=others))
        store.close()
        async with lease_host(tmp_path, clock=before.clock) as after:
            assert use(after, leaf) == (0, 3 * GIB)


async def test_what_has_ended_leaves_the_record(tmp_path: Path) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as host:
            host.now(top.caller(), prefer=[BIG])
            await orphaned(host, top, middle, leaf)
            await until(lambda: not Path(f"/proc/{middle}/exe").exists())
            top.ask()
            host.clock.advance(10)
            host.monitor.read()
            (record,) = recorded(tmp_path)
            kept = {each.pid for each in record.kin} - {middle}  # a zombie until it is collected
            assert kept == {leaf}
            os.kill(leaf, 9)
            await until(lambda: ProcessTable().origin(leaf) is None)
            host.clock.advance(10)
            host.monitor.read()
            (record,) = recorded(tmp_path)
            assert leaf not in {each.pid for each in record.kin}


async def test_what_a_ttl_leases_process_left_behind_is_the_leases(tmp_path: Path) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as before:
            before.now(top.caller(), prefer=[BIG], mode="ttl")
            await orphaned(before, top, middle, leaf)
            top.kill()
            await until(lambda: not before.leases.list(ME).leases[0].holder)
            assert use(before, leaf) == (3 * GIB, 0)
        async with lease_host(tmp_path, clock=before.clock) as after:
            assert use(after, leaf) == (3 * GIB, 0)


async def test_two_leases_of_a_process_share_what_it_started_after_a_restart(
    tmp_path: Path,
) -> None:
    with tree() as (top, middle, leaf):
        async with lease_host(tmp_path) as before:
            one = before.now(top.caller(), vram=1, prefer=[BIG], mode="ttl")
            two = before.now(ME, vram=1, prefer=[BIG], mode="ttl")
            before.leases.attach(ME, LeaseAttachParams(lease=two.id, pid=top.pid))
            await orphaned(before, top, middle, leaf)
        async with lease_host(tmp_path, clock=before.clock) as after:
            after.big.processes[leaf] = 3 * GIB
            after.clock.advance(1)
            after.monitor.read()
            used = [after.leases.get(ME, each.id).gpus[0].actual_bytes for each in (one, two)]
            assert used == [3 * GIB, 3 * GIB]
            assert after.free(BIG) == 9 * GIB, "one holder, counted once"


async def test_what_cannot_be_committed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with tree() as (top, _, leaf):
        async with lease_host(tmp_path) as host:
            host.now(top.caller(), prefer=[BIG])
            host.big.processes[leaf] = GIB
            with monkeypatch.context() as broken:
                broken.setattr(host.store, "put", full)
                host.monitor.read()
            assert recorded(tmp_path)[0].kin == ()
            host.monitor.read()
            assert leaf in {each.pid for each in recorded(tmp_path)[0].kin}
