"""What became of requests, as text: a timeline of one id, or a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from superezio.wire import (
    Trace,
    TraceGpu,
    TraceList,
    TraceMark,
    TraceRecord,
    TraceSpan,
    TraceSummary,
)
from superezioctl.columns import columns_of, padded
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, figure, fit, size, user

_BAR_COLUMNS = 26
#: A terminal narrower than that has no room for times, bars and words side by side.
_NARROW = 75
_USER_COLUMNS = 12
#: What the daemon makes up is shorter; an id of a caller's own may have 64 characters.
_ID_COLUMNS = 21
#: What was answered in the same breath as it was read is not timed.
_AT_ONCE = "<1"
#: What `figure` calls a request that is not answered.
_UNANSWERED = "in_flight"


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the timeline: when, how long, what. Times are milliseconds from the first one."""

    start_ms: float
    took_ms: float | None
    what: str
    style: str | None = None
    #: A mark of the request above it.
    inner: bool = False
    #: How long that is in words, where it is not as `took_ms` says.
    took: str | None = None


def show(out: Output, raw: bytes) -> bool:
    """Draw the timeline of an id; False where nothing is known of it."""
    trace = msgspec.json.decode(raw, type=Trace)
    if not (trace.records or trace.spans):
        out.line(
            f"nothing is known of {trace.id}: it is not yours, or newer requests took its place"
        )
        return False
    first = min([each.received_at for each in trace.records] + [s.started_at for s in trace.spans])
    began = datetime.fromisoformat(first)
    local = began.astimezone()
    requests, spans = len(trace.records), len(trace.spans)
    out.paragraph(
        out.style(trace.id, "bold")
        + f": {_count(requests, 'request')}"
        + (f" and {_count(spans, 'span')}" if spans else "")
        + f", from {local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"
    )
    if trace.truncated:
        out.line(out.style("there is more, and older, than is shown", "warn"))
    out.line()
    rows = sorted(_rows(trace, began), key=lambda each: each[0].start_ms)
    _draw(out, [row for group in rows for row in group])
    for record in trace.records:
        out.line()
        _details(out, record)
    for span in trace.spans:
        if span.attributes:
            out.line()
            _attributes(out, span)
    return True


def show_list(out: Output, raw: bytes) -> None:
    """Print a line for each request, the newest first."""
    answer = msgspec.json.decode(raw, type=TraceList)
    found = answer.requests
    if answer.truncated:
        out.note("the search ended where it took long: there may be more, and older")
    if not found:
        if not answer.truncated:
            out.line("no such request is in the flight recorder")
        return
    rows = []
    for each in found:
        local = datetime.fromisoformat(each.received_at).astimezone()
        id_ = each.correlation_id
        rows.append(
            [
                f"{local:%m-%d %H:%M:%S}.{local.microsecond // 1000:03}",
                _took_by(each),
                _name(each, NOTHING),
                _outcome(out, each.outcome),
                fit(user(each.uid), _USER_COLUMNS),
                fit(id_, _ID_COLUMNS) if out.on_terminal else id_,
            ]
        )
    header = ["WHEN", "TOOK ms", "METHOD", "OUTCOME", "USER", "ID"]
    # The id is what it is for.
    spare = (4,) if out.width >= _NARROW else (4, 1, 0)
    out.table(header, rows, right=(1,), spare=spare, cut=2)
    if out.on_terminal and any(len(each.correlation_id) > _ID_COLUMNS for each in found):
        out.line(out.style("an id that is cut is whole with --json", "dim"))


def _rows(trace: Trace, began: datetime) -> Iterator[list[_Row]]:
    for record in trace.records:
        start_ms = _since(began, record.received_at)
        name = _name(record)
        bad = record.outcome != "ok"
        group = [
            _Row(
                start_ms,
                record.duration_ms,
                f"{name} {_words(record)}",
                "bad" if bad else None,
                took=_took_by(record),
            )
        ]
        group += [
            _Row(start_ms + each.after_ms, None, _mark(each), inner=True) for each in record.marks
        ]
        yield group
    for span in trace.spans:
        start_ms = _since(began, span.started_at)
        yield [_Row(start_ms, span.duration_ms, span.name, "note")]


def _draw(out: Output, rows: Sequence[_Row]) -> None:
    total_ms = max(row.start_ms + (row.took_ms or 0.0) for row in rows)
    bars = not out.on_terminal or out.width >= _NARROW
    columns = _BAR_COLUMNS + 2 if bars else 0
    out.line(out.style(f"{'AT ms':>11} {'TOOK ms':>10}  {'':{columns}}WHAT", "dim"))
    room = max(20, out.width - 11 - 10 - columns - 4)
    for row in rows:
        bar = f"{_bar(row, total_ms, unicode=out.unicode)}  " if bars else ""
        what = fit(("  " if row.inner else "") + row.what, room)
        took = "" if row.inner else (row.took or _took(row.took_ms))
        text = out.style(what, row.style) if row.style else what
        out.line(f"{row.start_ms:>11,.3f} {took:>10}  {bar}{text}".rstrip())


def _bar(row: _Row, total_ms: float, *, unicode: bool) -> str:
    full, dot = ("█", "·") if unicode else ("#", ".")
    scale = (_BAR_COLUMNS - 1) / total_ms if total_ms else 0.0
    first = round(row.start_ms * scale)
    last = round((row.start_ms + (row.took_ms or 0.0)) * scale)
    inside = full * (last - first + 1) if row.took_ms is not None else dot
    return f"{' ' * first}{inside}"[:_BAR_COLUMNS].ljust(_BAR_COLUMNS)


def _details(out: Output, record: TraceRecord) -> None:
    who = f"{user(record.uid)}, pid {record.pid}"
    name = _name(record)
    out.paragraph(f"{out.style(name, 'bold')} {_words(record)}: {who}, session {record.session_id}")
    out.paragraph(f"  request {record.number} of connection {record.connection}")
    if record.short:
        out.paragraph("  recorded in short: its user had more to record than its share")
    if record.lease is not None:
        out.paragraph(f"  lease {record.lease}")
    if record.trace_id is not None:
        out.paragraph(f"  trace {record.trace_id}, by its span {record.parent_id}")
    if record.gpus:
        out.table(
            ["GPU", "TEMP", "MARGIN", "VRAM USED", "OF", "LOAD", "READ"],
            [_gpu(out, each) for each in record.gpus],
            indent="  ",
            spare=(6, 4, 2),
        )


def _gpu(out: Output, gpu: TraceGpu) -> list[str]:
    degrees = "°C" if out.unicode else "C"
    return [
        figure(gpu.index),
        figure(gpu.temperature_c, degrees),
        figure(gpu.margin_c, degrees),
        size(gpu.vram_used_bytes),
        size(gpu.vram_total_bytes),
        figure(gpu.utilization_core_percent, "%"),
        NOTHING if gpu.age_ms < 0 else f"{gpu.age_ms} ms before",
    ]


def _attributes(out: Output, span: TraceSpan) -> None:
    out.paragraph(f"{out.style(span.name, 'bold')}: {user(span.uid)}, pid {span.pid}")
    width = max(map(columns_of, span.attributes))
    for name, value in span.attributes.items():
        out.paragraph(f"  {padded(name, width)}  {value}")


def _mark(mark: TraceMark) -> str:
    return mark.name if mark.detail is None else f"{mark.name}: {mark.detail}"


def _name(request: TraceRecord | TraceSummary, unknown: str = "a request") -> str:
    """Return the method, and the breaker, limit or namespace that it is about."""
    method = request.method or unknown
    return method if request.about is None else f"{method} {request.about}"


def _words(record: TraceRecord) -> str:
    return "was not answered yet" if record.outcome == _UNANSWERED else record.outcome


def _outcome(out: Output, outcome: str) -> str:
    return out.style(outcome, "good" if outcome == "ok" else "bad")


def _took(took_ms: float | None) -> str:
    return NOTHING if took_ms is None else f"{took_ms:,.3f}"


def _took_by(request: TraceRecord | TraceSummary) -> str:
    """Return how long a request took, where that is known."""
    at_once = request.duration_ms is None and request.outcome != _UNANSWERED
    return _AT_ONCE if at_once and not request.short else _took(request.duration_ms)


def _since(began: datetime, time: str) -> float:
    return (datetime.fromisoformat(time) - began).total_seconds() * 1000


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
