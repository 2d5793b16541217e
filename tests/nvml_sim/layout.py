"""The simulator's state: one struct in a file that library, tests and stand-in processes map.

This is its only definition. The build writes the C header from it, so that both sides agree.

Numbers of a GPU are signed 64-bit, and `UNSUPPORTED` in one makes the calls that read it answer
NVML_ERROR_NOT_SUPPORTED. Who writes: the Python side, under the lock of the file; the library
writes counters (atomic) and `died_ns` (under the lock). Readers take no lock.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

MAGIC: Final = 0x4D53_564E
VERSION: Final = 2
MAX_GPUS: Final = 16
MAX_PROCESSES: Final = 64
MAX_MIG_DEVICES: Final = 7
MAX_FAULTS: Final = 32
MAX_COUNTERS: Final = 512
MAX_XIDS: Final = 16
ALL_GPUS: Final = 0xFFFF_FFFF
UNSUPPORTED: Final = -(2**63)
FOR_EVER: Final = -1

# Process.lists: which of NVML's three lists show it.
LIST_COMPUTE: Final = 1
LIST_GRAPHICS: Final = 2
LIST_MPS: Final = 4
# Process.flags.
LIVE: Final = 1  # watch pid and start time: out of the lists at its death, its VRAM later
NO_MEMORY: Final = 2  # its memory reads N/A, and is in use all the same
UNCOUNTED: Final = 4  # its memory is part of another entry already

_u32, _i32, _u64, _i64 = ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64, ctypes.c_int64
_text = ctypes.c_char * 96


class Fault(ctypes.Structure):
    """What a call by this name does instead of its work; `*` is every call but nvmlShutdown."""

    _fields_ = (
        ("call", _text),
        ("gpus", _u32),  # bit per GPU; a call that names no GPU is meant by ALL_GPUS alone
        ("rc", _i32),  # 0: only hang
        ("hang_ms", _i32),
        ("remaining", _i32),  # calls it still applies to, or FOR_EVER
    )


class Counter(ctypes.Structure):
    """How often a function of the library was called, by any process."""

    _fields_ = (("call", _text), ("count", _u64))


class Process(ctypes.Structure):
    """One entry of a GPU's process lists. Free while `pid` is 0, which is written last."""

    _fields_ = (
        ("pid", _u32),
        ("lists", _u32),
        ("flags", _u32),
        ("gpu_instance", _u32),
        ("compute_instance", _u32),
        ("padding", _u32),
        ("used_bytes", _u64),
        ("start_ticks", _u64),  # field 22 of /proc/PID/stat: a pid may be another process later
        ("died_ns", _i64),  # CLOCK_MONOTONIC when somebody first noticed, else 0
    )


class Mig(ctypes.Structure):
    """One MIG device. Its slot is its index; one that is not `present` leaves a gap."""

    _fields_ = (
        ("uuid", _text),
        ("name", _text),
        ("gpu_instance", _u32),
        ("compute_instance", _u32),
        ("gpu_slices", _u32),
        ("compute_slices", _u32),
        ("present", _u32),
        ("rc", _i32),  # not 0: what reading its memory, processes and attributes answers
        ("memory_total_bytes", _i64),
        ("memory_reserved_bytes", _i64),
        ("memory_extra_bytes", _i64),  # in use, and by no process that is listed
    )


class Gpu(ctypes.Structure):
    """One GPU. Up to `recovery_action` what it reads; then what is wrong with it."""

    _fields_ = (
        ("name", _text),
        ("uuid", _text),
        ("pci_bus_id", _text),
        ("memory_total_bytes", _i64),
        ("memory_reserved_bytes", _i64),
        ("memory_extra_bytes", _i64),  # in use, and by no process that is listed
        ("utilization_core_percent", _i64),
        ("utilization_memory_percent", _i64),
        ("temperature_c", _i64),
        ("memory_temperature_c", _i64),
        ("threshold_shutdown_c", _i64),
        ("threshold_slowdown_c", _i64),
        ("threshold_memory_max_c", _i64),
        ("threshold_gpu_max_c", _i64),
        ("tlimit_zero_c", _i64),  # the temperature at which the T.Limit margin is 0
        ("tlimit_shutdown_c", _i64),
        ("tlimit_slowdown_c", _i64),
        ("tlimit_memory_max_c", _i64),
        ("tlimit_gpu_max_c", _i64),
        ("power_mw", _i64),
        ("power_limit_mw", _i64),
        ("energy_mj", _i64),
        ("fan_percent", _i64),
        ("clock_core_mhz", _i64),
        ("clock_memory_mhz", _i64),
        ("throttle_mask", _i64),
        ("ecc_enabled", _i64),
        ("ecc_corrected", _i64),
        ("ecc_uncorrected", _i64),
        ("pcie_generation", _i64),
        ("pcie_generation_max", _i64),
        ("pcie_width", _i64),
        ("pcie_width_max", _i64),
        ("compute_mode", _i64),
        ("mig_mode", _i64),
        ("compute_major", _i64),
        ("compute_minor", _i64),
        ("performance_state", _i64),
        ("event_types", _i64),
        ("recovery_action", _i64),
        ("rc", _i64),  # not 0: what every call on this GPU answers (15: off the bus)
        ("hang_ms", _i64),  # not 0: how long every call on this GPU blocks first, or FOR_EVER
        ("return_delay_ms", _i64),  # VRAM of a dead LIVE process comes back so late, or FOR_EVER
        ("hide_process_memory", _i64),  # every process's memory reads N/A
        ("display_active", _i64),  # a desktop has it open
        ("display_mode", _i64),  # a screen is attached
        ("calls", _u64),
        ("out_of_memory_count", _u64),  # claims that did not fit
        ("xid_count", _u64),
        ("xids", _u64 * MAX_XIDS),  # a ring: the n-th (from 0) at n % MAX_XIDS
        ("mig_devices", Mig * MAX_MIG_DEVICES),
        ("processes", Process * MAX_PROCESSES),
    )


class State(ctypes.Structure):
    """The whole file."""

    _fields_ = (
        ("magic", _u32),
        ("version", _u32),
        ("size", _u32),
        ("gpu_count", _u32),
        ("init_rc", _i32),
        ("cuda_version", _i32),
        ("event_sequence", _u32),  # a futex: waiters look again when it moves
        ("fault_count", _u32),
        ("driver_version", _text),
        ("nvml_version", _text),
        ("faults", Fault * MAX_FAULTS),
        ("counters", Counter * MAX_COUNTERS),
        ("gpus", Gpu * MAX_GPUS),
    )


_C_TYPES: Final[dict[Any, str]] = {
    _u32: "uint32_t",
    _i32: "int32_t",
    _u64: "uint64_t",
    _i64: "int64_t",
}
_CONSTANTS: Final = (
    *("MAGIC", "VERSION", "MAX_GPUS", "MAX_PROCESSES", "MAX_MIG_DEVICES", "MAX_FAULTS"),
    *("MAX_COUNTERS", "MAX_XIDS", "ALL_GPUS", "FOR_EVER"),
    *("LIST_COMPUTE", "LIST_GRAPHICS", "LIST_MPS", "LIVE", "NO_MEMORY", "UNCOUNTED"),
)


def _member(name: str, kind: Any) -> str:
    if not issubclass(kind, ctypes.Array):
        return f"    {_type_name(kind)} {name};"
    element = "char" if kind._type_ is ctypes.c_char else _type_name(kind._type_)
    return f"    {element} {name}[{kind._length_}];"


def _type_name(kind: type[ctypes.Structure | ctypes._SimpleCData[Any]]) -> str:
    return _C_TYPES.get(kind) or f"struct {kind.__name__.lower()}"


def c_header() -> str:
    """Return this layout as C, with its sizes asserted."""
    lines = ["/* Generated from layout.py. */", "#pragma once", "#include <stdint.h>"]
    lines += [f"#define SIM_{name} {globals()[name]}" for name in _CONSTANTS]
    lines.append("#define SIM_UNSUPPORTED INT64_MIN")
    for struct in (Fault, Counter, Process, Mig, Gpu, State):
        name = _type_name(struct)
        lines += [f"{name} {{", *(_member(f[0], f[1]) for f in struct._fields_), "};"]
        size = ctypes.sizeof(struct)
        lines.append(f'_Static_assert(sizeof({name}) == {size}, "{name} is laid out otherwise");')
    return "\n".join(lines) + "\n"
