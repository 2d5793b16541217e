"""Leases that size themselves, against a model: one at a time on a GPU, until it has grown.

A lease that says so is GROWING until its use is stable, it says ready, or 5 minutes have passed
since its grant, restarts or not. Its use is stable when 3 samples differ by less than 2 % of the
largest, counted from the first that shows 5 % of what it reserves; samples that come sooner than
0.9 s one after the other say the same. Its use is what its holder has taken since the grant; after
a restart, which counts its samples anew, all of it. What has grown does not grow again. Nothing
else is granted on a GPU while a lease there is growing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from lease_host import BIG, caller_of, lease_host
from superezio.wire import Placement
from supereziod.leases.capacity import Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import place

TOTAL: Final = 100_000
SIZE: Final = 1_000
APART_NS: Final = 900_000_000
LONGEST_NS: Final = 300_000_000_000
GPUS: Final = ("GPU-a", "GPU-b")
GPU = st.sampled_from(GPUS)
#: Each is one process.
HOLDERS: Final = ("ann", "bob", "cyd")
HOLDER = st.sampled_from(HOLDERS)
ME: Final = caller_of()
#: Just below and above 5 % of a lease, and changes just below and above 2 %.
USES = st.sampled_from((0, 40, 49, 50, 51, 100, 500, 981, 990, 1000, 1020, 1040))
#: What a program that sizes itself takes, pass by pass: nearly stable, or just so.
LOADS = st.sampled_from(
    (
        (0, 0, 0, 0),
        (49, 49, 49, 49),
        (49, 60, 60, 60),
        (980, 990, 1000),
        (981, 990, 1000),
        (1000, 979, 1000),
        (0, 500, 500, 500),
        (100, 900, 900),
    )
)
SECONDS = st.sampled_from((0.3, 1.0, 1.0, 1.0, 60.0, 240.0))


@dataclass
class Leased:
    """A lease, by what passes have shown since it was granted, or the daemon started."""

    holder: str
    uuids: tuple[str, ...]
    granted_ns: int
    sizes_itself: bool
    ready: bool = False
    grown: set[str] = field(default_factory=set)
    base: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def is_growing(self, uuid: str) -> bool:
        asks = self.sizes_itself and not self.ready
        return asks and uuid in self.uuids and uuid not in self.grown

    def see(self, uuid: str, used: int, now_ns: int) -> None:
        base = self.base[uuid] = min(self.base.get(uuid, 0), used)
        samples = self.samples.setdefault(uuid, [])
        if not samples or now_ns - samples[-1][0] >= APART_NS:
            samples.append((now_ns, used - base))
        if now_ns - self.granted_ns >= LONGEST_NS or self._is_stable(uuid):
            self.grown.add(uuid)

    def _is_stable(self, uuid: str) -> bool:
        uses = [used for _, used in self.samples[uuid]]
        while uses and uses[0] < 0.05 * SIZE:
            uses.pop(0)
        last = uses[-3:]
        return len(last) == 3 and max(last) - min(last) < 0.02 * max(last)


class GrowingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.used = {(holder, uuid): 0 for holder in HOLDERS for uuid in GPUS}
        self.leases: dict[int, Leased] = {}
        self.granted = 0
        self.told: list[tuple[str, str]] = []
        self.look()

    @initialize(holder=HOLDER, uuid=GPU, used=USES)
    def begin(self, holder: str, uuid: str, used: int) -> None:
        """Begin with a launcher that has a lease, and uses something for it."""
        self.a_lease_is_asked_for(holder, [uuid], sizes_itself=False)
        self.used[holder, uuid] = used
        self.look()
        self.a_lease_is_asked_for(holder, [uuid], sizes_itself=True)

    # --- what happens ---------------------------------------------------------------------------

    @rule(
        holder=HOLDER,
        uuids=st.lists(GPU, min_size=1, max_size=2, unique=True),
        sizes_itself=st.sampled_from((True, True, False)),
    )
    def a_lease_is_asked_for(self, holder: str, uuids: list[str], *, sizes_itself: bool) -> None:
        placement = self.placement(uuids)
        free = [uuid for uuid in uuids if not self.growing_on(uuid)]
        assert (placement.decision == "grant") == (len(free) == len(uuids))
        if placement.decision != "grant":
            return
        lease = Leased(holder, tuple(placement.chosen), self.clock(), sizes_itself)
        lease.base = {uuid: self.shown[holder, uuid] for uuid in uuids}
        self.granted += 1
        self.leases[self.granted] = lease
        self.ledger.claim(self.claim(self.granted, lease))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 7))
    def a_lease_says_that_it_is_ready(self, which: int) -> None:
        lease = self.one_of(which)
        self.ledger.ready(str(lease))
        self.leases[lease].ready = True

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 7))
    def a_lease_is_released(self, which: int) -> None:
        lease = self.one_of(which)
        self.ledger.release(str(lease))
        released = self.leases.pop(lease)
        holder = released.holder
        for uuid in released.uuids:
            if not self.leased(holder, uuid):
                self.shown[holder, uuid] = 0  # it is nobody's until the next pass
        if not any(other.holder == holder for other in self.leases.values()):
            self.ledger.disown(holder)
            for uuid in GPUS:
                self.used[holder, uuid] = 0
            self.look()

    @rule(holder=HOLDER, uuid=GPU, used=USES, times=st.integers(0, 3), seconds=SECONDS)
    def a_holder_uses_so_much(
        self, holder: str, uuid: str, used: int, times: int, seconds: float
    ) -> None:
        """Where it holds a lease: use without one is another matter."""
        if self.leased(holder, uuid):
            self.used[holder, uuid] = used
        for _ in range(times):
            self.look(seconds)

    @precondition(lambda self: self.growing)
    @rule(which=st.integers(0, 3), loads=LOADS, seconds=st.sampled_from((0.3, 1.0, 1.0)))
    def a_program_sizes_itself(self, which: int, loads: tuple[int, ...], seconds: float) -> None:
        lease, uuid = self.growing[which % len(self.growing)]
        base = self.leases[lease].base.get(uuid, 0)
        for used in loads:
            self.used[self.leases[lease].holder, uuid] = base + used
            self.look(seconds)

    @precondition(lambda self: self.leases)
    @rule(down_s=st.sampled_from((0, 3, 200)))
    def the_daemon_is_started_again(self, down_s: int) -> None:
        self.clock.advance(down_s)
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        for number, lease in self.leases.items():
            lease.base.clear()
            lease.samples.clear()
            self.ledger.restore(self.claim(number, lease))
        self.look()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def those_that_grow_are_those_of_the_model(self) -> None:
        for number, lease in self.leases.items():
            growing = any(lease.is_growing(uuid) for uuid in lease.uuids)
            assert self.ledger.is_growing(str(number)) == growing
        for capacity in self.ledger.capacities(self.snapshot):
            growing_there = self.growing_on(capacity.uuid)
            assert len(growing_there) <= 1, "at most one is growing on a GPU"
            assert capacity.growing == bool(growing_there)

    @invariant()
    def nothing_starts_where_a_lease_is_growing(self) -> None:
        for reason in self.placement(list(GPUS), count=1).gpus:
            assert (reason.code == "growing") == bool(self.growing_on(reason.uuid))

    @invariant()
    def each_end_of_growth_is_told(self) -> None:
        assert self.told == []

    # --- the rules ------------------------------------------------------------------------------

    @property
    def growing(self) -> list[tuple[int, str]]:
        return [(lease, uuid) for uuid in GPUS for lease in self.growing_on(uuid)]

    def growing_on(self, uuid: str) -> list[int]:
        return [number for number, lease in self.leases.items() if lease.is_growing(uuid)]

    def leased(self, holder: str, uuid: str) -> bool:
        return any(one.holder == holder and uuid in one.uuids for one in self.leases.values())

    # --- the daemon's side ----------------------------------------------------------------------

    def one_of(self, which: int) -> int:
        return list(self.leases)[which % len(self.leases)]

    def claim(self, number: int, lease: Leased) -> Claim:
        """Return it as it was recorded."""
        return Claim(
            lease=str(number),
            holder=lease.holder,
            reserved=dict.fromkeys(lease.uuids, SIZE),
            sizes_itself=lease.sizes_itself and not lease.ready,
            granted_ns=lease.granted_ns,
            grown_on=tuple(lease.grown),
        )

    def placement(self, uuids: list[str], *, count: int | None = None) -> Placement:
        avoid = tuple(uuid for uuid in GPUS if uuid not in uuids)
        request = Request(vram_bytes=SIZE, count=count or len(uuids), avoid=avoid)
        return place(request, self.ledger.capacities(self.snapshot))

    def look(self, seconds: float = 1.0) -> None:
        """Take a pass of both GPUs."""
        self.clock.advance(seconds)
        self.shown = dict(self.used)
        views = []
        for index, uuid in enumerate(GPUS):
            uses = {pid: self.used[holder, uuid] for pid, holder in enumerate(HOLDERS, start=1)}
            views.append(
                a_view(
                    uuid,
                    last_pass=a_pass(
                        uuid,
                        taken_ns=self.clock(),
                        total=TOTAL,
                        used=sum(uses.values()),
                        processes={pid: used for pid, used in uses.items() if used},
                    ),
                    index=index,
                )
            )
        self.snapshot = a_snapshot(*views)
        holding = {lease.holder for lease in self.leases.values()}
        holders = {pid: holder for pid, holder in enumerate(HOLDERS, start=1) if holder in holding}
        notices = self.ledger.observe(self.snapshot, holders.get)
        self.told = [(one.lease, one.uuid) for one in notices if one.kind == "grown" and one.lease]
        for number, lease in self.leases.items():
            for uuid in lease.uuids:
                if lease.is_growing(uuid):
                    lease.see(uuid, self.used[lease.holder, uuid], self.clock())
                    if not lease.is_growing(uuid):
                        self.told.remove((str(number), uuid))


async def test_what_has_grown_before_a_restart_does_not_grow_again(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=4, prefer=[BIG], sizes_itself=True)
        before.big.processes[os.getpid()] = 4 * GIB
        for _ in range(3):
            before.clock.advance(1)
            before.monitor.read()
        assert before.only("lease.grown")
        second = before.now(ME, vram=4, prefer=[BIG], sizes_itself=True)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert after.leases.get(ME, lease.id).state != "growing"
        assert after.leases.get(ME, second.id).state == "growing", "one at a time"


TestGrowing = GrowingMachine.TestCase
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestGrowing.settings = settings(
    max_examples=300 if MUTANT else 150,
    stateful_step_count=30,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
)
