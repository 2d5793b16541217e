"""The invalidations that came while fills were under way: each wins over an older fill."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

#: How many are remembered in a namespace; the fills that then are under way are all taken to be
#: outdated, which costs a fetch and gives nobody an outdated value.
MOST_REMEMBERED: Final = 4096


class Invalidations:
    """What was invalidated at which generation, as long as a fill may come that is older."""

    __slots__ = ("_all", "_count", "_forgotten", "_keys", "_tags")

    def __init__(self) -> None:
        self._forgotten = 0
        self.forget()

    def forget(self) -> None:
        """Forget all: no fill is under way."""
        self._all: list[int] = []
        self._keys: dict[str, list[int]] = {}
        self._tags: dict[str, list[int]] = {}
        self._count = 0

    def add_key(self, key: str, generation: int) -> None:
        """Remember that a key was deleted or set."""
        self._make_room(generation)
        self._keys.setdefault(key, []).append(generation)

    def add_tag(self, tag: str, generation: int) -> None:
        """Remember that all with a tag were deleted, what is being fetched with it included."""
        self._make_room(generation)
        self._tags.setdefault(tag, []).append(generation)

    def add_all(self, generation: int) -> None:
        """Remember that the namespace was cleared."""
        self._make_room(generation)
        self._all.append(generation)

    def first_after(self, generation: int, key: str, tags: Iterable[str]) -> int | None:
        """Return the first that outdates a fill of that generation, or None."""
        if generation < self._forgotten:
            return generation
        if not self._count:
            return None
        marks = [self._all, self._keys.get(key, ()), *(self._tags.get(tag, ()) for tag in tags)]
        later = [mark[at] for mark in marks if (at := bisect_right(mark, generation)) < len(mark)]
        return min(later, default=None)

    def _make_room(self, generation: int) -> None:
        if self._count >= MOST_REMEMBERED:
            self.forget()
            self._forgotten = generation
        self._count += 1
