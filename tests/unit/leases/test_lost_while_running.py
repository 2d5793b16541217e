"""SEMANTICS 4 and 5: what processes of a LOST lease use is never free, and foreign in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, Child, LeaseHost, ask, caller_of, child, lease_host
from superezio.errors import NoCapacityError
from superezio.wire import Lease

ME = caller_of()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def server() -> Iterator[Child]:
    with child() as process:
        yield process


@pytest.fixture
def other() -> Iterator[Child]:
    """Somebody else: the test itself has started the server."""
    with child() as process:
        yield process


def grant(host: LeaseHost, server: Child, *, vram: float, **params: object) -> Lease:
    return host.now(server.caller(), vram=vram, avoid=[SMALL], mode="ttl", ttl_ms=9_000, **params)


def use(host: LeaseHost, server: Child, gib: float | None, *, passes: int = 1) -> None:
    host.big.processes[server.pid] = None if gib is None else round(gib * GIB)
    for _ in range(passes):
        host.clock.advance(1)
        host.monitor.read()


def lose(host: LeaseHost) -> None:
    """Let the lease run out while its process goes on."""
    host.clock.advance(10)
    host.monitor.changed()
    assert host.only("lease.lost")


def seen(host: LeaseHost) -> tuple[float, float]:
    """Return what is free and what is foreign on the GPU, in GiB."""
    usage = host.leases.usage()[BIG]
    assert usage.foreign_bytes is not None
    return usage.leasable_bytes / GIB, usage.foreign_bytes / GIB


async def test_its_use_is_foreign_after_the_time_for_a_return(
    host: LeaseHost, server: Child
) -> None:
    grant(host, server, vram=6)
    use(host, server, 4)
    lose(host)
    for _ in range(4):
        use(host, server, 4)
        assert seen(host) == (6, 0), "all that it held is on its way back"
    use(host, server, 4)
    assert seen(host) == (8, 4)
    (told,) = host.only("lease.unreturned")
    assert told.data["amount_bytes"] == 4 * GIB
    assert "4.0 GiB" in host.leases.unreturned()[BIG]
    use(host, server, 5)
    assert seen(host) == (7, 5), "what it takes now is foreign at once"


async def test_nobody_is_granted_what_it_still_uses(
    host: LeaseHost, server: Child, other: Child
) -> None:
    grant(host, server, vram=12)
    use(host, server, 10)
    lose(host)
    for _ in range(10):
        use(host, server, 10)
        with pytest.raises(NoCapacityError):
            host.leases.acquire(other.caller(), ask(3, avoid=[SMALL]))
    assert host.now(other.caller(), vram=2, avoid=[SMALL]).gpus[0].uuid == BIG


async def test_what_it_takes_while_the_return_is_awaited_is_not_free_either(
    host: LeaseHost, server: Child
) -> None:
    grant(host, server, vram=4)
    use(host, server, 3)
    lose(host)
    use(host, server, 7)
    assert seen(host)[0] <= 5
    use(host, server, 7, passes=5)
    assert seen(host) == (5, 7)


async def test_use_that_is_not_told_by_process_is_foreign_as_well(
    host: LeaseHost, server: Child
) -> None:
    grant(host, server, vram=6)
    use(host, server, None)
    host.big.foreign_bytes = 4 * GIB
    use(host, server, None, passes=4)
    lose(host)
    for _ in range(8):
        use(host, server, None)
        assert seen(host)[0] <= 8
    assert seen(host) == (8, 4)


async def test_a_lease_lost_while_it_grows_leaves_its_use_foreign(
    host: LeaseHost, server: Child, other: Child
) -> None:
    grant(host, server, vram=6, sizes_itself=True)
    use(host, server, 2)
    lose(host)
    use(host, server, 3, passes=6)
    assert seen(host) == (9, 3)
    assert host.now(other.caller(), vram=9, avoid=[SMALL]).gpus[0].uuid == BIG, "none grows"


async def test_a_holder_that_keeps_another_lease_is_counted_for_that(
    host: LeaseHost, server: Child
) -> None:
    kept = host.now(server.caller(), vram=2, avoid=[SMALL])
    grant(host, server, vram=4)
    use(host, server, 6)
    assert seen(host) == (6, 0)
    lose(host)
    assert seen(host) == (6, 0)
    use(host, server, 6)
    assert seen(host) == (6, 0)
    assert host.leases.get(ME, kept.id).gpus[0].actual_bytes == 6 * GIB


async def test_after_a_restart_it_is_foreign_from_the_first_reading(
    tmp_path: Path, server: Child
) -> None:
    async with lease_host(tmp_path) as before:
        grant(before, server, vram=6)
        use(before, server, 4)
        lose(before)
    async with lease_host(tmp_path, clock=before.clock) as after:
        use(after, server, 4)
        assert seen(after) == (8, 4)


async def test_it_may_be_leased_again_where_it_is(host: LeaseHost, server: Child) -> None:
    grant(host, server, vram=6)
    use(host, server, 4)
    lose(host)
    use(host, server, 4, passes=6)
    again = host.now(ME, vram=10, holder_pid=server.pid)
    assert again.gpus[0].uuid == BIG
    assert seen(host) == (2, 0)
