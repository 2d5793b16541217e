"""Every key of the configuration, with its type, its default and what it does.

In the file a duration may be text ("30s") or a number of seconds, and a size text ("8GiB") or a
number of bytes. Their fields carry the unit (`grace_s`, `reserve_bytes`), their keys do not
(`grace`, `reserve`). The descriptions are what docs/superezio.toml prints.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from supereziod.gpu.thermal import Thresholds

_MIB = 1 << 20


def key_of(name: str) -> str:
    """Return the key in the file of a field: the name without its unit."""
    return name.removesuffix("_bytes").removesuffix("_s")


class Section(Struct, frozen=True, kw_only=True, rename=key_of):
    """Base of all sections."""


class Socket(Section, frozen=True):
    mode: Annotated[
        str,
        Meta(
            pattern="^0[0-7]{3}$",
            description="Permissions of the socket where the daemon makes it itself. Refusal is"
            " per method, so that anyone may connect.",
        ),
    ] = "0666"
    backlog: Annotated[
        int, Meta(ge=16, description="Connections that may wait to be accepted.")
    ] = 4096


class Limits(Section, frozen=True):
    frame_bytes: Annotated[
        int, Meta(ge=4096, description="The longest line that is read from a client.")
    ] = field(default=_MIB, name="frame_size")
    connections: Annotated[
        int, Meta(ge=1, description="Connections in all. Each takes a file descriptor.")
    ] = 16384
    connections_per_user: Annotated[
        int, Meta(ge=1, description="Connections of one user; root is not limited.")
    ] = 8192
    requests_in_flight: Annotated[
        int, Meta(ge=1, description="Requests of one connection that are not answered yet.")
    ] = 256
    write_buffer_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            description="Replies that wait for a client to read them; beyond it, it is cut off.",
        ),
    ] = 4 * _MIB
    requests_per_second: Annotated[
        float, Meta(gt=0, description="Requests of one user, on average.")
    ] = 20_000.0
    request_burst: Annotated[
        int, Meta(ge=1, description="Requests of one user at once, beyond the average.")
    ] = 40_000
    subscriptions: Annotated[
        int, Meta(ge=1, description="Event subscriptions of one connection.")
    ] = 16
    sessions_per_user: Annotated[
        int, Meta(ge=1, description="Sessions of one user that may be open.")
    ] = 1024


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
    suspect_limit: Annotated[
        int, Meta(ge=1, description="Quarantine after so many transient faults ...")
    ] = 3
    suspect_window_s: Annotated[float, Meta(gt=0, description="... within this time.")] = 600.0
    quarantine_s: Annotated[
        float, Meta(gt=0, description="The first quarantine; it doubles with each relapse ...")
    ] = 60.0
    quarantine_max_s: Annotated[float, Meta(gt=0, description="... up to this.")] = 3600.0
    probation_s: Annotated[
        float, Meta(gt=0, description="Time without a fault after which a GPU is healthy again.")
    ] = 600.0
    harmless_xids: Annotated[
        list[int], Meta(description="XIDs that an application causes: they condemn no GPU.")
    ] = field(default_factory=lambda: [13, 31, 43, 45, 68])
    fatal_xids: Annotated[
        list[int], Meta(description="XIDs that put a GPU in quarantine at once.")
    ] = field(default_factory=lambda: [48, 62, 64, 74, 79, 95, 119, 120])


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
    process_period_busy_s: Annotated[
        float, Meta(gt=0, description="Time between two process lists while leases change.")
    ] = 5.0
    process_period_idle_s: Annotated[
        float, Meta(gt=0, description="Time between two process lists otherwise.")
    ] = 30.0
    sample_deadline_s: Annotated[
        float, Meta(gt=0, description="A GPU that takes longer for a sample is UNKNOWN.")
    ] = 3.0
    acquire_max_age_s: Annotated[
        float, Meta(gt=0, description="An acquire wants a process list no older than this ...")
    ] = 1.0
    acquire_patience_s: Annotated[
        float, Meta(gt=0, description="... and waits for it at most this long.")
    ] = 2.0
    retry_min_s: Annotated[
        float, Meta(gt=0, description="First wait before a lost driver or GPU is tried again ...")
    ] = 1.0
    retry_max_s: Annotated[float, Meta(gt=0, description="... doubling up to this.")] = 60.0
    thermal: Thermal = Thermal()
    fitness: Fitness = Fitness()
    override: dict[str, GpuOverride] = {}

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


class Leases(Section, frozen=True):
    grace_s: Annotated[
        float, Meta(ge=0, description="How long a connection lease outlives its connection.")
    ] = 5.0
    grace_after_start_s: Annotated[
        float, Meta(ge=0, description="The same, right after a start of the daemon.")
    ] = 30.0
    per_user: Annotated[int, Meta(ge=1, description="Leases that one user may hold.")] = 256
    queue: Annotated[int, Meta(ge=0, description="Acquires that may wait, in all ...")] = 256
    queue_per_user: Annotated[int, Meta(ge=0, description="... and of one user.")] = 64
    wait_maximum_s: Annotated[
        float, Meta(ge=0, description="The longest that an acquire may wait in the queue.")
    ] = 86_400.0
    return_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Released VRAM that the driver does not show free raises an"
            " alarm after this.",
        ),
    ] = 5.0
    growing_timeout_s: Annotated[
        float, Meta(gt=0, description="The longest that a lease counts as growing.")
    ] = 300.0
    priority_maximum_user: Annotated[
        int, Meta(ge=0, description="The highest priority that a user can ask for.")
    ] = 10
    priority_maximum_admin: Annotated[
        int, Meta(ge=0, description="The highest priority that an admin can ask for.")
    ] = 100


class Health(Section, frozen=True):
    period_s: Annotated[
        float, Meta(gt=0, description="Time between two evaluations when nothing changes.")
    ] = 1.0


class Watchdog(Section, frozen=True):
    grace_s: Annotated[
        float,
        Meta(
            ge=0,
            description="A GPU may be CRITICAL for this long before the host is unhealthy.",
        ),
    ] = 30.0
    on_overheat: Annotated[
        Literal["restart", "report"],
        Meta(
            description="restart: withhold systemd's pings, so that it restarts the daemon;"
            " report: never withhold them for heat.",
        ),
    ] = "restart"


class Access(Section, frozen=True):
    admin_users: Annotated[
        list[str], Meta(description="Users who may administer, besides root (names or ids).")
    ] = field(default_factory=list)
    admin_groups: Annotated[list[str], Meta(description="Groups that may administer.")] = field(
        default_factory=lambda: ["superezio-admin"]
    )
    user_groups: Annotated[
        list[str], Meta(description="Groups that may lease. Anybody may look.")
    ] = field(default_factory=lambda: ["superezio"])


class Logging(Section, frozen=True):
    format: Annotated[
        Literal["auto", "journald", "json", "console"],
        Meta(
            description="auto: the journal under systemd, text on a terminal, JSON elsewhere.",
        ),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description="Log from this level on."),
    ] = "info"


class Config(Section, frozen=True):
    """The whole configuration. Only the composition root sees it: parts are given values."""

    socket: Socket = Socket()
    limits: Limits = Limits()
    gpu: Gpu = Gpu()
    leases: Leases = Leases()
    health: Health = Health()
    watchdog: Watchdog = Watchdog()
    access: Access = Access()
    logging: Logging = Logging()
