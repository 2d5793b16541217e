"""The seam to the hardware: what a driver gives, and what the rest of the daemon sees of it.

A `GpuDriver` blocks and may hang: it is called in the probe process alone. Everything that leaves
it is a frozen value. What a card does not support is None.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from msgspec import Struct

from superezio.wire import FitnessState, GpuStatus, Level

ProcessType = Literal["C", "G", "C+G", "M", "M+C"]
ComputeMode = Literal["default", "exclusive_process", "prohibited"]
#: `threshold`: slowdown threshold minus temperature. `t_limit`: the card's own margin, which is
#: not trusted at or below zero without a second signal.
MarginSource = Literal["threshold", "t_limit"]
FaultKind = Literal[
    "no_library", "no_driver", "version_mismatch", "gpu_lost", "hang", "no_permission", "unknown"
]

# Bits of the throttle (clocks event) reasons, as NVML defines them.
SW_THERMAL_SLOWDOWN = 0x20
HW_THERMAL_SLOWDOWN = 0x40
HW_POWER_BRAKE = 0x80


class DriverInfo(Struct, frozen=True, kw_only=True):
    """What an opened driver says of itself."""

    driver: Literal["nvml", "simulated"]
    driver_version: str | None
    cuda_version: str | None
    gpu_count: int


class MigInstance(Struct, frozen=True, kw_only=True):
    """What one MIG instance is, and the UUID of the GPU that it is a part of.

    `index` is its place among those of its GPU for now: it is another after MIG was cut anew. The
    compute instances of one GPU instance share its memory. `profile` is the driver's word for its
    size, such as 1g.10gb.
    """

    parent: str
    index: int
    gpu_instance: int | None
    compute_instance: int | None
    profile: str | None


class GpuIdentity(Struct, frozen=True, kw_only=True):
    """What does not change while the driver is loaded. Temperatures in degrees Celsius.

    Of a MIG instance (`mig`) all but UUID, name and VRAM are those of its GPU, the index too.
    """

    uuid: str
    index: int
    pci_bus_id: str
    name: str
    compute_capability: str | None
    vram_total_bytes: int | None
    slowdown_temperature_c: int | None
    shutdown_temperature_c: int | None
    max_temperature_c: int | None
    memory_max_temperature_c: int | None
    mig: MigInstance | None = None

    @property
    def place(self) -> str:
        """The index, as `0`; of a MIG instance as `0:1`, which NVIDIA's tools take too."""
        return str(self.index) if self.mig is None else f"{self.index}:{self.mig.index}"

    @property
    def label(self) -> str:
        """What people call it."""
        return f"GPU {self.place} ({self.name})"


class ProcessUse(Struct, frozen=True, kw_only=True):
    """VRAM of one process on one GPU, the driver's lists merged by pid with max, never summed."""

    pid: int
    type: ProcessType
    vram_bytes: int | None


class GpuDetails(Struct, frozen=True, kw_only=True):
    """What is read with a process pass only, because it changes slowly or costs driver time.

    `drives_display`: a screen is attached, or a desktop has it open without one.
    """

    compute_mode: ComputeMode | None
    mig_mode: Literal["enabled", "disabled", "no_permission"] | None
    memory_temperature_c: int | None
    power_limit_w: float | None
    energy_j: float | None
    fan_percent: int | None
    clock_core_mhz: int | None
    clock_memory_mhz: int | None
    ecc_enabled: bool | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None
    drives_display: bool | None = None


class GpuSample(Struct, frozen=True, kw_only=True):
    """One reading of one GPU. `taken_ns` is CLOCK_MONOTONIC, the same in every process.

    A sample with `processes` is a pass: its memory and its processes were read together, and only
    such a sample enters a placement. Where the driver cannot tell used from reserved memory,
    `vram_driver_reserved_bytes` is None and `vram_used_bytes` includes the reserve. Where it does
    not list who computes, `processes_listed` is False, and a process may be there unseen.
    """

    uuid: str
    taken_ns: int
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    vram_free_bytes: int | None
    vram_driver_reserved_bytes: int | None
    utilization_core_percent: int | None
    utilization_memory_percent: int | None
    temperature_c: int | None
    margin_c: int | None
    margin_source: MarginSource | None
    power_w: float | None
    throttle_mask: int | None
    details: GpuDetails | None = None
    processes: tuple[ProcessUse, ...] | None = None
    processes_listed: bool = True


class Fault(Struct, frozen=True, kw_only=True):
    """What is wrong with the driver (no `uuid`) or with one GPU."""

    kind: FaultKind
    message: str
    uuid: str | None = None
    index: int | None = None


#: How the UUID begins of what stands for an instance that not even a UUID is told of.
UNREADABLE: Final = "MIG-unreadable"


class InstanceReading(Struct, frozen=True, kw_only=True):
    """A MIG instance as a reading of its GPU found it: its sample, or what is wrong with it."""

    uuid: str
    name: str
    instance: MigInstance
    sample: GpuSample | None = None
    fault: Fault | None = None


class Xid(Struct, frozen=True, kw_only=True):
    """A critical error event that the driver reported. 999 is one it could not name."""

    uuid: str
    xid: int
    taken_ns: int


class FaultError(Exception):
    """Raised by a driver call; `fault` says what is wrong, and with which GPU."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class GpuDriver(Protocol):
    """What the probe asks of a driver. Each call may block for ever and may raise FaultError."""

    def open(self) -> DriverInfo:
        """Initialise the driver, once."""

    def identify(self, index: int) -> GpuIdentity:
        """Read what does not change of the GPU at `index` (0 <= index < gpu_count)."""

    def sample(self, uuid: str, *, with_processes: bool) -> GpuSample:
        """Read an identified GPU; with its details and processes if asked."""

    def instances(self, uuid: str, *, with_processes: bool) -> tuple[InstanceReading, ...]:
        """Read the MIG instances that an identified GPU with MIG on has now.

        One that was not there the last time is read with its processes in any case.
        """

    def wait_xid(self, timeout_s: float) -> Xid | None:
        """Wait for a critical error on any identified GPU; None when the time is over."""

    def close(self) -> None:
        """Give the driver back."""


class Block(Struct, frozen=True, kw_only=True):
    """Why a GPU admits nothing: a stable code, and a sentence."""

    code: str
    message: str


class Cooling(Struct, frozen=True, kw_only=True):
    """How far a GPU that is cool again is from leaving its level, by its last good sample.

    It was at `peak_c` at most since it was NORMAL (None where nothing was seen of the heat that
    the level is for), has been cool enough for `cool_s`, and leaves its level in `left_s` if it
    stays so. `closed_s`: how long it then admits nothing, in all.
    """

    peak_c: int | None
    cool_s: float
    left_s: float
    closed_s: float


class GpuView(Struct, frozen=True, kw_only=True):
    """One GPU, or MIG instance, as the daemon knows it now.

    `last_pass` is the newest sample with processes. What is measured of the whole GPU alone
    (temperature, margin, level, fitness) is the same for all its instances.
    """

    identity: GpuIdentity
    status: GpuStatus
    status_reason: str | None
    sample: GpuSample | None
    last_pass: GpuSample | None
    details: GpuDetails | None
    level: Level
    fitness: FitnessState
    cordoned: bool
    cordon_reason: str | None
    block: Block | None
    cooling: Cooling | None = None

    @property
    def uuid(self) -> str:
        """The GPU's UUID, by which everything refers to it."""
        return self.identity.uuid

    @property
    def is_cut_up(self) -> bool:
        """Whether MIG is on, so that what may be leased are its instances, never the whole."""
        return self.identity.mig is None and (
            self.details is not None and self.details.mig_mode == "enabled"
        )


class Snapshot(Struct, frozen=True, kw_only=True):
    """All GPUs, each before its MIG instances.

    `ready` is False until the first probe has answered for every GPU or failed.
    """

    taken_ns: int
    ready: bool
    attached: bool
    driver: DriverInfo | None
    driver_fault: Fault | None
    gpus: tuple[GpuView, ...]

    @property
    def units(self) -> list[GpuView]:
        """What leases are placed on: MIG instances instead of the GPU that they are parts of."""
        cut_up = {gpu.identity.mig.parent for gpu in self.gpus if gpu.identity.mig is not None}
        return [gpu for gpu in self.gpus if gpu.uuid not in cut_up]

    def find(self, uuid: str) -> GpuView | None:
        """Return the GPU, or MIG instance, with that UUID."""
        return next((gpu for gpu in self.gpus if gpu.identity.uuid == uuid), None)
