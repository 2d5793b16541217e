"""One run of the daemon's lease part on a simulated host, from its start to its death."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

from lease_host import Silent
from soak.cards import GIB, MIB
from soak.host import Host
from soak.processes import Process
from soak.readings import SoakMonitor
from soak.users import GROUPS
from superezio.wire import Event, Lease
from supereziod.gpu.suspend import SuspendWatch
from supereziod.leases.handles import Caller
from supereziod.leases.ledger import Ledger
from supereziod.leases.manager import LeaseManager
from supereziod.leases.processes import ProcessTable
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.store import LeaseStore
from supereziod.observability.events import EventLog

#: Small, so that all of them are met.
QUEUE: Final = 24
QUEUE_PER_UID: Final = 6
MAX_PASSED: Final = 4
MAX_LEASES: Final = 40
MAX_LEASES_PER_UID: Final = 12
RESERVE_BYTES: Final = 256 * MIB
RESERVE_BY_GPU: Final = {"GPU-d": GIB}


class LostError(Exception):
    """The connection ended before an answer came."""


class Line:
    """A process's connection to the daemon."""

    def __init__(self, run: DaemonRun, *, name: str, process: Process, closed_ns: int = -1) -> None:
        self.run = run
        self.name = name
        self.process = process
        self.closed_ns = closed_ns
        self._waits: set[asyncio.Future[Lease]] = set()

    @property
    def open(self) -> bool:
        """Whether it stands."""
        return self.closed_ns < 0

    def caller(self, *, with_pidfd: bool = True, visible: bool = True, priority: int = 3) -> Caller:
        """Return the peer as the kernel shows it."""
        return Caller(
            uid=self.process.uid,
            pid=self.process.pid if visible else 0,
            pidfd=self.process.fd if with_pidfd and visible else None,
            role="user",
            connection=self.name,
            max_priority=priority,
            groups=GROUPS[self.process.uid],
        )

    async def ask(
        self,
        call: Callable[[LeaseManager], Lease | Awaitable[Lease]],
        told: Callable[[Lease], None],
    ) -> Lease:
        """Ask, and wait for the answer. Raises LostError, or what the daemon does.

        `told` is called with a lease that was answered, even if the caller stopped to wait.
        """
        if not self.open:
            raise LostError
        answer = call(self.run.leases)
        if isinstance(answer, Lease):
            told(answer)
            return answer
        wait = asyncio.ensure_future(answer)
        self._waits.add(wait)
        try:
            await asyncio.wait((wait,))
        finally:
            self._waits.discard(wait)
            if wait.done() and not wait.cancelled() and wait.exception() is None:
                told(wait.result())
            wait.cancel()
        if wait.cancelled():
            raise LostError
        return wait.result()

    def close(self) -> None:
        """End it, as either side may: what it asked for is cancelled, and the leases hear of it."""
        if not self.open:
            return
        self.closed_ns = self.run.host.clock.now_ns
        del self.run.lines[self.name]
        for wait in self._waits:
            wait.cancel()
        if not self.run.dead:
            self.run.leases.connection_closed(self.name)


class DaemonRun:
    """The real lease manager, ledger, queue, holders, events and store, for one run.

    The store is a file in `directory`. Whoever makes the run listens to its events, and reads what
    it would show.
    """

    def __init__(
        self,
        host: Host,
        *,
        directory: Path,
        monitor: SoakMonitor,
        on_event: Callable[[Event], None],
    ) -> None:
        self.host = host
        self.directory = directory
        self.monitor = monitor
        self.dead = False
        self.lines: dict[str, Line] = {}
        self.started_ns = host.clock.now_ns
        self.ready_ns = self.started_ns
        events = EventLog(logger=Silent(), now=host.clock.wall)
        events.listen(lambda event: None if self.dead else on_event(event))
        suspend = SuspendWatch(
            events=events, clock=host.clock, boottime=lambda: host.clock.boottime_ns
        )
        directory.mkdir(exist_ok=True)
        self.store = LeaseStore.open(directory / "leases.db", boot_id=f"boot-{host.boot}")
        self.ledger = Ledger(
            reserve_bytes=RESERVE_BYTES, reserve_by_gpu=RESERVE_BY_GPU, clock=host.clock
        )
        self.leases = LeaseManager(
            monitor=monitor,
            ledger=self.ledger,
            queue=LeaseQueue(capacity=QUEUE, per_uid=QUEUE_PER_UID, max_passed=MAX_PASSED),
            store=self.store,
            events=events,
            processes=cast(ProcessTable, host),  # it answers as one does
            resumed_ns=suspend.resumed_ns,
            max_leases=MAX_LEASES,
            max_leases_per_uid=MAX_LEASES_PER_UID,
            quotas=host.quotas,
            clock=host.clock,
        )
        monitor.leases_on = self.leases.leases_on
        self._connections = 0

    async def start(self) -> None:
        """Start as the daemon does: ready when the GPUs were read, or soon."""
        self.monitor.start()
        await self.leases.start()
        for _ in range(20):
            if self.monitor.ready or self.dead:
                break
            await asyncio.sleep(0.1)
        if not self.dead:
            self.ready_ns = self.host.clock.now_ns
            self.leases.ready()

    def connect(self, process: Process) -> Line:
        """Return a new connection of a process, which ends with it."""
        self._connections += 1
        name = f"{self.directory.name}-c{self._connections}"
        line = self.lines[name] = Line(self, name=name, process=process)
        process.on_end.append(line.close)
        return line

    def freeze_store(self, *, frozen: bool) -> None:
        """Let SQLite refuse to write, or take it back."""
        self.store._database._connection.execute(f"PRAGMA query_only = {int(frozen)}")

    async def kill(self, heir: Path) -> None:
        """SIGKILL: what is on disk at this instant is left, in the directory of the heir.

        The rest of this run is then put away; whatever that does, it does to a file of nobody's.
        """
        heir.mkdir()
        for name in ("leases.db", "leases.db-wal"):
            if (self.directory / name).exists():
                shutil.copyfile(self.directory / name, heir / name)
        await self._bury()
        shutil.rmtree(self.directory)

    async def stop(self, heir: Path) -> None:
        """SIGTERM: acquires are refused, leases stand."""
        self.leases.stop_granting()
        await asyncio.sleep(0)  # who waited hears of it
        await self._bury()
        self.directory.rename(heir)

    def rows(self) -> tuple[int, int]:
        """Return how many leases, and how many marks of released ones, are on disk."""
        path = self.directory / "leases.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
            bodies = [bytes(row[0]) for row in file.execute("SELECT body FROM leases")]
        file.close()
        marks = sum(body.isdigit() for body in bodies)
        return len(bodies) - marks, marks

    async def _bury(self) -> None:
        self.dead = True
        for line in list(self.lines.values()):
            line.close()
        await self.monitor.aclose()
        await self.leases.aclose()
