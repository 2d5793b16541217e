"""How the requests of a connection leave their records: in time, and the fewest stores it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from superezio.errors import SuperezioError
from superezio.flight.layout import in_session, plain_head
from superezio.flight.marking import marks_of, method_text
from superezio.flight.records import OK
from superezio.wire import Meta
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.plain_lane import MethodMarks, Series
from supereziod.observability.timeline import Timeline
from supereziod.rpc.refusal_marks import mark_of
from supereziod.rpc.requests import RequestContext


class Run:
    """Requests of one read, one after the other, of one method, that were answered at once.

    They have one record, which is written before any of them is answered on the wire.
    """

    __slots__ = ("marks", "number", "received_ns", "stamp")

    def __init__(self, stamp: bytes) -> None:
        self.stamp = stamp
        #: How the records of their method begin; None while there are none.
        self.marks: MethodMarks | None = None
        self.number = 0
        self.received_ns = 0


class Recorded(Protocol):
    """A connection, as far as recording needs it."""

    #: What its records have in common: who asks, over which connection, in its own session.
    stamp: bytes
    #: Those of this read that were answered at once and are not recorded yet, if it brought many.
    run: Run | None
    #: Its newest record of what was answered at once, which more of it may join.
    series: Series


class Recording:
    """Records requests. What comes first is recorded first, so that numbers in a run follow."""

    def __init__(self, recorder: FlightRecorder) -> None:
        self.recorder = recorder
        self._plain = recorder.plain

    def end_run(self, line: Recorded, upto: int) -> None:
        """Record what was answered at once and is not recorded yet, before anything is sent.

        `upto` is the number of the first request that is none of them.
        """
        line.series.end()
        run = line.run
        if run is not None:
            self._record_run(run, upto)
            run.marks = None

    def answered(self, line: Recorded, marks: MethodMarks, request: RequestContext) -> None:
        """Record one that was answered at once: with those before it of its method and read.

        Where its read brought no other, it begins a series.
        """
        run = line.run
        if run is None:
            self._plain.begin(line.series, marks, line.stamp, request.number, request.received_ns)
        elif run.marks is not marks:
            self.end_run(line, request.number)
            run.marks = marks
            run.number = request.number
            run.received_ns = request.received_ns

    def answered_all(
        self, line: Recorded, marks: MethodMarks, numbers: range, received_ns: int
    ) -> None:
        """Record those of one method that one read brought and that were answered at once."""
        line.series.end()
        if numbers:
            head = plain_head(marks.number, len(numbers))
            self._plain.write(head, line.stamp, numbers.start, received_ns)

    def closed(self, line: Recorded) -> None:
        """Let go of a connection that has ended."""
        self._plain.forget(line.series)

    def by_meta(
        self, line: Recorded, request: RequestContext, marks: MethodMarks, meta: Meta, about: str
    ) -> None:
        """Record one that was answered at once, and that says more of itself than most."""
        self.end_run(line, request.number)
        if meta.traceparent is not None:
            with self._timed(request) as timeline:
                timeline.about = about or None
                for each in marks_of(request.came_to or ""):
                    timeline.mark(each)
                self.recorder.finished(request)
            return
        if request.came_to is not None:
            marks = marks.by_end.get(request.came_to) or self._ended(marks, request)
        who = in_session(line.stamp, request.session.key)
        if meta.correlation_id is None:
            self._plain.write(marks.plain, who, request.number, request.received_ns)
        else:
            name = request.correlation_id
            number, received_ns = request.number, request.received_ns
            self.recorder.named(marks, who, request.uid, number, received_ns, name, about)

    def waits(self, line: Recorded, request: RequestContext) -> None:
        """Record one that is in flight from now on."""
        self.end_run(line, request.number)
        self.recorder.begun(request)

    def ends(self, request: RequestContext, outcome: str = OK) -> None:
        """Record one that is answered now, and count what it has used."""
        timeline = request.timeline
        if timeline is not None and timeline.uses is not None:
            for what, count in timeline.uses.items():
                request.session.count(what, count)
        self.recorder.finished(request, outcome)

    def fails(self, request: RequestContext, error: SuperezioError, about: str = "") -> None:
        """Record one that ends with an error, with what the error says of it."""
        said = mark_of(error)
        if said is None and not about:
            self.ends(request, error.kind)
            return
        with self._timed(request) as timeline:
            if said is not None:
                timeline.mark(*said)
            timeline.about = about or timeline.about
            self.ends(request, error.kind)

    @contextmanager
    def _timed(self, request: RequestContext) -> Iterator[Timeline]:
        """Give a request a timeline for as long as its record is written."""
        kept = request.timeline
        request.timeline = timeline = self.recorder.timeline() if kept is None else kept
        try:
            yield timeline
        finally:
            request.timeline = kept

    def _ended(self, marks: MethodMarks, request: RequestContext) -> MethodMarks:
        """Return how records begin of those that came to the same as this one."""
        came_to = request.came_to or ""
        name = method_text(request.method or "", came_to)
        marks.by_end[came_to] = ended = self.recorder.marks_of(name)
        return ended

    def _record_run(self, run: Run, upto: int) -> None:
        if run.marks is not None:
            head = plain_head(run.marks.number, upto - run.number)
            self._plain.write(head, run.stamp, run.number, run.received_ns)
