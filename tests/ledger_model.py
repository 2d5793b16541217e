"""A host to judge the ledger by: its true state, and what the rules make of the passes it gave.

Nothing here is kept up to date by increments: each figure is computed again, whenever it is asked
for, from lists of what happened. Written from the rules and from no line of the ledger:

  free(g) = total - driver_reserved - configured_reserve - foreign - sum of max(reserved, actual)
  foreign = max(0, used - sum of actual), all of one pass, summed by holder

An acquire whose holder is on GPUs already counts on what is there: it is placed where it uses
VRAM without a lease, iff need <= free + own, own being its use that counts as foreign, and what it
uses beyond its leases' reserve. What a release took stays taken until a later pass shows 75 % of it
free, or shows after 5 s that it is not. Where the driver does not tell use by process, actual is
clamp(used - used_at_grant, 0, reserved) as long as the lease grows, and stays as it was after.
Overrun is actual > reserved * 1.1 in 3 samples, which come 0.9 s apart at least; the newest lease
of the holder there then reserves what is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from gpu_views import FakeClock, a_pass, a_snapshot, a_view
from supereziod.gpu.hardware import Snapshot

RETURN_NS = 5_000_000_000
APART_NS = 900_000_000
QUIET = 2
RESERVE = 2


@dataclass
class Process:
    pid: int
    gpu: str
    size: int
    holder: str | None


@dataclass
class Lingering:
    """Memory that the driver has not freed yet, of a process that is dead."""

    gpu: str
    size: int
    lease: str


@dataclass
class Grant:
    lease: str
    gpu: str
    holder: str
    size: int
    passes_before: int


@dataclass
class Pending:
    """A release that no pass has proven."""

    lease: str
    gpu: str
    held: int
    expected: int
    residual: int
    pids: frozenset[int]
    released_ns: int

    @property
    def taken(self) -> int:
        return max(self.held, self.residual)


@dataclass
class Overrun:
    """A holder's use that is more than it may be: since when, and whether it was told."""

    counted_ns: list[int] = field(default_factory=list)
    told: bool = False


@dataclass
class PassRecord:
    """What one pass read on one GPU, and (unseen by the ledger) what was lingering then."""

    gpu: str
    taken_ns: int
    used: int
    listed: dict[int, int]
    lingering: list[Lingering]
    owners: dict[int, str | None] = field(default_factory=dict)


@dataclass
class ModelGpu:
    uuid: str
    total: int
    driver_reserved: int
    generation: Literal["v2", "v1", "hidden"]
    passes: list[PassRecord] = field(default_factory=list)
    #: Something happened whose share in the sums cannot be told from outside: only bounds hold.
    muddled: bool = False

    @property
    def told_reserve(self) -> int:
        return 0 if self.generation == "v1" else self.driver_reserved

    @property
    def base_use(self) -> int:
        return QUIET + (self.driver_reserved if self.generation == "v1" else 0)


class World:
    """The true state of the host."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self.clock = FakeClock()
        every = (
            ModelGpu("GPU-a", total=100, driver_reserved=3, generation="v2"),
            ModelGpu("GPU-b", total=60, driver_reserved=4, generation="v1"),
            ModelGpu("GPU-n", total=80, driver_reserved=2, generation="hidden"),
        )
        self.gpus = {gpu.uuid: gpu for gpu in every if gpu.uuid in gpus}
        self.processes: dict[int, Process] = {}
        if "GPU-n" in gpus:
            self.processes[1] = Process(pid=1, gpu="GPU-n", size=1, holder=None)
        self.lingering: list[Lingering] = []
        self.next_pid = 2

    def used(self, gpu: str) -> int:
        alive = sum(process.size for process in self.processes.values() if process.gpu == gpu)
        late = sum(lingering.size for lingering in self.lingering if lingering.gpu == gpu)
        return self.gpus[gpu].base_use + alive + late

    def room(self, gpu: str) -> int:
        told = self.gpus[gpu].told_reserve
        return self.gpus[gpu].total - told - self.used(gpu)

    def take(self) -> list[PassRecord]:
        """Read all GPUs at one instant."""
        return [
            PassRecord(
                gpu=uuid,
                taken_ns=self.clock.now_ns,
                used=self.used(uuid),
                listed={p.pid: p.size for p in self.processes.values() if p.gpu == uuid},
                lingering=[
                    Lingering(one.gpu, one.size, one.lease)
                    for one in self.lingering
                    if one.gpu == uuid
                ],
            )
            for uuid in self.gpus
        ]

    def snapshot(self, records: list[PassRecord]) -> Snapshot:
        """Show the records as the monitor would."""
        return a_snapshot(
            *(
                a_view(
                    record.gpu,
                    index=index,
                    name=f"card {record.gpu}",
                    last_pass=a_pass(
                        record.gpu,
                        taken_ns=record.taken_ns,
                        total=self.gpus[record.gpu].total,
                        used=record.used,
                        processes={
                            pid: None if self.gpus[record.gpu].generation == "hidden" else size
                            for pid, size in record.listed.items()
                        },
                        driver_reserved=None
                        if self.gpus[record.gpu].generation == "v1"
                        else self.gpus[record.gpu].driver_reserved,
                    ),
                )
                for index, record in enumerate(records)
            )
        )


class Rules:
    """What the rules make of the world's facts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.grants: list[Grant] = []
        self.pending: list[Pending] = []
        self.overruns: dict[tuple[str, str], Overrun] = {}

    # --- what happens ---------------------------------------------------------------------------

    def grant(self, lease: str, holder: str, gpus: list[str], size: int) -> None:
        for uuid in gpus:
            gpu = self.world.gpus[uuid]
            if gpu.generation == "hidden" and self.pending_on(uuid):
                gpu.muddled = True
            self.grants.append(Grant(lease, uuid, holder, size, len(gpu.passes)))

    def adopt(self, holder: str, pid: int) -> None:
        """Count a process for a holder, from the last pass on, as far as that tells its use."""
        self.world.processes[pid].holder = holder
        for gpu in self.world.gpus.values():
            if self.stranger_use(gpu, pid):
                gpu.passes[-1].owners[pid] = holder

    def release(self, lease: str) -> None:
        for grant in [grant for grant in self.grants if grant.lease == lease]:
            gpu = self.world.gpus[grant.gpu]
            if gpu.generation == "hidden" and self.growing(gpu.uuid):
                gpu.muddled = True
            before = self.taken_by(gpu, grant.holder), self.actual(gpu, grant.holder)
            self.grants.remove(grant)
            pids: frozenset[int] = frozenset()
            after = self.taken_by(gpu, grant.holder), self.actual(gpu, grant.holder)
            if grant.holder not in {other.holder for other in self.grants_on(gpu.uuid)}:
                after = 0, 0
                if gpu.passes:
                    owners = gpu.passes[-1].owners
                    pids = frozenset(pid for pid in owners if owners[pid] == grant.holder)
                    owners.update(dict.fromkeys(pids))
                self.overruns.pop((gpu.uuid, grant.holder), None)
            expected = before[1] - after[1]
            self._disown(grant.holder)
            self.pending.append(
                Pending(
                    lease=lease,
                    gpu=gpu.uuid,
                    held=before[0] - after[0],
                    expected=expected,
                    residual=expected,
                    pids=pids,
                    released_ns=self.world.clock.now_ns,
                )
            )

    def _disown(self, holder: str) -> None:
        """Count what a holder without any lease uses for nobody."""
        if not any(grant.holder == holder for grant in self.grants):
            for gpu in self.world.gpus.values():
                owners = gpu.passes[-1].owners if gpu.passes else {}
                owners.update({pid: None for pid in owners if owners[pid] == holder})

    def join(self, lease: str, holder: str) -> None:
        for grant in [grant for grant in self.grants if grant.lease == lease]:
            old, grant.holder = grant.holder, holder
            gpu = self.world.gpus[grant.gpu]
            if gpu.generation == "hidden":
                gpu.muddled = True
            if old not in {other.holder for other in self.grants_on(gpu.uuid)}:
                self.overruns.pop((gpu.uuid, old), None)
            if gpu.passes and old not in {other.holder for other in self.grants_on(gpu.uuid)}:
                owners = gpu.passes[-1].owners
                owners.update({pid: holder for pid in owners if owners[pid] == old})

    def split(self, holder: str, new: str, leases: set[str], fates: dict[int, str | None]) -> None:
        """Let some of a holder's leases be another's, and each of its processes whose it then is.

        None: it holds no lease any more. The last pass is judged by that at once.
        """
        for grant in self.grants:
            if grant.lease in leases:
                grant.holder = new
        for pid, fate in fates.items():
            self.world.processes[pid].holder = fate
        for gpu in self.world.gpus.values():
            if gpu.generation == "hidden" and self.grants_on(gpu.uuid):
                gpu.muddled = True
            owners = gpu.passes[-1].owners if gpu.passes else {}
            owners.update(
                {pid: fates[pid] for pid in owners.keys() & fates if owners[pid] == holder}
            )
            if holder not in {grant.holder for grant in self.grants_on(gpu.uuid)}:
                self.overruns.pop((gpu.uuid, holder), None)

    def observe(self, records: list[PassRecord]) -> dict[str, list[tuple[str, str]]]:
        """Take in a pass; return by GPU what it settles: (kind, lease)."""
        settled: dict[str, list[tuple[str, str]]] = {}
        for record in records:
            gpu = self.world.gpus[record.gpu]
            if gpu.passes and record.taken_ns <= gpu.passes[-1].taken_ns:
                continue
            record.owners = {pid: self.holder_of(pid) for pid in record.listed}
            gpu.passes.append(record)
            settled[gpu.uuid] = []
            gpu.muddled = gpu.muddled or not self._late_is_newest(record)
            for pending in self.pending_on(gpu.uuid):
                kind = self._judge(pending, record)
                if kind is not None:
                    settled[gpu.uuid].append((kind, pending.lease))
        return settled

    def overran(self, gpu: ModelGpu) -> list[tuple[Grant, int, bool]]:
        """Return which grants have to reserve how much after the last pass, and what was told."""
        found = []
        last = gpu.passes[-1]
        for holder in dict.fromkeys(grant.holder for grant in self.grants_on(gpu.uuid)):
            use = sum(last.listed[pid] for pid, owner in last.owners.items() if owner == holder)
            reserved = self.reserved(gpu, holder)
            key = gpu.uuid, holder
            if gpu.generation == "hidden" or use * 10 <= reserved * 11:
                self.overruns.pop(key, None)
                continue
            overrun = self.overruns.setdefault(key, Overrun())
            counted = overrun.counted_ns
            if not counted or last.taken_ns - counted[-1] >= APART_NS:
                counted.append(last.taken_ns)
            if len(counted) >= 3:
                newest = [grant for grant in self.grants_on(gpu.uuid) if grant.holder == holder][-1]
                found.append((newest, newest.size + use - reserved, overrun.told))
                overrun.told = True
        return found

    def _late_is_newest(self, record: PassRecord) -> bool:
        """Tell whether what lingers is that of the newest releases.

        Which process it was of cannot be seen, and the newest have had the least time.
        """
        late = sum(one.size for one in record.lingering)
        for pending in reversed(self.pending_on(record.gpu)):
            mine = sum(one.size for one in record.lingering if one.lease == pending.lease)
            if mine != min(late, pending.expected - self._alive(pending, record)):
                return False
            late -= mine
        return True

    def _alive(self, pending: Pending, record: PassRecord) -> int:
        unowned = {pid for pid in pending.pids if record.owners.get(pid) is None}
        return min(pending.expected, sum(record.listed.get(pid, 0) for pid in unowned))

    def settle(self, gpu: str, lease: str) -> None:
        """Drop a release that a pass has settled."""
        self.pending = [
            pending for pending in self.pending if (pending.gpu, pending.lease) != (gpu, lease)
        ]

    def _judge(self, pending: Pending, record: PassRecord) -> str | None:
        late = sum(one.size for one in record.lingering if one.lease == pending.lease)
        pending.residual = min(pending.expected, self._alive(pending, record) + late)
        if record.taken_ns <= pending.released_ns:
            return None
        if pending.expected - pending.residual >= 0.75 * pending.expected:
            return "returned"
        return "unreturned" if record.taken_ns - pending.released_ns >= RETURN_NS else None

    # --- what follows ---------------------------------------------------------------------------

    def holder_of(self, pid: int) -> str | None:
        process = self.world.processes.get(pid)
        holder = process.holder if process is not None else None
        return holder if any(grant.holder == holder for grant in self.grants) else None

    def stranger_use(self, gpu: ModelGpu, pid: int) -> int:
        """Return what a process is known to use that is nobody's, and not on its way back."""
        last = gpu.passes[-1] if gpu.passes else None
        if last is None or last.owners.get(pid, "") is not None or gpu.generation == "hidden":
            return 0
        if any(pid in pending.pids for pending in self.pending_on(gpu.uuid)):
            return 0
        return last.listed[pid]

    def own(self, gpu: ModelGpu, holder: str, pid: int) -> int:
        """Return what of a new lease of the holder, with that process, is in use already."""
        foreign = min(self.stranger_use(gpu, pid), self.foreign(gpu))
        return foreign + max(0, self.actual(gpu, holder) - self.reserved(gpu, holder))

    def bound_to(self, holder: str, pid: int) -> set[str]:
        """Return the GPUs where these use VRAM without a lease."""
        found = set()
        for gpu in self.world.gpus.values():
            owners = gpu.passes[-1].owners if gpu.passes else {}
            at_work = holder in owners.values() and any(g.holder == holder for g in self.grants)
            unleased = not any(grant.holder == holder for grant in self.grants_on(gpu.uuid))
            if owners.get(pid, "") is None or (at_work and unleased):
                found.add(gpu.uuid)
        return found

    def grants_on(self, gpu: str) -> list[Grant]:
        return [grant for grant in self.grants if grant.gpu == gpu]

    def pending_on(self, gpu: str) -> list[Pending]:
        return [pending for pending in self.pending if pending.gpu == gpu]

    def holders(self, gpu: ModelGpu) -> set[str]:
        seen = gpu.passes[-1].owners.values() if gpu.passes else ()
        reserved = {grant.holder for grant in self.grants_on(gpu.uuid)}
        return reserved | {holder for holder in seen if holder is not None}

    def actual(self, gpu: ModelGpu, holder: str) -> int:
        if not gpu.passes:
            return 0
        if gpu.generation == "hidden":
            mine = [grant for grant in self.grants_on(gpu.uuid) if grant.holder == holder]
            return sum(self.estimate(gpu, grant)[0] for grant in mine)
        last = gpu.passes[-1]
        return sum(last.listed[pid] for pid, owner in last.owners.items() if owner == holder)

    def estimate(self, gpu: ModelGpu, grant: Grant) -> tuple[int, bool]:
        """Return the estimated use, and whether the lease is growing still."""
        base = gpu.passes[grant.passes_before - 1].used if grant.passes_before else 0
        use, counted = 0, [0][1:]
        for record in gpu.passes[grant.passes_before :]:
            if grant.holder not in record.owners.values():
                continue
            use = min(max(record.used - base, 0), grant.size)
            if counted or use >= 0.05 * grant.size:
                counted.append(use)
            last = counted[-3:]
            if len(last) == 3 and max(last) - min(last) < 0.02 * max(last):
                return use, False
        return use, True

    def growing(self, uuid: str) -> bool:
        gpu = self.world.gpus[uuid]
        if gpu.generation != "hidden":
            return False
        return any(self.estimate(gpu, grant)[1] for grant in self.grants_on(uuid))

    def reserved(self, gpu: ModelGpu, holder: str) -> int:
        return sum(grant.size for grant in self.grants_on(gpu.uuid) if grant.holder == holder)

    def taken_by(self, gpu: ModelGpu, holder: str) -> int:
        return max(self.reserved(gpu, holder), self.actual(gpu, holder))

    def foreign(self, gpu: ModelGpu) -> int:
        used = gpu.passes[-1].used if gpu.passes else 0
        actual = sum(self.actual(gpu, holder) for holder in self.holders(gpu))
        residual = sum(pending.residual for pending in self.pending_on(gpu.uuid))
        return max(0, used - actual - residual)

    def free(self, gpu: ModelGpu) -> int:
        taken = sum(self.taken_by(gpu, holder) for holder in self.holders(gpu))
        taken += sum(pending.taken for pending in self.pending_on(gpu.uuid))
        return gpu.total - gpu.told_reserve - RESERVE - self.foreign(gpu) - taken

    def most_free(self, gpu: ModelGpu) -> int:
        """Return what is free if nothing is held for releases: no ledger may promise more.

        By what is reserved and the whole use, as far as that can be told without attribution.
        """
        if gpu.generation == "hidden" and gpu.muddled:
            used = gpu.passes[-1].used if gpu.passes else 0
            reserved = sum(self.reserved(gpu, holder) for holder in self.holders(gpu))
            return gpu.total - gpu.told_reserve - RESERVE - max(used, reserved)
        used = gpu.passes[-1].used if gpu.passes else 0
        actual = sum(self.actual(gpu, holder) for holder in self.holders(gpu))
        taken = sum(self.taken_by(gpu, holder) for holder in self.holders(gpu))
        return gpu.total - gpu.told_reserve - RESERVE - max(0, used - actual) - taken

    def is_exact(self, gpu: ModelGpu) -> bool:
        return not gpu.muddled and not (gpu.generation == "hidden" and self.pending_on(gpu.uuid))
