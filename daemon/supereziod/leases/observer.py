"""What readings of the GPUs show of the leases: their use, their heat, and what is amiss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from superezio.errors import BusyError, StateNotWritableError
from supereziod.gpu.hardware import ProcessUse, Snapshot
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.conduct import Conduct
from supereziod.leases.descent import Attribution
from supereziod.leases.draining import Drain
from supereziod.leases.idle import IdleWatch
from supereziod.leases.kinship import Kinship
from supereziod.leases.ledger import LedgerNotice
from supereziod.leases.readings import Readings
from supereziod.leases.unreturned import UnreturnedVram
from supereziod.observability.events import EventLog


class Observer:
    """Takes readings into the ledger and the leases, and tells what they show.

    `lease_of_pid` has, by GPU, the oldest lease of the holder of each process in the last passes.
    Every `search_s`, /proc is searched for what holders have started.
    """

    def __init__(
        self,
        *,
        readings: Readings,
        book: LeaseBook,
        drain: Drain,
        events: EventLog,
        conduct: Conduct,
        idle: IdleWatch,
        kinship: Kinship,
        search_s: float,
        clock: Callable[[], int],
    ) -> None:
        self._readings = readings
        self._book = book
        self._drain = drain
        self._events = events
        self._conduct = conduct
        self._idle = idle
        self._kinship = kinship
        self._search_s = search_s
        self._clock = clock
        self._searched_ns = clock()
        self.lease_of_pid: dict[str, dict[int, str]] = {}
        self._unreturned = UnreturnedVram()

    def unreturned(self) -> dict[str, str]:
        """Return the GPUs whose released VRAM the driver still shows as used, and a sentence."""
        return self._unreturned.messages(self._foreign_bytes())

    def observe(self) -> None:
        """Take in what has changed; cheap where no GPU was read."""
        snapshot = self._readings.snapshot()
        if self._readings.has_new_pass():
            self._take_in(snapshot)
        self._idle.note_unread(snapshot)
        self._drain.follow(snapshot)

    def _take_in(self, snapshot: Snapshot) -> None:
        attribution = self._book.holders.descent.attribution()
        # A pass is taken in whole. Where no file can be opened it is tried again with the next
        # change: a process that could not be looked up is not foreign for that.
        try:
            self._search_descendants()
            for process in _processes(snapshot):
                attribution(process.pid)
        except BusyError:
            return
        self._kinship.record()
        notices = self._readings.observe(attribution)
        missing = [notice for notice in notices if notice.kind == "unreturned"]
        if missing:
            self._unreturned.note(missing, self._foreign_bytes())
        for notice in notices:
            self._tell_notice(notice)
        self._note_use(snapshot, attribution)
        for lease in self._idle.newly_idle(snapshot):
            self._conduct.fell_idle(lease, self._idle.idle_s(lease, snapshot) or 0)

    def _search_descendants(self) -> None:
        now = self._clock()
        period_ns = round(self._search_s * 1e9)
        if self._book.holders.descent.unsearched:
            period_ns //= 5
        if now - self._searched_ns >= period_ns:
            self._book.holders.search()
            self._searched_ns = now

    def _note_use(self, snapshot: Snapshot, holder_of: Attribution) -> None:
        lease_of_pid: dict[str, dict[int, str]] = {}
        for gpu in snapshot.gpus:
            if gpu.last_pass is None:
                continue
            for process in gpu.last_pass.processes or ():
                holder = holder_of(process.pid)
                for lease in self._leases_on(holder, gpu.uuid):
                    lease_of_pid.setdefault(gpu.uuid, {}).setdefault(process.pid, lease.id)
                    self._book.mark_used(lease)
                    if process.vram_bytes != 0:  # 0 is none; what is not known may be some
                        self._idle.note_use(lease, gpu.last_pass.taken_ns)
                        self._conduct.came_into_use(lease)
        self.lease_of_pid = lease_of_pid

    def _leases_on(self, holder: str | None, uuid: str) -> Sequence[LiveLease]:
        if holder is None:
            return []
        leases = [self._book.get(lease_id) for lease_id in self._book.holders.leases_of(holder)]
        return [lease for lease in leases if uuid in lease.record.gpus]

    def _tell_notice(self, notice: LedgerNotice) -> None:
        if notice.kind == "grown":
            self._events.emit("lease.grown", notice.message, gpu=notice.uuid, lease=notice.lease)
            self._note_grown(notice)
            return
        if notice.kind == "overrun":
            self._conduct.overran(notice)
            return
        if notice.kind not in ("unreturned", "overcommitted", "overcommit_over"):
            return
        over = notice.kind == "overcommit_over"
        self._events.emit(
            "lease.unreturned" if notice.kind == "unreturned" else "gpu.overcommitted",
            notice.message,
            severity="info" if over else "warning",
            gpu=notice.uuid,
            lease=notice.lease,
            amount_bytes=notice.amount_bytes,
            pids=list(notice.pids),
            over=over,
        )

    def _note_grown(self, notice: LedgerNotice) -> None:
        lease = None if notice.lease is None else self._book.find(notice.lease)
        if lease is not None:
            with suppress(StateNotWritableError):  # it grows anew, if there is a restart
                self._book.note_grown(lease, notice.uuid)

    def _foreign_bytes(self) -> dict[str, int]:
        return {each.uuid: each.foreign_bytes for each in self._readings.capacities()}


def _processes(snapshot: Snapshot) -> Iterator[ProcessUse]:
    for gpu in snapshot.gpus:
        if gpu.last_pass is not None:
            yield from gpu.last_pass.processes or ()
