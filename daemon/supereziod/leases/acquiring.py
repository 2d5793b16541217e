"""From an acquire to a lease: at once, after a reading, or through the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct, structs

from superezio.errors import (
    BusyError,
    ConflictError,
    GpusUnavailableError,
    HolderGoneError,
    InvalidParamsError,
    NeverFitsError,
    NoCapacityError,
    ShuttingDownError,
    StateNotWritableError,
    SuperezioError,
)
from superezio.wire import AcquireParams, Lease, Placement, PlacementParams
from supereziod.gpu.absence import absence_of_gpus
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.capacity import Capacity, Request, Subject
from supereziod.leases.handles import Caller, HandleOpener, ProcessHandle
from supereziod.leases.presence import NOWHERE
from supereziod.leases.queue import LeaseQueue, Waiting
from supereziod.leases.quotas import Breach, Quotas, withhold
from supereziod.leases.readings import Readings
from supereziod.leases.requested import request_of
from supereziod.leases.views import LeaseViews
from supereziod.leases.waiters import Pending, WaitingRoom, new_waiter_id
from supereziod.observability.correlation import in_scope
from supereziod.observability.marks import mark

_MAX_NAME: Final = 128
_MAX_KEY: Final = 128
_LEAST_PRIORITY: Final = -1_000_000
_DEFAULT_TTL_MS: Final = 60_000
#: Renewed three times per TTL, a shorter one is a load; a longer one is no sign of life.
_TTL_LIMITS_MS: Final = (1_000, 86_400_000)
#: How soon VRAM that is on its way back is likely to be there.
_RETRY_RETURNING_MS: Final = 500
#: How soon the GPUs of a daemon that has just started are likely to have been read.
_RETRY_UNREAD_MS: Final = 1000


class _Ask(Struct, frozen=True, kw_only=True):
    """One acquire, checked. `params` are what a retry must repeat: without the wait."""

    caller: Caller
    params: AcquireParams
    request: Request
    key: str | None
    wait_s: float


class Acquirer:
    """Decides acquires, strictly in order, and records each grant in the step that decides it."""

    def __init__(
        self,
        *,
        readings: Readings,
        queue: LeaseQueue,
        room: WaitingRoom,
        book: LeaseBook,
        views: LeaseViews,
        opener: HandleOpener,
        quotas: Quotas,
        max_wait_s: float,
        on_waiting: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._readings = readings
        self._queue = queue
        self._room = room
        self._book = book
        self._views = views
        self._opener = opener
        self._quotas = quotas
        queue.keep_back(lambda: quotas.line().holds_back)
        self._max_wait_s = max_wait_s
        self._on_waiting = on_waiting
        self._clock = clock
        self._open = False
        #: Who was queued before all GPUs were known, and may prove to fit on none.
        self._early: list[Pending] = []

    def open(self) -> None:
        """Take acquires from now on."""
        self._open = True

    def close(self) -> None:
        """Refuse acquires from now on, and those who wait."""
        self._open = False
        self._room.close(_shutting_down)

    def acquire(
        self, caller: Caller, params: AcquireParams, *, key: str | None
    ) -> Lease | Awaitable[Lease]:
        """Grant a lease, refuse it, or return what to await: for a reading, or in the queue."""
        ask = self._checked(caller, params, key)
        known = self._retried(ask)
        if isinstance(known, Pending):
            return self._room.answer(known, caller)
        if known is not None:
            return known
        self._book.check_room(caller.uid)
        self._checked_quota(ask)
        capacities = self._readings.capacities()
        if self._readings.late(capacities):
            return self._acquire_later(ask)
        placement = self._decide(ask, capacities)
        self._checked_line(ask, placement)
        if placement.decision == "grant":
            return self._grant_now(ask, placement)
        if placement.decision == "never" or (ask.wait_s <= 0 and not self._readings.returning()):
            raise self._refusal(placement)
        return self._acquire_later(ask)

    def explain(self, caller: Caller, params: PlacementParams) -> Placement | Awaitable[Placement]:
        """Say what an acquire of these parameters would be answered now, and why."""
        request = request_of(params, uid=caller.uid)
        capacities = self._readings.capacities()
        if self._readings.late(capacities) or self._readings.returning():
            return self._explain_later(caller, request)
        return self._place(caller, request)

    def pump(self) -> None:
        """Grant to those who wait whatever they can have now."""
        if self._early and self._readings.complete:
            self._review_early()
        try:
            self._grant_in_order()
        except BusyError:
            return  # a process that cannot be looked at now may be anywhere
        self._room.changed()

    def _grant_in_order(self) -> None:
        """Grant to those who wait; who cannot be recorded now goes on waiting. Raises BusyError."""
        self._room.find_again()
        while len(self._room) and self._book.writable:
            found = self._room.first_grant(self._readings.capacities())
            if found is None:
                return
            pending, placement = found
            try:
                with in_scope(pending.scope):
                    lease = self._book.grant(
                        subject=pending.waiting.subject or pending.caller.subject,
                        params=pending.params,
                        placement=placement,
                        handles=pending.handles,
                        connection=pending.caller.connection,
                        key=pending.key,
                        on_recorded=partial(self._room.take, pending),
                    )
            except StateNotWritableError:
                return
            except SuperezioError as error:
                self._room.refuse(pending, error)
            else:
                self._room.deliver(pending, lease, self._shown(lease))
                if pending.waiting.request.presence is not NOWHERE:
                    # What it used is its own now, and nobody else's who waits.
                    self._room.find_again()

    def review_quotas(self) -> None:
        """Hold those who wait to the quotas that are now in force.

        Who can never be given what it waits for is refused.
        """
        for pending in self._room.in_order():
            waiting = pending.waiting
            subject = waiting.subject or pending.caller.subject
            breach = self._quotas.breach(subject, waiting.request.total_bytes)
            if breach is not None and breach.lasting:
                self._room.refuse(pending, breach.error())
                continue
            request = self._held_to_quotas(waiting.request, subject)
            if request is not waiting.request:
                self._room.ask_for(pending, request)
                placement = self._reason(pending)
                if placement.decision == "never" and self._readings.complete:
                    self._room.refuse(pending, self._refusal(placement))

    def _review_early(self) -> None:
        early, self._early = self._early, []
        for pending in early:
            placement = self._reason(pending) if self._room.has(pending) else None
            if placement is not None and placement.decision == "never":
                self._room.refuse(pending, self._refusal(placement))

    def _reason(self, pending: Pending) -> Placement:
        return self._queue.place_behind(
            pending.waiting.request,
            self._readings.capacities(),
            behind=pending.id,
            uid=pending.waiting.uid,
            sizes_itself=pending.waiting.sizes_itself,
        )

    # --- one acquire ----------------------------------------------------------------------------

    def _grant_now(self, ask: _Ask, placement: Placement) -> Lease:
        handles = self._open_handles(ask)
        try:
            lease = self._grant(ask, placement, handles)
        except BaseException:
            _close_all(handles)
            raise
        return self._shown(lease)

    async def _acquire_later(self, ask: _Ask) -> Lease:
        handles = self._open_handles(ask)
        try:
            await self._readings.settle(lambda: self._admits(ask))
            mark("read")
            outcome = self._settled(ask, handles)
        except BaseException:
            _close_all(handles)
            raise
        if isinstance(outcome, Pending):
            return await self._room.listen(outcome, ask.caller)
        return outcome

    def _settled(self, ask: _Ask, handles: list[ProcessHandle]) -> Lease | Pending:
        """Grant or queue; the handles are taken unless this raises."""
        if not self._open:
            raise _shutting_down()
        known = self._retried(ask)  # the same request may have come in again meanwhile
        if known is not None:
            _close_all(handles)
            return known
        self._checked_quota(ask)
        placement = self._decide(ask, self._readings.capacities())
        self._checked_line(ask, placement)
        if placement.decision == "grant":
            return self._shown(self._grant(ask, placement, handles))
        if ask.wait_s <= 0 or (placement.decision == "never" and self._readings.complete):
            raise self._refusal(placement)
        return self._enter(ask, placement, handles)

    def _enter(self, ask: _Ask, placement: Placement, handles: list[ProcessHandle]) -> Pending:
        now = self._clock()
        waiting = Waiting(
            id=new_waiter_id(),
            uid=ask.caller.uid,
            request=self._found(ask),
            priority=ask.params.priority,
            enqueued_ns=now,
            deadline_ns=now + round(ask.wait_s * 1e9),
            name=ask.params.name,
            sizes_itself=ask.params.sizes_itself,
            subject=ask.caller.subject,
        )
        pending = Pending(
            waiting=waiting,
            caller=ask.caller,
            params=ask.params,
            handles=handles,
            key=ask.key,
            placement=placement,
        )
        self._room.enter(pending)
        if not self._readings.complete:
            self._early = [*filter(self._room.has, self._early), pending]
        self._on_waiting()
        return pending

    def _retried(self, ask: _Ask) -> Lease | Pending | None:
        """Return what the same request got, or is waiting for, if it came before."""
        if ask.key is None:
            return None
        lease = self._book.with_key(ask.caller.uid, ask.key)
        if lease is not None:
            _check_same(lease.record.params, ask.params)
            if ask.params.mode == "connection":
                self._book.bind_connection(lease, ask.caller.connection)
            return self._shown(lease)
        pending = self._room.with_key(ask.caller.uid, ask.key)
        if pending is not None:
            _check_same(pending.params, ask.params)
        return pending

    def _admits(self, ask: _Ask) -> bool:
        return self._decide(ask, self._readings.capacities()).decision == "grant"

    def _found(self, ask: _Ask) -> Request:
        """Return what is asked, with where its holder is already."""
        pid = ask.params.holder_pid
        presence = self._book.presence_of(
            ask.caller.pid if pid is None else pid, may_move=pid is None
        )
        request = self._held_to_quotas(ask.request, ask.caller.subject)
        return request if presence is NOWHERE else structs.replace(request, presence=presence)

    def _held_to_quotas(self, request: Request, subject: Subject) -> Request:
        fills = request.policy == "exclusive" and self._quotas.limit_vram_of(subject)
        return request if fills == request.fills else structs.replace(request, fills=fills)

    def _decide(self, ask: _Ask, capacities: list[Capacity]) -> Placement:
        line = self._quotas.line()
        placement = self._queue.place_behind(
            self._found(ask),
            capacities,
            priority=ask.params.priority,
            sizes_itself=ask.params.sizes_itself,
            held_back=line.held_back,
            uid=ask.caller.uid,
        )
        return withhold(placement, line.breach(ask.caller.subject, ask.request.total_bytes))

    def _place(self, caller: Caller, request: Request) -> Placement:
        line = self._quotas.line()
        request = self._held_to_quotas(request, caller.subject)
        placement = self._queue.place_behind(
            request, self._readings.capacities(), held_back=line.held_back, uid=caller.uid
        )
        return withhold(placement, line.breach(caller.subject, request.total_bytes))

    def _breach(self, caller: Caller, request: Request, priority: int) -> Breach | None:
        return self._quotas.newcomer(
            caller.subject, request.total_bytes, queue=self._queue, priority=priority
        )

    def _checked_quota(self, ask: _Ask) -> None:
        """Raise QuotaExceededError for what no wait mends, or is not waited for."""
        breach = self._quotas.breach(ask.caller.subject, ask.request.total_bytes)
        if breach is not None and (breach.lasting or ask.wait_s <= 0):
            raise breach.error()

    def _checked_line(self, ask: _Ask, placement: Placement) -> None:
        """Raise QuotaExceededError where those ahead leave too little, and that is not waited for.

        The decision has walked past them: who is refused pays for a second walk.
        """
        if placement.quota is not None and ask.wait_s <= 0:
            breach = self._breach(ask.caller, ask.request, ask.params.priority)
            if breach is not None:
                raise breach.error()

    async def _explain_later(self, caller: Caller, request: Request) -> Placement:
        await self._readings.settle(lambda: self._place(caller, request).decision == "grant")
        return self._place(caller, request)

    def _grant(self, ask: _Ask, placement: Placement, handles: list[ProcessHandle]) -> LiveLease:
        lease = self._book.grant(
            subject=ask.caller.subject,
            params=ask.params,
            placement=placement,
            handles=handles,
            connection=ask.caller.connection,
            key=ask.key,
        )
        self._queue.pass_over(ask.params.priority)
        return lease

    def _shown(self, lease: LiveLease) -> Lease:
        return self._views.lease(lease, self._readings.snapshot(), personal=True)

    def _open_handles(self, ask: _Ask) -> list[ProcessHandle]:
        """Open the process that is to hold the lease.

        A connection lease lives by its connection, and a ttl lease by its renewals; the peer is
        held on to, where it is visible, so that what it uses counts for the lease.
        """
        caller, params = ask.caller, ask.params
        if params.holder_pid is not None:
            return [self._opener.of_pid(caller, params.holder_pid, owner_uid=caller.uid)]
        if params.mode == "process":
            return [self._opener.of_peer(caller)]
        try:
            return [self._opener.of_peer(caller)] if caller.pid > 0 else []
        except HolderGoneError:  # it connected, and another process goes on with its connection
            return []

    def _refusal(self, placement: Placement) -> SuperezioError:
        snapshot = self._readings.snapshot()
        absence = absence_of_gpus(snapshot)
        if absence is not None:
            return GpusUnavailableError(
                f"cannot lease a GPU: {absence.sentence}",
                retry_after_ms=_RETRY_UNREAD_MS if absence.passes else None,
            )
        data = {"placement": msgspec.to_builtins(placement)}
        if placement.decision == "never":
            return NeverFitsError(f"cannot lease: {placement.summary}", data=data)
        retry_after_ms = _RETRY_RETURNING_MS if self._readings.awaits_return() else None
        message = f"cannot lease {placement.summary}"
        return NoCapacityError(message, retry_after_ms=retry_after_ms, data=data)

    # --- checks ---------------------------------------------------------------------------------

    def _checked(self, caller: Caller, params: AcquireParams, key: str | None) -> _Ask:
        if not self._open:
            raise _shutting_down()
        if params.wait_ms < 0:
            raise InvalidParamsError("wait_ms cannot be negative")
        if params.priority < _LEAST_PRIORITY:
            raise InvalidParamsError(f"priority cannot be less than {_LEAST_PRIORITY:,}")
        if params.name is not None and not 0 < len(params.name) <= _MAX_NAME:
            raise InvalidParamsError(f"name has 1 to {_MAX_NAME} characters")
        if params.name is not None and not params.name.isprintable():
            raise InvalidParamsError("name may hold no control characters")
        if key is not None and not 0 < len(key) <= _MAX_KEY:
            raise InvalidParamsError(f"an idempotency key has 1 to {_MAX_KEY} characters")
        if params.mode == "connection" and params.holder_pid is not None:
            raise InvalidParamsError(
                "holder_pid is for mode process: a connection lease is held by its connection"
            )
        if params.mode == "ttl":
            ttl_ms = checked_ttl_ms(_DEFAULT_TTL_MS if params.ttl_ms is None else params.ttl_ms)
            params = structs.replace(params, ttl_ms=ttl_ms)
        elif params.ttl_ms is not None:
            raise InvalidParamsError("ttl_ms is for mode ttl")
        return _Ask(
            caller=caller,
            params=structs.replace(
                params, priority=min(params.priority, caller.max_priority), wait_ms=0
            ),
            request=request_of(params, uid=caller.uid),
            key=key,
            wait_s=min(params.wait_ms, round(self._max_wait_s * 1000)) / 1000,
        )


def checked_ttl_ms(ttl_ms: int) -> int:
    """Return a TTL that can be meant. Raises InvalidParamsError."""
    least, most = _TTL_LIMITS_MS
    if not least <= ttl_ms <= most:
        raise InvalidParamsError(f"ttl_ms has to be from {least:,} to {most:,}")
    return ttl_ms


def _check_same(before: AcquireParams, now: AcquireParams) -> None:
    if before != now:
        raise ConflictError("the idempotency key was used for an acquire with other parameters")


def _close_all(handles: list[ProcessHandle]) -> None:
    for handle in handles:
        handle.close()


def _shutting_down() -> ShuttingDownError:
    return ShuttingDownError("the daemon is stopping; ask again in a second", retry_after_ms=1000)
