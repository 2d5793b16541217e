"""The lane of records of what is answered at once: a store for each record, or for each that joins.

Most requests leave no record of their own: those of one connection and one method that follow each
other closely have one, which says from the first on how many they are.
"""

from __future__ import annotations

from typing import Final

from superezio.flight.layout import UNIT_BYTES, named_head, newest, plain_head, write_plain

#: Requests that come in within so long of the first one of their record are told as of its time.
SERIES_NS: Final = 10_000_000


class MethodMarks:
    """How the records of one method begin."""

    __slots__ = ("by_end", "named", "number", "plain")

    def __init__(self, number: int) -> None:
        #: How those of them begin that came to something that is told (see `marking`).
        self.by_end: dict[str, MethodMarks] = {}
        self.number = number
        self.plain = plain_head(number)
        self.named = named_head(number)


class Series:
    """The newest plain record of a connection, as long as further requests may join it.

    They are of its method, follow it without a gap in their numbers, and came in before
    `until_ns`. To join takes one store, of how many there are then, which follows from the number
    of the last one `before` them: `PlainLane.counts[at] = number - before`.
    """

    __slots__ = ("at", "before", "is_listed", "marks", "until_ns")

    def __init__(self) -> None:
        #: Whether the lane knows of it.
        self.is_listed = False
        self.marks: MethodMarks | None = None
        self.until_ns = 0
        self.before = 0
        self.at = 0

    def end(self) -> None:
        """Let nothing join any more."""
        self.until_ns = 0


class PlainLane:
    """The lane of what is answered at once."""

    __slots__ = ("_buffer", "_series", "counts", "place", "size")

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.size = len(buffer)
        #: Those begun since the lane was at its beginning.
        self._series: set[Series] = set()
        #: The same bytes, for stores of how many requests a record is for.
        self.counts = buffer.cast("I")
        #: Where the next record is to go: see `layout`.
        self.place = newest(buffer)[1] or self.size

    def write(self, head: bytes, who: bytes, number: int, received_ns: int) -> None:
        """Record requests of a method, as `head` says, from the one of that number on."""
        place = self.place
        self.place = place + UNIT_BYTES
        at = place % self.size
        if at == 0:
            self._end_series()
        write_plain(self._buffer, at, head, place, who, number, received_ns, place)

    def begin(
        self, series: Series, marks: MethodMarks, who: bytes, number: int, received_ns: int
    ) -> None:
        """Record one request, which others may join."""
        # As `write` does: a call costs as much again, and who takes turns with two methods begins
        # one each time.
        place = self.place
        self.place = place + UNIT_BYTES
        at = place % self.size
        if at == 0:
            self._end_series()
        write_plain(self._buffer, at, marks.plain, place, who, number, received_ns, place)
        series.marks = marks
        series.until_ns = received_ns + SERIES_NS
        series.before = number - 1
        series.at = at // 4 + 1
        if not series.is_listed:
            series.is_listed = True
            self._series.add(series)

    def forget(self, series: Series) -> None:
        """Let nothing join any more, for good."""
        series.end()
        self._series.discard(series)

    def release(self) -> None:
        """Let go of the memory."""
        self.counts.release()

    def _end_series(self) -> None:
        """Have no record changed whose place may be taken by another from now on."""
        for series in self._series:
            series.end()
            series.is_listed = False
        self._series.clear()
