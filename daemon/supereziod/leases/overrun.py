"""When a holder has used more on a GPU than it reserved there, and for long enough to be told.

Only what the driver gives by process counts: an estimate never exceeds what is reserved. A lease
that is growing does not count either. It has been promised that nothing else starts meanwhile, so
that nobody is hurt by what it takes, and a program that sizes itself may take more for a moment
than it keeps. Once it has grown, what it uses is judged as any other's.
"""

from __future__ import annotations

from typing import Final

from supereziod.leases.growth import SPACING_NS

#: Use is an overrun in so many passes ...
_PASSES: Final = 3
#: ... that show more than this part of what is reserved.
_MOST_PERCENT: Final = 110


class Overrun:
    """One holder on one GPU: in how many passes in a row it has used too much.

    Passes that come quickly one after the other count once. `told`: this overrun was told of.
    """

    __slots__ = ("_count", "_counted_ns", "told")

    def __init__(self) -> None:
        self._count = 0
        self._counted_ns = 0
        self.told = False

    def clear(self) -> None:
        """Begin anew: it uses no more than it may, or is growing."""
        self._count = 0
        self.told = False

    def weigh(self, *, reserved_bytes: int, used_bytes: int, taken_ns: int) -> bool:
        """Take in what a pass shows, and tell whether that is an overrun now."""
        if used_bytes * 100 <= reserved_bytes * _MOST_PERCENT:
            self.clear()
            return False
        if self._count == 0 or taken_ns - self._counted_ns >= SPACING_NS:
            self._count += 1
            self._counted_ns = taken_ns
        return self._count >= _PASSES
