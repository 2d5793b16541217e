"""From what stands in a ring to what is told of it: the types of trace.get and trace.find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from superezio import wire
from superezio.flight.marking import read_mark
from superezio.flight.reading import Entry, latest, order
from superezio.flight.records import GpuNote, RequestNote, SpanNote

_MS: Final = 1_000_000
_REPLY: Final = "reply"


def trace_of(id_: str, entries: Sequence[Entry], *, truncated: bool = False) -> wire.Trace:
    """Return what `entries` tell of an id."""
    records: list[wire.TraceRecord] = []
    spans: list[wire.TraceSpan] = []
    for entry in latest(entries):
        note = entry.note
        if isinstance(note, RequestNote):
            records.append(_record(entry, note))
        else:
            spans.append(_span(entry, note))
    return wire.Trace(id=id_, records=records, spans=spans, truncated=truncated)


def list_of(entries: Iterable[Entry], *, truncated: bool = False) -> wire.TraceList:
    """Return the requests among `entries`, the newest first."""
    newest_first = sorted(entries, key=order, reverse=True)
    return wire.TraceList(
        requests=[
            _summary(entry, entry.note)
            for entry in newest_first
            if isinstance(entry.note, RequestNote)
        ],
        truncated=truncated,
    )


def _record(entry: Entry, note: RequestNote) -> wire.TraceRecord:
    return wire.TraceRecord(
        correlation_id=note.correlation_id,
        session_id=note.session,
        connection=note.connection,
        number=note.number,
        uid=note.uid,
        pid=note.pid,
        method=note.method,
        outcome=note.outcome,
        received_at=_time(entry.wall_ns),
        received_ns=note.received_ns,
        boot_id=entry.era.boot_id,
        duration_ms=_ms(note.duration_ns),
        marks=_marks(note),
        lease=note.lease,
        gpu=note.gpu,
        trace_id=note.trace_id,
        parent_id=note.parent_id,
        gpus=[_gpu(each) for each in note.gpus],
        short=entry.short,
        about=note.about,
    )


def _marks(note: RequestNote) -> list[wire.TraceMark]:
    """Return the marks; the reply ends those of a request that has any, and took some time."""
    marks = list(note.marks)
    if marks and note.duration_ns is not None:
        marks.append((_REPLY, note.duration_ns))
    told = []
    for text, after_ns in marks:
        name, detail = read_mark(text)
        told.append(wire.TraceMark(name=name, after_ms=after_ns / _MS, detail=detail))
    return told


def _summary(entry: Entry, note: RequestNote) -> wire.TraceSummary:
    return wire.TraceSummary(
        correlation_id=note.correlation_id,
        session_id=note.session,
        uid=note.uid,
        pid=note.pid,
        method=note.method,
        outcome=note.outcome,
        received_at=_time(entry.wall_ns),
        duration_ms=_ms(note.duration_ns),
        lease=note.lease,
        gpu=note.gpu,
        trace_id=note.trace_id,
        short=entry.short,
        about=note.about,
    )


def _span(entry: Entry, note: SpanNote) -> wire.TraceSpan:
    return wire.TraceSpan(
        correlation_id=note.correlation_id,
        uid=note.uid,
        pid=note.pid,
        name=note.name,
        started_at=_time(entry.wall_ns),
        started_ns=note.started_ns,
        boot_id=entry.era.boot_id,
        duration_ms=_ms(note.duration_ns),
        attributes=note.attributes,
        trace_id=note.trace_id,
    )


def _gpu(note: GpuNote) -> wire.TraceGpu:
    return wire.TraceGpu(**structs.asdict(note))


def _ms(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / _MS


def _time(wall_ns: int) -> str:
    seconds, rest_ns = divmod(max(0, wall_ns), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
    return moment.isoformat(timespec="microseconds")
