"""The daemon's methods as methods of a blocking client.

    with Client() as client, client.lease("8GiB", wait="60s") as lease:
        subprocess.run(["train"], env=os.environ | lease.environment, check=True)

Sizes are bytes, or text such as "8GiB"; durations are seconds, or text such as "1m30s". Whatever
can go wrong is a class of `superezio.errors`: those of the daemon by their kind, and on this side
DaemonNotRunningError, ReplyTimeoutError and ConnectionLostError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self, TypeVar, Unpack

from superezio import calls, wire
from superezio.calls import (
    Call,
    LeaseOptions,
    PlacementOptions,
)
from superezio.client_host import HostMethods
from superezio.client_services import ServiceMethods
from superezio.conversation import COURTESY_S, Conversation
from superezio.errors import StaleLeaseError, SuperezioError
from superezio.events import Events
from superezio.holder import needs_confirmation, not_the_holder, own_process
from superezio.paths import default_socket_path
from superezio.renewing import renewed_by_thread
from superezio.when_absent import Manner, WhenAbsent, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezio.guarding.around import Around, Decorator
    from superezio.guarding.breaking import Permit
    from superezio.guarding.composing import GuardedCall
    from superezio.guarding.guards import Guards
    from superezio.guarding.limiting import Slot
    from superezio.guarding.options import (
        BreakerOptions,
        CachedOptions,
        GuardOptions,
        LimitOptions,
    )

T = TypeVar("T")


def no_correlation_id() -> str | None:
    """Leave it to the daemon to make up a correlation id for each request."""
    return None


def no_traceparent() -> str | None:
    """Make each guarded call a trace of its own."""
    return None


class Client(HostMethods, ServiceMethods):
    """A blocking client of the daemon: one connection, made when it is first needed.

    `socket_path` defaults to `superezio.paths.default_socket_path()`. `timeout_s` limits each call
    and is a parameter of each method too; time in the queue for a lease comes on top. `session` is
    the id of a session to count the requests to. `correlation_id` is called for each request: what
    it returns is found again in the journal, the events and the lease. All requests of one guarded
    call have one id, which is made up where it returns None: the block has it, and the error.
    `traceparent` is called for each guarded call that is not given one: it returns the header of
    W3C Trace Context of what the call is a part of; what is none counts as None.

    While the daemon restarts, calls wait for it, up to their time limit, and are sent again where
    that is safe: everything but `session_open` without a token is. A lease is asked for under a
    key, so that asking twice is one lease. One call runs at a time; threads take turns, so that a
    program that waits for leases in several threads gives each its own client.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.socket_path = socket_path or default_socket_path()
        self.timeout_s = calls.duration_s(timeout_s)
        self.session = session
        self._correlation_id = correlation_id
        self._traceparent = traceparent
        self._clock = clock
        self._sleep = sleep
        self._conversation = self._converse()
        self._when_absent = checked(when_absent)
        self._guards: Guards | None = None
        self._making_guards = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; leases of mode connection end with it. The next call reconnects.

        Values that are being refreshed behind the back of cached functions are waited for.
        """
        if self._guards is not None:
            self._guards.close()
        self._conversation.close()

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
    ) -> Around[Permit]:
        """Let a block, or each call of a decorated function, through one circuit breaker for all.

        It ends well where the block does, and badly where the block raises an exception of which
        `failure` says so (any, without it); what is no Exception, and errors of this package, count
        as neither. `with ... as permit` can say otherwise, and `permit.throttled(seconds)`. `rules`
        are those of `wire.BreakerRules`, for a breaker of one's own.

        Raises BreakerOpenError, with `retry_after_ms`, where it is open. Where the daemon is not
        there, `when_absent` says what then, or the client's: "closed" raises, "open" goes through,
        "local" goes by a breaker of this client. What the block returns or raises comes out as it
        is, whether or not the daemon can be told.
        """
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
    ) -> Around[Slot]:
        """Give a block, or each call of a decorated function, room in one limit for all.

        Options: `requests` (1), `tokens`, `money_micros` and `concurrency`, what it takes; `key`,
        whose it is; `wait`, how long to wait for room; `rates`, of a limit of one's own. What
        `slot.settle(tokens=...)` says was used is settled at the end, and as reserved without it.

        Raises RateLimitedError, with `retry_after_ms`, or NeverPassesError. `when_absent` is as
        for `breaker`.
        """
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
    ) -> Decorator:
        """Cache what a decorated function returns; of all who need a value, one fetches it.

        Options: `ttl`, `grace`, `stale_if_error`, `tags`, `fill_wait`, `fill_time`, `returns` and
        `tell_errors`.
        `key` makes the key of the arguments; without it `superezio.guarding.keys` does. Bytes and
        text are stored as they are, anything else as JSON of the type that the function is
        annotated to return. A stale value is returned at once, and refreshed by a thread.

        Calls raise what the function raises; FillFailedError where it raised for another caller,
        with the name of that error's type, and with its text, too, where that caller said
        `tell_errors=True` (all users of the namespace get it); FillTimeoutError.
        `when_absent` is as for `breaker`.
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
    ) -> Around[GuardedCall]:
        """Put a block, or each call of a decorated function, behind cache, limit and breaker.

        In this order: a value that is cached takes nothing of the limit, and what the limit turns
        away does not count for the breaker. Options: those of `limit` and `cached`, and `breaker`,
        `limit` and `cache`, their names (that of the guard; None for one of the first two does
        without it); `cache_key`, the key or what makes it; `rules`; `failure`; `used`, which says
        what a result used. A block looks at `call.hit` and sets `call.value`.
        """
        manner = Manner.of(when_absent, timeout_s, traceparent)
        return self._guarding().guard(name, manner, options)

    # --- leases ---------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[LeaseOptions],
    ) -> Iterator[wire.Lease]:
        """Hold a lease of `vram` for the length of a `with` block, and release it after.

        The options are those of `lease_acquire`: count, split, policy, prefer, avoid,
        min_compute_capability, compute_mode, no_display, model, mode, holder_pid, ttl,
        sizes_itself, name, wait, priority and idempotency_key. A lease of mode ttl is renewed
        three times per TTL, from a thread and on a connection of their own. One that is lost
        meanwhile is no error at the end of the block.

        Raises what `lease_acquire` raises. What the block raises comes out as it is, also where
        the daemon cannot be told of the release: the lease ends with this process, or its TTL,
        then.
        """
        lease = self.lease_acquire(vram, timeout_s=timeout_s, **options)
        try:
            with (
                self._beside() as beside,
                renewed_by_thread(lease, lambda s: beside.lease_renew(lease.id, timeout_s=s)),
            ):
                yield lease
        except BaseException:
            with suppress(SuperezioError):
                self.lease_release(lease.id, timeout_s=COURTESY_S)
            raise
        with suppress(StaleLeaseError):
            self.lease_release(lease.id, timeout_s=timeout_s)

    def lease_acquire(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[LeaseOptions],
    ) -> wire.Lease:
        """Return a lease of `vram` on each GPU it names: set `lease.environment` before using one.

        Options: `count` GPUs (1); `split`, if `vram` is one amount over them, or over as few as
        hold it; `policy` "best_fit" (the default), "spread", "exclusive" or "coolest"; `prefer`
        and `avoid`, GPUs by UUID; `min_compute_capability` ("8.6"), `compute_mode` and
        `no_display`, what a GPU has to meet; `model`, a name that draws its like; `mode` "process"
        (the default: the lease ends with `holder_pid`, or this process), "connection" (with this
        client's connection) or "ttl" (`ttl` after the grant or the last `lease_renew`);
        `sizes_itself`, for a program that takes a share of what it finds free; `name`, for people;
        `wait`, how long to stand in the queue (0: not at all); `priority`; `idempotency_key`. Any
        other name is a TypeError.

        It stands until it is released or its holder ends. Raises NoCapacityError or, after a
        `wait`, WaitTimeoutError (both with `data["placement"]`, the reason of every GPU),
        NeverFitsError, QueueFullError, HolderNotVisibleError, StateNotWritableError or
        GpusUnavailableError; and ValueError for a size or duration that cannot be read.
        """
        call = calls.lease_acquire(vram, options)
        with self._conversation.lock:
            lease = self._call(call, timeout_s)
            if options.get("mode") == "connection":
                self._conversation.keep(lease.id)
            if needs_confirmation(lease, options.get("holder_pid")):
                return self._confirm(lease, timeout_s)
        return lease

    def lease_attach(
        self,
        lease: str,
        pid: int,
        *,
        start_time: int | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.Lease:
        """Bind a further process to a lease, which then ends when the last of them ends.

        The process has to belong to the lease's user, unless the caller is an admin. `start_time`,
        in clock ticks since boot, guards against a pid that was used again. Raises
        StaleLeaseError or HolderGoneError.
        """
        return self._call(calls.lease_attach(lease, pid, start_time), timeout_s)

    def lease_renew(
        self, lease: str, *, ttl: float | str | None = None, timeout_s: float | str | None = None
    ) -> wire.Lease:
        """Let a lease of mode ttl last its TTL, or `ttl` from now on, counted from now.

        Raises StaleLeaseError when it has ended.
        """
        return self._call(calls.lease_renew(lease, ttl), timeout_s)

    def lease_ready(self, lease: str, *, timeout_s: float | str | None = None) -> wire.Lease:
        """Say that a program that sizes itself has grown: others may start on its GPUs."""
        return self._call(calls.lease_ready(lease), timeout_s)

    def lease_revoke(
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
        return self._call(calls.lease_revoke(lease, deadline, reason), timeout_s)

    def lease_acknowledge(
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
        return self._call(call, timeout_s)

    def lease_release(
        self, lease: str, *, timeout_s: float | str | None = None
    ) -> wire.ReleaseResult:
        """Give a lease back. Doing it twice is fine: `released` tells whether it was there.

        Raises StaleLeaseError for one that ended in another way.
        """
        with self._conversation.lock:
            self._conversation.give_up(lease)
            return self._call(calls.lease_release(lease), timeout_s)

    def lease_cancel(self, waiter: str, *, timeout_s: float | str | None = None) -> wire.Done:
        """Take an acquire out of the queue, by the `id` of a `Waiter`; twice is fine.

        It has to be the caller's user's, unless the caller is an admin. Whoever waits for it gets
        CancelledRequestError.
        """
        return self._call(calls.lease_cancel(waiter), timeout_s)

    def lease_list(self, *, timeout_s: float | str | None = None) -> wire.LeaseList:
        """Return the leases and the queue, as far as the caller's role may see them."""
        return self._call(calls.lease_list(), timeout_s)

    def lease_quota(self, *, timeout_s: float | str | None = None) -> wire.QuotaList:
        """Return how much the caller may have leased at a time, and has."""
        return self._call(calls.lease_quota(), timeout_s)

    def lease_get(self, lease: str, *, timeout_s: float | str | None = None) -> wire.Lease:
        """Return one lease. Raises StaleLeaseError when it is not there any more."""
        return self._call(calls.lease_get(lease), timeout_s)

    def placement_explain(
        self,
        vram: int | str,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[PlacementOptions],
    ) -> wire.Placement:
        """Return what an acquire would get now, and the reason for every GPU; nothing changes.

        The options are those of `lease_acquire` that choose GPUs: count, split, policy, prefer,
        avoid, min_compute_capability, compute_mode, no_display and model.
        """
        return self._call(calls.placement_explain(vram, options), timeout_s)

    # --- events, sessions, rpc ------------------------------------------------------------------

    def events(
        self,
        types: Sequence[str] = (),
        *,
        replay: int = 0,
        reconnect_timeout_s: float | str | None = None,
        patient: bool = True,
        timeout_s: float | str | None = None,
    ) -> Events:
        """Return an endless iterator of events, on a connection of its own.

        `types` are names or beginnings of names (`lease.`); none means all. `replay` past events
        come first. Each item has an `event`, and in `lost` how many were dropped just before it
        because this program was too slow.

        The subscription stands when this returns. When the daemon restarts, the iterator waits for
        the next one, `reconnect_timeout_s` long (None: as long as it takes), and goes on with what
        that one has told since.
        """
        following = Events(
            self.socket_path,
            types,
            replay=replay,
            reconnect_timeout_s=calls.limit_s(reconnect_timeout_s),
            clock=self._clock,
            sleep=self._sleep,
        )
        limit_s = calls.limit_s(timeout_s)
        following.open(self.timeout_s if limit_s is None else limit_s, patient=patient)
        return following

    def session_open(
        self,
        name: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.SessionOpened:
        """Open a session, or with an earlier one's token go on with it.

        The client's further requests are counted to it.
        """
        opened = self._call(calls.session_open(name, token), timeout_s)
        self.session = opened.session_id
        return opened

    def session_close(self, session_id: str, *, timeout_s: float | str | None = None) -> wire.Done:
        """Close a session; closing twice is fine."""
        if self.session == session_id:
            self.session = None
        return self._call(calls.session_close(session_id), timeout_s)

    def _guarding(self) -> Guards:
        with self._making_guards:
            if self._guards is None:
                from superezio.guarding.guards import Guards  # noqa: PLC0415 - for those who ask

                self._guards = Guards(
                    self._converse,
                    clock=self._clock,
                    sleep=self._sleep,
                    when_absent=self._when_absent,
                    timeout_s=self.timeout_s,
                    session=lambda: self.session,
                    correlation_id=self._correlation_id,
                    traceparent=self._traceparent,
                )
            return self._guards

    def _converse(self) -> Conversation:
        return Conversation(
            self.socket_path,
            correlation_id=self._correlation_id,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _beside(self) -> Client:
        """Return a client like this one, with a connection of its own."""
        return Client(
            self.socket_path,
            timeout_s=self.timeout_s,
            session=self.session,
            correlation_id=self._correlation_id,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _call(self, call: Call[T], timeout_s: float | str | None) -> T:
        given_s = calls.limit_s(timeout_s)
        limit_s = (self.timeout_s if given_s is None else given_s) + call.wait_s
        return self._conversation.call(call, limit_s=limit_s, session=self.session)

    def _confirm(self, lease: wire.Lease, timeout_s: float | str | None) -> wire.Lease:
        mine = own_process(lease)
        if mine is None:
            self.lease_release(lease.id, timeout_s=timeout_s)
            raise not_the_holder(lease)
        return self.lease_attach(
            lease.id, mine.pid, start_time=mine.start_time, timeout_s=timeout_s
        )
