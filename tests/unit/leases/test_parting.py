"""SEMANTICS 4: a holder that a release takes apart is spoken for as much as before, or more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, Child, LeaseHost, caller_of, child, lease_host
from superezio.errors import NoCapacityError
from superezio.wire import Lease, LeaseAttachParams

ME = caller_of()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def three() -> Iterator[list[Child]]:
    with ExitStack() as running:
        yield [running.enter_context(child()) for _ in range(3)]


def link(host: LeaseHost, *processes: Child) -> Lease:
    """Take a small lease on the big GPU that all these processes hold."""
    lease = host.now(processes[0].caller(), vram=0.25, prefer=[BIG])
    for process in processes[1:]:
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=process.pid))
    return lease


def read(host: LeaseHost) -> None:
    host.clock.advance(1)
    host.monitor.read()


def seen(host: LeaseHost, uuid: str) -> tuple[float, ...]:
    """Return what is reserved, foreign and free, in GiB."""
    usage = host.leases.usage()[uuid]
    assert usage.foreign_bytes is not None
    figures = usage.reserved_bytes, usage.foreign_bytes, usage.leasable_bytes
    return tuple(figure / GIB for figure in figures)


async def test_what_a_lost_process_uses_is_foreign_though_a_lease_moves(
    host: LeaseHost, three: list[Child]
) -> None:
    one, two, lost = three
    host.now(one.caller(), vram=4, prefer=[BIG])
    host.now(two.caller(), vram=4, prefer=[SMALL])
    linking = link(host, lost, one, two)
    host.small.processes = {lost.pid: 3 * GIB}
    read(host)
    assert seen(host, SMALL) == (4, 0, 2), "one holder, which has reserved more than it uses"
    host.leases.release(ME, linking.id)
    assert seen(host, SMALL) == (4, 3, 0)
    read(host)
    assert seen(host, SMALL) == (4, 3, 0), "as the next reading says"
    with pytest.raises(NoCapacityError):
        host.now(caller_of(), vram=2, avoid=[BIG])


async def test_a_lease_that_moves_takes_the_use_of_its_own_processes_along(
    host: LeaseHost, three: list[Child]
) -> None:
    one, two, _ = three
    host.now(one.caller(), vram=4, prefer=[BIG])
    host.now(two.caller(), vram=2, prefer=[BIG])
    linking = link(host, one, two)
    host.big.processes = {two.pid: 5 * GIB}
    read(host)
    assert seen(host, BIG) == (6.25, 0, 5.75)
    host.leases.release(ME, linking.id)
    assert seen(host, BIG) == (9.25, 0, 2.75), "the second uses more than it has reserved"
    read(host)
    assert seen(host, BIG) == (9, 0, 3)


async def test_what_is_used_without_a_lease_stays_with_whose_it_is(
    host: LeaseHost, three: list[Child]
) -> None:
    """On a GPU where only the lease that moves is, its reserve does not cover the others' use."""
    one, two, _ = three
    host.now(one.caller(), vram=4, prefer=[BIG])
    host.now(two.caller(), vram=3, prefer=[SMALL])
    linking = link(host, one, two)
    host.small.processes = {one.pid: 2 * GIB, two.pid: GIB}
    read(host)
    assert seen(host, SMALL) == (3, 0, 3)
    host.leases.release(ME, linking.id)
    assert seen(host, SMALL) == (5, 0, 1)
    read(host)
    assert seen(host, SMALL) == (5, 0, 1)


async def test_before_a_pass_a_holder_is_taken_apart_too(
    tmp_path: Path, three: list[Child]
) -> None:
    one, two, _ = three
    async with lease_host(tmp_path) as before:
        before.now(one.caller(), vram=4, prefer=[BIG])
        before.now(two.caller(), vram=2, prefer=[BIG])
        linking = link(before, one, two)
    async with lease_host(tmp_path, clock=before.clock, read=False) as after:
        after.leases.release(ME, linking.id)
        read(after)
        assert seen(after, BIG) == (6, 0, 6)
        after.big.processes = {one.pid: 5 * GIB, two.pid: GIB}
        read(after)
        assert seen(after, BIG) == (7, 0, 5)


async def test_a_holder_is_not_bound_to_where_only_the_process_was_that_it_lost(
    host: LeaseHost, three: list[Child]
) -> None:
    one, lost, _ = three
    host.now(one.caller(), vram=4, prefer=[BIG])
    linking = link(host, lost, one)
    host.big.processes = {one.pid: GIB}
    host.small.processes = {lost.pid: GIB}
    read(host)
    host.leases.release(ME, linking.id)
    lease = host.now(ME, vram=2, holder_pid=one.pid, prefer=[BIG])
    assert [gpu.uuid for gpu in lease.gpus] == [BIG], "before a reading, too"
