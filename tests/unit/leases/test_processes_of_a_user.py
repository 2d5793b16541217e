"""A user's processes take files of the daemon: so many may hold leases, and none is lost for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, Child, LeaseHost, caller_of, child, lease_host, until
from superezio.errors import BusyError
from superezio.wire import LeaseAttachParams
from unit.leases.test_out_of_files import free_files

ME = caller_of()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def model() -> Iterator[Child]:
    with child() as process:
        yield process


@pytest.fixture
def few(host: LeaseHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.leases._book, "_max_processes_per_uid", 3)


def attach(host: LeaseHost, lease: str, process: Child) -> None:
    host.leases.attach(ME, LeaseAttachParams(lease=lease, pid=process.pid))


@pytest.mark.usefixtures("few")
async def test_so_many_processes_may_hold_leases_of_a_user(host: LeaseHost, model: Child) -> None:
    leases = [host.now(ME, vram=1) for _ in range(3)]
    with pytest.raises(BusyError, match=f"3 hold leases of uid {os.getuid()}, and 3 may"):
        host.now(ME, vram=1)
    with pytest.raises(BusyError, match="Release leases, or end some"):
        attach(host, leases[0].id, model)
    assert len(host.leases.get(ME, leases[0].id).holder) == 1, "nothing was done"
    assert host.leases._book.holders.processes_of(os.getuid()) == 3


@pytest.mark.usefixtures("few")
async def test_a_process_counts_once_for_a_lease_and_once_for_each(
    host: LeaseHost, model: Child
) -> None:
    one, two = (host.now(ME, vram=1) for _ in range(2))
    attach(host, one.id, model)
    attach(host, one.id, model)
    with pytest.raises(BusyError):
        attach(host, two.id, model)
    host.leases.release(ME, one.id)
    attach(host, two.id, model)


@pytest.mark.usefixtures("few")
async def test_what_has_ended_makes_room(host: LeaseHost, model: Child) -> None:
    lease = host.now(ME, vram=1)
    with child() as other:
        attach(host, lease.id, other)
        attach(host, lease.id, model)
        other.kill()
        await until(lambda: len(host.leases.get(ME, lease.id).holder) == 2)
    with child() as other:
        attach(host, lease.id, other)
        assert host.leases._book.holders.processes_of(os.getuid()) == 3
    await until(lambda: len(host.leases.get(ME, lease.id).holder) == 2)
    host.leases.release(ME, lease.id)
    assert host.leases._book.holders.processes_of(os.getuid()) == 0


# --- a start with too many open files -----------------------------------------------------------


async def started_without_files(directory: Path, before: LeaseHost) -> LeaseHost:
    after = LeaseHost(directory, clock=before.clock)
    with free_files(0):
        await after.leases.start()
        after.leases.ready()
    return after


async def test_a_lease_stands_whose_process_cannot_be_opened_at_a_start(
    tmp_path: Path, model: Child
) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(model.caller(), prefer=[BIG])
        before.big.processes[model.pid] = GIB
        before.monitor.read()
    after = await started_without_files(tmp_path, before)
    try:
        assert (
            after.leases.get(ME, lease.id).holder == [] or not after.leases.get(ME, lease.id).holder
        )
        after.big.processes[model.pid] = GIB
        with free_files(0):
            after.monitor.read()
        assert len(after.leases.list(ME).leases) == 1
        after.monitor.read()
        after.clock.advance(1)
        after.monitor.read()
        shown = after.leases.get(ME, lease.id)
        assert [each.pid for each in shown.holder] == [model.pid], "it is watched from now on"
        assert shown.gpus[0].actual_bytes == GIB
        model.kill()
        await until(lambda: not after.leases.list(ME).leases)
        assert after.leases._book.holders.processes_of(os.getuid()) == 0
    finally:
        await after.leases.aclose()


async def test_one_whose_process_has_ended_meanwhile_is_over(tmp_path: Path, model: Child) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(model.caller())
        kept = before.now(ME)
        attach(before, kept.id, model)
    after = await started_without_files(tmp_path, before)
    try:
        model.kill()
        after.monitor.read()
        assert [each.id for each in after.leases.list(ME).leases] == [kept.id]
        (over,) = after.only("lease.released")
        assert over.lease == lease.id
        assert [each.pid for each in after.leases.get(ME, kept.id).holder] == [os.getpid()]
    finally:
        await after.leases.aclose()


async def test_one_that_cannot_be_opened_yet_can_be_released(tmp_path: Path, model: Child) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(model.caller())
    after = await started_without_files(tmp_path, before)
    try:
        after.leases.release(ME, lease.id)
        after.monitor.read()
        assert not after.leases.list(ME).leases
        assert after.leases._book.holders.processes_of(os.getuid()) == 0
    finally:
        await after.leases.aclose()
