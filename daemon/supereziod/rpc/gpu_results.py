"""A GPU as it goes over the wire: what the probe knows of it, joined with what is leased on it."""

from __future__ import annotations

from typing import Final, Protocol

from superezio.wire import Gpu
from supereziod.gpu.hardware import DriverInfo, GpuDetails, GpuSample, GpuView

_SECOND_NS: Final = 1_000_000_000

#: Bits of the clocks event (throttle) reasons, by the names they have in the driver's tools.
_THROTTLE_NAMES: Final = (
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake"),
    (0x100, "display_clock_setting"),
)


class Usage(Protocol):
    """What is leased on one GPU."""

    @property
    def reserved_bytes(self) -> int:
        """Promised or used by leases, whichever is more, summed over holders."""

    @property
    def foreign_bytes(self) -> int | None:
        """Used by processes without a lease; None before the first pass."""

    @property
    def leasable_bytes(self) -> int:
        """What a lease could get now."""

    @property
    def leases(self) -> int:
        """How many leases are on it."""

    @property
    def taken(self) -> str | None:
        """Why no lease fits beside what is there, however small; None if one may."""


def throttle_names(mask: int | None) -> list[str] | None:
    """Return the reasons in a mask by name; a bit without one keeps its number."""
    if mask is None:
        return None
    names = [name for bit, name in _THROTTLE_NAMES if mask & bit]
    rest = mask & ~sum(bit for bit, _ in _THROTTLE_NAMES)
    return [*names, hex(rest)] if rest else names


def gpu_result(view: GpuView, usage: Usage | None, driver: DriverInfo | None, now_ns: int) -> Gpu:
    """Return one GPU; what is not known, or not supported by the card, is None."""
    identity = view.identity
    sample = view.sample or _NO_SAMPLE
    details = view.details or _NO_DETAILS
    blocked_reason = usage.taken if usage is not None else None
    if view.block is not None:
        blocked_reason = view.block.message
    total = sample.vram_total_bytes
    return Gpu(
        uuid=identity.uuid,
        index=identity.index,
        pci_bus_id=identity.pci_bus_id,
        name=identity.name,
        driver_version=driver.driver_version if driver else None,
        cuda_version=driver.cuda_version if driver else None,
        compute_capability=identity.compute_capability,
        compute_mode=details.compute_mode,
        mig_mode=details.mig_mode,
        status=view.status,
        status_reason=view.status_reason,
        level=view.level,
        fitness=view.fitness,
        cordoned=view.cordoned,
        cordon_reason=view.cordon_reason,
        admissible=blocked_reason is None,
        blocked_reason=blocked_reason,
        vram_total_bytes=total if total is not None else identity.vram_total_bytes,
        vram_used_bytes=sample.vram_used_bytes,
        vram_free_bytes=sample.vram_free_bytes,
        vram_driver_reserved_bytes=sample.vram_driver_reserved_bytes,
        vram_reserved_bytes=usage.reserved_bytes if usage else 0,
        vram_foreign_bytes=usage.foreign_bytes if usage else None,
        vram_leasable_bytes=usage.leasable_bytes if usage else 0,
        leases=usage.leases if usage else 0,
        utilization_core_percent=sample.utilization_core_percent,
        utilization_memory_percent=sample.utilization_memory_percent,
        temperature_c=sample.temperature_c,
        memory_temperature_c=details.memory_temperature_c,
        slowdown_temperature_c=identity.slowdown_temperature_c,
        shutdown_temperature_c=identity.shutdown_temperature_c,
        max_temperature_c=identity.max_temperature_c,
        memory_max_temperature_c=identity.memory_max_temperature_c,
        margin_c=sample.margin_c,
        power_w=sample.power_w,
        power_limit_w=details.power_limit_w,
        energy_j=details.energy_j,
        fan_percent=details.fan_percent,
        clock_core_mhz=details.clock_core_mhz,
        clock_memory_mhz=details.clock_memory_mhz,
        throttle_reasons=throttle_names(sample.throttle_mask),
        ecc_enabled=details.ecc_enabled,
        ecc_corrected=details.ecc_corrected,
        ecc_uncorrected=details.ecc_uncorrected,
        pcie_generation=details.pcie_generation,
        pcie_generation_max=details.pcie_generation_max,
        pcie_width=details.pcie_width,
        pcie_width_max=details.pcie_width_max,
        parent=identity.mig.parent if identity.mig is not None else None,
        mig_profile=identity.mig.profile if identity.mig is not None else None,
        mig_index=identity.mig.index if identity.mig is not None else None,
        sample_age_s=(now_ns - sample.taken_ns) / _SECOND_NS if view.sample is not None else None,
        drives_display=details.drives_display,
    )


_NO_SAMPLE: Final = GpuSample(
    uuid="",
    taken_ns=0,
    vram_total_bytes=None,
    vram_used_bytes=None,
    vram_free_bytes=None,
    vram_driver_reserved_bytes=None,
    utilization_core_percent=None,
    utilization_memory_percent=None,
    temperature_c=None,
    margin_c=None,
    margin_source=None,
    power_w=None,
    throttle_mask=None,
)
_NO_DETAILS: Final = GpuDetails(
    compute_mode=None,
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
