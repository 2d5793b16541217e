"""Who waits for a lease, and in which order: priority, then first come, first served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from superezio.wire import Placement
from supereziod.leases.placement import Capacity, Request


class Waiting(Struct, frozen=True, kw_only=True):
    """An acquire in the queue. Times are of the monotonic clock."""

    id: str
    uid: int
    request: Request
    priority: int
    enqueued_ns: int
    deadline_ns: int
    name: str | None = None


class LeaseQueue:
    """A bounded queue, in all and per uid.

    A waiter is passed over by at most `max_passed` later ones of higher priority; after that, no
    newcomer goes ahead of it.
    """

    def __init__(self, *, capacity: int = 256, per_uid: int = 64, max_passed: int = 16) -> None:
        raise NotImplementedError

    def add(self, waiting: Waiting) -> int:
        """Queue it and return its position (1 is next). Raises QueueFullError."""
        raise NotImplementedError

    def remove(self, waiting_id: str) -> Waiting | None:
        """Take it out, granted or not; None if it is not there."""
        raise NotImplementedError

    def expired(self, now_ns: int) -> list[Waiting]:
        """Return, in order, those whose deadline has passed; they stay until removed."""
        raise NotImplementedError

    def next_deadline_ns(self) -> int | None:
        """Return the earliest deadline in the queue."""
        raise NotImplementedError

    def position(self, waiting_id: str) -> int | None:
        """Return its place, 1 being next; None if it is not there."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate in order."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return how many wait."""
        raise NotImplementedError

    def first_grant(self, capacities: Sequence[Capacity]) -> tuple[Waiting, Placement] | None:
        """Return the first waiter that can be granted without delaying anyone ahead of it.

        The caller records the grant, removes the waiter, and asks again with new capacities.
        """
        raise NotImplementedError

    def place_behind(
        self, request: Request, capacities: Sequence[Capacity], *, behind: str | None = None
    ) -> Placement:
        """Decide for a newcomer (or the waiter `behind` names) with all ahead of it served first.

        A GPU that a waiter ahead could use is passed over, with code `queued`.
        """
        raise NotImplementedError
