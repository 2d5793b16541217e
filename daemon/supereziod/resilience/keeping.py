"""What outlives a restart: each second, and at the end, parts say what they want to find again.

What is written is small and may be a second old: whoever reads it goes on the safe side. What must
not be lost a part has written at once, before anyone is told of it; in a storm of such news they
come together, in one write for a short while. It is in the state directory; where that cannot be
written, the health says so, everything else goes on, and it is tried again each second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Final, Protocol, runtime_checkable

from supereziod.resilience.sealing import Seal
from supereziod.storage import Documents, StorageError

_INTERVAL_S: Final = 1.0
#: What is urgent is written once in this time,
_SPACING_S: Final = 0.05
#: and in this many times as long as a write takes, where there is much or the disk is slow.
_WRITES_APART: Final = 20


class Kept(Protocol):
    """A part with something to be found again."""

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return it, or None where nothing is new; `final` where nothing comes after it."""


@runtime_checkable
class Sliced(Kept, Protocol):
    """A part that may have so much that saying it keeps others waiting."""

    def slices(self) -> Iterator[bytes | None]:
        """Do what a `snapshot` that is not final does, a little with each step.

        What comes last is what it would return, and nothing that it would be None; before that
        comes None. Others are answered between two steps, and may change what comes later.
        """


class Keeper:
    """Writes down what `parts` have, by their names. Loop-owned; start it, then close it."""

    def __init__(
        self,
        documents: Documents,
        parts: Mapping[str, Kept],
        *,
        interval_s: float = _INTERVAL_S,
        spacing_s: float = _SPACING_S,
        seal: Seal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts, and the seal to leave where all of them were written at the end.

        `clock` is in seconds: what a write takes is measured by it.
        """
        self._documents = documents
        self._parts = dict(parts)
        self._interval_s = interval_s
        self._spacing_s = spacing_s
        self._seal = seal
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        #: What could not be written yet, by part.
        self._unwritten: dict[str, bytes] = {}
        #: Parts with urgent news, while it is too early for another write.
        self._urgent: set[str] = set()
        self._spacing: asyncio.TimerHandle | None = None
        self._is_writing = False

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
            if self._spacing is not None:
                self._spacing.cancel()
            self.keep(final=True)
            if self._seal is not None and not self._unwritten:
                self._seal.set()

    def keep(self, *, final: bool = False) -> None:
        """Write what is new."""
        for name in self._parts:
            self._keep(name, final=final)

    def soon(self, name: str) -> None:
        """Write what is new in a part: before this returns, or with what comes soon after it.

        There are at most 20 such writes a second, which take about a twentieth of it. Nothing is
        done before `start` and after `aclose`, which write by themselves, nor out of a `snapshot`,
        which has it already.
        """
        if self._task is None or self._is_writing:
            return
        self._urgent.add(name)
        if self._spacing is None:
            self._keep_urgent()

    def _keep_urgent(self) -> None:
        self._spacing = None
        # Where the last write failed, to try is for each second: it takes time.
        if self._urgent and self._documents.fault is None:
            begun_s = self._clock()
            for name in self._urgent:
                self._keep(name)
            took_s = self._clock() - begun_s
            # It is no part of the request in which it is set.
            self._spacing = asyncio.get_running_loop().call_later(
                max(self._spacing_s, took_s * _WRITES_APART), self._keep_urgent, context=Context()
            )
        self._urgent.clear()

    def _keep(self, name: str, *, final: bool = False) -> None:
        self._is_writing = True
        try:
            body = self._parts[name].snapshot(final=final)
        finally:
            self._is_writing = False
        self._write(name, body)

    async def _keep_slice_by_slice(self, name: str, part: Sliced) -> None:
        body = None
        for body in part.slices():  # noqa: B007 - the last one is it
            await asyncio.sleep(0)
        self._write(name, body)

    def _write(self, name: str, body: bytes | None) -> None:
        if body is None:
            body = self._unwritten.get(name)
        if body is None:
            return
        self._unwritten[name] = body
        # The database keeps the fault for the health.
        with suppress(StorageError):
            self._documents.put(name, body)
            del self._unwritten[name]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            for name, part in self._parts.items():
                if isinstance(part, Sliced):
                    await self._keep_slice_by_slice(name, part)
                else:
                    self._keep(name)
