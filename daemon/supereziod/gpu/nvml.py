"""The NVIDIA driver, through NVML. The only module that imports pynvml.

A value that the card, the driver's age or our permissions do not give is None. A function that
the library does not have is asked for once. What is wrong with the driver or a GPU raises
FaultError. NVMLError is compared by its `value` alone: its `==` breaks on other exceptions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

import pynvml

from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    FaultError,
    GpuDetails,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    MarginSource,
    ProcessUse,
    Xid,
)
from supereziod.gpu.nvml_mig import MigReader
from supereziod.gpu.nvml_values import (
    ABSENT,
    FATAL,
    FUNCTION_NOT_FOUND,
    INSUFFICIENT_SIZE,
    NO_PERMISSION,
    Handle,
    Memory,
    NvmlError,
    NvmlGpu,
    field_number,
    merge_processes,
    to_fault,
)
from supereziod.gpu.nvml_xids import XidWatch

_Answer: TypeAlias = Any  # pynvml is not typed
_Function: TypeAlias = Callable[..., _Answer]
_Argument: TypeAlias = int | list[int]

_FIELD_MEMORY_TEMPERATURE: Final = 82
_FIELD_TLIMIT_SLOWDOWN: Final = 194
_COMPUTE_MODES: Final[dict[int, Literal["default", "exclusive_process", "prohibited"]]] = {
    0: "default",
    1: "exclusive_process",  # per thread once; drivers treat it as per process
    2: "prohibited",
    3: "exclusive_process",
}
#: The newest function of a driver that has it, else the next.
_TEMPERATURE: Final = (pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetTemperature)
_THROTTLE: Final = (
    pynvml.nvmlDeviceGetCurrentClocksEventReasons,
    pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
)
_PROCESS_LISTS: Final[dict[Literal["C", "G", "M"], tuple[_Function, ...]]] = {
    "C": (
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
    ),
    "G": (
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
    ),
    "M": (
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v2,
    ),
}
_LIST_TRIES: Final = 4
#: A desktop that has the GPU open, and a screen attached to it: newer drivers have only the first.
_DISPLAYS: Final = (pynvml.nvmlDeviceGetDisplayActive, pynvml.nvmlDeviceGetDisplayMode)


def _memory_v2(handle: Handle) -> _Answer:
    return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)


_NO_MEMORY: Final = Memory(None, None, None, None)


class NvmlDriver:
    """NVML as a GpuDriver. One thread per GPU may sample while another waits for XIDs."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._gpus: dict[str, NvmlGpu] = {}
        self._missing: set[_Function] = set()
        self._xids = XidWatch(pynvml, clock=clock, check=self._check)
        self._mig = MigReader(pynvml, clock=clock, ask=self._ask, read=self._read)

    # --- GpuDriver ----------------------------------------------------------------------------

    def open(self) -> DriverInfo:
        """Initialise NVML, also on a host whose GPUs are all gone."""
        try:
            pynvml.nvmlInitWithFlags(pynvml.NVML_INIT_FLAG_NO_GPUS)
        except pynvml.NVMLError as error:
            raise FaultError(to_fault(error.value, "open NVML", str(error))) from error
        try:
            return self._info()
        except FaultError:
            pynvml.nvmlShutdown()
            raise

    def identify(self, index: int) -> GpuIdentity:
        """Read what stays the same, and watch the GPU for XIDs from now on."""
        gpu = NvmlGpu(self._handle(index), None, index)
        gpu = replace(gpu, uuid=self._need(gpu, pynvml.nvmlDeviceGetUUID))
        thresholds = [
            _integer(self._ask(gpu, pynvml.nvmlDeviceGetTemperatureThreshold, kind))
            for kind in range(4)
        ]
        shutdown_c, slowdown_c, memory_max_c, max_c = thresholds
        gpu = replace(
            gpu,
            slowdown_temperature_c=slowdown_c,
            tlimit_slowdown_c=self._field(gpu, _FIELD_TLIMIT_SLOWDOWN),
        )
        capability = self._ask(gpu, pynvml.nvmlDeviceGetCudaComputeCapability)
        identity = GpuIdentity(
            uuid=str(gpu.uuid),
            index=index,
            pci_bus_id=_text(self._need(gpu, pynvml.nvmlDeviceGetPciInfo_v3).busId),
            name=self._need(gpu, pynvml.nvmlDeviceGetName),
            compute_capability=".".join(map(str, capability)) if capability else None,
            vram_total_bytes=self._memory(gpu).total,
            slowdown_temperature_c=slowdown_c,
            shutdown_temperature_c=shutdown_c,
            max_temperature_c=max_c,
            memory_max_temperature_c=memory_max_c,
        )
        self._gpus[identity.uuid] = gpu
        supported = self._ask(gpu, pynvml.nvmlDeviceGetSupportedEventTypes) or 0
        if supported & pynvml.nvmlEventTypeXidCriticalError:
            self._xids.watch(gpu)
        return identity

    def sample(self, uuid: str, *, with_processes: bool) -> GpuSample:
        """Read one GPU. `taken_ns` is from before the first read."""
        gpu = self._gpus[uuid]
        taken_ns = self._clock()
        memory, processes, listed = self._read(gpu, with_processes=with_processes)
        details = self._details(gpu) if with_processes else None
        utilization = self._ask(gpu, pynvml.nvmlDeviceGetUtilizationRates)
        temperature_c = self._first(gpu, _TEMPERATURE, pynvml.NVML_TEMPERATURE_GPU, required=True)
        margin_c, margin_source = self._margin(gpu, temperature_c)
        power_mw = self._ask(gpu, pynvml.nvmlDeviceGetPowerUsage)
        return GpuSample(
            uuid=uuid,
            taken_ns=taken_ns,
            vram_total_bytes=memory.total,
            vram_used_bytes=memory.used,
            vram_free_bytes=memory.free,
            vram_driver_reserved_bytes=memory.reserved,
            utilization_core_percent=None if utilization is None else utilization.gpu,
            utilization_memory_percent=None if utilization is None else utilization.memory,
            temperature_c=temperature_c,
            margin_c=margin_c,
            margin_source=margin_source,
            power_w=None if power_mw is None else power_mw / 1000,
            throttle_mask=self._first(gpu, _THROTTLE),
            details=details,
            processes=processes,
            processes_listed=listed,
        )

    def instances(self, uuid: str, *, with_processes: bool) -> tuple[InstanceReading, ...]:
        """Read what MIG has cut the GPU into, as it is now."""
        return self._mig.read(self._gpus[uuid], with_processes=with_processes)

    def wait_xid(self, timeout_s: float) -> Xid | None:
        """Wait for an XID. A GPU found lost meanwhile raises, once, and is not watched then."""
        return self._xids.wait(timeout_s)

    def close(self) -> None:
        """Shut NVML down, unless a wait for events is stuck in it: that ends with the process."""
        if self._xids.close():
            with contextlib.suppress(pynvml.NVMLError):  # never opened, or the driver is gone
                pynvml.nvmlShutdown()

    # --- reading ------------------------------------------------------------------------------

    def _info(self) -> DriverInfo:
        cuda = self._ask(None, pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return DriverInfo(
            driver="nvml",
            driver_version=self._ask(None, pynvml.nvmlSystemGetDriverVersion),
            cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            gpu_count=self._need(None, pynvml.nvmlDeviceGetCount),
        )

    @staticmethod
    def _handle(index: int) -> Handle:
        try:
            return pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            what = f"reach GPU {index}"
            raise FaultError(to_fault(error.value, what, str(error), index=index)) from error

    def _read(
        self, gpu: NvmlGpu, *, with_processes: bool
    ) -> tuple[Memory, tuple[ProcessUse, ...] | None, bool]:
        """Read memory and, if asked, processes together with it, and whether those are listed.

        Memory is read on both sides of the process lists then and the larger use counts, so that
        what starts or ends in between is never missing from it.
        """
        memory = self._memory(gpu)
        if not with_processes:
            return memory, None, True
        processes, listed = self._processes(gpu, memory.total)
        return max(memory, self._memory(gpu), key=lambda read: read.used or 0), processes, listed

    def _memory(self, gpu: NvmlGpu) -> Memory:
        read = self._ask(gpu, _memory_v2, required=True)
        if read is not None:
            return Memory(read.total, read.used, read.free, read.reserved)
        read = self._ask(gpu, pynvml.nvmlDeviceGetMemoryInfo, required=True)
        return _NO_MEMORY if read is None else Memory(read.total, read.used, read.free, None)

    def _margin(
        self, gpu: NvmlGpu, temperature_c: int | None
    ) -> tuple[int | None, MarginSource | None]:
        if gpu.tlimit_slowdown_c is not None:
            tlimit_c = self._ask(gpu, pynvml.nvmlDeviceGetMarginTemperature)
            if tlimit_c is not None:
                return tlimit_c - gpu.tlimit_slowdown_c, "t_limit"
        if gpu.slowdown_temperature_c is not None and temperature_c is not None:
            return gpu.slowdown_temperature_c - temperature_c, "threshold"
        return None, None

    def _processes(
        self, gpu: NvmlGpu, vram_total_bytes: int | None
    ) -> tuple[tuple[ProcessUse, ...], bool]:
        """Return the processes, and whether the driver lists those that compute at all."""
        lists = {letter: self._list(gpu, tries) for letter, tries in _PROCESS_LISTS.items()}
        known = {letter: entries for letter, entries in lists.items() if entries is not None}
        return merge_processes(known, vram_total_bytes=vram_total_bytes), "C" in known

    def _list(self, gpu: NvmlGpu, functions: tuple[_Function, ...]) -> list[_Answer] | None:
        """Read a list that may outgrow the room made for it while it is read; None: no such."""
        for _ in range(_LIST_TRIES - 1):
            try:
                return self._first(gpu, functions, required=True)
            except FaultError as error:
                cause = error.__cause__
                if getattr(cause, "value", None) != INSUFFICIENT_SIZE:
                    raise
        return self._first(gpu, functions, required=True)

    def _details(self, gpu: NvmlGpu) -> GpuDetails:
        ask = self._ask
        ecc = ask(gpu, pynvml.nvmlDeviceGetEccMode)
        energy_mj = ask(gpu, pynvml.nvmlDeviceGetTotalEnergyConsumption)
        limit_mw = ask(gpu, pynvml.nvmlDeviceGetEnforcedPowerLimit)
        mode = ask(gpu, pynvml.nvmlDeviceGetComputeMode)
        return GpuDetails(
            compute_mode=None if mode is None else _COMPUTE_MODES.get(mode),
            mig_mode=self._mig_mode(gpu),
            memory_temperature_c=self._field(gpu, _FIELD_MEMORY_TEMPERATURE),
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
            fan_percent=ask(gpu, pynvml.nvmlDeviceGetFanSpeed),
            clock_core_mhz=ask(gpu, pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_GRAPHICS),
            clock_memory_mhz=ask(gpu, pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
            ecc_enabled=None if ecc is None else bool(ecc[0]),
            ecc_corrected=self._ecc_errors(gpu, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc_errors(gpu, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            pcie_generation=ask(gpu, pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
            pcie_generation_max=ask(gpu, pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
            pcie_width=ask(gpu, pynvml.nvmlDeviceGetCurrPcieLinkWidth),
            pcie_width_max=ask(gpu, pynvml.nvmlDeviceGetMaxPcieLinkWidth),
            drives_display=self._drives_display(gpu),
        )

    def _ecc_errors(self, gpu: NvmlGpu, kind: int) -> int | None:
        """Errors since the driver was loaded."""
        volatile = pynvml.NVML_VOLATILE_ECC
        return _integer(self._ask(gpu, pynvml.nvmlDeviceGetTotalEccErrors, kind, volatile))

    def _drives_display(self, gpu: NvmlGpu) -> bool | None:
        answers = [self._ask(gpu, function) for function in _DISPLAYS]
        known = [bool(answer) for answer in answers if answer is not None]
        return any(known) if known else None

    def _mig_mode(self, gpu: NvmlGpu) -> Literal["enabled", "disabled", "no_permission"] | None:
        function = pynvml.nvmlDeviceGetMigMode
        if function in self._missing:
            return None
        try:
            current, _pending = function(gpu.handle)
        except pynvml.NVMLError as error:
            if error.value == NO_PERMISSION:
                return "no_permission"
            self._require_absent(gpu, function, error, strict=False)
            return None
        return "enabled" if current else "disabled"

    def _field(self, gpu: NvmlGpu, field: int) -> int | None:
        fields = self._ask(gpu, pynvml.nvmlDeviceGetFieldValues, [field])
        return None if fields is None else _integer(field_number(fields[0]))

    # --- asking -------------------------------------------------------------------------------

    def _first(
        self,
        gpu: NvmlGpu,
        functions: tuple[_Function, ...],
        *args: _Argument,
        required: bool = False,
    ) -> _Answer | None:
        for function in functions:
            answer = self._ask(gpu, function, *args, required=required)
            if answer is not None:
                return answer
        return None

    def _need(self, gpu: NvmlGpu | None, function: _Function, *args: _Argument) -> _Answer:
        """Ask for what no driver lacks."""
        try:
            return function(*args) if gpu is None else function(gpu.handle, *args)
        except pynvml.NVMLError as error:
            raise self._fault(gpu, function, error) from error

    def _ask(
        self, gpu: NvmlGpu | None, function: _Function, *args: _Argument, required: bool = False
    ) -> _Answer | None:
        """Ask for what may be absent. Errors of no known meaning raise if it is `required`."""
        if function in self._missing:
            return None
        try:
            return function(*args) if gpu is None else function(gpu.handle, *args)
        except pynvml.NVMLError as error:
            self._require_absent(gpu, function, error, strict=required)
            return None

    def _require_absent(
        self, gpu: NvmlGpu | None, function: _Function, error: NvmlError, *, strict: bool
    ) -> None:
        """Raise, unless the error says no more than that there is no such value."""
        if error.value == FUNCTION_NOT_FOUND:
            self._missing.add(function)
        absent = ABSENT if gpu is None else gpu.absent
        if error.value in FATAL or (strict and error.value not in absent):
            raise self._fault(gpu, function, error) from error

    @staticmethod
    def _fault(gpu: NvmlGpu | None, function: _Function, error: NvmlError) -> FaultError:
        if gpu is None:
            what = f"ask the driver ({function.__name__})"
            return FaultError(to_fault(error.value, what, str(error)))
        what = f"read {gpu.label} ({function.__name__})"
        return FaultError(to_fault(error.value, what, str(error), uuid=gpu.uuid, index=gpu.index))

    def _check(self, gpu: NvmlGpu) -> Fault | None:
        try:
            self._memory(gpu)
        except FaultError as error:
            return error.fault
        return None


def _integer(value: _Answer | None) -> int | None:
    return None if value is None else int(value)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
