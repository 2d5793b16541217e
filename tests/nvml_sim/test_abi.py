"""The structs and numbers that the simulator shares with NVML's callers are NVIDIA's."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

import nvml_sim
from nvml_sim.plugin import built, require_compiler

SOURCES = Path(nvml_sim.__file__).parent / "src"

# Ours, theirs, and the members of each that are meant to lie at the same place.
STRUCTS: dict[str, tuple[str, dict[str, str]]] = {
    "struct abi_memory": (
        "nvmlMemory_t",
        {"total": "total", "free": "free", "used": "used"},
    ),
    "struct abi_memory_v2": (
        "nvmlMemory_v2_t",
        {
            "version": "version",
            "total": "total",
            "reserved": "reserved",
            "free": "free",
            "used": "used",
        },
    ),
    "struct abi_bar1": (
        "nvmlBAR1Memory_t",
        {"total": "bar1Total", "free": "bar1Free", "used": "bar1Used"},
    ),
    "struct abi_utilization": ("nvmlUtilization_t", {"gpu": "gpu", "memory": "memory"}),
    "struct abi_temperature": (
        "nvmlTemperature_v1_t",
        {"version": "version", "sensor": "sensorType", "temperature": "temperature"},
    ),
    "struct abi_margin": (
        "nvmlMarginTemperature_v1_t",
        {"version": "version", "margin": "marginTemperature"},
    ),
    "struct abi_process": (
        "nvmlProcessInfo_v2_t",
        {
            "pid": "pid",
            "used": "usedGpuMemory",
            "gpu_instance": "gpuInstanceId",
            "compute_instance": "computeInstanceId",
        },
    ),
    "struct abi_pci": (
        "nvmlPciInfo_t",
        {
            "legacy_bus_id": "busIdLegacy",
            "domain": "domain",
            "bus": "bus",
            "device": "device",
            "device_id": "pciDeviceId",
            "subsystem_id": "pciSubSystemId",
            "bus_id": "busId",
        },
    ),
    "union abi_value": ("nvmlValue_t", {"d": "dVal", "si": "siVal", "ull_": "ullVal"}),
    "struct abi_field": (
        "nvmlFieldValue_t",
        {
            "id": "fieldId",
            "scope": "scopeId",
            "timestamp_us": "timestamp",
            "latency_us": "latencyUsec",
            "type": "valueType",
            "rc": "nvmlReturn",
            "value": "value",
        },
    ),
    "struct abi_attributes": (
        "nvmlDeviceAttributes_t",
        {
            "multiprocessors": "multiprocessorCount",
            "gpu_slices": "gpuInstanceSliceCount",
            "compute_slices": "computeInstanceSliceCount",
            "memory_mib": "memorySizeMB",
        },
    ),
    "struct abi_event": (
        "nvmlEventData_t",
        {
            "device": "device",
            "type": "eventType",
            "data": "eventData",
            "gpu_instance": "gpuInstanceId",
            "compute_instance": "computeInstanceId",
        },
    ),
}

NUMBERS = {
    "RC_SUCCESS": "NVML_SUCCESS",
    "RC_UNINITIALIZED": "NVML_ERROR_UNINITIALIZED",
    "RC_INVALID_ARGUMENT": "NVML_ERROR_INVALID_ARGUMENT",
    "RC_NOT_SUPPORTED": "NVML_ERROR_NOT_SUPPORTED",
    "RC_NO_PERMISSION": "NVML_ERROR_NO_PERMISSION",
    "RC_NOT_FOUND": "NVML_ERROR_NOT_FOUND",
    "RC_INSUFFICIENT_SIZE": "NVML_ERROR_INSUFFICIENT_SIZE",
    "RC_DRIVER_NOT_LOADED": "NVML_ERROR_DRIVER_NOT_LOADED",
    "RC_TIMEOUT": "NVML_ERROR_TIMEOUT",
    "RC_GPU_IS_LOST": "NVML_ERROR_GPU_IS_LOST",
    "RC_MEMORY": "NVML_ERROR_MEMORY",
    "RC_VERSION_MISMATCH": "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
    "INIT_NO_GPUS": "NVML_INIT_FLAG_NO_GPUS",
    "EVENT_XID": "nvmlEventTypeXidCriticalError",
    "THRESHOLD_SHUTDOWN": "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN",
    "THRESHOLD_SLOWDOWN": "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",
    "THRESHOLD_MEMORY_MAX": "NVML_TEMPERATURE_THRESHOLD_MEM_MAX",
    "THRESHOLD_GPU_MAX": "NVML_TEMPERATURE_THRESHOLD_GPU_MAX",
    "CLOCK_GRAPHICS": "NVML_CLOCK_GRAPHICS",
    "CLOCK_MEMORY": "NVML_CLOCK_MEM",
    "TYPE_UNSIGNED_INT": "NVML_VALUE_TYPE_UNSIGNED_INT",
    "TYPE_UNSIGNED_LONG_LONG": "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG",
    "TYPE_SIGNED_INT": "NVML_VALUE_TYPE_SIGNED_INT",
    "FIELD_MEMORY_TEMPERATURE": "NVML_FI_DEV_MEMORY_TEMP",
    "FIELD_ENERGY": "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "FIELD_POWER_AVERAGE": "NVML_FI_DEV_POWER_AVERAGE",
    "FIELD_POWER_INSTANT": "NVML_FI_DEV_POWER_INSTANT",
    "FIELD_TLIMIT_SHUTDOWN": "NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT",
    "FIELD_TLIMIT_SLOWDOWN": "NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT",
    "FIELD_TLIMIT_MEMORY_MAX": "NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT",
    "FIELD_TLIMIT_GPU_MAX": "NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT",
    "FIELD_RECOVERY_ACTION": "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
    "STRUCT_VERSION(struct abi_memory_v2, 2)": "nvmlMemory_v2",
    "STRUCT_VERSION(struct abi_temperature, 1)": "nvmlTemperature_v1",
    "STRUCT_VERSION(struct abi_margin, 1)": "nvmlMarginTemperature_v1",
}


@pytest.fixture(scope="module")
def official_header() -> Path:
    """NVIDIA's nvml.h, from the package that publishes it."""
    files = importlib.metadata.files("nvidia-nvml-dev") or []
    return next(Path(str(file.locate())) for file in files if file.name == "nvml.h")


def compile_c(source: str, folder: Path, header: Path) -> subprocess.CompletedProcess[str]:
    require_compiler()
    file = folder / "check.c"
    file.write_text('#include <stddef.h>\n#include <nvml.h>\n#include "abi.h"\n' + source)
    command = ["gcc", "-std=gnu11", "-Wall", f"-I{SOURCES}", f"-I{header.parent}", str(file)]
    command += ["-o", str(folder / "check")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assertions() -> list[str]:
    lines = []
    for ours, (theirs, members) in STRUCTS.items():
        lines.append(f'_Static_assert(sizeof({ours}) == sizeof({theirs}), "size of {ours}");')
        for mine, official in members.items():
            where = f"offsetof({ours}, {mine}) == offsetof({theirs}, {official})"
            lines.append(f'_Static_assert({where}, "{ours}.{mine}");')
    for mine, official in NUMBERS.items():
        lines.append(f'_Static_assert((long long){mine} == (long long){official}, "{mine}");')
    return lines


def test_structs_and_numbers_are_those_of_the_official_header(
    tmp_path: Path, official_header: Path
) -> None:
    done = compile_c("\n".join(assertions()) + "\nint main(void) {}\n", tmp_path, official_header)
    assert done.returncode == 0, done.stderr


def test_a_struct_that_differs_would_be_found(tmp_path: Path, official_header: Path) -> None:
    wrong = '_Static_assert(sizeof(struct abi_memory) == sizeof(nvmlMemory_v2_t), "size");'
    assert compile_c(wrong + "\nint main(void) {}\n", tmp_path, official_header).returncode != 0


def test_every_function_that_the_simulator_answers_itself_is_one_of_nvmls(
    official_header: Path,
) -> None:
    text = official_header.read_text(encoding="utf-8")
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(built() / "libnvidia-ml.so.1")],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {line.split()[2] for line in done.stdout.splitlines() if " T " in line}
    assert len(ours) > 60
    # Superseded before this header, and looked up by tools all the same.
    gone = {
        "nvmlDeviceGetComputeRunningProcesses_v2",
        "nvmlDeviceGetGraphicsRunningProcesses_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    }
    assert {name for name in ours - gone if name not in text} == set()
