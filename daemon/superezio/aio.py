"""The daemon's methods as coroutines.

    async with AsyncClient() as client, client.lease("8GiB", wait="60s") as lease:
        await train(env=os.environ | lease.environment)

What each method takes, returns and raises is written at its twin in `superezio.client.Client`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from superezio import calls, wire
from superezio.aio_conversation import AsyncConversation
from superezio.aio_events import AsyncEvents
from superezio.calls import (
    CacheOptions,
    Call,
    LeaseOptions,
    LimitCost,
    LimitUse,
    PlacementOptions,
)
from superezio.client import no_correlation_id
from superezio.conversation import COURTESY_S
from superezio.errors import StaleLeaseError, SuperezioError
from superezio.holder import needs_confirmation, not_the_holder, own_process
from superezio.paths import default_socket_path
from superezio.renewing import renewed_by_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezio.guarding.absence import WhenAbsent
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


class AsyncClient:
    """An asyncio client of the daemon; the parameters are those of `Client`.

    Calls made at the same time share one connection, and none waits for another. A call whose task
    is cancelled, or whose time is up, is cancelled in the daemon too. Use it within one loop, and
    end it with `aclose` or `async with`.
    """

    def __init__(
        self,
        socket_path: str | None = None,
        *,
        timeout_s: float = 10.0,
        session: str | None = None,
        correlation_id: Callable[[], str | None] = no_correlation_id,
        when_absent: WhenAbsent = "closed",
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.socket_path = socket_path or default_socket_path()
        self.timeout_s = timeout_s
        self.session = session
        self._clock = clock
        self._conversation = AsyncConversation(
            self.socket_path, correlation_id=correlation_id, clock=clock
        )
        self._when_absent = when_absent
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

    # --- system ---------------------------------------------------------------------------------

    async def system_ping(self, *, timeout_s: float | None = None) -> wire.Pong:
        """Return at once, if the daemon's loop turns."""
        return await self._call(calls.system_ping(), timeout_s)

    async def system_info(self, *, timeout_s: float | None = None) -> wire.SystemInfo:
        """Return what runs, and the caller's role."""
        return await self._call(calls.system_info(), timeout_s)

    async def system_reload(self, *, timeout_s: float | None = None) -> wire.ReloadResult:
        """Read the configuration again (admins)."""
        return await self._call(calls.system_reload(), timeout_s)

    async def system_log_level(
        self, level: str | None = None, *, timeout_s: float | None = None
    ) -> wire.LogLevelResult:
        """Return the log level, after setting it if one is given (admins)."""
        return await self._call(calls.system_log_level(level), timeout_s)

    # --- health and gpus ------------------------------------------------------------------------

    async def health_get(self, *, timeout_s: float | None = None) -> wire.Health:
        """Return the verdict on the host, with reasons."""
        return await self._call(calls.health_get(), timeout_s)

    async def metrics_get(self, *, timeout_s: float | None = None) -> wire.MetricsText:
        """Return all metrics of the daemon in Prometheus' text format."""
        return await self._call(calls.metrics_get(), timeout_s)

    async def gpu_list(self, *, timeout_s: float | None = None) -> wire.GpuList:
        """Return every GPU with its latest sample."""
        return await self._call(calls.gpu_list(), timeout_s)

    async def gpu_get(self, gpu: str, *, timeout_s: float | None = None) -> wire.Gpu:
        """Return one GPU, by UUID, a unique beginning of it, or index."""
        return await self._call(calls.gpu_get(gpu), timeout_s)

    async def gpu_history(
        self, gpu: str, *, since: float | str = 900.0, timeout_s: float | None = None
    ) -> wire.GpuHistory:
        """Return the past of one GPU."""
        return await self._call(calls.gpu_history(gpu, since), timeout_s)

    async def gpu_processes(
        self, gpu: str | None = None, *, timeout_s: float | None = None
    ) -> wire.GpuProcessList:
        """Return the processes on one GPU, or on all."""
        return await self._call(calls.gpu_processes(gpu), timeout_s)

    async def gpu_cordon(
        self, gpu: str, *, reason: str = "", timeout_s: float | None = None
    ) -> wire.Done:
        """Let no new lease onto a GPU (admins)."""
        return await self._call(calls.gpu_cordon(gpu, reason), timeout_s)

    async def gpu_uncordon(self, gpu: str, *, timeout_s: float | None = None) -> wire.Done:
        """Undo `gpu_cordon` (admins)."""
        return await self._call(calls.gpu_uncordon(gpu), timeout_s)

    async def gpu_detach(self, *, timeout_s: float | None = None) -> wire.ProbeState:
        """Let go of the driver (admins)."""
        return await self._call(calls.gpu_detach(), timeout_s)

    async def gpu_attach(self, *, timeout_s: float | None = None) -> wire.ProbeState:
        """Take up the driver again (admins)."""
        return await self._call(calls.gpu_attach(), timeout_s)

    # --- guarded calls of services --------------------------------------------------------------

    def breaker(
        self,
        name: str,
        *,
        failure: Callable[[Exception], bool] | None = None,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **rules: Unpack[BreakerOptions],
    ) -> AsyncAround[Permit]:
        """Let an `async with` block, or a decorated coroutine function, through a breaker."""
        return self._guarding().breaker(name, (when_absent, timeout_s), failure, rules)

    def limit(
        self,
        name: str,
        *,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **options: Unpack[LimitOptions],
    ) -> AsyncAround[Slot]:
        """Give an `async with` block, or a decorated coroutine function, room in a limit."""
        return self._guarding().limit(name, (when_absent, timeout_s), options)

    def cached(
        self,
        namespace: str,
        *,
        key: Callable[..., str] | None = None,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **options: Unpack[CachedOptions],
    ) -> AsyncDecorator:
        """Cache what a decorated coroutine function returns.

        A stale value is refreshed by a task of the client, which `aclose` cancels.
        """
        return self._guarding().cached(namespace, (when_absent, timeout_s), key, options)

    def guard(
        self,
        name: str,
        *,
        when_absent: WhenAbsent | None = None,
        timeout_s: float | None = None,
        **options: Unpack[GuardOptions],
    ) -> AsyncAround[GuardedCall]:
        """Put an `async with` block, or a coroutine function, behind cache, limit and breaker."""
        return self._guarding().guard(name, (when_absent, timeout_s), options)

    # --- leases ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(
        self,
        vram: int | str,
        *,
        timeout_s: float | None = None,
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
        timeout_s: float | None = None,
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
        timeout_s: float | None = None,
    ) -> wire.Lease:
        """Bind a further process to a lease."""
        return await self._call(calls.lease_attach(lease, pid, start_time), timeout_s)

    async def lease_renew(
        self, lease: str, *, ttl: float | str | None = None, timeout_s: float | None = None
    ) -> wire.Lease:
        """Let a lease of mode ttl last its TTL, or `ttl` from now on, counted from now."""
        return await self._call(calls.lease_renew(lease, ttl), timeout_s)

    async def lease_ready(self, lease: str, *, timeout_s: float | None = None) -> wire.Lease:
        """Say that a program that sizes itself has grown."""
        return await self._call(calls.lease_ready(lease), timeout_s)

    async def lease_revoke(
        self,
        lease: str,
        *,
        deadline: float | str | None = None,
        reason: str = "",
        timeout_s: float | None = None,
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
        timeout_s: float | None = None,
    ) -> wire.Lease:
        """Answer an order to end: the lease will be released in time, or not (`accept` False).

        A refusal is told to people, and the deadline stands. Raises ConflictError where there is
        no order, or StaleLeaseError.
        """
        call = calls.lease_acknowledge(lease, accept=accept, message=message)
        return await self._call(call, timeout_s)

    async def lease_release(
        self, lease: str, *, timeout_s: float | None = None
    ) -> wire.ReleaseResult:
        """Give a lease back; twice is fine."""
        self._conversation.give_up(lease)
        return await self._call(calls.lease_release(lease), timeout_s)

    async def lease_cancel(self, waiter: str, *, timeout_s: float | None = None) -> wire.Done:
        """Take an acquire out of the queue; twice is fine."""
        return await self._call(calls.lease_cancel(waiter), timeout_s)

    async def lease_list(self, *, timeout_s: float | None = None) -> wire.LeaseList:
        """Return the leases and the queue."""
        return await self._call(calls.lease_list(), timeout_s)

    async def lease_quota(self, *, timeout_s: float | None = None) -> wire.QuotaList:
        """Return how much the caller may have leased at a time, and has."""
        return await self._call(calls.lease_quota(), timeout_s)

    async def lease_get(self, lease: str, *, timeout_s: float | None = None) -> wire.Lease:
        """Return one lease."""
        return await self._call(calls.lease_get(lease), timeout_s)

    async def placement_explain(
        self,
        vram: int | str,
        *,
        timeout_s: float | None = None,
        **options: Unpack[PlacementOptions],
    ) -> wire.Placement:
        """Return what an acquire would get now, and why.

        Options: count, split, policy, prefer, avoid, min_compute_capability, compute_mode,
        no_display and model.
        """
        return await self._call(calls.placement_explain(vram, options), timeout_s)

    # --- circuit breakers -----------------------------------------------------------------------

    async def breaker_acquire(
        self,
        name: str,
        *,
        rules: wire.BreakerRules | None = None,
        timeout_s: float | None = None,
    ) -> wire.BreakerPermit:
        """Ask for leave to call the service that `name` stands for; settle it when the call ends.

        The permit is this client's connection's, and returns with it. `rules` are for a name of
        one's own. Raises BreakerOpenError, with `retry_after_ms`.
        """
        return await self._call(calls.breaker_acquire(name, rules), timeout_s)

    async def breaker_settle(
        self,
        name: str,
        permit: int,
        outcome: wire.CallOutcome,
        *,
        retry_after: float | str | None = None,
        timeout_s: float | None = None,
    ) -> wire.BreakerSettlement:
        """Tell how the call of a permit ended: success, failure, ignore or throttled.

        `retry_after` goes with throttled: how long the service wants to be left alone. Doing it
        twice is fine: the second one changes nothing.
        """
        call = calls.breaker_settle(name, permit, outcome, retry_after)
        return await self._call(call, timeout_s)

    async def breaker_get(
        self, name: str, *, uid: int | None = None, timeout_s: float | None = None
    ) -> wire.Breaker:
        """Return one breaker, for admins that of user `uid`. Raises NotFoundError."""
        return await self._call(calls.breaker_get(name, uid), timeout_s)

    async def breaker_list(self, *, timeout_s: float | None = None) -> wire.BreakerList:
        """Return one's own breakers and the shared ones that one may use; for admins all."""
        return await self._call(calls.breaker_list(), timeout_s)

    async def breaker_force_open(
        self, name: str, *, uid: int | None = None, timeout_s: float | None = None
    ) -> wire.Breaker:
        """Have a breaker reject every call. Shared ones are for admins."""
        return await self._call(calls.breaker_force_open(name, uid), timeout_s)

    async def breaker_disable(
        self, name: str, *, uid: int | None = None, timeout_s: float | None = None
    ) -> wire.Breaker:
        """Have a breaker let every call through and record none. Shared ones are for admins."""
        return await self._call(calls.breaker_disable(name, uid), timeout_s)

    async def breaker_reset(
        self, name: str, *, uid: int | None = None, timeout_s: float | None = None
    ) -> wire.Breaker:
        """Have a breaker begin anew, closed. Shared ones are for admins. Raises NotFoundError."""
        return await self._call(calls.breaker_reset(name, uid), timeout_s)

    # --- the cache ------------------------------------------------------------------------------

    async def cache_get(
        self,
        namespace: str,
        key: str,
        *,
        fill: bool = False,
        wait: float | str = 30.0,
        lead: float | str = 30.0,
        timeout_s: float | None = None,
    ) -> wire.CacheAnswer:
        """Return what the cache has for a key; with `fill`, be ready to be who fetches it."""
        call = calls.cache_get(namespace, key, fill=fill, wait=wait, lead=lead)
        return await self._call(call, timeout_s)

    async def cache_set(
        self,
        namespace: str,
        key: str,
        value: str | bytes,
        *,
        timeout_s: float | None = None,
        **options: Unpack[CacheOptions],
    ) -> wire.CacheStored:
        """Set a value; with the `token` of a lead, deliver it to all who wait."""
        return await self._call(calls.cache_set(namespace, key, value, options), timeout_s)

    async def cache_fail(
        self,
        namespace: str,
        key: str,
        token: str,
        *,
        error: str | None = None,
        timeout_s: float | None = None,
    ) -> wire.CacheFailed:
        """Give a lead up, with an `error` for all who wait or for the next one to lead."""
        return await self._call(calls.cache_fail(namespace, key, token, error), timeout_s)

    async def cache_delete(
        self,
        namespace: str,
        *,
        key: str | None = None,
        tag: str | None = None,
        timeout_s: float | None = None,
    ) -> wire.CacheDeleted:
        """Delete a key, or all that has a tag."""
        return await self._call(calls.cache_delete(namespace, key, tag), timeout_s)

    async def cache_clear(
        self, namespace: str, *, uid: int | None = None, timeout_s: float | None = None
    ) -> wire.CacheDeleted:
        """Delete all of a namespace."""
        return await self._call(calls.cache_clear(namespace, uid), timeout_s)

    async def cache_stats(self, *, timeout_s: float | None = None) -> wire.CacheStats:
        """Return what the caller's namespaces hold, and what happened in them."""
        return await self._call(calls.cache_stats(), timeout_s)

    # --- limits ---------------------------------------------------------------------------------

    async def limit_acquire(
        self, name: str, *, timeout_s: float | None = None, **options: Unpack[LimitCost]
    ) -> wire.LimitReservation:
        """Reserve room for one request in the limit `name`; settle it with what was used.

        Options: `requests` (1), `tokens`, `money_micros`, `concurrency` (slots), what it takes;
        `key`, whose request it is; `wait`, how long to wait for room (0: not at all); `rates`, of
        a limit of one's own. What was reserved counts as used when this client's connection ends.
        Raises RateLimitedError (with `retry_after_ms`), NeverPassesError, StateNotWritableError.
        """
        return await self._call(calls.limit_acquire(name, options), timeout_s)

    async def limit_settle(
        self, reservation: int, *, timeout_s: float | None = None, **used: Unpack[LimitUse]
    ) -> wire.LimitSettlement:
        """Say what a request used: `requests`, `tokens`, `money_micros`; what is None as reserved.

        `retry_after` and `remaining` are what the far side said. `settled` is False where the
        reservation is not open over this client's connection any more.
        """
        return await self._call(calls.limit_settle(reservation, used), timeout_s)

    async def limit_peek(
        self,
        name: str,
        *,
        key: str | None = None,
        uid: int | None = None,
        timeout_s: float | None = None,
    ) -> wire.LimitState:
        """Return what is left of a limit (with `uid`, of another user's: admins).

        Raises NotFoundError.
        """
        return await self._call(calls.limit_peek(name, key, uid), timeout_s)

    async def limit_list(self, *, timeout_s: float | None = None) -> wire.LimitList:
        """Return the limits that the caller may use, and what is left of each."""
        return await self._call(calls.limit_list(), timeout_s)

    async def limit_reset(
        self,
        name: str,
        *,
        key: str | None = None,
        uid: int | None = None,
        spend: bool = False,
        timeout_s: float | None = None,
    ) -> wire.Done:
        """Have all of a limit there again; with `spend`, as if no money was spent (shared: admins).

        Raises NotFoundError.
        """
        return await self._call(calls.limit_reset(name, key, uid, spend=spend), timeout_s)

    # --- events, sessions, rpc ------------------------------------------------------------------

    def events(
        self,
        types: Sequence[str] = (),
        *,
        replay: int = 0,
        reconnect_timeout_s: float | None = None,
    ) -> AsyncEvents:
        """Return an endless async iterator of events, on a connection of its own.

        It subscribes on entering its `async with` block, or with the first event asked for.
        """
        return AsyncEvents(
            self.socket_path,
            types,
            replay=replay,
            timeout_s=self.timeout_s,
            reconnect_timeout_s=reconnect_timeout_s,
            clock=self._clock,
        )

    async def session_open(
        self,
        name: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
    ) -> wire.SessionOpened:
        """Open or resume a session; further requests are counted to it."""
        opened = await self._call(calls.session_open(name, token), timeout_s)
        self.session = opened.session_id
        return opened

    async def session_close(self, session_id: str, *, timeout_s: float | None = None) -> wire.Done:
        """Close a session."""
        if self.session == session_id:
            self.session = None
        return await self._call(calls.session_close(session_id), timeout_s)

    async def session_list(self, *, timeout_s: float | None = None) -> wire.SessionList:
        """Return the sessions that the caller may see."""
        return await self._call(calls.session_list(), timeout_s)

    # --- the flight recorder ----------------------------------------------------------------------

    async def trace_get(self, id_: str, *, timeout_s: float | None = None) -> wire.Trace:
        """Return what became of the requests of a correlation id, or trace-id, in time's order.

        One's own; for admins all.
        """
        return await self._call(calls.trace_get(id_), timeout_s)

    async def trace_find(
        self,
        *,
        last: int = 20,
        slow: float | str | None = None,
        failed: bool = False,
        method: str | None = None,
        since: float | str | None = None,
        timeout_s: float | None = None,
    ) -> wire.TraceList:
        """Return the newest `last` requests, the newest first, that meet all that is given.

        `slow`: they took that long or longer; `failed`: they were answered with an error, or not at
        all; `method`: of one method, or, with a dot at its end, of a family; `since`: they are no
        older. Durations are seconds or text.
        """
        call = calls.trace_find(last=last, slow=slow, failed=failed, method=method, since=since)
        return await self._call(call, timeout_s)

    async def trace_annotate(
        self,
        correlation_id: str,
        name: str,
        *,
        started_ago: float | str | None = None,
        duration: float | str | None = None,
        attributes: Mapping[str, str | int | float | bool] | None = None,
        timeout_s: float | None = None,
    ) -> wire.Done:
        """Add a span of one's own to a correlation id: `trace_get` shows it beside the requests.

        It took `duration` up to now, or began `started_ago`; without a duration it is an instant.
        Raises BusyError where there are too many of them.
        """
        call = calls.trace_annotate(
            correlation_id,
            name,
            started_ago=started_ago,
            duration=duration,
            attributes=attributes or {},
        )
        return await self._call(call, timeout_s)

    async def rpc_discover(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return the OpenRPC document of the daemon that runs."""
        return await self._call(calls.rpc_discover(), timeout_s)

    def _guarding(self) -> AsyncGuards:
        if self._guards is None:
            from superezio.guarding.aio_guards import AsyncGuards  # noqa: PLC0415 - for who asks

            self._guards = AsyncGuards(
                self._conversation,
                clock=self._clock,
                when_absent=self._when_absent,
                timeout_s=self.timeout_s,
                session=lambda: self.session,
            )
        return self._guards

    async def _call(self, call: Call[T], timeout_s: float | None) -> T:
        limit_s = (self.timeout_s if timeout_s is None else timeout_s) + call.wait_s
        return await self._conversation.call(call, limit_s=limit_s, session=self.session)

    async def _confirm(self, lease: wire.Lease, timeout_s: float | None) -> wire.Lease:
        mine = own_process(lease)
        if mine is None:
            await self.lease_release(lease.id, timeout_s=timeout_s)
            raise not_the_holder(lease)
        return await self.lease_attach(
            lease.id, mine.pid, start_time=mine.start_time, timeout_s=timeout_s
        )
