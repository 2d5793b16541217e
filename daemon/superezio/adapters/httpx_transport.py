"""An httpx client behind a breaker and a limit, by one line.

    http = httpx.Client(transport=GuardedTransport(client, "openai"))

Each request asks the limit and the breaker of that name before it is sent. It is over when the body
of its response is: until then it has its slot of the limit, and its time counts (`slow_call_s`).
What it used of the limit is what was reserved: who knows better uses `Client.guard` instead.

5xx and errors of the connection are failures, also those that break a body off. 429 blocks both for
its Retry-After, and is handed on as it is. x-ratelimit-remaining-* and x-ratelimit-reset-* lower
what is left of the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, Unpack, cast

import httpx

from superezio import errors
from superezio.adapters.answers import take_in
from superezio.adapters.httpx_bodies import (
    AsyncBody,
    AsyncRequests,
    Body,
    LeftEarlyError,
    Requests,
    end,
    is_to_come,
)
from superezio.guarding.options import (
    LimitOptions,
    PassOptions,
    refuse_unknown_pass_options,
)
from superezio.traceparent import parse_traceparent
from superezio.when_absent import WhenAbsent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superezio.aio import AsyncClient
    from superezio.client import Client
    from superezio.guarding.composing import GuardedCall

G = TypeVar("G")

_TRACEPARENT: Final = "traceparent"
#: Errors that say nothing of the service: the request was not sent.
_NOT_SENT: Final = (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class _TurnedAwayError(errors.SuperezioError, httpx.TransportError):
    """What both `except httpx.TransportError` and the class of this package catch."""

    @property
    def retry_after(self) -> float:
        """In how many seconds the same request may pass."""
        return (self.retry_after_ms or 0) / 1000


class RequestBlockedError(_TurnedAwayError, errors.BreakerOpenError):
    """The breaker lets no request through now. Nothing was sent."""


class RequestLimitedError(_TurnedAwayError, errors.RateLimitedError):
    """The limit has no room for the request now. Nothing was sent."""


class TransportOptions(PassOptions, total=False):
    """What may be said of requests that go by a guard.

    Besides the options of `Client.guard`, but for the cache: `cost` says of one request what it
    takes of the limit, {"tokens": 900}; `when_absent` and `timeout_s` are as for the guard; `now`
    is the time since the epoch, in seconds.
    """

    cost: Callable[[httpx.Request], LimitOptions]
    now: Callable[[], float]
    when_absent: WhenAbsent | None
    timeout_s: float | None


class GuardedTransport(httpx.BaseTransport):
    """Sends through `transport` (httpx's own, without one) what breaker and limit let through.

    `name` is that of both; `options` are those of `Client.guard`, but for the cache: None for
    `breaker` or `limit` does without it, `tokens` is what each request reserves. `cost` says of one
    request what it takes of the limit: {"tokens": 900}.

    The header `traceparent` of a request is the trace that its guarded call is a part of; one that
    has none is given one, by which `superezioctl trace` finds the call.

    Raises RequestBlockedError and RequestLimitedError, which carry `retry_after`; and what else
    `Client.guard` raises: DaemonNotRunningError where the client is to raise it.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[TransportOptions],
    ) -> None:
        self._requests = _GuardedRequests(client.guard, name, options)
        self._transport = transport or httpx.HTTPTransport()
        self._coming: Requests[ExitStack] = Requests()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, if it may be sent."""
        self._end_what_was_left()
        with _as_httpx_raises(), ExitStack() as held:
            call = held.enter_context(self._requests.guard(request).once())
            self._requests.mark(request, call)
            with _heeding_what_was_not_sent(call):
                response = self._transport.handle_request(request)
            self._requests.take_in(call, response)
            if is_to_come(request, response):
                response.stream = Body(self._coming, held.pop_all(), response)
        return response

    def close(self) -> None:
        """Close what sends; the client of the daemon is its owner's."""
        self._transport.close()
        self._end_what_was_left()

    def _end_what_was_left(self) -> None:
        for held in self._coming.take_left():
            end(held, LeftEarlyError())


class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`, by an `AsyncClient` of the daemon."""

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[TransportOptions],
    ) -> None:
        self._requests = _GuardedRequests(client.guard, name, options)
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._coming = AsyncRequests()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, if it may be sent."""
        await self._end_what_was_left()
        with _as_httpx_raises():
            async with AsyncExitStack() as held:
                call = await held.enter_async_context(self._requests.guard(request).once())
                self._requests.mark(request, call)
                with _heeding_what_was_not_sent(call):
                    response = await self._transport.handle_async_request(request)
                self._requests.take_in(call, response)
                if is_to_come(request, response):
                    response.stream = AsyncBody(self._coming, held.pop_all(), response)
        return response

    async def aclose(self) -> None:
        """Close what sends; the client of the daemon is its owner's."""
        await self._transport.aclose()
        await self._end_what_was_left()
        await self._coming.all_ended()

    async def _end_what_was_left(self) -> None:
        for held in self._coming.take_left():
            await self._coming.end(held, LeftEarlyError())


class _GuardedRequests(Generic[G]):
    """What both transports do: the guard of each request, what goes with it and what came back."""

    def __init__(self, guard: Callable[..., G], name: str, options: TransportOptions) -> None:
        others: dict[str, Any] = dict(options)
        self._cost: Callable[[httpx.Request], LimitOptions] | None = others.pop("cost", None)
        self._now: Callable[[], float] = others.pop("now", time.time)
        manner = {key: others.pop(key) for key in ("when_absent", "timeout_s") if key in others}
        passing = cast("PassOptions", others)
        refuse_unknown_pass_options(passing)

        def make(more: LimitOptions, traceparent: str | None) -> G:
            return guard(name, traceparent=traceparent, **manner, **{**passing, **more})

        self._make = make
        self._always = make({}, None)

    def guard(self, request: httpx.Request) -> G:
        """Return the guard of one request."""
        traceparent = _trace_of(request)
        if self._cost is None and traceparent is None:
            return self._always
        return self._make({} if self._cost is None else self._cost(request), traceparent)

    def mark(self, request: httpx.Request, call: GuardedCall) -> None:
        """Tell the service which trace the request is a part of, if nobody has."""
        if _trace_of(request) is None:
            request.headers[_TRACEPARENT] = call.traceparent

    def take_in(self, call: GuardedCall, response: httpx.Response) -> None:
        """Tell breaker and limit what the response means."""
        take_in(call, response.status_code, response.headers, now_s=self._now())


def _trace_of(request: httpx.Request) -> str | None:
    header: str | None = request.headers.get(_TRACEPARENT)
    return None if header is None or parse_traceparent(header) is None else header


@contextmanager
def _heeding_what_was_not_sent(call: GuardedCall) -> Iterator[None]:
    try:
        yield
    except _NOT_SENT:
        call.ignore()
        raise


@contextmanager
def _as_httpx_raises() -> Iterator[None]:
    """Raise what turns a request away as an error of httpx, too."""
    try:
        yield
    except errors.BreakerOpenError as error:
        raise _like(error, RequestBlockedError) from error
    except errors.RateLimitedError as error:
        raise _like(error, RequestLimitedError) from error


def _like(error: errors.SuperezioError, kind: type[_TurnedAwayError]) -> _TurnedAwayError:
    alike = kind(error.message, retry_after_ms=error.retry_after_ms, data=error.data)
    alike.correlation_id = error.correlation_id
    return alike
