"""Files of the daemon's that somebody removes or replaces while it runs: seen, mended, told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from supereziod.observability.events import EventLog

#: For so long a file that is gone may be for nobody: what comes by then is in it, too.
_INTERVAL_S: Final = 2.0


class StateFile(Protocol):
    """A file that is kept open. What could not be mended is its owner's to tell, as a fault."""

    def look(self) -> str | None:
        """See whether it is still there. Return what was mended, as a sentence."""


class StateFiles:
    """Looks at them now and then. Loop-owned; start it, then close it."""

    def __init__(
        self, files: Iterable[StateFile], *, events: EventLog, interval_s: float = _INTERVAL_S
    ) -> None:
        self._files = tuple(files)
        self._events = events
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._run(), name="state-files")

    async def aclose(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def look(self) -> None:
        """Look at each once, and tell what was mended."""
        for file in self._files:
            mended = file.look()
            if mended is not None:
                self._events.emit("state.mended", mended, severity="warning")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.look()
