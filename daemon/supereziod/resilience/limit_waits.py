"""Who waits for room in a limit, in the order of arrival: served, late, or gone before.

Whatever is decided is recorded before anybody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from superezio.errors import CancelledRequestError, SuperezioError
from superezio.resilience.rate_limiter import Budget, Cost, Reservation, Waiter
from superezio.wire import LimitReservation
from supereziod.deadlines import Deadlines
from supereziod.observability.marks import count_use, mark
from supereziod.resilience.limit_accounts import Holder, Way
from supereziod.resilience.limit_answers import limited, never_passes, too_many
from supereziod.resilience.limit_beginnings import beginning
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.limit_reports import refusal_of, shortage_of, wait_of
from supereziod.resilience.limit_reservations import NOTHING, Reservations
from supereziod.resilience.named_limit import NamedLimit, Waiting
from supereziod.resilience.spend_commits import Disk, Grant, SpendCommits

_MS: Final = 1_000_000
#: As long as idle budgets may stay.
_SWEEP_NS: Final = 10 * 1_000_000_000
#: Between the parts of a sweep.
_PAUSE_NS: Final = 50 * _MS


class LimitWaits:
    """The requests that wait for limits, and the timer of all limits. Loop-owned."""

    def __init__(
        self,
        registry: LimitRegistry,
        reservations: Reservations,
        *,
        disk: Disk,
        clock: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._reservations = reservations
        self._clock = clock
        self._commits = SpendCommits(
            registry.book, disk, reservations, clock=clock, on_undone=self.arm
        )
        self.count = 0
        #: When to look at a limit with waiters, and, under None, when to sweep.
        self._deadlines: Deadlines[NamedLimit | None] = Deadlines(clock=clock, on_due=self._on_time)

    def add(
        self, way: Way, budgets: tuple[Budget, ...], cost: Cost, *, wait_ms: int
    ) -> asyncio.Future[LimitReservation]:
        """Wait for room, behind those who wait for the same; return what is awaited.

        Where that is cancelled, the waiting has ended. Raises what `RateLimits.acquire` does.
        """
        named, holder, now_ns = way.named, way.holder, self._clock()
        bounds = self._registry.bounds
        if holder.account.waiters >= bounds.waiters_per_uid:
            waiters = holder.account.waiters
            raise too_many("requests of yours wait", "waiters_per_uid", waiters, wait=True)
        if self.count >= bounds.waiters:
            raise too_many("requests wait", "waiters", self.count, wait=True)
        wait_ns = min(wait_ms * _MS, bounds.longest_wait_ns)
        try:
            # Before it has anything kept for it, which looks short from then on.
            short = wait_of(budgets, cost, now_ns)
            waiter = named.limiter.enqueue(
                now_ns, budgets, cost, key=budgets, holder=way, deadline_ns=now_ns + wait_ns
            )
        except ValueError as error:
            raise refusal_of(named.owned.name, error, named.limiter.currency) from None
        future: asyncio.Future[LimitReservation] = asyncio.get_running_loop().create_future()
        named.waiting[waiter] = Waiting(way, now_ns, future)
        holder.waiting[waiter] = named
        holder.account.waiters += 1
        self.count += 1
        mark("queued")
        mark("limited", short)
        # These run for the request, which is the scope here.
        future.add_done_callback(tell_grant)
        future.add_done_callback(lambda _: self.stop(named, waiter))
        self.arm(named)
        return future

    def end_all(self, holder: Holder) -> list[NamedLimit]:
        """Let a connection that has ended wait no longer; return for what it did."""
        concerned = list(dict.fromkeys(holder.waiting.values()))
        for waiter, named in list(holder.waiting.items()):
            self.stop(named, waiter)
        return concerned

    def arm(self, named: NamedLimit | None) -> None:
        """Have those who wait for a limit, if there is one, looked at when that is due."""
        if named is None:
            return
        next_ns = named.limiter.next_at_ns if named.waiting else None
        if next_ns is None:
            self._deadlines.drop(named)
        else:
            self._deadlines.set(named, next_ns)

    def _on_time(self, named: NamedLimit | None) -> None:
        if named is None:
            names = len(self._registry.limits)
            is_more = self._registry.sweep()
            if len(self._registry.limits) < names:
                self._reservations.changed()
            self._deadlines.set(None, self._clock() + (_PAUSE_NS if is_more else _SWEEP_NS))
            return
        now_ns = self._clock()
        due = named.limiter.due(now_ns)
        for waiter, reservation in due.granted:
            self._grant(named, waiter, reservation, now_ns)
        for waiter in due.late:
            began = beginning(named, waiter.budgets, now_ns)
            refusal = limited(named.owned.name, shortage_of(waiter, now_ns), began)
            self._refuse(named, waiter, refusal)
        for waiter, error in due.hopeless:
            never = never_passes(named.owned.name, error, named.limiter.currency)
            self._refuse(named, waiter, never)
        self.arm(named)

    def _grant(
        self, named: NamedLimit, waiter: Waiter, reservation: Reservation, now_ns: int
    ) -> None:
        way, since_ns, future = self._gone(named, waiter)
        if future.done():  # cancelled, and its callback is still to come
            named.limiter.settle(now_ns, reservation, NOTHING)
            return
        number = self._reservations.open(way.holder, reservation)
        if named.is_capped:
            try:
                micros = reservation.cost.money_micros
                self._reservations.check_spend(way, reservation.budgets, micros)
            except SuperezioError as error:
                self._reservations.close(way.holder, number, now_ns, NOTHING)
                future.set_exception(error)
                return
        self.grant(
            Grant(named, way.holder, number, (now_ns - since_ns) // _MS, future), reservation
        )

    def grant(self, grant: Grant, reservation: Reservation) -> None:
        """Tell of a grant; of one that spends money of a cap, once that is on the disk."""
        micros = reservation.cost.money_micros
        if grant.named.is_capped and micros > 0:
            grant.named.spend(grant.number, reservation.budgets, micros)
            self._commits.add(grant)
        else:
            grant.tell()

    def _refuse(self, named: NamedLimit, waiter: Waiter, error: SuperezioError) -> None:
        future = self._gone(named, waiter).future
        if not future.done():
            future.set_exception(error)

    def stop(self, named: NamedLimit, waiter: Waiter) -> None:
        """End a wait that was cancelled, or whose connection ended."""
        if waiter in named.waiting:
            named.limiter.cancel(self._clock(), waiter)
            future = self._gone(named, waiter).future
            if not future.done():
                future.set_exception(CancelledRequestError("the connection was closed"))
            self.arm(named)

    def _gone(self, named: NamedLimit, waiter: Waiter) -> Waiting:
        waiting = named.waiting.pop(waiter)
        holder = waiting.way.holder
        del holder.waiting[waiter]
        holder.account.waiters -= 1
        self.count -= 1
        return waiting

    def sweep_later(self) -> None:
        """Sweep in a while, if that is not to be done yet."""
        if self._deadlines.get(None) is None:
            self._deadlines.set(None, self._clock() + _SWEEP_NS)

    def close(self) -> None:
        """Look at nothing more."""
        self._deadlines.close()


def tell_grant(future: asyncio.Future[LimitReservation]) -> None:
    """Note at the request that waited that it did not wait for nothing."""
    if not future.cancelled() and future.exception() is None:
        mark("granted")
        count_use("reservations")
