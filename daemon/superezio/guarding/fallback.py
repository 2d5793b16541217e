"""What stands in for a daemon that is not there: a breaker, a limiter and a cache of this client.

They are the classes that the daemon has, and they begin with nothing: what other programs know of
a service is not known here, nor is what the configuration says. A breaker whose rules are not
given has the built-in ones, and a limit whose rates are not given lets everything through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from superezio import wire
from superezio.calls import Call
from superezio.guarding.local_breakers import LocalBreakers
from superezio.guarding.local_cache import LocalCache
from superezio.guarding.local_limits import LocalLimits
from superezio.guarding.pending import Pending

T = TypeVar("T")

_SECOND_NS: Final = 1_000_000_000


class Fallback:
    """Answers the calls of `superezio.guarding.asking`. For use by any thread."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._breakers = LocalBreakers()
        self._limits = LocalLimits()
        self._cache = LocalCache()
        self._waiting: dict[Pending[Any], None] = {}
        self._next_ns: int | None = None
        self._answers: dict[type, Callable[[Any, int], object]] = {
            wire.BreakerAcquireParams: self._breakers.acquire,
            wire.BreakerSettleParams: self._breakers.settle,
            wire.LimitAcquireParams: self._limits.acquire,
            wire.LimitSettleParams: self._limits.settle,
            wire.CacheGetParams: self._cache.get,
            wire.CacheSetParams: self._cache.set,
            wire.CacheFailParams: self._cache.fail,
        }

    def answer(self, call: Call[T]) -> T | Pending[T]:
        """Return the answer; or, to one that has to wait, what it will be in.

        Who waits calls `turn` when `next_s` is over or it is woken, and `leave` in the end.
        Raises what the daemon would answer.
        """
        with self._lock:
            now_ns = self._clock()
            answer = self._answers[type(call.params)](call.params, now_ns)
            if isinstance(answer, Pending):
                self._waiting[answer] = None
            self._look(now_ns)
            return cast("T | Pending[T]", answer)

    def turn(self) -> None:
        """Do what is due."""
        with self._lock:
            self._look(self._clock())

    def next_s(self) -> float | None:
        """Return in how many seconds something is due, if anything is."""
        with self._lock:
            if self._next_ns is None:
                return None
            return max(0, self._next_ns - self._clock()) / _SECOND_NS

    def leave(self, waiting: Pending[Any]) -> None:
        """Let one go that does not wait any more."""
        with self._lock:
            self._waiting.pop(waiting, None)
            if not waiting.done:
                now_ns = self._clock()
                self._limits.leave(waiting, now_ns)
                self._cache.leave(waiting)
                self._look(now_ns)

    def _look(self, now_ns: int) -> None:
        self._limits.turn(now_ns)
        self._cache.turn(now_ns)
        deadlines = [self._limits.next_ns(), self._cache.next_ns()]
        earlier, self._next_ns = (
            self._next_ns,
            min((each for each in deadlines if each is not None), default=None),
        )
        if self._next_ns is not None and (earlier is None or self._next_ns < earlier):
            for waiting in self._waiting:
                waiting.changed()
