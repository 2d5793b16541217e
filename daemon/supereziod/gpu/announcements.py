"""The events of GPUs, in words: what changed, on which one, by which reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from superezio.wire import GpuStatus, Level, Severity
from supereziod.gpu.fitness import FitnessChange
from supereziod.gpu.hardware import DriverInfo, Fault, Xid
from supereziod.gpu.thermal import LevelChange
from supereziod.gpu.track import GpuTrack
from supereziod.observability.events import EventLog

_LEVEL_SEVERITY: Final[dict[Level, Severity]] = {
    "normal": "info",
    "warm": "info",
    "hot": "warning",
    "critical": "critical",
    "unknown": "warning",
}


class Unit(Protocol):
    """A GPU, or a MIG instance of one, as events tell of it."""

    @property
    def uuid(self) -> str:
        """The UUID."""

    @property
    def label(self) -> str:
        """What people call it."""

    @property
    def status(self) -> GpuStatus:
        """How it is seen."""

    @property
    def status_reason(self) -> str | None:
        """Why it is seen so."""

    cordon_reason: str | None


class GpuAnnouncements:
    """Puts changes into the event log. `leases_on` has the ids of the leases on a GPU."""

    def __init__(self, events: EventLog, *, leases_on: Callable[[str], list[str]]) -> None:
        self._events = events
        self.leases_on = leases_on

    def status(self, track: Unit, previous: GpuStatus) -> None:
        """It is seen, or not, as it was not before."""
        reason = f": {track.status_reason}" if track.status_reason else ""
        self._events.emit(
            "gpu.status",
            f"{track.label} is {track.status}{reason}.",
            severity="info" if track.status in {"ok", "detached"} else "warning",
            gpu=track.uuid,
            status=track.status,
            previous=previous,
        )

    def level(self, track: GpuTrack, change: LevelChange, *, instances: Iterable[str]) -> None:
        """The GPU is at another level of the thermal ladder, and its MIG instances with it."""
        leases = {lease for uuid in (track.uuid, *instances) for lease in self.leases_on(uuid)}
        self._events.emit(
            "gpu.level",
            f"{track.label} went from {change.previous} to {change.level}: {change.reason}.",
            severity=_LEVEL_SEVERITY[change.level],
            gpu=track.uuid,
            level=change.level,
            previous=change.previous,
            temperature_c=change.temperature_c,
            margin_c=change.margin_c,
            throttle_mask=change.throttle_mask,
            leases=sorted(leases),
        )

    def fitness(self, track: GpuTrack, change: FitnessChange) -> None:
        """The GPU is fitter, or less fit, than it was."""
        self._events.emit(
            "gpu.fitness",
            f"{track.label} went from {change.previous} to {change.state}: {change.reason}.",
            severity="info" if change.state in {"healthy", "probation"} else "warning",
            gpu=track.uuid,
            fitness=change.state,
            previous=change.previous,
            quarantine_s=change.quarantine_s,
        )

    def xid(self, track: GpuTrack, xid: Xid) -> None:
        """The driver reported a critical error."""
        self._events.emit(
            "gpu.xid",
            f"{track.label} reported XID {xid.xid}.",
            severity="warning",
            gpu=track.uuid,
            xid=xid.xid,
        )

    def cordoned(self, track: Unit, *, recorded: bool) -> None:
        """An administrator keeps leases away from it."""
        self._events.emit(
            "gpu.cordoned",
            f"{track.label} is cordoned: {track.cordon_reason or 'no reason given'}.",
            gpu=track.uuid,
            reason=track.cordon_reason,
            recorded=recorded,
        )

    def uncordoned(self, track: Unit, *, recorded: bool) -> None:
        """It may be leased again."""
        self._events.emit(
            "gpu.uncordoned",
            f"{track.label} is not cordoned any more.",
            gpu=track.uuid,
            recorded=recorded,
        )

    def driver_lost(self, fault: Fault) -> None:
        """There is no driver to ask."""
        self._events.emit(
            "driver.lost",
            f"No GPU can be read: {fault.message}.",
            severity="warning",
            fault=fault.kind,
        )

    def driver_found(self, info: DriverInfo) -> None:
        """The driver answers again."""
        self._events.emit(
            "driver.found",
            f"The {info.driver} driver {info.driver_version} answers, with {info.gpu_count} GPUs.",
            driver_version=info.driver_version,
            gpu_count=info.gpu_count,
        )

    def attached(self) -> None:
        """The probe was brought back."""
        self._events.emit("probe.attached", "The probe is attached to the GPUs.")

    def detached(self) -> None:
        """The probe was taken off the GPUs."""
        self._events.emit("probe.detached", "The probe is detached from the GPUs.")
