"""How many events a user may bring about by requests: what comes faster is counted, not told.

Whoever may use a breaker, a limit or a namespace can have it change with each request. Each change
is an event for subscribers and a line of the journal, which others read as well and which has a
rate of its own that is for all. So it is of names that are shared: the rate is that of the user
who brings it about. What time brings about there is one more. What an admin does to it is no
matter of this: each of these is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from superezio.resilience.gcra import Gcra

_SECOND: Final = 1_000_000_000
PER_SECOND: Final = 20
BURST: Final = 200
#: With so many users, those who have all of their burst again are forgotten.
_USERS: Final = 256
_NOTHING: Final[Mapping[str, Any]] = {}


class EventRate:
    """Lets through the events of each user: `burst`, and `per_second` from then on."""

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        per_second: int = PER_SECOND,
        burst: int = BURST,
    ) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._by_uid: dict[int | None, _User] = {}
        self._sweep_at = _USERS

    def take(self, owner: int | None, *, by: int | None = None) -> Mapping[str, Any] | None:
        """Return what the data of an event has to have besides, or None where it is not told.

        That is `left_out`: how many of the user's were not told since the last one that was.
        `owner` is None for what is shared; then it is that of `by`, None where time did it.
        """
        uid = by if owner is None else owner
        now_ns = self._clock()
        user = self._by_uid.get(uid)
        if user is None:
            user = self._add(uid, now_ns)
        if user.rate.acquire(now_ns):
            user.left_out += 1
            return None
        if not user.left_out:
            return _NOTHING
        left_out, user.left_out = user.left_out, 0
        return {"left_out": left_out}

    def _add(self, uid: int | None, now_ns: int) -> _User:
        if len(self._by_uid) >= self._sweep_at:
            self._by_uid = {
                each: user
                for each, user in self._by_uid.items()
                if user.left_out or not user.rate.is_full(now_ns)
            }
            # Not again for each one that comes: a crowd of them may all have to be kept.
            self._sweep_at = max(_USERS, 2 * len(self._by_uid))
        user = self._by_uid[uid] = _User(self._per_second, self._burst)
        return user


class _User:
    __slots__ = ("left_out", "rate")

    def __init__(self, per_second: int, burst: int) -> None:
        self.rate = Gcra(limit=per_second, period_ns=_SECOND, burst=burst)
        self.left_out = 0
