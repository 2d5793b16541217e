"""Closing a client while calls are in flight: none of them goes on afterwards."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon, Silence
from superezio import AsyncClient, Client, errors, wire


async def test_an_acquire_in_flight_is_not_made_again(daemon: FakeDaemon) -> None:
    """Else a lease is taken that nobody holds."""
    daemon.answers["lease.acquire"] = Silence
    client = AsyncClient(str(daemon.path))
    call = asyncio.create_task(client.lease_acquire("1GiB", wait=30))
    await asyncio.to_thread(daemon.await_asked, "lease.acquire")
    await client.aclose()
    with pytest.raises(errors.ConnectionLostError, match="client was closed"):
        await call
    assert len(daemon.asked("lease.acquire")) == daemon.connections == 1


async def test_one_that_pauses_before_another_try_does_not_try(daemon: FakeDaemon) -> None:
    daemon.stop()
    client = AsyncClient(str(daemon.path))
    call = asyncio.create_task(client.lease_acquire("1GiB", wait=30))
    await asyncio.sleep(0)
    await client.aclose()
    daemon.start()
    with pytest.raises(errors.ConnectionLostError, match="client was closed"):
        await call
    assert daemon.connections == 0


@pytest.mark.parametrize("turns", range(1, 6))
async def test_one_that_connects_does_not_go_on(daemon: FakeDaemon, turns: int) -> None:
    daemon.answers["lease.acquire"] = Silence
    client = AsyncClient(str(daemon.path))
    call = asyncio.create_task(client.lease_acquire("1GiB", wait=30))
    for _ in range(turns):
        await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(errors.ConnectionLostError):
        await call
    assert client._conversation.link is None
    assert daemon.connections <= 1


async def test_a_call_that_begins_after_the_close_connects_anew(daemon: FakeDaemon) -> None:
    client = AsyncClient(str(daemon.path))
    await client.system_ping()
    await client.aclose()
    assert (await client.system_ping()).pid == 77
    await client.aclose()
    assert daemon.connections == 2


def test_a_blocking_call_of_another_thread_comes_to_its_end_first(daemon: FakeDaemon) -> None:
    let_go = threading.Event()

    def later(_: dict[str, Any]) -> wire.Lease:
        assert let_go.wait(10)
        return wire_samples.lease()

    daemon.answers["lease.acquire"] = later
    client = Client(str(daemon.path))
    leases: list[wire.Lease] = []
    acquiring = threading.Thread(target=lambda: leases.append(client.lease_acquire("1GiB")))
    acquiring.start()
    daemon.await_asked("lease.acquire")
    closing = threading.Thread(target=client.close)
    closing.start()
    let_go.set()
    acquiring.join(10)
    closing.join(10)
    assert [lease.id for lease in leases] == ["1ea5e"]
    assert len(daemon.asked("lease.acquire")) == 1
    assert not client._conversation.connection.connected
