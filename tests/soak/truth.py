"""What is true of the leases: what each was promised, what keeps it, and what it uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from soak.cards import Gpu
from soak.daemon_run import RESERVE_BY_GPU, RESERVE_BYTES, DaemonRun, Line
from soak.host import Host
from soak.processes import Process
from soak.readings import Reading
from superezio.wire import AcquireParams

SECOND_NS: Final = 1_000_000_000
_EARLY_NS: Final = SECOND_NS // 1000
_GRACE_NS: Final = 5 * SECOND_NS
_RESTART_GRACE_NS: Final = 30 * SECOND_NS
_RETURN_NS: Final = 5 * SECOND_NS
#: Passes that come sooner one after the other say the same.
_APART_NS: Final = SECOND_NS * 9 // 10


class Asked:
    """One acquire as its caller means it, however often it is sent. Its name is the lease's."""

    def __init__(
        self,
        *,
        name: str,
        params: AcquireParams,
        priority: int,
        key: str | None,
        line: Line,
        holder: Process | None,
    ) -> None:
        self.name = name
        self.params = params
        self.priority = priority
        self.key = key
        self.line = line
        self.holder = holder
        self.uid = line.process.uid
        self.in_flight = 0
        self.gave_up = False
        #: Called when its lease is ordered to end.
        self.on_ordered: Callable[[], None] = lambda: None
        self.told: str | None = None

    @property
    def need_bytes(self) -> int:
        """What a lease for it takes from the host."""
        return self.params.vram_bytes * (1 if self.params.split else self.params.count)


class Held:
    """A lease, and all that keeps it: as far as its holder knows.

    `reserved` is what it was promised of each GPU, and what it was raised to since.
    """

    def __init__(
        self, lease: str, *, asked: Asked, reserved: dict[str, int], granted_ns: int
    ) -> None:
        self.lease = lease
        self.asked = asked
        self.gpus = list(reserved)
        self.granted_ns = granted_ns
        self.reserved = reserved
        #: When it has to have ended, by the reason of the order (CLOCK_MONOTONIC).
        self.orders: dict[str, int] = {}
        self.ordered_ns = 0
        self.attached: set[Process] = set()
        self.ttl_ends_ns: int | None = None
        self.renewed_ns = granted_ns
        self.ready = False
        #: By GPU: how many passes, apart, showed some use since the grant, and the last of them.
        self.used_passes: Counter[str] = Counter()
        self.used_ns: dict[str, int] = {}

    @property
    def mode(self) -> str:
        """What it lives by."""
        return self.asked.params.mode


class Ended:
    """A lease that is over: its VRAM, and what `processes` had, may take a while to be free."""

    def __init__(self, held: Held, *, at_ns: int, most_bytes: int, processes: set[Process]) -> None:
        self.gpus = held.gpus
        self.at_ns = at_ns
        self.most_bytes = most_bytes
        self.processes = processes


class _Kin(NamedTuple):
    """A process, and of whom it was known to be."""

    process: Process
    known_of: Process | None
    saved_of: Process | None
    cut: bool


class Truth:
    """The leases there are, by what their holders know and the host shows.

    `run` is the daemon that is judged; of it, only what its monitor has read is looked at.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.run: DaemonRun | None = None
        self.held: dict[str, Held] = {}
        self._ended: list[Ended] = []
        #: Of leases whose end could not be written: who was known to descend from whom till then.
        self._kin_on_disk: dict[str, list[_Kin]] = {}
        self._changed_ns: dict[str, int] = {}
        #: GPUs whose last pass with a process in it did not show what that uses.
        self.opaque: set[str] = set()
        self._holders_known: list[tuple[list[Held], set[Process]]] | None = None
        self._holders_on: dict[str, tuple[Reading, list[tuple[list[Held], int, int]]]] = {}

    # --- what changes it ------------------------------------------------------------------------

    def begin(self, run: DaemonRun) -> None:
        """Go on with another run of the daemon: what it cannot know any more is forgotten."""
        self.run = run
        self._ended.clear()
        self.opaque.clear()
        for lease in reversed(self._kin_on_disk):
            if lease in self.held:
                for each in self._kin_on_disk[lease]:
                    process = each.process
                    process.known_of, process.saved_of = each.known_of, each.saved_of
                    process.cut = each.cut
        self._kin_on_disk.clear()
        living = self.host.processes.values()
        still = {process.saved_of for process in living}
        for held in self.held.values():
            held.attached = {each for each in held.attached if not each.ended or each in still}
            held.orders.pop("gpu_critical", None)  # heat is read anew
        roots = {root for held in self.held.values() for root in held.attached}
        for process in living:
            process.known_of = process.saved_of if process.saved_of in roots else None
            is_orphan = process.parent is not None and process.parent.ended
            process.cut = process.cut or (is_orphan and process.known_of is None)
        self.change()

    def recount(self) -> None:
        """Forget who has what: leases, or what they reserve, are others now."""
        self._holders_known = None
        self._holders_on.clear()

    def change(self) -> None:
        """Note that what was true at the last passes may not be any more."""
        self.recount()
        for uuid in self.host.units:
            self._changed_ns[uuid] = self.host.clock.now_ns

    def add(self, held: Held) -> None:
        """A lease was granted."""
        self.held[held.lease] = held
        self.recount()

    def end(self, held: Held, *, written: bool) -> None:
        """A lease is over. `written`: on disk too, so that no restart finds it again."""
        # All that its holder has goes with the last lease on a GPU, whatever else it holds.
        roots = next(roots for leases, roots in self.joined() if held in leases)
        family = {each for root in roots for each in root.family()}
        most = max(self._reserved_and_used(held, uuid, family) for uuid in held.gpus)
        now_ns = self.host.clock.now_ns
        ended = Ended(held, at_ns=now_ns, most_bytes=most, processes=family)
        self._ended = [each for each in self._ended if not self._is_long_ago(each)]
        self._ended.append(ended)
        if not written:
            self._kin_on_disk[held.lease] = [
                _Kin(each, each.known_of, each.saved_of, each.cut)
                for root in held.attached
                for each in root.family()
            ]
        self.forget(held)

    def forget(self, held: Held) -> None:
        """Let what the processes of a lease started be of nobody, or of another lease."""
        del self.held[held.lease]
        for root in held.attached - {root for each in self.held.values() for root in each.attached}:
            for process in root.family():
                process.known_of = process.saved_of = None
                process.cut = process.cut or (process.parent is not None and process.parent.ended)
        self.change()

    def save_kin(self) -> None:
        """Note what was committed of who descends from whom."""
        for process in self.host.processes.values():
            process.saved_of = process.known_of

    @property
    def is_unclear(self) -> bool:
        """Whether it is left open whose the children of a process are that held two leases."""
        ended = [root for held in self.held.values() for root in held.attached if root.ended]
        return len(ended) > len(set(ended))

    def adopt(self, root: Process) -> None:
        """Let what a process uses already be its holder's: it holds a lease from now on."""
        assert self.run is not None
        for reading in self.run.monitor.readings.values():
            for process, owner in reading.owners.items():
                if owner is None and self.owner_of(process) is root:
                    reading.owners[process] = root
                    self.change()

    def take_in(self) -> None:
        """Note what new passes show."""
        assert self.run is not None
        for uuid, reading in self.run.monitor.readings.items():
            if reading.uses and reading.hidden:
                self.opaque.add(uuid)
            elif reading.uses:
                self.opaque.discard(uuid)
        for leases, roots in self.joined():
            for held in leases:
                if held.asked.params.sizes_itself and not held.ready:
                    self._follow_growth(held, roots)

    def _follow_growth(self, held: Held, roots: set[Process]) -> None:
        """Count the passes that may show what a lease that sizes itself has come to use."""
        for uuid in held.gpus:
            reading = self.reading(uuid)
            if reading is None or reading.taken_ns - held.used_ns.get(uuid, 0) < _APART_NS:
                continue
            family = {each for root in roots for each in root.family()}
            used = sum(size for each, size in reading.uses.items() if each in family)
            counts = reading.hidden or used * 20 >= held.reserved[uuid]
            if held.used_passes[uuid] or counts:
                held.used_passes[uuid] += 1
                held.used_ns[uuid] = reading.taken_ns

    # --- whose and what for ---------------------------------------------------------------------

    def owner_of(self, process: Process) -> Process | None:
        """Return the attached process that a process belongs to: the nearest it descends from."""
        roots = {root for _, joined in self.joined() for root in joined}
        each: Process | None = process
        while each is not None:
            if each in roots:
                return each
            if each.cut:
                return None
            each = each.parent
        return None

    def over_since_ns(self, held: Held) -> int | None:
        """Return for how long there has been no reason for the lease any more."""
        ordered_ns = self._ordered_over_ns(held)
        if ordered_ns is not None:
            return ordered_ns
        assert self.run is not None
        now, asked = self.host.clock.now_ns, held.asked
        if asked.gave_up and asked.told is None and not asked.in_flight:
            return now
        if held.mode == "process":
            return None if any(not each.ended for each in held.attached) else now
        if held.mode == "connection":
            line = asked.line
            if line.open and line.run is self.run:
                return None
            ends_ns = line.closed_ns + _GRACE_NS
            if line.run is not self.run or line.closed_ns <= self.run.ready_ns:
                ends_ns = self.run.ready_ns + _RESTART_GRACE_NS
        else:
            assert held.ttl_ends_ns is not None
            ends_ns = held.ttl_ends_ns
            if held.renewed_ns <= self.run.ready_ns:
                half_ns = (ends_ns - held.renewed_ns) // 2
                ends_ns = max(ends_ns, self.run.ready_ns + max(_RESTART_GRACE_NS, half_ns))
        # The daemon looked at its clock a moment before the caller did.
        ends_ns -= _EARLY_NS
        return now - ends_ns if now > ends_ns else None

    def _ordered_over_ns(self, held: Held) -> int | None:
        """Return for how long the lease should have ended, as it was ordered to."""
        assert self.run is not None
        if not held.orders:
            return None
        ends_ns = min(held.orders.values())
        if held.ordered_ns <= self.run.ready_ns:
            ends_ns = max(ends_ns, self.run.ready_ns + _RESTART_GRACE_NS)
        late_ns = self.host.clock.now_ns - ends_ns + _EARLY_NS
        return late_ns if late_ns > 0 else None

    def holders(self, gpu: Gpu, reading: Reading) -> list[tuple[list[Held], int, int]]:
        """Return each holder's leases, what its processes use of the GPU, and what it reserved."""
        known = self._holders_on.get(gpu.uuid)
        if known is None or known[0] is not reading:
            known = self._holders_on[gpu.uuid] = reading, list(self._weigh(gpu, reading))
        return known[1]

    def _weigh(self, gpu: Gpu, reading: Reading) -> Iterator[tuple[list[Held], int, int]]:
        used: Counter[Process | None] = Counter()
        for process, size in reading.uses.items():
            used[reading.owners[process]] += size
        for leases, roots in self.joined():
            reserved = sum(held.reserved.get(gpu.uuid, 0) for held in leases)
            yield leases, sum(used[root] for root in roots), reserved

    def joined(self) -> list[tuple[list[Held], set[Process]]]:
        """Return the holders: leases that share a process are of one."""
        if self._holders_known is None:
            found: list[tuple[list[Held], set[Process]]] = []
            for held in self.held.values():
                leases, roots = [held], set(held.attached)
                apart = []
                for other in found:
                    if other[1] & roots:
                        leases, roots = other[0] + leases, roots | other[1]
                    else:
                        apart.append(other)
                found = [*apart, (leases, roots)]
            self._holders_known = found
        return self._holders_known

    def unused(self, gpu: Gpu, reading: Reading) -> int:
        """Return what was promised and is not used yet."""
        return sum(max(0, reserved - used) for _, used, reserved in self.holders(gpu, reading))

    # --- what is in flux ------------------------------------------------------------------------

    def is_settled(self, uuid: str, reading: Reading) -> bool:
        return reading.taken_ns > self._changed_ns.get(uuid, 0) and not self.returning(
            uuid, reading
        )

    def is_fresh(self, uuid: str, reading: Reading) -> bool:
        age_ns = self.host.clock.now_ns - reading.taken_ns
        is_new = age_ns < SECOND_NS * 9 // 10 and reading.taken_ns > self.host.woke_ns
        return is_new and self.is_settled(uuid, reading)

    def returning(self, uuid: str, reading: Reading) -> list[Ended]:
        """Return the leases whose VRAM may be counted as on its way back."""
        return [
            each
            for each in self._ended
            if uuid in each.gpus
            and reading.taken_ns - each.at_ns < _RETURN_NS
            and (
                reading.taken_ns <= each.at_ns
                or reading.lingering
                or any(process in reading.uses for process in each.processes)
            )
        ]

    def _is_long_ago(self, ended: Ended) -> bool:
        readings = [self.reading(uuid) for uuid in ended.gpus if uuid in self.host.gpus]
        return all(
            reading is not None and reading.taken_ns - ended.at_ns >= _RETURN_NS
            for reading in readings
        )

    def _reserved_and_used(self, held: Held, uuid: str, family: set[Process]) -> int:
        gpu = self.host.units[uuid]
        used = sum(gpu.uses.get(each, 0) + gpu.lingering.get(each, 0) for each in family)
        reading = self.reading(uuid)
        seen = sum(reading.uses.get(each, 0) for each in family) if reading is not None else 0
        return held.reserved[uuid] + max(used, seen)

    def describe(self) -> str:
        """Say how things stand, for whoever has to explain a failure."""
        lines = [f"now {self.host.clock.now_ns}"]
        for held in self.held.values():
            asked = held.asked
            lines.append(
                f"{asked.name} {held.lease} {held.mode} {held.reserved} {held.orders}"
                f" held by {held.attached}, granted {held.granted_ns}"
            )
        if self.run is not None:
            usage = self.run.leases.usage()
            for uuid, reading in self.run.monitor.readings.items():
                lines.append(f"{uuid} {reading}")
                lines.append(f"  shown {usage.get(uuid)}, changed {self._changed_ns.get(uuid)}")
        lines += [
            f"ended {each.gpus} {each.at_ns} {each.most_bytes} {each.processes}"
            for each in self._ended
        ]
        return "\n".join(lines)

    @property
    def readings(self) -> dict[str, Reading]:
        """The truth behind the last pass of each GPU."""
        assert self.run is not None
        return self.run.monitor.readings

    def reading(self, uuid: str) -> Reading | None:
        return self.readings.get(uuid)


def room_of(gpu: Gpu) -> int:
    """Return what all leases together may have of a GPU."""
    reserve = RESERVE_BY_GPU.get(gpu.uuid, RESERVE_BYTES)
    return gpu.total_bytes - gpu.driver_reserved_bytes - reserve
