from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fake_daemon import FakeDaemon, HangUp
from superezio import AsyncClient, Client, wire
from superezio.errors import NeverPassesError, RateLimitedError

AS_RESERVED = {
    "reservation": 5,
    "requests": None,
    "tokens": None,
    "money_micros": None,
    "retry_after_ms": None,
    "remaining": None,
}


def test_a_block_reserves_and_settles_what_it_used(client: Client, daemon: FakeDaemon) -> None:
    with client.limit(
        "openai", tokens=900, money_micros=20, concurrency=1, key="acme", wait="2s", rates="60/1m"
    ) as slot:
        slot.settle(tokens=412)
        slot.settle(money_micros=9)
        assert (slot.side, slot.waited_s) == ("daemon", 0.25)
        assert not daemon.asked("limit.settle"), "a slot of concurrency is held until the end"
    rate = {"limit": 60, "period_ms": 60_000, "burst": None}
    assert daemon.params_of("limit.acquire") == {
        "name": "openai",
        "requests": 1,
        "tokens": 900,
        "money_micros": 20,
        "concurrency": 1,
        "key": "acme",
        "wait_ms": 2000,
        "rates": {"requests": rate, "tokens": None, "money_micros": None, "concurrency": None},
        "if_exists": False,
    }
    assert daemon.params_of("limit.settle") == AS_RESERVED | {"tokens": 412, "money_micros": 9}
    (request,) = daemon.asked("limit.acquire")
    assert 5000 < request["meta"]["deadline_ms"] <= 7000, "a wait comes on top"


def test_what_is_not_settled_was_used_as_reserved(client: Client, daemon: FakeDaemon) -> None:
    with pytest.raises(LookupError), client.limit("openai", tokens=900):
        raise LookupError
    assert daemon.params_of("limit.settle") == AS_RESERVED


def test_what_the_service_says_is_passed_on(client: Client, daemon: FakeDaemon) -> None:
    with client.limit("openai") as slot:
        slot.throttled(2.5)
        slot.remaining(requests=3, requests_reset="6m0s", tokens=0, tokens_reset=1)
    assert daemon.params_of("limit.settle") == AS_RESERVED | {
        "retry_after_ms": 2500,
        "remaining": {
            "requests": 3,
            "requests_reset_ms": 360_000,
            "tokens": 0,
            "tokens_reset_ms": 1000,
        },
    }


def test_what_cannot_be_is_told_where_it_is_said_and_the_slot_comes_back(
    client: Client, daemon: FakeDaemon
) -> None:
    """The daemon would refuse the settle with it, and the slot would stay taken."""
    with client.limit("openai") as slot:
        for nonsense in (-1, 1.5, 2**53 + 1, "4"):
            with pytest.raises(ValueError, match="no amount of tokens"):
                slot.settle(tokens=nonsense)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="no amount of requests"):
                slot.remaining(requests=nonsense)  # type: ignore[arg-type]
        for never in (-1, float("nan"), float("inf"), "soon"):
            with pytest.raises(ValueError, match="duration"):
                slot.throttled(never)
    assert daemon.params_of("limit.settle") == AS_RESERVED


@pytest.mark.parametrize("error", [RateLimitedError("full"), NeverPassesError("too much")])
def test_without_room_nothing_runs(
    client: Client, daemon: FakeDaemon, error: RateLimitedError
) -> None:
    daemon.answers["limit.acquire"] = error
    with pytest.raises(type(error)), client.limit("openai"):
        pytest.fail("it ran")
    assert not daemon.asked("limit.settle")


def test_a_settle_that_fails_masks_no_result(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["limit.settle"] = HangUp

    @client.limit("openai")
    def ask() -> str:
        return "answer"

    assert ask() == "answer"


def test_a_caller_that_waits_is_in_no_other_callers_way(client: Client, daemon: FakeDaemon) -> None:
    """One thread waits for the only slot; the thread that has it can give it back."""
    granted, free = daemon.answers["limit.acquire"], threading.Event()

    def wait_for_room(params: dict[str, Any]) -> object:
        assert not params["wait_ms"] or free.wait(10)
        return granted

    def settle(_: object) -> object:
        free.set()
        return wire.LimitSettlement(settled=True)

    daemon.answers |= {"limit.acquire": wait_for_room, "limit.settle": settle}
    with client.limit("openai", concurrency=1):

        @client.limit("openai", concurrency=1, wait="30s")
        def second() -> None: ...

        waiting = threading.Thread(target=second)
        waiting.start()
        daemon.await_asked("limit.acquire", 2)
    waiting.join(10)
    assert not waiting.is_alive()


async def test_blocks_of_asyncio_do_the_same(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    async with aclient.limit("openai", tokens=900) as slot:
        slot.settle(tokens=412)
    assert daemon.params_of("limit.settle") == AS_RESERVED | {"tokens": 412}


async def test_room_that_comes_when_its_caller_has_left_is_given_back_unused(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    granted, go = daemon.answers["limit.acquire"], threading.Event()

    def late(_: object) -> object:
        go.wait(10)
        return granted

    daemon.answers["limit.acquire"] = late

    async def enter() -> None:
        async with aclient.limit("openai", wait="30s"):
            pytest.fail("it ran")

    task = asyncio.create_task(enter())
    await asyncio.to_thread(daemon.await_asked, "limit.acquire")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.to_thread(daemon.await_asked, "limit.settle")
    unused = {"requests": 0, "tokens": 0, "money_micros": 0}
    assert daemon.params_of("limit.settle") == AS_RESERVED | unused
