"""Who waits for a lease, and in which order: priority, then first come, first served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile

from msgspec import Struct

from superezio.errors import QueueFullError
from superezio.wire import Placement
from supereziod.leases.backfill import Backfill
from supereziod.leases.capacity import Capacity, Request, Subject
from supereziod.leases.placement import has_room, hold, place


class Waiting(Struct, frozen=True, kw_only=True):
    """An acquire in the queue. Times are of the monotonic clock."""

    id: str
    uid: int
    request: Request
    priority: int
    enqueued_ns: int
    deadline_ns: int
    name: str | None = None
    sizes_itself: bool = False
    subject: Subject | None = None


#: Tells of each in the queue, asked in order, whether something else than room keeps it.
HeldBack = Callable[[Waiting], bool]


class LeaseQueue:
    """A bounded queue, in all and per uid.

    A waiter is passed over by at most `max_passed` later ones of higher priority; after that, no
    newcomer goes ahead of it. Nobody is served at the cost of a waiter ahead: what one ahead could
    use, now or later, is kept for that one (see `backfill.py`).
    """

    def __init__(self, *, capacity: int = 256, per_uid: int = 64, max_passed: int = 16) -> None:
        self._capacity = capacity
        self._per_uid = per_uid
        self._max_passed = max_passed
        self._order: list[Waiting] = []
        self._passed: dict[str, int] = {}
        self._by_uid: Counter[int] = Counter()
        self._held_back: Callable[[], HeldBack] = lambda: _nobody

    def keep_back(self, held_back: Callable[[], HeldBack]) -> None:
        """Serve nobody of whom what `held_back` returns is true, when asked of each in order.

        Those keep their places, and no GPU from those behind them.
        """
        self._held_back = held_back

    def add(self, waiting: Waiting) -> int:
        """Queue it and return its position (1 is next). Raises QueueFullError."""
        if waiting.id in self._passed:
            raise ValueError(f"cannot queue {waiting.id} twice")
        if len(self._order) >= self._capacity:
            raise QueueFullError(
                f"{len(self._order)} acquires wait already, and no more may: ask again when some"
                " have been served (`superezioctl queue` shows them)",
                data={"limit": "queue", "waiting": len(self._order)},
            )
        mine = self._by_uid[waiting.uid]
        if mine >= self._per_uid:
            raise QueueFullError(
                f"uid {waiting.uid} has {mine} acquires in the queue, and may have {self._per_uid}:"
                " wait for one to be served, or take one out (`superezioctl queue cancel`)",
                data={"limit": "queue_per_uid", "waiting": mine},
            )
        slot = self._slot(waiting.priority)
        self.pass_over(waiting.priority)
        self._order.insert(slot, waiting)
        self._passed[waiting.id] = 0
        self._by_uid[waiting.uid] += 1
        return slot + 1

    def pass_over(self, priority: int) -> None:
        """Count that a newcomer of that priority goes ahead of those it may go ahead of.

        `add` does it; a newcomer that is granted at once, without queueing, has to be counted too.
        """
        for behind in self._order[self._slot(priority) :]:
            self._passed[behind.id] += 1

    def remove(self, waiting_id: str) -> Waiting | None:
        """Take it out, granted or not; None if it is not there."""
        if self._passed.pop(waiting_id, None) is None:
            return None
        index = next(i for i, waiting in enumerate(self._order) if waiting.id == waiting_id)
        waiting = self._order.pop(index)
        self._by_uid[waiting.uid] -= 1
        if not self._by_uid[waiting.uid]:
            del self._by_uid[waiting.uid]
        return waiting

    def replace(self, waiting: Waiting) -> None:
        """Let it wait on with another request, at its place."""
        self._order = [waiting if each.id == waiting.id else each for each in self._order]

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate in order, over those who wait now."""
        return iter(tuple(self._order))

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._order)

    def ahead(self, *, priority: int = 0, of: str | None = None) -> Iterator[Waiting]:
        """Iterate in order over those ahead of a newcomer of that priority.

        With `of` it is those before one that waits already, by its id.
        """
        if of is None:
            return islice(self._order, self._slot(priority))
        return takewhile(lambda waiting: waiting.id != of, self._order)

    def first_grant(self, capacities: Sequence[Capacity]) -> tuple[Waiting, Placement] | None:
        """Return the first waiter that can be granted without delaying anyone ahead of it.

        The caller records the grant, removes the waiter, and asks again with new capacities.
        """
        backfill = Backfill(capacities)
        to_the_end = any(waiting.request.presence.uses_any for waiting in self._order)
        walk = self._walk(self._order, backfill, to_the_end=to_the_end)
        for waiting, is_held_back in walk:
            if backfill.full and not to_the_end:
                return None
            if is_held_back:
                continue
            held = _held_from(waiting, backfill)
            if _has_room(waiting.request, capacities, held):
                placement = place(waiting.request, hold(capacities, held))
                if placement.decision == "grant":
                    return waiting, placement
        return None

    def place_behind(
        self,
        request: Request,
        capacities: Sequence[Capacity],
        *,
        priority: int = 0,
        behind: str | None = None,
        sizes_itself: bool = False,
        held_back: HeldBack | None = None,
        uid: int | None = None,
    ) -> Placement:
        """Decide for a newcomer of that priority, those ahead of it being served first.

        A GPU that is kept for one ahead is passed over, with code `queued`. With `behind`, it is
        for one that waits already, by its id: ahead are those before it. `held_back` is asked of
        each ahead, in order, in place of what `keep_back` was given. `uid`: who asks.
        """
        backfill = Backfill(capacities)
        to_the_end = request.presence.uses_any
        walk = self._walk(
            self.ahead(priority=priority, of=behind),
            backfill,
            held_back=held_back,
            to_the_end=to_the_end,
        )
        for _ in walk:
            if backfill.full and held_back is None and not to_the_end:
                break
        held = backfill.held_from(request, sizes_itself=sizes_itself, uid=uid)
        return place(request, hold(capacities, held))

    def reasons(self, capacities: Sequence[Capacity]) -> Iterator[tuple[Waiting, Placement]]:
        """Say of each waiter, in order, which GPUs would take it now, and why the others not."""
        backfill = Backfill(capacities)
        for waiting, _ in self._walk(self._order, backfill, to_the_end=True):
            held = _held_from(waiting, backfill)
            yield waiting, place(waiting.request, hold(capacities, held))

    def _walk(
        self,
        line: Iterable[Waiting],
        backfill: Backfill,
        *,
        held_back: HeldBack | None = None,
        to_the_end: bool,
    ) -> Iterator[tuple[Waiting, bool]]:
        """Iterate over them with whether something else than room keeps each.

        When the next is asked for, what the one before could use is kept for that one; once every
        GPU is, only `to_the_end`: for those behind that use something already.
        """
        is_held_back = held_back or self._held_back()
        for waiting in line:
            is_back = is_held_back(waiting)
            yield waiting, is_back
            if not is_back and (to_the_end or not backfill.full):
                backfill.keep_for(waiting.request, uid=waiting.uid)

    def _slot(self, priority: int) -> int:
        """Return where a newcomer goes: behind its like, and behind those passed over enough."""
        slot = len(self._order)
        while slot:
            before = self._order[slot - 1]
            if before.priority >= priority or self._passed[before.id] >= self._max_passed:
                break
            slot -= 1
        return slot


def _nobody(_: Waiting) -> bool:
    return False


def _held_from(waiting: Waiting, backfill: Backfill) -> dict[str, str]:
    return backfill.held_from(waiting.request, sizes_itself=waiting.sizes_itself, uid=waiting.uid)


def _has_room(request: Request, capacities: Sequence[Capacity], held: Mapping[str, str]) -> bool:
    """Tell cheaply whether a placement may succeed, so that a long queue costs little."""
    own = request.presence.own_bytes
    return has_room(
        request,
        [
            capacity.free_bytes + own(capacity.uuid)
            for capacity in capacities
            if capacity.uuid not in held
        ],
    )
