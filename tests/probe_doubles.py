"""Probes that a test speaks for: what was launched, told and ended, with no process behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from supereziod.gpu.frames import (
    Batch,
    FromProbe,
    GpuFault,
    Identified,
    Opened,
    Pass,
    ProbeSpec,
    Reading,
    Target,
    ToProbe,
    Waiting,
)
from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    FaultKind,
    GpuDetails,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    MigInstance,
    ProcessUse,
)
from supereziod.gpu.probe_process import ProbeHandle, ProbeListener

SECOND = 1_000_000_000
GIB = 1 << 30

NO_DETAILS = GpuDetails(
    compute_mode="default",
    mig_mode=None,
    memory_temperature_c=None,
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
)


class SilentLog:
    """A logger for tests that look at events, not at the journal."""

    def info(self, event: str, **fields: object) -> None:
        """Say nothing."""

    warning = critical = exception = info


class ScriptedProbe:
    """A probe as the supervisor holds it; the test says its lines."""

    def __init__(self, pid: int, spec: ProbeSpec, listener: ProbeListener) -> None:
        self.pid = pid
        self.spec = spec
        self.told: list[ToProbe] = []
        self.is_retired = False
        self.is_abandoned = False
        self.obeys = False
        self._listener = listener

    @property
    def passes(self) -> list[int]:
        """The passes that it was asked for."""
        return [frame.id for frame in self.told if isinstance(frame, Pass)]

    def send(self, frame: ToProbe) -> None:
        self.told.append(frame)

    def retire(self) -> None:
        self.is_retired = True
        if self.obeys:
            asyncio.get_running_loop().call_soon(self.ends)

    def abandon(self) -> None:
        self.is_abandoned = True

    def says(self, frame: FromProbe) -> None:
        if not self.is_retired:
            self._listener.probe_said(self, frame)

    def ends(self, how: str = "exit code 0") -> None:
        self._listener.probe_ended(self, how)

    def opens(self, *indexes: int) -> None:
        """Say that the driver is open, with these GPUs, and identify them by their index."""
        self.says(Opened(info=info(len(indexes)), indexes=indexes))
        for index in indexes:
            self.says(Identified(identity=identity(index)))

    def reads(self, at_ns: int, *indexes: int, pass_id: int | None = 0, **fields: Any) -> None:
        """Say a batch of good readings; `pass_id` None makes them fast ones."""
        readings = tuple(
            Reading(
                sample=sample(uuid(index), at_ns, full=pass_id is not None, **fields),
                pass_id=pass_id or 0,
            )
            for index in indexes
        )
        self.says(Batch(readings=readings))

    def waits(self, since_ns: int, *indexes: int, identified: bool = True) -> None:
        """Say that calls for these GPUs are out since then."""
        self.says(
            Batch(
                waiting=tuple(
                    Waiting(index=i, uuid=uuid(i) if identified else None, since_ns=since_ns)
                    for i in indexes
                )
            )
        )

    def fails(self, index: int, kind: FaultKind, *, identified: bool = True) -> None:
        """Say that a call for the GPU failed."""
        name = uuid(index) if identified else None
        fault = Fault(kind=kind, message=f"it is {kind}", uuid=name, index=index)
        self.says(Batch(faults=(GpuFault(index=index, uuid=name, fault=fault),)))


class Probes:
    """Launches scripted probes and keeps them all."""

    def __init__(self) -> None:
        self.launched: list[ScriptedProbe] = []
        self.refuse: OSError | None = None
        self._newest_pid = 99

    def launch(self, spec: ProbeSpec, listener: ProbeListener) -> ProbeHandle:
        if self.refuse is not None:
            raise self.refuse
        self._newest_pid += 1
        probe = ScriptedProbe(self._newest_pid, spec, listener)
        self.launched.append(probe)
        return probe

    @property
    def last(self) -> ScriptedProbe:
        return self.launched[-1]

    def skips(self) -> Sequence[Target]:
        return self.last.spec.skip


def uuid(index: int) -> str:
    return f"GPU-{index}"


def identity(index: int, *, name: str | None = None) -> GpuIdentity:
    return GpuIdentity(
        uuid=name if name is not None else uuid(index),
        index=index,
        pci_bus_id=f"00000000:{index:02X}:00.0",
        name="Test GPU",
        compute_capability="8.6",
        vram_total_bytes=12 * GIB,
        slowdown_temperature_c=93,
        shutdown_temperature_c=98,
        max_temperature_c=93,
        memory_max_temperature_c=None,
    )


def info(gpu_count: int) -> DriverInfo:
    return DriverInfo(
        driver="nvml", driver_version="580.1", cuda_version="13.0", gpu_count=gpu_count
    )


def instance(
    parent: str,
    index: int,
    *,
    at_ns: int = 1,
    name: str | None = None,
    gpu_instance: int | None = None,
    fault: FaultKind | None = None,
    used: int = 0,
    processes: tuple[ProcessUse, ...] = (),
) -> InstanceReading:
    """Return a MIG instance of 10 GiB as a pass found it, or could not read it."""
    uuid = f"MIG-{parent}-{index}" if name is None else name
    taken = replace(
        sample(uuid, at_ns, full=True, margin=None, processes=processes),
        vram_total_bytes=10 * GIB,
        vram_used_bytes=used,
        vram_free_bytes=10 * GIB - used,
        utilization_core_percent=None,
        utilization_memory_percent=None,
        power_w=None,
        throttle_mask=None,
        details=None,
    )
    return InstanceReading(
        uuid=uuid,
        name="Test GPU MIG 1g.10gb",
        instance=MigInstance(
            parent=parent,
            index=index,
            gpu_instance=index + 1 if gpu_instance is None else gpu_instance,
            compute_instance=0,
            profile="1g.10gb",
        ),
        sample=taken if fault is None else None,
        fault=None if fault is None else Fault(kind=fault, message=f"it is {fault}", uuid=uuid),
    )


def sample(
    name: str,
    at_ns: int,
    *,
    full: bool = False,
    margin: int | None = 50,
    details: GpuDetails = NO_DETAILS,
    processes: tuple[ProcessUse, ...] = (),
) -> GpuSample:
    return GpuSample(
        uuid=name,
        taken_ns=at_ns,
        vram_total_bytes=12 * GIB,
        vram_used_bytes=0,
        vram_free_bytes=12 * GIB,
        vram_driver_reserved_bytes=0,
        utilization_core_percent=0,
        utilization_memory_percent=0,
        temperature_c=93 - margin if margin is not None else None,
        margin_c=margin,
        margin_source="threshold" if margin is not None else None,
        power_w=20.0,
        throttle_mask=0,
        details=details if full else None,
        processes=processes if full else None,
    )
