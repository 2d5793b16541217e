"""Telling a daemon again that had too much to do, for two seconds at most.

What a call holds is given back by telling so. Where that is refused for now (`busy`), the daemon
would keep it for as long as the connection lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from superezio.errors import BusyError, SuperezioError

T = TypeVar("T")

#: How long one guarded call waits in all to be heard.
INSIST_S: Final = 2.0
_SHORTEST_S: Final = 0.01


class Patience:
    """What is left of the time that one guarded call waits to be heard."""

    def __init__(self) -> None:
        self._left_s = INSIST_S

    def pause_s(self, error: SuperezioError) -> float | None:
        """Return how long to wait before telling again; None where that is of no use any more."""
        if not isinstance(error, BusyError) or error.retry_after_ms is None:
            return None
        pause_s = max(_SHORTEST_S, error.retry_after_ms / 1000)
        if pause_s > self._left_s:
            return None
        self._left_s -= pause_s
        return pause_s


class Tellings:
    """Tasks of an asyncio client that tell the daemon again, whether or not the caller stays."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def told(self, telling: Coroutine[Any, Any, T | None]) -> T | None:
        """Return what comes of `telling`, which goes on where the caller is cancelled.

        None where the client is closed meanwhile.
        """
        task = asyncio.create_task(telling, name="superezio-tell")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """Cancel all: what they were to give back returns with the connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
