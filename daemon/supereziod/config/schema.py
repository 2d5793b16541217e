"""Every key of the configuration, with its type, its default and what it does.

In the file a duration may be text ("30s") or a number of seconds, and a size text ("8GiB") or a
number of bytes. Their fields carry the unit (`grace_s`, `reserve_bytes`), their keys do not
(`grace`, `reserve`). The descriptions are what docs/superezio.toml prints.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import asdict

from supereziod.config.breakers import Breaker
from supereziod.config.cache import Cache
from supereziod.config.limits_shared import Limit
from supereziod.config.recorder import Recorder
from supereziod.config.section import Section
from supereziod.gpu.fitness import APPLICATION_XIDS, FATAL_XIDS, FitnessRules
from supereziod.gpu.patience import Patience
from supereziod.gpu.thermal import Thresholds

_MIB = 1 << 20


class Limits(Section, frozen=True):
    """What one caller, and all together, may take. The daemon's own connection is exempt."""

    max_frame_bytes: Annotated[
        int, Meta(ge=4096, description="The longest line that is read from a client.")
    ] = field(default=_MIB, name="frame_size")
    max_batch: Annotated[int, Meta(ge=1, description="Requests in one batch.")] = 1000
    connections: Annotated[
        int, Meta(ge=1, description="Connections in all: as many as files may be open, at most.")
    ] = 10_000
    connections_reserved: Annotated[
        int, Meta(ge=0, description="Of these, kept free for admins.")
    ] = 64
    connections_per_uid: Annotated[
        int, Meta(ge=1, description="Connections of one user who is no admin.")
    ] = 6000
    in_flight: Annotated[
        int, Meta(ge=1, description="Requests that are not answered yet, in all ...")
    ] = 20_000
    in_flight_per_uid: Annotated[
        int, Meta(ge=1, description="... of one user who is no admin ...")
    ] = 5_000
    in_flight_per_connection: Annotated[
        int, Meta(ge=1, description="... and of one connection.")
    ] = 256
    subscriptions_per_connection: Annotated[
        int, Meta(ge=1, description="Event subscriptions of one connection ...")
    ] = 16
    subscriptions_per_uid: Annotated[
        int, Meta(ge=1, description="... and of one user who is no admin.")
    ] = 256
    events_per_subscription: Annotated[
        int,
        Meta(
            ge=1,
            description="Events kept for a subscriber that does not read; it is told how many it"
            " lost.",
        ),
    ] = 1024
    write_high_water_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            description="Answers that are sent at once. A client that leaves any of them is not"
            " listened to until it has read them.",
        ),
    ] = 256 * 1024
    write_buffer_bytes: Annotated[
        int, Meta(ge=65536, description="With more than this to read, a client is cut off.")
    ] = 8 * _MIB
    stall_timeout_s: Annotated[
        float, Meta(gt=0, description="A client that reads nothing for so long is cut off.")
    ] = 60.0
    requests_per_second: Annotated[
        int, Meta(ge=1, description="Requests of one user, on average.")
    ] = 20_000
    requests_burst: Annotated[int, Meta(ge=1, description="Requests of one user at once.")] = 20_000
    write_buffer_per_uid_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="With more than this to read over all its connections, those of a user that"
            " have most are cut off, ...",
        ),
    ] = 64 * _MIB
    write_buffer_all_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="... and where all clients together have more than this to read, those of"
            " the user who has most.",
        ),
    ] = 256 * _MIB
    read_buffer_per_uid_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="With more than this of requests that wait to be worked on, or to be sent"
            " to their end, over all its connections, those of a user that have most are cut"
            " off, ...",
        ),
    ] = 64 * _MIB
    read_buffer_all_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="... and where all clients together have more than this of it, those of"
            " the user who has most.",
        ),
    ] = 256 * _MIB


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


class Quota(Section, frozen=True):
    vram_bytes: Annotated[
        int | None,
        Meta(
            description="The most VRAM that each user may have leased at a time, all GPUs added up."
            " Nobody is held to a limit that is not set, and admins are held to none."
        ),
    ] = None
    leases: Annotated[
        int | None, Meta(description="The most leases that each user may have at a time.")
    ] = None

    def __post_init__(self) -> None:
        """Refuse what is no amount."""
        if self.leases is not None and self.leases < 0:
            raise ValueError("leases cannot be less than 0")


class Quotas(Section, frozen=True):
    """`default` is for each user without a quota of its own; a group's is one for its members."""

    default: Quota = Quota()
    user: dict[str, Quota] = field(default_factory=dict)
    group: dict[str, Quota] = field(default_factory=dict)


class Leases(Section, frozen=True):
    grace_s: Annotated[
        float, Meta(ge=0, description="How long a connection lease outlives its connection.")
    ] = 5.0
    restart_grace_s: Annotated[
        float, Meta(ge=0, description="The same, right after a start of the daemon.")
    ] = 30.0
    max_leases: Annotated[int, Meta(ge=1, description="Leases in all ...")] = field(
        default=4096, name="maximum"
    )
    max_leases_per_uid: Annotated[int, Meta(ge=1, description="... and of one user.")] = field(
        default=1024, name="maximum_per_uid"
    )
    queue: Annotated[int, Meta(ge=0, description="Acquires that may wait, in all ...")] = 256
    queue_per_uid: Annotated[int, Meta(ge=0, description="... and of one user.")] = 64
    max_passed: Annotated[
        int,
        Meta(ge=0, description="How often an acquire may be passed over by later, smaller ones."),
    ] = field(default=16, name="queue_passes")
    max_wait_s: Annotated[
        float, Meta(ge=0, description="The longest that an acquire may wait in the queue.")
    ] = field(default=86_400.0, name="wait_maximum")
    max_age_s: Annotated[
        float, Meta(gt=0, description="A decision wants a reading no older than this ...")
    ] = field(default=1.0, name="reading_age")
    probe_deadline_s: Annotated[
        float, Meta(gt=0, description="... and waits for a new one at most this long.")
    ] = field(default=2.0, name="reading_deadline")
    return_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Released VRAM that the driver does not show free raises an alarm after"
            " this.",
        ),
    ] = 5.0
    growing_timeout_s: Annotated[
        float, Meta(gt=0, description="The longest that a lease counts as growing.")
    ] = 300.0
    revoke_deadline_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="What the holder of a revoked lease has to end in, unless who revokes it"
            " says otherwise; then the lease is lost.",
        ),
    ] = 30.0
    drain_step_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Leases on a critically hot GPU are told to end within watchdog.grace, the"
            " lowest priority at once and the next ones after this each.",
        ),
    ] = 5.0
    on_overrun: Annotated[
        Literal["notify", "revoke"],
        Meta(
            description="When a holder uses a tenth more than it reserved. notify: it is told, and"
            " the lease is raised to what is used; revoke: it is asked to give the lease back, too."
        ),
    ] = "notify"
    idle_timeout_s: Annotated[
        float,
        Meta(gt=0, description="A lease of which nothing is used for this long is idle, ..."),
    ] = 900.0
    on_idle: Annotated[
        Literal["notify", "revoke"],
        Meta(description="... and is told so, or asked to be given back, too (revoke)."),
    ] = "notify"
    peer_pidfds: Annotated[
        bool,
        Meta(
            description="Take a holder from the kernel with its connection; false: from its pid and"
            " start time, as on kernels before 6.5.",
        ),
    ] = True
    max_priority_user: Annotated[
        int, Meta(ge=0, description="The highest priority that a user can ask for ...")
    ] = field(default=100, name="priority_maximum_user")
    max_priority_admin: Annotated[int, Meta(ge=0, description="... and an admin.")] = field(
        default=1000, name="priority_maximum_admin"
    )
    quota: Quotas = Quotas()


class Health(Section, frozen=True):
    interval_s: Annotated[
        float, Meta(gt=0, description="Time between two evaluations when nothing changes.")
    ] = 1.0
    lag_limit_s: Annotated[
        float, Meta(gt=0, description="The daemon is degraded when it runs late by more.")
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
    forget_after_s: Annotated[
        float,
        Meta(gt=0, description="Good time after which the reason of a withheld ping is forgotten."),
    ] = 900.0
    cool_within_s: Annotated[
        float,
        Meta(
            gt=0,
            description="superezio-overheat.service, which stops the models where restarts did not"
            " help, waits this long for the GPUs to be cool, ...",
        ),
    ] = 1800.0
    cool_retry_s: Annotated[
        float, Meta(gt=0, description="... and after that looks again at this interval.")
    ] = field(default=300.0, name="cool_retry_interval")


class Access(Section, frozen=True):
    user_groups: Annotated[
        list[str],
        Meta(
            description="Groups that may lease, and use breakers, limits and the cache (names or"
            " ids). Anybody may see the GPUs and how the host is."
        ),
    ] = field(default_factory=lambda: ["superezio"])
    admin_groups: Annotated[
        list[str], Meta(description="Groups that may administer, besides root.")
    ] = field(default_factory=lambda: ["superezio-admin"])
    users: Annotated[list[str], Meta(description="Users who may do the same.")] = field(
        default_factory=list
    )
    admins: Annotated[list[str], Meta(description="Users who may administer.")] = field(
        default_factory=list
    )


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

    limits: Limits = Limits()
    gpu: Gpu = Gpu()
    leases: Leases = Leases()
    health: Health = Health()
    watchdog: Watchdog = Watchdog()
    access: Access = Access()
    logging: Logging = Logging()
    limit: Limit = Limit()
    recorder: Recorder = Recorder()
    breaker: Breaker = Breaker()
    cache: Cache = Cache()
