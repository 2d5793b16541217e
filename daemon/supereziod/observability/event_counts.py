"""How often each event was told since the daemon started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from superezio.wire import Event
from supereziod.observability.events import EventLog
from supereziod.observability.metrics import Family, Metric, counter

_TOTAL: Final = counter("superezio_events_total", "Events that were told, by their type", "type")
#: What is in no table counts here, so that the values of the label stay bounded.
_OTHER: Final = "other"


class EventCounts:
    """Counts events by type, from now on. Each type has a sample from the start, 0 included."""

    families: Final[tuple[Family, ...]] = (_TOTAL,)

    def __init__(self, events: EventLog, *, types: Iterable[str]) -> None:
        self._counts = dict.fromkeys((*types, _OTHER), 0)
        events.listen(self._count)

    def collect(self) -> list[Metric]:
        """Return the counts."""
        return [Metric(_TOTAL, [((type_,), count) for type_, count in self._counts.items()])]

    def _count(self, event: Event) -> None:
        self._counts[event.type if event.type in self._counts else _OTHER] += 1
