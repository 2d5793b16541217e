"""How far the word of one caller has pushed a rate that others share: a bounded part of it.

What was used beyond what was reserved is known from the caller alone. It counts, but no more of it
than a share of the burst (or of the time that a caller's word may keep others out at all), and that
grows back at the same share of the rate. Times are nanoseconds of the caller's monotonic clock.
"""

from __future__ import annotations

from typing import Final

#: Shares are millionths.
WHOLE: Final = 1_000_000


class Overshoot:
    """What one caller may still push one rate by. It begins with all."""

    __slots__ = ("_until_ns",)

    def __init__(self) -> None:
        #: When all that was counted has grown back.
        self._until_ns = 0

    def take(self, now_ns: int, push_ns: int, *, most_ns: int, share: int) -> int:
        """Return how much of `push_ns` counts, and count it: `most_ns` at once at the most."""
        owed_ns = -(-max(0, self._until_ns - now_ns) * share // WHOLE)
        counted_ns = min(push_ns, max(0, most_ns - owed_ns))
        self._until_ns = max(self._until_ns, now_ns) + -(-counted_ns * WHOLE // share)
        return counted_ns

    def is_idle(self, now_ns: int) -> bool:
        """Whether forgetting it loses nothing."""
        return self._until_ns <= now_ns
