"""What links leases: the processes that hold more than one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from supereziod.leases.handles import HeldBy, ProcessHandle
from supereziod.leases.processes import Identity


class Root:
    """A process that is attached to leases; without a handle once it has ended.

    Or while none can be opened: then it is `awaited`, and holds its leases as well.
    """

    __slots__ = ("awaited", "handle", "kin", "leases")

    def __init__(self) -> None:
        self.handle: ProcessHandle | None = None
        self.awaited: HeldBy | None = None
        self.leases: set[str] = set()
        self.kin: dict[Identity, None] = {}

    @property
    def holds(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self.handle is not None or self.awaited is not None


class Bound:
    """A lease of a user: its holder, and the processes that were ever attached to it."""

    __slots__ = ("holder", "roots", "uid")

    def __init__(self, holder: str, *, uid: int) -> None:
        self.holder = holder
        self.uid = uid
        self.roots: dict[Identity, Root] = {}


def hang_together(roots: Mapping[Identity, Root], bounds: Mapping[str, Bound]) -> bool:
    """Tell, without a search, whether one lease links all of these: then nothing is parted.

    False says nothing: others may link them one by one.
    """
    if len(roots) < 2:  # noqa: PLR2004 - two can be parted
        return True
    least = min(roots.values(), key=lambda root: len(root.leases))
    return any(roots.keys() <= bounds[lease].roots.keys() for lease in least.leases)


def is_spare(root: Root, bounds: Mapping[str, Bound]) -> bool:
    """Tell, without a search, whether the leases of a process hang together without it.

    False says nothing: others may link them one by one.
    """
    if len(root.leases) < 2:  # noqa: PLR2004 - two can be parted
        return True
    least = min(root.leases, key=lambda lease: len(bounds[lease].roots))
    others = bounds[least].roots.values()
    return any(root.leases <= other.leases for other in others if other is not root)


def components(leases: Iterable[str], bounds: Mapping[str, Bound]) -> Sequence[list[str]]:
    """Return which leases processes link, each part in the order given. Looks at each link once."""
    parts: list[list[str]] = []
    part_of: dict[str, list[str]] = {}
    seen: set[Identity] = set()
    for lease in leases:
        if lease not in part_of:
            parts.append([])
            _reach(lease, parts[-1], part_of, seen, bounds)
        part_of[lease].append(lease)
    return parts


def _reach(
    lease: str,
    part: list[str],
    part_of: dict[str, list[str]],
    seen: set[Identity],
    bounds: Mapping[str, Bound],
) -> None:
    part_of[lease] = part
    pending = [lease]
    while pending:
        for identity, root in bounds[pending.pop()].roots.items():
            if identity in seen:
                continue
            seen.add(identity)
            for other in root.leases:
                if other not in part_of:
                    part_of[other] = part
                    pending.append(other)
