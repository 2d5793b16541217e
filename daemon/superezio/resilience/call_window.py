"""What a circuit breaker remembers of calls: the last n, or those of the last s seconds.

Both windows count calls, failures and slow calls as they go, so that a rate costs nothing to ask.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

_SECOND: Final = 1_000_000_000
MAX_CALLS: Final = 100_000
_MAX_SECONDS: Final = 86_400
#: The kinds of a call: their sum is one that failed and was slow, 0 one that went well.
FAILED: Final = 1
SLOW: Final = 2


class CountWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="count"):
    """The last `calls` calls, however long ago."""

    calls: int = 100

    def __post_init__(self) -> None:
        """Refuse what is no window, with a ValueError."""
        if not 1 <= self.calls <= MAX_CALLS:
            raise ValueError(f"window.calls is {self.calls}: choose 1 to {MAX_CALLS}")


class TimeWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="time"):
    """The calls of this second of the clock and of the whole seconds before it, `seconds` in all.

    A second is forgotten as a whole, so what counts is between `seconds` - 1 and `seconds` old.
    """

    seconds: int = 60

    def __post_init__(self) -> None:
        """Refuse what is no window, with a ValueError."""
        if not 1 <= self.seconds <= _MAX_SECONDS:
            raise ValueError(f"window.seconds is {self.seconds}: choose 1 to {_MAX_SECONDS}")


class Counts(Struct, frozen=True):
    """How many calls were recorded, and of what kind. A slow failure is in both."""

    calls: int = 0
    failures: int = 0
    slow_calls: int = 0

    @property
    def failure_rate(self) -> float:
        """The part that failed, 0 to 1; 0 where there were none."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_call_rate(self) -> float:
        """The part that was slow, 0 to 1; 0 where there were none."""
        return self.slow_calls / self.calls if self.calls else 0.0


class CallRing:
    """The last `size` calls, one byte each."""

    __slots__ = ("_at", "_ring", "calls", "failures", "size", "slow_calls")

    def __init__(self, size: int) -> None:
        self.size = size
        self._ring = bytearray(size)
        self._at = 0
        self.calls = 0
        self.failures = 0
        self.slow_calls = 0

    def record(self, now_ns: int, kind: int) -> None:
        """Take in a call, in the place of the oldest where the ring is full."""
        del now_ns
        ring, at = self._ring, self._at
        if self.calls == self.size:
            oldest = ring[at]
            if oldest:
                self.failures -= oldest & FAILED
                self.slow_calls -= oldest // SLOW
        else:
            self.calls += 1
        ring[at] = kind
        if kind:
            self.failures += kind & FAILED
            self.slow_calls += kind // SLOW
        self._at = at + 1 if at + 1 < self.size else 0

    def forget(self, now_ns: int) -> None:
        """Drop what is too old: nothing ever is."""

    def fill(self, now_ns: int, counts: Counts) -> None:
        """Take in calls of which the order is lost: those that count against it as the newest.

        To be asked of an empty ring. It is rules that a caller may change at every request.
        """
        del now_ns
        self.calls = calls = min(counts.calls, self.size)
        self.failures = failures = min(counts.failures, calls)
        self.slow_calls = slow_calls = min(counts.slow_calls, calls)
        both, bad = min(failures, slow_calls), max(failures, slow_calls)
        one = FAILED if failures > slow_calls else SLOW
        ring = self._ring
        ring[calls - bad : calls - both] = bytes((one,)) * (bad - both)
        ring[calls - both : calls] = bytes((FAILED + SLOW,)) * both
        self._at = calls if calls < self.size else 0


class CallBuckets:
    """The calls of the last `seconds` seconds of the clock, in one bucket a second."""

    __slots__ = ("_buckets", "_seconds", "calls", "failures", "slow_calls")

    #: No number of calls fills it.
    size: Final = None

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        # Second, calls, failures, slow calls: of those seconds alone that had any.
        self._buckets: deque[list[int]] = deque()
        self.calls = 0
        self.failures = 0
        self.slow_calls = 0

    def record(self, now_ns: int, kind: int) -> None:
        """Take in a call."""
        self.forget(now_ns)
        self._add(now_ns // _SECOND, 1, kind & FAILED, kind // SLOW)

    def forget(self, now_ns: int) -> None:
        """Drop the seconds that are too old."""
        oldest = now_ns // _SECOND - self._seconds
        buckets = self._buckets
        while buckets and buckets[0][0] <= oldest:
            _, calls, failures, slow_calls = buckets.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow_calls -= slow_calls

    def fill(self, now_ns: int, counts: Counts) -> None:
        """Take in calls of which the seconds are lost, as if they were all of this one."""
        self._add(now_ns // _SECOND, counts.calls, counts.failures, counts.slow_calls)

    def _add(self, second: int, calls: int, failures: int, slow_calls: int) -> None:
        buckets = self._buckets
        if not buckets or buckets[-1][0] != second:
            buckets.append([second, 0, 0, 0])
        bucket = buckets[-1]
        bucket[1] += calls
        bucket[2] += failures
        bucket[3] += slow_calls
        self.calls += calls
        self.failures += failures
        self.slow_calls += slow_calls


def empty_window(window: CountWindow | TimeWindow) -> CallRing | CallBuckets:
    """Return what counts the calls of a window, with none in it."""
    if isinstance(window, CountWindow):
        return CallRing(window.calls)
    return CallBuckets(window.seconds)
