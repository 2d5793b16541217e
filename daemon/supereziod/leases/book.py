"""The leases there are: granted, changed and ended in one step each, on disk before in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import structs

from superezio.errors import (
    BusyError,
    HolderGoneError,
    StaleLeaseError,
    StateNotWritableError,
)
from superezio.wire import AcquireParams, LeaseState, Placement
from supereziod.deadlines import Deadlines
from supereziod.leases.capacity import Subject
from supereziod.leases.handles import HandleOpener, HeldBy, ProcessHandle
from supereziod.leases.holders import Holders
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.live_lease import LeaseNews, LiveLease, share_of
from supereziod.leases.presence import NOWHERE, Presence
from supereziod.leases.processes import ProcessTable
from supereziod.leases.quotas import Quotas
from supereziod.leases.store import LeaseRecord, LeaseStore
from supereziod.observability.correlation import correlation_id
from supereziod.observability.events import EventLog
from supereziod.observability.marks import count_use, mark
from supereziod.storage import StorageError

_MAX_PROCESSES: Final = 64
_NS_PER_MS: Final = 1_000_000

__all__ = ["LeaseBook", "LiveLease"]


class LeaseBook:
    """All leases, and the ledger, holders and records that go with them.

    Every change is synchronous: committed, then made, then told. `on_ended` is called after
    leases ended by themselves: because the processes that held them did, or their time was over.
    `on_removed` is called with the id of each lease that is over, in whatever way. A process that
    holds several leases of a user counts for each of them towards `max_processes_per_uid`.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: LeaseStore,
        events: EventLog,
        processes: ProcessTable,
        on_ended: Callable[[], None],
        on_removed: Callable[[str], None],
        quotas: Quotas,
        clock: Callable[[], int],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_leases: int = 4096,
        max_leases_per_uid: int = 1024,
        max_processes_per_uid: int = 1024,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._events = events
        self._tell = LeaseNews(events)
        self._on_ended = on_ended
        self._on_removed = on_removed
        self._quotas = quotas
        self._clock = clock
        self._now = now
        self._max_leases = max_leases
        self._max_leases_per_uid = max_leases_per_uid
        self._max_processes_per_uid = max_processes_per_uid
        self._opener: HandleOpener | None = None
        self.holders = Holders(
            processes=processes,
            on_ended=self._processes_ended,
            on_moved=ledger.rebind,
            on_lost=ledger.part,
            on_split=ledger.split,
        )
        self._leases: dict[str, LiveLease] = {}
        self._of_uid: dict[int, int] = {}
        self._by_key: dict[tuple[int, str], str] = {}
        self._by_connection: dict[str, dict[str, None]] = {}
        self._ends: Deadlines[str] = Deadlines(clock=clock, on_due=self._time_is_over)

    def __len__(self) -> int:
        """Return how many leases there are."""
        return len(self._leases)

    def __iter__(self) -> Iterator[LiveLease]:
        """Iterate over the leases, oldest first."""
        return iter(tuple(self._leases.values()))

    def find(self, lease_id: str) -> LiveLease | None:
        """Return the lease, if it is there."""
        return self._leases.get(lease_id)

    def get(self, lease_id: str) -> LiveLease:
        """Return the lease. Raises StaleLeaseError."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise StaleLeaseError(
                f"there is no lease {lease_id[:64]}: it has ended, or there never was one",
                data={"lease": lease_id[:64]},
            )
        return lease

    def with_key(self, uid: int, key: str) -> LiveLease | None:
        """Return the lease that the user was granted under this idempotency key."""
        lease_id = self._by_key.get((uid, key))
        return self._leases[lease_id] if lease_id is not None else None

    def of_connection(self, connection: str) -> list[LiveLease]:
        """Return the leases bound to a connection."""
        return [self._leases[lease_id] for lease_id in self._by_connection.get(connection, ())]

    def state(self, lease: LiveLease) -> LeaseState:
        """Return the lease's state."""
        if lease.orphaned:
            return "orphaned"
        if lease.orders:
            return "draining"
        if self._ledger.is_growing(lease.id):
            return "growing"
        return "active" if lease.used else "granted"

    @property
    def writable(self) -> bool:
        """Whether a grant could be recorded, as far as is known."""
        return self._store.fault is None

    def released_by(self, lease_id: str) -> int | None:
        """Return whose lease it was that was released under this id, as far as is remembered."""
        return self._store.released.get(lease_id)

    def check_room(self, uid: int) -> None:
        """Raise BusyError if the user, or all together, have as many leases as there may be."""
        if self._of_uid.get(uid, 0) >= self._max_leases_per_uid:
            raise BusyError(f"cannot lease more: you have {self._max_leases_per_uid} leases")
        if len(self._leases) >= self._max_leases:
            raise BusyError(f"cannot lease more: there are {self._max_leases} leases in all")

    def _check_processes(self, uid: int, more: int) -> None:
        held = self.holders.processes_of(uid)
        if held + more > self._max_processes_per_uid:
            raise BusyError(
                f"cannot bind more processes: {held:,} hold leases of uid {uid}, and"
                f" {self._max_processes_per_uid:,} may. Release leases, or end some of those"
            )

    def presence_of(self, holder: ProcessHandle | int, *, may_move: bool) -> Presence:
        """Return where a process (or a pid) that is to hold a lease uses VRAM already.

        `may_move`: it asks for itself. Raises BusyError.
        """
        if isinstance(holder, int):
            known, strangers = self.holders.whose_pid(holder)
        else:
            known, strangers = self.holders.whose(holder)
        if known is None and not strangers:
            return NOWHERE
        found = self._ledger.presence(known, strangers, may_move=may_move)
        return found if found.foreign_bytes or found.beyond_bytes or found.used else NOWHERE

    def grant(
        self,
        *,
        subject: Subject,
        params: AcquireParams,
        placement: Placement,
        handles: list[ProcessHandle],
        connection: str | None,
        key: str | None,
        on_recorded: Callable[[], None] = lambda: None,
    ) -> LiveLease:
        """Record and make a lease. On an error nothing was done, and the handles are not taken.

        `on_recorded` is called in between, when nothing can fail any more.
        """
        uid = subject.uid
        self.check_room(uid)
        self._check_processes(uid, len(handles))
        breach = self._quotas.breach(subject, sum(placement.reserved.values()))
        if breach is not None:
            raise breach.error()
        if params.mode == "process" and all(handle.ended for handle in handles):
            raise HolderGoneError("cannot grant the lease: the process that asked has ended")
        own = [pid for handle in handles for pid in self.holders.whose(handle)[1]]
        now_ns = self._clock()
        ttl_ms = params.ttl_ms
        record = LeaseRecord(
            id=os.urandom(12).hex(),
            uid=uid,
            params=params,
            gpus=placement.reserved,
            processes=tuple(handle.held_by() for handle in handles),
            placement=placement,
            granted_at=self._now().isoformat(timespec="milliseconds"),
            granted_ns=now_ns,
            correlation_id=correlation_id(),
            idempotency_key=key,
            ttl_ms=ttl_ms,
            expires_ns=None if ttl_ms is None else now_ns + ttl_ms * _NS_PER_MS,
            groups=tuple(sorted(subject.shares)),
        )
        self._record(record)
        on_recorded()
        lease = LiveLease(record, connection=connection if params.mode == "connection" else None)
        self._ledger.claim(self._add(lease, handles))
        self._ledger.adopt(self.holders.holder_of(lease.id), own)
        if record.expires_ns is not None:
            self._ends.set(lease.id, record.expires_ns)
        mark("granted", lease=lease.id, gpus=tuple(record.gpus))
        count_use("leases")
        self._tell(lease, "granted", f"was granted {share_of(record)}", mode=params.mode)
        return lease

    def restore(self, opener: HandleOpener) -> None:
        """Take up the leases of an earlier run in this boot; those nobody holds are over."""
        if self._store.moved_aside is not None:
            self._events.emit(
                "lease.lost",
                "the file of leases was corrupt: those of this boot are not known any more",
                severity="critical",
                reason="state_corrupt",
                moved_aside=str(self._store.moved_aside),
            )
        records, voided = self._store.load()
        for row in voided:
            self._events.emit(
                "lease.lost",
                f"lease {row.id} is void: {row.reason}",
                lease=row.id,
                reason="void",
            )
        self._opener = opener
        for record in records:
            self._take_up(record, opener)

    def _take_up(self, record: LeaseRecord, opener: HandleOpener) -> None:
        """Let a recorded lease stand, unless its processes are known to have ended."""
        handles: list[ProcessHandle] = []
        awaited: list[HeldBy] = []
        for held in record.processes:
            try:
                handle = opener.again(held)
            except BusyError:
                # Too many files are open: that says nothing of the process. `run_due` tries again.
                awaited.append(held)
                continue
            if handle is not None:
                handles.append(handle)
        lease = LiveLease(record, connection=None)
        lease.used_ns = self._clock()  # nobody saw what was used until now
        self._ledger.restore(self._add(lease, handles, awaited))
        ended = [held.identity for held in record.processes]
        self.holders.restore_kin(record.id, record.kin, ended=ended)
        if not handles and not awaited and record.params.mode == "process":
            self.lose(lease, "holder_ended", "its processes ended while the daemon was down")

    def resume_clocks(self, grace_s: float) -> None:
        """Let time count for the leases of an earlier run: clients can reach the daemon from now.

        Connection leases have `grace_s` for their reconnect; a ttl lease has what is left of its
        TTL, and no less than that, or half of its TTL, for its next renewal: who renews three times
        per TTL comes in that time, even where the last renewals could not be recorded.
        """
        now_ns = self._clock()
        grace_ns = now_ns + round(grace_s * 1e9)
        for lease in self:
            if lease.orphaned:
                self._ends.set(lease.id, grace_ns)
            elif lease.record.expires_ns is not None:
                half_ns = now_ns + (lease.record.ttl_ms or 0) * _NS_PER_MS // 2
                self._ends.set(lease.id, max(lease.record.expires_ns, grace_ns, half_ns))

    def ends_ns(self, lease: LiveLease) -> int | None:
        """Return when the lease ends by itself (CLOCK_MONOTONIC), if anything of the kind is due.

        That is a ttl lease that is not renewed, and a connection lease that is not resumed.
        """
        return self._ends.get(lease.id)

    def run_due(self) -> None:
        """End the leases whose time is over, and watch what could not be opened at the start."""
        self._ends.run_due()
        if self._opener is not None:
            self.holders.watch_awaited(self._opener)

    def renew(self, lease: LiveLease, ttl_ms: int) -> None:
        """Let a ttl lease last `ttl_ms` from now; it does so where that cannot be recorded, too.

        Existing leases stand: that the disk is full is not the holder's fault. It is recorded when
        there is room, and a restart until then leaves time for the next renewal.
        """
        ends_ns = self._clock() + ttl_ms * _NS_PER_MS
        lease.record = structs.replace(lease.record, ttl_ms=ttl_ms, expires_ns=ends_ns)
        self._store.keep(lease.record)
        self._ends.set(lease.id, ends_ns)

    def mark_ready(self, lease: LiveLease) -> None:
        """Take a lease's word that it has grown. Raises StateNotWritableError: nothing changed."""
        if not lease.record.ready:
            self.amend(lease, "cannot record that the lease is ready", ready=True)
        self._ledger.ready(lease.id)

    def note_grown(self, lease: LiveLease, uuid: str) -> None:
        """Remember that a lease has sized itself on a GPU. Raises StateNotWritableError."""
        if lease.record.params.sizes_itself and uuid not in lease.record.grown_on:
            grown_on = (*lease.record.grown_on, uuid)
            self.amend(lease, "cannot record that the lease has grown", grown_on=grown_on)

    def attach(self, lease: LiveLease, handle: ProcessHandle) -> None:
        """Bind one more process. On an error nothing was done, and the handle is not taken."""
        held = {each.identity: each for each in lease.record.processes}
        known = held.get(handle.identity)
        if known is None and len(held) >= _MAX_PROCESSES:
            is_held_by = self.holders.is_held_by
            held = {each: held[each] for each in held if is_held_by(lease.id, each)}
            if len(held) >= _MAX_PROCESSES:
                raise BusyError(f"cannot bind more than {_MAX_PROCESSES} processes to a lease")
        if not self.holders.is_held_by(lease.id, handle.identity):
            self._check_processes(lease.record.uid, 1)
        own = self.holders.whose(handle)[1]
        new = handle.held_by()
        if known is not None and known.confirmed:
            new = known
        held[handle.identity] = new
        processes = tuple(held.values())
        if processes != lease.record.processes:
            self.amend(
                lease,
                "cannot record the process, so it does not hold the lease",
                processes=processes,
            )
        self.holders.attach(lease.id, handle)
        self._ledger.adopt(self.holders.holder_of(lease.id), own)
        mark("attached", lease=lease.id, gpus=tuple(lease.record.gpus))
        if known is None:
            pid = handle.identity.pid
            self._tell(lease, "attached", f"is held by pid {pid} too", pid=pid)

    def amend(self, lease: LiveLease, or_else: str, **changes: Any) -> None:  # noqa: ANN401 - fields
        """Commit fields of a lease's record, then change them.

        Raises StateNotWritableError, which says `or_else`: nothing changed.
        """
        record = structs.replace(lease.record, **changes)
        self._record(record, or_else)
        lease.record = record

    def raise_reserve(self, lease: LiveLease, uuid: str, reserved_bytes: int) -> None:
        """Let a lease reserve more on a GPU. Raises StateNotWritableError: nothing changed."""
        gpus = {**lease.record.gpus, uuid: reserved_bytes}
        self.amend(lease, "cannot record what the lease is raised to", gpus=gpus)
        self._ledger.raise_reserve(lease.id, uuid, reserved_bytes)
        self._quotas.change(lease.id, sum(gpus.values()))

    def bind_connection(self, lease: LiveLease, connection: str) -> None:
        """Let the lease hang on another connection."""
        self._unhook(lease)
        self._ends.drop(lease.id)
        lease.connection = connection
        self._by_connection.setdefault(connection, {})[lease.id] = None

    def orphan(self, lease: LiveLease, grace_s: float) -> None:
        """Note that a lease's connection is gone."""
        self._unhook(lease)
        lease.connection = None
        self._ends.set(lease.id, self._clock() + round(grace_s * 1e9))
        self._tell(
            lease, "orphaned", f"lost its connection and ends in {grace_s:g} s", grace_s=grace_s
        )

    def release(self, lease: LiveLease, *, by_uid: int) -> None:
        """End the lease because somebody asked. Raises StateNotWritableError: then it stands."""
        try:
            self._store.release(lease.id, uid=lease.record.uid)
        except StorageError as error:
            raise StateNotWritableError(
                f"cannot record the release, so the lease stands: {error}"
            ) from error
        self._remove(lease)
        mark("released", lease=lease.id, gpus=tuple(lease.record.gpus))
        self._tell(lease, "released", "was released", reason="released", by_uid=by_uid)

    def withdraw(self, lease: LiveLease) -> None:
        """End a lease whose caller went away before it was told of it."""
        self._store.forget(lease.id)
        self._remove(lease)
        self._tell(lease, "released", "was given back: its caller had gone", reason="caller_gone")

    def lose(self, lease: LiveLease, reason: str, why: str, **data: str) -> None:
        """End a lease that nobody holds any more without having released it."""
        self._store.forget(lease.id)
        self._remove(lease)
        self._tell(lease, "lost", f"is lost: {why}", severity="warning", reason=reason, **data)

    def mark_used(self, lease: LiveLease) -> None:
        """Note that the lease's processes use VRAM on one of its GPUs."""
        if not lease.used:
            lease.used = True
            self._tell(lease, "active", "is in use")

    def close(self) -> None:
        """Stop watching processes and close the records; the leases stand."""
        self._ends.close()
        self.holders.close()
        self._store.close()

    # --- one step each --------------------------------------------------------------------------

    def _record(
        self, record: LeaseRecord, or_else: str = "cannot record the lease, so it is not granted"
    ) -> None:
        try:
            self._store.put(record)
        except StorageError as error:
            raise StateNotWritableError(f"{or_else}: {error}") from error

    def _time_is_over(self, lease_id: str) -> None:
        lease = self._leases[lease_id]
        if lease.record.expires_ns is None:
            self.lose(lease, "connection_lost", "its connection did not come back")
        else:
            self.lose(lease, "ttl_expired", "it was not renewed in time")
        self._on_ended()

    def _add(
        self,
        lease: LiveLease,
        handles: Iterable[ProcessHandle],
        awaited: Iterable[HeldBy] = (),
    ) -> Claim:
        record = lease.record
        self._leases[record.id] = lease
        self._of_uid[record.uid] = self._of_uid.get(record.uid, 0) + 1
        subject = Subject(uid=record.uid, groups=frozenset(record.groups))
        self._quotas.add(record.id, subject, sum(record.gpus.values()))
        if record.idempotency_key is not None:
            self._by_key[record.uid, record.idempotency_key] = record.id
        if lease.connection is not None:
            self.bind_connection(lease, lease.connection)
        return Claim(
            lease=record.id,
            holder=self.holders.bind(record.id, handles, uid=record.uid, awaited=awaited),
            reserved=record.gpus,
            exclusive=record.params.policy == "exclusive",
            sizes_itself=record.params.sizes_itself and not record.ready,
            granted_ns=record.granted_ns,
            model=None if record.params.model is None else (record.uid, record.params.model),
            uid=record.uid,
            grown_on=record.grown_on,
        )

    def _remove(self, *leases: LiveLease) -> None:
        """Take leases out; of a holder that loses several at once, what is left parts once."""
        holders = {self.holders.holder_of(lease.id) for lease in leases}
        for lease in leases:
            record = lease.record
            del self._leases[record.id]
            self._quotas.remove(record.id)
            self._of_uid[record.uid] -= 1
            if not self._of_uid[record.uid]:
                del self._of_uid[record.uid]
            if record.idempotency_key is not None:
                del self._by_key[record.uid, record.idempotency_key]
            self._unhook(lease)
            self._ends.drop(record.id)
            self._on_removed(record.id)
            self._ledger.release(record.id)
        self.holders.unbind(*(lease.id for lease in leases))
        for holder in holders:
            if not self.holders.leases_of(holder):
                self._ledger.disown(holder)

    def _unhook(self, lease: LiveLease) -> None:
        bound = self._by_connection.get(lease.connection) if lease.connection else None
        if bound is not None and lease.connection is not None:
            bound.pop(lease.id, None)
            if not bound:
                del self._by_connection[lease.connection]

    def _processes_ended(self, lease_ids: list[str]) -> None:
        ended = [self._leases[lease_id] for lease_id in lease_ids]
        over = [lease for lease in ended if lease.record.params.mode == "process"]
        for lease in over:
            self._store.forget(lease.id)
        self._remove(*over)
        for lease in over:
            self._tell(lease, "released", "is over: its last process ended", reason="holder_ended")
        self._on_ended()
