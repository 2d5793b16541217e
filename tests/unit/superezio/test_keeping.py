"""Connection leases over a reconnect: one that could not be resumed at once is not left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import wire_samples
from fake_daemon import FakeDaemon, Silence
from superezio import AsyncClient, Client, errors

LATER = [
    errors.BusyError("too many requests"),
    errors.ConflictError("the lease still has its connection"),
    errors.InternalError("broken"),
]
NEVER = [
    errors.StaleLeaseError("gone"),
    errors.PermissionDeniedError("it is of uid 1"),
    errors.InvalidParamsError("only a connection lease can be resumed"),
]
LEASE = wire_samples.lease(mode="connection", holder=[])


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    daemon.answers["lease.acquire"] = LEASE
    with Client(str(daemon.path), timeout_s=5.0) as made:
        made.lease_acquire("1GiB", mode="connection")
        yield made


@pytest.fixture
async def async_client(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    daemon.answers["lease.acquire"] = LEASE
    async with AsyncClient(str(daemon.path), timeout_s=5.0) as made:
        await made.lease_acquire("1GiB", mode="connection")
        yield made


def restart(daemon: FakeDaemon, *resumes: object) -> None:
    """Let another daemon answer, first so to resumes, and then well."""
    daemon.stop()
    daemon.answers["lease.resume"] = [*resumes, LEASE]
    daemon.start()


async def lose_link(client: AsyncClient) -> None:
    link = client._conversation.link
    assert link is not None
    await asyncio.wait_for(link._ended.wait(), 10)


@pytest.mark.parametrize("error", LATER, ids=lambda error: error.kind)
def test_what_could_not_be_resumed_is_at_the_next_call(
    client: Client, daemon: FakeDaemon, error: errors.SuperezioError
) -> None:
    """It is no error of a call that has nothing to do with the lease."""
    restart(daemon, error)
    for resumes in (1, 2, 2):
        client.system_ping()
        assert len(daemon.asked("lease.resume")) == resumes


@pytest.mark.parametrize("error", LATER, ids=lambda error: error.kind)
async def test_what_could_not_be_resumed_is_at_the_next_call_of_a_coroutine(
    async_client: AsyncClient, daemon: FakeDaemon, error: errors.SuperezioError
) -> None:
    restart(daemon, error)
    await lose_link(async_client)
    for resumes in (1, 2, 2):
        await async_client.system_ping()
        assert len(daemon.asked("lease.resume")) == resumes


@pytest.mark.parametrize("error", NEVER, ids=lambda error: error.kind)
def test_what_can_never_be_resumed_is_given_up(
    client: Client, daemon: FakeDaemon, error: errors.SuperezioError
) -> None:
    restart(daemon, error)
    for _ in range(2):
        client.system_ping()
    assert len(daemon.asked("lease.resume")) == 1


@pytest.mark.parametrize("error", NEVER, ids=lambda error: error.kind)
async def test_what_can_never_be_resumed_is_given_up_by_coroutines(
    async_client: AsyncClient, daemon: FakeDaemon, error: errors.SuperezioError
) -> None:
    restart(daemon, error)
    await lose_link(async_client)
    for _ in range(2):
        await async_client.system_ping()
    assert len(daemon.asked("lease.resume")) == 1


def test_a_call_that_ran_out_of_time_in_a_resume_leaves_it_to_the_next(
    client: Client, daemon: FakeDaemon
) -> None:
    restart(daemon, Silence)
    with pytest.raises(errors.ReplyTimeoutError):
        client.system_ping(timeout_s=0.05)
    client.system_ping()
    assert len(daemon.asked("lease.resume")) == 2


async def test_a_call_that_is_cancelled_in_a_resume_leaves_it_to_the_next(
    async_client: AsyncClient, daemon: FakeDaemon
) -> None:
    restart(daemon, Silence)
    await lose_link(async_client)
    call = asyncio.create_task(async_client.system_ping())
    await asyncio.to_thread(daemon.await_asked, "lease.resume")
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await async_client.system_ping()
    assert len(daemon.asked("lease.resume")) == 2


async def test_a_call_waits_for_the_resume_of_another_and_no_longer_than_it_may(
    async_client: AsyncClient, daemon: FakeDaemon
) -> None:
    restart(daemon, Silence)
    await lose_link(async_client)
    patient = asyncio.create_task(async_client.system_ping())
    await asyncio.to_thread(daemon.await_asked, "lease.resume")
    with pytest.raises(errors.ReplyTimeoutError, match=r"system\.info within 50ms"):
        await async_client.system_info(timeout_s=0.05)
    assert not patient.done()
    assert not daemon.asked("system.info")
    patient.cancel()
    await asyncio.wait({patient})


def test_a_lease_that_was_given_back_before_it_was_resumed_is_not_resumed(
    client: Client, daemon: FakeDaemon
) -> None:
    restart(daemon, errors.BusyError("too many requests"))
    client.system_ping()
    client.lease_release(LEASE.id)
    client.system_ping()
    assert len(daemon.asked("lease.resume")) == 1
