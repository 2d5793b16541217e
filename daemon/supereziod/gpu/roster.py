"""Every GPU there is, was, or seems to be: readings go in, judgements and events come out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from msgspec import Struct

from superezio.errors import NotFoundError
from supereziod.gpu.announcements import GpuAnnouncements
from supereziod.gpu.fitness import Fitness, FitnessChange, FitnessRules
from supereziod.gpu.frames import GpuFault, ProbeSpec, Reading, Waiting
from supereziod.gpu.hardware import Fault, GpuIdentity, GpuView, Xid
from supereziod.gpu.instances import InstanceRoster, InstanceTrack
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.thermal import LevelChange, ThermalLadder, Thresholds
from supereziod.gpu.track import GpuTrack, Surroundings, is_placeholder, unidentified

_SECOND: Final = 1_000_000_000
_STALE_PERIODS: Final = 3


class MonitorRules(Struct, frozen=True, kw_only=True):
    """How GPUs are judged: the ladder (of one GPU by its UUID, where it differs) and fitness."""

    thresholds: Thresholds = Thresholds()
    thresholds_by_gpu: Mapping[str, Thresholds] = {}
    fitness: FitnessRules = FitnessRules()
    busy_interval_s: float = 5.0
    idle_interval_s: float = 30.0


class GpuRoster:
    """The tracks of all GPUs. `excuse` is told of GPUs that a pass need not wait for."""

    def __init__(
        self,
        *,
        spec: ProbeSpec,
        rules: MonitorRules,
        records: GpuRecords,
        tell: GpuAnnouncements,
        excuse: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self._period_s = spec.period_s
        self._deadline_ns = round(spec.deadline_s * _SECOND)
        self.stale_ns = round(_STALE_PERIODS * spec.period_s * _SECOND)
        self._rules = rules
        self._records = records
        self._tell = tell
        self._excuse = excuse
        self._clock = clock
        self._tracks: dict[str, GpuTrack] = {}
        self._instances = InstanceRoster(records=records, tell=tell)

    def __iter__(self) -> Iterator[GpuTrack]:
        return iter(self._tracks.values())

    def get(self, uuid: str) -> GpuTrack | InstanceTrack:
        """Return the track of a GPU or of a MIG instance. Raises NotFoundError."""
        track = self._tracks.get(uuid) or self._instances.get(uuid)
        if track is None:
            raise NotFoundError(f"no GPU {uuid}")
        return track

    def views(self) -> Iterator[GpuView]:
        """Yield what the rest of the daemon sees: by index, each GPU before its instances."""
        for track in sorted(self, key=lambda each: (each.identity.index, each.uuid)):
            view = track.view()
            yield view
            yield from self._instances.views(track, view)

    def identify(self, identity: GpuIdentity) -> None:
        """Take in that a GPU is there, perhaps at another index than before."""
        self._tracks.pop(unidentified(identity.index).uuid, None)
        track = self._tracks.get(identity.uuid)
        if track is None:
            self._tracks[identity.uuid] = self._new_track(identity)
        else:
            track.identity = identity

    def keep_only(self, uuids: Collection[str]) -> None:
        """Take in which GPUs a newly opened driver has; the others are lost, and stay listed."""
        for track in self:
            if track.uuid not in uuids and not is_placeholder(track):
                message = "the driver does not list it any more"
                track.fault = Fault(kind="gpu_lost", message=message, uuid=track.uuid)
                self._note_fitness(track, track.fitness.observe_lost(self._clock()))

    def take(self, reading: Reading, now_ns: int) -> None:
        """Take in a sample."""
        sample = reading.sample
        track = self._tracks.get(sample.uuid)
        if track is None:
            return
        if not track.take(sample, reading.pass_id, now_ns):
            return
        self._note_level(track, track.ladder.observe(sample, now_ns))
        if sample.details is not None:
            errors = sample.details.ecc_uncorrected
            self._note_fitness(track, track.fitness.observe_ecc(errors, now_ns))
        self._note_fitness(track, track.fitness.observe_good(now_ns))
        self._instances.take(track, reading.instances)

    def take_fault(self, fault: GpuFault) -> None:
        """Take in a call that failed."""
        track = self._tracks.get(fault.uuid or "") or self._placeholder(fault.index)
        track.fault = fault.fault
        track.waiting_since_ns = None
        self._excuse(track.uuid)
        now_ns = self._clock()
        if fault.fault.kind == "gpu_lost":
            self._note_fitness(track, track.fitness.observe_lost(now_ns))
        else:
            self._note_fitness(track, track.fitness.observe_missed(now_ns))

    def take_waiting(self, waiting: Waiting) -> None:
        """Take in a call that is late."""
        track = self._tracks.get(waiting.uuid or "") or self._placeholder(waiting.index)
        track.waiting_since_ns = waiting.since_ns
        self._excuse(track.uuid)
        self._note_fitness(track, track.fitness.observe_missed(self._clock()))

    def take_xid(self, xid: Xid) -> None:
        """Take in a critical error."""
        track = self._tracks.get(xid.uuid)
        if track is not None:
            self._tell.xid(track, xid)
            self._note_fitness(track, track.fitness.observe_xid(xid.xid, self._clock()))

    def _new_track(self, identity: GpuIdentity) -> GpuTrack:
        rules, now_ns, uuid = self._rules, self._clock(), identity.uuid
        fitness = Fitness(rules=rules.fitness)
        record = self._records.fitness.get(uuid)
        if record is not None:
            fitness.load(record, now_ns, boot_id=self._records.boot_id)
        ladder = ThermalLadder(
            thresholds=rules.thresholds_by_gpu.get(uuid, rules.thresholds),
            period_s=self._period_s,
            max_temperature_c=identity.max_temperature_c,
            # HOT, not CRITICAL: a restart may keep leases away by what it remembers, and be
            # repeated only for what is measured.
            resume="hot" if self._records.was_hot(uuid) else "unknown",
        )
        track = GpuTrack(identity, ladder=ladder, fitness=fitness)
        track.cordon_reason = self._records.cordons.get(uuid)
        return track

    def _placeholder(self, index: int) -> GpuTrack:
        identity = unidentified(index)
        track = self._tracks.get(identity.uuid)
        if track is None:
            track = self._tracks[identity.uuid] = self._new_track(identity)
        return track

    def forget_placeholders(self) -> None:
        """Forget GPUs that were never identified: a newly opened driver may name them."""
        self._tracks = {u: t for u, t in self._tracks.items() if not is_placeholder(t)}

    def forget_calls(self) -> None:
        """Forget what is out: whoever called is gone."""
        self.forget_placeholders()
        for track in self._tracks.values():
            track.forget_calls(self._clock())

    def interrupt(self) -> None:
        """Begin every dwell anew: the host slept, and nobody saw how the GPUs were."""
        for track in self:
            track.ladder.interrupt(self._clock())

    def judge(self, around: Surroundings) -> bool:
        """Say how every GPU stands now; return whether that is news."""
        now_ns = self._clock()
        news = [self._judge(track, now_ns, around) for track in self]
        return any(news)

    def notice_gaps(self) -> bool:
        """Have every ladder notice that nothing came in; return whether that is news."""
        now_ns = self._clock()
        changes = [(track, track.ladder.gap(now_ns)) for track in self]
        for track, change in changes:
            self._note_level(track, change)
        return any(change is not None for _, change in changes)

    def _judge(self, track: GpuTrack, now_ns: int, around: Surroundings) -> bool:
        status, reason = track.judge(
            now_ns, around=around, stale_ns=self.stale_ns, deadline_ns=self._deadline_ns
        )
        if (status, reason) == (track.status, track.status_reason):
            return False
        track.status, track.status_reason = status, reason
        if status != "ok":
            self._excuse(track.uuid)
        previous = track.told_status
        if status != previous:
            track.told_status = status
            self._tell.status(track, previous)
        return True

    def _note_level(self, track: GpuTrack, change: LevelChange | None) -> None:
        if change is None:
            return
        is_first = track.told_level is None and change.level == "normal"
        track.told_level = change.level
        if change.level != "unknown":
            self._records.note_heat(track.uuid, is_hot=change.level in {"hot", "critical"})
        if not is_first:
            instances = [each.uuid for each in self._instances.of(track)]
            self._tell.level(track, change, instances=instances)

    def _note_fitness(self, track: GpuTrack, change: FitnessChange | None) -> None:
        if change is not None:
            self._tell.fitness(track, change)
            self.save_fitness()

    def save_fitness(self) -> None:
        """Record how fit every GPU is."""
        now_ns, boot_id = self._clock(), self._records.boot_id
        for track in self._tracks.values():
            if not is_placeholder(track):
                record = track.fitness.dump(now_ns, boot_id=boot_id)
                self._records.fitness[track.uuid] = record
        self._records.save_fitness()
