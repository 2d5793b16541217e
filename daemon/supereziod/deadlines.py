"""Many deadlines, one timer: for the earliest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_MIN_STALE: Final = 64


class Deadlines(Generic[Key]):
    """Calls `on_due` for each key whose time has come, on the event loop.

    Setting and dropping are O(log n): what was dropped or moved stays in the heap until it comes
    up, or until it outnumbers the rest.
    """

    def __init__(self, *, clock: Callable[[], int], on_due: Callable[[Key], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._due_ns: dict[Key, int] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0

    def set(self, key: Key, due_ns: int) -> None:
        """Call for `key` at `due_ns`, instead of any earlier agreement for it."""
        if self._due_ns.get(key) == due_ns:
            return
        self._due_ns[key] = due_ns
        self._serial += 1
        heappush(self._heap, (due_ns, self._serial, key))
        self._tidy()
        self._arm()

    def drop(self, key: Key) -> None:
        """Forget the key; fine if it is not there."""
        if self._due_ns.pop(key, None) is None:
            return
        self._tidy()
        self._arm()

    def get(self, key: Key) -> int | None:
        """Return when `key` is due."""
        return self._due_ns.get(key)

    def run_due(self) -> None:
        """Call for all whose time has come."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if self._is_current(entry):
                del self._due_ns[entry[2]]
                self._on_due(entry[2])
        self._arm()

    def close(self) -> None:
        """Forget all."""
        self._due_ns.clear()
        self._heap.clear()
        self._arm()

    def _tidy(self) -> None:
        if len(self._heap) > _MIN_STALE + 2 * len(self._due_ns):
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapify(self._heap)

    def _is_current(self, entry: tuple[int, int, Key]) -> bool:
        return self._due_ns.get(entry[2]) == entry[0]

    def _arm(self) -> None:
        while self._heap and not self._is_current(self._heap[0]):
            heappop(self._heap)
        due_ns = self._heap[0][0] if self._heap else None
        if self._timer is not None:
            if due_ns == self._timer_ns:
                return
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            delay_s = max(0, due_ns - self._clock()) / 1e9
            # What is due works for nobody's request: not for the one that happened to set it.
            self._timer = asyncio.get_running_loop().call_later(
                delay_s, self._on_timer, context=Context()
            )
            self._timer_ns = due_ns

    def _on_timer(self) -> None:
        self._timer = None
        self.run_due()
