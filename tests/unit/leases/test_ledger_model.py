"""The ledger against the rules, on a host where leases, processes and driver do as they like."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from ledger_model import (
    RESERVE,
    RETURN_NS,
    Lingering,
    ModelGpu,
    PassRecord,
    Process,
    Rules,
    World,
)
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.ledger import Claim, Ledger, LedgerNotice
from supereziod.leases.placement import place

HOLDERS = ("ann", "bob", "cyd")
GPUS = ("GPU-a", "GPU-b", "GPU-n")
#: Most hosts are small, so that much happens on each GPU.
HOSTS = (("GPU-a",), ("GPU-b",), ("GPU-n",), ("GPU-a", "GPU-b"), GPUS)
SIZES = st.integers(1, 40)
WAITS = st.sampled_from((0, 100, 2500, 4999, 5000))
PICKS = st.integers(0, 7)
LOOKS = st.sampled_from(("later", "now", "now", "in 5 s"))
USED_PERCENT = st.sampled_from((0, 30, 100, 130))


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.build(GPUS)

    @initialize(
        gpus=st.sampled_from(HOSTS),
        leases=st.lists(
            st.tuples(st.sampled_from(HOLDERS), SIZES, USED_PERCENT), min_size=1, max_size=4
        ),
        commits=st.booleans(),
    )
    def begin(
        self, gpus: tuple[str, ...], leases: list[tuple[str, int, int]], *, commits: bool
    ) -> None:
        self.build(gpus)
        self.commits = commits
        for holder, size, used_percent in leases:
            self._acquire(holder, Request(vram_bytes=size), used_percent)
        self._look_now()

    def build(self, gpus: tuple[str, ...]) -> None:
        self.world = World(gpus)
        self.model = Rules(self.world)
        self.ledger = Ledger(reserve_bytes=RESERVE, clock=self.world.clock)
        self.in_flight: list[list[PassRecord]] = []
        self.calm: dict[str, dict[int, int]] = {uuid: {} for uuid in gpus}
        self.over: set[str] = set()
        self.leases = 0
        self.commits = True
        self.shown = self.world.take()
        self.snapshot = self.world.snapshot(self.shown)
        self.look(self.shown)

    def capacities(self) -> dict[str, Capacity]:
        return {capacity.uuid: capacity for capacity in self.ledger.capacities(self.snapshot)}

    # Few rules, with the kinds of a thing and whether a pass follows as their arguments: every run
    # switches some rules off, and what is rare must not need many of them.

    # --- leases ---------------------------------------------------------------------------------

    @rule(
        holder=st.sampled_from(HOLDERS),
        size=SIZES | st.none(),
        count=st.sampled_from((1, 1, 1, 2)),
        avoid=st.just(set()) | st.sets(st.sampled_from(GPUS), max_size=2),
        used_percent=USED_PERCENT,
        seen=LOOKS,
    )
    def acquire(
        self,
        *,
        holder: str,
        size: int | None,
        count: int,
        avoid: set[str],
        used_percent: int,
        seen: str,
    ) -> None:
        if size is None:  # exactly what is free somewhere
            size = max(1, *(one.free_bytes for one in self.capacities().values()))
        request = Request(vram_bytes=size, count=count, avoid=tuple(sorted(avoid)))
        self._acquire(holder, request, used_percent)
        self._look_if(seen=seen)

    def _acquire(self, holder: str, request: Request, used_percent: int) -> None:
        chosen = self._place(request)
        if not chosen:
            return
        size = request.vram_bytes
        self.leases += 1
        lease = f"lease-{self.leases}"
        self.ledger.claim(Claim(lease=lease, holder=holder, reserved=dict.fromkeys(chosen, size)))
        self.model.grant(lease, holder, chosen, size)
        for uuid in chosen if used_percent else ():
            self._start(holder, uuid, max(1, size * used_percent // 100))

    def _place(
        self,
        request: Request,
        *,
        own: dict[str, int] | None = None,
        bound_to: set[str] | None = None,
    ) -> list[str]:
        placement = place(request, list(self.capacities().values()))
        for reason in placement.gpus:
            gpu = self.world.gpus[reason.uuid]
            need = max(0, request.vram_bytes - (own or {}).get(gpu.uuid, 0))
            if self.model.is_exact(gpu) and gpu.uuid not in request.avoid:
                fits = need <= self.model.free(gpu) and request.vram_bytes <= reason_room(gpu)
                there = not bound_to or gpu.uuid in bound_to
                assert reason.admitted == (fits and there and not self.model.growing(gpu.uuid))
            elif reason.admitted:
                assert need <= self.model.most_free(gpu)
        return placement.chosen

    @rule(
        holder=st.sampled_from(HOLDERS),
        pick=PICKS,
        sizes=st.lists(SIZES | st.none(), min_size=1, max_size=2),
        seen=LOOKS,
    )
    def a_server_is_adopted(
        self, *, holder: str, pick: int, sizes: list[int | None], seen: str
    ) -> None:
        """Lease what a process uses that is nobody's, or the holder's already."""
        servers = [each for each in self.world.processes.values() if each.pid > 1]
        servers = [process for process in servers if process.holder in {None, holder}]
        if not servers:
            return
        for size in sizes:  # twice by one pass, perhaps
            self._adopt(holder, servers[pick % len(servers)], size)
        self._look_if(seen=seen)

    def _adopt(self, holder: str, process: Process, size: int | None) -> None:
        known = holder if any(grant.holder == holder for grant in self.model.grants) else None
        own = {u: self.model.own(gpu, holder, process.pid) for u, gpu in self.world.gpus.items()}
        if size is None:  # exactly what there is room for
            free = self.capacities()[process.gpu].free_bytes
            size = max(1, free + own[process.gpu])
        request = Request(
            vram_bytes=size, presence=self.ledger.presence(known, frozenset({process.pid}))
        )
        bound_to = self.model.bound_to(holder, process.pid)
        chosen = self._place(request, own=own, bound_to=bound_to)
        if not chosen:
            return
        assert not bound_to or set(chosen) <= bound_to, "a server cannot move"
        self.leases += 1
        lease = f"lease-{self.leases}"
        self.ledger.claim(Claim(lease=lease, holder=holder, reserved=dict.fromkeys(chosen, size)))
        self.ledger.adopt(holder, frozenset({process.pid}))
        self.model.grant(lease, holder, chosen, size)
        self.model.adopt(holder, process.pid)

    @rule(
        pick=PICKS,
        dies=st.booleans(),
        late_percent=st.sampled_from((0, 35, 100)),
        seen=st.sampled_from(("later", "just before", "at that instant", "now", "in 5 s")),
    )
    def lease_ends(self, *, pick: int, dies: bool, late_percent: int, seen: str) -> None:
        """End a lease; its end may fall between the taking of a pass and its arrival."""
        if not self.model.grants:
            return
        grant = self.model.grants[pick % len(self.model.grants)]
        ending = [grant.lease]
        if dies:
            ending = [one.lease for one in self.model.grants if one.holder == grant.holder]
            self._kill(grant.holder, late_percent=late_percent)
        taken: list[PassRecord] = []
        if seen in {"just before", "at that instant"}:
            self.world.clock.now_ns += 1
            taken = self.world.take()
            self.world.clock.now_ns += seen == "just before"
        for lease in dict.fromkeys(ending):
            self._release(lease)
        self._mark_muddled()
        if taken:
            self.look(taken)
        self._look_if(seen=seen)

    @rule(pick=PICKS, grows=st.integers(0, 10), seen=LOOKS)
    def a_lease_is_lost_while_it_runs(self, *, pick: int, grows: int, seen: str) -> None:
        """End all leases of a holder whose processes go on, and may take more than before."""
        if not self.model.grants:
            return
        holder = self.model.grants[pick % len(self.model.grants)].holder
        for lease in dict.fromkeys(g.lease for g in self.model.grants if g.holder == holder):
            self._release(lease)
        for process in self.world.processes.values():
            if process.holder == holder and grows <= self.world.room(process.gpu):
                process.size += grows
        self._mark_muddled()
        self._look_if(seen=seen)

    @rule(
        pick=PICKS,
        more=st.lists(st.tuples(st.integers(1, 10), USED_PERCENT), max_size=2),
        moves=st.sets(st.integers(0, 3), min_size=1),
        fates=st.lists(st.sampled_from(("stays", "moves", "lost")), min_size=1, max_size=4),
        seen=LOOKS,
    )
    def a_release_takes_a_holder_apart(
        self,
        *,
        pick: int,
        more: list[tuple[int, int]],
        moves: set[int],
        fates: list[str],
        seen: str,
    ) -> None:
        """Release what linked leases: some go on as another holder, with some of the processes.

        Others were held by nothing else, and are nobody's from now on.
        """
        if not self.model.grants:
            return
        grant = self.model.grants[pick % len(self.model.grants)]
        for size, used_percent in more:
            self._acquire(grant.holder, Request(vram_bytes=size), used_percent)
        self._look_if(seen="now" if more else "later")
        holder, new = grant.holder, f"part-{self.world.next_pid}"
        self.world.next_pid += 1
        linked = dict.fromkeys(one.lease for one in self.model.grants if one.holder == holder)
        left = [lease for lease in linked if lease != grant.lease]
        moving = {lease for number, lease in enumerate(left) if number in moves}
        if moving == set(left):
            moving = set()  # the oldest keep the name
        before = {uuid: one.free_bytes for uuid, one in self.capacities().items()}
        self._release(grant.lease)
        self._take_apart(holder, new, moving, fates)
        for uuid, capacity in self.capacities().items():
            assert capacity.free_bytes <= before[uuid], "as much as before is spoken for, or more"
        self._mark_muddled()
        self._look_if(seen=seen)

    def _take_apart(self, holder: str, new: str, moving: set[str], fates: list[str]) -> None:
        if not any(grant.holder == holder for grant in self.model.grants):
            return
        whose = {"stays": holder, "moves": new if moving else holder, "lost": None}
        mine = [
            process.pid for process in self.world.processes.values() if process.holder == holder
        ]
        decided = {pid: whose[fates[place % len(fates)]] for place, pid in enumerate(mine)}
        self.ledger.part(holder, [pid for pid, fate in decided.items() if fate is None])
        if moving:
            going = [pid for pid, fate in decided.items() if fate == new]
            self.ledger.split(holder, new, sorted(moving), going)
        self.model.split(holder, new, moving, decided)

    def _release(self, lease: str) -> None:
        before = {uuid: one.free_bytes for uuid, one in self.capacities().items()}
        holder = next(grant.holder for grant in self.model.grants if grant.lease == lease)
        self.model.release(lease)
        self.ledger.release(lease)
        self.ledger.release(lease)
        if not any(grant.holder == holder for grant in self.model.grants):
            self.ledger.disown(holder)
        after = {uuid: one.free_bytes for uuid, one in self.capacities().items()}
        assert after == before, "a release frees nothing by itself"

    def _kill(self, holder: str, *, late_percent: int) -> None:
        last = {one.gpu: one.lease for one in self.model.grants if one.holder == holder}
        for process in list(self.world.processes.values()):
            if process.holder == holder:
                del self.world.processes[process.pid]
                late = process.size * late_percent // 100
                if late:
                    lease = last.get(process.gpu, "none")
                    self.world.lingering.append(Lingering(process.gpu, late, lease))

    @rule(pick=PICKS, holder=st.sampled_from(HOLDERS), seen=LOOKS)
    def lease_joins(self, *, pick: int, holder: str, seen: str) -> None:
        if not self.model.grants:
            return
        grant = self.model.grants[pick % len(self.model.grants)]
        old, lease = grant.holder, grant.lease
        self.ledger.rebind(lease, holder)
        self.model.join(lease, holder)
        if not any(other.holder == old for other in self.model.grants):
            for process in self.world.processes.values():
                if process.holder == old:
                    process.holder = holder
        self._look_if(seen=seen)

    # --- processes and the driver ---------------------------------------------------------------

    @rule(holder=st.sampled_from((*HOLDERS, None)), pick=PICKS, size=SIZES, seen=LOOKS)
    def a_process_starts(self, *, holder: str | None, pick: int, size: int, seen: str) -> None:
        self._start(holder, list(self.world.gpus)[pick % len(self.world.gpus)], size)
        self._look_if(seen=seen)

    def _start(self, holder: str | None, gpu: str, size: int) -> None:
        if size <= self.world.room(gpu):
            pid = self.world.next_pid
            self.world.next_pid += 1
            self.world.processes[pid] = Process(pid, gpu, size, holder)

    @rule(pick=PICKS, size=st.just(0) | SIZES, seen=LOOKS)
    def a_process_changes_or_ends(self, *, pick: int, size: int, seen: str) -> None:
        others = [process for process in self.world.processes.values() if process.pid > 1]
        if not others:
            return
        process = others[pick % len(others)]
        if size and size - process.size <= self.world.room(process.gpu):
            process.size = size
        elif not size:
            del self.world.processes[process.pid]
            if process.gpu == "GPU-n" and self.model.grants_on("GPU-n"):
                self.world.gpus["GPU-n"].muddled = True
        self._look_if(seen=seen)

    @rule(milliseconds=WAITS, freed=st.just(0) | SIZES, seen=LOOKS)
    def time_passes_and_the_driver_frees(self, *, milliseconds: int, freed: int, seen: str) -> None:
        self.world.clock.advance(milliseconds / 1000)
        if self.world.lingering:
            late = self.world.lingering[0]
            late.size -= min(freed, late.size)
            self.world.lingering = [one for one in self.world.lingering if one.size]
        self._look_if(seen=seen)

    # --- passes ---------------------------------------------------------------------------------

    @rule(what=st.sampled_from(("taken", "arrives", "at once", "at once")), tick=st.integers(0, 1))
    def a_pass_is(self, what: str, tick: int) -> None:
        if what == "taken":
            self.world.clock.now_ns += tick
            self.in_flight.append(self.world.take())
        elif what == "at once":
            self._look_now()
        elif self.in_flight:
            self.look(self.in_flight.pop(0))

    def _look_if(self, *, seen: str) -> None:
        if seen == "in 5 s":
            self.world.clock.advance(5)
        if seen in {"now", "in 5 s"}:
            self._look_now()

    def _look_now(self) -> None:
        self.world.clock.now_ns += 1
        self.look(self.world.take())
        for gpu in self.world.gpus.values():
            limit = gpu.total - gpu.told_reserve - RESERVE - self.world.used(gpu.uuid)
            capacity = self.capacities()[gpu.uuid]
            assert capacity.free_bytes <= limit
            if gpu.generation != "hidden" and not self.model.pending_on(gpu.uuid):
                leased = {grant.holder for grant in self.model.grants}
                unleased = [
                    process.size
                    for process in self.world.processes.values()
                    if process.gpu == gpu.uuid and process.holder not in leased
                ]
                assert capacity.foreign_bytes >= sum(unleased), "whoever lost its lease included"

    def look(self, records: list[PassRecord]) -> None:
        newer = records[0].taken_ns >= self.shown[0].taken_ns
        self.shown = records if newer else self.shown
        self.snapshot = self.world.snapshot(self.shown)
        notices = self.ledger.observe(self.world.snapshot(records), self.model.holder_of)
        settled = self.model.observe(records)
        for uuid, expected in settled.items():
            told = [notice for notice in notices if notice.uuid == uuid]
            self._check_settled(self.world.gpus[uuid], expected, told)
            self._check_overcommit(self.world.gpus[uuid], told)
            self._check_overrun(self.world.gpus[uuid], told)
        assert {notice.uuid for notice in self.ledger.overcommitted()} == self.over
        self._mark_muddled()
        for gpu in self.world.gpus.values():
            self._clear_muddled(gpu)

    def _check_settled(
        self, gpu: ModelGpu, expected: list[tuple[str, str]], told: list[LedgerNotice]
    ) -> None:
        given = [
            (notice.kind, notice.lease or "")
            for notice in told
            if notice.kind in {"returned", "unreturned"}
        ]
        if self.model.is_exact(gpu):
            assert given == expected
        taken_ns = gpu.passes[-1].taken_ns
        pending = {one.lease: one for one in self.model.pending_on(gpu.uuid)}
        for kind, lease in given:
            since = taken_ns - pending[lease].released_ns
            assert since > 0
            assert kind == "returned" or since >= RETURN_NS
            self.model.settle(gpu.uuid, lease)
        for one in self.model.pending_on(gpu.uuid):
            assert taken_ns - one.released_ns < RETURN_NS

    def _check_overcommit(self, gpu: ModelGpu, told: list[LedgerNotice]) -> None:
        kinds = [notice for notice in told if notice.kind.startswith("overcommit")]
        free = self.capacities()[gpu.uuid].free_bytes
        is_over, was_over = free < 0, gpu.uuid in self.over
        if is_over == was_over:
            assert not kinds
        elif is_over:
            (notice,) = kinds
            assert (notice.kind, notice.amount_bytes) == ("overcommitted", -free)
            if gpu.generation != "hidden":
                calm = self.calm[gpu.uuid]
                listed = gpu.passes[-1].listed
                grown = {pid for pid, size in listed.items() if size > calm.get(pid, 0)}
                assert set(notice.pids) == grown
            self.over.add(gpu.uuid)
        else:
            assert [notice.kind for notice in kinds] == ["overcommit_over"]
            self.over.discard(gpu.uuid)
        if not is_over:
            self.calm[gpu.uuid] = dict(gpu.passes[-1].listed)

    def _check_overrun(self, gpu: ModelGpu, told: list[LedgerNotice]) -> None:
        """Raise what has overrun, or leave it where that cannot be recorded."""
        given = [notice for notice in told if notice.kind == "overrun"]
        overran = self.model.overran(gpu)
        assert {(one.lease, one.lease_bytes, one.again) for one in given} == {
            (grant.lease, size, again) for grant, size, again in overran
        }
        assert len(given) == len(overran)
        free = self.capacities()[gpu.uuid].free_bytes
        for grant, size, _ in overran if self.commits else ():
            self.ledger.raise_reserve(grant.lease, gpu.uuid, size)
            grant.size = size
            assert self.capacities()[gpu.uuid].free_bytes == free, "it was taken already"

    # --- what cannot be told exactly ------------------------------------------------------------

    def _mark_muddled(self) -> None:
        """Late memory that no release expects, or no release is left for, blurs the others'."""
        for uuid, gpu in self.world.gpus.items():
            expected = {one.lease: one.expected for one in self.model.pending_on(uuid)}
            late: dict[str, int] = {}
            for one in self.world.lingering:
                if one.gpu == uuid:
                    late[one.lease] = late.get(one.lease, 0) + one.size
            if any(size > expected.get(lease, -1) for lease, size in late.items()):
                gpu.muddled = True

    def _clear_muddled(self, gpu: ModelGpu) -> None:
        late = gpu.passes[-1].lingering or [
            one for one in self.world.lingering if one.gpu == gpu.uuid
        ]
        busy = bool(self.model.pending_on(gpu.uuid))
        if gpu.generation == "hidden":
            busy = busy or bool(self.model.grants_on(gpu.uuid))
        if not late and not busy:
            gpu.muddled = False

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def the_ledger_is_what_the_rules_say(self) -> None:
        for uuid, capacity in self.capacities().items():
            gpu = self.world.gpus[uuid]
            assert capacity.leases == len({grant.lease for grant in self.model.grants_on(uuid)})
            assert capacity.largest_bytes == gpu.total - gpu.told_reserve - RESERVE
            assert capacity.free_bytes <= self.model.most_free(gpu)
            if self.model.is_exact(gpu):
                assert capacity.free_bytes == self.model.free(gpu)
                assert capacity.foreign_bytes == self.model.foreign(gpu)
                assert capacity.growing == self.model.growing(uuid)
                for grant in self.model.grants_on(uuid):
                    told = self.ledger.actual(grant.holder, uuid)
                    assert told in {None, self.model.actual(gpu, grant.holder)}


def reason_room(gpu: ModelGpu) -> int:
    """Return what a GPU could hold if nothing else were on it."""
    return gpu.total - gpu.told_reserve - RESERVE


TestLedger = LedgerMachine.TestCase
#: Against a seeded mutant only the verdict counts: one fixed run, and no smaller example sought.
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestLedger.settings = settings(
    max_examples=int(os.environ.get("SUPEREZIO_MODEL_EXAMPLES", "150")),
    stateful_step_count=40,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
