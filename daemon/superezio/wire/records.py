"""The flight recorder: what became of requests, and what clients add to it.

Every request leaves a record. Whoever made it may see it, and admins all.
"""

from __future__ import annotations

from superezio.wire.message import Params, Result


class TraceParams(Params):
    """`id`: a correlation id, or the trace-id of a traceparent."""

    id: str


class TraceFindParams(Params):
    """Which requests to look for, the newest first: those that meet all that is given.

    `slow_ms`: not answered within that time. `failed`: answered with an error, or not at all.
    `method`: of one method, or with a dot at its end of one family. `since_s`: of that many seconds
    up to now. `last`: at most so many. `omit`: up to 16 methods that are not looked for.
    """

    last: int = 20
    slow_ms: float | None = None
    failed: bool = False
    method: str | None = None
    since_s: float | None = None
    omit: list[str] = []


class TraceAnnotateParams(Params):
    """Add a span to one's own requests with that id, or an instant, where no duration is given.

    It began `started_ms_ago`; where that is not given, `duration_ms` ago. It may have up to 16
    attributes, whose names have up to 64 characters, and texts up to 256.
    """

    correlation_id: str
    name: str
    started_ms_ago: float | None = None
    duration_ms: float | None = None
    attributes: dict[str, str | int | float | bool] = {}


class TraceMark(Result):
    """What happened to the request, and how long after it was received.

    `detail` says more: of `limited` what is short for whom, of `settled` how the call ended.
    """

    name: str
    after_ms: float
    detail: str | None = None


class TraceGpu(Result):
    """A GPU as it was when the request was answered, by a sample of that age."""

    uuid: str
    index: int | None
    temperature_c: int | None
    margin_c: int | None
    vram_used_bytes: int | None
    vram_total_bytes: int | None
    utilization_core_percent: int | None
    age_ms: int


class TraceRecord(Result):
    """A request.

    `outcome` is ok, the kind of the error that it was answered with, or in_flight: it waits, or
    waited when the daemon ended. `duration_ms` is null while it waits, and where it was answered in
    the same breath as it was read, which is not timed. `connection` and `number` tell it from all
    others. `received_ns` is the host's monotonic clock, of the boot `boot_id`. `short`: its user
    had more to record than its share, so that there is nothing but who, what and the outcome.
    `about`: the name of the breaker, limit or namespace, of what was told one and has an id of its
    caller's, waited or failed; where there was no room for all of it, it ends with `~`.
    """

    correlation_id: str
    session_id: str
    connection: str
    number: int
    uid: int
    pid: int
    method: str | None
    outcome: str
    received_at: str
    received_ns: int
    boot_id: str
    duration_ms: float | None
    marks: list[TraceMark]
    lease: str | None
    gpu: str | None
    trace_id: str | None
    parent_id: str | None
    gpus: list[TraceGpu]
    short: bool = False
    about: str | None = None


class TraceSpan(Result):
    """What a client added. `duration_ms` is null for an instant."""

    correlation_id: str
    uid: int
    pid: int
    name: str
    started_at: str
    started_ns: int
    boot_id: str
    duration_ms: float | None
    attributes: dict[str, str | int | float | bool]
    trace_id: str | None


class Trace(Result):
    """What is known of an id, in the order of time. `truncated`: there is more, and older."""

    id: str
    records: list[TraceRecord]
    spans: list[TraceSpan]
    truncated: bool


class TraceSummary(Result):
    """A request that was found, as in a TraceRecord."""

    correlation_id: str
    session_id: str
    uid: int
    pid: int
    method: str | None
    outcome: str
    received_at: str
    duration_ms: float | None
    lease: str | None
    gpu: str | None
    trace_id: str | None
    short: bool = False
    about: str | None = None


class TraceList(Result):
    """What was found, the newest first. `truncated`: the search ended where it took long.

    There may be more, and older.
    """

    requests: list[TraceSummary]
    truncated: bool = False
