"""metrics.*: figures for a monitoring system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from superezio.wire import MetricsText, NoParams
from supereziod.observability.metrics import MetricSource
from supereziod.rpc.requests import RequestContext

if TYPE_CHECKING:
    from supereziod.observability.exposition import Exposition


class MetricsCommands:
    """Handlers of metrics.*.

    The library that writes the text is imported when it is first asked for, on a thread: a host
    that is not monitored pays nothing for it, and no other caller waits for it.
    """

    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._sources = tuple(sources)
        self._exposition: Exposition | None = None

    def get(
        self, _request: RequestContext, _params: NoParams
    ) -> MetricsText | Awaitable[MetricsText]:
        """Return all metrics as they stand."""
        return self._first() if self._exposition is None else _written(self._exposition)

    async def _first(self) -> MetricsText:
        exposition = await asyncio.to_thread(_exposition, self._sources)
        if self._exposition is None:
            self._exposition = exposition
        return _written(self._exposition)


def _exposition(sources: Sequence[MetricSource]) -> Exposition:
    from supereziod.observability.exposition import Exposition  # noqa: PLC0415 - see above

    return Exposition(sources)


def _written(exposition: Exposition) -> MetricsText:
    from supereziod.observability.exposition import CONTENT_TYPE  # noqa: PLC0415 - see above

    return MetricsText(content_type=CONTENT_TYPE, text=exposition.text())
