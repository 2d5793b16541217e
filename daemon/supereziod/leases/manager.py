"""The leases of the host: who has which GPU, who waits, and when a lease is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from superezio.errors import (
    BusyError,
    ConflictError,
    HolderGoneError,
    InvalidParamsError,
    PermissionDeniedError,
    StateNotWritableError,
)
from superezio.wire import (
    AcquireParams,
    Done,
    Lease,
    LeaseAcknowledgeParams,
    LeaseAttachParams,
    LeaseList,
    LeaseRenewParams,
    LeaseRevokeParams,
    LeaseState,
    Placement,
    PlacementParams,
    QuotaList,
    ReleaseResult,
    RevokeReason,
)
from supereziod.leases.acquiring import Acquirer, checked_ttl_ms
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.conduct import Conduct, LeasePolicies
from supereziod.leases.draining import Drain
from supereziod.leases.handles import Caller, HandleOpener
from supereziod.leases.idle import IdleWatch
from supereziod.leases.kinship import Kinship
from supereziod.leases.ledger import Ledger
from supereziod.leases.observer import Observer
from supereziod.leases.processes import ProcessTable
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.quotas import QuotaRules, Quotas
from supereziod.leases.readings import Monitor, Readings
from supereziod.leases.refreshing import Refresher
from supereziod.leases.revoking import Revoker
from supereziod.leases.store import LeaseStore
from supereziod.leases.views import GpuUsage, LeaseViews
from supereziod.leases.waiters import WaitingRoom
from supereziod.observability.events import EventLog
from supereziod.observability.targets import decides_over

__all__ = ["Caller", "GpuUsage", "LeaseManager", "LeasePolicies", "LeaseTimes", "Monitor"]


class LeaseTimes(Struct, frozen=True, kw_only=True):
    """How long things take, in seconds.

    `grace_s`: a connection lease without its connection; `restart_grace_s` after a start.
    `refresh_s`: how often the GPUs are read for those who wait. `max_age_s`: how old a reading
    may be that a decision goes by. `descendants_s`: how often /proc is searched for what holders
    have started; five times as often after one was bound. `revoke_deadline_s`: what a
    holder has to end in, unless who asks says otherwise; `drain_s`: all on a GPU that is CRITICAL,
    those of the lowest priority being told first and the next ones each `drain_step_s`. `idle_s`:
    how long a lease uses nothing before it is told so.
    """

    grace_s: float = 5.0
    restart_grace_s: float = 30.0
    max_wait_s: float = 86400.0
    refresh_s: float = 0.5
    max_age_s: float = 1.0
    probe_deadline_s: float = 2.0
    descendants_s: float = 5.0
    calm_s: float = 30.0
    revoke_deadline_s: float = 30.0
    drain_s: float = 30.0
    drain_step_s: float = 5.0
    idle_s: float = 900.0


class LeaseManager:
    """Grants, queues and ends leases. Everything is decided and recorded in one step.

    `acquire` and `explain` answer at once where every GPU was read lately; otherwise they return
    what to await. The manager closes the store.
    """

    def __init__(
        self,
        *,
        monitor: Monitor,
        ledger: Ledger,
        queue: LeaseQueue,
        store: LeaseStore,
        events: EventLog,
        processes: ProcessTable | None = None,
        times: LeaseTimes | None = None,
        policies: LeasePolicies | None = None,
        max_leases: int = 4096,
        max_leases_per_uid: int = 1024,
        peer_pidfds: bool = True,
        resumed_ns: Callable[[], int] = lambda: 0,
        quotas: QuotaRules | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        processes = processes or ProcessTable()
        self._times = times or LeaseTimes()
        self._monitor = monitor
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._quotas = Quotas(quotas)
        self._opener = HandleOpener(processes=processes, peer_pidfds=peer_pidfds)
        self._readings = Readings(
            monitor=monitor,
            ledger=ledger,
            clock=clock,
            max_age_s=self._times.max_age_s,
            probe_deadline_s=self._times.probe_deadline_s,
            resumed_ns=resumed_ns,
        )
        self._book = LeaseBook(
            ledger=ledger,
            store=store,
            events=events,
            processes=processes,
            on_ended=self._lease_ended,
            on_removed=self._lease_removed,
            quotas=self._quotas,
            clock=clock,
            max_leases=max_leases,
            max_leases_per_uid=max_leases_per_uid,
        )
        self._revoker = Revoker(
            book=self._book,
            events=events,
            deadline_s=self._times.revoke_deadline_s,
            on_lost=self._lease_ended,
            clock=clock,
        )
        self._room = WaitingRoom(
            queue=queue,
            book=self._book,
            events=events,
            quotas=self._quotas,
            capacities=self._readings.capacities,
            on_left=self._pump,
            clock=clock,
        )
        self._refresher = Refresher(
            readings=self._readings,
            monitor=monitor,
            ledger=ledger,
            room=self._room,
            on_read=self._pump,
            refresh_s=self._times.refresh_s,
            calm_s=self._times.calm_s,
            clock=clock,
        )
        idle = IdleWatch(book=self._book, ledger=ledger, timeout_s=self._times.idle_s, clock=clock)
        self._views = LeaseViews(book=self._book, ledger=ledger, idle_s=idle.idle_s, clock=clock)
        self._acquirer = Acquirer(
            readings=self._readings,
            queue=queue,
            room=self._room,
            book=self._book,
            views=self._views,
            opener=self._opener,
            quotas=self._quotas,
            max_wait_s=self._times.max_wait_s,
            on_waiting=self._refresher.want,
            clock=clock,
        )
        self._observer = Observer(
            readings=self._readings,
            book=self._book,
            drain=Drain(
                book=self._book,
                revoker=self._revoker,
                drain_s=self._times.drain_s,
                step_s=self._times.drain_step_s,
                clock=clock,
            ),
            events=events,
            conduct=Conduct(
                book=self._book,
                events=events,
                policies=policies or LeasePolicies(),
                revoker=self._revoker,
            ),
            idle=idle,
            kinship=Kinship(book=self._book),
            search_s=self._times.descendants_s,
            clock=clock,
        )
        self._stop_listening: Callable[[], None] | None = None
        self._is_ready = False

    async def start(self) -> None:
        """Take up the leases of an earlier run. Nothing is granted before the GPUs were read."""
        self._book.restore(self._opener)
        self._resume_clocks()
        self._acquirer.open()
        self._stop_listening = self._monitor.on_change(self._on_monitor_change)
        self._refresher.start()
        self._on_monitor_change()

    def ready(self) -> None:
        """Count the time of leases from now: clients can reconnect, and renew, from now on."""
        self._is_ready = True
        self._resume_clocks()

    def _resume_clocks(self) -> None:
        self._book.resume_clocks(self._times.restart_grace_s)
        self._revoker.resume_clocks(self._times.restart_grace_s)

    def stop_granting(self) -> None:
        """Refuse acquires from now on, and those who wait: they ask the next daemon again."""
        self._acquirer.close()

    async def aclose(self) -> None:
        """Refuse those who wait and stop. Leases stand, for the next run."""
        self._acquirer.close()
        if self._stop_listening is not None:
            self._stop_listening()
        await self._refresher.aclose()
        self._revoker.close()
        self._book.close()

    def set_quotas(self, rules: QuotaRules) -> None:
        """Hold what comes to other quotas: leases stand, and those who wait may be next."""
        self._quotas.set_rules(rules)
        self._acquirer.review_quotas()
        self._pump()

    def quotas_of(self, caller: Caller) -> QuotaList:
        """Return the quotas that apply to the caller, and what is used of each."""
        return self._quotas.of(caller.subject)

    @property
    def writable(self) -> bool:
        """Whether a grant could be recorded, as far as is known."""
        return self._store.fault is None

    def leases_on(self, uuid: str) -> list[str]:
        """Return the ids of the leases on a GPU."""
        return [lease.id for lease in self._book if uuid in lease.record.gpus]

    def unreturned(self) -> dict[str, str]:
        """Return the GPUs whose released VRAM the driver still shows as used, and a sentence."""
        return self._observer.unreturned()

    @property
    def counts(self) -> tuple[int, int]:
        """How many leases there are, and how many acquires wait."""
        return len(self._book), len(self._room)

    def by_state(self) -> Counter[LeaseState]:
        """Return how many leases are in each state."""
        return Counter(self._book.state(lease) for lease in self._book)

    @property
    def fault(self) -> str | None:
        """Why no grant can be recorded, or None."""
        return self._store.fault

    @property
    def moved_aside(self) -> Path | None:
        """The corrupt file of leases that was replaced at this start, if there was one."""
        return self._store.moved_aside

    # --- what callers ask -----------------------------------------------------------------------

    def acquire(
        self, caller: Caller, params: AcquireParams, *, idempotency_key: str | None = None
    ) -> Lease | Awaitable[Lease]:
        """Grant a lease, refuse it, or return what to await: for a reading, or in the queue.

        Raises NoCapacityError (not now), NeverFitsError, QueueFullError, WaitTimeoutError,
        HolderNotVisibleError, HolderGoneError, PermissionDeniedError (another user's process),
        QuotaExceededError,
        StateNotWritableError, GpusUnavailableError, BusyError, or ConflictError (the key was
        used for something else). A retry with the same key gets the same lease. Whoever stops
        awaiting leaves the queue, and gives back what was granted meanwhile.
        """
        answer = self._acquirer.acquire(caller, params, key=idempotency_key)
        if isinstance(answer, Lease):
            self._refresher.leases_changed()
        return answer

    def attach(self, caller: Caller, params: LeaseAttachParams) -> Lease:
        """Let another process hold the lease too.

        Raises StaleLeaseError, HolderGoneError, PermissionDeniedError, StateNotWritableError.
        """
        lease = self._own(caller, params.lease)
        handle = self._opener.of_pid(
            caller, params.pid, owner_uid=lease.record.uid, start_time=params.start_time
        )
        try:
            self._book.attach(lease, handle)
        except BaseException:
            handle.close()
            raise
        return self._shown(lease, personal=True)

    def release(self, caller: Caller, lease_id: str) -> ReleaseResult:
        """End a lease; to do it again is no error. Raises StaleLeaseError if it ended otherwise."""
        if self._book.find(lease_id) is None:
            uid = self._book.released_by(lease_id)
            if uid is not None and caller.may_act_for(uid):
                return ReleaseResult(lease=lease_id, released=False)
        self._book.release(self._own(caller, lease_id), by_uid=caller.uid)
        self._refresher.vram_given_up()
        return ReleaseResult(lease=lease_id, released=True)

    def resume(self, caller: Caller, lease_id: str) -> Lease:
        """Bind a connection lease that lost its connection to the caller's."""
        lease = self._own(caller, lease_id)
        if lease.record.params.mode != "connection":
            raise InvalidParamsError("only a connection lease can be resumed")
        if lease.connection not in (None, caller.connection):
            raise ConflictError("the lease still has its connection")
        self._book.bind_connection(lease, caller.connection)
        self._let_hold(lease, caller)
        return self._shown(lease, personal=True)

    def _let_hold(self, lease: LiveLease, caller: Caller) -> None:
        """Count for the lease what the process uses that took it over, where that can be seen.

        A lease goes on without, rather than not at all: its use is foreign then.
        """
        if caller.pid <= 0:
            return
        with suppress(BusyError, HolderGoneError, StateNotWritableError):
            handle = self._opener.of_peer(caller)
            try:
                self._book.attach(lease, handle)
            except BaseException:
                handle.close()
                raise

    def connection_closed(self, connection: str) -> None:
        """Start the grace of the connection's leases, and end its waits.

        Until the daemon is ready it is that of a start: clients may still be kept from it.
        """
        self._room.connection_closed(connection)
        times = self._times
        grace_s = times.grace_s if self._is_ready else max(times.grace_s, times.restart_grace_s)
        for lease in self._book.of_connection(connection):
            self._book.orphan(lease, grace_s)

    def renew(self, caller: Caller, params: LeaseRenewParams) -> Lease:
        """Let a ttl lease last its TTL from now.

        Raises StaleLeaseError, InvalidParamsError (it has no TTL), PermissionDeniedError.
        """
        lease = self._own(caller, params.lease)
        if lease.record.ttl_ms is None:
            raise InvalidParamsError(f"cannot renew a {lease.record.params.mode} lease: only ttl")
        ttl_ms = lease.record.ttl_ms if params.ttl_ms is None else checked_ttl_ms(params.ttl_ms)
        self._book.renew(lease, ttl_ms)
        return self._shown(lease, personal=True)

    def mark_ready(self, caller: Caller, lease_id: str) -> Lease:
        """Take the holder's word that its lease has grown: the next may start on its GPUs.

        Raises StaleLeaseError, PermissionDeniedError, StateNotWritableError.
        """
        lease = self._own(caller, lease_id)
        self._book.mark_ready(lease)
        self._pump()
        return self._shown(lease, personal=True)

    def revoke(self, caller: Caller, params: LeaseRevokeParams) -> Lease:
        """Order a lease to end by a deadline, after which it is lost.

        Raises StaleLeaseError, InvalidParamsError, PermissionDeniedError, StateNotWritableError.
        """
        lease = self._own(caller, params.lease)
        reason: RevokeReason = "owner" if caller.uid == lease.record.uid else "admin"
        message = params.reason or f"uid {caller.uid} revoked it"
        self._revoker.order(lease, reason, message, deadline_s=params.deadline_s, by_uid=caller.uid)
        return self._shown(lease, personal=True)

    def acknowledge(self, caller: Caller, params: LeaseAcknowledgeParams) -> Lease:
        """Take the holder's answer to an order to end.

        Raises StaleLeaseError, ConflictError (there is no order), InvalidParamsError,
        PermissionDeniedError, StateNotWritableError.
        """
        lease = self._own(caller, params.lease)
        self._revoker.answer(lease, accept=params.accept, message=params.message)
        return self._shown(lease, personal=True)

    def cancel(self, caller: Caller, waiter_id: str) -> Done:
        """Take an acquire out of the queue; to do it again is no error.

        Raises PermissionDeniedError for another user's.
        """
        pending = self._room.with_id(waiter_id)
        if pending is None:
            return Done(done=False)
        uid = pending.waiting.uid
        decides_over(f"waiter {waiter_id}", owner=uid)
        if not caller.may_act_for(uid):
            raise PermissionDeniedError(
                f"cannot take {waiter_id} out of the queue: it is of uid {uid}",
                data={"needs": "admin"},
            )
        self._room.cancel(pending, by_uid=caller.uid)
        return Done(done=True)

    def get(self, caller: Caller, lease_id: str) -> Lease:
        """Return one lease. Raises StaleLeaseError."""
        lease = self._book.get(lease_id)
        return self._shown(lease, personal=caller.may_act_for(lease.record.uid))

    def list(self, caller: Caller) -> LeaseList:
        """Return all leases, oldest first, and the queue in order."""
        snapshot = self._readings.snapshot()
        return LeaseList(
            leases=self._views.leases(snapshot, personal_to=caller.may_act_for),
            queue=[
                self._views.waiter(
                    pending,
                    placement,
                    position=position,
                    personal=caller.may_act_for(pending.waiting.uid),
                )
                for position, (pending, placement) in enumerate(self._room.reasons(), start=1)
            ],
        )

    def explain(self, caller: Caller, params: PlacementParams) -> Placement | Awaitable[Placement]:
        """Say what an acquire would be answered now, with a reason for every GPU."""
        return self._acquirer.explain(caller, params)

    def usage(self) -> dict[str, GpuUsage]:
        """Return what the leases know of each GPU, by UUID."""
        snapshot = self._readings.snapshot()
        # What others use of a GPU that MIG cuts up is told of its instances: once.
        unread = {gpu.uuid for gpu in snapshot.gpus if gpu.last_pass is None or gpu.is_cut_up}
        return {
            capacity.uuid: self._views.usage(
                capacity,
                known=capacity.uuid not in unread,
                lease_of_pid=self._observer.lease_of_pid.get(capacity.uuid, {}),
            )
            for capacity in self._ledger.capacities(snapshot)
        }

    def _own(self, caller: Caller, lease_id: str) -> LiveLease:
        lease = self._book.get(lease_id)
        decides_over(f"lease {lease_id}", owner=lease.record.uid)
        if not caller.may_act_for(lease.record.uid):
            raise PermissionDeniedError(
                f"cannot change lease {lease_id}: it is of uid {lease.record.uid}",
                data={"needs": "admin"},
            )
        return lease

    def _shown(self, lease: LiveLease, *, personal: bool) -> Lease:
        return self._views.lease(lease, self._readings.snapshot(), personal=personal)

    # --- what happens by itself -----------------------------------------------------------------

    def _on_monitor_change(self) -> None:
        self._observer.observe()
        if self._store.fault is not None:
            self._store.recheck()
        self._refresher.run_due()
        self._book.run_due()
        self._revoker.run_due()
        self._room.run_due()
        self._pump()

    def _lease_removed(self, lease_id: str) -> None:
        self._revoker.forget(lease_id)

    def _lease_ended(self) -> None:
        self._refresher.vram_given_up()

    def _pump(self) -> None:
        # Also where a waiter gave up its place: whoever stood behind it may be next.
        self._acquirer.pump()
        self._refresher.tell_busy()
