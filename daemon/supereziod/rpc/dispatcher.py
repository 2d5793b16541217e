"""The one place that every request goes through.

correlation -> the daemon's own rate limit -> access -> deadline -> handler -> encode. A refusal
costs more than an answer, so that it is charged like one. A handler that answers at once is
answered inline, with no task.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from inspect import isawaitable
from typing import Any, Final, Protocol

import msgspec
import structlog
from msgspec import UNSET

from superezio import milliseconds
from superezio.errors import (
    BusyError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    ShuttingDownError,
    SuperezioError,
)
from superezio.flight.layout import write_plain
from superezio.wire import Meta, Params
from supereziod.observability.correlation import current_scope
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.ring import MethodMarks, Ring
from supereziod.rpc.access import RANK, AccessPolicy
from supereziod.rpc.batches import BatchReply, OpenBatch
from supereziod.rpc.decoding import Call, Refusal, RequestDecoder, RequestId, Signature
from supereziod.rpc.method import Method
from supereziod.rpc.recording import Recorded, Recording
from supereziod.rpc.replies import (
    END,
    ID,
    RESULT,
    encode,
    error_line,
    join,
    result_line,
)
from supereziod.rpc.requests import Origin, RequestContext
from supereziod.rpc.sessions import Sessions, SessionState
from supereziod.rpc.turns import Turn

#: What a caller may use to mark a repeated request.
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: A longer deadline is none: it is past the life of any daemon, and of a timer's integers.
_MAX_DEADLINE_MS: Final = 7 * 86_400_000

#: A batch is answered in one line: with so much of an answer, its other members are refused, or
#: a line of a few kilobytes would take hundreds of megabytes.
MAX_BATCH_ANSWER_BYTES: Final = 4 << 20

_scope = current_scope.get
_set_scope = current_scope.set


class Rate(Protocol):
    """The limit on requests a second that a connection is under."""

    #: Requests that may be taken with no question.
    paid: int

    def acquire(self, now_ns: int, cost: int = 1) -> int:
        """Take `cost` requests and return 0, or the nanoseconds to wait."""

    def available(self, now_ns: int) -> int:
        """Return how many requests would pass now."""


class Line(Origin, Recorded, Protocol):
    """A connection, as far as dispatching needs it."""

    rank: int
    rate: Rate
    #: How many there have been.
    requests: int
    #: Of these, those that counted for another session than its own.
    requests_elsewhere: int

    def charge_since(self, begun_ns: int) -> None:
        """Take the time since then off the user's turn, as far as it was not taken yet."""

    def check_can_wait(self, request_id: RequestId) -> None:
        """Raise where no further request may be in flight, or not one of this id."""

    def wait_for(self, pending: Pending, awaitable: Awaitable[Any]) -> None:
        """Keep a request in flight until `awaitable` is done, then call `pending.finish`."""


class CommandDispatcher:
    """Answers calls from a table of methods."""

    def __init__(
        self,
        methods: Iterable[Method],
        *,
        access: AccessPolicy,
        sessions: Sessions,
        max_batch: int = 1000,
        recorder: FlightRecorder | None = None,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        methods = tuple(methods)
        self.decoder = RequestDecoder(
            [Signature(each.name, each.params, each.hands_out) for each in methods],
            max_batch=max_batch,
        )
        #: Where requests leave their records; without one, in a small ring that no file keeps.
        self.recorder = recorder if recorder is not None else FlightRecorder(Ring.in_memory())
        self.recording = Recording(self.recorder)
        self._plain = self.recorder.plain
        self._routes = {
            self.decoder.call_types[each.name]: _Route(
                each, RANK[each.role], self.recorder.marks_of(each.name)
            )
            for each in methods
        }
        if len(self._routes) != len(methods):
            raise ValueError("two methods of one name")
        self.access = access
        self.draining = False
        self._sessions = sessions
        # That of hot methods, of all connections: used again and again, and so the current scope
        # at most times already.
        self._hot_request = RequestContext.__new__(RequestContext)
        self._hot_request.accepted_id = None
        self._hot_request.came_to = None
        self._hot_request.timeline = None
        self._log = logger if logger is not None else structlog.get_logger()

    def drain(self) -> None:
        """Refuse whatever comes from now on; what is in flight goes on."""
        self.draining = True
        for route in self._routes.values():
            route.handler = _shutting_down
            route.may_wait = False

    def answer(self, line: Line, what: Call | Refusal, now_ns: int) -> bytes | None:
        """Work on what came in over a connection; return what is to be sent at once, if anything.

        What takes longer is sent by the connection when it is done. Leaves the request's scope
        current.
        """
        return self._charged(line, what, now_ns, None)

    def batch(self, line: Line, batch: OpenBatch, now_ns: int, turn: Turn) -> bool:
        """Work on a batch, one member at least, until the turn is over; tell whether it is done.

        It is answered by itself then. Leaves the last member's scope current.
        """
        while True:
            item = batch.take()
            what = item if batch.size <= MAX_BATCH_ANSWER_BYTES else _too_much(item)
            batch.add(self._charged(line, what, now_ns, batch.reply))
            if batch.is_taken:
                self.recording.end_run(line, line.requests + 1)
            if batch.close_if_done():
                return True
            if turn.is_over:
                return False

    def _charged(
        self, line: Line, what: Call | Refusal, now_ns: int, batch: BatchReply | None
    ) -> bytes | None:
        wait_ns = line.rate.acquire(now_ns)
        if wait_ns:
            return self._too_fast(line, what, now_ns, wait_ns)
        if isinstance(what, Refusal):
            return self._refuse(line, what.id, what.meta, what.error, now_ns)
        return self.call(line, what, now_ns, batch)

    def call(  # noqa: C901, PLR0912 - flat, as it says
        self, line: Line, call: Call, now_ns: int, batch: BatchReply | None = None
    ) -> bytes | None:
        """Answer a call that the rate limit has let pass. Written out flat: this is the hot path.

        Leaves the request's scope current, and returns what `answer` does.
        """
        route = self._routes[type(call)]
        if not route.hot:
            request = self._request(line, route.name, call.meta, now_ns)
            reply = self._call(line, call, route, Pending(self, call.id, request, batch))
            line.charge_since(now_ns)
            return reply
        request = self._hot_request
        request.origin = line
        request.number = line.requests = number = line.requests + 1
        request.received_ns = now_ns
        request.method = route.name
        request.meta = meta = call.meta
        if meta is None:
            request.session = session = line.session
        else:
            request.session = session = self._session(line, meta)
            request.accepted_id = None
            request.came_to = None
        run = line.run
        # Within a run it is current already: whatever else takes its place ends the run.
        if (run is None or run.marks is None) and _scope() is not request:
            _set_scope(request)
        try:
            if line.rank < route.rank:
                raise self.access.refusal(route.name, role=line.role, needs=route.role)
            if meta is not None:
                _check_meta(meta)
            result = route.handler(request, call.params)
            request_id = call.id
            if result is None:
                return self._after_hot(line, call, route, batch)
            if meta is not None and (
                meta.correlation_id is not None
                or meta.traceparent is not None
                or session is not line.session
            ):
                self.recording.by_meta(line, request, route.marks, meta)
            elif run is None:
                # As PlainLane.write does.
                lane = self._plain
                place = lane.place
                lane.place = place + 64
                write_plain(
                    lane.buffer, place % lane.size,
                    route.plain, place, line.stamp, number, now_ns, place,
                )  # fmt: skip
            elif run.marks is not route.marks:
                self.recording.begin_run(run, route.marks, request)
            if request_id is UNSET:
                return None
            return join((RESULT, result, ID, encode(request_id), END))
        except SuperezioError as error:
            self.recording.end_run(line, number)
            return self.failed(call.id, request, error)
        except Exception as error:  # noqa: BLE001 - the edge of a request
            self.recording.end_run(line, number)
            return self.failed(call.id, request, self.unexpected(error))

    def _after_hot(
        self, line: Line, call: Call, route: _Route, batch: BatchReply | None
    ) -> bytes | None:
        """Have a hot method's request wait, under a request of its own, of the same number."""
        hot = self._hot_request
        request = RequestContext(
            line, route.name, hot.session, hot.meta, hot.received_ns, hot.number,
            self.recorder.timeline(),
        )  # fmt: skip
        request.accepted_id = hot.accepted_id
        _set_scope(request)
        pending = Pending(self, call.id, request, batch)
        line.check_can_wait(call.id)
        awaitable = route.waiting(request, call.params)
        pending.expect()
        self._wait_for(line, pending, awaitable)
        return None

    def _wait_for(self, line: Line, pending: Pending, awaitable: Awaitable[Any]) -> None:
        self.recording.waits(line, pending.request)
        line.wait_for(pending, awaitable)

    def _call(self, line: Line, call: Call, route: _Route, pending: Pending) -> bytes | None:
        """Do what `call` does, for a method that may wait, or that is not hot."""
        request = pending.request
        _set_scope(request)
        try:
            if line.rank < route.rank:
                raise self.access.refusal(route.name, role=line.role, needs=route.role)
            if request.meta is not None:
                _check_meta(request.meta)
            if route.may_wait:
                return self._patient_call(line, call, route, pending)
            return self._answered(call.id, request, route.handler(request, call.params))
        except SuperezioError as error:
            return self.failed(call.id, request, error)
        except Exception as error:  # noqa: BLE001 - the edge of a request
            return self.failed(call.id, request, self.unexpected(error))

    def _answered(
        self, request_id: RequestId, request: RequestContext, result: object
    ) -> bytes | None:
        """Record a request that was done, and return the line that says so."""
        reply = None if request_id is UNSET else result_line(request_id, result)
        self.recording.ends(request)
        return reply

    def _patient_call(
        self, line: Line, call: Call, route: _Route, pending: Pending
    ) -> bytes | None:
        line.check_can_wait(call.id)
        result = route.handler(pending.request, call.params)
        if isawaitable(result):
            pending.expect()
            self._wait_for(line, pending, result)
            return None
        return self._answered(call.id, pending.request, result)

    def _request(
        self, line: Line, method: str | None, meta: Meta | None, now_ns: int
    ) -> RequestContext:
        """Return the next request of a connection, which counts for its session."""
        session = line.session if meta is None else self._session(line, meta)
        line.requests += 1
        self.recording.end_run(line, line.requests)
        timeline = self.recorder.timeline()
        return RequestContext(line, method, session, meta, now_ns, line.requests, timeline)

    def _session(self, line: Line, meta: Meta) -> SessionState:
        """Return the session that the caller names, if it is one of its own, and count for it."""
        if meta.session_id is None:
            return line.session
        session = self._sessions.find(meta.session_id, line.peer.uid)
        if session is None:
            return line.session
        session.requests += 1
        line.requests_elsewhere += 1
        return session

    def _too_fast(
        self, line: Line, what: Call | Refusal, now_ns: int, wait_ns: int
    ) -> bytes | None:
        """Refuse what the rate limit has not let pass."""
        error = BusyError(
            f"too many requests a second from uid {line.peer.uid}",
            retry_after_ms=milliseconds.rounded_up(wait_ns),
            data={"limit": "requests_per_second"},
        )
        method = None if isinstance(what, Refusal) else self._routes[type(what)].name
        return self._refuse(line, what.id, what.meta, error, now_ns, method=method)

    def _refuse(
        self,
        line: Line,
        request_id: RequestId,
        meta: Meta | None,
        error: SuperezioError,
        now_ns: int,
        *,
        method: str | None = None,
    ) -> bytes | None:
        request = self._request(line, method, meta, now_ns)
        _set_scope(request)
        reply = self.failed(request_id, request, error)
        line.charge_since(now_ns)
        return reply

    def failed(
        self, request_id: RequestId, request: RequestContext, error: SuperezioError
    ) -> bytes | None:
        """Count an error and return the line that tells it, None for a notification's."""
        request.session.errors += 1
        self.recording.fails(request, error)
        self._log.debug("request.failed", kind=error.kind, message=error.message)
        if request_id is UNSET:
            return None
        return error_line(request_id, error, request.correlation_id)

    def unexpected(self, error: BaseException) -> InternalError:
        """Log a fault of the daemon's own, and return what the caller is told of it."""
        self._log.error(
            "request.fault",
            message=f"a request failed unexpectedly: {error!r}",
            exc_info=(type(error), error, error.__traceback__),
        )
        return InternalError("the daemon failed; its journal has the details under this id")


class Pending:
    """A request in flight: what is needed to answer it when its awaitable is done."""

    __slots__ = ("_batch", "_dispatcher", "request", "request_id", "why_cancelled")

    def __init__(
        self,
        dispatcher: CommandDispatcher,
        request_id: RequestId,
        request: RequestContext,
        batch: BatchReply | None,
    ) -> None:
        self._dispatcher = dispatcher
        self.request_id = request_id
        self.request = request
        self._batch = batch
        #: Set before the awaitable is cancelled.
        self.why_cancelled: SuperezioError | None = None

    def expect(self) -> None:
        """Have the batch, if it is a member of one, wait for the answer."""
        if self._batch is not None:
            self._batch.expect()

    def finish(self, result: object, error: BaseException | None, *, cancelled: bool) -> None:
        """Send the answer."""
        if cancelled:
            error = self.why_cancelled or ShuttingDownError("the daemon gave the request up")
        reply = self._encode(result) if error is None else self._fail(error)
        if self._batch is not None:
            self._batch.add(reply)
        elif reply is not None:
            self.request.origin.push(reply)

    def _encode(self, result: object) -> bytes | None:
        if self.request_id is UNSET:
            self._dispatcher.recording.ends(self.request)
            return None
        try:
            reply = result_line(self.request_id, result)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            return self._fail(error)
        self._dispatcher.recording.ends(self.request)
        return reply

    def _fail(self, error: BaseException) -> bytes | None:
        if not isinstance(error, SuperezioError):
            error = self._dispatcher.unexpected(error)
        return self._dispatcher.failed(self.request_id, self.request, error)


class _Route:
    """What the hot path needs of a method, as plain attributes."""

    __slots__ = (
        "handler", "hot", "marks", "may_wait", "name", "plain", "rank", "role", "waiting",
    )  # fmt: skip

    def __init__(self, method: Method, rank: int, marks: MethodMarks) -> None:
        self.marks = marks
        self.plain = marks.plain
        self.name = method.name
        self.handler = method.handler
        self.may_wait = method.may_wait
        self.hot = method.hot and (method.waiting is not None or not method.may_wait)
        self.waiting = method.waiting or _never_waits
        self.role = method.role
        self.rank = rank


def _never_waits(_request: RequestContext, _params: Params) -> Awaitable[Any]:
    raise TypeError("a hot handler returned None, and there is none that waits")


def _shutting_down(_request: RequestContext, _params: Params) -> None:
    raise ShuttingDownError("the daemon is stopping: reconnect and ask again")


def _check_meta(meta: Meta) -> None:
    key = meta.idempotency_key
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequestError(
            "meta.idempotency_key has to be 1 to 128 letters, digits or any of . _ : -"
        )
    deadline_ms = meta.deadline_ms
    if deadline_ms is None:
        return
    if deadline_ms <= 0:
        raise DeadlineExceededError("the deadline had passed before the request was read")
    if deadline_ms > _MAX_DEADLINE_MS:
        raise InvalidRequestError(f"meta.deadline_ms may be up to {_MAX_DEADLINE_MS}")


def _too_much(item: Call | Refusal) -> Refusal:
    error = BusyError(
        f"the answer to the batch has {MAX_BATCH_ANSWER_BYTES} bytes already: ask for this alone",
        data={"limit": "batch_answer_bytes"},
    )
    return Refusal(id=item.id, error=error, meta=item.meta)
