"""Who may go past those ahead in the queue: only one that delays none of them, whatever ends.

Nobody knows when a lease will end, so a guess would be paid for by the one that waits. A lease may
be granted past a waiter if that waiter has room no later for it, in whichever order the leases of
now end and whatever other use shrinks. How much of a GPU may be had past a waiter follows from what
is there at the moment, and from nothing else: no record is kept of who went past whom.

A waiter needs 8 GiB of a GPU that has 6 GiB free beside a lease of 6 GiB. It has room once that
lease ends, and then 4 GiB are left over: they may be had now. Beside two leases of 3 GiB only 1 GiB
may, for the waiter has room when the first of the two ends.

Nothing is kept for a waiter that cannot be served whatever ends, or one acquire would keep a host
idle for as long as it waits. A GPU that is closed (quarantined, cordoned, lost) counts as if it was
not there; so to others does one, for as much as it takes, where a lease of the waiter's own user
is in its way. From that user all is kept as before: nobody holds off its own with later ones. As
soon as the GPU is open, or the lease has ended, it is kept for the waiter again. So whoever went
past came at a time when no end of what others have could have served the waiter, and nobody goes
past once one could: it is not passed over without bound.

What a server uses already without a lease is taken from whoever waits, and stays taken as long as
the server likes, leased or not. So a lease goes past by what it takes beyond that: one for no more
than is used takes nothing from those ahead that they could count on. Only where a lease counts by
being there, as for one that wants the GPU alone, it does not go past.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from superezio.quantities import format_size
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.placement import candidates

#: How many amounts of a GPU are combined exactly. What is beyond them counts as if it could end in
#: any part, which keeps more for those ahead, never less.
_EXACT: Final = 10


class Backfill:
    """What those ahead leave to those behind: a walk through the queue, for one decision.

    Call `keep_for` for each that stays ahead, in order; `held_from` is for the next one.
    """

    def __init__(self, capacities: Sequence[Capacity]) -> None:
        self._open = [capacity for capacity in capacities if _is_open(capacity)]
        self._uids = {uid for capacity in self._open for uid in capacity.claim_uids}
        self._rooms = {capacity.uuid: _Room(capacity) for capacity in capacities}
        self._full = False

    @property
    def full(self) -> bool:
        """Whether every GPU that is open is kept, so that nobody behind can have anything more.

        One behind may still have a lease for what it uses already.
        """
        self._full = self._full or all(self._rooms[one.uuid].is_full for one in self._open)
        return self._full

    def keep_for(self, request: Request, *, uid: int) -> None:
        """Keep what this one of user `uid` could use for it: nobody behind it may delay it."""
        own = request.presence.own_bytes
        able = from_all = candidates(request, self._open)
        if uid in self._uids:
            from_all = candidates(request, self._beside_leases_of(uid, request))
        for uuid in able:
            need = max(0, request.vram_bytes - own(uuid))
            self._rooms[uuid].keep(request, need, only_from=None if uuid in from_all else uid)

    def held_from(
        self, request: Request, *, sizes_itself: bool, uid: int | None = None
    ) -> dict[str, str]:
        """Return the GPUs that are kept from `request` of user `uid` (by UUID: why)."""
        own = request.presence.own_bytes
        refused = {
            uuid: room.refuses(
                request,
                max(0, request.vram_bytes - own(uuid)),
                sizes_itself=sizes_itself,
                uid=uid,
            )
            for uuid, room in self._rooms.items()
        }
        return {uuid: why for uuid, why in refused.items() if why is not None}

    def _beside_leases_of(self, uid: int, request: Request) -> list[Capacity]:
        """Return the open GPUs as they would be if all had ended but this user's own leases."""
        beside: list[Capacity] = []
        for capacity in self._open:
            leases = zip(capacity.claims_bytes, capacity.claim_uids, strict=False)
            mine = sum(size for size, owner in leases if owner == uid)
            if not mine:
                beside.append(capacity)
            elif not (request.policy == "exclusive" or _admits_one(capacity)):
                left = max(0, capacity.largest_bytes - mine)
                beside.append(replace(capacity, largest_bytes=left))
        return beside


class _Kept:
    """What of a GPU is kept from somebody. `spare_bytes` is None where nothing is.

    `is_shut`: nobody may come, not even one that takes no more than it uses already.
    """

    __slots__ = ("is_shut", "spare_bytes", "why")

    def __init__(self) -> None:
        self.spare_bytes: int | None = None
        self.is_shut = False
        self.why = ""

    def limit(self, spare: int, wants: str, *, shuts: bool) -> None:
        """Leave no more than `spare` to those behind one that `wants`."""
        self.is_shut = self.is_shut or shuts
        if self.spare_bytes is not None and spare >= self.spare_bytes:
            return
        self.spare_bytes = spare
        self.why = f"kept for an acquire ahead that {wants}"
        if spare:
            self.why += f": {format_size(spare)} may go to others now"

    def spares(self, request: Request, more: int, *, sizes_itself: bool) -> bool:
        """Tell whether `request` delays nobody here, taking `more` than its holder uses already.

        One that keeps others off, for ever or until it has grown, does.
        """
        if self.spare_bytes is None:
            return True
        if self.is_shut or request.policy == "exclusive" or sizes_itself:
            return False
        return more <= self.spare_bytes


class _Room:
    """One GPU: what is free, what may come free, and what those ahead leave of it."""

    __slots__ = ("_ahead_bytes", "_alone", "_exact", "_free_bytes", "_from_all", "_from_uid",
                 "_loose_bytes", "_sums")  # fmt: skip

    def __init__(self, capacity: Capacity) -> None:
        claims = sorted(capacity.claims_bytes, reverse=True)[:_EXACT]
        self._free_bytes = capacity.free_bytes
        self._exact = len(claims)
        #: What may come free in any part: use without a lease, or above what a lease reserves.
        self._loose_bytes = max(0, capacity.largest_bytes - capacity.free_bytes - sum(claims))
        self._sums = _sums(tuple(claims))
        self._ahead_bytes = 0
        self._alone = capacity.one_at_a_time or capacity.compute_mode == "exclusive_process"
        self._from_all = _Kept()
        self._from_uid: dict[int, _Kept] = {}

    @property
    def is_full(self) -> bool:
        """Whether all of it is kept from everybody."""
        return self._from_all.spare_bytes == 0

    def keep(self, request: Request, need: int, *, only_from: int | None) -> None:
        """Keep the room for one that could use `need` of it, behind those it was kept for before.

        One that is split has use for any part of what is free. `only_from`: the one user from whom
        it is kept.
        """
        alone = request.policy == "exclusive"
        shuts = alone or self._alone
        if self.is_full and not shuts:
            return
        whole = shuts or request.split
        spare = 0 if whole else self._left_by(need)
        kept = self._from_all
        if only_from is not None:
            kept = self._from_uid.setdefault(only_from, _Kept())
        wants = "wants it alone" if alone else f"needs {format_size(need)}"
        kept.limit(spare, wants, shuts=shuts)
        self._expect(need)

    def refuses(
        self, request: Request, more: int, *, sizes_itself: bool, uid: int | None
    ) -> str | None:
        """Return why it is kept from `request` of user `uid`, which takes `more`; None if not."""
        kept = [self._from_all]
        if uid is not None and uid in self._from_uid:
            kept.append(self._from_uid[uid])
        for each in kept:
            if not each.spares(request, more, sizes_itself=sizes_itself):
                return each.why
        return None

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


def _is_open(capacity: Capacity) -> bool:
    """Tell whether it admits leases, but for a moment without a reading."""
    return capacity.block is None or capacity.block.code == "settling"


def _admits_one(capacity: Capacity) -> bool:
    """Tell whether a lease that is on it is alone there."""
    return capacity.exclusive or capacity.compute_mode == "exclusive_process"


@lru_cache(maxsize=64)
def _sums(amounts: tuple[int, ...]) -> tuple[int, ...]:
    """Return all that some of the amounts add up to, in order: 0 is the first."""
    sums = {0}
    for amount in amounts:
        sums |= {each + amount for each in sums}
    return tuple(sorted(sums))
