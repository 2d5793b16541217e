"""All namespaces of one owner together: what they hold, so that many of them are no more than one.

A quota for each namespace says nothing of who has a thousand. An owner has one over all of its
own, and a part that is guaranteed to it, which no growth of another's touches.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from superezio.resilience.cache_limits import Quota
from superezio.resilience.ends import Ends
from superezio.resilience.namespaces import Cleared, Entry


class Owner:
    """The entries of one owner in the order of their use, in both parts, over its namespaces.

    It is `promised` its guaranteed part while it holds something, if there was one left when its
    first entry came.
    """

    __slots__ = (
        "cleared",
        "ends",
        "guaranteed",
        "guaranteed_bytes",
        "promised",
        "quota",
        "shared",
        "used_bytes",
    )

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.promised = False
        self.ends = Ends()
        self.cleared: deque[Cleared] = deque()
        self.guaranteed: OrderedDict[Entry, None] = OrderedDict()
        self.guaranteed_bytes = 0
        self.shared: OrderedDict[Entry, None] = OrderedDict()
        self.used_bytes = 0

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.guaranteed) + len(self.shared)

    @property
    def guaranteed_count(self) -> int:
        """How many of them no other's growth evicts."""
        return len(self.guaranteed)

    def oldest_guaranteed(self) -> Entry:
        """Return what was used least recently of the guaranteed part. There has to be one."""
        return next(iter(self.guaranteed))

    def least_recently_used(self) -> Entry:
        """Return the entry that goes first where the quota is full. There has to be one."""
        return next(iter(self.shared or self.guaranteed))

    def add(self, entry: Entry) -> None:
        """Count an entry in, in the part that it is in."""
        if entry.is_guaranteed:
            self.guaranteed[entry] = None
            self.guaranteed_bytes += entry.size
        else:
            self.shared[entry] = None
        self.used_bytes += entry.size

    def discard(self, entry: Entry) -> None:
        """Count it out again."""
        if entry.is_guaranteed:
            del self.guaranteed[entry]
            self.guaranteed_bytes -= entry.size
        else:
            del self.shared[entry]
        self.used_bytes -= entry.size

    def touch(self, entry: Entry) -> None:
        """Make an entry the one that was used last."""
        (self.guaranteed if entry.is_guaranteed else self.shared).move_to_end(entry)

    def make_oldest(self, entry: Entry) -> None:
        """Make a guaranteed entry the one that was used least recently."""
        self.guaranteed.move_to_end(entry, last=False)
