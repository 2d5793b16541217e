"""Whether models may be stopped because the daemon failed: pure, and the only place that says so.

Three things have to hold at once: systemd says that the service failed by its watchdog or at its
start limit, the daemon stored that a GPU overheats, and a fresh reading of that moment still says
CRITICAL. Each function returns why not, in words for the journal; None where nothing is against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from superezio.wire import Level
from supereziod.health.record import StoredReasons, Withholding

SERVICE: Final = "superezio.service"
#: Results of a unit after which heat may be the cause. A restart cures whatever else is.
_WATCHDOG: Final = "watchdog"
_START_LIMIT: Final = "start-limit-hit"


class Trigger(Struct, frozen=True, kw_only=True):
    """Which unit failed, and its result as systemd has it; None where none did."""

    unit: str | None = None
    result: str | None = None
    exit_status: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Trigger:
        """Return what systemd (251 and newer) tells a unit that a failure starts."""
        return cls(
            unit=environ.get("MONITOR_UNIT"),
            result=environ.get("MONITOR_SERVICE_RESULT"),
            exit_status=environ.get("MONITOR_EXIT_STATUS"),
        )


class Heat(Struct, frozen=True, kw_only=True):
    """What a fresh reading says of one GPU. `is_cooling`: it is on its way to the level below."""

    uuid: str
    label: str
    level: Level
    temperature_c: int | None = None
    margin_c: int | None = None
    is_cooling: bool = False
    fault: str | None = None

    @property
    def words(self) -> str:
        """The GPU and how warm it is, for people."""
        if self.level == "unknown":
            return f"{self.label} cannot be read ({self.fault or 'it does not answer'})"
        cooling = ", cooling" if self.is_cooling else ""
        return f"{self.label} reads {self.level.upper()} at {self.temperature_c} C{cooling}"


def by_result(trigger: Trigger) -> str | None:
    """Return why this failure is not one of heat, whatever is stored and read."""
    if trigger.result is None:
        return f"{SERVICE} has not failed"
    if trigger.unit not in {None, SERVICE}:
        return f"it was {trigger.unit} that failed, not {SERVICE}"
    if trigger.result not in {_WATCHDOG, _START_LIMIT}:
        status = f", status {trigger.exit_status}" if trigger.exit_status else ""
        return (
            f"{SERVICE} failed with result {trigger.result}{status}, and heat makes it fail by its"
            " watchdog or at its start limit alone"
        )
    return None


def by_stored_reason(trigger: Trigger, stored: StoredReasons, *, boot_id: str) -> str | None:
    """Return why heat is not what the daemon stored before it failed."""
    reason = blamed(trigger, stored)
    if reason is None:
        return "the daemon stored no reason for which it withheld its watchdog pings"
    if reason.kind != "overheat":
        return f"the daemon did not withhold its watchdog pings for heat: {reason.message}"
    if reason.boot_id != boot_id:
        return "what the daemon stored of heat was before the host was started again"
    return None


def blamed(trigger: Trigger, stored: StoredReasons) -> Withholding | None:
    """Return the stored reason that belongs to this failure.

    A run that its watchdog ended has stored its own; an earlier run's says nothing of it. At the
    start limit there was no such run, and the last that stored one counts.
    """
    if trigger.result == _WATCHDOG:
        return stored.current
    return stored.current or stored.last


def by_reading(heats: Sequence[Heat], *, fault: str | None) -> str | None:
    """Return why a fresh reading does not say that a GPU is CRITICAL."""
    if any(heat.level == "critical" for heat in heats):
        return None
    if not heats:
        return f"no GPU can be read: {fault or 'the driver lists none'}"
    return "no GPU reads CRITICAL now: " + ", ".join(heat.words for heat in heats)
