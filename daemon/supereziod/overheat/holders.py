"""Who holds leases outside the slice of the models: nobody's to stop, and named instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from supereziod.leases.processes import ProcessTable
from supereziod.leases.store import LeaseRecord


class OutsideHolder(Struct, frozen=True, kw_only=True):
    """One process that holds a lease, and the unit that it runs in, where it is in one."""

    lease: str
    owner_uid: int
    gpus: tuple[str, ...]
    pid: int
    unit: str | None
    command: str | None


def holders_outside(
    records: Iterable[LeaseRecord], processes: ProcessTable, *, slice_: str
) -> Iterator[OutsideHolder]:
    """Yield the processes of leases that live, and run outside a slice."""
    for record in records:
        for held in record.processes:
            if not processes.is_alive(held.identity):
                continue
            path = processes.unit_path(held.pid)
            if path is not None and slice_ in path.split("/"):
                continue
            yield OutsideHolder(
                lease=record.id,
                owner_uid=record.uid,
                gpus=tuple(record.gpus),
                pid=held.pid,
                unit=path.rpartition("/")[2] if path is not None else None,
                command=processes.command(held.pid),
            )
