"""The one place that every request goes through.

correlation -> the daemon's own rate limit -> access -> deadline -> handler -> encode. A refusal
costs more than an answer, so that it is charged like one. A handler that answers at once is
answered inline, with no task.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isawaitable
from typing import Any, Final

from superezio import milliseconds
from superezio.errors import BusyError, SuperezioError
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.ring import Ring
from supereziod.rpc.access import RANK, AccessPolicy
from supereziod.rpc.answering import Answering, Line, Pending, Routes
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.batches import BatchReply, OpenBatch
from supereziod.rpc.decoding import Call, Refusal, RequestDecoder, Signature
from supereziod.rpc.hot_calls import HotCalls
from supereziod.rpc.method import Method
from supereziod.rpc.route import Route, check_meta
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.turns import Turn

#: A batch is answered in one line: with so much of an answer, its other members are refused, or
#: a line of a few kilobytes would take hundreds of megabytes.
MAX_BATCH_ANSWER_BYTES: Final = 4 << 20


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
        audit: AuditTrail | None = None,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        methods = tuple(methods)
        self.decoder = RequestDecoder(
            [Signature(each.name, each.params, each.hands_out) for each in methods],
            max_batch=max_batch,
        )
        #: Where requests leave their records; without one, in a small ring that no file keeps.
        self.recorder = recorder if recorder is not None else FlightRecorder(Ring.in_memory())
        routes = {
            self.decoder.call_types[each.name]: Route(
                each, RANK[each.role], self.recorder.marks_of(each.name)
            )
            for each in methods
        }
        if len(routes) != len(methods):
            raise ValueError("two methods of one name")
        #: By the rank of a role: what it may not use is no matter of the hot path.
        self.routes_of: dict[int, Routes] = {
            rank: {kind: each.for_rank(rank) for kind, each in routes.items()}
            for rank in RANK.values()
        }
        self.draining = False
        self._answering = Answering(
            access=access,
            sessions=sessions,
            recorder=self.recorder,
            audit=audit if audit is not None else AuditTrail(),
            logger=logger,
        )
        self.recording = self._answering.recording
        #: Answers calls that the rate limit has let pass.
        self.calls = HotCalls(self._answering, self._other_call)

    @property
    def access(self) -> AccessPolicy:
        """Who has which role."""
        return self._answering.access

    @access.setter
    def access(self, access: AccessPolicy) -> None:
        self._answering.access = access

    def drain(self) -> None:
        """Refuse whatever comes from now on; what is in flight goes on."""
        self.draining = True
        for routes in self.routes_of.values():
            for route in routes.values():
                route.close()

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
            what = item if batch.size <= MAX_BATCH_ANSWER_BYTES else self._too_much(line, item)
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
            return self._refuse(line, what, what.error, now_ns)
        return self.calls.call(line, what, now_ns, batch)

    def _other_call(
        self, line: Line, call: Call, route: Route, now_ns: int, batch: BatchReply | None
    ) -> bytes | None:
        """Answer a call of a method that is not hot."""
        request = self._answering.request(line, route.name, call.meta, now_ns)
        if route.audit != "never":
            self._answering.audit.begin(request, route, call.params)
        if request.timeline is not None:
            request.timeline.about = route.about(call.params) or None
        try:
            reply = self._done(line, call, route, Pending(self._answering, call.id, request, batch))
        except Exception as error:  # noqa: BLE001 - the edge of a request
            reply = self._answering.failed(call.id, request, error)
        line.charge_since(now_ns)
        return reply

    def _done(self, line: Line, call: Call, route: Route, pending: Pending) -> bytes | None:
        """Do what a call asks for; return its answer, None where it waits for that."""
        request = pending.request
        self._answering.check_role(line, route)
        if request.meta is not None:
            check_meta(request.meta)
        if route.may_wait:
            line.check_can_wait(call.id)
        result = route.handler(request, call.params)
        if route.may_wait and isawaitable(result):
            if request.act is not None:
                self._answering.audit.waits(request, request.act)
            self._answering.wait(line, pending, result)
            return None
        return self._answering.answered(call.id, request, result)

    def _too_fast(
        self, line: Line, what: Call | Refusal, now_ns: int, wait_ns: int
    ) -> bytes | None:
        """Refuse what the rate limit has not let pass."""
        error = BusyError(
            f"too many requests a second from uid {line.peer.uid}",
            retry_after_ms=milliseconds.rounded_up(wait_ns),
            data={"limit": "requests_per_second"},
        )
        return self._refuse(line, what, error, now_ns)

    def _refuse(
        self, line: Line, what: Call | Refusal, error: SuperezioError, now_ns: int
    ) -> bytes | None:
        """Turn away what no handler is to see."""
        route = self._route_of(line, what)
        name = None if route is None else route.name
        request = self._answering.request(line, name, what.meta, now_ns)
        reply = self._answering.failed(what.id, request, error)
        if route is not None:
            self._answering.audit.turned_away(request, route, what.params, error)
        line.charge_since(now_ns)
        return reply

    def _route_of(self, line: Line, what: Call | Refusal) -> Route | None:
        if isinstance(what, Call):
            return line.routes[type(what)]
        return None if what.method is None else line.routes[self.decoder.call_types[what.method]]

    def _too_much(self, line: Line, item: Call | Refusal) -> Refusal:
        """Return what becomes of a member of a batch whose answer is long enough."""
        error = BusyError(
            f"the answer to the batch has {MAX_BATCH_ANSWER_BYTES} bytes already: ask for this"
            " alone",
            data={"limit": "batch_answer_bytes"},
        )
        route = self._route_of(line, item)
        name = None if route is None else route.name
        return Refusal(id=item.id, error=error, meta=item.meta, method=name, params=item.params)
