"""Client processes that do the same work at once over a socket, and how long each of them waits.

The processes live as long as the crowd, and each keeps its connections. In a round of `size` so
many of them work, the others sleep.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

from bench.processes import cpu_seconds
from bench.resilience.contest import (
    Caller,
    Coroutine,
    Place,
    Plain,
    Spread,
    Work,
    WorkFailedError,
    in_turns,
    is_coroutine,
)

_FIRST: Final = 50
#: Imported once, for all processes.
_PRELOADED: Final = ["bench.resilience.everyone"]


class Order(NamedTuple):
    """The work of which caller a process is to do, for how long."""

    number: int
    seconds: float


class Round(NamedTuple):
    """What a crowd did in one round: how much in all, how long each waited, what it cost."""

    a_second: float
    p50_us: float
    p99_us: float
    #: CPU time of the server for each piece of work.
    server_us: float

    @classmethod
    def of(cls, waits_ns: Sequence[int], *, seconds: float, server_s: float) -> Round:
        cuts = statistics.quantiles(waits_ns, n=100)
        done = len(waits_ns)
        return cls(done / seconds, cuts[49] / 1e3, cuts[98] / 1e3, server_s * 1e6 / done)


class Result(NamedTuple):
    """Several rounds."""

    a_second: Spread
    p50_us: Spread
    p99_us: Spread
    server_us: Spread

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Result:
        return cls(*(Spread.of(figures) for figures in zip(*rounds, strict=True)))


class Crowd:
    """`with Crowd(callers, place, servers, size=8) as crowd`: up to 8 client processes.

    `servers`: the process ids of those whose CPU time is told, by name.
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        place: Place,
        servers: Mapping[str, int],
        *,
        size: int,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._callers = callers
        self._servers = servers
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(size):
            here, there = context.Pipe()
            process = context.Process(target=attend, args=(there, place), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join()

    def run(self, caller: Caller, *, size: int, seconds: float) -> Round:
        """Return what `size` processes did at once. Raises WorkFailedError."""
        order = Order(self._callers.index(caller), seconds)
        ends = self._ends[:size]
        for end in ends:
            end.send(order)
        for end in ends:
            self._expect(end, caller)
        server = [self._servers[caller.server]]
        before_s = cpu_seconds(server)
        for end in ends:
            end.send(None)
        waits_ns: list[int] = []
        for end in ends:
            waits_ns += array("q", self._expect(end, caller))
        server_s = cpu_seconds(server) - before_s
        return Round.of(waits_ns, seconds=seconds, server_s=server_s)

    def results(
        self, callers: Sequence[Caller], *, size: int, rounds: int, seconds: float
    ) -> dict[Caller, Result]:
        """Return what each did in its rounds, taken in turns."""
        done: dict[Caller, list[Round]] = {each: [] for each in callers}
        for each in in_turns(callers, rounds):
            done[each].append(self.run(each, size=size, seconds=seconds))
        return {each: Result.of(its) for each, its in done.items()}

    @staticmethod
    def _expect(end: Connection, caller: Caller) -> bytes:
        try:
            told = end.recv()
        except EOFError:
            raise WorkFailedError(f"{caller.name}: a client process died") from None
        if isinstance(told, str):
            raise WorkFailedError(f"{caller.name}: no {caller.operation}: {told}")
        return cast("bytes", told)


def attend(end: Connection, place: Place) -> None:
    """Do what is ordered, in a process of its own, until the other end closes."""
    works: dict[int, Work] = {}
    with asyncio.Runner() as runner, suppress(EOFError, ConnectionError):
        while True:
            _do(end.recv(), end, place, works, runner)


def _do(
    order: Order, end: Connection, place: Place, works: dict[int, Work], runner: asyncio.Runner
) -> None:
    from bench.resilience.everyone import OVER_SOCKETS  # noqa: PLC0415 - it makes these orders

    try:
        if order.number not in works:
            works[order.number] = OVER_SOCKETS[order.number].begin(place)
        work = works[order.number]
        _timed(work, runner, count=_FIRST)
    except Exception as error:  # noqa: BLE001 - told to the other end, whatever it is
        end.send(f"{type(error).__name__}: {error}")
        return
    end.send(b"")
    end.recv()
    try:
        waits_ns = _timed(work, runner, seconds=order.seconds)
    except Exception as error:  # noqa: BLE001 - as above
        end.send(f"{type(error).__name__}: {error}")
    else:
        end.send(waits_ns.tobytes())


def _timed(
    work: Work, runner: asyncio.Runner, *, count: int = 1 << 40, seconds: float = 3600.0
) -> array[int]:
    """Do the work until one of both is over, and return how long it took each time."""
    if is_coroutine(work):
        return runner.run(_coroutine_timed(cast("Coroutine", work), count, seconds))
    return _plain_timed(cast("Plain", work), count, seconds)


def _plain_timed(work: Plain, count: int, seconds: float) -> array[int]:
    clock = time.perf_counter_ns
    waits_ns = array("q")
    began = clock()
    end = began + round(seconds * 1e9)
    while began < end and len(waits_ns) < count:
        if not work():
            raise WorkFailedError("it was answered otherwise")
        now = clock()
        waits_ns.append(now - began)
        began = now
    return waits_ns


async def _coroutine_timed(work: Coroutine, count: int, seconds: float) -> array[int]:
    clock = time.perf_counter_ns
    waits_ns = array("q")
    began = clock()
    end = began + round(seconds * 1e9)
    while began < end and len(waits_ns) < count:
        if not await work():
            raise WorkFailedError("it was answered otherwise")
        now = clock()
        waits_ns.append(now - began)
        began = now
    return waits_ns
