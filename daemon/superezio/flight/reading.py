"""Reads what is in a ring: by an id, or the newest first.

What takes long is done in slices. The generators here yield None between two of them, so that the
daemon can do other work meanwhile; what is overwritten meanwhile is gone, and not read by halves.
"""

from __future__ import annotations

import re
import sys
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

#: How many records and requests are looked at in one slice: each costs some microseconds, and one
#: record may tell of hundreds of requests.
LOOKED_AT_A_SLICE: Final = 64
_SLICE_BYTES: Final = LOOKED_AT_A_SLICE * UNIT_BYTES
#: Searching for bytes is faster than looking at each record.
_SEARCH_BYTES: Final = 256 * 1024
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


def _any(_of: object) -> bool:
    return True


class Sieve(Struct, frozen=True, kw_only=True):
    """Which records are looked into; the others are passed over as a whole, at little cost.

    `visible` tells by the uid, `of_method` by the method. `at_once`: also those of requests that
    were answered at once, which neither failed nor took long. `floor_ns` returns the time, in
    nanoseconds since 1970, before which nothing is wanted. Of one record, `most` requests are
    enough, the newest.
    """

    visible: Callable[[int], bool] = _any
    of_method: Callable[[str | None], bool] = _any
    at_once: bool = True
    floor_ns: Callable[[], int] = int
    most: int = sys.maxsize


_ALL: Final = Sieve()


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

    def newest_first(self, *, full: bool, sieve: Sieve = _ALL) -> Iterator[Entry | None]:
        """Yield the requests of a lane, those that were recorded last first; None between slices.

        The `full` lane has those that waited, failed, were about a lease, or have an id of their
        own; the other one those that were answered at once, and those that are recorded in short.
        """
        if not (full or sieve.at_once or any(map(is_short, self._head().methods))):
            return
        plain_end, full_end = self._ends()
        lane, end = (self._lanes.full, full_end) if full else (self._lanes.plain, plain_end)
        kinds = _Kinds(self._head, sieve)
        looked_at = 0
        for found in _backwards(lane, end):
            if found is None:
                looked_at = 0
                yield None
                continue
            entries = self._sifted(found, sieve, kinds)
            if entries is None:
                return
            for entry in entries:
                looked_at += 1
                if looked_at % LOOKED_AT_A_SLICE == 0:
                    yield None
                yield entry

    def _sifted(self, found: Found, sieve: Sieve, kinds: _Kinds) -> Iterable[Entry] | None:
        """Return what is wanted of a record; None where all that is older is too old."""
        plain = found.plain
        if plain is None:
            entries = self._entries(found)
            return [
                entry
                for entry in entries
                if isinstance(entry.note, RequestNote) and sieve.visible(entry.note.uid)
            ]
        short, wanted = kinds.of(plain.method)
        floor_ns = sieve.floor_ns()
        if floor_ns and plain.received_ns + self._era_of(plain).wall_ns < floor_ns:
            # One that is recorded in short may have been received long before.
            return () if short else None
        if not wanted or not sieve.visible(plain.uid):
            return ()
        last = plain.number + plain.requests - 1
        before_first = max(plain.number - 1, last - sieve.most)
        return (self._entry(plain, number) for number in range(last, before_first, -1))

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
            about=plain.about,
        )
        return Entry(note, self._era_of(plain), plain.place, short)

    def _era_of(self, plain: Plain) -> Era:
        return self._era(plain.place, plain=plain.name is None)

    def _era(self, place: int, *, plain: bool) -> Era:
        eras = self._head().eras
        starts = [era.plain_place if plain else era.full_place for era in eras]
        index = bisect_right(starts, place) - 1
        return eras[index] if index >= 0 else _UNKNOWN_ERA


class _Kinds:
    """What there is to know of a plain record by the number of its method."""

    def __init__(self, head: Callable[[], Head], sieve: Sieve) -> None:
        self._head = head
        self._sieve = sieve
        self._known: dict[int, tuple[bool, bool]] = {}

    def of(self, number: int) -> tuple[bool, bool]:
        """Return whether it is one in short, and whether it is to be looked into."""
        known = self._known.get(number)
        if known is None:
            methods = self._head().methods
            known = self._known[number] = self._read(
                methods[number] if number < len(methods) else ""
            )
        return known

    def _read(self, name: str) -> tuple[bool, bool]:
        sieve = self._sieve
        if is_short(name):
            method, _ = read_short(name)
            # Where names have run out it is of any method.
            return True, method is None or sieve.of_method(method)
        return False, sieve.at_once and sieve.of_method(read_method(name)[0] or None)


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
                if done % LOOKED_AT_A_SLICE == 0:
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
