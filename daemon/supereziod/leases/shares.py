"""What one GPU's account is made of: leases, their holders, and a pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec import Struct, field

from supereziod.gpu.hardware import GpuView
from supereziod.leases.capacity import Model
from supereziod.leases.growth import Growth, Sizing
from supereziod.leases.overrun import Overrun


class Part(Struct, kw_only=True):
    """One lease on one GPU. `sizing`: it takes a share of what it finds, and has yet to."""

    lease: str
    holder: str
    reserved_bytes: int
    exclusive: bool
    growth: Growth
    sizing: Sizing | None = None
    model: Model | None = None
    uid: int | None = None

    @property
    def is_growing(self) -> bool:
        """Whether nothing else may start here until its use is known."""
        return self.sizing is not None or self.growth.phase == "growing"


class Share(Struct, kw_only=True):
    """One holder on one GPU: all its leases there, and all that its processes use there.

    `hidden`: the driver does not tell the use of one of its processes. `shown`: a pass was taken
    since its first lease here, or showed its processes.
    """

    parts: dict[str, Part]
    since_ns: int
    reserved_bytes: int = 0
    measured_bytes: int = 0
    estimated_bytes: int = 0
    hidden: bool = False
    shown: bool = False
    overrun: Overrun = field(default_factory=Overrun)

    @property
    def actual_bytes(self) -> int:
        """What its processes use: as measured, and as estimated where that cannot be."""
        return self.measured_bytes + self.estimated_bytes

    @property
    def spoken_bytes(self) -> int:
        """What the holder takes from others: the larger of the two, once for all its leases."""
        return max(self.reserved_bytes, self.measured_bytes + self.estimated_bytes)

    def add(self, part: Part) -> None:
        """Let a lease count for this holder."""
        self.parts[part.lease] = part
        self.reserved_bytes += part.reserved_bytes
        self.estimated_bytes += part.growth.estimate_bytes

    def drop(self, part: Part) -> None:
        """Let a lease count for this holder no more."""
        del self.parts[part.lease]
        self.reserved_bytes -= part.reserved_bytes
        self.estimated_bytes -= part.growth.estimate_bytes

    def shift(self, use_bytes: int) -> None:
        """Take in use that comes, or goes, with whose it is: none of its leases has grown by it."""
        self.measured_bytes += use_bytes
        for part in self.parts.values():
            if part.sizing is not None:
                part.sizing.base_bytes += use_bytes

    def raise_reserve(self, part: Part, reserved_bytes: int) -> None:
        """Let one of its leases reserve more."""
        self.reserved_bytes += reserved_bytes - part.reserved_bytes
        part.reserved_bytes = reserved_bytes

    def overruns(self, taken_ns: int) -> bool:
        """Take in that a pass was read, and tell whether its leases here are too small for it."""
        if not self.parts or any(part.is_growing for part in self.parts.values()):
            self.overrun.clear()
            return False
        return self.overrun.weigh(
            reserved_bytes=self.reserved_bytes, used_bytes=self.measured_bytes, taken_ns=taken_ns
        )

    def sum_estimates(self) -> None:
        """Take in the estimates of its leases, which have changed."""
        self.estimated_bytes = sum(part.growth.estimate_bytes for part in self.parts.values())


class Pass(Struct, frozen=True, kw_only=True):
    """The figures of one pass that enter an account, all read together.

    `owners` has the holder of each process as it was when the pass came in.
    """

    taken_ns: int
    total_bytes: int
    used_bytes: int
    driver_reserved_bytes: int
    uses: dict[int, int | None]
    owners: dict[int, str | None]

    @classmethod
    def of(cls, view: GpuView, holder_of: Callable[[int], str | None]) -> Pass | None:
        """Return the figures of the view's last pass; None if the driver gave no memory figures.

        Where the driver cannot tell its reserve from use, use includes it, and it counts once.
        """
        sample = view.last_pass
        if sample is None:
            return None
        total = sample.vram_total_bytes or view.identity.vram_total_bytes
        if sample.vram_used_bytes is None or total is None:
            return None
        uses: dict[int, int | None] = {}
        for process in sample.processes or ():
            uses[process.pid] = _larger(uses.get(process.pid), process.vram_bytes)
        return cls(
            taken_ns=sample.taken_ns,
            total_bytes=total,
            used_bytes=sample.vram_used_bytes,
            driver_reserved_bytes=sample.vram_driver_reserved_bytes or 0,
            uses=uses,
            owners={pid: holder_of(pid) for pid in uses},
        )

    def unexplained_bytes(self, *, holders: Collection[str], returning: frozenset[int]) -> int:
        """Return the use that no process accounts for.

        A process of a released lease (`returning`) accounts for nothing any more, unless it
        belongs to one of `holders`.
        """
        listed = sum(used for used in self.uses.values() if used is not None)
        return self.used_bytes - listed + self.listed_bytes(returning, holders=holders)

    def listed_bytes(self, pids: Iterable[int], *, holders: Collection[str]) -> int:
        """Return what those of `pids` use that belong to none of `holders`."""
        return sum(self.uses.get(pid) or 0 for pid in pids if self.owners.get(pid) not in holders)


def _larger(one: int | None, other: int | None) -> int | None:
    """Merge two readings of the same bytes; an unknown one says nothing."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
