"""A host to judge the queue by: who waits, in which order, and who may go past whom.

Written from the rules and from no line of the queue:

  The order is priority, then first come first served. A waiter is gone ahead of by at most
  MAX_PASSED later ones of higher priority, granted at once or not.
  A lease is granted past a waiter only if the waiter has room no later for it on any GPU it could
  use, whatever ends first: each lease ends as a whole or not, other use shrinks to any size, and
  each of those ahead of the waiter has been served there by then or not.
  What its holder uses already without a lease is no more than was taken before: a lease for no more
  delays nobody, and one for more only by the rest.
  A closed GPU is as good as none, and so to other users is, as far as they reach, what the leases
  of the waiter's own user keep from it: nothing is kept for one that cannot be served whatever else
  ends. From its own user it is kept nevertheless.
  A GPU that a waiter wants alone or any part of, or on which whoever is granted keeps others off
  for good or until it has grown, is had by nobody behind it; and one that keeps others off goes
  past nobody.

Every question is answered by going through all that may happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.presence import NOWHERE, Presence

GIB = 1 << 30
MAX_PASSED = 2
CAPACITY = 6
PER_UID = 4


@dataclass
class Gpu:
    """One GPU; `opaque`: a lease on it grows at first, for the driver tells no process's use.

    `single`: CUDA gives it to one process alone.
    """

    uuid: str
    total: int
    opaque: bool = False
    single: bool = False
    foreign: int = 0
    returning: int = 0
    blocked: bool = False


@dataclass(eq=False)
class Asked:
    """An acquire.

    `later`: the leases granted to those that came behind it, and where, while that was kept for it.
    """

    id: str
    uid: int
    need: int
    count: int
    priority: int
    deadline: int
    alone: bool = False
    split: bool = False
    sizes_itself: bool = False
    avoid: tuple[str, ...] = ()
    #: What its holder uses already, of the foreign use there.
    own: dict[str, int] = field(default_factory=dict)
    passed: int = 0
    later: list[tuple[Granted, str]] = field(default_factory=list)
    #: GPUs where something came since that goes before it: a higher priority, or foreign use.
    disturbed: set[str] = field(default_factory=set)

    def request(self) -> Request:
        """Return it as the queue is asked."""
        return Request(
            vram_bytes=self.need,
            count=self.count,
            split=self.split,
            policy="exclusive" if self.alone else "best_fit",
            avoid=self.avoid,
            presence=Presence(foreign_bytes=self.own, may_move=True) if self.own else NOWHERE,
        )

    def rest(self, uuid: str, need: int) -> int:
        """Return what it takes of a GPU beyond what its holder uses there already."""
        return max(0, need - self.own.get(uuid, 0))


@dataclass(eq=False)
class Granted:
    """A lease: what it reserved on each GPU; `over` is what it uses above that on each."""

    reserved: dict[str, int]
    alone: bool
    growing: bool
    over: int = 0
    uid: int = 0


class Host:
    """GPUs, the leases on them, and those who wait, in order."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self.gpus = {gpu.uuid: gpu for gpu in gpus}
        self.leases: list[Granted] = []
        self.waiting: list[Asked] = []

    def on(self, uuid: str) -> list[Granted]:
        """Return the leases on a GPU."""
        return [lease for lease in self.leases if uuid in lease.reserved]

    def free(self, gpu: Gpu) -> int:
        """Return what is free; less than nothing where foreign use has grown into leases."""
        leased = sum(lease.reserved[gpu.uuid] for lease in self.on(gpu.uuid))
        return gpu.total - leased - self.shrinking(gpu)

    def shrinking(self, gpu: Gpu) -> int:
        """Return the use that may shrink to any size: it is of no lease, or above a lease."""
        over = sum(lease.over for lease in self.on(gpu.uuid))
        return gpu.foreign + gpu.returning + over

    def capacities(self) -> list[Capacity]:
        """Return the GPUs as the ledger tells of them."""
        return [self._capacity(index, gpu) for index, gpu in enumerate(self.gpus.values())]

    def _capacity(self, index: int, gpu: Gpu) -> Capacity:
        leases = self.on(gpu.uuid)
        return Capacity(
            uuid=gpu.uuid,
            index=index,
            name="card",
            largest_bytes=gpu.total,
            free_bytes=self.free(gpu),
            foreign_bytes=gpu.foreign,
            reserved_bytes=gpu.total - gpu.foreign - self.free(gpu),
            returning_bytes=gpu.returning,
            leases=len(leases),
            exclusive=any(lease.alone for lease in leases),
            growing=any(lease.growing for lease in leases),
            block=Block(code="hot", message="it is hot") if gpu.blocked else None,
            claims_bytes=tuple(lease.reserved[gpu.uuid] for lease in leases),
            claim_uids=tuple(lease.uid for lease in leases),
            one_at_a_time=gpu.opaque,
            compute_mode="exclusive_process" if gpu.single else "default",
            processes=1 if gpu.foreign else 0,
        )

    # --- the order ------------------------------------------------------------------------------

    def ahead_of_newcomer(self, priority: int) -> list[Asked]:
        """Return those a newcomer stands behind: its like, and the last it may not pass."""
        place = len(self.waiting)
        for asked in reversed(self.waiting):
            if asked.priority >= priority or asked.passed >= MAX_PASSED:
                break
            place -= 1
        return self.waiting[:place]

    def pass_over(self, priority: int) -> None:
        """Count a newcomer that goes ahead of some, and may take what they could use."""
        for asked in self.waiting[len(self.ahead_of_newcomer(priority)) :]:
            asked.passed += 1
            asked.disturbed |= set(self.gpus)

    # --- who may be granted ---------------------------------------------------------------------

    def could_use(self, asked: Asked, gpu: Gpu) -> bool:
        """Tell whether the acquire could be served there some day."""
        return gpu.uuid in _serving(asked, {one.uuid: one.total for one in self.gpus.values()})

    def is_kept(self, asked: Asked, gpu: Gpu, *, from_uid: int) -> bool:
        """Tell whether what is there of the GPU is kept for the acquire from that user's."""
        sizes = {one.uuid: one.total for one in self.gpus.values() if not one.blocked}
        if from_uid == asked.uid:
            return gpu.uuid in _serving(asked, sizes)
        for uuid in list(sizes):
            own = [lease for lease in self.on(uuid) if lease.uid == asked.uid]
            sizes[uuid] -= sum(lease.reserved[uuid] for lease in own)
            shut = asked.alone or self.gpus[uuid].single or any(lease.alone for lease in own)
            if own and shut:
                del sizes[uuid]
        return gpu.uuid in _serving(asked, sizes)

    def has_room(self, asked: Asked, gpu: Gpu) -> bool:
        """Tell whether the GPU admits it now, if nobody else waited."""
        leases = self.on(gpu.uuid)
        if gpu.blocked or gpu.uuid in asked.avoid or gpu.total < asked.need:
            return False
        if any(lease.alone or lease.growing for lease in leases):
            return False
        if (asked.alone or gpu.single) and (leases or gpu.foreign or gpu.returning):
            return False
        return self.free(gpu) >= asked.rest(gpu.uuid, asked.need)

    def may_pass(
        self, asked: Asked, gpu: Gpu, ahead: Sequence[Asked], *, need: int | None = None
    ) -> bool:
        """Tell whether it delays none of those ahead by going there, with `need` or all of it."""
        need = asked.rest(gpu.uuid, asked.need if need is None else need)
        return not any(
            self._delays(asked, need, waiter, gpu, before=ahead[:place])
            for place, waiter in enumerate(ahead)
        )

    def _delays(
        self, asked: Asked, need: int, waiter: Asked, gpu: Gpu, *, before: Sequence[Asked]
    ) -> bool:
        if not self.is_kept(waiter, gpu, from_uid=asked.uid):
            return False
        if waiter.alone or gpu.opaque or gpu.single or asked.alone or asked.sizes_itself:
            return True
        if waiter.split or not need:
            return bool(need)
        frees = {self.free(gpu)}
        for lease in self.on(gpu.uuid):
            frees |= {free + lease.reserved[gpu.uuid] for free in frees}
        for other in before:
            if self.is_kept(other, gpu, from_uid=other.uid):
                frees |= {free - other.need for free in frees}
        # Shrinking from `free` to `most`, is there a moment with room for the one, not for both?
        return any(
            most >= waiter.need and free < waiter.need + need
            for free, most in ((free, free + self.shrinking(gpu)) for free in frees)
        )

    def is_exact(self, ahead: Sequence[Asked]) -> bool:
        """Tell whether so little is to be combined that the queue goes through all of it, too."""
        return all(len(self.on(uuid)) + len(ahead) <= 10 for uuid in self.gpus)

    def may_have(self, asked: Asked, ahead: Sequence[Asked]) -> list[str]:
        """Return the GPUs that it may be granted on, behind those ahead."""
        return [
            gpu.uuid
            for gpu in self.gpus.values()
            if self.has_room(asked, gpu) and self.may_pass(asked, gpu, ahead)
        ]

    def grant(self, asked: Asked, reserved: dict[str, int], ahead: Sequence[Asked]) -> None:
        """Take up a grant; those ahead that still wait remember it."""
        opaque = any(self.gpus[uuid].opaque for uuid in reserved)
        lease = Granted(
            reserved=reserved,
            alone=asked.alone,
            growing=asked.sizes_itself or opaque,
            uid=asked.uid,
        )
        for waiter in ahead:
            for uuid, size in reserved.items():
                if asked.rest(uuid, size) and self.is_kept(
                    waiter, self.gpus[uuid], from_uid=asked.uid
                ):
                    waiter.later.append((lease, uuid))
        self.leases.append(lease)
        for uuid, used in asked.own.items():
            if uuid in reserved:
                self.gpus[uuid].foreign -= used
                lease.over += max(0, used - reserved[uuid])

    def end(self, lease: Granted) -> None:
        """End a lease."""
        self.leases.remove(lease)
        for asked in self.waiting:
            asked.later = [(one, uuid) for one, uuid in asked.later if one is not lease]
            asked.disturbed -= set(lease.reserved) - {uuid for _, uuid in asked.later}

    def later_on(self, asked: Asked, gpu: Gpu) -> list[Granted]:
        """Return the leases on a GPU that were granted past one that waits."""
        return [lease for lease, uuid in asked.later if uuid == gpu.uuid]


def _serving(asked: Asked, sizes: dict[str, int]) -> set[str]:
    """Return which of GPUs that hold so much could serve the acquire, alone or with others."""
    allowed = {uuid: size for uuid, size in sizes.items() if uuid not in asked.avoid}
    if asked.split:
        numbers = [asked.count] if asked.count > 1 else range(1, len(allowed) + 1)
        sets = (some for number in numbers for some in combinations(allowed, number))
        return {
            uuid
            for some in sets
            if all(allowed[one] > 0 for one in some)
            and sum(allowed[one] for one in some) >= asked.need
            for uuid in some
        }
    found = {uuid for uuid, size in allowed.items() if size >= asked.need}
    return found if len(found) >= asked.count else set()
