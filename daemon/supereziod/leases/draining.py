"""A critically hot GPU is drained: its leases are ordered to end, the least priority first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from superezio.wire import Level
from supereziod.gpu.hardware import Snapshot
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.revoking import Revoker

#: Whoever is told last still has time to save what it does.
_LEAST_S: Final = 5.0
_NS_PER_S: Final = 1_000_000_000


class Drain:
    """Follows the GPUs' levels, and orders by them.

    Within `drain_s` of a GPU's becoming CRITICAL all its leases are to end: those of the lowest
    priority are told at once, the next ones every `step_s` while it is so. What was ordered is
    withdrawn when the GPU has cooled; one whose level is UNKNOWN has not.
    """

    def __init__(
        self,
        *,
        book: LeaseBook,
        revoker: Revoker,
        drain_s: float,
        step_s: float,
        clock: Callable[[], int],
    ) -> None:
        self._book = book
        self._revoker = revoker
        self._drain_ns = round(drain_s * _NS_PER_S)
        self._step_ns = round(step_s * _NS_PER_S)
        self._clock = clock
        #: By GPU that is CRITICAL, or was before its level was UNKNOWN: since when, and when the
        #: next priority is told.
        self._since_ns: dict[str, int] = {}
        self._next_ns: dict[str, int] = {}
        self._told: dict[str, None] = {}

    def follow(self, snapshot: Snapshot) -> None:
        """Take in the levels; cheap where nothing is hot."""
        levels = {gpu.uuid: gpu.level for gpu in snapshot.gpus}
        if not self._since_ns and not self._told and "critical" not in levels.values():
            return
        now_ns = self._clock()
        self._follow_levels(levels, now_ns)
        for uuid in self._since_ns:
            if levels.get(uuid) == "critical":
                gpu = snapshot.find(uuid)
                self._tell_next(uuid, uuid if gpu is None else gpu.identity.label, now_ns)
        self._withdraw(levels)

    def _follow_levels(self, levels: dict[str, Level], now_ns: int) -> None:
        for uuid in list(self._since_ns):
            if levels.get(uuid, "unknown") not in {"critical", "unknown"}:
                del self._since_ns[uuid], self._next_ns[uuid]
        for uuid, level in levels.items():
            if level == "critical" and uuid not in self._since_ns:
                self._since_ns[uuid] = self._next_ns[uuid] = now_ns

    def _tell_next(self, uuid: str, label: str, now_ns: int) -> None:
        if now_ns < self._next_ns[uuid]:
            return
        left = [
            lease
            for lease in self._book
            if uuid in lease.record.gpus and "gpu_critical" not in lease.orders
        ]
        if not left:
            return
        self._next_ns[uuid] = now_ns + self._step_ns
        end_ns = self._since_ns[uuid] + self._drain_ns
        if now_ns + self._step_ns < end_ns:
            lowest = min(lease.record.params.priority for lease in left)
            left = [lease for lease in left if lease.record.params.priority == lowest]
        left.reverse()  # of one priority, the newest first
        for lease in sorted(left, key=_priority):
            self._told[lease.id] = None
            self._revoker.order(
                lease,
                "gpu_critical",
                f"{label} is critically hot",
                deadline_s=max(_LEAST_S, (end_ns - now_ns) / _NS_PER_S),
            )

    def _withdraw(self, levels: dict[str, Level]) -> None:
        for lease_id in list(self._told):
            lease = self._book.find(lease_id)
            if lease is not None:
                found = {levels.get(uuid, "unknown") for uuid in lease.record.gpus}
                if found & {"critical", "unknown"}:
                    continue
                self._revoker.withdraw(lease, "gpu_critical")
            del self._told[lease_id]


def _priority(lease: LiveLease) -> int:
    return lease.record.params.priority
