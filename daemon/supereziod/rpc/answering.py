"""What becomes of a request: what it counts for, its record, its answer, at once or later."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import UNSET

from superezio.errors import (
    FillFailedError,
    InternalError,
    PermissionDeniedError,
    ShuttingDownError,
    SuperezioError,
)
from superezio.wire import Meta
from supereziod.observability.correlation import current_scope
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.log_fields import in_one_line
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.batches import BatchReply
from supereziod.rpc.decoding import Call, RequestId
from supereziod.rpc.recording import Recorded, Recording
from supereziod.rpc.replies import error_line, result_line
from supereziod.rpc.requests import Origin, RequestContext
from supereziod.rpc.route import Route
from supereziod.rpc.sessions import Sessions, SessionState

_set_scope = current_scope.set

#: By the type of the call.
Routes = Mapping[type[Call], Route]


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
    #: The methods, as its role may use them.
    routes: Routes
    #: That of its hot calls without `meta`: used again and again.
    hot_request: RequestContext
    #: The request whose scope is current where its reads are worked on; None if that is not known.
    scope: RequestContext | None
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


def enter(line: Line, request: RequestContext) -> None:
    """Work for a request of a connection from now on."""
    _set_scope(request)
    line.scope = request


class Answering:
    """Begins requests and ends them, whichever way they take in between."""

    def __init__(
        self,
        *,
        access: AccessPolicy,
        sessions: Sessions,
        recorder: FlightRecorder,
        audit: AuditTrail,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self.access = access
        self.audit = audit
        self.recorder = recorder
        self.recording = Recording(recorder)
        self._sessions = sessions
        self._log = logger if logger is not None else structlog.get_logger()

    def request(
        self, line: Line, method: str | None, meta: Meta | None, now_ns: int
    ) -> RequestContext:
        """Return the next request of a connection, which counts for its session.

        Leaves its scope current.
        """
        session = line.session if meta is None else self.session(line, meta)
        line.requests += 1
        self.recording.end_run(line, line.requests)
        timeline = self.recorder.timeline()
        request = RequestContext(line, method, session, meta, now_ns, line.requests, timeline)
        enter(line, request)
        return request

    def session(self, line: Line, meta: Meta) -> SessionState:
        """Return the session that the caller names, if it is one of its own, and count for it."""
        if meta.session_id is None:
            return line.session
        session = self._sessions.find(meta.session_id, line.peer.uid)
        if session is None:
            return line.session
        session.requests += 1
        line.requests_elsewhere += 1
        return session

    def check_role(self, line: Line, route: Route) -> None:
        """Raise where the caller may not use a method."""
        if line.rank < route.rank:
            raise self.access.refusal(route.name, role=line.role, needs=route.role)

    def wait(self, line: Line, pending: Pending, awaitable: Awaitable[Any]) -> None:
        """Have a request in flight until `awaitable` is done."""
        pending.expect()
        self.recording.waits(line, pending.request)
        line.wait_for(pending, awaitable)

    def answered(
        self, request_id: RequestId, request: RequestContext, result: object
    ) -> bytes | None:
        """Record a request that was done, and return the line that says so."""
        reply = None if request_id is UNSET else result_line(request_id, result)
        self.recording.ends(request)
        if request.act is not None:
            self.audit.done(request, request.act, result)
        return reply

    def failed(
        self, request_id: RequestId, request: RequestContext, error: BaseException, about: str = ""
    ) -> bytes | None:
        """Count an error and return the line that tells it, None for a notification's."""
        if not isinstance(error, SuperezioError):
            error = self._unexpected(error)
        if isinstance(error, PermissionDeniedError):
            error = self.access.with_the_way(error)
        request.session.errors += 1
        self.recording.fails(request, error, about)
        if request.act is not None:
            self.audit.failed(request, request.act, error)
        # What a fetch failed with is in the words of who fetched, and may have a secret of theirs.
        message = "a fetch failed" if isinstance(error, FillFailedError) else error.message
        self._log.debug("request.failed", kind=error.kind, message=in_one_line(message))
        if request_id is UNSET:
            return None
        return error_line(request_id, error, request.correlation_id)

    def _unexpected(self, error: BaseException) -> InternalError:
        """Log a fault of the daemon's own, and return what the caller is told of it."""
        self._log.error(
            "request.fault",
            message=f"a request failed unexpectedly: {error!r}",
            exc_info=(type(error), error, error.__traceback__),
        )
        return InternalError("the daemon failed; its journal has the details under this id")


class Pending:
    """A request in flight: what is needed to answer it when its awaitable is done."""

    __slots__ = ("_answering", "_batch", "request", "request_id", "why_cancelled")

    def __init__(
        self,
        answering: Answering,
        request_id: RequestId,
        request: RequestContext,
        batch: BatchReply | None,
    ) -> None:
        self._answering = answering
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
        try:
            return self._answering.answered(self.request_id, self.request, result)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            return self._fail(error)

    def _fail(self, error: BaseException) -> bytes | None:
        return self._answering.failed(self.request_id, self.request, error)
