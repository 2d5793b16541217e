"""Leases on MIG instances, against a model: each is a unit, as a GPU is.

  With MIG on, whole-GPU placement is refused, and a lease goes to one instance: iff it needs no
  more than is free there. What is used, by leases or by others, counts on the instance that it is
  on, and on no other. An instance that may not be read is no_permission, never empty. One that is
  gone is lost while a lease is on it, and forgotten after; one that comes again is read anew. A
  program can use one instance, so that nothing goes over several.

What is free is summed up anew, whenever it is asked for, from what the last pass showed.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from gpu_views import FakeClock, a_snapshot
from probe_doubles import GIB, NO_DETAILS, SilentLog, identity, instance, sample, uuid
from superezio.wire import Placement
from supereziod.gpu.announcements import GpuAnnouncements
from supereziod.gpu.frames import ProbeSpec, Reading
from supereziod.gpu.hardware import InstanceReading, ProcessUse
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.roster import GpuRoster, MonitorRules
from supereziod.gpu.track import Surroundings
from supereziod.leases.capacity import Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import place
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

WHOLE: Final = uuid(0)
WHOLE_BYTES: Final = 12 * GIB
INSTANCE_BYTES: Final = 10 * GIB
NAMES: Final = ("MIG-0", "MIG-1", "MIG-2")
NAME = st.sampled_from(NAMES)
STRANGER: Final = 1000


@dataclass
class Slice:
    """An instance: what is so, and what the last pass showed of it."""

    there: bool = False
    forbidden: bool = False
    foreign: int = 0
    shown_there: bool = False
    readable: bool = False
    shown_foreign: int = 0
    #: What released leases had, until a pass has shown it free.
    returning: int = 0


@dataclass
class Held:
    name: str
    size: int
    uses: int = 0
    shown: int = 0
    pid: int = 0

    @property
    def taken(self) -> int:
        return max(self.size, self.shown)


@dataclass
class Card:
    """The GPU, with MIG on or not, and what it is cut into."""

    mig: bool = True
    slices: dict[str, Slice] = field(default_factory=lambda: {name: Slice() for name in NAMES})
    leases: list[Held] = field(default_factory=list)

    def on(self, name: str) -> list[Held]:
        return [held for held in self.leases if held.name == name]

    def look(self) -> None:
        for name, part in self.slices.items():
            part.shown_there = part.there
            part.readable = part.there and not part.forbidden
            if part.readable:
                part.shown_foreign, part.returning = part.foreign, 0
                for held in self.on(name):
                    held.shown = held.uses
            if not part.there and not self.on(name):
                self.slices[name] = Slice(forbidden=part.forbidden)

    def free(self, name: str) -> int:
        taken = sum(held.taken for held in self.on(name))
        if name == WHOLE:
            return WHOLE_BYTES - taken
        part = self.slices[name]
        return INSTANCE_BYTES - part.shown_foreign - taken - part.returning

    def refusal(self, name: str) -> str | None:
        """Return why nothing at all is admitted there."""
        if name == WHOLE:
            return "mig_enabled" if self.mig else None
        part = self.slices[name]
        if not part.shown_there:
            return "lost"
        return None if part.readable else "no_permission"

    @property
    def shown(self) -> list[str]:
        """The units that there are by the last pass."""
        parts = [name for name in NAMES if self.slices[name].shown_there or self.on(name)]
        return [WHOLE, *parts]


class MigMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.card = Card()
        self.clock = FakeClock()
        self.scratch = tempfile.TemporaryDirectory(prefix="mig-")
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.granted = 0
        state = Path(self.scratch.name) / "state.db"
        self.roster = GpuRoster(
            spec=ProbeSpec(driver="nvml"),
            rules=MonitorRules(),
            records=GpuRecords(
                Documents(Database.open(state, schema=Documents.SCHEMA)),
                boot_id="boot",
                logger=SilentLog(),
            ),
            tell=GpuAnnouncements(
                EventLog(logger=SilentLog()),
                leases_on=lambda name: ["lease" for _ in self.card.on(name)],
            ),
            excuse=lambda _uuid: None,
            clock=self.clock,
        )
        self.roster.identify(identity(0))
        self.look()

    def teardown(self) -> None:
        self.scratch.cleanup()

    @initialize(names=st.sets(NAME, min_size=1))
    def begin(self, names: set[str]) -> None:
        for name in names:
            self.card.slices[name].there = True
        self.look()

    # --- what happens ---------------------------------------------------------------------------

    @rule(
        gib=st.sampled_from((1, 3, 5, 9, 10, 11, 12)), how=st.sampled_from(("", "", "two", "split"))
    )
    def acquire(self, gib: int, how: str) -> None:
        need = gib * GIB
        placement = self.placement(need, count=2 if how == "two" else 1, split=how == "split")
        units = [name for name in self.card.shown if self.card.refusal(name) is None]
        if how and self.card.mig:
            assert placement.decision == "never", "no program can use two instances"
            return
        allowed = [name for name in units if need <= self.card.free(name)] if how != "two" else []
        assert (placement.decision == "grant") == bool(allowed)
        if gib > 10 and self.card.mig:
            assert placement.decision == "never", "no instance is so large"
        if placement.decision == "grant":
            least = min(allowed, key=lambda name: (self.card.free(name), name))
            assert placement.reserved == {least: need}
            self.granted += 1
            held = Held(least, need, pid=self.granted)
            self.card.leases.append(held)
            self.ledger.claim(
                Claim(lease=str(held.pid), holder=f"holder-{held.pid}", reserved=placement.reserved)
            )

    @precondition(lambda self: self.card.leases)
    @rule(which=st.integers(0, 5))
    def release(self, which: int) -> None:
        held = self.card.leases.pop(which % len(self.card.leases))
        self.ledger.release(str(held.pid))
        self.ledger.disown(f"holder-{held.pid}")
        if held.name != WHOLE:
            self.card.slices[held.name].returning += held.taken
        else:
            self.look()

    @precondition(lambda self: self.card.leases)
    @rule(which=st.integers(0, 5), percent=st.sampled_from((0, 50, 100, 105)))
    def a_program_uses_its_lease(self, which: int, percent: int) -> None:
        held = self.card.leases[which % len(self.card.leases)]
        if held.name != WHOLE and self.card.slices[held.name].there:
            held.uses = held.size * percent // 100

    @rule(name=NAME, gib=st.sampled_from((0, 1, 4)))
    def somebody_uses_an_instance(self, name: str, gib: int) -> None:
        if self.card.slices[name].there:
            self.card.slices[name].foreign = gib * GIB

    @precondition(lambda self: self.card.mig)
    @rule(name=NAME)
    def an_instance_comes_or_goes(self, name: str) -> None:
        part = self.card.slices[name]
        part.there = not part.there
        part.foreign = 0
        for held in self.card.on(name):
            held.uses = 0

    @rule(name=NAME)
    def an_instance_may_be_read_or_not(self, name: str) -> None:
        self.card.slices[name].forbidden = not self.card.slices[name].forbidden

    @precondition(lambda self: not any(one.there for one in self.card.slices.values()))
    @rule()
    def mig_is_turned_on_or_off(self) -> None:
        if not self.card.on(WHOLE):
            self.card.mig = not self.card.mig
            self.look()

    @rule()
    def a_pass_is_taken(self) -> None:
        self.look()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def each_unit_is_answered_for_by_the_rules(self) -> None:
        for need in (2 * GIB, 8 * GIB):
            reasons = {reason.uuid: reason for reason in self.placement(need).gpus}
            assert set(self.card.shown) <= set(reasons)
            for name in self.card.shown:
                refusal = self.card.refusal(name)
                if refusal is not None:
                    assert not reasons[name].admitted
                    assert reasons[name].code == refusal
                    continue
                assert reasons[name].admitted == (need <= self.card.free(name))
                assert reasons[name].free_bytes == self.card.free(name)

    # --- the daemon's side ----------------------------------------------------------------------

    def placement(self, need: int, *, count: int = 1, split: bool = False) -> Placement:
        request = Request(vram_bytes=need, count=count, split=split)
        return place(request, self.ledger.capacities(self.snapshot))

    def look(self) -> None:
        """Take a pass of the GPU and of all its instances, as the monitor would."""
        self.clock.advance(1)
        at_ns = self.clock()
        details = replace(NO_DETAILS, mig_mode="enabled" if self.card.mig else "disabled")
        reading = Reading(
            sample=sample(WHOLE, at_ns, full=True, details=details),
            pass_id=0,
            instances=tuple(
                self.found(place_, at_ns)
                for place_, name in enumerate(NAMES)
                if self.card.slices[name].there
            ),
        )
        self.card.look()
        self.roster.take(reading, at_ns)
        self.roster.judge(Surroundings(attached=True, driver_fault=None))
        self.snapshot = a_snapshot(*self.roster.views())
        holders = {held.pid: f"holder-{held.pid}" for held in self.card.leases}
        self.ledger.observe(self.snapshot, holders.get)

    def found(self, place_: int, at_ns: int) -> InstanceReading:
        name = NAMES[place_]
        part = self.card.slices[name]
        uses = {held.pid: held.uses for held in self.card.on(name) if held.uses}
        if part.foreign:
            uses[STRANGER + place_] = part.foreign
        return instance(
            WHOLE,
            place_,
            at_ns=at_ns,
            name=name,
            used=sum(uses.values()),
            processes=tuple(
                ProcessUse(pid=pid, type="C", vram_bytes=used) for pid, used in uses.items()
            ),
            fault="no_permission" if part.forbidden else None,
        )


TestMig = MigMachine.TestCase
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestMig.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
)
