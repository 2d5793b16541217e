"""SEMANTICS 5: a retried acquire returns the same lease, in whatever tick it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, Child, LeaseHost, caller_of, child, lease_host, turn, until
from superezio.errors import CancelledRequestError, StateNotWritableError
from superezio.wire import Lease
from supereziod.leases.quotas import Quota, QuotaRules
from supereziod.storage import StorageError

ME = caller_of()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


@pytest.fixture
def two() -> Iterator[list[Child]]:
    with ExitStack() as running:
        yield [running.enter_context(child()) for _ in range(2)]


async def test_a_retry_keeps_the_place_that_its_old_connection_would_have_lost(
    host: LeaseHost, two: list[Child]
) -> None:
    one, other = two
    taken = host.now(ME, vram=12)
    first = host.later(one.caller(), vram=10, wait_ms=60_000, key="k")
    behind = host.later(other.caller(), vram=10, wait_ms=60_000)
    await turn()
    again = host.later(one.caller(connection="new"), vram=10, wait_ms=60_000, key="k")
    host.leases.connection_closed(one.caller().connection)
    await turn()
    assert isinstance(first.exception(), CancelledRequestError)
    assert host.leases.counts == (1, 2)
    host.leases.release(ME, taken.id)
    await until(again.done)
    assert isinstance(again.result(), Lease)
    assert not behind.done()
    behind.cancel()
    await turn()


async def test_a_retry_that_comes_with_the_grant_is_answered(
    host: LeaseHost, two: list[Child]
) -> None:
    one, other = two
    growing = host.now(one.caller(), vram=2, sizes_itself=True, prefer=[BIG])
    host.small.foreign_bytes = 6 * GIB
    host.monitor.read()
    first = host.later(other.caller(), vram=8, wait_ms=60_000, key="k")
    await turn()
    again = host.later(other.caller(connection="new"), vram=8, wait_ms=60_000, key="k")
    host.leases.mark_ready(one.caller(), growing.id)
    await turn()
    assert again.result().id == first.result().id


async def test_a_retry_that_comes_with_a_cancellation_is_told(
    host: LeaseHost, two: list[Child]
) -> None:
    host.now(ME, vram=12)
    first = host.later(two[0].caller(), vram=10, wait_ms=60_000, key="k")
    await turn()
    again = host.later(two[0].caller(connection="new"), vram=10, wait_ms=60_000, key="k")
    host.leases.cancel(ME, host.leases.list(ME).queue[0].id)
    await turn()
    assert isinstance(first.exception(), CancelledRequestError)
    assert isinstance(again.exception(), CancelledRequestError)


async def test_a_retry_that_comes_with_other_quotas_is_answered(
    tmp_path: Path, two: list[Child]
) -> None:
    rules = QuotaRules(default=Quota(vram_bytes=GIB))
    async with lease_host(tmp_path, quotas=rules) as host:
        caller = two[0].caller(uid=4242)
        held = host.now(caller, vram=1)
        first = host.later(caller, vram=1, wait_ms=60_000, key="k")
        await turn()
        again = host.later(
            two[0].caller(uid=4242, connection="new"), vram=1, wait_ms=60_000, key="k"
        )
        host.leases.set_quotas(QuotaRules())
        await turn()
        assert first.result().id == again.result().id != held.id


async def test_a_retry_that_is_given_up_before_it_began_leaves_no_place_behind(
    host: LeaseHost, two: list[Child]
) -> None:
    host.now(ME, vram=12)
    first = host.later(two[0].caller(), vram=10, wait_ms=60_000, key="k")
    await turn()
    again = host.later(two[0].caller(connection="new"), vram=10, wait_ms=60_000, key="k")
    again.cancel()
    host.leases.connection_closed(two[0].caller().connection)
    await turn()
    assert isinstance(first.exception(), CancelledRequestError)
    assert again.cancelled()
    assert host.leases.counts == (1, 0)


async def test_who_waits_keeps_its_place_while_no_grant_can_be_recorded(
    host: LeaseHost, two: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = host.store._database
    execute = database.execute

    def on_a_full_disk(statement: str, parameters: tuple[object, ...] = ()) -> object:
        if statement.startswith("INSERT"):
            database._write_fault = "the disk is full"
            raise StorageError("the disk is full")
        return execute(statement, parameters)

    taken = host.now(ME, vram=12)
    first = host.later(two[0].caller(), vram=10, wait_ms=600_000)
    behind = host.later(two[1].caller(), vram=10, wait_ms=600_000)
    await turn()
    monkeypatch.setattr(database, "execute", on_a_full_disk)
    host.leases.release(ME, taken.id)
    host.clock.advance(1)
    host.monitor.read()
    await turn()
    assert host.leases.counts == (0, 2)
    with pytest.raises(StateNotWritableError):
        host.now(ME, vram=1)
    monkeypatch.setattr(database, "execute", execute)
    database._write_fault = None
    host.monitor.read()
    await until(first.done)
    assert isinstance(first.result(), Lease)
    assert not behind.done()
    behind.cancel()
    await turn()
