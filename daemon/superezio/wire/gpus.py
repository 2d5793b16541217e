"""GPUs and MIG instances: what they are, what they do, and who uses them."""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Done, Params, Result

GpuStatus = Literal["ok", "unknown", "lost", "detached"]
Level = Literal["normal", "warm", "hot", "critical", "unknown"]
FitnessState = Literal["healthy", "suspect", "quarantined", "probation"]


class Gpu(Result):
    """One GPU, or one MIG instance: identity, latest sample, and what may be leased on it.

    An instance has a `parent`, the UUID of the GPU that it is a part of, whose index, temperature,
    level and fitness it shows; it is listed after it. `mig_index` is its place there for now. The
    VRAM in use of a GPU that MIG cuts up is that of its instances; what leases and others have of
    it is told of these alone, so that sums count it once.
    """

    uuid: str
    index: int
    pci_bus_id: str
    name: str
    driver_version: str | None
    cuda_version: str | None
    compute_capability: str | None
    compute_mode: str | None
    mig_mode: str | None
    status: GpuStatus
    status_reason: str | None
    level: Level
    fitness: FitnessState
    cordoned: bool
    cordon_reason: str | None
    admissible: bool
    blocked_reason: str | None
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    vram_free_bytes: int | None
    vram_driver_reserved_bytes: int | None
    vram_reserved_bytes: int
    vram_foreign_bytes: int | None
    vram_leasable_bytes: int
    leases: int
    utilization_core_percent: int | None
    utilization_memory_percent: int | None
    temperature_c: int | None
    memory_temperature_c: int | None
    slowdown_temperature_c: int | None
    shutdown_temperature_c: int | None
    max_temperature_c: int | None
    memory_max_temperature_c: int | None
    margin_c: int | None
    power_w: float | None
    power_limit_w: float | None
    energy_j: float | None
    fan_percent: int | None
    clock_core_mhz: int | None
    clock_memory_mhz: int | None
    throttle_reasons: list[str] | None
    ecc_enabled: bool | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None
    sample_age_s: float | None
    drives_display: bool | None = None
    parent: str | None = None
    mig_profile: str | None = None
    mig_index: int | None = None


class GpuList(Result):
    gpus: list[Gpu]


class GpuParams(Params):
    """`gpu` is a UUID, a unique prefix of one, or an index. Digits alone are an index always.

    Without its `GPU-` or `MIG-` the prefix has at least 4 characters. The index of a MIG instance
    is written like 0:1.
    """

    gpu: str


class OptionalGpuParams(Params):
    gpu: str | None = None


class CordonParams(Params):
    gpu: str
    reason: str = ""


class CordonChange(Done):
    """Which GPU was meant: `gpu` is its UUID. `mig_index` is null but for a MIG instance.

    `done` is False when it was so already; `recorded` where the state directory does not take it
    for now, so that a reboot forgets it. A daemon that tells only `done` leaves the others null.
    """

    gpu: str | None = None
    index: int | None = None
    mig_index: int | None = None
    name: str | None = None
    recorded: bool | None = None


class GpuProcess(Result):
    """A process that uses a GPU. Personal members are null where the caller may not see them."""

    gpu: str
    pid: int
    type: str
    vram_bytes: int | None
    user: str | None
    uid: int | None
    command: str | None
    unit: str | None
    container: str | None
    lease: str | None


class GpuProcessList(Result):
    processes: list[GpuProcess]


class HistoryParams(Params):
    """`since_s`: how far back. The resolution is 1 s up to 15 minutes and 15 s up to 24 h."""

    gpu: str
    since_s: float = 900.0


class HistoryPoint(Result, array_like=True):
    """One interval of one metric: seconds ago, and least, mean and most in it."""

    age_s: float
    min: float
    mean: float
    max: float


class GpuHistory(Result):
    gpu: str
    resolution_s: float
    temperature_c: list[HistoryPoint]
    power_w: list[HistoryPoint]
    utilization_core_percent: list[HistoryPoint]
    vram_used_bytes: list[HistoryPoint]


class ProbeState(Result):
    """Answer of gpu.attach and gpu.detach."""

    attached: bool
