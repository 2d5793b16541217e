"""Compute modes against a model: what CUDA gives to one process, or to none, is leased like that.

  A GPU in compute mode PROHIBITED, or EXCLUSIVE_PROCESS and taken, admits nothing. It is taken by a
  lease, from its grant on; by what a release has not given back; by any process that is on it,
  and where that cannot be read. But a process that has it may be leased for, once.

Modes are a person's to change, also under leases. There is VRAM for all: it is not about that.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from gpu_views import FakeClock, a_pass, a_snapshot, a_view
from probe_doubles import NO_DETAILS
from superezio.wire import Placement
from supereziod.gpu.admission import block_of
from supereziod.gpu.hardware import ComputeMode, GpuView
from supereziod.leases.capacity import Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import place

TOTAL: Final = 1000
RETURN_NS: Final = 5_000_000_000
MODES: tuple[ComputeMode, ...] = ("default", "exclusive_process", "exclusive_process", "prohibited")
MODE = st.sampled_from(MODES)
GPU = st.sampled_from(("GPU-a", "GPU-b"))
PIDS = st.sampled_from((1, 2, 3))
WHO = Literal["itself", "a server"]


@dataclass
class Card:
    """A GPU: its mode, who is on it, and what the last pass showed of that."""

    mode: ComputeMode = "default"
    readable: bool = True
    listed: bool = True
    on: dict[int, int] = field(default_factory=dict)
    shown_mode: ComputeMode = "default"
    shown: dict[int, int] | None = None
    taken_ns: int = 0
    #: Releases that are not settled: when, and which processes had how much.
    pending: list[tuple[int, dict[int, int]]] = field(default_factory=list)

    def look(self, now_ns: int, *, leased: Collection[int]) -> None:
        self.shown_mode = self.mode
        # What has come back where nobody lists processes is read from the VRAM: see the ledger's.
        self.listed = self.readable or bool(self.pending)
        self.shown = dict(self.on) if self.listed else None
        self.taken_ns = now_ns
        self.pending = [one for one in self.pending if not self._is_settled(*one, leased)]

    def _is_settled(self, released_ns: int, had: dict[int, int], leased: Collection[int]) -> bool:
        if self.taken_ns <= released_ns:
            return False
        # What a process has that holds a lease again is that one's.
        shown = self.shown or {}
        left = sum(shown[pid] for pid in had if pid in shown and pid not in leased)
        expected = sum(had.values())
        is_back = expected - min(left, expected) >= 0.75 * expected
        return is_back or self.taken_ns - released_ns >= RETURN_NS


class ComputeModeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.cards = {"GPU-a": Card(), "GPU-b": Card()}
        #: By lease: the GPU, and the process that holds it.
        self.leases: dict[str, tuple[str, int]] = {}
        self.granted = 0
        self.look()

    @initialize(a=MODE, b=MODE, pid=PIDS)
    def begin(self, a: ComputeMode, b: ComputeMode, pid: int) -> None:
        self.cards["GPU-a"].mode, self.cards["GPU-b"].mode = a, b
        self.a_process_opens_a_gpu(pid=pid, uuid="GPU-a", size=8)
        self.look()

    # --- what happens ---------------------------------------------------------------------------

    @rule(pid=PIDS, who=st.sampled_from(("itself", "a server")), avoid=st.none() | GPU)
    def acquire(self, pid: int, who: WHO, avoid: str | None) -> None:
        placement = self.placement(pid, who=who, avoid=avoid)
        allowed = self.allowed(pid, who=who, avoid=avoid)
        assert (placement.decision == "grant") == bool(allowed)
        if placement.decision != "grant":
            return
        (uuid,) = placement.chosen
        assert uuid in allowed
        lease = f"lease-{self.granted}"
        self.granted += 1
        self.ledger.claim(Claim(lease=lease, holder=holder(pid), reserved=placement.reserved))
        self.ledger.adopt(holder(pid), [pid])
        self.leases[lease] = uuid, pid

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 5), ends=st.booleans())
    def release(self, which: int, *, ends: bool) -> None:
        lease = list(self.leases)[which % len(self.leases)]
        uuid, pid = self.leases.pop(lease)
        self.ledger.release(lease)
        card = self.cards[uuid]
        if (uuid, pid) not in self.leases.values():
            had = {pid: (card.shown or {}).get(pid, 0)}
            card.pending.append((self.clock(), had))
        if pid not in [other for _, other in self.leases.values()]:
            self.ledger.disown(holder(pid))
        if ends:
            self.a_process_ends(pid)

    @rule(pid=PIDS, uuid=GPU, size=st.sampled_from((1, 8)))
    def a_process_opens_a_gpu(self, pid: int, uuid: str, size: int) -> None:
        """CUDA lets it in, or not."""
        card = self.cards[uuid]
        others = [other for other in card.on if other != pid]
        if card.mode == "default" or (card.mode == "exclusive_process" and not others):
            card.on[pid] = size

    @rule(pid=PIDS)
    def a_process_ends(self, pid: int) -> None:
        for card in self.cards.values():
            card.on.pop(pid, None)

    @rule(uuid=GPU, mode=MODE)
    def somebody_sets_a_mode(self, uuid: str, mode: ComputeMode) -> None:
        self.cards[uuid].mode = mode

    @rule(uuid=GPU)
    def the_driver_lists_processes_or_does_not(self, uuid: str) -> None:
        self.cards[uuid].readable = not self.cards[uuid].readable

    @rule(later_ms=st.sampled_from((1, 1, 1000, 5000)))
    def a_pass_is_taken(self, later_ms: int) -> None:
        self.look(later_ms)

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def each_is_answered_by_the_rules(self) -> None:
        for pid in (1, 2, 3, 4):
            allowed = self.allowed(pid, who="itself")
            for reason in self.placement(pid, who="itself").gpus:
                mode = self.cards[reason.uuid].shown_mode
                assert reason.admitted == (reason.uuid in allowed)
                assert (reason.code == "compute_prohibited") == (mode == "prohibited")
                if not reason.admitted and mode != "prohibited":
                    assert reason.code == "compute_exclusive_taken"

    # --- the rules ------------------------------------------------------------------------------

    def allowed(self, pid: int, *, who: WHO, avoid: str | None = None) -> list[str]:
        """Return where a lease for the process may be: a server can only be where it is."""
        uses = [uuid for uuid in self.cards if self.has_unleased(uuid, pid)]
        where = uses if uses and who == "a server" else list(self.cards)
        return [uuid for uuid in where if uuid != avoid and self.admits(uuid, pid)]

    def admits(self, uuid: str, pid: int) -> bool:
        card = self.cards[uuid]
        if card.shown_mode == "default":
            return True
        if card.shown_mode == "prohibited" or self.on(uuid) or card.pending:
            return False
        return self.has_unleased(uuid, pid) or card.shown == {}

    def has_unleased(self, uuid: str, pid: int) -> bool:
        """Tell whether the process was seen on the GPU, and holds no lease there."""
        return pid in (self.cards[uuid].shown or {}) and pid not in self.on(uuid)

    def on(self, uuid: str) -> list[int]:
        """Return who holds a lease there."""
        return [pid for where, pid in self.leases.values() if where == uuid]

    # --- the daemon's side ----------------------------------------------------------------------

    def placement(self, pid: int, *, who: WHO, avoid: str | None = None) -> Placement:
        leased = pid in [other for _, other in self.leases.values()]
        request = Request(
            vram_bytes=10,
            avoid=() if avoid is None else (avoid,),
            presence=self.ledger.presence(
                holder(pid) if leased else None, [pid], may_move=who == "itself"
            ),
        )
        return place(request, self.ledger.capacities(self.snapshot))

    def look(self, later_ms: int = 1) -> None:
        self.clock.advance(later_ms / 1000)
        for card in self.cards.values():
            card.look(self.clock(), leased=[pid for _, pid in self.leases.values()])
        self.snapshot = a_snapshot(*[self.view(uuid) for uuid in self.cards])
        holders = {pid: holder(pid) for _, pid in self.leases.values()}
        self.ledger.observe(self.snapshot, holders.get)

    def view(self, uuid: str) -> GpuView:
        card = self.cards[uuid]
        details = replace(NO_DETAILS, compute_mode=card.mode)
        last_pass = a_pass(
            uuid,
            taken_ns=self.clock(),
            total=TOTAL,
            used=sum(card.on.values()),
            processes=dict(card.on) if card.listed else {},
            listed=card.listed,
        )
        block = block_of(
            status="ok",
            status_reason=None,
            answers_late=False,
            level="normal",
            fitness="healthy",
            fitness_reason="",
            cordon_reason=None,
            last_pass=last_pass,
            details=details,
        )
        return a_view(uuid, last_pass=last_pass, details=details, block=block)


def holder(pid: int) -> str:
    return f"holder-{pid}"


TestComputeModes = ComputeModeMachine.TestCase
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestComputeModes.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
)


def test_a_server_whose_lease_ended_is_where_it_was_seen() -> None:
    machine = ComputeModeMachine()
    machine.begin(a="default", b="default", pid=3)
    machine.acquire(pid=3, who="itself", avoid="GPU-b")
    machine.look()
    machine.release(which=0, ends=False)
    machine.acquire(pid=3, who="a server", avoid="GPU-a")  # asserts that it goes nowhere else
    assert not machine.leases
