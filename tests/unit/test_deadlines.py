"""Many deadlines, one timer."""

from __future__ import annotations

import asyncio
import time

from gpu_views import FakeClock
from supereziod.deadlines import Deadlines


class Due:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.keys: list[str] = []
        self.deadlines: Deadlines[str] = Deadlines(clock=self.clock, on_due=self.keys.append)

    def at(self, key: str, seconds: float) -> None:
        self.deadlines.set(key, self.clock.now_ns + round(seconds * 1e9))


async def test_what_is_due_is_called_for_in_order() -> None:
    due = Due()
    for key, seconds in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        due.at(key, seconds)
    due.clock.advance(2)
    due.deadlines.run_due()
    assert due.keys == ["a", "b"]
    assert due.deadlines.get("c") is not None
    due.deadlines.close()


async def test_a_deadline_that_is_moved_or_dropped_does_not_come() -> None:
    due = Due()
    due.at("moved", 1)
    due.at("dropped", 1)
    due.at("moved", 5)
    due.deadlines.drop("dropped")
    due.deadlines.drop("never set")
    due.clock.advance(2)
    due.deadlines.run_due()
    assert due.keys == []
    due.clock.advance(4)
    due.deadlines.run_due()
    assert due.keys == ["moved"]


async def test_the_loop_calls_by_itself() -> None:
    done = asyncio.Event()
    deadlines: Deadlines[str] = Deadlines(clock=time.monotonic_ns, on_due=lambda _: done.set())
    deadlines.set("a", time.monotonic_ns() + 5_000_000)
    async with asyncio.timeout(5):
        await done.wait()
    deadlines.close()


async def test_dropped_deadlines_do_not_pile_up() -> None:
    due = Due()
    due.at("stays", 1000)
    for number in range(10_000):
        due.at(f"{number}", 2000 + number)
        due.deadlines.drop(f"{number}")
    assert len(due.deadlines._heap) < 200
    due.deadlines.close()


async def test_deadlines_that_are_moved_do_not_pile_up_behind_an_earlier_one() -> None:
    """A lease that is renewed each second for months is as much as one that never is."""
    due = Due()
    due.at("earlier", 1000)
    for number in range(10_000):
        due.at("moved", 2000 + number)
    assert len(due.deadlines._heap) < 200
    due.deadlines.close()
