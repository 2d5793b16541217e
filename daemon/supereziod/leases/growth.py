"""When a lease has grown, and what it uses where the driver does not say it by process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal

#: A use is stable when so many passes ...
STABLE_PASSES: Final = 3
#: ... differ by less than this part of the largest ...
STABLE_WITHIN_PERCENT: Final = 2
#: ... counted from the first that shows this part of what is reserved.
COUNTED_FROM_PERCENT: Final = 5
#: Passes that come sooner one after the other say the same.
SPACING_NS: Final = 900_000_000


class _Stability:
    """Whether a use is stable: the last passes that count hardly differ."""

    __slots__ = ("_recent", "_reserved_bytes")

    def __init__(self, reserved_bytes: int) -> None:
        self._reserved_bytes = reserved_bytes
        self._recent: deque[int] = deque(maxlen=STABLE_PASSES)

    def add(self, used_bytes: int) -> None:
        """Take in what a pass shows."""
        counted = used_bytes * 100 >= self._reserved_bytes * COUNTED_FROM_PERCENT
        if counted or self._recent:
            self._recent.append(used_bytes)

    def clear(self) -> None:
        """Begin anew."""
        self._recent.clear()

    @property
    def is_stable(self) -> bool:
        """Whether the last passes differ by less than 2 % of the largest."""
        if len(self._recent) < STABLE_PASSES:
            return False
        most = max(self._recent)
        return (most - min(self._recent)) * 100 < most * STABLE_WITHIN_PERCENT


class Sizing:
    """A lease that sizes itself, until its use is stable, it says ready, or time is over.

    Its use is what its holder uses beyond `base_bytes`: what that used before, or has got since
    from other leases. Where the holder falls below that, what comes back is the lease's.
    """

    __slots__ = ("_seen_ns", "_stability", "_started_ns", "base_bytes")

    def __init__(self, *, reserved_bytes: int, base_bytes: int, started_ns: int) -> None:
        self.base_bytes = base_bytes
        self._started_ns = started_ns
        self._seen_ns = 0
        self._stability = _Stability(reserved_bytes)

    def follow(self, used_bytes: int, taken_ns: int) -> None:
        """Take in what a pass shows of the holder."""
        self.base_bytes = min(max(self.base_bytes, 0), used_bytes)
        if taken_ns - self._seen_ns >= SPACING_NS:
            self._seen_ns = taken_ns
            self._stability.add(used_bytes - self.base_bytes)

    def is_done(self, now_ns: int, *, timeout_ns: int) -> bool:
        """Tell whether it has grown."""
        return self._stability.is_stable or now_ns - self._started_ns >= timeout_ns


class Growth:
    """The use of one lease on one GPU, as far as it has to be told from the growth of the whole.

    idle: nothing to estimate. growing: the estimate follows what has come since `base_bytes`, the
    use at the grant. frozen: it has grown, and its estimate stands. All bytes here are of the rest:
    the used memory that no process list and no released lease explains. `has_grown`: it was granted
    in an earlier run, and the first pass shows what it uses.
    """

    __slots__ = (
        "_stability",
        "base_bytes",
        "estimate_bytes",
        "has_grown",
        "phase",
        "reserved_bytes",
        "started_ns",
    )

    def __init__(
        self, *, reserved_bytes: int, base_bytes: int, started_ns: int, has_grown: bool = False
    ) -> None:
        self.reserved_bytes = reserved_bytes
        self.base_bytes = base_bytes
        self.started_ns = started_ns
        self.has_grown = has_grown
        self.phase: Literal["idle", "growing", "frozen"] = "idle"
        self.estimate_bytes = 0
        self._stability = _Stability(reserved_bytes)

    def start(self, now_ns: int) -> None:
        """Begin to estimate."""
        self.phase = "growing"
        self.started_ns = now_ns
        self._stability.clear()

    def forget(self, rest_bytes: int) -> None:
        """Drop the estimate: its processes have left the GPU, and `rest_bytes` is without them."""
        self.phase = "idle"
        self.base_bytes = rest_bytes
        self.estimate_bytes = 0
        self.has_grown = False

    def follow(self, grown_bytes: int) -> None:
        """Take the growth that a pass shows as the use, within what is reserved."""
        self.estimate_bytes = min(max(grown_bytes, 0), self.reserved_bytes)
        self._stability.add(self.estimate_bytes)

    def is_done(self, now_ns: int, *, timeout_ns: int) -> bool:
        """Tell whether the estimate is final: the last passes hardly differ, or time is over."""
        late = now_ns - self.started_ns >= timeout_ns
        return self.has_grown or late or self._stability.is_stable


def advance(
    showing: Sequence[Growth],
    others: Iterable[Growth],
    *,
    rest_bytes: int,
    now_ns: int,
    timeout_ns: int,
) -> list[Growth]:
    """Share the growth of the whole among those `showing` use, in order of grant.

    There is one, unless several were granted before the driver was known not to tell processes
    apart: then the earlier is filled first, so that their sum is right where their parts cannot be.
    Returns those that are grown now; what they use counts as there before for all that still may
    grow, among `others` too.
    """
    grown: list[Growth] = []
    filled: int | None = None
    for growth in showing:
        start = growth.base_bytes if filled is None else max(filled, growth.base_bytes)
        growth.follow(rest_bytes - start)
        filled = start + growth.estimate_bytes
        if growth.is_done(now_ns, timeout_ns=timeout_ns):
            growth.phase = "frozen"
            grown.append(growth)
            for other in (*showing, *others):
                if other.phase != "frozen":
                    other.base_bytes = max(other.base_bytes, filled)
    return grown
