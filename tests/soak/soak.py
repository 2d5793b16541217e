"""Simulated days on a host: programs come and go, and whatever can befall them does."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from unittest.mock import patch

from msgspec import Struct

import supereziod.leases.book
import supereziod.leases.handles
from soak.daemon_run import DaemonRun
from soak.host import Host
from soak.judge import Judge
from soak.programs import Program, Stranger
from soak.readings import SoakMonitor
from soak.virtual_time import VirtualClock, VirtualLoop
from supereziod.leases.quotas import QuotaRules

DAY_S: Final = 86_400
#: How long after its end everything has to be over.
_AFTERMATH_S: Final = 1200


class SoakError(Exception):
    """The truth and the daemon part. The message has the seed, and what led to it."""


class Mishap(Struct, frozen=True):
    """Something that happens every so many hours on average. It may last."""

    name: str
    every_h: float
    happen: Callable[[Soak, random.Random], Awaitable[None]]


class Soak:
    """A host for a number of days. `hardship`: how much oftener than usual things go wrong."""

    def __init__(
        self,
        mishaps: Sequence[Mishap],
        *,
        directory: Path,
        seed: int,
        days: float,
        hardship: float,
    ) -> None:
        self._mishaps = mishaps
        self._directory = directory
        self._seed = seed
        self._days = days
        self._hardship = hardship
        self._random = random.Random(f"soak {seed}")
        self.clock = VirtualClock()
        self.loop = VirtualLoop(self.clock)
        self.host = Host(seed=seed, clock=self.clock, later=self.loop.call_later)
        self.judge = Judge(self.host)
        self.host.owner_of = self.judge.truth.owner_of
        self._run: DaemonRun | None = None
        self._runs = 0
        self._is_up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._restarting = asyncio.Lock()
        #: Called at the end of each day.
        self.on_day: Callable[[int], None] = lambda _: None

    def simulate(self) -> None:
        """Run it. Raises SoakError."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner, self._as_the_host_has_it():
            try:
                runner.run(self._simulate())
            except Exception as error:
                trace = "\n".join((*self.host.trace, self.judge.truth.describe()))
                after = self.clock.loop_ns / 1e9 / DAY_S
                raise SoakError(
                    f"{trace}\nseed {self._seed}, after {after:.4f} of {self._days} days,"
                    f" hardship {self._hardship}: {error}"
                ) from error

    async def up(self) -> DaemonRun:
        """Wait for a daemon that runs, and return it."""
        await self._is_up.wait()
        assert self._run is not None
        return self._run

    # --- the days -------------------------------------------------------------------------------

    async def _simulate(self) -> None:
        self.loop.set_exception_handler(self._note_exception)
        descriptors = _open_files()
        await self._start()
        self.loop.on_idle = self._look
        self._spawn(self._arrivals())
        for mishap in self._mishaps:
            self._spawn(self._befall(mishap))
        for day in range(1, int(self._days) + 1):
            await asyncio.sleep(DAY_S)
            self.on_day(day)
        await asyncio.sleep(self._days % 1 * DAY_S)
        await self._end()
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors, (
            "descriptors are left open"
        )

    async def _arrivals(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(self._random.expovariate(1 / 75))
            for _ in range(self._random.choice((1, 1, 1, 1, 2, 5))):
                number += 1
                self._spawn(Program(self, seed=self._seed, number=number).run())
            if self._random.random() < 0.3:
                self._spawn(Stranger(self.host, seed=self._seed, number=number).run())

    async def _befall(self, mishap: Mishap) -> None:
        draw = random.Random(f"{mishap.name} {self._seed}")
        while True:
            await asyncio.sleep(draw.expovariate(self._hardship / (mishap.every_h * 3600)))
            self.host.note(mishap.name)
            self.host.counts[mishap.name] += 1
            await mishap.happen(self, draw)
            self.judge.touch()

    async def _end(self) -> None:
        """Let all programs end, and look that nothing is left of them."""
        async with self._restarting:
            tasks, self._tasks = self._tasks, set()
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._mend()
        for process in list(self.host.processes.values()):
            self.host.end(process, "the soak is over")
        await asyncio.sleep(_AFTERMATH_S)
        assert self._run is not None
        assert not self.judge.held, "leases are left"
        assert self._run.leases.counts == (0, 0)
        assert self._run.rows()[0] == 0, "leases are left on disk"
        self._check_nothing_kept(self._run)
        await self._run.stop(self._directory / "last")
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        assert self.loop.timers() == 0, "timers are left"

    def _check_nothing_kept(self, run: DaemonRun) -> None:
        holders, accounts = run.leases._book.holders, run.ledger._accounts.values()
        kept = (holders._roots, holders._living, holders._members, holders.descent._kin)
        assert not any(kept), f"processes are remembered for nothing: {kept}"
        assert not any(account._parts or account._returns for account in accounts)

    def _look(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.judge.on_idle()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    def _note_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if not isinstance(error, BaseException):
            error = RuntimeError(context["message"])
        self._failure = self._failure or error

    # --- the daemon -----------------------------------------------------------------------------

    async def _start(self) -> None:
        self.host.out_of_files = False  # a new process has none open yet
        monitor = SoakMonitor(
            self.host, owner_of=self.judge.truth.owner_of, on_pass=self.judge.on_pass
        )
        self._run = DaemonRun(
            self.host,
            directory=self._next_directory,
            monitor=monitor,
            on_event=self.judge.on_event,
        )
        self.judge.started(self._run)
        starting = asyncio.ensure_future(self._run.start())
        await asyncio.sleep(0)
        self.judge.restored()
        self._is_up.set()
        await starting

    @property
    def _next_directory(self) -> Path:
        return self._directory / f"run-{self._runs}"

    async def end_run(self, *, killed: bool) -> None:
        """End the daemon that runs, and start the next one a little later."""
        async with self._restarting:
            run = await self.up()
            self._is_up.clear()
            self._runs += 1
            await (run.kill if killed else run.stop)(self._next_directory)
            await asyncio.sleep(self._random.choice((0.05, 0.5, 5.0, 45.0)))
            await self._start()

    async def reboot(self) -> None:
        """End everything, the daemon first, and begin another boot."""
        async with self._restarting:
            run = await self.up()
            self._is_up.clear()
            self._runs += 1
            await run.kill(self._next_directory)
            self.host.reboot()
            self.judge.rebooted()
            await asyncio.sleep(20)
            await self._start()

    async def for_a_while(
        self, draw: random.Random, mean_s: float, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """Let something be so, and then be no more."""
        begin()
        self.changed()
        await asyncio.sleep(draw.expovariate(1 / mean_s))
        end()
        self.changed()

    def changed(self) -> None:
        """Tell the daemon of the state of its GPUs."""
        if self._run is not None and not self._run.dead:
            self._run.monitor.changed()

    def set_quotas(self, rules: QuotaRules) -> None:
        """Configure other quotas, and have the daemon that runs hear of it."""
        self.host.quotas = rules
        if self._run is not None and not self._run.dead:
            self._run.leases.set_quotas(rules)

    def set_writable(self, writable: bool) -> None:  # noqa: FBT001
        """Let the store be writable, or not."""
        if self._run is not None and not self._run.dead:
            self._run.freeze_store(frozen=not writable)
            self.judge.writable = writable

    async def _mend(self) -> None:
        self.host.out_of_files = False
        self.set_writable(True)
        for card in self.host.cards:
            card.mend()
        self.changed()

    @contextmanager
    def _as_the_host_has_it(self) -> Iterator[None]:
        """Let the leases see the processes, the clock and the chance of this host."""
        chance = random.Random(f"urandom {self._seed}")
        host = self.host

        class Wall(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                del tz
                return host.clock.wall()

        with (
            patch.object(os, "pidfd_open", host.pidfd_open),
            patch.object(os, "urandom", chance.randbytes),
            patch.object(supereziod.leases.handles, "pid_of", host.pid_of),
            patch.object(supereziod.leases.book, "datetime", Wall),
        ):
            yield


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
