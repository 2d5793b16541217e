"""Who holds leases: models in their slice, and others, who are nobody's to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from supereziod.leases.processes import ProcessTable
from supereziod.leases.store import LeaseRecord


class LeaseHolder(Struct, frozen=True, kw_only=True):
    """One process that holds a lease, and the unit that it runs in, where it is in one.

    `in_slice`: that unit is a model's.
    """

    lease: str
    owner_uid: int
    gpus: tuple[str, ...]
    pid: int
    unit: str | None
    in_slice: bool
    command: str | None


def lease_holders(
    records: Iterable[LeaseRecord], processes: ProcessTable, *, slice_: str
) -> Iterator[LeaseHolder]:
    """Yield the processes of leases that live, and whether they run in the models' slice."""
    for record in records:
        for held in record.processes:
            if not processes.is_alive(held.identity):
                continue
            path = processes.unit_path(held.pid)
            yield LeaseHolder(
                lease=record.id,
                owner_uid=record.uid,
                gpus=tuple(record.gpus),
                pid=held.pid,
                unit=path.rpartition("/")[2] if path is not None else None,
                in_slice=path is not None and slice_ in path.split("/"),
                command=processes.command(held.pid),
            )
