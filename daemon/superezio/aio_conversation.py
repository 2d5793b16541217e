"""One connection on which calls are made at the same time, over restarts of the daemon."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from superezio import calls, envelope, wire
from superezio.calls import Call
from superezio.connection import Backoff, cannot_connect, deadline_ms, may_come_back
from superezio.conversation import Asked, no_answer
from superezio.errors import (
    ConnectionLostError,
    ReplyTimeoutError,
    ShuttingDownError,
    SuperezioError,
)
from superezio.keeping import FINAL, OF_THE_CALL, KeptLeases
from superezio.link import Link

T = TypeVar("T")

#: What these hand out ends with the connection.
_LENT: Final = frozenset({"breaker.acquire", "limit.acquire", "cache.get"})


class AsyncConversation:
    """Makes calls for an `AsyncClient`, within one loop; none waits for another.

    `correlation_id` is called for each request.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        correlation_id: Callable[[], str | None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._socket_path = socket_path
        self._correlation_id = correlation_id
        self._clock = clock
        #: Set when the call that is connecting is done with it.
        self._connecting: asyncio.Event | None = None
        self._ids = itertools.count(1)
        self._leases = KeptLeases()
        #: How often this was closed: a call that began before is not made again.
        self.closings = 0
        #: Who has something of the daemon's on the connection, or waits for an answer.
        self._users = 0
        self._to_end = False
        self._lends = False
        self.link: Link | None = None

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """See that the connection does not end for being idle, for the length of a block."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            await self._end_if_idle()

    def note_lent(self, call: Call[T]) -> None:
        """Take in that a caller has what `call` gets until it settles it, by itself."""
        self._lends = self._lends or call.method in _LENT

    async def end_when_idle(self) -> None:
        """End the connection as soon as nobody uses it, so that the daemon takes back what it lent.

        Not while it has a lease of mode connection, or what `note_lent` was told of.
        """
        self._to_end = True
        await self._end_if_idle()

    async def _end_if_idle(self) -> None:
        if not self._to_end or self._users or self._lends or self._leases:
            return
        self._to_end = False
        link, self.link = self.link, None
        if link is not None:
            await link.aclose()

    async def call(
        self,
        call: Call[T],
        *,
        limit_s: float,
        session: str | None,
        patience_s: float = math.inf,
        closings: int | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> T:
        """Make a call, again where that is safe and the connection ended, and return its result.

        That nobody listens is waited out for `patience_s` at most. `closings` is how often this had
        been closed when what the call belongs to began: after a further time it is not made.
        `correlation_id` takes the place of the one that is called for; `traceparent` is the trace
        that the call is a part of.

        One that is cancelled, or out of time, is cancelled in the daemon too. Raises what the
        daemon answers, or DaemonNotRunningError, ReplyTimeoutError, ConnectionLostError.
        """
        asked = Asked(session=session, correlation_id=correlation_id, traceparent=traceparent)
        self._users += 1
        try:
            closings = self.closings if closings is None else closings
            return await self._made(call, limit_s, asked, patience_s=patience_s, closings=closings)
        finally:
            self._users -= 1
            await self._end_if_idle()

    def undo(self, call: Call[T], result: T) -> None:
        """Give back what a call got, without waiting for it: over the connection of now."""
        undoing = None if call.undo is None else call.undo(result)
        if undoing is not None and self.link is not None:
            _send(self.link, undoing)

    async def _made(
        self, call: Call[T], limit_s: float, asked: Asked, *, patience_s: float, closings: int
    ) -> T:
        self._check_open(closings)
        begun_ns = self._clock()
        deadline_ns = begun_ns + round(limit_s * 1e9)
        patient_until_ns = begun_ns + round(min(patience_s, limit_s) * 1e9)
        backoff = Backoff(deadline_ns=deadline_ns, clock=self._clock)
        again = False
        while True:
            try:
                link = await self._connected(deadline_ns, asked, closings)
                after_s = (self._clock() - begun_ns) / 1e9
                to_send = call.made_again(after_s) if again else call
                return await self._exchange(link, to_send, deadline_ns, asked)
            except OSError as error:
                patient = self._clock() < patient_until_ns
                pause_s = backoff.next_pause_s() if may_come_back(error, patient=patient) else None
                if pause_s is None:
                    raise cannot_connect(self._socket_path, error) from error
            except (ConnectionLostError, ShuttingDownError):
                self._check_open(closings)
                again = True
                pause_s = backoff.next_pause_s() if call.idempotent else None
                if pause_s is None:
                    raise
            except ReplyTimeoutError as error:
                raise no_answer(call.method, limit_s, self._socket_path) from error
            await asyncio.sleep(pause_s)
            self._check_open(closings)

    def keep(self, lease: str) -> None:
        """Resume that connection lease after each reconnect."""
        self._leases.keep(lease)

    def give_up(self, lease: str) -> None:
        """Resume it no more."""
        self._leases.give_up(lease)

    async def aclose(self) -> None:
        """End the connection, and the leases that hang on it. The next call connects anew.

        Calls still in flight raise ConnectionLostError.
        """
        self.closings += 1
        self._leases.clear()
        link, self.link = self.link, None
        if link is not None:
            await link.aclose()

    def _check_open(self, closings: int) -> None:
        if closings != self.closings:
            raise ConnectionLostError("the client was closed before the daemon answered")

    async def _connected(self, deadline_ns: int, asked: Asked, closings: int) -> Link:
        while True:
            if self.link is not None and not self.link.lost and not self._leases.due:
                return self.link
            left_s = (deadline_ns - self._clock()) / 1e9
            try:
                async with asyncio.timeout(left_s):
                    if self._connecting is None:
                        return await self._connect_for_all(deadline_ns, asked, closings)
                    # Another call is connecting, and may have more time than this one. All that
                    # wait for it go on in the order in which they came.
                    await self._connecting.wait()
            except TimeoutError as error:
                raise ReplyTimeoutError("out of time") from error

    async def _connect_for_all(self, deadline_ns: int, asked: Asked, closings: int) -> Link:
        self._connecting = over = asyncio.Event()
        try:
            link = await self._connect(closings)
            for lease in self._leases.due:
                await self._resume(link, lease, deadline_ns, asked)
            return link
        finally:
            self._connecting = None
            over.set()

    async def _connect(self, closings: int) -> Link:
        self._check_open(closings)
        if self.link is not None and not self.link.lost:
            return self.link
        link = await Link.open(self._socket_path)
        if closings != self.closings:
            await link.aclose()
        self._check_open(closings)
        self.link = link
        self._to_end = False
        self._leases.connected_anew()
        return link

    async def _resume(self, link: Link, lease: str, deadline_ns: int, asked: Asked) -> None:
        by_itself = Asked(session=asked.session)
        try:
            await self._exchange(link, calls.lease_resume(lease), deadline_ns, by_itself)
        except FINAL:
            self._leases.give_up(lease)
        except OF_THE_CALL:
            raise
        except SuperezioError:
            return  # it stays due
        else:
            self._leases.resumed(lease)

    async def _exchange(self, link: Link, call: Call[T], deadline_ns: int, asked: Asked) -> T:
        await link.writable()
        left_ns = max(1_000_000, deadline_ns - self._clock())
        id_ = next(self._ids)
        meta = wire.Meta(
            correlation_id=asked.correlation_id or self._correlation_id(),
            session_id=asked.session,
            traceparent=asked.traceparent,
            deadline_ms=deadline_ms(left_ns),
            idempotency_key=call.idempotency_key,
        )
        answer = link.request(id_, envelope.encode(call.method, call.params, id_=id_, meta=meta))
        timer = asyncio.get_running_loop().call_later(left_ns / 1e9, _expire, answer)
        try:
            reply = await answer
        except (asyncio.CancelledError, ReplyTimeoutError):
            link.cancel(id_)
            if call.undo is not None:
                self._undo_late(link, id_, call, answer)
            raise
        finally:
            timer.cancel()
            link.forget(id_)
        return envelope.result_of(reply, call.result)

    def _undo_late(
        self, link: Link, id_: int, call: Call[T], answer: asyncio.Future[envelope.Reply]
    ) -> None:
        """Give back what the daemon granted before it heard that nobody waits for it."""

        def undo(reply: envelope.Reply) -> None:
            if reply.error is None and call.undo is not None:
                undoing = call.undo(envelope.result_of(reply, call.result))
                if undoing is not None:
                    _send(link, undoing)

        if answer.done() and not answer.cancelled() and answer.exception() is None:
            undo(answer.result())
        else:
            link.expect_late(id_, undo)


def _send(link: Link, call: Call[Any]) -> None:
    link.send(envelope.encode(call.method, call.params, id_=None, meta=None))


def _expire(answer: asyncio.Future[envelope.Reply]) -> None:
    if not answer.done():
        answer.set_exception(ReplyTimeoutError("out of time"))
