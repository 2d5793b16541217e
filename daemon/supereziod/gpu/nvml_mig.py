"""What MIG has cut a GPU into: found anew with each reading, for it may be cut anew meanwhile.

Handles are asked for each time: those of an instance that is gone may be given to another, so that
what is read through one that was kept would count for the wrong one. What may not be read is told
as that, with no figures: an instance that reads as empty is one that others would be put on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from supereziod.gpu.hardware import (
    UNREADABLE,
    Fault,
    FaultError,
    GpuSample,
    InstanceReading,
    MigInstance,
    ProcessUse,
)
from supereziod.gpu.nvml_values import (
    ABSENT,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_FOUND,
    Memory,
    NvmlError,
    NvmlGpu,
    to_fault,
)

#: The instance was destroyed after it was listed; or, at an index, there is none.
_GONE: Final = frozenset({NOT_FOUND, 28})
_NONE_THERE: Final = _GONE | {INVALID_ARGUMENT, 3}  # not supported: MIG was turned off meanwhile
_ABSENT: Final = ABSENT - {NO_PERMISSION}
#: What is wrong with an instance alone; any other fault is one of its GPU.
_OF_INSTANCES: Final = frozenset({"no_permission", "unknown"})
_GIB: Final = 1 << 30
_FORBIDDEN: Final = (
    "no permission to read MIG: the daemon's user has to be let into the nodes of /dev/nvidia-caps"
)


class Ask(Protocol):
    """Asks NVML for what may be absent; None if it is. Raises FaultError."""

    def __call__(
        self, gpu: NvmlGpu | None, function: Callable[..., Any], *args: int, required: bool = False
    ) -> Any | None:  # noqa: ANN401 - pynvml is not typed
        """Ask `function` of a GPU, or of a MIG instance."""


class Read(Protocol):
    """Reads the memory and, if asked, the processes, and whether those are listed; FaultError."""

    def __call__(
        self, gpu: NvmlGpu, *, with_processes: bool
    ) -> tuple[Memory, tuple[ProcessUse, ...] | None, bool]:
        """Read a GPU, or a MIG instance."""


class _Kind(NamedTuple):
    """What stays the same of an instance as long as its UUID does."""

    name: str
    profile: str | None
    gpu_instance: int | None
    compute_instance: int | None


_UNKNOWN: Final = _Kind("MIG instance", None, None, None)


class MigReader:
    """Reads the instances of GPUs, each GPU in its own thread."""

    def __init__(
        self,
        nvml: ModuleType,
        *,
        clock: Callable[[], int],
        ask: Ask,
        read: Read,
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._ask = ask
        self._read_use = read
        # Both by the UUID of the GPU first.
        self._kinds: dict[str, dict[str, _Kind]] = {}
        self._listed: dict[str, dict[int, InstanceReading]] = {}

    def read(self, gpu: NvmlGpu, *, with_processes: bool) -> tuple[InstanceReading, ...]:
        """Return the instances of a GPU whose MIG is on. Raises FaultError if the GPU is lost."""
        most = self._ask(gpu, self._nvml.nvmlDeviceGetMaxMigDeviceCount)
        if most is None:
            return (_unnamed(gpu, None, _forbidden(gpu)),)
        found = [self._find(gpu, index, with_processes=with_processes) for index in range(most)]
        readings = tuple(reading for reading in found if reading is not None)
        whole, listed = str(gpu.uuid), {reading.uuid for reading in readings}
        self._listed[whole] = {reading.instance.index: reading for reading in readings}
        kinds = self._kinds.get(whole, {})
        self._kinds[whole] = {uuid: kind for uuid, kind in kinds.items() if uuid in listed}
        return readings

    def _find(self, gpu: NvmlGpu, index: int, *, with_processes: bool) -> InstanceReading | None:
        """Return the instance at that index, if there is one."""
        try:
            handle = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, index)
            uuid = str(self._nvml.nvmlDeviceGetUUID(handle))
        except self._nvml.NVMLError as error:
            return self._unlisted(gpu, index, error)
        part = NvmlGpu(handle, uuid, gpu.index, mig_index=index, absent=_ABSENT)
        before = self._listed.get(str(gpu.uuid), {}).get(index)
        is_new = before is None or before.uuid != uuid or before.sample is None
        try:
            reading = self._read(gpu, part, with_processes=with_processes or is_new)
        except FaultError as error:
            if getattr(error.__cause__, "value", None) in _GONE:
                return None
            if error.fault.kind not in _OF_INSTANCES:
                raise
            return self._faulty(gpu, part, error.fault)
        if reading.sample is not None and reading.sample.vram_total_bytes is None:
            # The driver refuses a handle that is good for nothing as it refuses what it never had.
            return reading if self._is_at(gpu, index, uuid) else None
        return reading

    def _is_at(self, gpu: NvmlGpu, index: int, uuid: str) -> bool:
        try:
            handle = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, index)
            return bool(self._nvml.nvmlDeviceGetUUID(handle) == uuid)
        except self._nvml.NVMLError:
            return False

    def _unlisted(self, gpu: NvmlGpu, index: int, error: NvmlError) -> InstanceReading | None:
        """Return what is at an index that gave no handle: most often nothing."""
        if error.value in _NONE_THERE:
            return None
        what = f"read MIG instance {gpu.index}:{index}"
        fault = to_fault(error.value, what, str(error), uuid=gpu.uuid, index=gpu.index)
        if fault.kind not in _OF_INSTANCES:
            raise FaultError(fault) from error
        if fault.kind == "no_permission":
            fault = _forbidden(gpu)
        before = self._listed.get(str(gpu.uuid), {}).get(index)
        if before is None or before.uuid.startswith(UNREADABLE):
            return _unnamed(gpu, index, fault)
        part = NvmlGpu(None, before.uuid, gpu.index, mig_index=index)
        return self._faulty(gpu, part, fault)

    def _read(self, gpu: NvmlGpu, part: NvmlGpu, *, with_processes: bool) -> InstanceReading:
        kind = self._kind(gpu, part)
        taken_ns = self._clock()
        memory, processes, listed = self._read_use(part, with_processes=with_processes)
        sample = GpuSample(
            uuid=str(part.uuid),
            taken_ns=taken_ns,
            vram_total_bytes=memory.total,
            vram_used_bytes=memory.used,
            vram_free_bytes=memory.free,
            vram_driver_reserved_bytes=memory.reserved,
            utilization_core_percent=None,
            utilization_memory_percent=None,
            temperature_c=None,
            margin_c=None,
            margin_source=None,
            power_w=None,
            throttle_mask=None,
            processes=processes,
            processes_listed=listed,
        )
        return _reading(gpu, part, kind, sample=sample)

    def _faulty(self, gpu: NvmlGpu, part: NvmlGpu, fault: Fault) -> InstanceReading:
        if fault.kind == "no_permission":
            fault = _forbidden(gpu)
        kind = self._kinds.get(str(gpu.uuid), {}).get(str(part.uuid), _UNKNOWN)
        return _reading(gpu, part, kind, fault=replace(fault, uuid=part.uuid, index=gpu.index))

    def _kind(self, gpu: NvmlGpu, part: NvmlGpu) -> _Kind:
        kinds = self._kinds.setdefault(str(gpu.uuid), {})
        kind = kinds.get(str(part.uuid))
        if kind is None:
            kind = self._read_kind(gpu, part)
            if None not in kind:
                kinds[str(part.uuid)] = kind
        return kind

    def _read_kind(self, gpu: NvmlGpu, part: NvmlGpu) -> _Kind:
        nvml = self._nvml
        name = self._ask(part, nvml.nvmlDeviceGetName) or _UNKNOWN.name
        return _Kind(
            name=name,
            profile=profile_in(name) or self._profile(gpu, part),
            gpu_instance=self._ask(part, nvml.nvmlDeviceGetGpuInstanceId),
            compute_instance=self._ask(part, nvml.nvmlDeviceGetComputeInstanceId),
        )

    def _profile(self, gpu: NvmlGpu, part: NvmlGpu) -> str | None:
        attributes = self._ask(part, self._nvml.nvmlDeviceGetAttributes_v2)
        memory = self._ask(gpu, self._nvml.nvmlDeviceGetMemoryInfo)
        if attributes is None or memory is None:
            return None
        return profile_name(
            gpu_slices=attributes.gpuInstanceSliceCount,
            compute_slices=attributes.computeInstanceSliceCount,
            memory_bytes=attributes.memorySizeMB << 20,
            gpu_memory_bytes=memory.total,
        )


def profile_in(name: str) -> str | None:
    """Return the profile that a driver puts at the end of an instance's name."""
    found = re.search(r"\bMIG (\d+\w*\.\S+)$", name)
    return found[1] if found is not None else None


def profile_name(
    *, gpu_slices: int, compute_slices: int, memory_bytes: int, gpu_memory_bytes: int
) -> str:
    """Return what the driver calls an instance of that size.

    Memory is named after the eighths of the card that it takes, not after what is left of them.
    """
    eighths = math.ceil(memory_bytes * 8 / gpu_memory_bytes)
    gigabytes = round(eighths * math.ceil(gpu_memory_bytes / _GIB) / 8)
    compute = "" if compute_slices == gpu_slices else f"{compute_slices}c."
    return f"{compute}{gpu_slices}g.{gigabytes}gb"


def _reading(
    gpu: NvmlGpu,
    part: NvmlGpu,
    kind: _Kind,
    *,
    sample: GpuSample | None = None,
    fault: Fault | None = None,
) -> InstanceReading:
    return InstanceReading(
        uuid=str(part.uuid),
        name=kind.name,
        instance=MigInstance(
            parent=str(gpu.uuid),
            index=part.mig_index or 0,
            gpu_instance=kind.gpu_instance,
            compute_instance=kind.compute_instance,
            profile=kind.profile,
        ),
        sample=sample,
        fault=fault,
    )


def _unnamed(gpu: NvmlGpu, index: int | None, fault: Fault) -> InstanceReading:
    """Return what stands for an instance, or all of them, that not even a UUID is told of."""
    uuid = f"{UNREADABLE}-{gpu.index}" if index is None else f"{UNREADABLE}-{gpu.index}-{index}"
    part = NvmlGpu(None, uuid, gpu.index, mig_index=index or 0)
    return _reading(gpu, part, _UNKNOWN, fault=replace(fault, uuid=uuid, index=gpu.index))


def _forbidden(gpu: NvmlGpu) -> Fault:
    return Fault(kind="no_permission", message=_FORBIDDEN, uuid=gpu.uuid, index=gpu.index)
