"""[leases]: how long what lasts, how many there may be, and the quotas of users and groups."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from supereziod.config.section import Section


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
