"""What changed: one call both writes the journal and reaches the subscribers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from superezio.wire import Event, Severity
from supereziod.observability.correlation import current_scope
from supereziod.observability.event_history import EventHistory
from supereziod.observability.log_fields import LEADING_FIELDS, SCOPE_FIELDS

Listener = Callable[[Event], None]

_TAKEN: Final = frozenset({*LEADING_FIELDS, *SCOPE_FIELDS})


class EventLog:
    """A bounded history of events (see `event_history`), and those who want to hear of new ones.

    `emit` is synchronous and must be called on the event loop, right after the state it tells of
    was changed. A listener must not block and must not raise.
    """

    def __init__(
        self,
        *,
        capacity: int = 4096,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._history = EventHistory(capacity)
        self._listeners: list[Listener] = []
        self._log = logger if logger is not None else structlog.get_logger()
        self._now = now
        self.next_seq = 1

    def emit(
        self,
        type_: str,
        message: str,
        *,
        severity: Severity = "info",
        gpu: str | None = None,
        lease: str | None = None,
        uid: int | None = None,
        passing: bool = False,
        **data: Any,  # noqa: ANN401 - whatever msgspec can encode
    ) -> Event:
        """Record an event of `type_` (`family.what`); `message` is one plain sentence.

        `uid` is whom it belongs to, where it is personal. `data` goes to subscribers and journal
        alike: never secrets. What is called there as something that each line has (`level`, `pid`)
        is on the line with the family in front (`gpu_level`). A `passing` event is of use only to
        those who listen now, as the next of its kind takes its place: it is not kept for a replay,
        and the journal has it at debug.
        """
        scope = current_scope.get()
        event = Event(
            seq=self.next_seq,
            time=self._now().isoformat(timespec="milliseconds"),
            type=type_,
            severity=severity,
            message=message,
            gpu=gpu,
            lease=lease,
            uid=uid,
            correlation_id=scope.correlation_id if scope is not None else None,
            data=data,
        )
        self.next_seq += 1
        if not passing:
            self._history.add(event)
        fields = {"gpu": gpu, "lease": lease, "owner_uid": uid, "message": message}
        level = "debug" if passing else severity  # severities are levels of the log, too
        getattr(self._log, level)(
            type_, **{k: v for k, v in fields.items() if v is not None}, **_apart(type_, data)
        )
        for listener in tuple(self._listeners):
            listener(event)
        return event

    def recent(self, count: int) -> list[Event]:
        """Return up to `count` of the newest events that are kept, oldest first."""
        return self._history.recent(count)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each event from now on, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _apart(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return data by names that nothing else on a line has."""
    if _TAKEN.isdisjoint(data):
        return data
    family = type_.partition(".")[0]
    return {f"{family}_{name}" if name in _TAKEN else name: data[name] for name in data}
