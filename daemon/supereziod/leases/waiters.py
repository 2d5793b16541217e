"""Acquires that wait: each with its holder watched, its deadline, and those who listen for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import msgspec
from msgspec import structs

from superezio.errors import (
    CancelledRequestError,
    HolderGoneError,
    SuperezioError,
    WaitTimeoutError,
)
from superezio.wire import AcquireParams, Lease, Placement
from supereziod.deadlines import Deadlines
from supereziod.leases.book import LeaseBook, LiveLease
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.handles import Caller, ProcessHandle
from supereziod.leases.places import Place, PlaceNews, reason_code
from supereziod.leases.presence import NOWHERE
from supereziod.leases.queue import LeaseQueue, Waiting
from supereziod.leases.quotas import Quotas, withhold
from supereziod.observability.correlation import current_scope, in_scope
from supereziod.observability.events import EventLog
from supereziod.observability.marks import mark


class Pending:
    """A waiter and those who listen for its lease: one, unless its request was sent again.

    It owns its handles until they hold a lease. `listeners` has who asked, by what waits for it.
    """

    __slots__ = (
        "asker", "delivered", "granted", "handles", "key", "listeners", "params", "placement",
        "scope", "told", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        waiting: Waiting,
        caller: Caller,
        params: AcquireParams,
        handles: list[ProcessHandle],
        key: str | None,
        placement: Placement,
    ) -> None:
        self.waiting = waiting
        self.asker = caller
        self.params = params
        self.handles = handles
        self.key = key
        self.placement = placement
        self.scope = current_scope.get()
        self.told: Place | None = None
        self.listeners: dict[asyncio.Future[Lease], Caller] = {}
        self.granted: LiveLease | None = None
        self.delivered = False

    @property
    def id(self) -> str:
        """The waiter's id in the queue."""
        return self.waiting.id

    @property
    def caller(self) -> Caller:
        """The newest of those who asked and still listen."""
        return next(reversed(self.listeners.values()), self.asker)


class WaitingRoom:
    """The queue, and the callers behind it. `on_left` is called when one gave up its place.

    `capacities` says what every GPU admits now.
    """

    def __init__(
        self,
        *,
        queue: LeaseQueue,
        book: LeaseBook,
        events: EventLog,
        quotas: Quotas,
        capacities: Callable[[], list[Capacity]],
        on_left: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._book = book
        self._events = events
        self._quotas = quotas
        self._capacities = capacities
        self._on_left = on_left
        self._clock = clock
        self._pending: dict[str, Pending] = {}
        self._by_key: dict[tuple[int, str], Pending] = {}
        self._deadlines: Deadlines[str] = Deadlines(clock=clock, on_due=self._expire)
        self._news = PlaceNews(places=self._places, events=events, clock=clock)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._pending)

    def has(self, pending: Pending) -> bool:
        """Tell whether that one still waits."""
        return pending.id in self._pending

    def with_key(self, uid: int, key: str) -> Pending | None:
        """Return the user's waiter with that idempotency key."""
        return self._by_key.get((uid, key))

    def with_id(self, waiter_id: str) -> Pending | None:
        """Return the waiter with that id."""
        return self._pending.get(waiter_id)

    def in_order(self) -> list[Pending]:
        """Return all who wait; the first is next."""
        return [self._pending[waiting.id] for waiting in self._queue]

    def reasons(self) -> list[tuple[Pending, Placement]]:
        """Return all who wait, the first being next, and why each of them does."""
        line = self._quotas.line()
        return [
            (self._pending[waiting.id], withhold(placement, line.look(waiting)))
            for waiting, placement in self._queue.reasons(self._capacities())
        ]

    def changed(self) -> None:
        """Hear that the GPUs or the queue may have changed: those who wait are told what has."""
        if self._pending:
            self._news.changed()

    def enter(self, pending: Pending) -> None:
        """Queue the waiter, and take over its handles. Raises QueueFullError."""
        waiting = pending.waiting
        position = self._queue.add(waiting)
        self._pending[waiting.id] = pending
        if pending.key is not None:
            self._by_key[waiting.uid, pending.key] = pending
        self._deadlines.set(waiting.id, waiting.deadline_ns)
        mark("queued")
        loop = asyncio.get_running_loop()
        if pending.params.mode == "process":
            for handle in pending.handles:
                loop.add_reader(handle.pidfd, self._holder_ended, pending)
        place = pending.told = _place(position, len(self._pending), pending.placement)
        self._events.emit(
            "lease.queued",
            f"an acquire waits at place {position}: {place.reason}",
            uid=waiting.uid,
            waiter=waiting.id,
            position=position,
            queue_length=place.queue_length,
            name=waiting.name,
            vram_bytes=waiting.request.vram_bytes,
            code=place.code,
            reason=place.reason,
            wait_ms=(waiting.deadline_ns - waiting.enqueued_ns) // 1_000_000,
        )
        self.changed()

    def answer(self, pending: Pending, caller: Caller) -> asyncio.Task[Lease]:
        """Listen as `listen` does, from now on: also to what happens before the loop turns."""
        listener = self._listener(pending, caller)
        task = asyncio.ensure_future(self._hear(pending, listener))

        def left_off(task: asyncio.Task[Lease]) -> None:
            if task.cancelled():  # before it began, perhaps
                self._stop_listening(pending, listener)

        task.add_done_callback(left_off)
        return task

    async def listen(self, pending: Pending, caller: Caller) -> Lease:
        """Wait for the waiter's lease. Whoever stops listening last takes it out of the queue."""
        return await self._hear(pending, self._listener(pending, caller))

    def _listener(self, pending: Pending, caller: Caller) -> asyncio.Future[Lease]:
        listener: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        pending.listeners[listener] = caller
        return listener

    async def _hear(self, pending: Pending, listener: asyncio.Future[Lease]) -> Lease:
        try:
            lease = await listener
        except asyncio.CancelledError:
            self._stop_listening(pending, listener)
            raise
        pending.delivered = True
        return lease

    def _stop_listening(self, pending: Pending, listener: asyncio.Future[Lease]) -> None:
        if pending.listeners.pop(listener, None) is None:
            return
        if listener.done() and not listener.cancelled():
            listener.exception()  # it came too late to be heard
        if not pending.listeners:
            self._abandon(pending)

    def find_again(self) -> None:
        """Take in where those are now that are to hold what is waited for. Raises BusyError."""
        for pending in self._pending.values():
            waiting = pending.waiting
            presence = NOWHERE
            if pending.handles:
                may_move = pending.params.holder_pid is None
                presence = self._book.presence_of(pending.handles[0], may_move=may_move)
            if presence != waiting.request.presence:
                self.ask_for(pending, structs.replace(waiting.request, presence=presence))

    def ask_for(self, pending: Pending, request: Request) -> None:
        """Let a waiter ask for something else at its place."""
        pending.waiting = structs.replace(pending.waiting, request=request)
        self._queue.replace(pending.waiting)

    def first_grant(self, capacities: list[Capacity]) -> tuple[Pending, Placement] | None:
        """Return the first waiter that can be granted, and where; it waits until it is taken."""
        found = self._queue.first_grant(capacities)
        return None if found is None else (self._pending[found[0].id], found[1])

    def take(self, pending: Pending) -> None:
        """Take a waiter out; its handles belong to the caller then."""
        self._leave(pending)

    def deliver(self, pending: Pending, granted: LiveLease, lease: Lease) -> None:
        """Hand a waiter that was taken out its lease."""
        pending.granted = granted
        for future in pending.listeners:
            if not future.done():
                future.set_result(lease)

    def refuse(self, pending: Pending, error: SuperezioError) -> None:
        """End the wait of one that was taken out, or still waits, with an error."""
        if pending.id in self._pending:
            self._leave(pending)
        for handle in pending.handles:
            handle.close()
        for future in pending.listeners:
            if not future.done():
                future.set_exception(error)

    def cancel(self, pending: Pending, *, by_uid: int) -> None:
        """End a wait because somebody asked."""
        waiting = pending.waiting
        words = f"the acquire was taken out of the queue by uid {by_uid} (lease.cancel)"
        self.refuse(pending, CancelledRequestError(words, data={"waiter": waiting.id}))
        with in_scope(pending.scope):
            self._events.emit(
                "lease.cancelled",
                f"an acquire was taken out of the queue by uid {by_uid}",
                uid=waiting.uid,
                waiter=waiting.id,
                name=waiting.name,
                by_uid=by_uid,
            )
        self._on_left()

    def connection_closed(self, connection: str) -> None:
        """End the waits of a connection that is gone."""
        gone = CancelledRequestError("the connection that asked is gone")
        left = [each for each in self._pending.values() if _leave(each, connection, gone)]
        for pending in left:
            self.refuse(pending, gone)
        if left:
            self._on_left()

    def run_due(self) -> None:
        """End the waits whose deadline has come, and tell what is due to be told."""
        self._deadlines.run_due()
        self._news.run_due()

    def close(self, error: Callable[[], SuperezioError]) -> None:
        """End all waits."""
        for pending in tuple(self._pending.values()):
            self.refuse(pending, error())
        self._deadlines.close()
        self._news.close()

    def _places(self) -> Iterator[tuple[Pending, Place]]:
        reasons = self.reasons()
        for position, (pending, placement) in enumerate(reasons, start=1):
            place = _place(position, len(reasons), placement)
            if place.code != "settling":
                pending.placement = placement  # what it is told if its time is up
            yield pending, place

    def _leave(self, pending: Pending) -> None:
        self._queue.remove(pending.id)
        del self._pending[pending.id]
        self._deadlines.drop(pending.id)
        if pending.key is not None:
            del self._by_key[pending.waiting.uid, pending.key]
        loop = asyncio.get_running_loop()
        for handle in pending.handles:
            loop.remove_reader(handle.pidfd)

    def _abandon(self, pending: Pending) -> None:
        if pending.granted is not None:
            if not pending.delivered and self._book.find(pending.granted.id) is not None:
                self._book.withdraw(pending.granted)
        elif pending.id in self._pending:
            self._leave(pending)
            for handle in pending.handles:
                handle.close()
        else:
            return
        self._on_left()

    def _holder_ended(self, pending: Pending) -> None:
        # One pidfd each: a queued lease has the one process that is to hold it.
        error = HolderGoneError("the process that was to hold the lease ended while it waited")
        self.refuse(pending, error)
        self._on_left()

    def _expire(self, waiting_id: str) -> None:
        pending = self._pending[waiting_id]
        waiting = pending.waiting
        waited_s = (self._clock() - waiting.enqueued_ns) / 1e9
        with in_scope(pending.scope):
            self._events.emit(
                "lease.expired",
                f"an acquire gave up after {waited_s:.1f} s: {pending.placement.summary}",
                uid=waiting.uid,
                waiter=waiting.id,
                name=waiting.name,
            )
        self.refuse(
            pending,
            WaitTimeoutError(
                f"no GPU admitted the lease within {waited_s:.1f} s: {pending.placement.summary}",
                data={"placement": msgspec.to_builtins(pending.placement)},
            ),
        )
        self._on_left()


def _place(position: int, queue_length: int, placement: Placement) -> Place:
    return Place(
        position=position,
        queue_length=queue_length,
        code=reason_code(placement),
        reason=placement.summary,
    )


def _leave(pending: Pending, connection: str, error: SuperezioError) -> bool:
    """Let those on that connection listen no more; tell whether nobody is left who did."""
    if pending.caller.connection == connection and not pending.listeners:
        return True
    gone = [f for f, caller in pending.listeners.items() if caller.connection == connection]
    for future in gone:
        del pending.listeners[future]
        if not future.done():
            future.set_exception(error)
    return bool(gone) and not pending.listeners


def new_waiter_id() -> str:
    """Return a fresh id for a waiter."""
    return os.urandom(8).hex()
