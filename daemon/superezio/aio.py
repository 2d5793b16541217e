"""The daemon's methods as coroutines.

    async with AsyncClient() as client, client.lease("8GiB", wait="60s") as lease:
        await train(env=os.environ | lease.environment)

What each method takes, returns and raises is written at its twin in `superezio.client.Client`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self, TypeVar, Unpack

from superezio import calls, wire
from superezio.aio_conversation import AsyncConversation
from superezio.aio_events import AsyncEvents
from superezio.aio_host import AsyncHostMethods
from superezio.aio_services import AsyncServiceMethods
from superezio.calls import (
    Call,
    LeaseOptions,
    PlacementOptions,
)
from superezio.client import no_correlation_id, no_traceparent
from superezio.conversation import COURTESY_S
from superezio.errors import StaleLeaseError, SuperezioError
from superezio.holder import needs_confirmation, not_the_holder, own_process
from superezio.paths import default_socket_path
from superezio.renewing import renewed_by_task
from superezio.when_absent import Manner, WhenAbsent, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezio.guarding.aio_guards import AsyncGuards
    from superezio.guarding.around import AsyncAround, AsyncDecorator
    from superezio.guarding.breaking import Permit
    from superezio.guarding.composing import GuardedCall
    from superezio.guarding.limiting import Slot
    from superezio.guarding.options import (
        BreakerOptions,
        CachedOptions,
        GuardOptions,
        LimitOptions,
    )

T = TypeVar("T")


class AsyncClient(AsyncHostMethods, AsyncServiceMethods):
    """An asyncio client of the daemon; the parameters are those of `Client`.

    Calls made at the same time share one connection, and none waits for another. A call whose task
    is cancelled, or whose time is up, is cancelled in the daemon too. Use it within one loop, and
    end it with `aclose` or `async with`.
    """

    def __init__(
        self,
        socket_path: str | None = None,
        *,
        timeout_s: float | str = 10.0,
        session: str | None = None,
        correlation_id: Callable[[], str | None] = no_correlation_id,
        traceparent: Callable[[], str | None] = no_traceparent,
        when_absent: WhenAbsent = "closed",
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.socket_path = socket_path or default_socket_path()
        self.timeout_s = calls.duration_s(timeout_s)
        self.session = session
        self._clock = clock
        self._correlation_id = correlation_id
        self._traceparent = traceparent
        self._conversation = AsyncConversation(
            self.socket_path, correlation_id=correlation_id, clock=clock
        )
        self._when_absent = checked(when_absent)
        self._guards: AsyncGuards | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connection; calls still in flight raise ConnectionLostError.

        Values that are being refreshed behind the back of cached functions are given up.
        """
        if self._guards is not None:
            await self._guards.aclose()
        await self._conversation.aclose()

    # --- guarded calls of services --------------------------------------------------------------

    def breaker(
        self,
        name: str,
        *,
        failure: Callable[[Exception], bool] | None = None,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | str | None = None,
        traceparent: str | None = None,
        **rules: Unpack[BreakerOptions],
    ) -> AsyncAround[Permit]:
        """Let an `async with` block, or a decorated coroutine function, through a breaker."""
        manner = Manner.of(when_absent, timeout_s, traceparent)
        return self._guarding().breaker(name, manner, failure, rules)

    def limit(
        self,
        name: str,
        *,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | str | None = None,
        traceparent: str | None = None,
        **options: Unpack[LimitOptions],
    ) -> AsyncAround[Slot]:
        """Give an `async with` block, or a decorated coroutine function, room in a limit."""
        manner = Manner.of(when_absent, timeout_s, traceparent)
        return self._guarding().limit(name, manner, options)

    def cached(
        self,
        namespace: str,
        *,
        key: Callable[..., str] | None = None,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | str | None = None,
        traceparent: str | None = None,
        **options: Unpack[CachedOptions],
    ) -> AsyncDecorator:
        """Cache what a decorated coroutine function returns.

        A stale value is refreshed by a task of the client, which `aclose` cancels.
        """
        manner = Manner.of(when_absent, timeout_s, traceparent)
        return self._guarding().cached(namespace, manner, key, options)

    def guard(
        self,
        name: str,
        *,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | str | None = None,
        traceparent: str | None = None,
        **options: Unpack[GuardOptions],
    ) -> AsyncAround[GuardedCall]:
        """Put an `async with` block, or a coroutine function, behind cache, limit and breaker."""
        manner = Manner.of(when_absent, timeout_s, traceparent)
        return self._guarding().guard(name, manner, options)

    # --- leases ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[LeaseOptions],
    ) -> AsyncIterator[wire.Lease]:
        """Hold a lease of `vram` for the length of an `async with` block.

        Options: count, split, policy, prefer, avoid, min_compute_capability, compute_mode,
        no_display, model, mode, holder_pid, ttl, sizes_itself, name, wait, priority and
        idempotency_key, as `Client.lease_acquire` explains them. A lease of mode ttl
        is renewed by a task of its own.
        """
        lease = await self.lease_acquire(vram, timeout_s=timeout_s, **options)
        try:
            async with renewed_by_task(
                lease, lambda limit_s: self.lease_renew(lease.id, timeout_s=limit_s)
            ):
                yield lease
        except BaseException:
            with suppress(SuperezioError):
                await self.lease_release(lease.id, timeout_s=COURTESY_S)
            raise
        with suppress(StaleLeaseError):
            await self.lease_release(lease.id, timeout_s=timeout_s)

    async def lease_acquire(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[LeaseOptions],
    ) -> wire.Lease:
        """Return a lease of `vram` on each GPU it names.

        Options: count, split, policy, prefer, avoid, min_compute_capability, compute_mode,
        no_display, model, mode, holder_pid, ttl, sizes_itself, name, wait, priority and
        idempotency_key, as `Client.lease_acquire` explains them.
        """
        lease = await self._call(calls.lease_acquire(vram, options), timeout_s)
        if options.get("mode") == "connection":
            self._conversation.keep(lease.id)
        if needs_confirmation(lease, options.get("holder_pid")):
            return await self._confirm(lease, timeout_s)
        return lease

    async def lease_attach(
        self,
        lease: str,
        pid: int,
        *,
        start_time: int | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.Lease:
        """Bind a further process to a lease."""
        return await self._call(calls.lease_attach(lease, pid, start_time), timeout_s)

    async def lease_renew(
        self, lease: str, *, ttl: float | str | None = None, timeout_s: float | str | None = None
    ) -> wire.Lease:
        """Let a lease of mode ttl last its TTL, or `ttl` from now on, counted from now."""
        return await self._call(calls.lease_renew(lease, ttl), timeout_s)

    async def lease_ready(self, lease: str, *, timeout_s: float | str | None = None) -> wire.Lease:
        """Say that a program that sizes itself has grown."""
        return await self._call(calls.lease_ready(lease), timeout_s)

    async def lease_revoke(
        self,
        lease: str,
        *,
        deadline: float | str | None = None,
        reason: str = "",
        timeout_s: float | str | None = None,
    ) -> wire.Lease:
        """Order a lease to end within `deadline`: 30 s, unless the daemon is configured otherwise.

        Its holder is told, and has lost it at the deadline if it has not ended by then. To ask
        again can only bring the deadline forward. One's own leases; for admins all. Raises
        StaleLeaseError.
        """
        return await self._call(calls.lease_revoke(lease, deadline, reason), timeout_s)

    async def lease_acknowledge(
        self,
        lease: str,
        *,
        accept: bool = True,
        message: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.Lease:
        """Answer an order to end: the lease will be released in time, or not (`accept` False).

        A refusal is told to people, and the deadline stands. Raises ConflictError where there is
        no order, or StaleLeaseError.
        """
        call = calls.lease_acknowledge(lease, accept=accept, message=message)
        return await self._call(call, timeout_s)

    async def lease_release(
        self, lease: str, *, timeout_s: float | str | None = None
    ) -> wire.ReleaseResult:
        """Give a lease back; twice is fine."""
        self._conversation.give_up(lease)
        return await self._call(calls.lease_release(lease), timeout_s)

    async def lease_cancel(self, waiter: str, *, timeout_s: float | str | None = None) -> wire.Done:
        """Take an acquire out of the queue; twice is fine."""
        return await self._call(calls.lease_cancel(waiter), timeout_s)

    async def lease_list(self, *, timeout_s: float | str | None = None) -> wire.LeaseList:
        """Return the leases and the queue."""
        return await self._call(calls.lease_list(), timeout_s)

    async def lease_quota(self, *, timeout_s: float | str | None = None) -> wire.QuotaList:
        """Return how much the caller may have leased at a time, and has."""
        return await self._call(calls.lease_quota(), timeout_s)

    async def lease_get(self, lease: str, *, timeout_s: float | str | None = None) -> wire.Lease:
        """Return one lease."""
        return await self._call(calls.lease_get(lease), timeout_s)

    async def placement_explain(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[PlacementOptions],
    ) -> wire.Placement:
        """Return what an acquire would get now, and why.

        Options: count, split, policy, prefer, avoid, min_compute_capability, compute_mode,
        no_display and model.
        """
        return await self._call(calls.placement_explain(vram, options), timeout_s)

    # --- events, sessions, rpc ------------------------------------------------------------------

    def events(
        self,
        types: Sequence[str] = (),
        *,
        replay: int = 0,
        reconnect_timeout_s: float | str | None = None,
    ) -> AsyncEvents:
        """Return an endless async iterator of events, on a connection of its own.

        It subscribes on entering its `async with` block, or with the first event asked for.
        """
        return AsyncEvents(
            self.socket_path,
            types,
            replay=replay,
            timeout_s=self.timeout_s,
            reconnect_timeout_s=calls.limit_s(reconnect_timeout_s),
            clock=self._clock,
        )

    async def session_open(
        self,
        name: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.SessionOpened:
        """Open or resume a session; further requests are counted to it."""
        opened = await self._call(calls.session_open(name, token), timeout_s)
        self.session = opened.session_id
        return opened

    async def session_close(
        self, session_id: str, *, timeout_s: float | str | None = None
    ) -> wire.Done:
        """Close a session."""
        if self.session == session_id:
            self.session = None
        return await self._call(calls.session_close(session_id), timeout_s)

    def _guarding(self) -> AsyncGuards:
        if self._guards is None:
            from superezio.guarding.aio_guards import AsyncGuards  # noqa: PLC0415 - for who asks

            self._guards = AsyncGuards(
                self._conversation,
                clock=self._clock,
                when_absent=self._when_absent,
                timeout_s=self.timeout_s,
                session=lambda: self.session,
                correlation_id=self._correlation_id,
                traceparent=self._traceparent,
            )
        return self._guards

    async def _call(self, call: Call[T], timeout_s: float | str | None) -> T:
        given_s = calls.limit_s(timeout_s)
        limit_s = (self.timeout_s if given_s is None else given_s) + call.wait_s
        self._conversation.note_lent(call)
        return await self._conversation.call(call, limit_s=limit_s, session=self.session)

    async def _confirm(self, lease: wire.Lease, timeout_s: float | str | None) -> wire.Lease:
        mine = own_process(lease)
        if mine is None:
            await self.lease_release(lease.id, timeout_s=timeout_s)
            raise not_the_holder(lease)
        return await self.lease_attach(
            lease.id, mine.pid, start_time=mine.start_time, timeout_s=timeout_s
        )
