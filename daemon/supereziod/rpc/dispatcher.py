"""The one place that every request goes through.

correlation -> the daemon's own rate limit -> access -> deadline -> handler -> encode. A refusal
costs more than an answer, so that it is charged like one. A handler that answers at once is
answered inline, with no task.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any, Final, Protocol

import msgspec
import structlog
from msgspec import UNSET, Struct

from superezio.errors import (
    BusyError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    ShuttingDownError,
    SuperezioError,
)
from superezio.wire import Meta, Params, Role
from supereziod.observability.correlation import RequestScope, accept_id, current_scope
from supereziod.rpc.access import RANK, AccessPolicy, Visibility
from supereziod.rpc.decoding import Batch, Call, Refusal, RequestDecoder, RequestId, Signature
from supereziod.rpc.limits import Account
from supereziod.rpc.replies import BatchReply, Send, error_line, result_line
from supereziod.rpc.requests import Origin, RequestContext
from supereziod.rpc.sessions import Sessions, SessionState

#: What a caller may use to mark a repeated request.
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: A longer deadline is none: it is past the life of any daemon, and of a timer's integers.
_MAX_DEADLINE_MS: Final = 7 * 86_400_000


class Method(Struct, frozen=True, kw_only=True):
    """One row of the table of methods.

    `handler` takes the request and its params. It returns a result of type `result`, or, where
    `may_wait`, an awaitable of one, which belongs to the request: it is cancelled with it.
    """

    name: str
    params: type[Params]
    result: Any
    role: Role
    visibility: Visibility
    handler: Callable[..., Any]
    summary: str
    may_wait: bool = False


class Line(Origin, Protocol):
    """A connection, as far as dispatching needs it."""

    rank: int
    account: Account
    #: The daemon's own connection is not limited.
    unlimited: bool

    def new_correlation_id(self) -> str:
        """Return an id for a request that came without one."""

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
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        methods = tuple(methods)
        self.decoder = RequestDecoder(
            [Signature(each.name, each.params) for each in methods], max_batch=max_batch
        )
        self._routes = {
            self.decoder.call_types[each.name]: _Route(each, RANK[each.role]) for each in methods
        }
        if len(self._routes) != len(methods):
            raise ValueError("two methods of one name")
        self.access = access
        self.draining = False
        self._sessions = sessions
        self._log = logger if logger is not None else structlog.get_logger()

    def answer(self, line: Line, what: Call | Refusal | Batch, now_ns: int) -> bytes | None:
        """Work on what came in over a connection; return what is to be sent at once, if anything.

        What takes longer is sent by the connection when it is done. Leaves the request's scope
        current.
        """
        if isinstance(what, Call):
            return self._call(line, what, now_ns, line.push)
        if isinstance(what, Refusal):
            return self._refuse(line, what, now_ns)
        batch = BatchReply(line.push)
        lines = []
        for item in what.items:
            if isinstance(item, Refusal):
                reply = self._refuse(line, item, now_ns)
            else:
                reply = self._call(line, item, now_ns, batch)
            if reply is not None:
                lines.append(reply)
        batch.close(lines)
        return None

    def _call(
        self, line: Line, call: Call, now_ns: int, answer_to: Send | BatchReply
    ) -> bytes | None:
        route = self._routes[type(call)]
        meta = call.meta
        session, scope = self._begin(line, meta, route.name)
        try:
            self._admit(line, route, call, now_ns)
            request = RequestContext(line, scope, meta, now_ns)
            result = route.handler(request, call.params)
            if route.may_wait and isawaitable(result):
                if isinstance(answer_to, BatchReply):
                    answer_to.expect()
                line.wait_for(Pending(self, call.id, session, request, answer_to), result)
                return None
            return None if call.id is UNSET else result_line(call.id, result)
        except SuperezioError as error:
            return self.failed(call.id, session, scope, error)
        except Exception as error:  # noqa: BLE001 - the edge of a request
            return self.failed(call.id, session, scope, self.unexpected(error))

    def _begin(
        self, line: Line, meta: Meta | None, method: str | None
    ) -> tuple[SessionState, RequestScope]:
        session = line.session
        if meta is None:
            correlation_id = line.new_correlation_id()
        else:
            given = meta.correlation_id
            correlation_id = line.new_correlation_id() if given is None else accept_id(given)
            if meta.session_id is not None:
                session = self._sessions.find(meta.session_id, line.peer.uid) or session
        session.requests += 1
        peer = line.peer
        scope = RequestScope(
            correlation_id=correlation_id,
            session_id=session.id,
            uid=peer.uid,
            pid=peer.pid,
            method=method,
        )
        current_scope.set(scope)
        return session, scope

    def _admit(self, line: Line, route: _Route, call: Call, now_ns: int) -> None:
        if not line.unlimited:
            self._check_limits(line, now_ns)
        if line.rank < route.rank:
            raise self.access.refusal(route.name, role=line.role, needs=route.role)
        if call.meta is not None:
            _check_meta(call.meta)
        if route.may_wait:
            line.check_can_wait(call.id)

    def _check_limits(self, line: Line, now_ns: int) -> None:
        if self.draining:
            raise ShuttingDownError("the daemon is stopping: reconnect and ask again")
        wait_ns = line.account.rate.acquire(now_ns)
        if wait_ns:
            raise _too_fast(line, wait_ns)

    def _refuse(self, line: Line, refusal: Refusal, now_ns: int) -> bytes | None:
        session, scope = self._begin(line, refusal.meta, None)
        error = refusal.error
        if not line.unlimited and (wait_ns := line.account.rate.acquire(now_ns)):
            error = _too_fast(line, wait_ns)
        return self.failed(refusal.id, session, scope, error)

    def failed(
        self,
        request_id: RequestId,
        session: SessionState,
        scope: RequestScope,
        error: SuperezioError,
    ) -> bytes | None:
        """Count an error and return the line that tells it, None for a notification's."""
        session.errors += 1
        self._log.debug("request.failed", kind=error.kind, message=error.message)
        if request_id is UNSET:
            return None
        return error_line(request_id, error, scope.correlation_id)

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

    __slots__ = ("_answer_to", "_dispatcher", "_session", "request", "request_id", "why_cancelled")

    def __init__(
        self,
        dispatcher: CommandDispatcher,
        request_id: RequestId,
        session: SessionState,
        request: RequestContext,
        answer_to: Send | BatchReply,
    ) -> None:
        self._dispatcher = dispatcher
        self.request_id = request_id
        self._session = session
        self.request = request
        self._answer_to = answer_to
        #: Set before the awaitable is cancelled.
        self.why_cancelled: SuperezioError | None = None

    def finish(self, result: object, error: BaseException | None, *, cancelled: bool) -> None:
        """Send the answer."""
        if cancelled:
            error = self.why_cancelled or ShuttingDownError("the daemon gave the request up")
        reply = self._encode(result) if error is None else self._fail(error)
        if isinstance(self._answer_to, BatchReply):
            self._answer_to.add(reply)
        elif reply is not None:
            self._answer_to(reply)

    def _encode(self, result: object) -> bytes | None:
        if self.request_id is UNSET:
            return None
        try:
            return result_line(self.request_id, result)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            return self._fail(error)

    def _fail(self, error: BaseException) -> bytes | None:
        if not isinstance(error, SuperezioError):
            error = self._dispatcher.unexpected(error)
        return self._dispatcher.failed(self.request_id, self._session, self.request.scope, error)


class _Route:
    """What the hot path needs of a method, as plain attributes."""

    __slots__ = ("handler", "may_wait", "name", "rank", "role")

    def __init__(self, method: Method, rank: int) -> None:
        self.name = method.name
        self.handler = method.handler
        self.may_wait = method.may_wait
        self.role = method.role
        self.rank = rank


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


def _too_fast(line: Line, wait_ns: int) -> BusyError:
    return BusyError(
        f"too many requests a second from uid {line.peer.uid}",
        retry_after_ms=-(-wait_ns // 1_000_000),
        data={"limit": "requests_per_second"},
    )
