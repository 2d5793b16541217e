"""One amount over several GPUs, against the rules, as leases come, are used, and end.

  A split is over as few GPUs as hold it, or over exactly so many as are asked for. Its parts sum to
  the amount, and each fits what is free. Each GPU takes part in proportion to what it has free
  beyond the least part, which is 512 MiB, or half of an equal part where that is less. The ratio,
  and llama.cpp's proportions, are those of the parts, in the order in which a program sees the
  GPUs. The same question has the same answer, in whichever order the GPUs are looked at.

What is free is summed up anew, from the list of leases, whenever it is asked for:

  free(g) = total - foreign - sum over leases of max(reserved, actual) - what has not come back
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import placement_model as model
from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from superezio.wire import Placement
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import place

QUARTER: Final = GIB // 4
TOTALS: Final = {"GPU-a": 12 * GIB, "GPU-b": 6 * GIB, "GPU-c": 8 * GIB}
NAMES: Final = {"GPU-a": "card x", "GPU-b": "card y", "GPU-c": "card x"}
LEAST: Final = 512 << 20
#: In bytes: also what does not come out even, and what leaves no room for a part.
AMOUNTS = st.integers(1, 104).map(lambda quarters: quarters * QUARTER) | st.sampled_from(
    (1, 2, 3, 5 * GIB + 1, 13 * GIB + 7, 25 * GIB + QUARTER + 1, 26 * GIB, 27 * GIB)
)
GPU = st.sampled_from(tuple(TOTALS))
COUNTS = st.sampled_from((1, 1, 1, 2, 3))
GPUS_OR_NONE = st.lists(GPU, max_size=1).map(tuple)


@dataclass
class Held:
    """A lease: what it reserves on each GPU, and what its process uses there."""

    reserved: dict[str, int]
    used: dict[str, int] = field(default_factory=dict)

    def taken(self, uuid: str) -> int:
        return max(self.reserved.get(uuid, 0), self.used.get(uuid, 0))


class SplitMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.foreign = dict.fromkeys(TOTALS, 0)
        self.leases: dict[int, Held] = {}
        self.returning: list[Held] = []
        self.granted = 0
        self.look()

    @initialize(foreign=st.tuples(*[st.integers(0, 20)] * 3))
    def begin(self, foreign: tuple[int, ...]) -> None:
        for uuid, quarters in zip(TOTALS, foreign, strict=True):
            self.foreign[uuid] = quarters * QUARTER
        self.look()

    # --- what happens ---------------------------------------------------------------------------

    @rule(
        amount=AMOUNTS,
        count=COUNTS,
        policy=st.sampled_from(("best_fit", "spread")),
        prefer=GPUS_OR_NONE,
        avoid=GPUS_OR_NONE,
    )
    def a_split_is_asked_for(
        self,
        amount: int,
        count: int,
        policy: str,
        prefer: tuple[str, ...],
        avoid: tuple[str, ...],
    ) -> None:
        if amount < count:
            return
        request = Request(
            vram_bytes=amount,
            count=count,
            split=True,
            policy="spread" if policy == "spread" else "best_fit",
            prefer=prefer,
            avoid=avoid,
        )
        capacities = self.ledger.capacities(self.snapshot)
        placement = place(request, capacities)
        for order in model.orders(capacities):
            again = place(request, order)
            assert list(again.reserved.items()) == list(placement.reserved.items())
            assert again.tensor_split == placement.tensor_split
        self.judge(request, placement)
        if placement.decision == "grant":
            self.claim(placement)

    @rule(uuid=GPU, quarters=st.integers(1, 12))
    def another_lease_is_granted(self, uuid: str, quarters: int) -> None:
        request = Request(
            vram_bytes=quarters * QUARTER, avoid=tuple(one for one in TOTALS if one != uuid)
        )
        placement = place(request, self.ledger.capacities(self.snapshot))
        assert (placement.decision == "grant") == (request.vram_bytes <= self.free(uuid))
        if placement.decision == "grant":
            self.claim(placement)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 7), percent=st.sampled_from((30, 100, 105)))
    def a_program_loads(self, which: int, percent: int) -> None:
        held = self.leases[self.one_of(which)]
        held.used = {uuid: size * percent // 100 for uuid, size in held.reserved.items()}
        self.look()

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 7), looks=st.booleans())
    def a_lease_is_released(self, which: int, *, looks: bool) -> None:
        lease = self.one_of(which)
        self.ledger.release(str(lease))
        self.returning.append(self.leases.pop(lease))
        if looks:
            self.look()

    @rule(uuid=GPU, quarters=st.integers(0, 20))
    def others_use_a_gpu(self, uuid: str, quarters: int) -> None:
        if self.returning:
            # In one and the same pass it could not be told from VRAM that did not come back.
            self.look()
        self.foreign[uuid] = quarters * QUARTER
        self.look()

    @precondition(lambda self: self.leases)
    @rule()
    def the_daemon_is_started_again(self) -> None:
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        for lease, held in self.leases.items():
            self.ledger.restore(
                Claim(lease=str(lease), holder=f"holder-{lease}", reserved=held.reserved)
            )
        self.look()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def a_split_has_given_each_gpu_what_its_parts_say(self) -> None:
        shown = {one.uuid: one.free_bytes for one in self.ledger.capacities(self.snapshot)}
        assert shown == {uuid: self.free(uuid) for uuid in TOTALS}

    # --- the rules ------------------------------------------------------------------------------

    def free(self, uuid: str) -> int:
        taken = sum(held.taken(uuid) for held in (*self.leases.values(), *self.returning))
        return TOTALS[uuid] - self.foreign[uuid] - taken

    def judge(self, request: Request, placement: Placement) -> None:
        gpus = [self.capacity(uuid) for uuid in TOTALS]
        wanted = model.chosen(request, gpus)
        assert placement.chosen == (wanted or [])
        if wanted is None:
            ever = model.may_ever(request, gpus)
            assert placement.decision == ("wait" if ever else "never")
            assert (placement.reserved, placement.tensor_split) == ({}, None)
            return
        parts = placement.reserved
        assert list(parts) == placement.chosen
        assert len(parts) == (request.count if request.count > 1 else self.fewest(request))
        amount = request.vram_bytes
        assert sum(parts.values()) == amount
        least = max(1, min(LEAST, amount // (2 * len(parts))))
        beyond = {uuid: self.free(uuid) - least for uuid in parts}
        for uuid, part in parts.items():
            assert least <= part <= self.free(uuid)
            rest = amount - least * len(parts)
            fair = Fraction(rest * beyond[uuid], sum(beyond.values()) or 1)
            assert abs(part - least - fair) < 1, "each in proportion to what it has free"
        self.judge_ratio(placement, amount)

    def judge_ratio(self, placement: Placement, amount: int) -> None:
        assert placement.tensor_split is not None
        told = [int(part) for part in placement.tensor_split.split(",")]
        parts = list(placement.reserved.values())
        assert len(told) == len(placement.split_ratio) == len(parts)
        for part, ratio, share in zip(parts, placement.split_ratio, told, strict=True):
            assert abs(ratio - part / amount) < 1e-9
            assert share > 0
            assert abs(share / sum(told) - part / amount) < 0.003

    def fewest(self, request: Request) -> int:
        """Return the least number of GPUs that hold it, each with a part that serves."""
        sizes = sorted(
            (self.free(uuid) for uuid in TOTALS if uuid not in request.avoid), reverse=True
        )
        return next(n for n in range(1, len(sizes) + 1) if model.holds(request, sizes[:n]))

    def capacity(self, uuid: str) -> Capacity:
        """Return the GPU as the rules see it: nothing here is from the ledger."""
        reserved = sum(held.taken(uuid) for held in (*self.leases.values(), *self.returning))
        return Capacity(
            uuid=uuid,
            index=list(TOTALS).index(uuid),
            name=NAMES[uuid],
            largest_bytes=TOTALS[uuid],
            free_bytes=self.free(uuid),
            foreign_bytes=self.foreign[uuid],
            reserved_bytes=reserved,
            utilization_core_percent=0,
            margin_c=30,
            leases=sum(uuid in held.reserved for held in self.leases.values()),
            capability=(8, 6),
            drives_display=False,
        )

    # --- the daemon's side ----------------------------------------------------------------------

    def one_of(self, which: int) -> int:
        return list(self.leases)[which % len(self.leases)]

    def claim(self, placement: Placement) -> None:
        self.granted += 1
        self.leases[self.granted] = Held(dict(placement.reserved))
        self.ledger.claim(
            Claim(
                lease=str(self.granted),
                holder=f"holder-{self.granted}",
                reserved=placement.reserved,
            )
        )

    def look(self) -> None:
        """Take a pass of all GPUs; the processes of what was released are gone by then."""
        self.returning.clear()
        self.clock.advance(1)
        views = []
        for index, (uuid, total) in enumerate(TOTALS.items()):
            uses = {lease: held.used.get(uuid, 0) for lease, held in self.leases.items()}
            uses = {lease: used for lease, used in uses.items() if used}
            last_pass = a_pass(
                uuid,
                taken_ns=self.clock(),
                total=total,
                used=sum(uses.values()) + self.foreign[uuid],
                processes=uses,
            )
            views.append(a_view(uuid, last_pass=last_pass, index=index, name=NAMES[uuid]))
        self.snapshot = a_snapshot(*views)
        holders = {lease: f"holder-{lease}" for lease in self.leases}
        self.ledger.observe(self.snapshot, holders.get)


TestSplits = SplitMachine.TestCase
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestSplits.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
)
