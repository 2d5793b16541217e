"""A probe at work as its supervisor sees it: how far it has come with each of its GPUs."""

from __future__ import annotations

from supereziod.gpu.frames import Opened, ProbeSpec, Target
from supereziod.gpu.probe_process import ProbeHandle


class Child:
    """A probe that runs, and how far it has come with its GPUs."""

    def __init__(self, handle: ProbeHandle, spec: ProbeSpec, *, now_ns: int) -> None:
        self.handle = handle
        self.spec = spec
        self.started_ns = now_ns
        self.heard_ns = now_ns
        self.opened: Opened | None = None
        self.uuids: dict[int, str] = {}
        self.hanging: dict[int, int] = {}
        self.listed = False
        self._settled: set[int] = set()

    def settle(self, index: int) -> None:
        """Note that the GPU at `index` has answered, well or badly."""
        self._settled.add(index)

    def settle_uuid(self, uuid: str) -> None:
        """Note that a GPU has answered."""
        self._settled.update(index for index, known in self.uuids.items() if known == uuid)

    def index_of(self, uuid: str) -> int | None:
        """Return the index at which this probe found a GPU."""
        return next((index for index, known in self.uuids.items() if known == uuid), None)

    @property
    def is_settled(self) -> bool:
        """Whether every GPU of this probe has answered."""
        return self.opened is not None and self._settled.issuperset(self.opened.indexes)

    @property
    def is_accounted_for(self) -> bool:
        """Whether every GPU has answered or is known to hang."""
        known = self._settled | self.hanging.keys()
        return self.opened is not None and known.issuperset(self.opened.indexes)

    def skips(self, target: Target) -> bool:
        """Whether this probe leaves that GPU alone."""
        return any(names_same(skipped, target) for skipped in self.spec.skip)


def names_same(one: Target, other: Target) -> bool:
    """Whether two targets mean one GPU."""
    if one.uuid is not None and other.uuid is not None:
        return one.uuid == other.uuid
    return one.index == other.index
