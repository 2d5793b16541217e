"""Several ways of doing one piece of work, timed in turns, so that all have the same weather.

A round times each of them once, the next round begins with another one. What a busy machine does
to a minute it so does to all of them.
"""

from __future__ import annotations

import asyncio
import inspect
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, cast

T = TypeVar("T")

#: Does the work once, and says whether what was to come of it did.
Plain = Callable[[], bool]
Coroutine = Callable[[], Awaitable[bool]]
Work = Plain | Coroutine

_FIRST: Final = 200


class Contestant(NamedTuple):
    """Somebody who does the work of `operation` in this process.

    `lacks`: what of the job it does not do, so that its figure is read for what it is. `begin`
    makes its work.
    """

    operation: str
    name: str
    lacks: str
    begin: Callable[[], Work]


class Place(NamedTuple):
    """Where servers listen. `redis` is where none does, if there is none."""

    daemon: Path
    redis: Path


class Caller(NamedTuple):
    """A contestant who asks a server, "daemon" or "redis"."""

    operation: str
    name: str
    lacks: str
    begin: Callable[[Place], Work]
    server: str


class Spread(NamedTuple):
    """A figure over several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))


class WorkFailedError(Exception):
    """A contestant did not do what it is timed for: its figure would say nothing."""


def timed_in_turns(
    contestants: Sequence[Contestant], *, rounds: int, seconds: float
) -> dict[Contestant, Spread]:
    """Return the nanoseconds that each takes for one piece of work, in this process."""
    with asyncio.Runner() as runner:
        heats = [Heat(each, runner, seconds) for each in contestants]
        figures: dict[Contestant, list[float]] = {each: [] for each in contestants}
        for heat in in_turns(heats, rounds):
            figures[heat.contestant].append(heat.run())
    return {each: Spread.of(times) for each, times in figures.items()}


class Heat:
    """One contestant, warmed up, and how often it does its work in a round."""

    def __init__(self, contestant: Contestant, runner: asyncio.Runner, seconds: float) -> None:
        self.contestant = contestant
        self._runner = runner
        self._work = contestant.begin()
        self._check(_FIRST)
        began = time.perf_counter_ns()
        self._repeat(_FIRST)
        once_ns = max(1, (time.perf_counter_ns() - began) // _FIRST)
        self._count = max(_FIRST, round(seconds * 1e9) // once_ns)

    def run(self) -> float:
        """Return the nanoseconds for each piece of work of a round."""
        began = time.perf_counter_ns()
        self._repeat(self._count)
        took_ns = time.perf_counter_ns() - began
        self._check(1)
        return took_ns / self._count

    def _repeat(self, count: int) -> None:
        if is_coroutine(self._work):
            self._runner.run(_awaited(cast("Coroutine", self._work), count))
            return
        work = self._work
        for _ in repeat(None, count):
            work()

    def _check(self, count: int) -> None:
        """Do the work and look at what came of it, which a round does not."""
        for _ in range(count):
            done = self._work()
            if not isinstance(done, bool):
                done = self._runner.run(_one(done))
            if not done:
                raise WorkFailedError(f"{self.contestant.name}: no {self.contestant.operation}")


def in_turns(all_of_them: Sequence[T], rounds: int) -> Iterator[T]:
    """Yield each of them once a round, another one first in each."""
    for number in range(rounds):
        first = number % len(all_of_them)
        yield from (*all_of_them[first:], *all_of_them[:first])


def is_coroutine(work: Work) -> bool:
    return inspect.iscoroutinefunction(work)


async def _awaited(work: Coroutine, count: int) -> None:
    for _ in repeat(None, count):
        await work()


async def _one(done: Awaitable[bool]) -> bool:
    return await done
