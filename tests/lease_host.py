"""A host for the leases: GPUs as data, a monitor that reads them, and real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from gpu_views import GIB, FakeClock, a_pass, a_view
from superezio.wire import AcquireParams, Lease, Level
from supereziod.gpu.hardware import Block, Fault, GpuDetails, GpuSample, GpuView, Snapshot
from supereziod.gpu.suspend import SuspendWatch
from supereziod.leases.handles import Caller
from supereziod.leases.ledger import Ledger
from supereziod.leases.manager import LeaseManager, LeaseTimes
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.store import LeaseStore
from supereziod.observability.events import EventLog

BIG = "GPU-aaaa"
SMALL = "GPU-bbbb"
BOOT = "boot-one"


class DataGpu:
    """A GPU that a test describes; `hung` ones do not answer, and of `lost` ones that is known."""

    def __init__(self, uuid: str, *, index: int, total_bytes: int) -> None:
        self.uuid = uuid
        self.index = index
        self.total_bytes = total_bytes
        self.foreign_bytes = 0
        self.processes: dict[int, int | None] = {}
        self.level: Level = "normal"
        self.block: Block | None = None
        self.hung = False
        self.lost = False
        self.details: GpuDetails | None = None
        self.lists_processes = True
        self.last_pass: GpuSample | None = None

    def read(self, taken_ns: int) -> None:
        used = self.foreign_bytes + sum(size or 0 for size in self.processes.values())
        self.last_pass = a_pass(
            self.uuid,
            taken_ns=taken_ns,
            total=self.total_bytes,
            used=used,
            processes=self.processes,
            listed=self.lists_processes,
        )

    def view(self) -> GpuView:
        view = a_view(
            self.uuid,
            last_pass=self.last_pass,
            total=self.total_bytes,
            index=self.index,
            block=self.block,
            details=self.details,
        )
        return structs.replace(view, level=self.level, status="lost" if self.lost else "ok")


class DataMonitor:
    """Reads described GPUs when it is asked, or told to. `held` lets a fresh pass wait."""

    def __init__(self, *, clock: Callable[[], int], gpus: list[DataGpu]) -> None:
        self.clock = clock
        self.gpus = gpus
        self.ready = True
        self.driver_fault: Fault | None = None
        self.busy: list[bool] = []
        self.asked: list[tuple[float, float]] = []
        self.held: asyncio.Event | None = None
        self._listeners: list[Callable[[], None]] = []
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = Snapshot(
                taken_ns=self.clock(),
                ready=self.ready,
                attached=True,
                driver=None,
                driver_fault=self.driver_fault,
                gpus=tuple(gpu.view() for gpu in self.gpus),
            )
        return self._snapshot

    async def fresh_pass(
        self,
        *,
        max_age_s: float,
        patience_s: float,
        for_all: bool = False,  # noqa: ARG002
    ) -> Snapshot:
        self.asked.append((max_age_s, patience_s))
        if self.held is not None:
            await self.held.wait()
        oldest_ns = self.clock() - round(max_age_s * 1e9)
        old = [gpu for gpu in self.gpus if gpu.last_pass is None or _taken(gpu) <= oldest_ns]
        if isinstance(self.clock, FakeClock):
            self.clock.advance(patience_s if any(gpu.hung for gpu in old) else 0.001)
        if old:
            self.read(*old)
        return self.snapshot()

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def set_busy(self, busy: bool) -> None:  # noqa: FBT001 - the monitor's signature
        self.busy.append(busy)

    def read(self, *gpus: DataGpu) -> None:
        """Take a pass of these GPUs, or of all, and tell of it."""
        if isinstance(self.clock, FakeClock):
            self.clock.advance(1e-6)
        for gpu in gpus or self.gpus:
            if not gpu.hung:
                gpu.read(self.clock())
        self.changed()

    def changed(self) -> None:
        """Tell that something was changed by the test."""
        self._snapshot = None
        for listener in tuple(self._listeners):
            listener()


class LeaseHost:
    """One daemon's lease part on a host that a test describes."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], int] | None = None,
        boot_id: str = BOOT,
        store: LeaseStore | None = None,
        times: LeaseTimes | None = None,
        queue: LeaseQueue | None = None,
        events: EventLog | None = None,
        **manager: Any,
    ) -> None:
        self.clock: Any = clock or FakeClock()
        self.big = DataGpu(BIG, index=0, total_bytes=12 * GIB)
        self.small = DataGpu(SMALL, index=1, total_bytes=6 * GIB)
        self.monitor = DataMonitor(clock=self.clock, gpus=[self.big, self.small])
        self.events = events or EventLog()
        self.slept_ns = 0
        suspend = SuspendWatch(
            events=self.events, clock=self.clock, boottime=lambda: self.clock() + self.slept_ns
        )
        self.store = store or LeaseStore.open(directory / "leases.db", boot_id=boot_id)
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.leases = LeaseManager(
            monitor=self.monitor,
            ledger=self.ledger,
            queue=LeaseQueue() if queue is None else queue,
            store=self.store,
            events=self.events,
            times=times,
            resumed_ns=suspend.resumed_ns,
            clock=self.clock,
            **manager,
        )

    def types(self) -> list[str]:
        """Return the types of all events so far."""
        return [event.type for event in self.events.recent(1000)]

    def only(self, type_: str) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.events.recent(1000) if event.type == type_]

    def free(self, uuid: str) -> int:
        """Return what is left on a GPU."""
        return self.leases.usage()[uuid].leasable_bytes

    def now(self, caller: Caller, **params: Any) -> Lease:
        """Acquire, and insist on an answer at once."""
        key = params.pop("key", None)
        answer = self.leases.acquire(caller, ask(**params), idempotency_key=key)
        assert isinstance(answer, Lease)
        return answer

    def later(self, caller: Caller, **params: Any) -> asyncio.Task[Lease]:
        """Acquire, and insist on an answer that has to be awaited."""
        key = params.pop("key", None)
        answer = self.leases.acquire(caller, ask(**params), idempotency_key=key)
        assert isinstance(answer, Awaitable)
        return asyncio.ensure_future(answer)


@asynccontextmanager
async def lease_host(
    directory: Path, *, read: bool = True, ready: bool = True, **options: Any
) -> AsyncIterator[LeaseHost]:
    """Run the lease part; it is ready and its GPUs have been read once, unless told otherwise."""
    host = LeaseHost(directory, **options)
    await host.leases.start()
    if ready:
        host.leases.ready()
    if read:
        host.monitor.read()
    try:
        yield host
    finally:
        await host.leases.aclose()


def ask(vram: float = 4, **params: Any) -> AcquireParams:
    """Return parameters of an acquire of so many GiB."""
    return AcquireParams(vram_bytes=round(vram * GIB), **params)


def caller_of(pid: int | None = None, **fields: Any) -> Caller:
    """Return a caller: this process, without a pidfd, unless told otherwise."""
    values: dict[str, Any] = {
        "uid": os.getuid(),
        "pid": os.getpid() if pid is None else pid,
        "pidfd": None,
        "role": "user",
        "connection": "c1",
        "max_priority": 10,
    }
    return Caller(**(values | fields))


class Silent:
    """A logger for the events of ten thousand leases."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return self._drop

    def _drop(self, *_: Any, **__: Any) -> None:
        """Write nothing."""


class Child:
    """A real process that a test starts and ends. It answers each line with a line."""

    def __init__(self, code: str = "", *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code + _LOOP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.first_line = self.line()
        self.pidfd = os.pidfd_open(self.pid)

    def ask(self, line: str = "") -> str:
        """Write it a line, and return the next it writes."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self.line()

    def line(self) -> str:
        """Return the next line it writes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def caller(self, **fields: Any) -> Caller:
        """Return it as a caller, as the kernel would show it."""
        return caller_of(self.pid, **({"pidfd": self.pidfd, "connection": f"c{self.pid}"} | fields))

    def kill(self) -> None:
        """Kill it, and collect its exit."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        os.close(self.pidfd)


_LOOP = "\nprint('here', flush=True)\nimport sys\nfor _ in sys.stdin: print(flush=True)"


@contextmanager
def child(code: str = "", *arguments: str) -> Iterator[Child]:
    """Run a real process for the length of the block."""
    process = Child(code, *arguments)
    try:
        yield process
    finally:
        process.close()


_TREE = """
import subprocess, sys
middle = subprocess.Popen([sys.executable, '-I', '-S', '-c', '''
import os, subprocess, sys
leaf = subprocess.Popen(['sleep', '1000'])
print(leaf.pid, os.getpid(), flush=True)
sys.stdin.readline()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(middle.stdout.readline(), end='', flush=True)
import threading
def kill():
    middle.kill(); middle.wait()
"""


@contextmanager
def tree() -> Iterator[tuple[Child, int, int]]:
    """Run a process, its child and its grandchild."""
    with child(_TREE) as top:
        leaf, middle = (int(word) for word in top.first_line.split())
        try:
            yield top, middle, leaf
        finally:
            for pid in (middle, leaf):
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, 9)


async def turn() -> None:
    """Let everything run that is ready to."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(what: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Wait for the kernel to tell the loop of something: an end has no other event to await."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


def _taken(gpu: DataGpu) -> int:
    return gpu.last_pass.taken_ns if gpu.last_pass is not None else 0
