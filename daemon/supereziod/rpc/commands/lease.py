"""lease.* and placement.*: VRAM for a program, and why it gets it or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from superezio.wire import (
    AcquireParams,
    Done,
    Lease,
    LeaseAcknowledgeParams,
    LeaseAttachParams,
    LeaseList,
    LeaseParams,
    LeaseRenewParams,
    LeaseRevokeParams,
    NoParams,
    Placement,
    PlacementParams,
    ReleaseResult,
    WaiterParams,
)
from supereziod.gpu.hardware import Snapshot
from supereziod.leases.handles import Caller
from supereziod.observability.correlation import note
from supereziod.rpc.gpu_names import find_units
from supereziod.rpc.requests import RequestContext

P = TypeVar("P", AcquireParams, PlacementParams)


class Leases(Protocol):
    """The lease manager, as far as it is asked."""

    def acquire(
        self, caller: Caller, params: AcquireParams, *, idempotency_key: str | None
    ) -> Lease | Awaitable[Lease]:
        """Grant at once, or return what waits for the grant."""

    def attach(self, caller: Caller, params: LeaseAttachParams) -> Lease:
        """Bind a further process to a lease."""

    def resume(self, caller: Caller, lease_id: str) -> Lease:
        """Take a connection lease over to the caller's connection."""

    def renew(self, caller: Caller, params: LeaseRenewParams) -> Lease:
        """Let a ttl lease last its TTL from now."""

    def mark_ready(self, caller: Caller, lease_id: str) -> Lease:
        """Take it that a lease has grown."""

    def revoke(self, caller: Caller, params: LeaseRevokeParams) -> Lease:
        """Order a lease to end."""

    def acknowledge(self, caller: Caller, params: LeaseAcknowledgeParams) -> Lease:
        """Take the holder's answer to an order to end."""

    def release(self, caller: Caller, lease_id: str) -> ReleaseResult:
        """End a lease."""

    def cancel(self, caller: Caller, waiter_id: str) -> Done:
        """Take an acquire out of the queue."""

    def list(self, caller: Caller) -> LeaseList:
        """Return leases and queue as the caller may see them."""

    def get(self, caller: Caller, lease_id: str) -> Lease:
        """Return one lease as the caller may see it."""

    def explain(self, caller: Caller, params: PlacementParams) -> Placement | Awaitable[Placement]:
        """Say what an acquire would get, and why."""


class LeaseCommands:
    """Handlers of lease.* and placement.*."""

    def __init__(self, *, leases: Leases, snapshot: Callable[[], Snapshot]) -> None:
        self._leases = leases
        self._snapshot = snapshot

    def acquire(self, request: RequestContext, params: AcquireParams) -> Lease | Awaitable[Lease]:
        """Ask for VRAM: a lease at once, a place in the queue, or the reason why not."""
        caller = caller_of(request, with_pidfd=params.mode == "process")
        return self._leases.acquire(
            caller, self._by_uuid(params), idempotency_key=request.idempotency_key
        )

    def attach(self, request: RequestContext, params: LeaseAttachParams) -> Lease:
        """Bind a further process to a lease; it then ends with the last of them."""
        note(lease=params.lease)
        return self._leases.attach(caller_of(request), params)

    def resume(self, request: RequestContext, params: LeaseParams) -> Lease:
        """Take a connection lease over to this connection, within its grace."""
        note(lease=params.lease)
        return self._leases.resume(caller_of(request, with_pidfd=True), params.lease)

    def renew(self, request: RequestContext, params: LeaseRenewParams) -> Lease:
        """Let a ttl lease last its TTL from now."""
        note(lease=params.lease)
        return self._leases.renew(caller_of(request), params)

    def ready(self, request: RequestContext, params: LeaseParams) -> Lease:
        """Say that a lease's program has grown to its size."""
        note(lease=params.lease)
        return self._leases.mark_ready(caller_of(request), params.lease)

    def revoke(self, request: RequestContext, params: LeaseRevokeParams) -> Lease:
        """Order a lease to end by a deadline, after which it is lost."""
        note(lease=params.lease)
        return self._leases.revoke(caller_of(request), params)

    def acknowledge(self, request: RequestContext, params: LeaseAcknowledgeParams) -> Lease:
        """Answer an order to end: the holder will, or will not."""
        note(lease=params.lease)
        return self._leases.acknowledge(caller_of(request), params)

    def release(self, request: RequestContext, params: LeaseParams) -> ReleaseResult:
        """End a lease; to release it again is no error."""
        note(lease=params.lease)
        return self._leases.release(caller_of(request), params.lease)

    def cancel(self, request: RequestContext, params: WaiterParams) -> Done:
        """Take an acquire out of the queue; that it is not there is no error."""
        return self._leases.cancel(caller_of(request), params.waiter)

    def list(self, request: RequestContext, _params: NoParams) -> LeaseList:
        """Return the leases and the queue."""
        return self._leases.list(caller_of(request))

    def get(self, request: RequestContext, params: LeaseParams) -> Lease:
        """Return one lease."""
        return self._leases.get(caller_of(request), params.lease)

    def explain(
        self, request: RequestContext, params: PlacementParams
    ) -> Placement | Awaitable[Placement]:
        """Say what an acquire would get now, with the reason for every GPU."""
        return self._leases.explain(caller_of(request), self._by_uuid(params))

    def _by_uuid(self, params: P) -> P:
        """Let `prefer` and `avoid` name GPUs as everywhere else."""
        if not (params.prefer or params.avoid):
            return params
        snapshot = self._snapshot()
        return msgspec.structs.replace(
            params,
            prefer=find_units(snapshot, params.prefer),
            avoid=find_units(snapshot, params.avoid),
        )


def caller_of(request: RequestContext, *, with_pidfd: bool = False) -> Caller:
    """Return who asks, as the lease manager knows callers. The pidfd is the connection's."""
    origin = request.origin
    return Caller(
        uid=origin.peer.uid,
        pid=origin.peer.pid,
        pidfd=origin.pidfd() if with_pidfd else None,
        role=origin.role,
        connection=origin.id,
        max_priority=origin.max_priority,
        groups=origin.peer.groups,
    )
