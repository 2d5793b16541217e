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
    that is not monitored pays nothing for it, and no other caller waits for it. Those who ask
    meanwhile share one answer, so that many at once are not written for one by one outside of
    their user's turn.
    """

    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._sources = tuple(sources)
        self._exposition: Exposition | None = None
        self._first: asyncio.Future[MetricsText] | None = None

    def get(
        self, _request: RequestContext, _params: NoParams
    ) -> MetricsText | Awaitable[MetricsText]:
        """Return all metrics as they stand."""
        if self._exposition is not None:
            return _written(self._exposition)
        if self._first is None:
            self._first = asyncio.ensure_future(self._written_first())
        # Whoever asked first may go away: the others wait for it, too.
        return asyncio.shield(self._first)

    async def _written_first(self) -> MetricsText:
        try:
            self._exposition = await asyncio.to_thread(_exposition, self._sources)
            return _written(self._exposition)
        finally:
            self._first = None


def _exposition(sources: Sequence[MetricSource]) -> Exposition:
    from supereziod.observability.exposition import Exposition  # noqa: PLC0415 - see above

    return Exposition(sources)


def _written(exposition: Exposition) -> MetricsText:
    from supereziod.observability.exposition import CONTENT_TYPE  # noqa: PLC0415 - see above

    return MetricsText(content_type=CONTENT_TYPE, text=exposition.text())
