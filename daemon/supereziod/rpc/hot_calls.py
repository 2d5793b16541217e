"""The hot path: calls of methods that are asked thousands of times a second, answered at once.

Written out flat, and with as little work for each request as there can be. What is called is no
attribute, here and in the connection: that would be looked up as a method first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET

from superezio.wire import Meta
from supereziod.rpc.answering import Answering, Line, Pending, enter
from supereziod.rpc.batches import BatchReply
from supereziod.rpc.decoding import Call
from supereziod.rpc.replies import END, ID, RESULT, encode, join
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.route import Route, check_meta

#: Answers a call of a method that is not hot: line, call, its route, the time, its batch.
OtherCall = Callable[[Line, Call, Route, int, BatchReply | None], bytes | None]


class HotCalls:
    """Answers calls at once where that can be done; all others it passes on."""

    def __init__(self, answering: Answering, other_call: OtherCall) -> None:
        self._answering = answering
        self._recording = answering.recording
        self._counts = answering.recorder.plain.counts
        self._begin_series = answering.recorder.plain.begin
        self._other_call = other_call
        # That of the calls with `meta`, of all connections.
        self._marked_request = RequestContext.__new__(RequestContext)
        self._marked_request.timeline = None
        self._marked_request.act = None

    def call(
        self, line: Line, call: Call, now_ns: int, batch: BatchReply | None = None
    ) -> bytes | None:
        """Answer a call that the rate limit has let pass; return what is to be sent at once.

        Leaves the request's scope current.
        """
        route = line.routes[type(call)]
        if call.meta is not None or not route.hot:
            return self._less_hot(line, call, route, now_ns, batch)
        request = line.hot_request
        request.number = line.requests = number = line.requests + 1
        request.received_ns = now_ns
        request.method = route.name
        if line.scope is not request:
            enter(line, request)
        try:
            handler = route.handler
            result = handler(request, call.params)
            if result is None:
                return self._wait(line, call, route, request, batch)
            series = line.series
            if series.marks is route.marks and now_ns < series.until_ns:
                self._counts[series.at] = number - series.before
            elif line.run is None:
                self._begin_series(series, route.marks, line.stamp, number, now_ns)
            else:
                self._recording.answered(line, route.marks, request)
            request_id = call.id
            if request_id is UNSET:
                return None
            return join((RESULT, result, ID, encode(request_id), END))
        except Exception as error:  # noqa: BLE001 - the edge of a request
            return self._failed(line, call, request, error)

    def call_alike(  # noqa: C901 - flat, as `call`
        self, line: Line, calls: Sequence[Call], now_ns: int, replies: list[bytes], room: int
    ) -> int:
        """Do what `call` does for the first of `calls`, as far as they are plain and of one method.

        Adds to `replies`, in pieces, until there are more than `room` bytes of results; returns how
        many calls are done, which may be none. What is the same for all of them is done once.
        """
        kind = type(calls[0])
        route = line.routes[kind]
        if not route.hot:
            return 0
        handler = route.handler
        request = line.hot_request
        request.received_ns = now_ns
        request.method = route.name
        if line.scope is not request:
            enter(line, request)
        first = number = line.requests + 1
        odd: Call | None = None
        error: Exception | None = None
        try:
            for call in calls:
                if type(call) is not kind or call.meta is not None:
                    break
                request.number = number
                result = handler(request, call.params)
                if result is None:
                    odd = call
                    break
                request_id = call.id
                if request_id is not UNSET:
                    replies += (RESULT, result, ID, encode(request_id), END)
                    room -= len(result)
                number += 1
                if room < 0:
                    break
        except Exception as why:  # noqa: BLE001 - the edge of a request
            odd, error = call, why
        line.requests = number - 1
        self._recording.answered_all(line, route.marks, range(first, number), now_ns)
        if odd is None:
            return number - first
        line.requests = number
        told = self._odd_one(line, odd, route, request, error)
        if told is not None:
            replies.append(told)
        return number - first + 1

    def _odd_one(
        self, line: Line, call: Call, route: Route, request: RequestContext,
        error: Exception | None,
    ) -> bytes | None:  # fmt: skip
        """Answer a call that failed, as `error` says, or that has to wait."""
        try:
            if error is None:
                return self._wait(line, call, route, request, None)
        except Exception as why:  # noqa: BLE001 - the edge of a request
            error = why
        return self._failed(line, call, request, error)

    def _less_hot(
        self, line: Line, call: Call, route: Route, now_ns: int, batch: BatchReply | None
    ) -> bytes | None:
        """Answer a call of a method that is not hot, or that says more of itself than most."""
        if route.hot and call.meta is not None:
            return self._marked_call(line, call, call.meta, route, now_ns, batch)
        return self._other_call(line, call, route, now_ns, batch)

    def _marked_call(
        self, line: Line, call: Call, meta: Meta, route: Route, now_ns: int,
        batch: BatchReply | None,
    ) -> bytes | None:  # fmt: skip
        """Answer a hot method's call that has `meta`."""
        request = self._marked_request
        request.origin = line
        request.number = line.requests = line.requests + 1
        request.received_ns = now_ns
        request.method = route.name
        request.meta = meta
        request.session = session = self._answering.session(line, meta)
        request.accepted_id = None
        request.came_to = None
        enter(line, request)
        try:
            check_meta(meta)
            result = route.handler(request, call.params)
            if result is None:
                return self._wait(line, call, route, request, batch)
            if (
                meta.correlation_id is not None
                or meta.traceparent is not None
                or session is not line.session
            ):
                self._recording.by_meta(line, request, route.marks, meta, route.about(call.params))
            else:
                self._recording.answered(line, route.marks, request)
            if call.id is UNSET:
                return None
            return join((RESULT, result, ID, encode(call.id), END))
        except Exception as error:  # noqa: BLE001 - the edge of a request
            return self._failed(line, call, request, error)

    def _failed(
        self, line: Line, call: Call, request: RequestContext, error: Exception
    ) -> bytes | None:
        """Return the line that tells an error, after the requests before it are recorded."""
        self._recording.end_run(line, request.number)
        about = line.routes[type(call)].about(call.params)
        return self._answering.failed(call.id, request, error, about)

    def _wait(
        self, line: Line, call: Call, route: Route, hot: RequestContext, batch: BatchReply | None
    ) -> bytes | None:
        """Have a request wait, under a request of its own, of the same number."""
        timeline = self._answering.recorder.timeline()
        timeline.about = route.about(call.params) or None
        request = RequestContext(
            line, route.name, hot.session, hot.meta, hot.received_ns, hot.number, timeline
        )
        request.accepted_id = hot.accepted_id
        enter(line, request)
        pending = Pending(self._answering, call.id, request, batch)
        line.check_can_wait(call.id)
        awaitable = route.waiting(request, call.params)
        self._answering.wait(line, pending, awaitable)
        return None
