"""Whether the daemon told the truth: judged by what the host and its programs know."""

from __future__ import annotations

from collections import Counter

from soak.cards import Gpu
from soak.daemon_run import MAX_LEASES, MAX_LEASES_PER_UID, DaemonRun, Line
from soak.grant_judge import GrantJudge
from soak.host import Host
from soak.processes import Process
from soak.queue_judge import QueueJudge
from soak.quota_judge import QuotaJudge
from soak.readings import Reading
from soak.serving import Serving
from soak.truth import SECOND_NS, Asked, Held, Truth, room_of
from superezio.errors import (
    NeverFitsError,
    NoCapacityError,
    QuotaExceededError,
    SuperezioError,
)
from superezio.wire import Event, Lease, LeaseGpu, LeaseList
from supereziod.leases.handles import Caller

#: A timer that is due works within this.
_LATE_NS = SECOND_NS // 10
#: Within this a critical GPU has its leases told to end, and an overrun is reserved.
_DRAINED_NS = 60 * SECOND_NS
_RAISED_NS = 180 * SECOND_NS
#: The least that a hot GPU leaves a holder, and the least that a restart does.
_LEAST_S = 5.0
_RESTART_S = 30.0
#: So many acquires that are over are remembered: a caller may be gone before its daemon knows.
_HISTORY = 200
ADMIN = Caller(uid=0, pid=1, pidfd=None, role="admin", connection="judge")


class Judge:
    """Compares what the daemon shows, at every step, with the truth."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.truth = Truth(host)
        #: Leases that an admin revokes: within how many seconds.
        self.revoking: dict[str, float] = {}
        #: Leases that their holders have asked to release.
        self.releasing: set[str] = set()
        self._asked: dict[str, Asked] = {}
        self.writable = True
        self.counts: Counter[str] = Counter()
        self._serving = Serving(self.truth)
        self._grants = GrantJudge(self.truth, self._serving)
        self._quotas = QuotaJudge(self.truth)
        self._queue = QueueJudge(
            self.truth, serving=self._serving, quotas=self._quotas, counts=self.counts
        )
        #: Ended while nothing could be written: a restart may find them again.
        self._unwritten: dict[str, Held] = {}
        #: Since when a GPU has been critical, and a lease been used too much on one.
        self._critical_ns: dict[str, int] = {}
        self._overrun_ns: dict[tuple[str, str], int] = {}
        self._dirty = self._is_read = False

    @property
    def held(self) -> dict[str, Held]:
        """The leases there are, by id."""
        return self.truth.held

    @property
    def _run(self) -> DaemonRun:
        assert self.truth.run is not None
        return self.truth.run

    # --- what programs are told -----------------------------------------------------------------

    def asks(self, asked: Asked) -> None:
        """Take in an acquire, before it is sent."""
        self._asked[asked.name] = asked
        if len(self._asked) > 2 * _HISTORY:
            over = list(self._asked.values())[:-_HISTORY]
            for each in over:
                if not each.in_flight:
                    del self._asked[each.name]

    def told(self, asked: Asked, lease: Lease) -> None:
        """Take in the answer to an acquire."""
        assert lease.name == asked.name, "the lease of another acquire was returned"
        assert asked.told in (None, lease.id), f"{asked.name} was granted twice"
        promised = [gpu.reserved_bytes for gpu in lease.gpus]
        if asked.params.split:
            assert sum(promised) >= asked.params.vram_bytes
        else:
            assert len(promised) == asked.params.count
            assert min(promised) >= asked.params.vram_bytes
        asked.told = lease.id
        self.counts[f"granted {lease.mode}"] += 1

    def refused(self, asked: Asked, error: SuperezioError) -> None:
        """Take in a refusal."""
        self.counts[f"refused {error.kind}"] += 1
        # Who leases for a server that runs can have it where that is, and nowhere else.
        is_bound = asked.params.holder_pid and self._serving.used_without_lease(asked)
        if isinstance(error, NeverFitsError) and not is_bound:
            assert not self._serving.candidates(asked), (
                f"{asked.name} was told that it never fits: {error.message}"
            )

    def refused_for_room(self, asked: Asked, error: NoCapacityError) -> None:
        """Take in a refusal in the step that decided it: a later pass may show room."""
        if self._queue.is_empty:
            assert not self._serving.could_serve(asked, exact=True), (
                f"{asked.name} was refused what is free: {error.message}"
            )

    def refused_by_quota(self, asked: Asked, error: QuotaExceededError) -> None:
        """Take in a refusal in the step that decided it."""
        self.counts[f"refused by {error.data['scope']} quota of {error.data['resource']}"] += 1
        self._follow_reserves(self._run.leases.list(ADMIN))
        self._quotas.check_refusal(asked, self._queue.waiting)

    def resumed(self, lease: str, line: Line, *, visible: bool) -> None:
        """Take in that a connection has taken a lease over, and its process too if it is seen."""
        held, process = self.held[lease], line.process
        held.asked.line = line
        able = visible and self.writable and not self.host.out_of_files
        if able and not process.ended and process not in held.attached:
            self.counts["taken over"] += 1
            self.attached(lease, process)

    def attached(self, lease: str, process: Process) -> None:
        """Take in that a process holds a lease too."""
        held = self.held[lease]
        held.attached.add(process)
        self.truth.change()
        self.truth.adopt(process)
        self._dirty = True

    def renewed(self, lease: str, ttl_ms: int) -> None:
        """Take in a renewal."""
        held, now = self.held[lease], self.host.clock.now_ns
        held.ttl_ends_ns, held.renewed_ns = now + ttl_ms * 1_000_000, now

    def touch(self) -> None:
        """Have everything looked at once nothing more can run."""
        self._dirty = True

    # --- what happens ---------------------------------------------------------------------------

    def started(self, run: DaemonRun) -> None:
        """Judge another run from now on. What the last one held stands."""
        self._queue.clear()
        self._critical_ns.clear()
        self._overrun_ns.clear()
        self.writable = True
        self.held.update(self._unwritten)
        self.truth.begin(run)

    def restored(self) -> None:
        """Forget what could not be written off and was not found again."""
        there = {lease.id for lease in self._run.leases.list(ADMIN).leases}
        for lease, held in self._unwritten.items():
            if lease not in there and lease in self.held:
                self.truth.forget(held)
        self._unwritten.clear()
        self.truth.change()
        self._dirty = True

    def rebooted(self) -> None:
        """Nothing stands after a reboot."""
        self.held.clear()
        self.truth.change()
        self.releasing.clear()
        self._unwritten.clear()

    def on_event(self, event: Event) -> None:
        """Take in what the daemon told of, in the step that it tells of."""
        self._dirty = True
        self.counts[event.type] += 1
        self.host.note(f"{event.message} [{event.data.get('name')}]")
        name = event.data.get("name")
        if event.type == "lease.granted":
            assert event.lease is not None
            self._granted(event.lease, self._asked[str(name)], list(event.data["gpus"]))
        elif event.type == "lease.queued":
            self._queue.queued(self._asked[str(name)])
        elif event.type == "lease.draining":
            self._ordered(self.held[str(event.lease)], event)
        elif event.type == "lease.grown":
            self._grants.check_grown(self.held[str(event.lease)], str(event.gpu))
        elif event.type == "lease.kept":
            self.held[str(event.lease)].orders.clear()
        elif event.type in ("lease.released", "lease.lost") and event.lease in self.held:
            self._over(self.held[event.lease], str(event.data.get("reason")))

    def on_pass(self) -> None:
        """Note that the GPUs were read."""
        self._dirty = self._is_read = True
        self.truth.take_in()

    def _granted(self, lease: str, asked: Asked, gpus: list[str]) -> None:
        if not self._queue.is_empty:
            self._follow_reserves(self._run.leases.list(ADMIN))
        now, params = self.host.clock.now_ns, asked.params
        assert gpus, f"{asked.name} was granted nothing"
        assert len(set(gpus)) == len(gpus)
        reserved = dict.fromkeys(gpus, params.vram_bytes)
        shown = self._run.leases.get(ADMIN, lease) if params.split else None
        if shown is not None:
            reserved = {gpu.uuid: gpu.reserved_bytes for gpu in shown.gpus}
            assert list(reserved) == gpus
        held = Held(lease, asked=asked, reserved=reserved, granted_ns=now)
        assert all(other.asked is not asked for other in self.held.values()), (
            f"{asked.name} was granted twice"
        )
        if asked.holder is not None:
            held.attached.add(asked.holder)
        if params.mode == "ttl":
            assert params.ttl_ms is not None
            held.ttl_ends_ns = now + params.ttl_ms * 1_000_000
        self._grants.check_choice(held, queue_is_empty=self._queue.is_empty)
        if shown is not None:
            self._grants.check_parts(held, shown)
        self.truth.add(held)
        if asked.holder is not None:
            self.truth.adopt(asked.holder)
        for uuid in gpus:
            self._grants.check_room(held, uuid)
        self._quotas.check_grant(held)
        self._note_kinds(held)
        self._queue.served(held, lambda: self._run.leases.list(ADMIN).queue)

    def _ordered(self, held: Held, event: Event) -> None:
        """No lease is ordered to end but by an admin, or because its GPU is too hot."""
        reason, within_s = str(event.data["reason"]), float(event.data["deadline_s"])
        if reason == "gpu_critical":
            assert self._levels(held) & {"critical", "unknown"}, f"{held.gpus} are not too hot"
            assert within_s >= _LEAST_S - 1, f"{held.asked.name} has no time to end"
        else:
            assert within_s <= self.revoking[held.lease] + _RESTART_S
        held.ordered_ns = self.host.clock.now_ns
        held.orders[reason] = held.ordered_ns + round(within_s * SECOND_NS)
        held.asked.on_ordered()

    def _note_kinds(self, held: Held) -> None:
        params, gpus = held.asked.params, [self.host.units[uuid] for uuid in held.gpus]
        if params.split and len(gpus) > 1:
            self.counts["granted in parts"] += 1
        elif len(gpus) > 1:
            self.counts["granted on several"] += 1
        if params.holder_pid is not None:
            self.counts["granted for a server"] += 1
        if gpus[0].mig_index is not None:
            self.counts["granted on an instance"] += 1
        if gpus[0].card.compute_mode == "exclusive_process":
            self.counts["granted where one is let in"] += 1

    def _levels(self, held: Held) -> set[str]:
        gpus = self._run.monitor.snapshot().gpus
        return {gpu.level for gpu in gpus if gpu.uuid in held.gpus}

    def _over(self, held: Held, reason: str) -> None:
        self.counts[f"ended {reason}"] += 1
        self._check_reason(held, reason)
        written = self.writable or reason == "released"
        if not written:
            self._unwritten[held.lease] = held
        self.truth.end(held, written=written)

    def _check_reason(self, held: Held, reason: str) -> None:
        """No lease ends but for a reason that its holder knows."""
        asked = held.asked
        since_ns = self.truth.over_since_ns(held)
        if reason == "released":
            assert held.lease in self.releasing, f"{asked.name} is released, and nobody asked"
        elif reason == "caller_gone":
            assert asked.told is None, f"{asked.name} was told of its lease, and it is withdrawn"
        else:
            assert since_ns is not None, f"{asked.name} lost its lease ({reason}) while it is held"

    # --- once nothing more can run --------------------------------------------------------------

    def on_idle(self) -> None:
        """Compare everything."""
        if not self._dirty or self.truth.run is None or self._run.dead:
            return
        self._dirty = False
        self.counts["steps"] += 1
        listing = self._run.leases.list(ADMIN)
        if self._is_read and self.writable and not self.host.out_of_files:
            self.truth.save_kin()
        self._is_read = False
        self._follow_heat()
        self._check_leases(listing)
        self._follow_reserves(listing)
        self._queue.check(listing.queue)
        self._check_figures(listing)
        able = self.writable and not self.host.out_of_files
        self._queue.check_left_waiting(listing.queue, able=able)

    def _follow_heat(self) -> None:
        now = self.host.clock.now_ns
        for gpu in self._run.monitor.snapshot().gpus:
            if gpu.level == "critical":
                self._critical_ns.setdefault(gpu.uuid, now)
            else:
                self._critical_ns.pop(gpu.uuid, None)

    def _check_leases(self, listing: LeaseList) -> None:
        shown = {lease.id: lease for lease in listing.leases}
        assert shown.keys() == self.held.keys(), "leases come or go untold"
        for held in self.held.values():
            over_ns = self.truth.over_since_ns(held)
            assert over_ns is None or over_ns <= _LATE_NS, (
                f"the lease of {held.asked.name} ({held.mode}) stands, and nothing holds it"
            )
            self._check_state(shown[held.lease], held)
        uids = Counter(held.asked.uid for held in self.held.values())
        assert len(shown) <= MAX_LEASES
        assert not uids or max(uids.values()) <= MAX_LEASES_PER_UID

    def _check_state(self, lease: Lease, held: Held) -> None:
        if lease.state == "orphaned":
            assert held.mode == "connection"
            assert not held.asked.line.open or held.asked.line.run is not self._run
        else:
            assert (lease.state == "draining") == bool(held.orders)
            now = self.host.clock.now_ns
            since = min(self._critical_ns.get(uuid, now) for uuid in held.gpus)
            assert held.orders or now - since <= _DRAINED_NS, (
                f"{held.gpus} are critical, and {held.asked.name} was not told"
            )

    def _follow_reserves(self, listing: LeaseList) -> None:
        for lease in listing.leases:
            for gpu in lease.gpus:
                if lease.id in self.held:
                    self._follow_reserve(self.held[lease.id], gpu)

    def _follow_reserve(self, held: Held, gpu: LeaseGpu) -> None:
        """What is reserved is what was asked for, or what the holder had come to use beyond it."""
        before, now = held.reserved[gpu.uuid], gpu.reserved_bytes
        if before == now:
            return
        held.reserved[gpu.uuid] = now
        self.truth.recount()
        reading = self.truth.reading(gpu.uuid)
        assert reading is not None
        holders = self.truth.holders(self.host.units[gpu.uuid], reading)
        used, reserved = next((used, size) for leases, used, size in holders if held in leases)
        assert before < now, f"{held.asked.name} has lost what it was promised"
        assert reserved <= used, f"{held.asked.name} was raised to {reserved}, and uses {used}"
        self.counts["raised"] += 1

    # --- the figures ----------------------------------------------------------------------------

    def _check_figures(self, listing: LeaseList) -> None:
        usage = self._run.leases.usage()
        assert self.truth.readings.keys() <= usage.keys(), "a GPU that was read is not shown"
        for uuid, shown in usage.items():
            gpu, reading = self.host.units[uuid], self.truth.reading(uuid)
            on_it = [held for held in self.held.values() if gpu.uuid in held.gpus]
            assert shown.leases == len(on_it)
            if reading is None:
                assert shown.foreign_bytes is None, f"nobody can tell what {uuid} is used for"
                assert not shown.leasable_bytes
                continue
            if not reading.taken_in or reading.hidden or self.truth.is_unclear:
                continue
            assert shown.foreign_bytes is not None
            spoken = shown.foreign_bytes + shown.reserved_bytes
            truth = reading.used_bytes + self.truth.unused(gpu, reading)
            returning = self.truth.returning(gpu.uuid, reading)
            assert spoken >= truth, f"{gpu.uuid}: {truth - spoken} bytes too few are spoken for"
            most = truth + sum(each.most_bytes for each in returning)
            assert spoken <= most, f"{gpu.uuid}: {spoken - most} bytes too many are spoken for"
            if self.truth.is_settled(gpu.uuid, reading):
                self.counts["exact"] += 1
                self._check_foreign(gpu, reading, shown.foreign_bytes)
                self._check_leasable(listing, gpu, shown.leasable_bytes, room_of(gpu) - truth)
                self._check_actual(listing, gpu, reading)
                self._check_overrun(gpu, reading)

    def _check_foreign(self, gpu: Gpu, reading: Reading, foreign_bytes: int) -> None:
        held = sum(size for each, size in reading.uses.items() if reading.owners[each] is not None)
        assert foreign_bytes == reading.used_bytes - held, (
            f"{gpu.uuid}: {foreign_bytes} bytes are called foreign,"
            f" and {reading.used_bytes - held} are"
        )

    def _check_leasable(
        self, listing: LeaseList, gpu: Gpu, leasable_bytes: int, left_bytes: int
    ) -> None:
        """What is left may be leased, unless a lease keeps all others off."""
        policies = {
            lease.policy
            for lease in listing.leases
            if gpu.uuid in {each.uuid for each in lease.gpus}
        }
        reading = self.truth.reading(gpu.uuid)
        assert reading is not None
        is_taken = reading.compute_mode == "exclusive_process" and (policies or reading.uses)
        closed = "exclusive" in policies or is_taken or self._run.monitor.blocked(gpu)
        expected = 0 if closed else max(0, left_bytes)
        assert leasable_bytes == expected, f"{gpu.uuid}: {leasable_bytes} leasable, not {expected}"

    def _check_actual(self, listing: LeaseList, gpu: Gpu, reading: Reading) -> None:
        actual = {
            held.lease: used
            for leases, used, _ in self.truth.holders(gpu, reading)
            for held in leases
        }
        for lease in listing.leases:
            shown = next((each for each in lease.gpus if each.uuid == gpu.uuid), None)
            if shown is None or reading.taken_ns <= self.held[lease.id].granted_ns:
                continue
            assert shown.actual_bytes == actual[lease.id], (
                f"{gpu.uuid}: the lease of {lease.name} is shown to use {shown.actual_bytes},"
                f" and uses {actual[lease.id]}"
            )
            assert not shown.actual_is_estimated

    def _check_overrun(self, gpu: Gpu, reading: Reading) -> None:
        """What a holder uses beyond what it reserved comes to be reserved, if it lasts."""
        now = self.host.clock.now_ns
        for leases, used, reserved in self.truth.holders(gpu, reading):
            key = (gpu.uuid, leases[0].lease)
            may_grow = any(held.asked.params.sizes_itself for held in leases)
            if not reserved or may_grow or not self.writable or used * 100 <= reserved * 110:
                self._overrun_ns.pop(key, None)
                continue
            since = self._overrun_ns.setdefault(key, now)
            assert now - since <= _RAISED_NS, f"{leases[0].asked.name} overruns, and is not raised"
