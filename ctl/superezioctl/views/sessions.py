"""Sessions as text."""

from __future__ import annotations

import msgspec

from superezio.quantities import format_duration
from superezio.wire import Session, SessionList
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, figure, fit, user


def show(out: Output, raw: bytes) -> None:
    """Print a line for each session, those with the most requests first."""
    found = msgspec.json.decode(raw, type=SessionList).sessions
    if not found:
        out.line("there are no sessions")
        return
    busiest = sorted(found, key=lambda each: each.requests, reverse=True)
    header = ["SESSION", "NAME", "USER", "PID", "CONN", "REQUESTS", "ERRORS", "IDLE", "USED"]
    out.table(
        header, list(map(_row, busiest)), right=(3, 4, 5, 6), spare=(4, 3, 7, 6), cut=(8, 1, 2)
    )


def _row(session: Session) -> list[str]:
    used = ", ".join(f"{count} {what}" for what, count in sorted(session.used.items()))
    return [
        session.session_id,
        fit(session.name or NOTHING, 20),
        user(session.uid),
        figure(session.pid),
        str(session.connections),
        str(session.requests),
        str(session.errors),
        NOTHING if session.connections else format_duration(session.idle_s),
        used or NOTHING,
    ]
