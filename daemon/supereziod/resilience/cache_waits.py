"""The requests that wait for another's fetch, and how each is told what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Final

from msgspec import Struct

from superezio.errors import ConflictError, PermissionDeniedError, SuperezioError
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import (
    Failed,
    Filled,
    Join,
    Lead,
    Outcome,
    Stale,
    TimedOut,
)
from superezio.wire import CacheAnswer
from supereziod.resilience import cache_answering
from supereziod.resilience.sharing import Asker, Owned

#: Of values that are given to those who wait, in one lap of the loop.
_BYTES_A_LAP: Final = 2 << 20


class _Wait(Struct, frozen=True):
    future: asyncio.Future[CacheAnswer]
    peer: Asker
    namespace: Owned
    wait_ms: int


class CacheWaits:
    """Who waits, by the numbers that the cache gave them.

    `tell_lead` makes of an answer that may come with a token what its connection is told.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        clock: Callable[[], int],
        tell_lead: Callable[[Lead | Stale, str, Owned], CacheAnswer],
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._tell_lead = tell_lead
        self._waits: dict[int, _Wait] = {}
        self._waiting: Counter[int] = Counter()
        #: Who is to be given a value, and has no answer yet.
        self._filled: deque[tuple[_Wait, Filled]] = deque()
        self._later: asyncio.Handle | None = None

    def count(self, uid: int) -> int:
        """Return how many requests of a user wait."""
        return self._waiting[uid]

    def add(
        self, join: Join, *, peer: Asker, namespace: Owned, wait_ms: int
    ) -> asyncio.Future[CacheAnswer]:
        """Return what will have the answer. To cancel it is to wait no more."""
        future: asyncio.Future[CacheAnswer] = asyncio.get_running_loop().create_future()
        self._waits[join.waiter] = _Wait(future, peer, namespace, wait_ms)
        self._waiting[peer.uid] += 1
        future.add_done_callback(partial(self._left, join.waiter))
        return future

    def deliver(self, outcomes: Iterable[Outcome]) -> None:
        """Tell those who waited how it ended; of a large value to many, some in the next laps.

        A lead that comes to one who is gone is given back at once, for the next to lead.
        """
        left = deque(outcomes)
        while left:
            outcome = left.popleft()
            wait = self._forget(outcome.waiter)
            if wait is not None and not wait.future.done():
                if isinstance(outcome.answer, Filled):
                    self._filled.append((wait, outcome.answer))
                else:
                    self._tell(wait, outcome)
            elif isinstance(outcome.answer, Lead):
                settled = self._cache.abandon(
                    outcome.answer.token, holder=outcome.holder, now_ns=self._clock()
                )
                left.extend(settled.outcomes)
        if self._later is None:
            self._tell_filled()

    def check_again(self, find: Callable[[str, Asker], Owned]) -> None:
        """End the waits of those to whom, by `find`, their namespace is not what it was."""
        for wait in list(self._waits.values()):
            error = _objection(wait, find)
            if error is not None and not wait.future.done():
                wait.future.set_exception(error)

    def _tell_filled(self) -> None:
        """Give values to those they are for, as much in one lap of the loop as keeps nobody."""
        self._later = None
        of, told, size = None, None, 0
        while self._filled and size < _BYTES_A_LAP:
            wait, answer = self._filled.popleft()
            if wait.future.done():
                continue
            if told is None or answer is not of:
                told = cache_answering.filled(answer.value, shared=wait.namespace.owner is None)
                of = answer
            wait.future.set_result(told)
            size += len(answer.value.data)
        if self._filled:
            loop = asyncio.get_running_loop()
            # It goes on for many, and not for the request that happened to begin it.
            self._later = loop.call_soon(self._tell_filled, context=Context())

    def _tell(self, wait: _Wait, outcome: Outcome) -> None:
        answer, owned = outcome.answer, wait.namespace
        if isinstance(answer, Lead | Stale):
            wait.future.set_result(self._tell_lead(answer, str(outcome.holder), owned))
        elif isinstance(answer, Failed | TimedOut):
            error = cache_answering.not_filled(answer, owned.name, wait.wait_ms)
            wait.future.set_exception(error)

    def _left(self, waiter: int, _future: asyncio.Future[CacheAnswer]) -> None:
        if self._forget(waiter) is not None:
            self._cache.leave(waiter)

    def _forget(self, waiter: int) -> _Wait | None:
        wait = self._waits.pop(waiter, None)
        if wait is not None:
            uid = wait.peer.uid
            self._waiting[uid] -= 1
            if not self._waiting[uid]:
                del self._waiting[uid]
        return wait


def _objection(wait: _Wait, find: Callable[[str, Asker], Owned]) -> SuperezioError | None:
    name = wait.namespace.name
    try:
        if find(name, wait.peer) == wait.namespace:
            return None
    except PermissionDeniedError as error:
        return error
    return ConflictError(f"the configuration says anew who shares the namespace {name}: ask again")
