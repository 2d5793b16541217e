"""SEMANTICS 5: servers that already run are leased where they are, by what they use already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, Child, LeaseHost, ask, caller_of, child, lease_host, turn, until
from superezio.errors import NeverFitsError, NoCapacityError
from superezio.wire import AcquireParams, Lease, LeaseAttachParams, Placement
from supereziod.gpu.hardware import Block

ME = caller_of()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def server() -> Iterator[Child]:
    with child() as process:
        yield process


def use(host: LeaseHost, pid: int, *, big: float | None = 0, small: float = 0) -> None:
    """Let a process use so many GiB, and have that read."""
    for gpu, gib in ((host.big, big), (host.small, small)):
        gpu.processes.pop(pid, None)
        if gib is None or gib:
            gpu.processes[pid] = None if gib is None else round(gib * GIB)
    host.clock.advance(0.5)
    host.monitor.read()


def foreign(host: LeaseHost, uuid: str) -> int | None:
    return host.leases.usage()[uuid].foreign_bytes


def gpus(lease: Lease) -> list[str]:
    return [gpu.uuid for gpu in lease.gpus]


def code(error: NoCapacityError | NeverFitsError, uuid: str) -> str:
    reasons = error.data["placement"]["gpus"]
    return next(str(reason["code"]) for reason in reasons if reason["uuid"] == uuid)


# --- what is used counts for the lease ----------------------------------------------------------


@pytest.mark.parametrize(("vram", "left"), [(8, 4), (2, 4), (10, 2), (12, 0)])
async def test_need_is_weighed_against_what_is_free_and_ones_own(
    host: LeaseHost, server: Child, vram: int, left: int
) -> None:
    use(host, server.pid, big=8)
    assert (host.free(BIG), foreign(host, BIG)) == (4 * GIB, 8 * GIB)
    lease = host.now(ME, vram=vram, holder_pid=server.pid)
    assert gpus(lease) == [BIG]
    for _ in range(2):
        assert (host.free(BIG), foreign(host, BIG)) == (left * GIB, 0), "counted, and once"
        assert host.leases.get(ME, lease.id).gpus[0].actual_bytes == 8 * GIB
        host.monitor.read()
    assert not host.only("gpu.overcommitted")


@pytest.mark.parametrize(("vram", "left", "others"), [(8, 4, 0), (2, 4, 6), (10, 2, 0), (12, 0, 0)])
async def test_where_use_is_not_told_by_process_it_is_estimated(
    host: LeaseHost, server: Child, vram: int, left: int, others: int
) -> None:
    host.big.foreign_bytes = 8 * GIB
    use(host, server.pid, big=None)
    assert (host.free(BIG), foreign(host, BIG)) == (4 * GIB, 8 * GIB)
    lease = host.now(ME, vram=vram, holder_pid=server.pid)
    assert gpus(lease) == [BIG]
    for _ in range(4):
        assert (host.free(BIG), foreign(host, BIG)) == (left * GIB, others * GIB)
        (shown,) = host.leases.get(ME, lease.id).gpus
        assert (shown.actual_bytes, shown.actual_is_estimated) == (min(vram, 8) * GIB, True)
        host.clock.advance(1)
        host.monitor.read()


async def test_whose_untold_use_it_is_cannot_be_said_where_there_are_several(
    host: LeaseHost, server: Child
) -> None:
    host.big.foreign_bytes = 8 * GIB
    use(host, os.getppid(), big=None)
    use(host, server.pid, big=None)
    with pytest.raises(NoCapacityError):
        host.leases.acquire(ME, _ask(8, server, avoid=[SMALL]))
    host.now(ME, vram=4, holder_pid=server.pid)
    assert (host.free(BIG), foreign(host, BIG)) == (0, 8 * GIB)


async def test_what_others_use_is_not_ones_own(host: LeaseHost, server: Child) -> None:
    use(host, server.pid, big=8)
    use(host, os.getppid(), big=3)
    with pytest.raises(NoCapacityError) as refused:
        host.leases.acquire(ME, _ask(10, server))
    assert code(refused.value, BIG) == "insufficient_vram"
    assert gpus(host.now(ME, vram=9, holder_pid=server.pid)) == [BIG]


async def test_what_it_started_is_its_own(host: LeaseHost) -> None:
    code = "import subprocess,sys\nworker=subprocess.Popen(['sleep','60'])\nprint(worker.pid)"
    code += "\nimport atexit\natexit.register(worker.kill)"
    with child(code) as parent:
        use(host, int(parent.first_line), big=8)
        lease = host.now(ME, vram=9, holder_pid=parent.pid)
        assert gpus(lease) == [BIG]
        assert host.leases.get(ME, lease.id).gpus[0].actual_bytes == 8 * GIB
        os.kill(int(parent.first_line), 9)


async def test_whoever_asks_for_itself_is_weighed_likewise(host: LeaseHost, server: Child) -> None:
    use(host, server.pid, big=8)
    assert gpus(host.now(server.caller(), vram=10)) == [BIG]


async def test_the_same_use_is_not_counted_for_two_leases(host: LeaseHost, server: Child) -> None:
    use(host, server.pid, big=8)
    host.now(ME, vram=8, holder_pid=server.pid)
    with pytest.raises(NoCapacityError):
        host.leases.acquire(ME, _ask(5, server, avoid=[SMALL]))
    host.now(ME, vram=4, holder_pid=server.pid, avoid=[SMALL])
    assert host.free(BIG) == 0


async def test_what_a_holder_uses_beyond_its_leases_counts_for_the_next(
    host: LeaseHost, server: Child
) -> None:
    host.now(ME, vram=4, holder_pid=server.pid, prefer=[BIG])
    use(host, server.pid, big=9)
    assert host.free(BIG) == 3 * GIB
    host.now(ME, vram=8, holder_pid=server.pid, prefer=[BIG])
    assert host.free(BIG) == 0


async def test_a_server_that_holds_no_lease_may_have_its_gpu_alone(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=8)
    assert gpus(host.now(ME, vram=9, holder_pid=server.pid, policy="exclusive")) == [BIG]
    with pytest.raises(NoCapacityError):
        host.leases.acquire(ME, _ask(1, None, avoid=[SMALL]))


async def test_a_part_finds_no_room_where_its_server_takes_more_than_there_is(
    host: LeaseHost, server: Child
) -> None:
    nobody = caller_of(0)
    lease = host.now(nobody, vram=4, prefer=[SMALL], mode="ttl", ttl_ms=600_000)
    use(host, server.pid, big=1, small=3)
    with pytest.raises(NoCapacityError) as refused:
        host.leases.acquire(ME, _ask(2, server, split=True, count=2))
    assert code(refused.value, SMALL) == "insufficient_vram"
    host.leases.release(nobody, lease.id)
    host.clock.advance(1)
    host.monitor.read()
    assert gpus(host.now(ME, vram=8, holder_pid=server.pid, split=True, count=2))


# --- a server cannot move -----------------------------------------------------------------------


async def test_a_lease_is_placed_where_its_server_is(host: LeaseHost, server: Child) -> None:
    use(host, server.pid, big=2)
    lease = host.now(ME, vram=3, holder_pid=server.pid, prefer=[SMALL])
    assert gpus(lease) == [BIG]
    assert lease.placement is not None
    assert _reason(lease.placement, SMALL) == "elsewhere"


async def test_it_is_refused_where_its_server_is_and_not_placed_elsewhere(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=2)
    use(host, os.getppid(), big=9)
    with pytest.raises(NoCapacityError) as refused:
        host.leases.acquire(ME, _ask(5, server))
    assert code(refused.value, SMALL) == "elsewhere"
    with pytest.raises(NeverFitsError):
        host.leases.acquire(ME, _ask(5, server, avoid=[BIG]))


async def test_where_it_cannot_move_is_not_said_to_be_kept_for_others(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, small=2)
    use(host, os.getppid(), big=9)
    waiting = host.later(ME, vram=10, wait_ms=60_000)
    await until(lambda: "lease.queued" in host.types())
    with pytest.raises(NeverFitsError) as refused:
        host.leases.acquire(ME, _ask(8, server))
    assert code(refused.value, BIG) == "elsewhere"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_process_that_uses_none_is_placed_anywhere(host: LeaseHost, server: Child) -> None:
    use(host, os.getppid(), big=2)
    assert gpus(host.now(ME, vram=3, holder_pid=server.pid, prefer=[SMALL])) == [SMALL]


async def test_a_process_whose_use_is_leased_may_have_another_gpu(
    host: LeaseHost, server: Child
) -> None:
    host.now(ME, vram=3, holder_pid=server.pid, prefer=[BIG])
    use(host, server.pid, big=2)
    assert gpus(host.now(ME, vram=3, holder_pid=server.pid, prefer=[SMALL])) == [SMALL]
    use(host, server.pid, big=2, small=2)
    assert gpus(host.now(ME, vram=3, holder_pid=server.pid, prefer=[BIG])) == [BIG]


async def test_a_holder_at_work_on_a_gpu_without_a_lease_is_leased_there(
    host: LeaseHost, server: Child
) -> None:
    host.now(ME, vram=3, holder_pid=server.pid, prefer=[BIG])
    use(host, server.pid, big=2, small=4)
    assert gpus(host.now(ME, vram=5, holder_pid=server.pid, prefer=[BIG])) == [SMALL]
    assert host.free(SMALL) == 1 * GIB


async def test_a_server_on_two_gpus_is_leased_on_both(host: LeaseHost, server: Child) -> None:
    use(host, server.pid, big=4, small=4)
    assert set(gpus(host.now(ME, vram=5, count=2, holder_pid=server.pid))) == {BIG, SMALL}
    assert (host.free(BIG), host.free(SMALL)) == (7 * GIB, 1 * GIB)


async def test_a_server_that_is_to_have_one_more_gpu_keeps_its_own(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, small=4)
    assert set(gpus(host.now(ME, vram=5, count=2, holder_pid=server.pid))) == {BIG, SMALL}


async def test_whoever_asks_for_itself_is_leased_where_it_is_if_that_does(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=2)
    assert gpus(host.now(server.caller(), vram=3)) == [BIG]


async def test_whoever_asks_for_itself_may_go_on_to_another_gpu(
    host: LeaseHost, server: Child
) -> None:
    """It may have left a lease of which not all is back, or start a program that opens the GPU."""
    use(host, server.pid, small=2)
    assert gpus(host.now(server.caller(), vram=8)) == [BIG]
    assert gpus(host.now(server.caller(), vram=3, prefer=[BIG])) == [BIG]


async def test_a_server_that_opened_two_gpus_is_leased_where_it_works(
    host: LeaseHost, server: Child
) -> None:
    """CUDA programs often open every GPU they see, and work on one."""
    use(host, server.pid, big=5, small=0.2)
    assert gpus(host.now(ME, vram=5, holder_pid=server.pid)) == [BIG]


async def test_what_a_process_uses_counts_for_one_of_its_leases_that_wait(
    host: LeaseHost, server: Child
) -> None:
    """Two acquires in one step fit alone, and not together."""
    use(host, server.pid, big=4)
    use(host, os.getppid(), big=8)
    host.big.block = Block(code="cordoned", message="it is cordoned")
    host.monitor.changed()
    waits = [
        host.later(ME, vram=4, holder_pid=server.pid, wait_ms=60_000, avoid=[SMALL])
        for _ in range(3)
    ]
    await turn()
    host.big.block = None
    host.clock.advance(1)
    host.monitor.read()
    await turn()
    assert sum(each.done() for each in waits) == 1
    assert host.leases.usage()[BIG].reserved_bytes == 4 * GIB
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


# --- later --------------------------------------------------------------------------------------


async def test_attaching_a_process_counts_its_use_for_the_lease(
    host: LeaseHost, server: Child
) -> None:
    with child() as other:
        lease = host.now(other.caller(), vram=6, prefer=[BIG])
        use(host, server.pid, big=5)
        assert (host.free(BIG), foreign(host, BIG)) == (1 * GIB, 5 * GIB)
        shown = host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=server.pid))
        assert shown.gpus[0].actual_bytes == 5 * GIB
        for _ in range(2):
            assert (host.free(BIG), foreign(host, BIG)) == (6 * GIB, 0)
            host.monitor.read()


async def test_a_server_that_waits_for_room_is_granted_by_what_it_uses_then(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=8)
    use(host, os.getppid(), big=4)
    waiting = host.later(ME, vram=10, holder_pid=server.pid, wait_ms=60_000)
    await until(lambda: "lease.queued" in host.types())
    use(host, server.pid, big=2)
    use(host, os.getppid(), big=3)
    await turn()
    assert not waiting.done(), "9 are free or its own now"
    use(host, os.getppid(), big=2)
    async with asyncio.timeout(5):
        assert gpus(await waiting) == [BIG]
    assert host.free(BIG) == 0


async def test_what_it_used_before_it_was_granted_is_not_counted_any_more(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=8)
    use(host, os.getppid(), big=4)
    waiting = host.later(ME, vram=10, holder_pid=server.pid, wait_ms=60_000, avoid=[SMALL])
    await until(lambda: "lease.queued" in host.types())
    use(host, server.pid)
    use(host, os.getppid(), big=3)
    await turn()
    assert not waiting.done(), "it has left, and 9 are free"
    waiting.cancel()


async def test_a_server_that_gave_its_lease_back_can_have_another(
    host: LeaseHost, server: Child
) -> None:
    use(host, server.pid, big=8)
    first = host.now(ME, vram=4, holder_pid=server.pid)
    host.leases.release(ME, first.id)
    with pytest.raises(NeverFitsError):
        host.leases.acquire(ME, _ask(4, server, avoid=[BIG]))
    host.clock.advance(6)
    host.monitor.read()
    host.monitor.read()
    assert foreign(host, BIG) == 8 * GIB
    assert gpus(host.now(ME, vram=10, holder_pid=server.pid)) == [BIG]
    assert host.free(BIG) == 2 * GIB


async def test_a_server_that_gave_its_lease_back_is_still_where_it_is(
    host: LeaseHost, server: Child
) -> None:
    lease = host.now(ME, vram=2, holder_pid=server.pid, prefer=[SMALL])
    use(host, server.pid, big=3)
    host.leases.release(ME, lease.id)
    assert foreign(host, BIG) == 3 * GIB
    assert gpus(host.now(ME, vram=4, holder_pid=server.pid, prefer=[SMALL])) == [BIG]
    assert host.free(BIG) == 8 * GIB


def _ask(vram: float, process: Child | None, **params: Any) -> AcquireParams:
    return ask(vram, holder_pid=process.pid if process else None, **params)


def _reason(placement: Placement, uuid: str) -> str:
    return next(reason.code for reason in placement.gpus if reason.uuid == uuid)


async def test_what_a_holder_loses_with_one_of_its_leases_is_foreign_at_once(
    host: LeaseHost, server: Child
) -> None:
    """Two leases share a process. One is held by another besides, and is released."""
    host.now(server.caller(), vram=8, prefer=[BIG])
    lease = host.now(server.caller(), vram=1, prefer=[BIG])
    with child() as other:
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=other.pid))
        use(host, server.pid, big=1)
        use(host, other.pid, big=5)
        assert host.free(BIG) == 3 * GIB
        host.leases.release(ME, lease.id)
        assert foreign(host, BIG) == 5 * GIB
        assert host.free(BIG) == 0, "8 are promised, and 5 are used by nobody who holds a lease"
        with pytest.raises(NoCapacityError):
            await host.later(caller_of(other.pid), vram=2, avoid=[SMALL])
