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
#: So many are sifted in one step; more of them a few at a time, as it takes long.
_FEW: Final = 256
#: How many are sifted then with each that goes. They are through before it is too much again.
_SIFTED: Final = 4


class Ends:
    """The ends of a group of entries. Which of these are still kept is known by their numbers.

    An entry is in several groups, and its end, which is small, is one object in all of them. What
    is gone stays until it comes up or until there is too much of it: then all are sifted, a few
    with each entry that goes, so that no step takes longer for there being many: O(log n).
    """

    __slots__ = ("_heap", "_unsifted")

    def __init__(self) -> None:
        self._heap: list[End] = []
        #: A heap, too: it stays one while it is taken away from its end.
        self._unsifted: list[End] = []

    def __len__(self) -> int:
        return len(self._heap) + len(self._unsifted)

    def add(self, end: End) -> None:
        """Take an entry's end in."""
        heappush(self._heap, end)

    def first_dead(self, now_ns: int, kept: Mapping[int, Entry]) -> Entry | None:
        """Return the kept entry that ended first, if one has ended. It stays until it is gone."""
        while True:
            heap = self._heap
            if self._unsifted and not (heap and heap[0] < self._unsifted[0]):
                heap = self._unsifted
            if not heap or heap[0][0] > now_ns:
                return None
            entry = kept.get(heap[0][1])
            if entry is not None:
                return entry
            heappop(heap)

    def tidy(self, count: int, kept: Mapping[int, Entry]) -> None:
        """Forget some that are gone. `count` of the group are kept."""
        heap = self._heap
        for _ in range(_AT_ONCE):
            if not heap or heap[0][1] in kept:
                break
            heappop(heap)
        if self._unsifted:
            self._sift(kept)
        elif len(heap) > count + count // 2 + _SPARE:
            if len(heap) > _FEW:
                self._heap, self._unsifted = [], heap
            else:
                self._heap = [end for end in heap if end[1] in kept]
                heapify(self._heap)

    def _sift(self, kept: Mapping[int, Entry]) -> None:
        for _ in range(min(_SIFTED, len(self._unsifted))):
            end = self._unsifted.pop()
            if end[1] in kept:
                heappush(self._heap, end)
