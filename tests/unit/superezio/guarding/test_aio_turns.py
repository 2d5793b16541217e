"""Turns of requests that wait: bounded, in the order of arrival, and none is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.errors import BusyError, ConnectionLostError
from superezio.guarding.aio_turns import Turns


async def settled() -> None:
    """Let all tasks go on as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_out_than_there_are_turns() -> None:
    turns = Turns(at_once=4)
    for name in "abcd":
        await turns.take(name)
    fifth = asyncio.create_task(turns.take("e"))
    await settled()
    assert not fifth.done()
    turns.give_back("a")
    await fifth


async def test_a_lane_goes_in_the_order_of_arrival() -> None:
    turns, order = Turns(at_once=2), list[int]()

    async def go(number: int) -> None:
        await turns.take("lane")
        order.append(number)
        await asyncio.sleep(0)
        turns.give_back("lane")

    await asyncio.gather(*map(go, range(50)))
    assert order == list(range(50))


async def test_all_that_wait_are_told_when_the_client_is_closed_and_turns_go_on_after_that() -> (
    None
):
    turns = Turns(at_once=2, most_waiting=3)
    await turns.take("lane")
    waiting = [asyncio.create_task(turns.take("lane")) for _ in range(3)]
    await settled()
    waiting[0].cancel()
    turns.end_waits()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in ended} <= {ConnectionLostError, asyncio.CancelledError}
    later = [asyncio.create_task(turns.take("lane")) for _ in range(3)]
    await settled()
    for each in later:
        turns.give_back("lane")
        await each


async def test_who_was_refused_goes_before_those_that_wait() -> None:
    turns, order = Turns(at_once=2), list[str]()
    await turns.take("lane")

    async def go(name: str, *, first: bool) -> None:
        await turns.take("lane", first=first)
        order.append(name)
        turns.give_back("lane")

    later = asyncio.create_task(go("later", first=False))
    await settled()
    again = asyncio.create_task(go("again", first=True))
    await settled()
    turns.give_back("lane")
    await asyncio.gather(later, again)
    assert order == ["again", "later"]


async def test_a_lane_leaves_as_many_turns_to_others_as_it_has_out() -> None:
    """So that a call within a call of a crowded lane does not wait for the crowd."""
    turns = Turns(at_once=16)
    crowd = [asyncio.create_task(turns.take("crowded")) for _ in range(100)]
    await settled()
    assert sum(each.done() for each in crowd) == 8
    within = [asyncio.create_task(turns.take(f"within {number}")) for number in range(4)]
    await settled()
    assert all(each.done() for each in within)
    for each in crowd:
        each.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_who_goes_as_its_turn_comes_hands_it_on() -> None:
    turns = Turns(at_once=2)
    await turns.take("lane")
    going = asyncio.create_task(turns.take("lane"))
    staying = asyncio.create_task(turns.take("lane"))
    await settled()
    turns.give_back("lane")
    going.cancel()
    await settled()
    assert staying.done()
    assert going.cancelled()


async def test_too_many_that_wait_are_refused_and_told_when_to_come_again() -> None:
    turns = Turns(at_once=1, most_waiting=2)
    await turns.take("lane")
    waiting = [asyncio.create_task(turns.take("lane")) for _ in range(2)]
    await settled()
    with pytest.raises(BusyError) as caught:
        await turns.take("other")
    assert caught.value.retry_after_ms
    turns.give_back("lane")
    await waiting[0]
    turns.give_back("lane")
    await waiting[1]


async def test_a_daemon_that_takes_fewer_has_fewer_until_it_takes_more_again() -> None:
    turns = Turns(at_once=4)
    for name in "abc":
        await turns.take(name)
    turns.have_fewer()
    turns.give_back("c")
    third = asyncio.create_task(turns.take("c"))
    await settled()
    assert not third.done(), "two at a time"
    turns.give_back("a")
    await third
    turns.give_back("c")
    for _ in range(8):
        await turns.take("c")
        turns.give_back("c")
    more = [asyncio.create_task(turns.take(name)) for name in "cd"]
    await settled()
    assert all(each.done() for each in more)


@given(seed=st.integers(0, 2**32), at_once=st.integers(1, 9), callers=st.integers(1, 60))
def test_whoever_leaves_at_whatever_moment_no_turn_is_lost(
    seed: int, at_once: int, callers: int
) -> None:
    chance = random.Random(seed)
    turns, out = Turns(at_once=at_once), [0]

    async def go(lane: int) -> None:
        await turns.take(lane, first=chance.random() < 0.1)
        out[0] += 1
        assert out[0] <= at_once
        try:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        finally:
            out[0] -= 1
            turns.give_back(lane)

    async def main() -> None:
        tasks = [asyncio.create_task(go(chance.randrange(4))) for _ in range(callers)]
        for task in chance.sample(tasks, callers // 2):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)
            for lane in range(4, 4 + at_once):
                await turns.take(lane)

    asyncio.run(main())
