"""Rate limits in integer nanoseconds (GCRA): exact at any rate, with one number of state."""

from __future__ import annotations


class Gcra:
    """One dimension of a limit: `limit` units a `period_ns`, of which `burst` may come at once.

    The state is the theoretical arrival time: when all that was granted is paid back. The clock is
    the caller's, monotonic, so that one reading serves a whole batch of decisions.
    """

    __slots__ = ("_limit", "_period_ns", "burst", "burst_ns", "final_ns", "tat_ns", "unit_ns")

    def __init__(self, *, limit: int, period_ns: int, burst: int) -> None:
        if limit < 1 or period_ns < 1 or burst < 1:
            raise ValueError("limit, period_ns and burst have to be positive")
        self._period_ns = period_ns
        self.tat_ns = 0
        #: What was taken by then is not given back: see `lower` and `reshape`.
        self.final_ns = -1
        self.set_rate(limit=limit, burst=burst)

    def set_rate(self, *, limit: int, burst: int) -> None:
        """Grant at another rate from now on; what is owed stays owed."""
        self._limit = limit
        self.burst = burst
        #: The time that one unit, and the whole burst, take to grow.
        self.unit_ns = self._interval(1)
        self.burst_ns = self._interval(burst)

    def acquire(self, now_ns: int, cost: int = 1) -> int:
        """Take `cost` units and return 0, or take nothing and return the nanoseconds to wait.

        Raises ValueError where `cost` is more than the burst: no wait would ever do.
        """
        tat = self.tat_ns
        if tat < now_ns:  # noqa: PLR1730 - max() is slow here
            tat = now_ns
        if cost == 1:
            tat += self.unit_ns
        elif cost <= self.burst:
            tat += self._interval(cost)
        else:
            raise ValueError(f"cost {cost} is more than the burst of {self.burst}: it never passes")
        ahead_ns = tat - now_ns
        if ahead_ns > self.burst_ns:
            return ahead_ns - self.burst_ns
        self.tat_ns = tat
        return 0

    def available(self, now_ns: int) -> int:
        """Return the highest cost that would pass now: of a whole burst, the burst.

        Negative where more is owed than the burst.
        """
        room_ns = self.burst_ns - max(self.tat_ns - now_ns, 0)
        return min(self.burst, room_ns * self._limit // self._period_ns)

    def is_full(self, now_ns: int) -> bool:
        """Whether the whole burst is there, so that forgetting this limiter loses nothing."""
        return self.tat_ns <= now_ns

    def wait_ns(self, now_ns: int, cost: int) -> int:
        """Return the nanoseconds until `cost` would pass, 0 where it passes now. Takes nothing.

        Raises ValueError where `cost` is more than the burst.
        """
        if cost > self.burst:
            raise ValueError(f"cost {cost} is more than the burst of {self.burst}: it never passes")
        ahead_ns = self.tat_ns - now_ns
        if ahead_ns < 0:  # noqa: PLR1730 - max() is slow here
            ahead_ns = 0
        short_ns = ahead_ns + self._interval(cost) - self.burst_ns
        return short_ns if short_ns > 0 else 0  # noqa: FURB136 - max() is slow here

    def take(self, now_ns: int, cost: int) -> None:
        """Take `cost` units without asking, even beyond the burst: the next callers wait."""
        self.tat_ns = max(self.tat_ns, now_ns) + self._interval(cost)

    def settle(self, now_ns: int, reserved: int, actual: int, *, taken_ns: int) -> None:
        """Correct what was taken at `taken_ns` from `reserved` to `actual` units.

        The whole has then cost what `actual` would have. More is owed, beyond the burst if need
        be; less is given back, but never so that there is more than the burst.
        """
        delta_ns = self._interval(actual) - self._interval(reserved)
        if delta_ns > 0:
            self.tat_ns = max(self.tat_ns, now_ns) + delta_ns
        elif delta_ns < 0 and taken_ns > self.final_ns and self.tat_ns > now_ns:
            self.tat_ns = max(self.tat_ns + delta_ns, now_ns)

    def lower(self, now_ns: int, remaining: int) -> None:
        """Leave no more than `remaining` units for now; where fewer are left, change nothing.

        What was taken before is not given back then: who told of `remaining` has counted it.
        """
        left_ns = max(remaining, 0) * self._period_ns // self._limit
        tat_ns = now_ns + self.burst_ns - left_ns
        if tat_ns > self.tat_ns and tat_ns > now_ns:
            self.tat_ns = tat_ns
            self.final_ns = max(now_ns, self.final_ns + 1)

    def reshape(self, now_ns: int, *, limit: int, period_ns: int, burst: int) -> None:
        """Grant at another rate from now on; what is owed stays owed.

        What was taken before is not given back: it was taken at the old rate.
        """
        self._period_ns = period_ns
        self.set_rate(limit=limit, burst=burst)
        self.final_ns = now_ns

    def clear(self, now_ns: int) -> None:
        """Give the whole burst back. What was taken before is not given back once more."""
        self.tat_ns = 0
        self.final_ns = now_ns

    def owe_at_most(self, now_ns: int, ahead_ns: int) -> None:
        """Have the whole burst back after `ahead_ns` more than it takes to grow, at the latest."""
        self.tat_ns = min(self.tat_ns, now_ns + self.burst_ns + ahead_ns)

    def rebuild_ns(self, cost: int) -> int:
        """Return how long it takes to grow back what `cost` takes."""
        return self._interval(cost)

    def _interval(self, cost: int) -> int:
        return -(-cost * self._period_ns // self._limit)
