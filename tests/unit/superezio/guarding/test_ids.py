"""All requests of one guarded call go by one id, and its errors name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client
from superezio.errors import BreakerOpenError, DaemonNotRunningError


def ids(daemon: FakeDaemon) -> list[str]:
    return [request["meta"]["correlation_id"] for request in daemon.requests]


def fetch(number: int) -> int:
    return 2 * number


async def fetch_async(number: int) -> int:
    return 2 * number


def test_each_call_has_an_id_of_its_own_for_all_its_requests(
    client: Client, daemon: FakeDaemon
) -> None:
    guarded = client.guard("openai", ttl=60)(fetch)
    guarded(1)
    first = ids(daemon)
    assert len(first) == 6
    assert len(set(first)) == 1
    guarded(1)
    second = ids(daemon)[6:]
    assert len(set(second)) == 1
    assert first[0] != second[0]


async def test_an_asyncio_call_has_so_too(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    guarded = aclient.guard("openai", ttl=60)(fetch_async)
    await guarded(1)
    await guarded(1)
    told = ids(daemon)
    assert len(set(told[:6])) == len(set(told[6:])) == 1
    assert told[0] != told[6]


def test_the_block_knows_its_id(client: Client, daemon: FakeDaemon) -> None:
    with client.guard("openai") as call:
        pass
    with client.breaker("openai") as permit:
        pass
    with client.limit("openai") as slot:
        pass
    told = [call.correlation_id, permit.correlation_id, slot.correlation_id]
    assert list(dict.fromkeys(ids(daemon))) == told
    assert len(set(told)) == 3


async def test_the_block_of_asyncio_knows_it_too(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    async with aclient.guard("openai") as call:
        pass
    async with aclient.breaker("openai") as permit:
        pass
    async with aclient.limit("openai") as slot:
        pass
    told = [call.correlation_id, permit.correlation_id, slot.correlation_id]
    assert list(dict.fromkeys(ids(daemon))) == told


def test_the_callers_own_id_is_asked_for_once_a_call(daemon: FakeDaemon) -> None:
    given = iter(("job-1", "job-2"))
    with Client(str(daemon.path), correlation_id=lambda: next(given)) as client:
        guarded = client.guard("openai")(fetch)
        guarded(1)
        guarded(1)
    assert ids(daemon) == ["job-1"] * 4 + ["job-2"] * 4


def test_what_is_told_where_there_is_no_daemon_names_the_call_too(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nobody")
    with Client(nowhere, correlation_id=lambda: "job-1", timeout_s=0.2) as client:
        with pytest.raises(DaemonNotRunningError) as closed, client.breaker("openai"):
            pytest.fail("it ran")
        guarded = client.breaker("openai", when_absent="local", window_calls=1, minimum_calls=1)
        with pytest.raises(OSError, match="down"), guarded:
            raise OSError("down")
        with pytest.raises(BreakerOpenError) as local, guarded:
            pytest.fail("it ran")
    assert closed.value.correlation_id == local.value.correlation_id == "job-1"


async def test_so_it_is_with_asyncio(tmp_path: Path) -> None:
    client = AsyncClient(str(tmp_path / "nobody"), correlation_id=lambda: "job-1", timeout_s=0.2)
    with pytest.raises(DaemonNotRunningError) as closed:
        async with client.breaker("openai"):
            pytest.fail("it ran")
    assert closed.value.correlation_id == "job-1"
