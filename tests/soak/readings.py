"""The GPU monitor of a simulated host: it takes passes of the truth, and keeps what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from msgspec import Struct, structs

from gpu_views import a_pass, a_view
from soak.host import Gpu, Host, Process
from supereziod.gpu.hardware import Block, GpuSample, GpuView, Snapshot

_BUSY_S = 5.0
_CALM_S = 30.0
#: A GPU that has not answered for so long is UNKNOWN.
_HUNG_AFTER_S = 2.0


class Reading(Struct, frozen=True, kw_only=True):
    """The truth behind one pass. `owners` is whose each process was to be taken for then."""

    taken_ns: int
    used_bytes: int
    uses: dict[Process, int]
    lingering: dict[Process, int]
    owners: dict[Process, Process | None]
    hidden: bool
    taken_in: bool


class SoakMonitor:
    """Reads the GPUs of a host. `owner_of` says which attached process a process belongs to.

    `readings` has the truth behind each GPU's last pass; `on_pass` hears of each that is told.
    """

    def __init__(
        self,
        host: Host,
        *,
        owner_of: Callable[[Process], Process | None],
        on_pass: Callable[[], None],
    ) -> None:
        self._host = host
        self._owner_of = owner_of
        self._on_pass = on_pass
        self._passes: dict[str, GpuSample] = {}
        self.readings: dict[str, Reading] = {}
        self._hung_since: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []
        self._snapshot: Snapshot | None = None
        self._busy = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self.ready = False

    def start(self) -> None:
        """Begin to read."""
        self._spawn(self._read_for_ever())

    async def aclose(self) -> None:
        """Stop reading."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what the leases ask --------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = Snapshot(
                taken_ns=self._host.clock(),
                ready=self.ready,
                attached=True,
                driver=None,
                driver_fault=None,
                gpus=tuple(self._view(gpu) for gpu in self._host.gpus.values()),
            )
        return self._snapshot

    async def fresh_pass(
        self,
        *,
        max_age_s: float,
        patience_s: float,
        for_all: bool = False,  # noqa: ARG002 - this one always waits for those it asked
    ) -> Snapshot:
        oldest_ns = self._host.clock() - round(max_age_s * 1e9)
        old = [
            gpu
            for gpu in self._host.gpus.values()
            if gpu.uuid not in self._passes or self._passes[gpu.uuid].taken_ns <= oldest_ns
        ]
        if old:
            wait_s = max(patience_s if gpu.hung else gpu.latency_s for gpu in old)
            self._read(old, patience_s)
            await asyncio.sleep(min(wait_s, patience_s))
        return self.snapshot()

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def set_busy(self, busy: bool) -> None:  # noqa: FBT001 - the monitor's signature
        if busy:
            self._busy.set()
        else:
            self._busy.clear()

    # --- what happens ---------------------------------------------------------------------------

    def changed(self) -> None:
        """Tell that a GPU is in another state."""
        self._snapshot = None
        for listener in tuple(self._listeners):
            listener()

    async def _read_for_ever(self) -> None:
        while True:
            self._read(list(self._host.gpus.values()), _HUNG_AFTER_S)
            await asyncio.sleep(_HUNG_AFTER_S)
            self._judge_hung()
            if not self.ready:
                self.ready = True
                self.changed()
            await asyncio.sleep(_BUSY_S - _HUNG_AFTER_S)
            try:
                async with asyncio.timeout(_CALM_S - _BUSY_S):
                    await self._busy.wait()
            except TimeoutError:
                continue

    def _read(self, gpus: list[Gpu], patience_s: float) -> None:
        """Read GPUs: the quick ones together, and each slow one when it answers."""
        quick = [gpu for gpu in gpus if not gpu.hung and gpu.latency_s <= patience_s]
        for latency_s in sorted({gpu.latency_s for gpu in quick}):
            self._spawn(self._answer([gpu for gpu in quick if gpu.latency_s == latency_s]))

    async def _answer(self, gpus: list[Gpu]) -> None:
        # The probe took the pass a moment before it arrives.
        await asyncio.sleep(gpus[0].latency_s / 2)
        taken = [(gpu, *self._take(gpu)) for gpu in gpus if not gpu.hung]
        await asyncio.sleep(gpus[0].latency_s / 2)
        for gpu, sample, reading in taken:
            newest = self._passes.get(gpu.uuid)
            if newest is None or newest.taken_ns < sample.taken_ns:
                self._passes[gpu.uuid] = sample
                self.readings[gpu.uuid] = self._told(reading)
        self.ready = self.ready or len(self._passes) == len(self._host.gpus)
        self._on_pass()
        self.changed()

    def _take(self, gpu: Gpu) -> tuple[GpuSample, Reading]:
        taken_ns = self._host.clock()
        sample = a_pass(
            gpu.uuid,
            taken_ns=taken_ns,
            total=gpu.total_bytes,
            used=gpu.used_bytes,
            driver_reserved=gpu.driver_reserved_bytes,
            processes={
                process.pid: None if gpu.hidden else size for process, size in gpu.uses.items()
            },
        )
        reading = Reading(
            taken_ns=taken_ns,
            used_bytes=gpu.used_bytes,
            uses=dict(gpu.uses),
            lingering=dict(gpu.lingering),
            owners={},
            hidden=gpu.hidden,
            taken_in=True,
        )
        return sample, reading

    def _told(self, reading: Reading) -> Reading:
        """Note whose the processes are to be taken for, now that the pass arrives."""
        # Who has ended meanwhile cannot be looked up any more.
        exact = not self._host.out_of_files and not any(each.ended for each in reading.uses)
        owners = {process: self._owner_of(process) for process in reading.uses}
        return structs.replace(reading, owners=owners, taken_in=exact)

    def _judge_hung(self) -> None:
        now = self._host.clock.loop_ns / 1e9
        for gpu in self._host.gpus.values():
            if not gpu.hung:
                if self._hung_since.pop(gpu.uuid, None) is not None:
                    self.changed()
            elif gpu.uuid not in self._hung_since:
                self._hung_since[gpu.uuid] = now
                self.changed()

    def _view(self, gpu: Gpu) -> GpuView:
        block = gpu.block
        if gpu.uuid in self._hung_since:
            block = Block(code="unknown", message="it does not answer")
        elif gpu.uuid not in self._passes:
            block = Block(code="settling", message="it has not answered yet")
        view = a_view(
            gpu.uuid,
            last_pass=self._passes.get(gpu.uuid),
            total=gpu.total_bytes,
            index=gpu.index,
            name=gpu.name,
            block=block,
        )
        return structs.replace(view, level="unknown" if gpu.uuid in self._hung_since else gpu.level)

    def blocked(self, gpu: Gpu) -> bool:
        """Tell whether the GPU is shown as one that admits nothing."""
        return self._view(gpu).block is not None

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
