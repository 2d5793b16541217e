"""The clients against the real daemon on simulated GPUs."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from minders import until
from superezio import AsyncClient, errors
from superezio.events import Events

pytestmark = pytest.mark.installed


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory() as directory:
        live = LiveDaemon(Path(directory))
        try:
            yield live.start()
        finally:
            live.close()


def test_every_method_that_looks_answers_with_its_type(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        assert client.system_ping().pid == daemon.pid
        assert client.system_info().role in {"user", "admin"}
        assert client.health_get().verdict in {"healthy", "degraded"}
        gpus = client.gpu_list().gpus
        assert client.gpu_get(gpus[1].uuid).index == 1
        assert client.gpu_history("0").gpu == gpus[0].uuid
        assert client.gpu_processes().processes == []
        assert client.placement_explain("80GiB").decision == "never"
        assert client.lease_list().leases == []
        opened = client.session_open("test")
        resumed = client.session_open(token=opened.token)
        assert (resumed.session_id, resumed.resumed) == (opened.session_id, True)
        assert [s.name for s in client.session_list().sessions if s.name] == ["test"]
        assert client.session_close(opened.session_id).done
        assert client.rpc_discover()["openrpc"].startswith("1.")


def test_a_lease_is_held_for_the_block(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        with client.lease("8GiB", name="block") as lease:
            assert lease.holder[0].pid == os.getpid()
            assert lease.environment["CUDA_VISIBLE_DEVICES"] == lease.gpus[0].uuid
            with pytest.raises(errors.NoCapacityError) as caught:
                client.lease_acquire("8GiB")
            assert len(caught.value.data["placement"]["gpus"]) == 2
        assert client.lease_list().leases == []


def test_the_same_key_is_the_same_lease(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        first = client.lease_acquire("1GiB", idempotency_key="k-1")
        second = client.lease_acquire("1GiB", idempotency_key="k-1")
        assert first.id == second.id
        assert client.lease_release(first.id).released
        assert not client.lease_release(first.id).released


def test_a_connection_lease_lives_through_a_reconnect(daemon: LiveDaemon) -> None:
    with daemon.client() as client, client.lease("1GiB", mode="connection") as lease:
        client._conversation.connection.close()  # as when the daemon drops the connection
        client.system_ping()
        assert client.lease_get(lease.id).mode == "connection"
        assert client._conversation.keeps(lease.id)


def test_a_ttl_lease_is_renewed_and_given_back(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        with client.lease("1GiB", mode="ttl", ttl="30s", sizes_itself=True) as lease:
            assert client.lease_get(lease.id).state == "growing"
            assert client.lease_ready(lease.id).state == "granted"
            assert client.lease_renew(lease.id, ttl="2m").ttl_ms == 120_000
        with pytest.raises(errors.StaleLeaseError):
            client.lease_renew(lease.id)


def test_a_revoked_lease_is_answered_for_and_lost_at_its_deadline(daemon: LiveDaemon) -> None:
    with daemon.client() as client, client.events(["lease."]) as events:
        lease = client.lease_acquire("1GiB")
        order = client.lease_revoke(lease.id, deadline="1m", reason="a new driver").revocation
        assert order is not None
        assert (order.reason, order.message) == ("owner", "a new driver")
        answered = client.lease_acknowledge(lease.id, accept=False, message="busy").revocation
        assert answered is not None
        assert answered.answer == "refused"
        client.lease_revoke(lease.id, deadline=0)
        told = []
        while "lease.lost" not in told:
            told.append(next(events).event.type)
        assert told == [
            "lease.granted", "lease.draining", "lease.refused", "lease.draining", "lease.lost",
        ]  # fmt: skip
        with pytest.raises(errors.StaleLeaseError):
            client.lease_get(lease.id)


async def test_events_say_what_is_there_at_once_and_what_never_comes(daemon: LiveDaemon) -> None:
    types = ["daemon.started", "leese."]
    with daemon.client() as client, client.events(types, replay=1) as events:
        said = (events.replayed, events.unknown_types)
    other = AsyncClient(str(daemon.socket_path))
    async with other, other.events(types, replay=1) as async_events:
        assert (async_events.replayed, async_events.unknown_types) == said == (1, ["leese."])


async def test_a_lease_that_was_lost_is_no_error_at_the_end_of_its_block(
    daemon: LiveDaemon,
) -> None:
    async with AsyncClient(str(daemon.socket_path)) as client, client.events(["lease."]) as events:
        async with client.lease("1GiB", mode="ttl", ttl="30s") as lease:
            assert (await client.lease_renew(lease.id, ttl="1s")).ttl_ms == 1000
            async for item in events:
                if item.event.type == "lease.lost":
                    break
        with pytest.raises(errors.StaleLeaseError):
            await client.lease_ready(lease.id)


async def test_waiters_are_served_while_others_call(daemon: LiveDaemon) -> None:
    async with AsyncClient(str(daemon.socket_path)) as client:
        async with client.events(["lease."]) as events, client.lease("8GiB") as first:
            waiting = asyncio.create_task(client.lease_acquire("8GiB", wait="30s"))
            async for item in events:
                if item.event.type == "lease.queued":
                    break
            assert len((await client.lease_list()).queue) == 1
            assert not waiting.done()
        second = await waiting
        assert second.id != first.id
        await client.lease_release(second.id)


async def test_a_cancelled_acquire_leaves_the_queue(daemon: LiveDaemon) -> None:
    async with AsyncClient(str(daemon.socket_path)) as client, client.lease("8GiB"):
        async with client.events(["lease."]) as events:
            waiting = asyncio.create_task(client.lease_acquire("8GiB", wait="30s"))
            async for item in events:
                if item.event.type == "lease.queued":
                    break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # The cancellation went first; the loop of the daemon takes a turn to carry it out.
        await client.system_ping()
        assert (await client.lease_list()).queue == []


async def test_calls_live_through_a_kill_of_the_daemon(daemon: LiveDaemon) -> None:
    async with AsyncClient(str(daemon.socket_path), timeout_s=30.0) as client:
        lease = await client.lease_acquire("1GiB")
        daemon.kill()
        calls = [asyncio.create_task(client.gpu_list()) for _ in range(20)]
        await asyncio.to_thread(daemon.start)
        assert len(await asyncio.gather(*calls)) == 20
        assert (await client.lease_get(lease.id)).id == lease.id
        await client.lease_release(lease.id)


async def test_what_waited_when_its_client_was_closed_waits_no_more(daemon: LiveDaemon) -> None:
    """Else it takes a lease later, for a caller that was told of the end."""
    with daemon.client() as watch, watch.events(["lease."]) as events, watch.lease("8GiB"):
        client = AsyncClient(str(daemon.socket_path))
        waiting = asyncio.create_task(client.lease_acquire("8GiB", wait=30))
        await asyncio.to_thread(await_queued, events)
        await client.aclose()
        with pytest.raises(errors.ConnectionLostError):
            await waiting
        until(lambda: not watch.lease_list().queue)
    with daemon.client() as watch:
        assert watch.lease_list().leases == []


def await_queued(events: Events) -> None:
    while next(events).event.type != "lease.queued":
        continue
