"""Events as text, or as JSON Lines."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from superezio import Client
from superezio.events import Events
from superezio.wire import Event, EventNotification
from superezioctl.context import Context
from superezioctl.output import Output
from superezioctl.views.text import STYLES


def follow(context: Context, *, types: Sequence[str], replay: int) -> Events:
    """Subscribe. That there is no daemon is said at once; one that restarts is waited for."""
    client = Client(context.socket_path, timeout_s=context.timeout_s)
    return client.events(types, replay=replay, patient=False)


def show(out: Output, notification: EventNotification) -> None:
    """Print one event, and before it how many were lost."""
    if out.json:
        members = {"event": notification.event, "lost": notification.lost}
        out.record(msgspec.json.encode(members))
        return
    if notification.lost:
        out.line(out.style(f"({notification.lost} events were lost here)", "warn"))
    show_event(out, notification.event)
    out.flush()


def show_event(out: Output, event: Event) -> None:
    """Print one event in a line."""
    style = STYLES.get(event.severity)
    type_ = f"{event.type:<16}"
    about = [f"lease {event.lease}"] if event.lease else []
    if event.correlation_id:
        about.append(f"correlation {event.correlation_id}")
    tail = out.style(f" [{', '.join(about)}]", "dim") if about else ""
    out.line(f"{event.time} {out.style(type_, style) if style else type_} {event.message}{tail}")
