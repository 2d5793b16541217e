"""EXCLUSIVE_PROCESS: a GPU that CUDA gives to one process admits nothing while it is taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host
from probe_doubles import NO_DETAILS
from superezio.errors import NoCapacityError
from superezio.wire import PlacementParams

ME = caller_of()
EXCLUSIVE = replace(NO_DETAILS, compute_mode="exclusive_process")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    """Two GPUs, the big one in EXCLUSIVE_PROCESS; what fits the small one is not asked for."""
    async with lease_host(tmp_path, read=False) as host:
        host.big.details = EXCLUSIVE
        host.monitor.read()
        yield host


async def refusal(host: LeaseHost) -> str:
    """Return why the big GPU is refused to a small lease, whoever else has room."""
    answer = host.leases.explain(ME, PlacementParams(vram_bytes=7 * GIB, avoid=[SMALL]))
    placement = await answer if hasattr(answer, "__await__") else answer
    (reason,) = (gpu for gpu in placement.gpus if gpu.uuid == BIG)
    return reason.message if reason.code == "compute_exclusive_taken" else reason.code


async def test_it_is_granted_while_nobody_has_it(host: LeaseHost) -> None:
    assert host.leases.usage()[BIG].leasable_bytes == 12 * GIB
    assert host.now(ME, vram=7).gpus[0].uuid == BIG


async def test_a_lease_takes_it_before_its_model_is_loaded(host: LeaseHost) -> None:
    """No process is listed yet: a second lease would fail in CUDA, so it is not granted."""
    host.now(ME, vram=7)
    with pytest.raises(NoCapacityError, match="EXCLUSIVE_PROCESS, and a lease is on it"):
        host.now(ME, vram=1, avoid=[SMALL])
    usage = host.leases.usage()[BIG]
    assert (usage.leasable_bytes, "EXCLUSIVE_PROCESS" in (usage.taken or "")) == (0, True)


@pytest.mark.parametrize("used", [6 * GIB, None])
async def test_the_process_that_has_it_can_be_leased_for(host: LeaseHost, used: int | None) -> None:
    host.big.processes[ME.pid] = used
    host.monitor.read()
    assert "a process has it" in await refusal(host)
    assert host.now(ME, vram=7).gpus[0].uuid == BIG
    with pytest.raises(NoCapacityError):
        host.now(ME, vram=1, avoid=[SMALL])


async def test_a_lease_whose_holder_is_on_the_gpu_takes_it(host: LeaseHost) -> None:
    host.now(ME, vram=7)
    host.big.processes[ME.pid] = 6 * GIB
    host.monitor.read()
    assert await refusal(host) == "its compute mode is EXCLUSIVE_PROCESS, and a lease is on it"


async def test_a_released_lease_has_it_until_its_process_has_left(host: LeaseHost) -> None:
    lease = host.now(ME, vram=7)
    host.big.processes[ME.pid] = 6 * GIB
    host.monitor.read()
    host.leases.release(ME, lease.id)
    assert "has not given it back yet" in await refusal(host)
    host.clock.advance(6)
    host.monitor.read()  # its return is not waited for any more, and the process is still there
    assert "a process has it" in await refusal(host)
    host.big.processes.clear()
    host.monitor.read()
    assert host.now(ME, vram=7).gpus[0].uuid == BIG


async def test_a_process_without_a_lease_takes_it(host: LeaseHost) -> None:
    host.big.processes[1] = None
    host.monitor.read()
    assert "a process has it" in await refusal(host)


async def test_one_whose_processes_cannot_be_read_counts_as_taken(host: LeaseHost) -> None:
    host.big.lists_processes = False
    host.monitor.read()
    assert "whether a process has it cannot be read" in await refusal(host)


async def test_in_the_default_mode_several_leases_share_a_gpu(host: LeaseHost) -> None:
    host.big.details = NO_DETAILS
    host.big.lists_processes = False
    host.monitor.read()
    assert [host.now(ME, vram=4, avoid=[SMALL]).gpus[0].uuid for _ in range(3)] == [BIG] * 3
