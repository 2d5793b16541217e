"""Leases that nobody uses: since when, as far as that can be told."""

from __future__ import annotations

from collections.abc import Callable

from supereziod.gpu.hardware import GpuView, Snapshot
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.ledger import Ledger


class IdleWatch:
    """Tells idle leases by what passes show of all their GPUs.

    A lease is idle from its grant, or from its last use. What cannot be told counts as use: time
    in which a GPU of it was not read, time in which this daemon was not there, and a process whose
    use the driver does not give. A lease that no process was ever seen to hold is never idle, as
    nobody can say what uses its VRAM.
    """

    def __init__(
        self, *, book: LeaseBook, ledger: Ledger, timeout_s: float, clock: Callable[[], int]
    ) -> None:
        self._book = book
        self._ledger = ledger
        self._timeout_ns = round(timeout_s * 1e9)
        self._clock = clock

    def note_use(self, lease: LiveLease, taken_ns: int) -> None:
        """Take in that a pass showed it used."""
        lease.used_ns = max(lease.used_ns, taken_ns)
        lease.idle_told = False

    def note_unread(self, snapshot: Snapshot) -> None:
        """Take in which GPUs are not read now: nobody can tell what is used there."""
        unread = {gpu.uuid for gpu in snapshot.gpus if not _is_read(gpu)}
        if unread:
            now_ns = self._clock()
            for lease in self._book:
                if not unread.isdisjoint(lease.record.gpus):
                    self.note_use(lease, now_ns)

    def newly_idle(self, snapshot: Snapshot) -> list[LiveLease]:
        """Return, once for each spell, the leases that have been idle for the time that counts."""
        limit_ns = self._clock() - self._timeout_ns
        found = [
            lease
            for lease in self._book
            if lease.used_ns <= limit_ns
            and not lease.idle_told
            and self._unused_until_ns(lease, snapshot) - lease.used_ns >= self._timeout_ns
        ]
        for lease in found:
            lease.idle_told = True
        return found

    def idle_s(self, lease: LiveLease, snapshot: Snapshot) -> float | None:
        """Return for how long it has been idle; None while it is in use, or that is not known."""
        if not self._unused_until_ns(lease, snapshot):
            return None
        return max(0, self._clock() - lease.used_ns) / 1e9

    def _unused_until_ns(self, lease: LiveLease, snapshot: Snapshot) -> int:
        """Return when the pass was taken up to which all its GPUs show no use; 0 if one does."""
        record, holder = lease.record, self._book.holders.holder_of(lease.id)
        if not record.processes:
            return 0
        until_ns: list[int] = []
        for uuid in record.gpus:
            gpu = snapshot.find(uuid)
            used = self._ledger.actual(holder, uuid)
            if gpu is None or gpu.last_pass is None or not _is_read(gpu) or used != 0:
                return 0
            if self._ledger.is_estimated(holder, uuid):
                return 0
            until_ns.append(gpu.last_pass.taken_ns)
        return min(until_ns)


def _is_read(gpu: GpuView) -> bool:
    last = gpu.last_pass
    return gpu.status == "ok" and last is not None and last.vram_used_bytes is not None
