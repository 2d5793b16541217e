"""Metrics of the GPUs and MIG instances: what they are, what they do, and how far they are trusted.

What is measured is told of a GPU that answers alone: the last temperature of one that hangs says
nothing of now. A MIG instance has its memory; temperature, power and the like are its GPU's, and
told of that only, so that sums and averages count them once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, get_args

from msgspec import Struct

from superezio.wire import FitnessState, GpuStatus, Level
from supereziod.gpu.hardware import (
    HW_POWER_BRAKE,
    HW_THERMAL_SLOWDOWN,
    SW_THERMAL_SLOWDOWN,
    GpuDetails,
    GpuSample,
    GpuView,
    Snapshot,
)
from supereziod.observability.metrics import (
    Family,
    Metric,
    Sample,
    counter,
    gauge,
    state_samples,
)

#: `gpu` is the index, as in `0`, of a MIG instance `0:1`; neither is stable over boots, `uuid` is.
GPU_LABELS: Final = ("gpu", "uuid")

_INFO: Final = gauge(
    "superezio_gpu_info",
    "Always 1; of a MIG instance `parent` is the UUID of its GPU",
    *GPU_LABELS,
    "name",
    "pci_bus_id",
    "parent",
    "mig_profile",
)
_STATUS: Final = gauge(
    "superezio_gpu_status", "1 for the status that the GPU has", *GPU_LABELS, "status"
)
_LEVEL: Final = gauge(
    "superezio_gpu_thermal_level", "1 for the level that the GPU is at", *GPU_LABELS, "level"
)
_FITNESS: Final = gauge(
    "superezio_gpu_fitness", "1 for what the GPU is trusted as", *GPU_LABELS, "fitness"
)
_CORDONED: Final = gauge(
    "superezio_gpu_cordoned", "1 where an admin keeps new leases off the GPU", *GPU_LABELS
)
_AGE: Final = gauge("superezio_gpu_sample_age_seconds", "Age of the newest reading", *GPU_LABELS)
_THROTTLING: Final = gauge(
    "superezio_gpu_throttling",
    "1 where the clocks of the GPU are held back for this reason",
    *GPU_LABELS,
    "reason",
)
_ECC: Final = counter(
    "superezio_gpu_ecc_errors_total",
    "ECC errors of the GPU's memory, as the driver counts them",
    *GPU_LABELS,
    "kind",
)

THROTTLE_REASONS: Final = {
    "sw_thermal_slowdown": SW_THERMAL_SLOWDOWN,
    "hw_thermal_slowdown": HW_THERMAL_SLOWDOWN,
    "hw_power_brake": HW_POWER_BRAKE,
}


class _Measured(Struct, frozen=True):
    """A family of one figure for each GPU: where it stands, in which unit, and whose it is."""

    family: Family
    read: Callable[[GpuSample, GpuDetails | None], float | None]
    of_instances: bool = False


def _measured(
    name: str,
    help_: str,
    read: Callable[[GpuSample], float | None],
    *,
    of_instances: bool = False,
) -> _Measured:
    return _Measured(
        gauge(f"superezio_gpu_{name}", help_, *GPU_LABELS), lambda s, _: read(s), of_instances
    )


def _detail(
    name: str,
    help_: str,
    read: Callable[[GpuDetails], float | None],
    declare: Callable[..., Family] = gauge,
) -> _Measured:
    return _Measured(
        declare(f"superezio_gpu_{name}", help_, *GPU_LABELS),
        lambda _, details: None if details is None else read(details),
    )


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6


_MEASURED: Final[tuple[_Measured, ...]] = (
    _measured("temperature_celsius", "Temperature of the core", lambda s: s.temperature_c),
    _measured("margin_celsius", "Degrees to the slowdown", lambda s: s.margin_c),
    _detail(
        "memory_temperature_celsius", "Temperature of the memory", lambda d: d.memory_temperature_c
    ),
    _measured(
        "memory_total_bytes", "VRAM there is", lambda s: s.vram_total_bytes, of_instances=True
    ),
    _measured(
        "memory_used_bytes", "VRAM in use by anyone", lambda s: s.vram_used_bytes, of_instances=True
    ),
    _measured(
        "utilization_ratio",
        "Part of the time in which something ran on the GPU, 0 to 1",
        lambda s: _ratio(s.utilization_core_percent),
    ),
    _measured("power_watts", "Power that the GPU draws", lambda s: s.power_w),
    _detail("power_limit_watts", "Power that it may draw", lambda d: d.power_limit_w),
    _detail(
        "energy_joules_total",
        "Energy drawn since the driver was loaded",
        lambda d: d.energy_j,
        counter,
    ),
    _detail(
        "fan_ratio",
        "Speed that the fans are to have, 0 to 1",
        lambda d: _ratio(d.fan_percent),
    ),
    _detail("core_clock_hertz", "Clock of the core", lambda d: _hertz(d.clock_core_mhz)),
    _detail(
        "memory_clock_hertz",
        "Clock of the memory",
        lambda d: _hertz(d.clock_memory_mhz),
    ),
)


class GpuMetrics:
    """The source of what is known of the GPUs."""

    families: Final[tuple[Family, ...]] = (
        _INFO,
        _STATUS,
        _LEVEL,
        _FITNESS,
        _CORDONED,
        _AGE,
        *(each.family for each in _MEASURED),
        _THROTTLING,
        _ECC,
    )

    def __init__(self, snapshot: Callable[[], Snapshot], *, clock: Callable[[], int]) -> None:
        self._snapshot = snapshot
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Return what the current snapshot has."""
        views = self._snapshot().gpus
        wholes = [view for view in views if view.identity.mig is None]
        yield Metric(_INFO, [(_identity(view), 1) for view in views])
        yield Metric(_STATUS, _states(views, get_args(GpuStatus), lambda view: view.status))
        yield Metric(_LEVEL, _states(wholes, get_args(Level), lambda view: view.level))
        yield Metric(_FITNESS, _states(wholes, get_args(FitnessState), lambda view: view.fitness))
        yield Metric(_CORDONED, [(gpu_labels(view), float(view.cordoned)) for view in views])
        yield Metric(_AGE, self._ages(views))
        for each in _MEASURED:
            of = views if each.of_instances else wholes
            yield Metric(each.family, list(_figures(of, each)))
        yield Metric(_THROTTLING, list(_throttling(wholes)))
        yield Metric(_ECC, list(_ecc(wholes)))

    def _ages(self, views: Sequence[GpuView]) -> list[Sample]:
        now_ns = self._clock()
        return [
            (gpu_labels(view), (now_ns - view.sample.taken_ns) / 1e9)
            for view in views
            if view.sample is not None
        ]


def gpu_labels(view: GpuView) -> tuple[str, str]:
    """Return the values of `GPU_LABELS`."""
    return view.identity.place, view.uuid


def _identity(view: GpuView) -> tuple[str, ...]:
    identity = view.identity
    mig = identity.mig
    of_part = ("", "") if mig is None else (mig.parent, mig.profile or "")
    return (*gpu_labels(view), identity.name, identity.pci_bus_id, *of_part)


def _states(
    views: Sequence[GpuView],
    states: tuple[str, ...],
    current: Callable[[GpuView], str],
) -> list[Sample]:
    return [
        sample
        for view in views
        for sample in state_samples(gpu_labels(view), states, current(view))
    ]


def _answering(
    views: Sequence[GpuView],
) -> Iterator[tuple[GpuView, GpuSample]]:
    for view in views:
        if view.status == "ok" and view.sample is not None:
            yield view, view.sample


def _figures(views: Sequence[GpuView], measured: _Measured) -> Iterator[Sample]:
    for view, sample in _answering(views):
        value = measured.read(sample, view.details)
        if value is not None:
            yield gpu_labels(view), value


def _throttling(views: Sequence[GpuView]) -> Iterator[Sample]:
    for view, sample in _answering(views):
        if sample.throttle_mask is not None:
            for reason, bit in THROTTLE_REASONS.items():
                yield (*gpu_labels(view), reason), float(bool(sample.throttle_mask & bit))


def _ecc(views: Sequence[GpuView]) -> Iterator[Sample]:
    for view, _ in _answering(views):
        if view.details is None:
            continue
        counts = {
            "corrected": view.details.ecc_corrected,
            "uncorrected": view.details.ecc_uncorrected,
        }
        for kind, count in counts.items():
            if count is not None:
                yield (*gpu_labels(view), kind), count
