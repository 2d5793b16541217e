"""Bodies of responses that come by and by: what is held for a request is given back at their end.

A body that is read to its end went well. One that breaks off, or does not come in time, is a
failure. One that its reader closes before the end, or is cancelled in, says nothing of the service.

A response that nobody reads or closes is noticed when it is collected as garbage, which may be in
any thread and at any moment: its request is settled with the next one of the transport.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Final, Generic, TypeVar

import httpx

E = TypeVar("E")

_NO_CONTENT: Final = frozenset({204, 304})
_FIRST_WITH_CONTENT: Final = 200
#: What the streams of language models end with: who reads it closes, whatever may still come.
_LAST_EVENT: Final = b"[DONE]"
_TAIL_BYTES: Final = 2 * len(_LAST_EVENT)


def is_to_come(request: httpx.Request, response: httpx.Response) -> bool:
    """Tell whether a response has a body that is not there yet."""
    status = response.status_code
    return not (
        response.is_closed
        or request.method == "HEAD"
        or status < _FIRST_WITH_CONTENT
        or status in _NO_CONTENT
        or response.headers.get("content-length") == "0"
    )


class LeftEarlyError(BaseException):
    """Ends the block of a request whose body is closed before its end. Nobody gets to see it."""


class Requests(Generic[E]):
    """What is held for requests whose bodies come, each settled once. For use by any thread."""

    def __init__(self) -> None:
        self._held: dict[int, E] = {}
        self._left: deque[int] = deque()
        self._numbers = itertools.count()

    def add(self, held: E) -> int:
        """Keep what ends a request, and return its number."""
        number = next(self._numbers)
        self._held[number] = held
        return number

    def take(self, number: int) -> E | None:
        """Return what ends a request, to the first who asks."""
        return self._held.pop(number, None)

    def leave(self, number: int) -> None:
        """Note that nobody has the body of a request any more."""
        if number in self._held:
            self._left.append(number)

    def take_left(self) -> Iterator[E]:
        """Yield what ends the requests whose bodies nobody has any more."""
        while True:
            try:
                held = self.take(self._left.popleft())
            except IndexError:
                return
            if held is not None:
                yield held


class AsyncRequests(Requests[AsyncExitStack]):
    """The same with asyncio. What ends a request goes on if its reader is cancelled meanwhile.

    A reader that waits for the end of a body only for so long (openai's does) cancels whatever is
    awaited then, also what tells that the body has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._endings: set[asyncio.Task[None]] = set()

    async def end(self, held: AsyncExitStack, error: BaseException | None) -> None:
        """End the block of a request as if `error` had been raised in it."""
        ending = asyncio.create_task(_end_async(held, error))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def all_ended(self) -> None:
        """Wait for those that are being ended."""
        await asyncio.gather(*self._endings, return_exceptions=True)


class _Reading(Generic[E]):
    """How far a body was read."""

    def __init__(self, requests: Requests[E], held: E, response: httpx.Response) -> None:
        self._requests = requests
        self._number = requests.add(held)
        kind = response.headers.get("content-type", "")
        self._is_of_events = kind.startswith("text/event-stream")
        self._tail = b""

    def __del__(self) -> None:
        self._requests.leave(self._number)

    def _noted(self, part: bytes) -> bytes:
        if self._is_of_events:
            self._tail = (self._tail + part)[-_TAIL_BYTES:]
        return part

    def _unless_over(self, error: BaseException | None) -> BaseException | None:
        return None if _LAST_EVENT in self._tail else error

    def _taken(self) -> E | None:
        return self._requests.take(self._number)


class Body(_Reading[ExitStack], httpx.SyncByteStream):
    """The body of a response; `held` is exited at its end, with the error that ended it."""

    def __init__(
        self, requests: Requests[ExitStack], held: ExitStack, response: httpx.Response
    ) -> None:
        super().__init__(requests, held, response)
        self._stream = _sync(response)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._stream:
                yield self._noted(part)
        except GeneratorExit:
            raise  # its reader has enough: closing the response settles it
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def close(self) -> None:
        """Close the response, whatever came of its body."""
        try:
            self._stream.close()
        finally:
            self._end(LeftEarlyError())

    def _end(self, error: BaseException | None) -> None:
        held = self._taken()
        if held is not None:
            end(held, self._unless_over(error))


class AsyncBody(_Reading[AsyncExitStack], httpx.AsyncByteStream):
    """The same with asyncio."""

    def __init__(
        self, requests: AsyncRequests, held: AsyncExitStack, response: httpx.Response
    ) -> None:
        super().__init__(requests, held, response)
        self._endings = requests
        self._stream = _async(response)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield self._noted(part)
        except GeneratorExit:
            raise  # its reader has enough: closing the response settles it
        except BaseException as error:
            await self._end(error)
            raise
        await self._end(None)

    async def aclose(self) -> None:
        """Close the response, whatever came of its body."""
        try:
            await self._stream.aclose()
        finally:
            await self._end(LeftEarlyError())

    async def _end(self, error: BaseException | None) -> None:
        held = self._taken()
        if held is not None:
            await self._endings.end(held, self._unless_over(error))


def end(held: ExitStack, error: BaseException | None) -> None:
    """End the block of a request as if `error` had been raised in it."""
    if error is None:
        held.close()
    else:
        held.__exit__(type(error), error, error.__traceback__)


async def _end_async(held: AsyncExitStack, error: BaseException | None) -> None:
    if error is None:
        await held.aclose()
    else:
        await held.__aexit__(type(error), error, error.__traceback__)


def _sync(response: httpx.Response) -> httpx.SyncByteStream:
    if not isinstance(response.stream, httpx.SyncByteStream):
        raise TypeError("the transport of a blocking client has to send blocking requests")
    return response.stream


def _async(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport of an asyncio client has to send asyncio requests")
    return response.stream
