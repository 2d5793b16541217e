"""Health as text."""

from __future__ import annotations

import msgspec

from superezio.quantities import format_duration
from superezio.wire import Health, HealthReason
from superezioctl.output import Output
from superezioctl.views.text import styled

#: The check that fails, at first without showing, until each GPU has been read.
_STARTING = "starting"
_IN_THE_WAY = ("driver", "probe", "probe_detached")
NOT_READ_YET = "the GPUs have not been read yet: ask again in a moment"


def is_starting(health: Health) -> bool:
    """Whether the GPUs have not been read yet, and nothing is known to be in the way of that."""
    failing = {check.check for check in health.checks if not check.passing}
    return _STARTING in failing and failing.isdisjoint(_IN_THE_WAY)


def show(out: Output, raw: bytes, *, every_check: bool) -> str:
    """Print the verdict with reasons, and return it."""
    health = msgspec.json.decode(raw, type=Health)
    out.line(styled(out, health.verdict))
    for reason in health.reasons:
        show_reason(out, reason)
    if is_starting(health) and all(reason.check != _STARTING for reason in health.reasons):
        out.paragraph(f"  {NOT_READ_YET}")
    if health.watchdog_withheld:
        out.line("The watchdog is not pinged: systemd restarts the daemon unless this gets better.")
    if every_check:
        out.line()
        out.table(
            ("CHECK", "GPU", "STATE", "MESSAGE"),
            [
                (
                    check.check,
                    check.gpu or "-",
                    _state(passing=check.passing, hidden_by=check.hidden_by),
                    check.message,
                )
                for check in health.checks
            ],
        )
    return health.verdict


def show_reason(out: Output, reason: HealthReason) -> None:
    """Print one reason and what mends it."""
    since = format_duration(reason.since_s)
    severity = styled(out, reason.severity)
    out.paragraph(f"  {severity} {reason.message} (for {since}) [{reason.check}]")
    if reason.action:
        out.paragraph(f"    {reason.action}")


def _state(*, passing: bool, hidden_by: str | None) -> str:
    if hidden_by is not None:
        return f"hidden by {hidden_by}"
    return "passes" if passing else "fails"
