"""Events as text, or as JSON Lines."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from superezio import Client
from superezio.errors import SuperezioError
from superezio.events import Events
from superezio.wire import Event, EventNotification, GpuList
from superezioctl.context import Context
from superezioctl.output import Output
from superezioctl.views.text import STYLES, place
from superezioctl.wording import has_uuid, with_places, with_users


def follow(context: Context, *, types: Sequence[str], replay: int) -> Events:
    """Subscribe. That there is no daemon is said at once; one that restarts is waited for."""
    client = Client(context.socket_path, timeout_s=context.timeout_s)
    return client.events(types, replay=replay, patient=False)


class Places:
    """What GPUs go by, to speak of them as people do; asked for when a message names one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._places: dict[str, str] = {}
        self._unknown = ""

    def named(self, message: str) -> str:
        """Return a message with the places of GPUs and the names of users."""
        named = with_places(message, self._places)
        if has_uuid(named) and named != self._unknown:
            self._look()
            named = with_places(message, self._places)
            self._unknown = named if has_uuid(named) else self._unknown
        return with_users(named)

    def _look(self) -> None:
        """Ask for the GPUs. That there is no answer is no failure: there is the UUID."""
        try:
            raw = self._context.call("gpu.list", retry=False)
        except SuperezioError:
            return
        gpus = msgspec.json.decode(raw, type=GpuList).gpus
        self._places = {gpu.uuid: place(gpu.index, gpu.mig_index) for gpu in gpus}


def show(out: Output, notification: EventNotification, places: Places) -> None:
    """Print one event, and before it how many were lost."""
    if out.json:
        members = {"event": notification.event, "lost": notification.lost}
        out.record(msgspec.json.encode(members))
        return
    if notification.lost:
        out.line(out.style(f"({notification.lost} events were lost here)", "warn"))
    show_event(out, notification.event, places)
    out.flush()


def show_event(out: Output, event: Event, places: Places) -> None:
    """Print one event in a line."""
    style = STYLES.get(event.severity)
    type_ = f"{event.type:<16}"
    about = [f"lease {event.lease}"] if event.lease else []
    if event.correlation_id:
        about.append(f"correlation {event.correlation_id}")
    tail = out.style(f" [{', '.join(about)}]", "dim") if about else ""
    # It may quote what others have named, and is one line.
    message = places.named(event.message).replace("\n", " ")
    out.line(f"{event.time} {out.style(type_, style) if style else type_} {message}{tail}")
