"""Where no file can be opened, nothing is said of processes that nobody could look at."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, Child, LeaseHost, caller_of, child, lease_host, turn
from superezio.errors import BusyError
from superezio.wire import LeaseAttachParams
from supereziod.gpu.hardware import Block
from supereziod.leases.processes import ProcessTable


@contextmanager
def free_files(count: int) -> Iterator[None]:
    """Let so many more files be opened; and see that as many may be afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # or what earlier tests left open may be closed, and so be free, in between
    taken = _lowest_free()
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert _lowest_free() == taken, "a descriptor was left open"


def _lowest_free() -> int:
    fd = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return fd


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def model() -> Iterator[Child]:
    with child() as process:
        yield process


async def test_nothing_is_granted_by_a_pass_that_could_not_be_taken_in(
    host: LeaseHost, model: Child
) -> None:
    """What came to be in use meanwhile is in no figure yet: the last one is too old."""
    host.now(model.caller(), vram=1)
    host.big.block = Block(code="cordoned", message="it is cordoned")
    host.monitor.changed()
    waiting = host.later(model.caller(), vram=8, wait_ms=60_000)
    await turn()
    with child() as stranger:
        host.big.processes = {stranger.pid: 10 * GIB}
        host.big.block = None
        host.clock.advance(2)
        with free_files(0):
            host.monitor.read()
            await turn()
            assert not waiting.done()
        host.monitor.read()
        await turn()
        assert not waiting.done()
    host.big.processes = {}
    host.monitor.read()
    lease = await waiting
    assert [gpu.uuid for gpu in lease.gpus] == [BIG]


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("with_pidfd", [True, False])
async def test_a_living_caller_is_told_to_come_again(
    host: LeaseHost, model: Child, *, with_pidfd: bool, count: int
) -> None:
    caller = model.caller() if with_pidfd else caller_of(model.pid)
    with free_files(count), pytest.raises(BusyError, match="limit of open files") as refused:
        host.now(caller)
    assert refused.value.retry_after_ms
    assert len(host.leases.list(caller).leases) == 0
    assert host.now(caller).holder[0].pid == model.pid


async def test_a_living_process_is_not_bound_without_a_look_at_it(
    host: LeaseHost, model: Child
) -> None:
    lease = host.now(caller_of())
    with free_files(1), pytest.raises(BusyError, match="limit of open files"):
        host.leases.attach(caller_of(), LeaseAttachParams(lease=lease.id, pid=model.pid))


async def test_a_lease_is_shown_without_its_command(host: LeaseHost) -> None:
    lease = host.now(caller_of())
    with free_files(0):
        shown = host.leases.get(caller_of(), lease.id)
    assert (shown.holder[0].pid, shown.holder[0].command) == (os.getpid(), None)
    assert host.leases.get(caller_of(), lease.id).holder[0].command


async def test_what_a_lease_uses_does_not_become_foreign(host: LeaseHost, model: Child) -> None:
    host.now(caller_of())  # this process, of which the model is a child
    host.small.processes[model.pid] = 4 * GIB
    with free_files(0):
        host.monitor.read()
        assert host.leases.usage()[SMALL].foreign_bytes == 0
    host.monitor.changed()
    usage = host.leases.usage()[SMALL]
    assert (usage.foreign_bytes, list(usage.lease_of_pid)) == (0, [model.pid])


def test_a_search_through_all_processes_is_whole_or_refused() -> None:
    with free_files(0), pytest.raises(BusyError, match="limit of open files"):
        ProcessTable().origins()
    assert os.getpid() in ProcessTable().origins()
