"""What callers of one value share, and what each has to itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cancelling import CancelledAt
from fake_daemon import FakeDaemon, Silence
from superezio import AsyncClient, wire
from superezio.errors import (
    BusyError,
    ConnectionLostError,
    FillFailedError,
    FillTimeoutError,
    RateLimitedError,
)
from superezio.guarding.aio_turns import AT_ONCE

LEAD = wire.CacheAnswer(status="lead", token="t1")
FILLED = wire.CacheAnswer(status="filled", text="v")


def cached(client: AsyncClient, calls: list[int], **options: Any) -> Any:
    @client.cached("shared", key=lambda: "k", **options)
    async def fetch() -> str:
        calls.append(len(calls))
        return "own"

    return fetch


async def asked(daemon: FakeDaemon, method: str, count: int = 1) -> None:
    await asyncio.to_thread(daemon.await_asked, method, count)


async def test_one_leads_and_the_others_ask_once_for_all(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = [LEAD, FILLED]
    calls: list[int] = []
    fetch = cached(aclient, calls)
    assert await asyncio.gather(*(fetch() for _ in range(20))) == ["own"] + ["v"] * 19
    assert calls == [0]
    assert len(daemon.asked("cache.get")) == 2
    assert len(daemon.asked("cache.set")) == 1


async def test_a_hit_is_everybodys(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", text="v")
    fetch = cached(aclient, [])
    assert await asyncio.gather(*(fetch() for _ in range(20))) == ["v"] * 20
    assert len(daemon.asked("cache.get")) == 1


async def test_a_stale_value_is_everybodys_and_one_refreshes_it(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="stale", text="v", token="t2")
    calls: list[int] = []
    fetch = cached(aclient, calls, grace=60)
    assert await asyncio.gather(*(fetch() for _ in range(20))) == ["v"] * 20
    await asked(daemon, "cache.set")
    assert calls == [0]


async def test_an_error_is_everybodys_and_each_has_one_of_its_own(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = FillFailedError("it failed", data={"namespace": "shared"})
    fetch = cached(aclient, [])
    ended = await asyncio.gather(*(fetch() for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in ended} == {FillFailedError}
    assert len({id(each) for each in ended}) == 5
    assert all(getattr(each, "data", None) == {"namespace": "shared"} for each in ended)


async def test_without_the_cache_each_fetches_by_itself(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="miss")
    fetch = cached(aclient, [])
    assert await asyncio.gather(*(fetch() for _ in range(5))) == ["own"] * 5


async def test_different_keys_share_nothing(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    @aclient.cached("shared", key=str)
    async def fetch(number: int) -> int:
        return number

    assert await asyncio.gather(*map(fetch, range(5))) == list(range(5))
    assert len(daemon.asked("cache.get")) == 5


async def test_the_last_one_to_go_cancels_the_request(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = Silence
    fetch = cached(aclient, [])
    callers = [asyncio.ensure_future(fetch()) for _ in range(3)]
    await asked(daemon, "cache.get")
    for caller in callers[:2]:
        caller.cancel()
    await asyncio.wait(callers[:2])
    assert not daemon.asked("rpc.cancel")
    callers[2].cancel()
    await asked(daemon, "rpc.cancel")
    again = asyncio.ensure_future(fetch())
    await asked(daemon, "cache.get", 2)
    again.cancel()


async def test_a_lead_that_comes_as_its_caller_goes_is_given_back(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    fetch = cached(aclient, [])
    number = 0
    while not daemon.asked("cache.fail"):
        number += 1
        with pytest.raises(asyncio.CancelledError):
            await CancelledAt(fetch(), number, "goes on")
        assert not daemon.asked("cache.set"), "the wait for the answer is before that"
        async with aclient.limit("after"):
            """What was sent before has come."""
    assert daemon.params_of("cache.fail")["token"] == "t1"


async def test_each_has_its_own_time(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    """One that came later is not told that the time of the first is up."""
    daemon.answers["cache.get"] = [FillTimeoutError("too late", retry_after_ms=1), FILLED]
    fetch = cached(aclient, [], fill_wait=30)
    ended = await asyncio.gather(*(fetch() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in ended] == [FillTimeoutError, str, str]


async def test_closing_the_client_leaves_nobody_waiting(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = Silence
    fetch = cached(aclient, [])
    callers = [asyncio.ensure_future(fetch()) for _ in range(3)]
    await asked(daemon, "cache.get")
    await aclient.aclose()
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(each) for each in ended} == {ConnectionLostError}


async def test_closing_the_client_ends_the_wait_for_a_turn_and_nobody_connects_anew(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    """Neither those that wait, nor those that have room: it went with the connection."""
    room = daemon.answers["limit.acquire"]
    daemon.answers["limit.acquire"] = [room, Silence]
    entered, goes_on, waiting = asyncio.Event(), asyncio.Event(), set[int]()

    async def has_room() -> None:
        async with aclient.limit("l", wait="30s"):
            entered.set()
            await goes_on.wait()

    async def waits(number: int) -> None:
        waiting.add(number)
        async with aclient.limit("l", wait="30s"):
            pytest.fail("it ran")

    first = asyncio.ensure_future(has_room())
    await entered.wait()
    callers = [asyncio.ensure_future(waits(number)) for number in range(AT_ONCE + 100)]
    await asked(daemon, "limit.acquire", 1 + AT_ONCE // 2)
    assert len(waiting) == len(callers)
    await aclient.aclose()
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(each) for each in ended} == {ConnectionLostError}
    goes_on.set()
    await first
    assert daemon.connections == 1
    assert aclient._conversation.link is None
    daemon.answers["limit.acquire"] = room
    async with aclient.limit("l"):
        """The next call connects anew."""
    assert daemon.connections == 2


async def test_a_request_that_was_to_be_sent_again_ends_with_the_client(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["limit.acquire"] = BusyError(
        "256 requests", retry_after_ms=200, data={"limit": "in_flight_per_connection"}
    )

    async def waits() -> None:
        async with aclient.limit("l", wait="30s"):
            pytest.fail("it ran")

    caller = asyncio.ensure_future(waits())
    await asked(daemon, "limit.acquire")
    while aclient._conversation._users > 1:  # noqa: ASYNC110 - the answer is to come yet
        await asyncio.sleep(0)
    await aclient.aclose()
    with pytest.raises(ConnectionLostError):
        await caller
    assert daemon.connections == 1


async def test_a_request_that_was_one_too_many_is_sent_again(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    too_many = BusyError(
        "256 requests", retry_after_ms=1, data={"limit": "in_flight_per_connection"}
    )
    room = daemon.answers["limit.acquire"]
    daemon.answers["limit.acquire"] = [too_many, too_many, room]
    async with aclient.limit("openai", wait="10s"):
        pass
    assert len(daemon.asked("limit.acquire")) == 3


async def test_another_refusal_is_the_callers(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.answers["limit.acquire"] = BusyError(
        "too many requests a second", retry_after_ms=1, data={"limit": "requests_per_second"}
    )
    with pytest.raises(BusyError):
        async with aclient.limit("openai", wait="10s"):
            pytest.fail("it ran")
    daemon.answers["limit.acquire"] = RateLimitedError("no room", retry_after_ms=5)
    with pytest.raises(RateLimitedError):
        async with aclient.limit("openai", wait="10s"):
            pytest.fail("it ran")
