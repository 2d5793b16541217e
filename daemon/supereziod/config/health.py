"""[health] and [watchdog]: when the host is unhealthy, and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from supereziod.config.section import Section


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
        Meta(
            gt=0,
            description="Good time after which the reason of a withheld ping is forgotten, or that"
            " the run before ended suddenly.",
        ),
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
