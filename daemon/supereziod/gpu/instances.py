"""MIG instances as units of their own: each has passes, a cordon and a past; its GPU has the rest.

Instances come and go as an administrator cuts the GPU anew. One that is gone is `lost` for as long
as a lease is on it, and forgotten then. One that may not be read has no figures at all: those from
before would show it emptier, or fuller, than anybody knows it to be.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from superezio.wire import GpuHistory, GpuStatus
from supereziod.gpu.admission import block_of_instance
from supereziod.gpu.announcements import GpuAnnouncements
from supereziod.gpu.hardware import (
    UNREADABLE,
    Fault,
    GpuDetails,
    GpuIdentity,
    GpuSample,
    GpuView,
    InstanceReading,
    MigInstance,
)
from supereziod.gpu.history import History
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.track import GpuTrack

_MIG_FORBIDDEN = Fault(kind="no_permission", message="whether MIG is on may not be read any more")
_GONE = Fault(kind="gpu_lost", message="it is not there any more: MIG was cut anew, or turned off")


class InstanceTrack:
    """One MIG instance of `gpu`. Changed by the monitor alone."""

    def __init__(self, reading: InstanceReading, *, gpu: GpuTrack) -> None:
        self.uuid = reading.uuid
        self.gpu = gpu
        self.name = reading.name
        self.instance = reading.instance
        self.history = History()
        self.sample: GpuSample | None = None
        self.last_pass: GpuSample | None = None
        self.fault: Fault | None = None
        self.cordon_reason: str | None = None
        self.told_status: GpuStatus = "ok"

    @property
    def identity(self) -> GpuIdentity:
        """What it is, on the GPU that it is a part of."""
        total = None if self.sample is None else self.sample.vram_total_bytes
        return replace(
            self.gpu.identity,
            uuid=self.uuid,
            name=self.name,
            vram_total_bytes=total,
            mig=self.instance,
        )

    @property
    def label(self) -> str:
        """What people call it."""
        return self.identity.label

    @property
    def is_gone(self) -> bool:
        """Whether MIG has no such instance any more."""
        return self.fault is _GONE

    @property
    def status(self) -> GpuStatus:
        """How it is itself: what its GPU is comes on top of that."""
        if self.fault is None:
            return "ok"
        return "lost" if self.is_gone else "unknown"

    @property
    def status_reason(self) -> str | None:
        """Why it is so."""
        return None if self.fault is None else self.fault.message

    def take(self, reading: InstanceReading) -> None:
        """Take in what a reading of its GPU found."""
        self.fault = reading.fault
        self.name, self.instance = _known(reading, self.name, self.instance)
        if reading.sample is None:
            self.sample = self.last_pass = None
        elif self.sample is None or reading.sample.taken_ns > self.sample.taken_ns:
            self.sample = reading.sample
            self.history.add(reading.sample)
            if reading.sample.processes is not None:
                self.last_pass = reading.sample

    def fail(self, fault: Fault) -> None:
        """Take in that nothing can be read of it."""
        self.fault = fault
        self.sample = self.last_pass = None

    def past(self, *, since_s: float, now_ns: int) -> GpuHistory:
        """Return the last `since_s` seconds: its own VRAM, at the temperatures of its GPU."""
        own = self.history.query(self.uuid, since_s=since_s, now_ns=now_ns)
        whole = self.gpu.past(since_s=since_s, now_ns=now_ns)
        return GpuHistory(
            gpu=self.uuid,
            resolution_s=own.resolution_s,
            temperature_c=whole.temperature_c,
            power_w=own.power_w,
            utilization_core_percent=own.utilization_core_percent,
            vram_used_bytes=own.vram_used_bytes,
        )

    def view(self, gpu: GpuView, *, shares_memory: bool) -> GpuView:
        """Return what the rest of the daemon sees, given what it sees of the GPU."""
        whole_fails = gpu.status != "ok"
        details = self._details(gpu.details)
        return GpuView(
            identity=self.identity,
            status=gpu.status if whole_fails else self.status,
            status_reason=gpu.status_reason if whole_fails else self.status_reason,
            sample=self._sample(gpu.sample),
            last_pass=self.last_pass,
            details=details,
            level=gpu.level,
            fitness=gpu.fitness,
            cordoned=self.cordon_reason is not None,
            cordon_reason=self.cordon_reason,
            block=block_of_instance(
                gpu_block=gpu.block,
                status=self.status,
                fault=self.fault,
                cordon_reason=self.cordon_reason,
                last_pass=self.last_pass,
                details=details,
                shares_memory=shares_memory,
            ),
        )

    def _sample(self, whole: GpuSample | None) -> GpuSample | None:
        """Return its own sample, as hot as its GPU is."""
        if self.sample is None or whole is None:
            return self.sample
        return replace(
            self.sample,
            temperature_c=whole.temperature_c,
            margin_c=whole.margin_c,
            margin_source=whole.margin_source,
            throttle_mask=whole.throttle_mask,
        )

    def _details(self, whole: GpuDetails | None) -> GpuDetails | None:
        """Return what holds for the GPU and every part of it; the rest would count twice."""
        if whole is None:
            return None
        forbidden = self.fault is not None and self.fault.kind == "no_permission"
        return GpuDetails(
            compute_mode=whole.compute_mode,
            mig_mode="no_permission" if forbidden else None,
            memory_temperature_c=whole.memory_temperature_c,
            power_limit_w=None,
            energy_j=None,
            fan_percent=None,
            clock_core_mhz=None,
            clock_memory_mhz=None,
            ecc_enabled=None,
            ecc_corrected=None,
            ecc_uncorrected=None,
            pcie_generation=None,
            pcie_generation_max=None,
            pcie_width=None,
            pcie_width_max=None,
            drives_display=whole.drives_display,
        )


class InstanceRoster:
    """The tracks of all MIG instances. Loop-owned."""

    def __init__(self, *, records: GpuRecords, tell: GpuAnnouncements) -> None:
        self._records = records
        self._tell = tell
        self._tracks: dict[str, InstanceTrack] = {}

    def get(self, uuid: str) -> InstanceTrack | None:
        """Return the track of an instance, if there is one."""
        return self._tracks.get(uuid)

    def of(self, gpu: GpuTrack) -> list[InstanceTrack]:
        """Return the instances of a GPU, those that are gone last."""
        own = [track for track in self._tracks.values() if track.gpu is gpu]
        return sorted(own, key=lambda each: (each.is_gone, each.instance.index, each.uuid))

    def take(self, gpu: GpuTrack, found: tuple[InstanceReading, ...] | None) -> None:
        """Take in what a reading of a GPU found; None where it could not tell."""
        if found is not None:
            self._take_all(gpu, found)
        elif gpu.details is not None and gpu.details.mig_mode == "no_permission":
            for track in self.of(gpu):
                track.fail(_MIG_FORBIDDEN)
                self._note_status(track)

    def views(self, gpu: GpuTrack, view: GpuView) -> Iterator[GpuView]:
        """Yield what the rest of the daemon sees of the instances of a GPU."""
        if not self._tracks:
            return
        own = self.of(gpu)
        for track in own:
            yield track.view(view, shares_memory=_shares_memory(track, own))

    def _take_all(self, gpu: GpuTrack, found: tuple[InstanceReading, ...]) -> None:
        for reading in found:
            track = self._tracks.get(reading.uuid)
            if track is None:
                track = self._tracks[reading.uuid] = InstanceTrack(reading, gpu=gpu)
                track.cordon_reason = self._records.cordons.get(reading.uuid)
            track.take(reading)
            self._note_status(track)
        listed = {reading.uuid for reading in found}
        for track in self.of(gpu) if self._tracks else ():
            if track.uuid not in listed:
                self._lose(track)

    def _lose(self, track: InstanceTrack) -> None:
        track.fail(_GONE)
        if not track.uuid.startswith(UNREADABLE):  # that one is told under its name by now
            self._note_status(track)
        if not self._tell.leases_on(track.uuid):
            del self._tracks[track.uuid]

    def _note_status(self, track: InstanceTrack) -> None:
        previous, track.told_status = track.told_status, track.status
        if track.status != previous:
            self._tell.status(track, previous)


def _shares_memory(track: InstanceTrack, others: list[InstanceTrack]) -> bool:
    """Whether another compute instance of the same GPU instance is there."""
    number = track.instance.gpu_instance
    return number is not None and any(
        each is not track and not each.is_gone and each.instance.gpu_instance == number
        for each in others
    )


def _known(reading: InstanceReading, name: str, instance: MigInstance) -> tuple[str, MigInstance]:
    """Return what is known of an instance: one that cannot be read says less than it did."""
    if reading.sample is None and instance.gpu_instance is not None:
        return name, replace(instance, index=reading.instance.index)
    return reading.name, reading.instance
