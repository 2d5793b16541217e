"""trace.*: what became of requests, as the flight recorder has it, and what clients add to that."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from superezio import milliseconds
from superezio.errors import BusyError, InvalidParamsError
from superezio.flight.reading import Entry
from superezio.flight.records import SpanNote
from superezio.flight.telling import list_of, trace_of
from superezio.resilience.gcra import Gcra
from superezio.wire import (
    Done,
    Trace,
    TraceAnnotateParams,
    TraceFindParams,
    TraceList,
    TraceParams,
)
from supereziod.observability.flight_recorder import MAX_ENTRIES, FlightRecorder
from supereziod.rpc.requests import RequestContext

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MAX_LAST: Final = 1000
_MAX_OMITTED: Final = 16
#: Searches at a time, of one user and in all: each takes a slice of each lap of the loop, which is
#: no part of its user's turn.
_SEARCHES_PER_UID: Final = 1
_SEARCHES: Final = 8

_MAX_NAME: Final = 64
_MAX_ATTRIBUTES: Final = 16
_MAX_TEXT: Final = 256
#: Numbers that JSON, and whoever reads it, keeps as they are.
_MAX_NUMBER: Final = 1 << 53
#: A span that began earlier is none of this boot.
_MAX_AGO_MS: Final = 366 * 86_400_000.0
#: Spans under one id, and of one user: at once, and a second.
_SPANS_PER_ID: Final = 256
_BUSY_MS: Final = 1000
_SPANS_BURST: Final = 1000
_SPANS_A_SECOND: Final = 100
#: Ids, and users, whose spans are counted at a time; the oldest are forgotten.
_COUNTED: Final = 4096


class TraceCommands:
    """Handlers of trace.*."""

    def __init__(
        self, recorder: FlightRecorder, *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._recorder = recorder
        self._searches: Counter[int] = Counter()
        self._spans = SpanBudget(clock)

    async def get(self, request: RequestContext, params: TraceParams) -> Trace:
        """Return the records of one id, in the order of time."""
        id_ = _checked_id(params.id)
        found: list[Entry] = []
        truncated = False
        with self._search(request.peer.uid):
            for entry in self._recorder.of_id(id_, request.may_see):
                if entry is None:
                    await asyncio.sleep(0)
                    continue
                found.append(entry)
                if len(found) >= 2 * MAX_ENTRIES:
                    truncated, found = True, _newest(found)
        truncated = truncated or len(found) > MAX_ENTRIES
        return trace_of(id_, _newest(found), truncated=truncated)

    async def find(self, request: RequestContext, params: TraceFindParams) -> TraceList:
        """Return the newest requests that are as is asked."""
        if not 1 <= params.last <= _MAX_LAST:
            raise InvalidParamsError(f"last has to be from 1 to {_MAX_LAST}")
        for name, value in (("slow_ms", params.slow_ms), ("since_s", params.since_s)):
            if value is not None and not 0 <= value <= _MAX_AGO_MS:
                raise InvalidParamsError(f"{name} has to be from 0 to {_MAX_AGO_MS:.0f}")
        if len(params.omit) > _MAX_OMITTED:
            raise InvalidParamsError(f"omit may have up to {_MAX_OMITTED} methods")
        finding = self._recorder.finding(params, request.may_see)
        with self._search(request.peer.uid):
            for _ in finding.run():
                await asyncio.sleep(0)
        return list_of(finding.found, truncated=finding.cut)

    def annotate(self, request: RequestContext, params: TraceAnnotateParams) -> Done:
        """Add a span of the caller's own to one of its ids."""
        _check_span(params)
        uid = request.peer.uid
        if not self._recorder.has_room(uid):
            raise BusyError(
                f"uid {uid} has recorded so much that its spans would push out what others did:"
                " add fewer",
                retry_after_ms=_BUSY_MS,
                data={"limit": "recorder_share"},
            )
        self._spans.take(uid, params.correlation_id)
        duration_ms = params.duration_ms
        ago_ms = params.started_ms_ago
        if ago_ms is None:
            ago_ms = duration_ms or 0.0
        span = SpanNote(
            correlation_id=params.correlation_id,
            uid=uid,
            pid=request.peer.pid,
            name=params.name,
            started_ns=max(0, request.received_ns - round(ago_ms * 1e6)),
            duration_ns=None if duration_ms is None else round(duration_ms * 1e6),
            attributes=params.attributes,
            trace_id=request.trace_id,
        )
        if not self._recorder.span(span):
            raise InvalidParamsError("the attributes are too long: a span has about 4,000 bytes")
        return Done(done=True)

    @contextmanager
    def _search(self, uid: int) -> Iterator[None]:
        if self._searches[uid] >= _SEARCHES_PER_UID or self._searches.total() >= _SEARCHES:
            raise BusyError(
                "other searches in the flight recorder run: ask again when they are done",
                retry_after_ms=100,
                data={"limit": "searches"},
            )
        self._searches[uid] += 1
        try:
            yield
        finally:
            self._searches[uid] -= 1
            if not self._searches[uid]:
                del self._searches[uid]


class SpanBudget:
    """How many spans clients may add: they push out records of others."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._by_id: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._by_uid: OrderedDict[int, Gcra] = OrderedDict()

    def take(self, uid: int, id_: str) -> None:
        """Take one span. Raises BusyError."""
        now_ns = self._clock()
        taken = self._by_id.get((uid, id_), 0)
        if taken >= _SPANS_PER_ID:
            raise BusyError(
                f"{id_} has {taken} spans already, which is all it may: use another id",
                data={"limit": "spans_per_id"},
            )
        wait_ns = self._rate(uid).acquire(now_ns)
        if wait_ns:
            raise BusyError(
                f"uid {uid} adds more than {_SPANS_A_SECOND} spans a second",
                retry_after_ms=milliseconds.rounded_up(wait_ns),
                data={"limit": "spans_per_second"},
            )
        self._by_id[uid, id_] = taken + 1
        if len(self._by_id) > _COUNTED:
            self._by_id.popitem(last=False)

    def _rate(self, uid: int) -> Gcra:
        rate = self._by_uid.get(uid)
        if rate is None:
            rate = Gcra(limit=_SPANS_A_SECOND, period_ns=1_000_000_000, burst=_SPANS_BURST)
            self._by_uid[uid] = rate
            if len(self._by_uid) > _COUNTED:
                self._by_uid.popitem(last=False)
        return rate


def _newest(found: list[Entry]) -> list[Entry]:
    return sorted(found, key=lambda entry: entry.wall_ns)[-MAX_ENTRIES:]


def _checked_id(id_: str) -> str:
    if not _ID.fullmatch(id_):
        raise InvalidParamsError("an id has 1 to 64 letters, digits or any of . _ : -")
    return id_


def _check_span(params: TraceAnnotateParams) -> None:
    _checked_id(params.correlation_id)
    _check_text("name", params.name, _MAX_NAME)
    times = {"started_ms_ago": params.started_ms_ago, "duration_ms": params.duration_ms}
    for name, ms in times.items():
        if ms is not None and not 0 <= ms <= _MAX_AGO_MS:
            raise InvalidParamsError(f"{name} has to be from 0 to {_MAX_AGO_MS:.0f}")
    if len(params.attributes) > _MAX_ATTRIBUTES:
        raise InvalidParamsError(f"there may be up to {_MAX_ATTRIBUTES} attributes")
    for name, value in params.attributes.items():
        _check_text("the name of an attribute", name, _MAX_NAME)
        if isinstance(value, str):
            _check_text(f"attribute {name}", value, _MAX_TEXT)
        elif not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise InvalidParamsError(f"attribute {name} is a number that is too large")


def _check_text(what: str, text: str, most: int) -> None:
    if not 0 < len(text) <= most:
        raise InvalidParamsError(f"{what} has to have 1 to {most} characters")
    if not text.isprintable():
        raise InvalidParamsError(f"{what} may hold no control characters")
