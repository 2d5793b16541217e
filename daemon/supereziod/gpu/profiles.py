"""Simulated GPU models, as values: what a card of that name reports and how it heats up."""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

GIB: Final = 1 << 30
MIB: Final = 1 << 20


class Profile(Struct, frozen=True, kw_only=True):
    """One GPU model. None is what such a card does not report.

    `full_load_c` is where it settles at full load in a room of 25 degrees, and `settling_s` the
    time constant on the way there. `t_limit` cards report their own margin.
    """

    name: str
    vram_bytes: int
    driver_reserved_bytes: int
    compute_capability: str
    slowdown_temperature_c: int
    shutdown_temperature_c: int
    max_temperature_c: int
    memory_max_temperature_c: int | None = None
    idle_power_w: float
    power_limit_w: float
    full_load_c: float
    settling_s: float = 25.0
    clock_core_mhz: int
    clock_memory_mhz: int
    pcie_generation: int
    has_fan: bool = True
    has_ecc: bool = False
    has_mig: bool = False
    t_limit: bool = False


def _geforce(
    name: str,
    *,
    gib: int,
    capability: str,
    slowdown_c: int,
    power_w: float,
    clocks_mhz: tuple[int, int],
    pcie: int,
    t_limit: bool = False,
) -> Profile:
    return Profile(
        name=f"NVIDIA GeForce {name}",
        vram_bytes=gib * GIB,
        driver_reserved_bytes=300 * MIB,
        compute_capability=capability,
        slowdown_temperature_c=slowdown_c,
        shutdown_temperature_c=slowdown_c + 5,
        max_temperature_c=slowdown_c,
        idle_power_w=round(power_w * 0.07, 1),
        power_limit_w=power_w,
        full_load_c=slowdown_c - 22.0,
        clock_core_mhz=clocks_mhz[0],
        clock_memory_mhz=clocks_mhz[1],
        pcie_generation=pcie,
        t_limit=t_limit,
    )


def _data_center(
    name: str,
    *,
    gib: int,
    capability: str,
    power_w: float,
    clocks_mhz: tuple[int, int],
    pcie: int,
    has_mig: bool,
    t_limit: bool = False,
) -> Profile:
    return Profile(
        name=name,
        vram_bytes=gib * GIB,
        driver_reserved_bytes=gib * 8 * MIB,
        compute_capability=capability,
        slowdown_temperature_c=89,
        shutdown_temperature_c=92,
        max_temperature_c=85,
        memory_max_temperature_c=95 if has_mig else None,
        idle_power_w=round(power_w * 0.15, 1),
        power_limit_w=power_w,
        full_load_c=66.0,
        settling_s=40.0,
        clock_core_mhz=clocks_mhz[0],
        clock_memory_mhz=clocks_mhz[1],
        pcie_generation=pcie,
        has_fan=False,
        has_ecc=True,
        has_mig=has_mig,
        t_limit=t_limit,
    )


PROFILES: Final[dict[str, Profile]] = {
    "RTX 2060": _geforce(
        "RTX 2060",
        gib=6,
        capability="7.5",
        slowdown_c=96,
        power_w=160.0,
        clocks_mhz=(2100, 7001),
        pcie=3,
    ),
    "RTX 2080 Ti": _geforce(
        "RTX 2080 Ti",
        gib=11,
        capability="7.5",
        slowdown_c=94,
        power_w=250.0,
        clocks_mhz=(2100, 7000),
        pcie=3,
    ),
    "RTX 3060": _geforce(
        "RTX 3060",
        gib=12,
        capability="8.6",
        slowdown_c=95,
        power_w=170.0,
        clocks_mhz=(2115, 7501),
        pcie=4,
    ),
    "RTX 3090": _geforce(
        "RTX 3090",
        gib=24,
        capability="8.6",
        slowdown_c=95,
        power_w=350.0,
        clocks_mhz=(2100, 9751),
        pcie=4,
    ),
    "RTX 4070": _geforce(
        "RTX 4070",
        gib=12,
        capability="8.9",
        slowdown_c=97,
        power_w=200.0,
        clocks_mhz=(3105, 10501),
        pcie=4,
        t_limit=True,
    ),
    "RTX 4090": _geforce(
        "RTX 4090",
        gib=24,
        capability="8.9",
        slowdown_c=97,
        power_w=450.0,
        clocks_mhz=(3120, 10501),
        pcie=4,
        t_limit=True,
    ),
    "RTX 5090": _geforce(
        "RTX 5090",
        gib=32,
        capability="12.0",
        slowdown_c=97,
        power_w=575.0,
        clocks_mhz=(3135, 14001),
        pcie=5,
        t_limit=True,
    ),
    "T4": _data_center(
        "Tesla T4",
        gib=15,
        capability="7.5",
        power_w=70.0,
        clocks_mhz=(1590, 5001),
        pcie=3,
        has_mig=False,
    ),
    "L40S": _data_center(
        "NVIDIA L40S",
        gib=45,
        capability="8.9",
        power_w=350.0,
        clocks_mhz=(2520, 9001),
        pcie=4,
        has_mig=False,
        t_limit=True,
    ),
    "A100 80GB": _data_center(
        "NVIDIA A100-SXM4-80GB",
        gib=80,
        capability="8.0",
        power_w=400.0,
        clocks_mhz=(1410, 1593),
        pcie=4,
        has_mig=True,
    ),
    "H100 80GB": _data_center(
        "NVIDIA H100 80GB HBM3",
        gib=80,
        capability="9.0",
        power_w=700.0,
        clocks_mhz=(1980, 2619),
        pcie=5,
        has_mig=True,
        t_limit=True,
    ),
}


def find_profile(name: str) -> Profile | None:
    """Return the profile of that name; case and spaces do not matter."""
    wanted = _folded(name)
    return next((p for known, p in PROFILES.items() if _folded(known) == wanted), None)


def simulated_uuid(slot: int, profile: Profile) -> str:
    """Return the UUID of the card in a slot: the same in every process and on every start."""
    digest = hashlib.sha256(f"{slot} {profile.name}".encode()).hexdigest()
    parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
    return "GPU-" + "-".join(parts)


def _folded(name: str) -> str:
    return name.replace(" ", "").casefold()
