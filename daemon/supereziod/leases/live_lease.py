"""One lease as it stands, and how what happens to it is told."""

from __future__ import annotations

from typing import Any

from superezio.quantities import format_size
from superezio.wire import RevokeReason
from supereziod.leases.store import LeaseRecord, RevokeOrder
from supereziod.observability.correlation import RequestScope, current_scope, in_scope
from supereziod.observability.events import EventLog


class LiveLease:
    """A lease as it stands: what was recorded, and what is only true of this run.

    `connection` is None for a process lease, and for a connection lease whose connection is gone.
    `orders`: what the lease is to end for; those by heat are in no record. `used_ns`: when it was
    last used, or may have been; `idle_told`: it was told that this is long ago.
    """

    __slots__ = ("connection", "idle_told", "orders", "record", "used", "used_ns")

    def __init__(self, record: LeaseRecord, *, connection: str | None) -> None:
        self.record = record
        self.connection = connection
        self.used = False
        self.orders: dict[RevokeReason, RevokeOrder] = {
            order.reason: order for order in record.orders
        }
        self.used_ns = record.granted_ns
        self.idle_told = False

    @property
    def id(self) -> str:
        """The lease's id."""
        return self.record.id

    @property
    def order(self) -> RevokeOrder | None:
        """The order that counts: the one whose deadline is first."""
        return min(self.orders.values(), key=lambda order: order.deadline_ns, default=None)

    @property
    def orphaned(self) -> bool:
        """Whether it is a connection lease without its connection."""
        return self.record.params.mode == "connection" and self.connection is None


class LeaseNews:
    """Tells what happens to leases, to their owner and the journal.

    What nobody asked for just now is told under the request that asked for the lease.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events

    def __call__(
        self,
        lease: LiveLease,
        what: str,
        words: str,
        *,
        gpu: str | None = None,
        **data: Any,  # noqa: ANN401 - event data
    ) -> None:
        """Emit `lease.<what>`: "lease <id> <words>"; about its first GPU, if not another."""
        record = lease.record
        scope = current_scope.get()
        if scope is None and record.correlation_id is not None:
            scope = RequestScope(correlation_id=record.correlation_id, uid=record.uid)
        with in_scope(scope):
            self._events.emit(
                f"lease.{what}",
                f"lease {record.id} {words}",
                gpu=next(iter(record.gpus), None) if gpu is None else gpu,
                lease=record.id,
                uid=record.uid,
                gpus=list(record.gpus),
                name=record.params.name,
                **data,
            )


def share_of(record: LeaseRecord) -> str:
    """Return what the lease has, for people."""
    return f"{format_size(record.params.vram_bytes)} on {', '.join(record.gpus)}"
