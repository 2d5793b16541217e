"""All that the screen shows, as the daemon said it last."""

from __future__ import annotations

from dataclasses import dataclass, field

from superezio.wire import Gpu, GpuProcess, Health, Lease, SystemInfo, Waiter

#: The parts of the screen that have rows to select, in the order in which Tab visits them.
SECTIONS = ("gpus", "leases", "processes", "queue")


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """One answer to everything, or the last one there was and the trouble since."""

    system: SystemInfo | None = None
    health: Health | None = None
    gpus: list[Gpu] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    processes: list[GpuProcess] = field(default_factory=list)
    queue: list[Waiter] = field(default_factory=list)
    #: Why nothing newer is known; None while the daemon answers.
    trouble: str | None = None
    #: The last event, as a line.
    news: str = ""

    def gpu(self, uuid: str) -> Gpu | None:
        """Return a GPU by its UUID."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def lease(self, id_: str) -> Lease | None:
        """Return a lease by its whole id."""
        return next((lease for lease in self.leases if lease.id == id_), None)

    def waiter(self, id_: str) -> Waiter | None:
        """Return one that waits by its whole id."""
        return next((waiter for waiter in self.queue if waiter.id == id_), None)

    def keys(self) -> dict[str, list[str]]:
        """Return what identifies the rows of each section over time."""
        return {
            "gpus": [gpu.uuid for gpu in self.gpus],
            "leases": [lease.id for lease in self.leases],
            "processes": [f"{process.gpu} {process.pid}" for process in self.processes],
            "queue": [waiter.id for waiter in self.queue],
        }
