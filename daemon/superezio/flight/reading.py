"""Reads what is in a ring: by an id, or the newest first.

What takes long is done in slices. The generators here yield None between two of them, so that the
daemon can do other work meanwhile; what is overwritten meanwhile is gone, and not read by halves.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from superezio.flight.head import HEAD_BYTES, Era, Head, read_head
from superezio.flight.layout import (
    MAX_RECORD_BYTES,
    UNIT_BYTES,
    Found,
    Plain,
    newest,
    places,
    record_at,
)
from superezio.flight.marking import is_short, read_method, read_short
from superezio.flight.records import IN_FLIGHT, OK, Note, RequestNote, decode_note

_SLICE_BYTES: Final = 16 * 1024
#: Searching for bytes is faster than looking at each record.
_SEARCH_BYTES: Final = 256 * 1024
#: Records that are found at a time; each costs some microseconds.
_FOUND_A_SLICE: Final = 64
_NUMBERED: Final = re.compile(r"([0-9a-f]{16})\.([1-9][0-9]{0,18})")
_UNKNOWN_ERA: Final = Era(boot_id="", life=0, pid=0, wall_ns=0, plain_place=0, full_place=0)


class Entry(Struct, frozen=True, gc=False):
    """A request or a span, with the place of its record and the era that its times are of.

    `short`: there was no room for more than how it ended; how long it took is not known.
    """

    note: Note
    era: Era
    place: int
    short: bool = False

    @property
    def wall_ns(self) -> int:
        """When it was received or began, as nanoseconds since 1970."""
        return moment_of(self.note) + self.era.wall_ns


def moment_of(note: Note) -> int:
    """Return when it was received or began, by the monotonic clock."""
    return note.received_ns if isinstance(note, RequestNote) else note.started_ns


class Lanes:
    """What a ring's bytes are, by its head."""

    def __init__(self, buffer: memoryview, head: Head) -> None:
        full_at = HEAD_BYTES + head.plain_bytes
        self.plain = buffer[HEAD_BYTES:full_at]
        self.full = buffer[full_at : full_at + head.full_bytes]


class RingReader:
    """Reads a ring, while it is written, too.

    `head` returns what its head says now; `ends` returns the first place after the newest record,
    of the plain and of the full lane.
    """

    def __init__(
        self, lanes: Lanes, *, head: Callable[[], Head], ends: Callable[[], tuple[int, int]]
    ) -> None:
        self._lanes = lanes
        self._head = head
        self._ends = ends

    @classmethod
    def of(cls, buffer: memoryview) -> RingReader:
        """Return a reader of a file that nobody needs to be writing. Raises UnreadableRingError."""
        head, _ = read_head(buffer)
        lanes = Lanes(buffer, head)

        def ends() -> tuple[int, int]:
            return _end_of(lanes.plain), _end_of(lanes.full)

        return cls(lanes, head=lambda: head, ends=ends)

    def of_id(self, wanted: str, visible: Callable[[int], bool]) -> Iterator[Entry | None]:
        """Yield what is known of a correlation id or trace-id, in no order; None between slices.

        `visible` tells by the uid what may be shown.
        """
        numbered = _NUMBERED.fullmatch(wanted)
        if numbered is not None:
            yield from self._numbered(bytes.fromhex(numbered[1]), int(numbered[2]), visible)
        for found in _search(self._lanes.full, b'"%b"' % wanted.encode()):
            if found is None:
                yield None
                continue
            for entry in self._entries(found):
                note = entry.note
                if wanted in {note.correlation_id, note.trace_id} and visible(note.uid):
                    yield entry

    def newest_first(
        self,
        *,
        full: bool,
        short: bool = False,
        visible: Callable[[int], bool] = lambda _uid: True,
    ) -> Iterator[Entry | None]:
        """Yield the requests of a lane, those that were recorded last first; None between slices.

        The `full` lane has those that waited, failed, were about a lease, or have an id of their
        own; the other one those that were answered at once, and those that are recorded in
        `short`, which can be asked for alone.
        """
        wanted = {n for n, name in enumerate(self._head().methods) if is_short(name)}
        if short and not wanted:
            return
        plain_end, full_end = self._ends()
        lane, end = (self._lanes.full, full_end) if full else (self._lanes.plain, plain_end)
        for found in _backwards(lane, end):
            if found is None:
                yield None
                continue
            if found.plain is not None and (
                not visible(found.plain.uid) or (short and found.plain.method not in wanted)
            ):
                continue
            for entry in reversed(list(self._entries(found))):
                if isinstance(entry.note, RequestNote) and visible(entry.note.uid):
                    yield entry

    def _numbered(
        self, connection: bytes, number: int, visible: Callable[[int], bool]
    ) -> Iterator[Entry | None]:
        for found in _search(self._lanes.plain, connection):
            plain = found.plain if found is not None else None
            if plain is None:
                yield None
            elif (
                plain.connection == connection
                and 0 <= number - plain.number < plain.requests
                and visible(plain.uid)
            ):
                yield self._entry(plain, number)

    def _entries(self, found: Found) -> Iterator[Entry]:
        """Yield what a record tells: the requests of a plain one, or what a full one is about."""
        plain = found.plain
        if plain is not None:
            for number in range(plain.number, plain.number + plain.requests):
                yield self._entry(plain, number)
        elif (note := decode_note(found.payload)) is not None:
            yield Entry(note, self._era(found.place, plain=False), found.place)

    def _entry(self, plain: Plain, number: int) -> Entry:
        methods = self._head().methods
        connection = plain.connection.hex()
        name = methods[plain.method] if plain.method < len(methods) else ""
        short, outcome = is_short(name), OK
        method: str | None
        marks: list[str] = []
        if short:
            method, outcome = read_short(name)
        else:
            method, marks = read_method(name)
        note = RequestNote(
            connection=connection,
            number=number,
            correlation_id=plain.name or f"{connection}.{number}",
            session=plain.session.hex(),
            uid=plain.uid,
            pid=plain.pid,
            method=method or None,
            outcome=outcome,
            received_ns=plain.received_ns,
            duration_ns=None,
            marks=[(each, 0) for each in marks],
        )
        era = self._era(plain.place, plain=plain.name is None)
        return Entry(note, era, plain.place, short)

    def _era(self, place: int, *, plain: bool) -> Era:
        eras = self._head().eras
        starts = [era.plain_place if plain else era.full_place for era in eras]
        index = bisect_right(starts, place) - 1
        return eras[index] if index >= 0 else _UNKNOWN_ERA


def latest(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of time, each request once: as it was recorded last.

    One that waits is recorded when it begins to wait, and again when it is answered.
    """
    kept: dict[tuple[str, str, int], Entry] = {}
    for entry in entries:
        key = identity(entry)
        known = kept.get(key)
        if known is None or _waits(known.note):
            kept[key] = entry
    return sorted(kept.values(), key=order)


def order(entry: Entry) -> tuple[int, int]:
    """Return what entries are sorted by: their time, and within one read their numbers."""
    note = entry.note
    return entry.wall_ns, note.number if isinstance(note, RequestNote) else 0


def identity(entry: Entry) -> tuple[str, str, int]:
    """Return what tells a request, or a span, from all others."""
    note = entry.note
    if isinstance(note, RequestNote):
        return entry.era.boot_id, note.connection, note.number
    return entry.era.boot_id, "", entry.place


def _waits(note: Note) -> bool:
    return isinstance(note, RequestNote) and note.outcome == IN_FLIGHT


def _end_of(lane: memoryview) -> int:
    return newest(lane)[1]


def _backwards(lane: memoryview, end: int) -> Iterator[Found | None]:
    """Yield the records of a lane whose newest one ends at the place `end`, from the newest on."""
    size = len(lane)
    at = end % size
    stretches = [(start, stop) for start, stop in ((0, at), (at, size)) if start < stop]
    for first, last in stretches:
        stop = last
        while stop > first:
            start = max(first, stop - _SLICE_BYTES)
            for position, _ in reversed(list(places(lane, start, stop))):
                found = record_at(lane, position)
                if found is not None:
                    yield found
            yield None
            stop = start


def _search(lane: memoryview, needle: bytes) -> Iterator[Found | None]:
    """Yield the records that hold some bytes; None between slices."""
    size, start, done = len(lane), 0, 0
    while start < size:
        stop = min(size, start + _SEARCH_BYTES)
        # What stands across the end of the slice is found with it.
        text = bytes(lane[start : min(size, stop + len(needle))])
        at = text.find(needle)
        while at >= 0:
            found = _around(lane, start + at)
            if found is None:
                after = start + at + 1
            else:
                yield found
                after = found.place % size + found.size
                done += 1
                if done % _FOUND_A_SLICE == 0:
                    yield None
            at = text.find(needle, after - start)
        yield None
        start = stop


def _around(lane: memoryview, position: int) -> Found | None:
    """Return the record that a position is in."""
    at = position // UNIT_BYTES * UNIT_BYTES
    while at >= 0 and position - at < MAX_RECORD_BYTES:
        found = record_at(lane, at)
        if found is not None:
            return found if at + found.size > position else None
        at -= UNIT_BYTES
    return None
