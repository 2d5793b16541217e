"""What an asyncio client asks the daemon for its guarded calls, over its one connection.

Callers of one value share a `cache.get`, each with its own time and free to leave. Requests that
may wait in the daemon take turns, as it takes so many of a connection; their time goes on
meanwhile.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from superezio import wire
from superezio.aio_conversation import AsyncConversation
from superezio.calls import Call
from superezio.errors import (
    BusyError,
    ConnectionLostError,
    DeadlineExceededError,
    FillTimeoutError,
    ReplyTimeoutError,
    SuperezioError,
)
from superezio.guarding.aio_turns import Turns

T = TypeVar("T")

_MS_NS: Final = 1_000_000
#: What a request may wait longer than its caller, rather than being written anew.
_UNNOTICED_S: Final = 0.01
_RETRY_MS: Final = 100
#: What the daemon calls the bounds on how many wait at a time.
_AT_ONCE: Final = frozenset(
    {"in_flight_per_connection", "in_flight_per_uid", "in_flight", "waiters", "waiters_per_uid"}
)
#: What each caller gets when its own time is up.
_OUT_OF_TIME: Final = (FillTimeoutError, ReplyTimeoutError, DeadlineExceededError)


class Errand(Struct, frozen=True, kw_only=True):
    """How a request is made, besides what it asks, as `AsyncConversation.call` takes it."""

    limit_s: float
    closings: int
    patience_s: float = 0.0
    session: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


class AsyncRequests:
    """Makes the requests of one client."""

    def __init__(
        self, conversation: AsyncConversation, *, clock: Callable[[], int], turns: Turns
    ) -> None:
        self._conversation = conversation
        self._clock = clock
        self._turns = turns
        self._gets: dict[Hashable, _SharedGet] = {}

    async def aclose(self) -> None:
        """Cancel what callers share and wait for."""
        tasks = [each.task for each in self._gets.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        self._turns.end_waits()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def tell(self, call: Call[T], errand: Errand) -> T:
        """Make a request that does not wait in the daemon, at once."""
        return await self._conversation.call(
            call,
            limit_s=errand.limit_s + call.wait_s,
            session=errand.session,
            patience_s=errand.patience_s,
            closings=errand.closings,
            correlation_id=errand.correlation_id,
            traceparent=errand.traceparent,
        )

    async def ask(self, call: Call[T], errand: Errand) -> T:
        """Make a request that may wait. Raises what the daemon answers, and as a call does."""
        if call.wait_s <= 0:
            return await self.tell(call, errand)
        if isinstance(call.params, wire.CacheGetParams):
            return cast("T", await self._get_shared(cast("Call[wire.CacheAnswer]", call), errand))
        return await self._in_turn(call, errand)

    async def _in_turn(self, call: Call[T], errand: Errand) -> T:
        lane, begun_ns = _lane(call), self._clock()
        until_ns = begun_ns + round(call.wait_s * 1e9)
        again = False
        while True:
            if not self._turns.take_now(lane):
                try:
                    async with asyncio.timeout((until_ns - self._clock()) / 1e9):
                        await self._turns.take(lane, first=again)
                except TimeoutError:
                    return await self._without_waiting(call, errand)
            try:
                after_s = (self._clock() - begun_ns) / 1e9
                return await self.tell(_made_after(call, after_s), errand)
            except BusyError as error:
                limit, pause_ms = error.data.get("limit"), error.retry_after_ms
                out_of_time = self._clock() + (pause_ms or 0) * _MS_NS >= until_ns
                if limit not in _AT_ONCE or pause_ms is None or out_of_time:
                    raise
                if limit == "in_flight_per_connection":
                    self._turns.have_fewer()
            finally:
                self._turns.give_back(lane)
            await asyncio.sleep(pause_ms / 1000)
            again = True

    async def _without_waiting(self, call: Call[T], errand: Errand) -> T:
        """Ask at the end of one's time: the daemon knows what there is, or what is short."""
        params = call.params
        if isinstance(params, wire.CacheGetParams):
            there = await self.tell(
                replace(call, params=replace(params, fill=False, wait_ms=0), wait_s=0.0), errand
            )
            if cast("wire.CacheAnswer", there).status == "miss":
                raise FillTimeoutError(
                    "other values were still being fetched when the wait ended",
                    retry_after_ms=_RETRY_MS,
                    data={"namespace": params.namespace},
                )
            return there
        if isinstance(params, wire.LimitAcquireParams):
            call = replace(call, params=replace(params, wait_ms=0), wait_s=0.0)
        return await self.tell(call, errand)

    async def _get_shared(self, call: Call[wire.CacheAnswer], errand: Errand) -> wire.CacheAnswer:
        params = cast("wire.CacheGetParams", call.params)
        alike = (
            *(params.namespace, params.key, params.wait_ms, params.lead_ms),
            *(errand.limit_s, errand.patience_s, errand.session, errand.closings),
        )
        get = self._gets.get(alike)
        if get is None:

            def send(call: Call[wire.CacheAnswer]) -> Awaitable[wire.CacheAnswer]:
                return self._in_turn(call, errand)

            def ended(ending: _SharedGet) -> None:
                if self._gets.get(alike) is ending:
                    del self._gets[alike]

            get = self._gets[alike] = _SharedGet(
                call,
                send,
                give_back=self._conversation.undo,
                ended=ended,
                clock=self._clock,
                limit_ns=round(errand.limit_s * 1e9),
            )
        return await get.answer()


class _SharedGet:
    """A `cache.get` that callers share, made again as long as some of them wait for a value."""

    def __init__(
        self,
        call: Call[wire.CacheAnswer],
        send: Callable[[Call[wire.CacheAnswer]], Awaitable[wire.CacheAnswer]],
        *,
        give_back: Callable[[Call[wire.CacheAnswer], wire.CacheAnswer], None],
        ended: Callable[[_SharedGet], None],
        clock: Callable[[], int],
        limit_ns: int,
    ) -> None:
        self._call = call
        self._send = send
        self._give_back = give_back
        self._ended = ended
        self._clock = clock
        self._limit_ns = limit_ns
        self._wait_ns = round(call.wait_s * 1e9)
        #: The callers that wait, in the order in which they came, and since when.
        self._callers: dict[asyncio.Future[wire.CacheAnswer], int] = {}
        self.task: asyncio.Task[None] | None = None

    async def answer(self) -> wire.CacheAnswer:
        """Return what there is for one caller: of all, one is told to fetch the value."""
        caller: asyncio.Future[wire.CacheAnswer] = asyncio.get_running_loop().create_future()
        self._callers[caller] = self._clock()
        if self.task is None:
            self.task = asyncio.create_task(self._run(), name="superezio-get")
            self.task.add_done_callback(self._over)
        try:
            return await caller
        except asyncio.CancelledError:
            self._leave(caller)
            raise

    def _leave(self, caller: asyncio.Future[wire.CacheAnswer]) -> None:
        self._callers.pop(caller, None)
        if caller.done() and not caller.cancelled() and caller.exception() is None:
            # It came as the caller left; what it was to fetch, the next one does.
            self._give_back(self._call, caller.result())
        if not self._callers and self.task is not None:
            self._ended(self)
            self.task.cancel()

    async def _run(self) -> None:
        while self._callers:
            first, since_ns = next(iter(self._callers.items()))
            after_s = (self._clock() - since_ns) / 1e9
            try:
                answer = await self._send(_made_after(self._call, after_s))
            except _OUT_OF_TIME as error:
                self._out_of_time(first, error)
            except SuperezioError as error:
                for caller in self._taken():
                    caller.set_exception(copy.copy(error))
            else:
                self._tell(answer)
        self._ended(self)

    def _tell(self, answer: wire.CacheAnswer) -> None:
        token, others = answer.token, answer
        if token is not None:
            first = next(self._taken(), None)
            if first is None:
                self._give_back(self._call, answer)
                return
            first.set_result(answer)
            others = replace(answer, token=None)
        if answer.status == "lead":
            return  # the others wait for what the first one fetches
        for caller in self._taken():
            caller.set_result(others)

    def _out_of_time(self, first: asyncio.Future[wire.CacheAnswer], error: SuperezioError) -> None:
        """Tell the one whose time it was, and those whose time is up, too."""
        extra_ns = 0 if isinstance(error, FillTimeoutError) else self._limit_ns
        over_ns = self._clock() - self._wait_ns - extra_ns + _MS_NS
        for caller, since_ns in list(self._callers.items()):
            if caller is not first and since_ns > over_ns:
                return
            del self._callers[caller]
            if not caller.done():
                caller.set_exception(copy.copy(error))

    def _taken(self) -> Iterator[asyncio.Future[wire.CacheAnswer]]:
        """Take out one after the other of those that wait, the first that came first."""
        while self._callers:
            caller = next(iter(self._callers))
            del self._callers[caller]
            if not caller.done():
                yield caller

    def _over(self, task: asyncio.Task[None]) -> None:
        """Leave nobody behind: the client was closed, or something is amiss."""
        self._ended(self)
        error = None if task.cancelled() else task.exception()
        for caller in self._taken():
            caller.set_exception(
                error or ConnectionLostError("the client was closed before the daemon answered")
            )


def _made_after(call: Call[T], after_s: float) -> Call[T]:
    return call if after_s < _UNNOTICED_S else call.made_again(after_s)


def _lane(call: Call[Any]) -> Hashable:
    params = call.params
    if isinstance(params, wire.CacheGetParams):
        return call.method, params.namespace
    if isinstance(params, wire.LimitAcquireParams):
        return call.method, params.name, params.key
    return call.method
