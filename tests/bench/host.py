"""A host in virtual time that jobs come to: the real ledger, queue and placement, no daemon.

The chooser is all that differs between runs. What others choose by (first fit, most free, round
robin) goes through the same admission and the same queue, so that nothing else is compared.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from msgspec.structs import replace

from bench.trace import GIB, Card, Job
from gpu_views import FakeClock, a_pass, a_snapshot, a_view
from superezio.wire import Placement, Policy
from supereziod.gpu.hardware import GpuView, Snapshot
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import place
from supereziod.leases.queue import LeaseQueue, Waiting

DRIVER_RESERVED = 300 << 20
COOL_C, WARMED_C = 45, 6

#: Orders the GPUs that admit a request, the best first; None: the policy of the request does.
Chooser = Callable[[Sequence[Capacity]], list[str]]


def first_fit(admitted: Sequence[Capacity]) -> list[str]:
    return [one.uuid for one in sorted(admitted, key=lambda one: one.index)]


def most_free(admitted: Sequence[Capacity]) -> list[str]:
    return [one.uuid for one in sorted(admitted, key=lambda one: (-one.free_bytes, one.index))]


class RoundRobin:
    """Goes on from the GPU after the last one."""

    def __init__(self) -> None:
        self._last = -1

    def __call__(self, admitted: Sequence[Capacity]) -> list[str]:
        ordered = sorted(admitted, key=lambda one: (one.index <= self._last, one.index))
        self._last = ordered[0].index
        return [one.uuid for one in ordered]


@dataclass
class Figures:
    """What came of a run. Times in seconds; the judge is the host's own sums, not the ledger's."""

    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    #: VRAM-seconds that were reserved, and that there were.
    reserved: float = 0.0
    there: float = 0.0
    #: Seconds in which somebody waited, and of these those in which all GPUs together held it.
    waited_s: float = 0.0
    fragmented_s: float = 0.0
    #: Moments at which a GPU had more promised, or more in use, than it has.
    exceeded: int = 0

    @property
    def mean_wait_s(self) -> float:
        return sum(self.waits_s) / max(1, len(self.waits_s))

    @property
    def p95_wait_s(self) -> float:
        return sorted(self.waits_s)[len(self.waits_s) * 95 // 100] if self.waits_s else 0.0

    @property
    def utilisation(self) -> float:
        return self.reserved / self.there if self.there else 0.0

    @property
    def fragmentation(self) -> float:
        return self.fragmented_s / self.waited_s if self.waited_s else 0.0


@dataclass
class _Gpu:
    uuid: str
    index: int
    card: Card
    #: Bytes by pid: what is promised, what is used, and what the dead still hold.
    promised: dict[int, int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    late: dict[int, int] = field(default_factory=dict)
    view: GpuView | None = None

    @property
    def total(self) -> int:
        return self.card.gib * GIB

    @property
    def usable(self) -> int:
        return self.total - DRIVER_RESERVED

    def read(self, now_ns: int) -> None:
        used = sum(self.used.values()) + sum(self.late.values())
        taken = a_pass(
            self.uuid,
            taken_ns=now_ns,
            total=self.total,
            used=used,
            processes=self.used,
            driver_reserved=DRIVER_RESERVED,
            # Each job warms it: what coolest goes by.
            margin=max(0, COOL_C - WARMED_C * len(self.used)),
        )
        self.view = a_view(self.uuid, last_pass=taken, index=self.index, name=self.card.name)


_Happening = Literal["arrives", "ends", "back", "gives_up"]


class Host:
    """Plays a trace."""

    def __init__(
        self, cards: Sequence[Card], *, policy: Policy = "best_fit", chooser: Chooser | None = None
    ) -> None:
        self._policy: Policy = policy
        self._chooser = chooser
        self._clock = FakeClock()
        self._start_ns = self._clock.now_ns
        self._gpus = [_Gpu(f"GPU-{index}", index, card) for index, card in enumerate(cards)]
        self._by_uuid = {gpu.uuid: gpu for gpu in self._gpus}
        self._ledger = Ledger(reserve_bytes=0, clock=self._clock)
        self._queue = LeaseQueue(capacity=1 << 30, per_uid=1 << 30)
        self._jobs: dict[str, Job] = {}
        self._events: list[tuple[float, int, _Happening, Job]] = []
        self._numbers = count()
        self._snapshot: Snapshot | None = None
        self.figures = Figures()

    def play(self, jobs: Sequence[Job]) -> Figures:
        """Let all of them come and go."""
        for job in jobs:
            self._due(job.arrives_s, "arrives", job)
        last_s = 0.0
        until_s = jobs[-1].arrives_s
        self._read(self._gpus)
        while self._events:
            at_s, _, what, job = heapq.heappop(self._events)
            self._count(min(at_s, until_s) - min(last_s, until_s))
            last_s = at_s
            self._clock.now_ns = max(self._clock.now_ns + 1, self._start_ns + round(at_s * 1e9))
            self._happens(what, job, at_s)
            self._judge()
        return self.figures

    # --- what happens ---------------------------------------------------------------------------

    def _happens(self, what: _Happening, job: Job, now_s: float) -> None:
        if what == "arrives":
            self._arrives(job, now_s)
        elif what == "gives_up":
            if self._queue.remove(str(job.number)) is not None:
                self.figures.refused += 1
                self._pump(now_s)
        else:
            self._leaves(job, what, now_s)

    def _arrives(self, job: Job, now_s: float) -> None:
        request = Request(
            vram_bytes=job.vram_bytes, count=job.count, policy=self._policy, split=job.split
        )
        placement = self._queue.place_behind(request, self._capacities())
        if placement.decision == "never":
            self.figures.refused += 1
        elif placement.decision == "grant":
            self._grant(job, request, placement, now_s)
        else:
            self._jobs[str(job.number)] = job
            self._queue.add(
                Waiting(
                    id=str(job.number),
                    uid=1000,
                    request=request,
                    priority=0,
                    enqueued_ns=self._clock.now_ns,
                    deadline_ns=self._clock.now_ns + round(job.patience_s * 1e9),
                )
            )
            self._due(now_s + job.patience_s, "gives_up", job)

    def _leaves(self, job: Job, what: _Happening, now_s: float) -> None:
        """End the job; what the driver shows late is back at a later event."""
        changed = [
            gpu for gpu in self._gpus if job.number in gpu.promised or job.number in gpu.late
        ]
        for gpu in changed:
            used = gpu.used.pop(job.number, 0)
            gpu.late.pop(job.number, None)
            gpu.promised.pop(job.number, None)
            if what == "ends" and job.late_s:
                gpu.late[job.number] = used
        if what == "ends":
            self._ledger.release(str(job.number))
            if job.late_s:
                self._due(now_s + job.late_s, "back", job)
        self._clock.now_ns += 1
        self._read(changed)
        self._pump(now_s)

    def _grant(self, job: Job, request: Request, placement: Placement, now_s: float) -> None:
        reserved = self._chosen(request, placement).reserved
        self._ledger.claim(
            Claim(lease=str(job.number), holder=f"holder-{job.number}", reserved=reserved)
        )
        for uuid, size in reserved.items():
            gpu = self._by_uuid[uuid]
            gpu.promised[job.number] = size
            gpu.used[job.number] = round(size * job.used_part)
        self._clock.now_ns += 1
        self._read([self._by_uuid[uuid] for uuid in reserved])
        self.figures.waits_s.append(now_s - job.arrives_s)
        self._due(now_s + job.lasts_s, "ends", job)

    def _chosen(self, request: Request, placement: Placement) -> Placement:
        """Return what the chooser makes of a grant: on the GPUs that admitted it, in its order."""
        if self._chooser is None:
            return placement
        admitted = {reason.uuid for reason in placement.gpus if reason.admitted}
        among = [one for one in self._capacities() if one.uuid in admitted]
        return place(replace(request, prefer=tuple(self._chooser(among))), among)

    def _pump(self, now_s: float) -> None:
        while len(self._queue):
            found = self._queue.first_grant(self._capacities())
            if found is None:
                return
            waiting, placement = found
            self._queue.remove(waiting.id)
            self._grant(self._jobs.pop(waiting.id), waiting.request, placement, now_s)

    # --- the host -------------------------------------------------------------------------------

    def _due(self, at_s: float, what: _Happening, job: Job) -> None:
        heapq.heappush(self._events, (at_s, next(self._numbers), what, job))

    def _read(self, gpus: Sequence[_Gpu]) -> None:
        for gpu in gpus:
            gpu.read(self._clock.now_ns)
        self._snapshot = a_snapshot(*(gpu.view for gpu in self._gpus if gpu.view is not None))
        self._ledger.observe(self._snapshot, lambda pid: f"holder-{pid}")

    def _capacities(self) -> list[Capacity]:
        assert self._snapshot is not None
        return self._ledger.capacities(self._snapshot)

    def _count(self, elapsed_s: float) -> None:
        """Take the time since the last event into the figures."""
        if elapsed_s <= 0:
            return
        figures = self.figures
        figures.there += elapsed_s * sum(gpu.usable for gpu in self._gpus)
        figures.reserved += elapsed_s * sum(sum(gpu.promised.values()) for gpu in self._gpus)
        head = next(iter(self._queue), None)
        if head is not None:
            figures.waited_s += elapsed_s
            free = sum(max(0, one.free_bytes) for one in self._capacities())
            if free >= head.request.total_bytes:
                figures.fragmented_s += elapsed_s

    def _judge(self) -> None:
        for gpu in self._gpus:
            used = sum(gpu.used.values()) + sum(gpu.late.values())
            if sum(gpu.promised.values()) > gpu.usable or used > gpu.usable:
                self.figures.exceeded += 1
