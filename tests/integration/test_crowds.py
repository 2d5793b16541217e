"""Thousands of callers in one asyncio program, by a real daemon: none is refused for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from live_daemon import LiveDaemon
from superezio import AsyncClient
from superezio.errors import FillTimeoutError, RateLimitedError

pytestmark = [pytest.mark.installed, pytest.mark.timeout(60)]

CROWD = 2000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("daemon")).start()
    yield live
    live.close()


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    """A daemon that takes four requests of a connection at a time."""
    config = "[limits]\nin_flight_per_connection = 4\n"
    live = LiveDaemon(tmp_path_factory.mktemp("narrow"), config=config).start()
    yield live
    live.close()


def client_of(daemon: LiveDaemon) -> AsyncClient:
    return AsyncClient(str(daemon.socket_path), timeout_s=20.0)


async def waiting_for(client: AsyncClient, namespace: str, count: int) -> None:
    """Wait until the daemon has so many that wait for a value of a namespace."""
    async with asyncio.timeout(10):
        while True:
            stats = (await client.cache_stats()).namespaces
            if sum(each.waiting for each in stats if each.namespace == namespace) == count:
                return


async def test_of_a_crowd_that_wants_one_value_one_fetches_it(daemon: LiveDaemon) -> None:
    calls: list[int] = []
    async with client_of(daemon) as client, client_of(daemon) as watching:

        @client.cached("one", key=str)
        async def fetch(number: int) -> int:
            calls.append(number)
            await waiting_for(watching, "one", 1)
            return number

        assert set(await asyncio.gather(*(fetch(7) for _ in range(CROWD)))) == {7}
    assert calls == [7]


async def test_a_crowd_that_wants_as_many_values_has_each_fetched_once(daemon: LiveDaemon) -> None:
    calls: list[int] = []
    async with client_of(daemon) as client:

        @client.cached("many", key=str)
        async def fetch(number: int) -> int:
            calls.append(number)
            await asyncio.sleep(0)
            return -number

        values = await asyncio.gather(*(fetch(number) for number in range(CROWD)))
    assert values == [-number for number in range(CROWD)]
    assert sorted(calls) == list(range(CROWD))


async def test_a_crowd_waits_for_what_others_fetch_and_leaves_turns_for_who_leads(
    daemon: LiveDaemon,
) -> None:
    """As many keys as there are turns twice over, led by others; beside them one can still lead."""
    async with client_of(daemon) as others, client_of(daemon) as client:
        leads = [await others.cache_get("led", str(n), fill=True) for n in range(256)]
        more = client_of(daemon)
        leads += [await more.cache_get("led", str(n), fill=True) for n in range(256, 400)]

        @client.cached("led", key=str)
        async def fetch(number: int) -> str:
            raise AssertionError(number)

        @client.guard("beside", rates={"requests": "1000/1s", "concurrency": 1}, wait="10s", ttl=60)
        async def beside(number: int) -> int:
            return number

        crowd = [asyncio.ensure_future(fetch(number)) for number in range(400)]
        async with asyncio.timeout(10):
            assert await asyncio.gather(*map(beside, range(20))) == list(range(20))
        for number, lead in enumerate(leads):
            teller = others if number < 256 else more
            await teller.cache_set("led", str(number), "v", token=lead.token)
        assert await asyncio.gather(*crowd) == ["v"] * 400
        await more.aclose()


async def test_a_crowd_waits_for_room_in_a_limit_in_the_order_of_arrival(
    daemon: LiveDaemon,
) -> None:
    got: list[int] = []
    async with client_of(daemon) as client:
        limit = client.limit("gpu", requests=0, concurrency=1, wait="50s", rates={"concurrency": 1})

        async def enter(number: int) -> None:
            async with limit:
                got.append(number)

        await asyncio.gather(*map(enter, range(CROWD)))
    assert got == list(range(CROWD))


async def test_who_waits_in_the_client_until_its_time_is_up_hears_what_there_is_no_room_for(
    daemon: LiveDaemon,
) -> None:
    slots: Any = {"requests": 0, "concurrency": 1, "rates": {"concurrency": 1}}
    async with client_of(daemon) as client, client.limit("full", **slots):

        async def enter() -> None:
            async with client.limit("full", wait="300ms", **slots):
                pytest.fail("it ran")

        ended = await asyncio.gather(*(enter() for _ in range(500)), return_exceptions=True)
    assert {type(each) for each in ended} == {RateLimitedError}
    assert {each.data["dimension"] for each in ended} == {"concurrency"}  # type: ignore[union-attr]


async def test_who_waits_in_the_client_until_its_time_is_up_gets_a_value_that_came_meanwhile(
    narrow: LiveDaemon,
) -> None:
    async with client_of(narrow) as other, client_of(narrow) as client:
        leads = [await other.cache_get("late", str(number), fill=True) for number in range(200)]

        @client.cached("late", key=str, fill_wait="2s")
        async def fetch(number: int) -> str:
            raise AssertionError(number)

        crowd = [asyncio.ensure_future(fetch(number)) for number in range(200)]
        await waiting_for(other, "late", 4)
        stored = await other.cache_set("late", "199", "v", token=leads[199].token)
        assert stored.stored
        ended = await asyncio.gather(*crowd, return_exceptions=True)
    assert ended[199] == "v"
    assert {type(each) for each in ended[:199]} == {FillTimeoutError}


async def test_a_daemon_that_takes_fewer_at_once_is_asked_by_fewer(narrow: LiveDaemon) -> None:
    async with client_of(narrow) as client:
        limit = client.limit("gpu", requests=0, concurrency=1, wait="20s", rates={"concurrency": 1})

        async def enter() -> None:
            async with limit:
                pass

        await asyncio.gather(*(enter() for _ in range(300)))


async def test_the_last_that_goes_ends_the_wait_and_no_one_before_it(daemon: LiveDaemon) -> None:
    async with client_of(daemon) as other, client_of(daemon) as client:
        lead = await other.cache_get("left", "k", fill=True)

        @client.cached("left", key=lambda: "k")
        async def fetch() -> str:
            raise AssertionError

        crowd = [asyncio.ensure_future(fetch()) for _ in range(100)]
        await waiting_for(other, "left", 1)
        for caller in crowd[:-1]:
            caller.cancel()
        await asyncio.wait(crowd[:-1])
        await waiting_for(other, "left", 1)
        crowd[-1].cancel()
        await waiting_for(other, "left", 0)
        assert (await other.cache_set("left", "k", "v", token=lead.token)).accepted


async def test_a_leader_that_is_cancelled_hands_on_to_one_of_its_crowd(daemon: LiveDaemon) -> None:
    calls: list[str | None] = []
    async with client_of(daemon) as client:

        @client.cached("handed", key=lambda: "k")
        async def fetch() -> str | None:
            task = asyncio.current_task()
            assert task is not None
            calls.append(task.get_name())
            if len(calls) < 4:
                task.cancel()
            await asyncio.sleep(0)
            return "v"

        async def call() -> str | None:
            return await fetch()

        crowd = [asyncio.create_task(call(), name=str(n)) for n in range(100)]
        ended = await asyncio.gather(*crowd, return_exceptions=True)
    assert calls == ["0", "1", "2", "3"]
    assert [type(each) for each in ended[:3]] == [asyncio.CancelledError] * 3
    assert ended[3:] == ["v"] * 97


async def test_each_of_a_crowd_waits_for_as_long_as_it_said(daemon: LiveDaemon) -> None:
    async with client_of(daemon) as other, client_of(daemon) as client:
        lead = await other.cache_get("patient", "k", fill=True)

        def waiting(fill_wait: str) -> asyncio.Future[str]:
            @client.cached("patient", key=lambda: "k", fill_wait=fill_wait)
            async def fetch() -> str:
                raise AssertionError

            return asyncio.ensure_future(fetch())

        short = [waiting("1s") for _ in range(3)]
        long = [waiting("30s") for _ in range(3)]
        await asyncio.wait(short, timeout=0.7)
        later = waiting("1s")
        await asyncio.wait(short)
        assert {type(each.exception()) for each in short} == {FillTimeoutError}
        assert not later.done(), "it came later"
        await other.cache_set("patient", "k", "v", token=lead.token)
        assert await asyncio.gather(later, *long) == ["v"] * 4
