"""GPU models as values: what NVML says of an idle card of that kind.

A name that a profile leaves out is a field the model does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Profile:
    """One model. `values` are fields of `layout.Gpu`."""

    name: str
    values: dict[str, int]


_EVERY_CARD: Final = {
    "memory_extra_bytes": 0,
    "utilization_core_percent": 0,
    "utilization_memory_percent": 0,
    "throttle_mask": 0x1,  # idle
    "compute_mode": 0,
    "performance_state": 8,
    "event_types": 0x8 | 0x10,
    "recovery_action": 0,
    "rc": 0,
    "hang_ms": 0,
    "return_delay_ms": 0,
    "hide_process_memory": 0,
    "display_active": 0,
    "display_mode": 0,
}

RTX_3060: Final = Profile(
    "NVIDIA GeForce RTX 3060",
    _EVERY_CARD
    | {
        "memory_total_bytes": 12 * GIB,
        "memory_reserved_bytes": 317 * MIB,
        "temperature_c": 38,
        "threshold_shutdown_c": 98,
        "threshold_slowdown_c": 95,
        "threshold_gpu_max_c": 93,
        "power_mw": 14_200,
        "power_limit_mw": 170_000,
        "energy_mj": 5_123_456,
        "fan_percent": 0,
        "clock_core_mhz": 210,
        "clock_memory_mhz": 405,
        "pcie_generation": 1,
        "pcie_generation_max": 4,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "compute_major": 8,
        "compute_minor": 6,
    },
)

RTX_2060: Final = Profile(
    "NVIDIA GeForce RTX 2060",
    _EVERY_CARD
    | {
        "memory_total_bytes": 6 * GIB,
        "memory_reserved_bytes": 216 * MIB,
        "temperature_c": 41,
        "threshold_shutdown_c": 96,
        "threshold_slowdown_c": 93,
        "threshold_gpu_max_c": 88,
        "power_mw": 9_800,
        "power_limit_mw": 160_000,
        "energy_mj": 1_222_333,
        "fan_percent": 34,
        "clock_core_mhz": 300,
        "clock_memory_mhz": 405,
        "pcie_generation": 1,
        "pcie_generation_max": 3,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "compute_major": 7,
        "compute_minor": 5,
    },
)

#: Data centre cards say how far they are from their limits (T.Limit), not where these lie.
H100: Final = Profile(
    "NVIDIA H100 80GB HBM3",
    _EVERY_CARD
    | {
        "memory_total_bytes": 85_520_809_984,
        "memory_reserved_bytes": 496 * MIB,
        "temperature_c": 31,
        "memory_temperature_c": 40,
        "tlimit_zero_c": 87,
        "tlimit_shutdown_c": -8,
        "tlimit_slowdown_c": -2,
        "tlimit_memory_max_c": 0,
        "tlimit_gpu_max_c": 0,
        "power_mw": 70_100,
        "power_limit_mw": 700_000,
        "energy_mj": 987_654_321,
        "clock_core_mhz": 345,
        "clock_memory_mhz": 2619,
        "ecc_enabled": 1,
        "ecc_corrected": 0,
        "ecc_uncorrected": 0,
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "compute_major": 9,
        "compute_minor": 0,
        "mig_mode": 0,
        "performance_state": 0,
        "event_types": 0x1 | 0x2 | 0x8 | 0x10,
    },
)

PROFILES: Final[dict[str, Profile]] = {"rtx3060": RTX_3060, "rtx2060": RTX_2060, "h100": H100}
DEFAULT: Final = (RTX_3060, RTX_2060)
