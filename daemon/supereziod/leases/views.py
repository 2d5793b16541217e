"""Leases and waiters as they are shown: what is personal only to their owner and to admins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from superezio.wire import HolderProcess, Lease, LeaseGpu, Placement, Revocation, Waiter
from supereziod.gpu.hardware import Snapshot
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.capacity import Capacity
from supereziod.leases.handles import ProcessHandle
from supereziod.leases.ledger import Ledger
from supereziod.leases.places import reason_code
from supereziod.leases.processes import Identity
from supereziod.leases.refusals import taken
from supereziod.leases.split import ratios, tensor_split
from supereziod.leases.store import LeaseRecord, RevokeOrder
from supereziod.leases.waiters import Pending

_CDI_KIND: Final = "nvidia.com/gpu"
_A_QUOTA: Final = "a quota of its user stands against it"


class GpuUsage(Struct, frozen=True, kw_only=True):
    """What the leases know of one GPU. `lease_of_pid` names the oldest lease of its holder.

    `taken`: why no lease fits beside what is there, however small.
    """

    reserved_bytes: int
    foreign_bytes: int | None
    leasable_bytes: int
    leases: int
    lease_of_pid: dict[int, str]
    taken: str | None = None


def environment_of(record: LeaseRecord) -> dict[str, str]:
    """Return the variables that put a program on its GPUs, by UUID: indices are not stable."""
    gpus = ",".join(record.gpus)
    environment = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpus,
        "NVIDIA_VISIBLE_DEVICES": gpus,
        "SUPEREZIO_CDI_DEVICES": ",".join(f"{_CDI_KIND}={uuid}" for uuid in record.gpus),
        "SUPEREZIO_LEASE": record.id,
    }
    proportions = _tensor_split(record)
    if proportions is not None:
        environment["SUPEREZIO_TENSOR_SPLIT"] = proportions
    return environment


def _tensor_split(record: LeaseRecord) -> str | None:
    """Return how a split lease is divided, in the order of its GPUs in CUDA_VISIBLE_DEVICES."""
    return tensor_split(list(_granted(record).values())) if record.params.split else None


def _granted(record: LeaseRecord) -> dict[str, int]:
    """Return what was granted on each GPU: what a holder came to use beyond it changes no split."""
    return record.placement.reserved or record.gpus


def _command(handle: ProcessHandle, known: dict[Identity, str | None]) -> str | None:
    """Return its command line; it is read once for all leases that the process holds."""
    identity = handle.identity
    if identity not in known:
        known[identity] = handle.command
    return known[identity]


class LeaseViews:
    """Makes the wire's picture of leases and waiters."""

    def __init__(
        self,
        *,
        book: LeaseBook,
        ledger: Ledger,
        idle_s: Callable[[LiveLease, Snapshot], float | None],
        clock: Callable[[], int],
    ) -> None:
        self._book = book
        self._ledger = ledger
        self._idle_s = idle_s
        self._clock = clock

    def leases(self, snapshot: Snapshot, *, personal_to: Callable[[int], bool]) -> list[Lease]:
        """Show all leases, oldest first, without how each was placed."""
        commands: dict[Identity, str | None] = {}
        return [
            self.lease(
                lease,
                snapshot,
                personal=personal_to(lease.record.uid),
                with_placement=False,
                commands=commands,
            )
            for lease in self._book
        ]

    def lease(
        self,
        lease: LiveLease,
        snapshot: Snapshot,
        *,
        personal: bool,
        with_placement: bool = True,
        commands: dict[Identity, str | None] | None = None,
    ) -> Lease:
        """Show a lease; its name, processes, environment and correlation id if `personal`.

        `commands` keeps what was read of its processes, for the next lease that they hold.
        """
        if commands is None:
            commands = {}
        record = lease.record
        handles = self._book.holders.attached_to(record.id)
        return Lease(
            id=record.id,
            state=self._book.state(lease),
            mode=record.params.mode,
            uid=record.uid,
            name=record.params.name if personal else None,
            policy=record.params.policy,
            priority=record.params.priority,
            gpus=self._gpus(lease, snapshot),
            holder=[
                HolderProcess(
                    pid=handle.identity.pid,
                    start_time=handle.identity.start_time,
                    command=_command(handle, commands),
                )
                for handle in handles
            ]
            if personal
            else [],
            holder_confirmed=bool(handles) and all(handle.confirmed for handle in handles),
            environment=environment_of(record) if personal else {},
            placement=record.placement if with_placement and personal else None,
            correlation_id=record.correlation_id if personal else None,
            granted_at=record.granted_at,
            age_s=(self._clock() - record.granted_ns) / 1e9,
            sizes_itself=record.params.sizes_itself,
            ttl_ms=record.ttl_ms,
            expires_in_s=self._left_s(self._book.ends_ns(lease)),
            revocation=self._revocation(lease.order) if personal else None,
            idle_s=self._idle_s(lease, snapshot),
            model=record.params.model if personal else None,
            tensor_split=_tensor_split(record),
        )

    def waiter(
        self, pending: Pending, placement: Placement, *, position: int, personal: bool
    ) -> Waiter:
        """Show a waiter, with the reason it waits."""
        waiting, scope = pending.waiting, pending.scope
        now = self._clock()
        return Waiter(
            id=waiting.id,
            position=position,
            uid=waiting.uid,
            name=waiting.name if personal else None,
            vram_bytes=waiting.request.vram_bytes,
            count=waiting.request.count,
            policy=waiting.request.policy,
            priority=waiting.priority,
            waited_s=(now - waiting.enqueued_ns) / 1e9,
            remaining_s=max(0, waiting.deadline_ns - now) / 1e9,
            # How much somebody may have, and in which group, is for that user to know.
            reason=placement.summary if personal or placement.quota is None else _A_QUOTA,
            code=reason_code(placement),
            ahead=position - 1,
            correlation_id=scope.correlation_id if scope is not None and personal else None,
            split=waiting.request.split,
        )

    def usage(self, capacity: Capacity, *, known: bool, lease_of_pid: dict[int, str]) -> GpuUsage:
        """Show what is spoken for on a GPU; `known`: a pass has shown what others use there."""
        refusal = taken(capacity)
        closed = capacity.block is not None or refusal is not None
        return GpuUsage(
            reserved_bytes=capacity.reserved_bytes,
            foreign_bytes=capacity.foreign_bytes if known else None,
            leasable_bytes=0 if closed else max(0, capacity.free_bytes),
            leases=capacity.leases,
            lease_of_pid=lease_of_pid,
            taken=None if refusal is None else refusal[1],
        )

    def _revocation(self, order: RevokeOrder | None) -> Revocation | None:
        if order is None:
            return None
        return Revocation(
            reason=order.reason,
            message=order.message,
            remaining_s=max(0, order.deadline_ns - self._clock()) / 1e9,
            answer=order.answer,
            answer_message=order.answer_message,
        )

    def _left_s(self, ends_ns: int | None) -> float | None:
        return None if ends_ns is None else max(0, ends_ns - self._clock()) / 1e9

    def _gpus(self, lease: LiveLease, snapshot: Snapshot) -> list[LeaseGpu]:
        holder = self._book.holders.holder_of(lease.id)
        record = lease.record
        parts: dict[str, float] = {}
        if record.params.split:
            granted = _granted(record)
            parts = dict(zip(granted, ratios(list(granted.values())), strict=True))
        found: list[LeaseGpu] = []
        for uuid, reserved_bytes in record.gpus.items():
            gpu = snapshot.find(uuid)
            mig = gpu.identity.mig if gpu is not None else None
            found.append(
                LeaseGpu(
                    uuid=uuid,
                    index=gpu.identity.index if gpu is not None else None,
                    mig_index=mig.index if mig is not None else None,
                    reserved_bytes=reserved_bytes,
                    actual_bytes=self._ledger.actual(holder, uuid),
                    actual_is_estimated=self._ledger.is_estimated(holder, uuid),
                    split_ratio=parts.get(uuid),
                )
            )
        return found
