"""Events for a program on asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from superezio import calls, envelope, wire
from superezio.calls import Call
from superezio.connection import Backoff, cannot_connect, may_come_back
from superezio.errors import ConnectionLostError, ReplyTimeoutError, ShuttingDownError
from superezio.following import Place
from superezio.link import Link

T = TypeVar("T")

#: With so many events unread the link stops reading; the daemon counts what is lost from then on.
_MOST_UNREAD = 1000


class AsyncEvents:
    """Events as they come: an async iterator, made by `AsyncClient.events`.

    Use it in `async with`, or call `aclose`.
    """

    def __init__(
        self,
        socket_path: str,
        types: Sequence[str],
        *,
        replay: int,
        timeout_s: float,
        reconnect_timeout_s: float | None,
        clock: Callable[[], int],
    ) -> None:
        self._socket_path = socket_path
        self._types = types
        self._place = Place(replay=replay)
        self._timeout_s: float | None = timeout_s
        self._reconnect_timeout_s = reconnect_timeout_s
        self._clock = clock
        self._link: Link | None = None
        self._ready: deque[wire.EventNotification] = deque()
        self._something = asyncio.Event()
        self._closed = False
        #: How many past events the first answer brought: so many can be had without waiting.
        self.replayed = 0
        #: Those of `types` that the daemon knows no event of; None of a daemon that does not say.
        self.unknown_types: list[str] | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> wire.EventNotification:
        """Return the next event. Raises StopAsyncIteration once closed."""
        while not self._ready:
            if self._closed:
                await self._drop_link()  # it may have been opened while this was being closed
                raise StopAsyncIteration
            if self._link is None or self._link.lost:
                await self._open()
                continue
            self._something.clear()
            await self._something.wait()
        notification = self._ready.popleft()
        self._place.advance(notification)
        if len(self._ready) == _MOST_UNREAD // 2 and self._link is not None:
            self._link.hold(on=False)
        return notification

    async def aclose(self) -> None:
        """End the subscription; whoever waits for the next event gets StopAsyncIteration."""
        self._closed = True
        self._something.set()
        await self._drop_link()

    async def _open(self) -> None:
        limit_s, self._timeout_s = self._timeout_s, self._reconnect_timeout_s
        deadline_ns = None if limit_s is None else self._clock() + round(limit_s * 1e9)
        backoff = Backoff(deadline_ns=deadline_ns, clock=self._clock)
        while True:
            try:
                await self._subscribe(deadline_ns)
            except OSError as error:
                pause_s = backoff.next_pause_s() if may_come_back(error, patient=True) else None
                if pause_s is None:
                    raise cannot_connect(self._socket_path, error) from error
            except (ConnectionLostError, ShuttingDownError):
                pause_s = backoff.next_pause_s()
                if pause_s is None:
                    raise
            else:
                return
            await asyncio.sleep(pause_s)

    async def _subscribe(self, deadline_ns: int | None) -> None:
        await self._drop_link()
        self._ready.clear()
        link = self._link = await Link.open(
            self._socket_path, listener=self._take, on_lost=self._something.set
        )
        try:
            pong = await self._ask(link, 1, calls.system_ping(), deadline_ns)
            subscription = calls.events_subscribe(self._types, self._place.replay)
            subscribed = await self._ask(link, 2, subscription, deadline_ns)
        except BaseException:
            await self._drop_link()
            raise
        missed = self._place.resume(subscribed, daemon_pid=pong.pid)
        self.replayed = len(missed)
        self.unknown_types = subscribed.unknown_types
        # Before those that were pushed while this coroutine was waiting for its turn.
        self._ready.extendleft(reversed(missed))

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    async def _ask(self, link: Link, id_: int, call: Call[T], deadline_ns: int | None) -> T:
        answer = link.request(id_, envelope.encode(call.method, call.params, id_=id_, meta=None))
        left_s = None if deadline_ns is None else max(0, deadline_ns - self._clock()) / 1e9
        try:
            # Not wait_for: before Python 3.12 it may swallow a cancellation.
            async with asyncio.timeout(left_s):
                reply = await answer
        except TimeoutError:
            raise ReplyTimeoutError(
                f"the daemon on {self._socket_path} did not answer {call.method} in time"
            ) from None
        return envelope.result_of(reply, call.result)

    def _take(self, message: envelope.Reply) -> None:
        if message.method != "event":
            return
        notification = envelope.decode_body(message.params, wire.EventNotification)
        self._ready.append(notification)
        self._something.set()
        if len(self._ready) >= _MOST_UNREAD and self._link is not None:
            self._link.hold(on=True)
