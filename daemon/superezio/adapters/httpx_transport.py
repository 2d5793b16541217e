"""An httpx client behind a breaker and a limit, by one line.

    http = httpx.Client(transport=GuardedTransport(client, "openai"))

Each request asks the limit and the breaker of that name before it is sent. It counts as over when
the headers of its response are in: a body that is streamed may come for a long time after that.
What it used of the limit is what was reserved: who knows better uses `Client.guard` instead.

5xx and errors of the connection are failures. 429 blocks both for its Retry-After, and is handed
on as it is. x-ratelimit-remaining-* and x-ratelimit-reset-* lower what is left of the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Unpack

import httpx

from superezio import errors
from superezio.adapters.answers import take_in
from superezio.guarding.options import refuse_unknown_pass_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superezio.aio import AsyncClient
    from superezio.client import Client
    from superezio.guarding.around import Around, AsyncAround
    from superezio.guarding.composing import GuardedCall
    from superezio.guarding.options import LimitOptions, PassOptions
    from superezio.when_absent import WhenAbsent

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


class GuardedTransport(httpx.BaseTransport):
    """Sends through `transport` (httpx's own, without one) what breaker and limit let through.

    `name` is that of both; `options` are those of `Client.guard`, but for the cache: None for
    `breaker` or `limit` does without it, `tokens` is what each request reserves. `cost` says of one
    request what it takes of the limit: {"tokens": 900}.

    Raises RequestBlockedError and RequestLimitedError, which carry `retry_after`; and what else
    `Client.guard` raises: DaemonNotRunningError where the client is to raise it.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        transport: httpx.BaseTransport | None = None,
        cost: Callable[[httpx.Request], LimitOptions] | None = None,
        now: Callable[[], float] = time.time,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **options: Unpack[PassOptions],
    ) -> None:
        refuse_unknown_pass_options(options)

        def guard(more: LimitOptions) -> Around[GuardedCall]:
            all_of: PassOptions = {**options, **more}
            return client.guard(name, when_absent=when_absent, timeout_s=timeout_s, **all_of)

        self._guard = guard
        self._always = guard({})
        self._transport = transport or httpx.HTTPTransport()
        self._cost = cost
        self._now = now

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, if it may be sent."""
        guard = self._always if self._cost is None else self._guard(self._cost(request))
        with _as_httpx_raises(), guard as call:
            try:
                response = self._transport.handle_request(request)
            except _NOT_SENT:
                call.ignore()
                raise
            take_in(call, response.status_code, response.headers, now_s=self._now())
        return response

    def close(self) -> None:
        """Close what sends; the client of the daemon is its owner's."""
        self._transport.close()


class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`, by an `AsyncClient` of the daemon."""

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        cost: Callable[[httpx.Request], LimitOptions] | None = None,
        now: Callable[[], float] = time.time,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **options: Unpack[PassOptions],
    ) -> None:
        refuse_unknown_pass_options(options)

        def guard(more: LimitOptions) -> AsyncAround[GuardedCall]:
            all_of: PassOptions = {**options, **more}
            return client.guard(name, when_absent=when_absent, timeout_s=timeout_s, **all_of)

        self._guard = guard
        self._always = guard({})
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._cost = cost
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, if it may be sent."""
        guard = self._always if self._cost is None else self._guard(self._cost(request))
        with _as_httpx_raises():
            async with guard as call:
                try:
                    response = await self._transport.handle_async_request(request)
                except _NOT_SENT:
                    call.ignore()
                    raise
                take_in(call, response.status_code, response.headers, now_s=self._now())
        return response

    async def aclose(self) -> None:
        """Close what sends; the client of the daemon is its owner's."""
        await self._transport.aclose()


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
