"""The GPU monitor of a simulated host: it takes passes of the truth, and keeps what they saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final

from msgspec import Struct, structs

from gpu_views import a_pass, a_view
from probe_doubles import NO_DETAILS
from soak.cards import Card, Gpu
from soak.host import Host
from soak.processes import Process
from supereziod.gpu.hardware import (
    Block,
    ComputeMode,
    GpuDetails,
    GpuSample,
    GpuView,
    MigInstance,
    Snapshot,
)

_BUSY_S = 5.0
_CALM_S = 30.0
#: A GPU that has not answered for so long is UNKNOWN.
_HUNG_AFTER_S = 2.0
_CUT_UP: Final = Block(code="mig_enabled", message="MIG is on")
_PROHIBITED: Final = Block(code="compute_prohibited", message="its compute mode is PROHIBITED")
_GONE: Final = Block(code="lost", message="it is not there any more")
_HUNG: Final = Block(code="unknown", message="it does not answer")
_SETTLING: Final = Block(code="settling", message="it has not answered yet")
_CORDONED: Final = Block(code="cordoned", message="it is cordoned")


class Reading(Struct, frozen=True, kw_only=True):
    """The truth behind one pass. `owners` is whose each process was to be taken for then."""

    taken_ns: int
    used_bytes: int
    uses: dict[Process, int]
    lingering: dict[Process, int]
    owners: dict[Process, Process | None]
    hidden: bool
    taken_in: bool
    compute_mode: ComputeMode


class _Pass(Struct, frozen=True, kw_only=True):
    """What one reading of a card found: of the whole, and of each of its MIG instances."""

    details: GpuDetails
    whole: GpuSample
    units: list[tuple[Gpu, GpuSample, Reading]]


class SoakMonitor:
    """Reads the GPUs of a host. `owner_of` says which attached process a process belongs to.

    `readings` has the truth behind each GPU's last pass; `on_pass` hears of each that is told.
    `leases_on` tells of a MIG instance that is gone whether it has to be shown still.
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
        self.leases_on: Callable[[str], Sequence[str]] = lambda _: ()
        #: By UUID, of cards, GPUs and MIG instances.
        self._passes: dict[str, GpuSample] = {}
        self.readings: dict[str, Reading] = {}
        #: By card: what its last pass said besides, and the MIG instances that are known of.
        self._details: dict[str, GpuDetails] = {}
        self._instances: dict[str, list[Gpu]] = {}
        self._hung_since: dict[str, float] = {}
        #: What does not change of a GPU.
        self._blanks: dict[str, GpuView] = {}
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
                gpus=tuple(view for card in self._host.cards for view in self._views(card)),
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
            card
            for card in self._host.cards
            if card.uuid not in self._passes or self._passes[card.uuid].taken_ns <= oldest_ns
        ]
        if old:
            wait_s = max(patience_s if card.hung else card.latency_s for card in old)
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
            self._read(self._host.cards, _HUNG_AFTER_S)
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

    def _read(self, cards: list[Card], patience_s: float) -> None:
        """Read cards: the quick ones together, and each slow one when it answers."""
        quick = [card for card in cards if not card.hung and card.latency_s <= patience_s]
        for latency_s in sorted({card.latency_s for card in quick}):
            self._spawn(self._answer([card for card in quick if card.latency_s == latency_s]))

    async def _answer(self, cards: list[Card]) -> None:
        # The probe took the pass a moment before it arrives.
        latency_s = cards[0].latency_s
        await asyncio.sleep(latency_s / 2)
        taken = [(card, self._take(card)) for card in cards if not card.hung]
        await asyncio.sleep(latency_s / 2)
        for card, found in taken:
            newest = self._passes.get(card.uuid)
            if newest is None or newest.taken_ns < found.whole.taken_ns:
                self._keep(card, found)
        self.ready = self.ready or len(self._details) == len(self._host.cards)
        self._on_pass()
        self.changed()

    def _take(self, card: Card) -> _Pass:
        taken_ns = self._host.clock()
        units = [(gpu, *self._take_unit(gpu, taken_ns)) for gpu in card.units]
        return _Pass(
            details=_details(card.compute_mode, card.drives_display, card.is_cut_up),
            whole=_sample(card.whole, card.units, taken_ns) if card.is_cut_up else units[0][1],
            units=units,
        )

    def _take_unit(self, gpu: Gpu, taken_ns: int) -> tuple[GpuSample, Reading]:
        hidden = gpu.card.hidden
        reading = Reading(
            taken_ns=taken_ns,
            used_bytes=gpu.used_bytes,
            uses=dict(gpu.uses),
            lingering=dict(gpu.lingering),
            owners={},
            hidden=hidden,
            taken_in=True,
            compute_mode=gpu.card.compute_mode,
        )
        return _sample(gpu, [gpu], taken_ns), reading

    def _keep(self, card: Card, found: _Pass) -> None:
        self._details[card.uuid] = found.details
        self._passes[card.uuid] = found.whole
        self.readings.pop(card.uuid, None)
        for gpu, sample, reading in found.units:
            self._passes[gpu.uuid] = sample
            self.readings[gpu.uuid] = self._told(reading)
        self._list_instances(card, [gpu for gpu, _, _ in found.units if gpu is not card.whole])

    def _list_instances(self, card: Card, there: list[Gpu]) -> None:
        """Take in which MIG instances there are: one that is gone is shown if leases are on it."""
        gone = [gpu for gpu in self._instances.get(card.uuid, ()) if gpu not in there]
        for gpu in gone:
            self._passes.pop(gpu.uuid, None)
            self.readings.pop(gpu.uuid, None)
        self._instances[card.uuid] = there + [gpu for gpu in gone if self.leases_on(gpu.uuid)]

    def _told(self, reading: Reading) -> Reading:
        """Note whose the processes are to be taken for, now that the pass arrives."""
        # Who has ended meanwhile cannot be looked up any more.
        exact = not self._host.out_of_files and not any(each.ended for each in reading.uses)
        owners = {process: self._owner_of(process) for process in reading.uses}
        return structs.replace(reading, owners=owners, taken_in=exact)

    def _judge_hung(self) -> None:
        now = self._host.clock.loop_ns / 1e9
        for card in self._host.cards:
            if not card.hung:
                if self._hung_since.pop(card.uuid, None) is not None:
                    self.changed()
            elif card.uuid not in self._hung_since:
                self._hung_since[card.uuid] = now
                self.changed()

    def _views(self, card: Card) -> Iterator[GpuView]:
        """Yield what is shown of a card, and of its MIG instances."""
        yield self._view(card.whole)
        for gpu in self._instances.get(card.uuid, ()):
            yield self._view(gpu)

    def _view(self, gpu: Gpu) -> GpuView:
        blank = self._blanks.get(gpu.uuid)
        if blank is None:
            blank = self._blanks[gpu.uuid] = _blank(gpu)
        last_pass = self._passes.get(gpu.uuid)
        return structs.replace(
            blank,
            sample=last_pass,
            last_pass=last_pass,
            details=self._details.get(gpu.card.uuid),
            level="unknown" if gpu.card.uuid in self._hung_since else gpu.card.level,
            block=self._block(gpu),
        )

    def _block(self, gpu: Gpu) -> Block | None:
        details = self._details.get(gpu.card.uuid)
        if gpu.card.uuid in self._hung_since:
            return _HUNG
        if details is None:
            return _SETTLING
        return gpu.card.block or self._block_of_unit(gpu, details)

    def _block_of_unit(self, gpu: Gpu, details: GpuDetails) -> Block | None:
        if gpu.uuid not in self._passes:
            return _GONE
        if gpu.cordoned:
            return _CORDONED
        if details.compute_mode == "prohibited":
            return _PROHIBITED
        is_whole = gpu.mig_index is None
        return _CUT_UP if is_whole and details.mig_mode == "enabled" else None

    def blocked(self, gpu: Gpu) -> bool:
        """Tell whether the GPU is shown as one that admits nothing."""
        return self._block(gpu) is not None

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _details(mode: ComputeMode, drives_display: bool, cut_up: bool) -> GpuDetails:  # noqa: FBT001
    return structs.replace(
        NO_DETAILS,
        compute_mode=mode,
        drives_display=drives_display,
        mig_mode="enabled" if cut_up else "disabled",
    )


def _blank(gpu: Gpu) -> GpuView:
    """Return what is shown of a GPU before it was read."""
    card = gpu.card
    view = a_view(gpu.uuid, last_pass=None, total=gpu.total_bytes, index=card.index, name=gpu.name)
    capability = ".".join(map(str, card.capability))
    identity = structs.replace(view.identity, compute_capability=capability, mig=_mig(gpu))
    return structs.replace(view, identity=identity)


def _sample(gpu: Gpu, parts: list[Gpu], taken_ns: int) -> GpuSample:
    """Return a pass of a GPU; one that is cut up has all that its `parts` have."""
    uses: Counter[int] = Counter()
    for part in parts:
        for process, size in part.uses.items():
            uses[process.pid] += size
    return a_pass(
        gpu.uuid,
        taken_ns=taken_ns,
        total=gpu.total_bytes,
        used=sum(part.used_bytes for part in parts),
        driver_reserved=gpu.driver_reserved_bytes,
        processes=dict.fromkeys(uses) if gpu.card.hidden else uses,
    )


def _mig(gpu: Gpu) -> MigInstance | None:
    index = gpu.mig_index
    if index is None:
        return None
    return MigInstance(
        parent=gpu.card.uuid,
        index=index,
        gpu_instance=index + 1,
        compute_instance=0,
        profile=gpu.name.split()[-1],
    )
