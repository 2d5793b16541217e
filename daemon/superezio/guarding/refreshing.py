"""Values that are refreshed behind the caller's back: by threads, or by tasks, of the client."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Final

_log: Final = logging.getLogger("superezio")

#: How many a blocking client refreshes at a time; each has a thread and a connection.
_THREADS: Final = 4
_TASKS: Final = 64


class RefreshThreads:
    """Threads, each for one value. They see the context variables of the call that began them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def begin(self, refresh: Callable[[], object], held: Callable[[], ExitStack]) -> bool:
        """Refresh with what the caller held until now; return False where too many do already."""
        with self._lock:
            if len(self._threads) >= _THREADS:
                return False
            thread = threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._run, refresh, held()),
                name="superezio-refresh",
            )
            self._threads.add(thread)
        thread.start()
        return True

    def join(self) -> None:
        """Wait until all are done."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

    def _run(self, refresh: Callable[[], object], held: ExitStack) -> None:
        try:
            with held:
                refresh()
        except Exception:  # noqa: BLE001 - nobody waits for it, and the cache was told
            _log.warning("could not refresh a cached value", exc_info=True)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())


class RefreshTasks:
    """Tasks, each for one value."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, refresh: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Refresh; return False where too many do already."""
        if len(self._tasks) >= _TASKS:
            return False
        task = asyncio.create_task(refresh(), name="superezio-refresh")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def aclose(self) -> None:
        """Cancel all, and wait until they have told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("could not refresh a cached value", exc_info=error)
