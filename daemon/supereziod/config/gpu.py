"""[gpu]: the driver, the thermal ladder, fitness, the probe, and what differs for one GPU."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import asdict

from supereziod.config.section import Section
from supereziod.gpu.fitness import APPLICATION_XIDS, FATAL_XIDS, FitnessRules
from supereziod.gpu.patience import Patience
from supereziod.gpu.thermal import Thresholds


class Thermal(Section, frozen=True):
    """Margins are degrees Celsius from the temperature to the card's slowdown threshold."""

    warm_enter_c: Annotated[int, Meta(description="WARM from this margin down ...")] = 12
    warm_enter_s: Annotated[float, Meta(ge=0, description="... held for this long.")] = field(
        default=10.0, name="warm_enter_dwell"
    )
    warm_leave_c: Annotated[int, Meta(description="No longer WARM from this margin up ...")] = 17
    warm_leave_s: Annotated[float, Meta(ge=0, description="... held for this long.")] = field(
        default=30.0, name="warm_leave_dwell"
    )
    hot_enter_c: Annotated[
        int, Meta(description="HOT (no new leases) from this margin down ...")
    ] = 6
    hot_enter_s: Annotated[float, Meta(ge=0, description="... held for this long.")] = field(
        default=5.0, name="hot_enter_dwell"
    )
    hot_leave_c: Annotated[int, Meta(description="No longer HOT from this margin up ...")] = 12
    hot_leave_s: Annotated[float, Meta(ge=0, description="... held for this long.")] = field(
        default=60.0, name="hot_leave_dwell"
    )
    critical_enter_c: Annotated[
        int, Meta(description="CRITICAL (unhealthy) from this margin down ...")
    ] = 2
    critical_enter_samples: Annotated[
        int, Meta(ge=1, description="... in so many samples in a row, ...")
    ] = 3
    critical_throttle_s: Annotated[
        float, Meta(ge=0, description="... or while the hardware slows itself down for this long.")
    ] = field(default=10.0, name="critical_throttle_dwell")
    critical_leave_c: Annotated[
        int, Meta(description="No longer CRITICAL from this margin up ...")
    ] = 10
    critical_leave_s: Annotated[float, Meta(ge=0, description="... held for this long.")] = field(
        default=120.0, name="critical_leave_dwell"
    )
    throttle_samples: Annotated[
        int,
        Meta(ge=1, description="Thermal slowdown counts when it is seen in so many samples ..."),
    ] = 3
    throttle_window: Annotated[int, Meta(ge=1, description="... of the last so many.")] = 5
    unknown_after_periods: Annotated[
        int, Meta(ge=1, description="UNKNOWN after so many sample periods without a sample.")
    ] = 3
    unknown_good_samples: Annotated[
        int, Meta(ge=1, description="No longer UNKNOWN after so many good samples.")
    ] = 3
    slowdown_temperature_c: Annotated[
        int | None,
        Meta(description="Instead of the card's own slowdown threshold, or where it has none."),
    ] = None

    def __post_init__(self) -> None:
        """Refuse what the ladder refuses."""
        self.thresholds()

    def thresholds(self) -> Thresholds:
        """Return them as the ladder takes them."""
        return Thresholds(**asdict(self))


class Fitness(Section, frozen=True):
    """What condemns a GPU, and how it earns its way back."""

    ignored_xids: Annotated[
        list[int], Meta(description="XIDs that a program causes: they condemn no GPU.")
    ] = field(default_factory=lambda: sorted(APPLICATION_XIDS))
    fatal_xids: Annotated[
        list[int], Meta(description="XIDs that put a GPU in quarantine at once.")
    ] = field(default_factory=lambda: sorted(FATAL_XIDS))
    suspect_limit: Annotated[
        int, Meta(ge=1, description="Quarantine after so many transient faults ...")
    ] = 3
    suspect_window_s: Annotated[float, Meta(gt=0, description="... within this time.")] = 600.0
    quarantine_s: Annotated[
        float, Meta(gt=0, description="The first quarantine; it doubles with each relapse ...")
    ] = 600.0
    quarantine_limit_s: Annotated[float, Meta(gt=0, description="... up to this.")] = 86_400.0
    probation_s: Annotated[
        float, Meta(gt=0, description="Clean time after a quarantine until a GPU is healthy.")
    ] = 600.0
    forget_s: Annotated[
        float, Meta(gt=0, description="Clean time after which a relapse is forgotten.")
    ] = 3600.0
    watch_s: Annotated[
        float, Meta(gt=0, description="Time between samples beyond which nobody watched.")
    ] = 60.0

    def rules(self) -> FitnessRules:
        """Return them as the state machine takes them."""
        values = asdict(self)
        for name in ("ignored_xids", "fatal_xids"):
            values[name] = frozenset(values[name])
        return FitnessRules(**values)


class Probe(Section, frozen=True):
    """How long the probe and its supervision wait for what."""

    deadline_s: Annotated[
        float, Meta(gt=0, description="A GPU that takes longer for a sample is late.")
    ] = 1.0
    open_s: Annotated[
        float, Meta(gt=0, description="A driver that takes longer to open hangs.")
    ] = field(default=10.0, name="open_deadline")
    replace_after_s: Annotated[
        float, Meta(gt=0, description="A GPU that hangs for longer gets a probe of its own, ...")
    ] = 5.0
    trial_s: Annotated[
        float, Meta(gt=0, description="... is tried again at this interval, ...")
    ] = field(default=30.0, name="trial_interval")
    merge_after_s: Annotated[
        float,
        Meta(gt=0, description="... and goes back to the others when it answers for so long."),
    ] = 2.0
    lost_retry_s: Annotated[
        float, Meta(gt=0, description="A lost GPU is looked for at this interval.")
    ] = field(default=10.0, name="lost_interval")
    driver_s: Annotated[
        float, Meta(gt=0, description="First wait before a driver that is gone is tried again ...")
    ] = field(default=1.0, name="driver_retry")
    driver_limit_s: Annotated[float, Meta(gt=0, description="... doubling up to this.")] = field(
        default=60.0, name="driver_retry_limit"
    )

    def patience(self) -> Patience:
        """Return it as the supervision takes it."""
        return Patience(**{k: v for k, v in asdict(self).items() if k != "deadline_s"})


class GpuOverride(Section, frozen=True):
    """What differs for one GPU. `thermal` is the whole ladder, the common one included."""

    reserve_bytes: Annotated[
        int | None, Meta(description="VRAM of this GPU that is never leased.")
    ] = None
    thermal: Thermal | None = None


class Gpu(Section, frozen=True):
    driver: Annotated[
        Literal["nvml", "simulated"],
        Meta(description="nvml: the real GPUs; simulated: a model of some, for trying things out."),
    ] = "nvml"
    scenario: Annotated[
        str | None, Meta(description="What happens to the simulated GPUs: a scenario file.")
    ] = None
    reserve_bytes: Annotated[
        int, Meta(ge=0, description="VRAM of each GPU that is never leased (for a desktop, say).")
    ] = 0
    sample_period_s: Annotated[
        float, Meta(ge=0.05, description="Time between two samples of a GPU.")
    ] = 1.0
    busy_interval_s: Annotated[
        float, Meta(gt=0, description="Time between two process lists while leases change.")
    ] = field(default=5.0, name="process_interval_busy")
    idle_interval_s: Annotated[
        float, Meta(gt=0, description="Time between two process lists otherwise.")
    ] = field(default=30.0, name="process_interval_idle")
    thermal: Thermal = Thermal()
    fitness: Fitness = Fitness()
    probe: Probe = Probe()
    override: dict[str, GpuOverride] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a scenario for real GPUs: simulated ones are never chosen silently."""
        if self.scenario is not None and self.driver != "simulated":
            raise ValueError('a scenario needs driver = "simulated"')

    @property
    def reserve_by_gpu(self) -> dict[str, int]:
        """What is reserved on GPUs that have an amount of their own, by UUID."""
        return {
            uuid: own.reserve_bytes
            for uuid, own in self.override.items()
            if own.reserve_bytes is not None
        }

    @property
    def thermal_by_gpu(self) -> dict[str, Thermal]:
        """The ladders of GPUs that have one of their own, by UUID."""
        return {u: own.thermal for u, own in self.override.items() if own.thermal is not None}
