"""One timer for the earliest of many times."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

from supereziod.resilience.alarm import Alarm

WITHIN_S = 5.0
request: ContextVar[str] = ContextVar("request", default="none")


async def test_it_rings_at_the_earliest_time_that_it_was_set_to() -> None:
    rung = asyncio.Event()
    alarm = Alarm(clock=time.monotonic_ns, ring=rung.set)
    now = time.monotonic_ns()
    alarm.set(now + 3600 * 10**9)
    alarm.set(now + 10**6)
    alarm.set(now + 1800 * 10**9)
    alarm.set(None)
    await asyncio.wait_for(rung.wait(), WITHIN_S)
    assert time.monotonic_ns() >= now + 10**6


async def test_what_is_past_is_due_now_and_it_may_be_set_again() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    alarm = Alarm(clock=lambda: 10, ring=lambda: rung.put_nowait(request.get()))
    request.set("of somebody")
    for _ in range(2):
        alarm.set(5)
        told = await asyncio.wait_for(rung.get(), WITHIN_S)
        assert told == "none", "it rings for nobody's request"


async def test_one_that_is_closed_rings_no_more() -> None:
    rung: list[int] = []
    alarm = Alarm(clock=lambda: 10, ring=lambda: rung.append(1))
    alarm.set(5)
    alarm.close()
    alarm.close()
    other = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, other.set)
    await asyncio.wait_for(other.wait(), WITHIN_S)
    assert rung == []
