"""metrics.*: figures for a monitoring system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from superezio.wire import MetricsText, NoParams
from supereziod.observability.metrics import MetricSource
from supereziod.rpc.requests import RequestContext

if TYPE_CHECKING:
    from supereziod.observability.exposition import Exposition


#: For how long a page is what holds now: to write one takes some milliseconds, in which nobody
#: else is answered, and is done so often at most, however many ask and however often.
FRESH_NS: Final = 250_000_000


class MetricsCommands:
    """Handlers of metrics.*.

    The library that writes the text is imported when it is first asked for, on a thread: a host
    that is not monitored pays nothing for it, and no other caller waits for it. Those who ask
    meanwhile share one answer, so that many at once are not written for one by one outside of
    their user's turn.
    """

    def __init__(
        self, sources: Sequence[MetricSource], *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._sources = tuple(sources)
        self._clock = clock
        self._page: MetricsText | None = None
        self._fresh_until_ns = 0
        self._exposition: Exposition | None = None
        self._first: asyncio.Future[MetricsText] | None = None

    def get(
        self, _request: RequestContext, _params: NoParams
    ) -> MetricsText | Awaitable[MetricsText]:
        """Return all metrics, as they stand or stood a quarter of a second ago."""
        if self._exposition is not None:
            return self._written(self._exposition)
        if self._first is None:
            self._first = asyncio.ensure_future(self._written_first())
        # Whoever asked first may go away: the others wait for it, too.
        return asyncio.shield(self._first)

    async def _written_first(self) -> MetricsText:
        try:
            self._exposition = await asyncio.to_thread(_exposition, self._sources)
            return self._written(self._exposition)
        finally:
            self._first = None

    def _written(self, exposition: Exposition) -> MetricsText:
        if self._page is None or self._clock() >= self._fresh_until_ns:
            self._page = _page(exposition)
            self._fresh_until_ns = self._clock() + FRESH_NS
        return self._page


def _exposition(sources: Sequence[MetricSource]) -> Exposition:
    from supereziod.observability.exposition import Exposition  # noqa: PLC0415 - see above

    return Exposition(sources)


def _page(exposition: Exposition) -> MetricsText:
    from supereziod.observability.exposition import CONTENT_TYPE  # noqa: PLC0415 - see above

    return MetricsText(content_type=CONTENT_TYPE, text=exposition.text())
