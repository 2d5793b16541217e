"""What outlives a restart: each second, and at the end, parts say what they want to find again.

What is written is small and may be a second old: whoever reads it goes on the safe side. It is in
the state directory; where that cannot be written, the health says so and everything else goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol

from supereziod.storage import Documents, StorageError

_INTERVAL_S: Final = 1.0


class Kept(Protocol):
    """A part with something to be found again."""

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return it, or None where nothing is new; `final` where nothing comes after it."""


class Keeper:
    """Writes down what `parts` have, by their names. Loop-owned; start it, then close it."""

    def __init__(
        self, documents: Documents, parts: Mapping[str, Kept], *, interval_s: float = _INTERVAL_S
    ) -> None:
        self._documents = documents
        self._parts = dict(parts)
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def found(self, name: str) -> bytes | None:
        """Return what a part said last before this start; None where that cannot be read."""
        try:
            return self._documents.get(name)
        except StorageError:
            return None

    async def start(self) -> None:
        """Write from now on.

        The first time at once: what is there may say that nothing came after it.
        """
        self.keep()
        self._task = asyncio.create_task(self._run(), name="keeper")

    async def aclose(self) -> None:
        """Write for the last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self.keep(final=True)

    def keep(self, *, final: bool = False) -> None:
        """Write what is new."""
        for name, part in self._parts.items():
            body = part.snapshot(final=final)
            if body is not None:
                # The database keeps the fault for the health, and tries again next time.
                with suppress(StorageError):
                    self._documents.put(name, body)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.keep()
