"""Things that end at a time of their own: the next is known, and any can be taken out before."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: How many that were taken out may lie in the heap, besides as many as are there.
_SPARE: Final = 64


class Deadlines(Generic[T]):
    """Items by a number of their own, each with a deadline in nanoseconds.

    Every operation is amortised O(log n): what was taken out stays in the heap until it comes up,
    or until there is more of it than of what is left.
    """

    __slots__ = ("_heap", "_items", "_last")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._items: dict[int, T] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, at_ns: int, item: T) -> int:
        """Keep `item` until `at_ns` and return its number, which is never used again."""
        self._last += 1
        self._items[self._last] = item
        heappush(self._heap, (at_ns, self._last))
        return self._last

    def get(self, number: int) -> T | None:
        """Return the item of that number, if it is still there."""
        return self._items.get(number)

    def remove(self, number: int) -> None:
        """Take an item out; one that is gone may be taken out again."""
        self._items.pop(number, None)
        if len(self._heap) > 2 * len(self._items) + _SPARE:
            self._heap = [each for each in self._heap if each[1] in self._items]
            heapify(self._heap)

    def next_ns(self) -> int | None:
        """Return the earliest deadline, or None where nothing has one."""
        heap = self._heap
        while heap and heap[0][1] not in self._items:
            heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now_ns: int) -> T | None:
        """Take out and return the item whose deadline has come, the earliest first."""
        at_ns = self.next_ns()
        if at_ns is None or at_ns > now_ns:
            return None
        return self._items.pop(heappop(self._heap)[1])
