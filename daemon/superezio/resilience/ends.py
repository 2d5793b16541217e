"""When entries end: those that are dead are found one at a time, the earliest first."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from superezio.resilience.namespaces import Entry

#: An entry's end, in nanoseconds, and its number.
End = tuple[int, int]
#: How many that are gone may lie among the others, besides one for two that are kept.
_SPARE: Final = 64
#: How many that are gone are taken from the top when something has gone.
_AT_ONCE: Final = 4


class Ends:
    """The ends of a group of entries. Which of these are still kept is known by their numbers.

    An entry is in several groups, and its end, which is small, is one object in all of them. What
    is gone stays until it comes up or until there is too much of it: amortised O(log n).
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[End] = []

    def add(self, end: End) -> None:
        """Take an entry's end in."""
        heappush(self._heap, end)

    def first_dead(self, now_ns: int, kept: Mapping[int, Entry]) -> Entry | None:
        """Return the kept entry that ended first, if one has ended. It stays until it is gone."""
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            entry = kept.get(heap[0][1])
            if entry is not None:
                return entry
            heappop(heap)
        return None

    def tidy(self, count: int, kept: Mapping[int, Entry]) -> None:
        """Forget some that are gone, or all where it is too much. `count` of the group are kept."""
        heap = self._heap
        for _ in range(_AT_ONCE):
            if not heap or heap[0][1] in kept:
                break
            heappop(heap)
        if len(heap) > count + count // 2 + _SPARE:
            self._heap = [end for end in heap if end[1] in kept]
            heapify(self._heap)
