"""The requests that wait for another's fetch, and how each is told what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial

from msgspec import Struct

from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import Filled, Join, Lead, Outcome, Stale
from superezio.wire import CacheAnswer
from supereziod.resilience import cache_answering
from supereziod.resilience.sharing import Owned


class _Wait(Struct, frozen=True):
    future: asyncio.Future[CacheAnswer]
    uid: int
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

    def count(self, uid: int) -> int:
        """Return how many requests of a user wait."""
        return self._waiting[uid]

    def add(
        self, join: Join, *, uid: int, namespace: Owned, wait_ms: int
    ) -> asyncio.Future[CacheAnswer]:
        """Return what will have the answer. To cancel it is to wait no more."""
        future: asyncio.Future[CacheAnswer] = asyncio.get_running_loop().create_future()
        self._waits[join.waiter] = _Wait(future, uid, namespace, wait_ms)
        self._waiting[uid] += 1
        future.add_done_callback(partial(self._left, join.waiter))
        return future

    def deliver(self, outcomes: Iterable[Outcome]) -> None:
        """Tell those who waited how it ended.

        A lead that comes to one who is gone is given back at once, for the next to lead.
        """
        left = deque(outcomes)
        while left:
            outcome = left.popleft()
            wait = self._forget(outcome.waiter)
            if wait is not None and not wait.future.done():
                self._tell(wait, outcome)
            elif isinstance(outcome.answer, Lead):
                settled = self._cache.abandon(
                    outcome.answer.token, holder=outcome.holder, now_ns=self._clock()
                )
                left.extend(settled.outcomes)

    def _tell(self, wait: _Wait, outcome: Outcome) -> None:
        answer, owned = outcome.answer, wait.namespace
        if isinstance(answer, Filled):
            told = cache_answering.filled(answer.value, shared=owned.owner is None)
        elif isinstance(answer, Lead | Stale):
            told = self._tell_lead(answer, str(outcome.holder), owned)
        else:
            error = cache_answering.not_filled(answer, owned.name, wait.wait_ms)
            wait.future.set_exception(error)
            return
        wait.future.set_result(told)

    def _left(self, waiter: int, _future: asyncio.Future[CacheAnswer]) -> None:
        if self._forget(waiter) is not None:
            self._cache.leave(waiter)

    def _forget(self, waiter: int) -> _Wait | None:
        wait = self._waits.pop(waiter, None)
        if wait is not None:
            self._waiting[wait.uid] -= 1
            if not self._waiting[wait.uid]:
                del self._waiting[wait.uid]
        return wait
