"""Who may go past those ahead in the queue: only one that delays none of them, whatever ends.

Nobody knows when a lease will end, so a guess would be paid for by the one that waits. A lease may
be granted past a waiter if that waiter has room no later for it, in whichever order the leases of
now end and whatever other use shrinks. How much of a GPU may be had past a waiter follows from what
is there at the moment, and from nothing else: no record is kept of who went past whom.

A waiter needs 8 GiB of a GPU that has 6 GiB free beside a lease of 6 GiB. It has room once that
lease ends, and then 4 GiB are left over: they may be had now. Beside two leases of 3 GiB only 1 GiB
may, for the waiter has room when the first of the two ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from superezio.quantities import format_size
from supereziod.leases.placement import Capacity, Request, candidates

#: How many amounts of a GPU are combined exactly. What is beyond them counts as if it could end in
#: any part, which keeps more for those ahead, never less.
_EXACT: Final = 10


class Backfill:
    """What those ahead leave to those behind: a walk through the queue, for one decision.

    Call `keep_for` for each that stays ahead, in order; `held_from` is for the next one.
    """

    def __init__(self, capacities: Sequence[Capacity]) -> None:
        self._capacities = capacities
        self._rooms = {capacity.uuid: _Room(capacity) for capacity in capacities}
        self._full = False

    @property
    def full(self) -> bool:
        """Whether every GPU is kept, so that nobody behind can have anything."""
        self._full = self._full or all(room.spare_bytes == 0 for room in self._rooms.values())
        return self._full

    def keep_for(self, request: Request) -> None:
        """Keep what this one could use for it: nobody behind it may delay it."""
        own = request.presence.own_bytes
        for uuid in candidates(request, self._capacities):
            self._rooms[uuid].keep(request, max(0, request.vram_bytes - own(uuid)))

    def held_from(self, request: Request, *, sizes_itself: bool) -> dict[str, str]:
        """Return the GPUs that are kept from `request` (by UUID: why)."""
        return {
            uuid: room.why
            for uuid, room in self._rooms.items()
            if not room.spares(request, sizes_itself=sizes_itself)
        }


class _Room:
    """One GPU: what is free, what may come free, and what those ahead leave of it.

    `spare_bytes` is None as long as nobody ahead could use the GPU.
    """

    __slots__ = ("_ahead_bytes", "_alone", "_exact", "_free_bytes", "_loose_bytes", "_sums",
                 "spare_bytes", "why")  # fmt: skip

    def __init__(self, capacity: Capacity) -> None:
        claims = sorted(capacity.claims_bytes, reverse=True)[:_EXACT]
        self._free_bytes = capacity.free_bytes
        self._exact = len(claims)
        #: What may come free in any part: use without a lease, or above what a lease reserves.
        self._loose_bytes = max(0, capacity.largest_bytes - capacity.free_bytes - sum(claims))
        self._sums = _sums(tuple(claims))
        self._ahead_bytes = 0
        self._alone = capacity.one_at_a_time or capacity.compute_mode == "exclusive_process"
        self.spare_bytes: int | None = None
        self.why = ""

    def keep(self, request: Request, need: int) -> None:
        """Keep the room for one that could use `need` of it, behind those it was kept for before.

        One that is split has use for any part of what is free.
        """
        if self.spare_bytes == 0:
            return
        alone = request.policy == "exclusive"
        whole = alone or self._alone or request.split
        spare = 0 if whole else self._left_by(need)
        if self.spare_bytes is None or spare < self.spare_bytes:
            self.spare_bytes = spare
            wants = "wants it alone" if alone else f"needs {format_size(need)}"
            self.why = f"kept for an acquire ahead that {wants}"
            if spare:
                self.why += f": {format_size(spare)} may go to others now"
        self._expect(need)

    def spares(self, request: Request, *, sizes_itself: bool) -> bool:
        """Tell whether `request` delays nobody here.

        One that keeps others off, for ever or until it has grown, does.
        """
        if self.spare_bytes is None:
            return True
        if request.policy == "exclusive" or sizes_itself:
            return False
        return request.vram_bytes <= self.spare_bytes

    def _left_by(self, need: int) -> int:
        """Return what stays over beside `need` at the first moment that there is room for it.

        Whoever is ahead may have taken its place here by then, or not: so each is an amount that
        may be missing, as each lease is one that may have come free.
        """
        missing = need + self._ahead_bytes - self._free_bytes
        first = bisect_left(self._sums, missing)
        if first == len(self._sums):
            return 0
        if first and self._sums[first - 1] + self._loose_bytes >= missing:
            return 0
        return self._sums[first] - missing

    def _expect(self, need: int) -> None:
        """Count with one ahead that may be served here before the next."""
        self._ahead_bytes += need
        if self._exact < _EXACT:
            self._exact += 1
            self._sums = tuple(sorted({*self._sums, *(amount + need for amount in self._sums)}))
        else:
            self._loose_bytes += need


@lru_cache(maxsize=64)
def _sums(amounts: tuple[int, ...]) -> tuple[int, ...]:
    """Return all that some of the amounts add up to, in order: 0 is the first."""
    sums = {0}
    for amount in amounts:
        sums |= {each + amount for each in sums}
    return tuple(sorted(sums))
