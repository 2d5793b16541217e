"""The flight recorder: every request leaves a record before it is answered.

What is answered at once, without an id of its own, takes one store (see `PlainLane`). All else
goes through here: what waited, failed, or was about a lease, with its timeline and the GPUs. Whose
share of that lane is used up is recorded in short (see `lane_shares`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from superezio.flight.finding import Finding
from superezio.flight.layout import NAMED_BYTES
from superezio.flight.reading import Entry
from superezio.flight.records import (
    IN_FLIGHT,
    OK,
    GpuNote,
    Note,
    RequestNote,
    SpanNote,
    encode_note,
)
from superezio.wire import TraceFindParams
from supereziod.observability.lane_shares import LaneShares
from supereziod.observability.plain_lane import MethodMarks
from supereziod.observability.ring import Ring
from supereziod.observability.short_records import RecordedInShort, ShortRecords
from supereziod.observability.timeline import Timeline

#: Entries that one answer about an id has at most.
MAX_ENTRIES: Final = 1000
#: How far one search goes in each lane: through all of one of 64 MiB, in seconds of the loop's time
#: at most.
_MOST_SLICES: Final = 16_384
#: Requests whose failure is told with the state of all GPUs.
_ABOUT_GPUS: Final = ("lease.", "placement.")

#: Returns compact samples of the GPUs with these UUIDs, or of all.
Samples = Callable[[Sequence[str] | None], list[GpuNote]]


class Recorded(RecordedInShort, Protocol):
    """A request, as far as its record goes."""

    timeline: Timeline | None

    @property
    def correlation_id(self) -> str: ...
    @property
    def trace_id(self) -> str | None: ...
    @property
    def parent_id(self) -> str | None: ...


def _no_samples(_uuids: Sequence[str] | None) -> list[GpuNote]:
    return []


class FlightRecorder:
    """Writes the records of requests into a ring, and looks for them. Loop-owned."""

    def __init__(
        self,
        ring: Ring,
        *,
        samples: Samples = _no_samples,
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._ring = ring
        self._samples = samples
        self._clock = clock
        self._wall_clock = wall_clock
        #: Where requests that are answered at once are recorded.
        self.plain = ring.plain
        self._shares = LaneShares(len(ring.lanes.full), end=ring.full_end)
        self._short = ShortRecords(ring)

    @property
    def faults(self) -> list[str]:
        """Why records do not outlive the daemon, and which file was replaced at this start."""
        found = [] if self._ring.fault is None else [self._ring.fault]
        if self._ring.moved_aside is not None:
            found.append(f"a file that was no flight ring was moved to {self._ring.moved_aside}")
        return found

    def look(self) -> None:
        """See whether the ring's file is still there: it is one of the `faults` if not."""
        self._ring.look()

    @property
    def written(self) -> int:
        """How many records were written since the daemon started."""
        return self._ring.written

    @property
    def size_bytes(self) -> int:
        """How large the ring is."""
        return self._ring.size_bytes

    def close(self) -> None:
        """Let go of the ring."""
        self._ring.close()

    def marks_of(self, method: str) -> MethodMarks:
        """Return how the records of a method begin."""
        return self._ring.marks_of(method)

    def timeline(self) -> Timeline:
        """Return an empty timeline, by the recorder's clock."""
        return Timeline(self._clock)

    def named(
        self, marks: MethodMarks, who: bytes, uid: int, number: int, received_ns: int, name: str,
        about: str = "",
    ) -> None:  # fmt: skip
        """Record one that was answered at once and has an id of its caller's."""
        ring, begin = self._ring, self._ring.full_end
        if self._shares.has_room(uid, begin, received_ns):
            ring.write_named(marks, who, number, received_ns, name, about)
            self._shares.wrote(uid, begin, begin + NAMED_BYTES, received_ns)
        else:
            self.plain.write(marks.plain, who, number, received_ns)

    def begun(self, request: Recorded) -> None:
        """Record a request that waits: whatever becomes of the daemon, that it came is known."""
        if not self.has_room(request.uid):
            self._short.write(request, IN_FLIGHT)
            return
        if request.timeline is not None:
            request.timeline.begun = True
        self._write(self._note(request, IN_FLIGHT, None))

    def finished(self, request: Recorded, outcome: str = OK) -> None:
        """Record a request that is answered now; `outcome` is ok, or the kind of its error."""
        begun = request.timeline is not None and request.timeline.begun
        if not begun and not self.has_room(request.uid):
            self._short.write(request, outcome)
            return
        self._write(self._note(request, outcome, self._clock() - request.received_ns))

    def has_room(self, uid: int) -> bool:
        """Whether a user may record more than that something was, and how it ended."""
        return self._shares.has_room(uid, self._ring.full_end, self._clock())

    def span(self, span: SpanNote) -> bool:
        """Record what a client adds; False where a record has no room for so much."""
        return self._ring_takes(span)

    def of_id(self, id_: str, visible: Callable[[int], bool]) -> Iterator[Entry | None]:
        """Yield what is known of an id to whom may see what is of a uid; None between slices."""
        return self._ring.reader().of_id(id_, visible)

    def finding(self, params: TraceFindParams, visible: Callable[[int], bool]) -> Finding:
        """Return what looks for requests; it ends, and says so, where it takes long."""
        return Finding(
            self._ring.reader(),
            params,
            now_ns=self._wall_clock(),
            alive=self._ring.life,
            visible=visible,
            most_slices=_MOST_SLICES,
        )

    def _note(self, request: Recorded, outcome: str, duration_ns: int | None) -> RequestNote:
        timeline, received_ns = request.timeline, request.received_ns
        note = RequestNote(
            connection=request.connection_id,
            number=request.number,
            correlation_id=request.correlation_id,
            session=request.session_id,
            uid=request.uid,
            pid=request.pid,
            method=request.method,
            outcome=outcome,
            received_ns=received_ns,
            duration_ns=duration_ns,
            trace_id=request.trace_id,
            parent_id=request.parent_id,
        )
        if timeline is not None:
            note.marks = [(name, at_ns - received_ns) for name, at_ns in timeline.marks]
            note.lease = timeline.lease
            note.about = timeline.about
            if timeline.gpus:
                note.gpu = timeline.gpus[0]
        note.gpus = self._gpus_of(note, timeline)
        return note

    def _gpus_of(self, note: RequestNote, timeline: Timeline | None) -> list[GpuNote]:
        """Return how the GPUs are that a lease was granted on, or that a request failed about."""
        if note.outcome == IN_FLIGHT:
            return []
        if timeline is not None and timeline.gpus:
            return self._samples(timeline.gpus)
        failed = note.outcome != OK
        if failed and note.method is not None and note.method.startswith(_ABOUT_GPUS):
            return self._samples(None)
        return []

    def _write(self, note: RequestNote) -> None:
        if not self._ring_takes(note):
            # What is bounded by whom it comes from is short; what grows with the host is not.
            note.gpus = []
            if not self._ring_takes(note):
                note.marks = []
                self._ring_takes(note)

    def _ring_takes(self, note: Note) -> bool:
        begin = self._ring.full_end
        if not self._ring.write_full(encode_note(note)):
            return False
        self._shares.wrote(note.uid, begin, self._ring.full_end, self._clock())
        return True
