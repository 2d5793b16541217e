"""Rate limits that programs share: room by a name, at once or in a line, until it is settled.

What a connection has reserved ends with it, as does its waiting. Whatever is decided is recorded
before anything is awaited; money under a cap is committed before anybody hears of the grant.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from itertools import islice
from typing import Final, cast

import msgspec

from superezio.errors import (
    CancelledRequestError,
    RateLimitedError,
    StateNotWritableError,
    SuperezioError,
)
from superezio.resilience.rate_limiter import (
    Budget,
    Cost,
    Rejection,
    Reservation,
    Waiter,
)
from superezio.wire import (
    LimitAcquireParams,
    LimitReservation,
    LimitSettleParams,
)
from supereziod.deadlines import Deadlines
from supereziod.observability.events import EventLog
from supereziod.observability.marks import count_use, mark
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.limit_accounts import Holder, Request, Way
from supereziod.resilience.limit_answers import limited, never_passes, too_many
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.limit_reports import (
    is_more,
    lower,
    refusal_of,
    shortage_of,
    used_of,
    wait_of,
)
from supereziod.resilience.named_limit import NamedLimit, Waiting
from supereziod.storage import StorageError

_MS: Final = 1_000_000
#: As long as idle budgets may stay.
_SWEEP_NS: Final = 10 * 1_000_000_000
#: So many of the oldest reservations are looked at for one that can be settled to make room.
_LOOKED_AT: Final = 16
_NOTHING: Final = Cost(0, 0, 0, 0)
_ONE: Final = Cost()
_SETTLED: Final = b'{"settled":true}'
_NOT_SETTLED: Final = b'{"settled":false}'

_encode = msgspec.json.Encoder().encode
_join = b"".join
#: The constructor of a named tuple is a function of Python's.
_tuple = tuple.__new__


class RateLimits:
    """Room in limits for the requests of connections. Loop-owned. `clock` is monotonic, in ns."""

    def __init__(
        self,
        registry: LimitRegistry,
        *,
        events: EventLog,
        event_rate: EventRate,
        clock: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._holders = registry.holders
        self._events = events
        self._event_rate = event_rate
        self._clock = clock
        # Another range in each life of the daemon, and all of it exact in any reader's numbers.
        self._number = (secrets.randbelow((1 << 20) - 1) + 1) << 32
        self._first = self._number
        self._waiters = 0
        self.set_bounds()
        #: Whether there is anything to be written down.
        self.news = True
        #: When to look at a limit with waiters, and, under None, when to sweep.
        self._deadlines: Deadlines[NamedLimit | None] = Deadlines(clock=clock, on_due=self._on_time)

    # --- requests -------------------------------------------------------------------------------

    def acquire(self, request: Request, params: LimitAcquireParams) -> bytes | None:
        """Reserve room at once; return the answer, or None where it has to wait, and may.

        Nothing has changed then. Raises RateLimitedError, NeverPassesError, InvalidParamsError,
        PermissionDeniedError, BusyError or StateNotWritableError.
        """
        try:
            holder = self._holders[request.origin.id]
            way = holder.ways[params.name]
        except KeyError:
            way = self._find_way(request, params)
            holder = way.holder
        account = holder.account
        if len(holder.open) >= self._per_connection or account.reservations >= self._per_uid:
            self._make_room(holder)
        # Written out for one request of a limit with one budget: this is the hot path.
        sole = way.sole
        now_ns = request.received_ns
        if (
            sole is None
            or way.waiting
            or params.requests != 1
            or params.tokens
            or params.money_micros
            or params.concurrency
            or params.rates
            or sole.claims
            or now_ns < sole.blocked_until_ns
            or (rate := sole.requests) is None
            or rate.acquire(now_ns)
        ):
            return self._acquire(way, request, params)
        request.came_to = "granted"
        request.session.reservations += 1
        sole.users += 1
        account.reservations += 1
        self._number = number = self._number + 1
        holder.open[number] = way
        self.news = True
        return _join((way.answer_head, _encode(number), way.answer_tail))

    def _acquire(self, way: Way, request: Request, params: LimitAcquireParams) -> bytes | None:
        """Do what `acquire` does, for whatever it is."""
        named, holder = way.named, way.holder
        budgets = self._budgets(way, request, params)
        micros = params.money_micros if named.is_capped else 0
        if named.is_capped and micros >= 0:
            self._check_spend(way, budgets, micros)
        cost = _cost_of(params, named)
        try:
            granted = named.limiter.acquire(
                request.received_ns, budgets, cost, key=budgets, holder=way
            )
        except ValueError as error:
            raise refusal_of(named.owned.name, error, named.limiter.currency) from None
        if isinstance(granted, Rejection):
            if params.wait_ms > 0:
                return None
            raise limited(named.owned.name, granted)
        number = self._open(holder, granted)
        if micros > 0:
            self._spend(holder, number, micros)
        request.came_to = "granted"
        request.session.reservations += 1
        return _join((way.answer_head, _encode(number), way.answer_tail))

    def wait(
        self, request: Request, params: LimitAcquireParams
    ) -> asyncio.Future[LimitReservation]:
        """Wait for room, behind those who wait for the same; return what is awaited.

        Where that is cancelled, the waiting has ended. Raises what `acquire` does.
        """
        # Found by `acquire`, just now.
        holder = self._holders[request.origin.id]
        way = holder.ways[params.name]
        named, now_ns = way.named, self._clock()
        budgets = self._budgets(way, request, params)
        cost = _cost_of(params, named)
        bounds = self._registry.bounds
        if holder.account.waiters >= bounds.waiters_per_uid:
            waiters = holder.account.waiters
            raise too_many("requests of yours wait", "waiters_per_uid", waiters, wait=True)
        if self._waiters >= bounds.waiters:
            raise too_many("requests wait", "waiters", self._waiters, wait=True)
        wait_ns = min(params.wait_ms * _MS, bounds.longest_wait_ns)
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
        self._waiters += 1
        mark("queued")
        mark("limited", short)
        # These run for the request, which is the scope here.
        future.add_done_callback(_tell_grant)
        future.add_done_callback(lambda _: self._stop_waiting(named, waiter))
        self._arm(named)
        return future

    def settle(self, request: Request, params: LimitSettleParams) -> bytes:
        """Correct a reservation of this connection to what was used; return the answer.

        One that is not open over this connection is not settled, whoever has it. Raises
        InvalidParamsError.
        """
        holder = self._holders.get(request.origin.id)
        held = None if holder is None else holder.open.get(params.reservation)
        if holder is None or held is None:
            return _NOT_SETTLED
        reserved, budgets = (
            (_ONE, held.fixed) if isinstance(held, Way) else (held.cost, held.budgets)
        )
        used = used_of(params, reserved)
        request.came_to = "settled"
        now_ns = request.received_ns
        named = self._close(holder, params.reservation, now_ns, used)
        if used is not None and named.owned.owner is None and is_more(used, reserved):
            self._cap_debts(budgets, now_ns)
        if params.retry_after_ms is not None or params.remaining is not None:
            self._heed(named, budgets, params, now_ns)
        if named.waiting:
            self._arm(named)
        return _SETTLED

    def connection_closed(self, connection: str) -> None:
        """Settle as reserved what a connection had reserved, and let it wait no longer."""
        holder = self._registry.close_holder(connection)
        if holder is None:
            return
        concerned = dict.fromkeys(holder.waiting.values())
        for waiter, named in list(holder.waiting.items()):
            self._stop_waiting(named, waiter)
        now_ns = self._clock()
        for number in list(holder.open):
            concerned[self._close(holder, number, now_ns, None)] = None
        for named in concerned:
            self._arm(named)

    @property
    def granted(self) -> int:
        """How many reservations there have been."""
        return self._number - self._first

    @property
    def waiters(self) -> int:
        """How many requests wait."""
        return self._waiters

    def look_again(self, named: NamedLimit) -> None:
        """Have those who wait for a limit looked at when its budgets have changed."""
        self.news = True
        named.final_number = self._number
        self._arm(named)

    def set_bounds(self) -> None:
        """Go by the registry's bounds from now on."""
        self._per_connection = self._registry.bounds.reservations_per_connection
        self._per_uid = self._registry.bounds.reservations_per_uid

    def close(self) -> None:
        """Look at nothing more."""
        self._deadlines.close()

    # --- reservations ---------------------------------------------------------------------------

    def _find_way(self, request: Request, params: LimitAcquireParams) -> Way:
        if self._deadlines.get(None) is None:
            self._deadlines.set(None, self._clock() + _SWEEP_NS)
        return self._registry.find_way(request.origin, params.name, params.rates)

    def _budgets(
        self, way: Way, request: Request, params: LimitAcquireParams
    ) -> tuple[Budget, ...]:
        if params.rates is not None and self._registry.take_rates(way.named, params.rates):
            self.look_again(way.named)
        if not way.varies:
            return way.fixed
        return self._registry.varying_budgets(way, request.session.id, params.key)

    def _open(self, holder: Holder, reservation: Reservation) -> int:
        """Keep a reservation; return its number."""
        self._number = number = self._number + 1
        holder.open[number] = reservation
        holder.account.reservations += 1
        self.news = True
        return number

    def _close(self, holder: Holder, number: int, now_ns: int, used: Cost | None) -> NamedLimit:
        """Settle an open reservation; return the limit that it is of."""
        held = holder.open.pop(number)
        holder.account.reservations -= 1
        self.news = True
        if isinstance(held, Way):
            named = held.named
            (budget,) = held.fixed
            budget.users -= 1
            if used is not None:
                final = max(named.final_number, named.final_by_scope.get(budget.scope, 0))
                taken_ns = now_ns if number > final else -1
                budget.settle(now_ns, _ONE, used, taken_ns=taken_ns)
                if named.is_capped:
                    named.settle_spend(number, held.fixed, used.money_micros)
            return named
        named = _way_of(held).named
        named.limiter.settle(now_ns, held, used)
        if named.is_capped or named.spends:
            micros = None if used is None else used.money_micros
            named.settle_spend(number, held.budgets, micros)
        return named

    def _make_room(self, holder: Holder) -> None:
        """Settle the connection's oldest reservation that keeps no slot, or raise BusyError.

        Most that is reserved and keeps nothing is never settled by its holder.
        """
        for number, held in islice(holder.open.items(), _LOOKED_AT):
            if isinstance(held, Way) or not held.cost.concurrency:
                named = self._close(holder, number, self._clock(), None)
                if named.waiting:
                    self._arm(named)
                return
        raise too_many(
            "reservations are open: settle some first",
            "reservations",
            holder.account.reservations,
            wait=True,
        )

    # --- money ----------------------------------------------------------------------------------

    def _check_spend(self, way: Way, budgets: tuple[Budget, ...], micros: int) -> None:
        named = way.named
        try:
            named.check_spend(budgets, micros)
        except RateLimitedError as error:
            if named.tell_once(error):
                kind, scope_name = error.data["scope"], error.data["scope_name"]
                self._events.emit(
                    "limit.spent",
                    error.message,
                    severity="warning",
                    uid=None if kind in ("host", "group") else way.holder.account.uid,
                    name=named.owned.name,
                    scope=f"{kind} {scope_name}".strip(),
                )
            raise

    def _spend(self, holder: Holder, number: int, micros: int) -> None:
        """Commit what a new reservation costs, or undo it."""
        reservation = cast("Reservation", holder.open[number])
        named = _way_of(reservation).named
        try:
            named.spend(number, reservation.budgets, micros)
        except StorageError as error:
            self._close(holder, number, reservation.taken_ns, _NOTHING)
            raise StateNotWritableError(
                f"the limit {named.owned.name} grants nothing that costs money: what is spent"
                f" cannot be recorded ({error})"
            ) from None

    # --- what the far side says -----------------------------------------------------------------

    def _cap_debts(self, budgets: tuple[Budget, ...], now_ns: int) -> None:
        """Let nobody keep the others out for longer than a block by what it says it used."""
        for budget in budgets:
            budget.owe_at_most(now_ns, self._registry.bounds.longest_block_ns)

    def _heed(
        self,
        named: NamedLimit,
        budgets: tuple[Budget, ...],
        params: LimitSettleParams,
        now_ns: int,
    ) -> None:
        """Let the widest budgets go by what the far side told: it knows nothing of the others."""
        for budget in budgets:
            if budget.scope.kind != budgets[0].scope.kind:
                break
            was_blocked = budget.blocked_until_ns > now_ns
            if params.retry_after_ms is not None:
                budget.block(now_ns, params.retry_after_ms * _MS)
            if params.remaining is not None:
                lower(budget, params.remaining, now_ns)
                if any(rate.final_ns >= now_ns for rate in budget.rates().values()):
                    named.final_by_scope[budget.scope] = self._number
            if budget.blocked_until_ns > now_ns and not was_blocked:
                self._tell_block(named, budget, now_ns)

    def _tell_block(self, named: NamedLimit, budget: Budget, now_ns: int) -> None:
        besides = self._event_rate.take(named.owned.owner)
        if besides is None:
            return
        blocked_s = (budget.blocked_until_ns - now_ns) / 1e9
        self._events.emit(
            "limit.blocked",
            f"the service behind the limit {named.owned.name} wants no requests for"
            f" {blocked_s:.0f} s",
            uid=named.owned.owner,
            name=named.owned.name,
            scope=str(budget.scope),
            blocked_s=round(blocked_s, 3),
            **besides,
        )

    # --- waiting --------------------------------------------------------------------------------

    def _arm(self, named: NamedLimit) -> None:
        next_ns = named.limiter.next_at_ns if named.waiting else None
        if next_ns is None:
            self._deadlines.drop(named)
        else:
            self._deadlines.set(named, next_ns)

    def _on_time(self, named: NamedLimit | None) -> None:
        if named is None:
            self._registry.sweep()
            self._deadlines.set(None, self._clock() + _SWEEP_NS)
            return
        now_ns = self._clock()
        due = named.limiter.due(now_ns)
        for waiter, reservation in due.granted:
            self._grant(named, waiter, reservation, now_ns)
        for waiter in due.late:
            self._refuse(named, waiter, limited(named.owned.name, shortage_of(waiter, now_ns)))
        for waiter, error in due.hopeless:
            never = never_passes(named.owned.name, error, named.limiter.currency)
            self._refuse(named, waiter, never)
        self._arm(named)

    def _grant(
        self, named: NamedLimit, waiter: Waiter, reservation: Reservation, now_ns: int
    ) -> None:
        way, since_ns, future = self._gone(named, waiter)
        if future.done():  # cancelled, and its callback is still to come
            named.limiter.settle(now_ns, reservation, _NOTHING)
            return
        holder = way.holder
        number = self._open(holder, reservation)
        micros = reservation.cost.money_micros
        if named.is_capped:
            try:
                self._check_spend(way, reservation.budgets, micros)
                if micros > 0:
                    self._spend(holder, number, micros)
            except SuperezioError as error:
                if number in holder.open:
                    self._close(holder, number, now_ns, _NOTHING)
                future.set_exception(error)
                return
        future.set_result(
            LimitReservation(
                name=named.owned.name,
                reservation=number,
                shared=named.owned.owner is None,
                waited_ms=(now_ns - since_ns) // _MS,
            )
        )

    def _refuse(self, named: NamedLimit, waiter: Waiter, error: SuperezioError) -> None:
        future = self._gone(named, waiter).future
        if not future.done():
            future.set_exception(error)

    def _stop_waiting(self, named: NamedLimit, waiter: Waiter) -> None:
        """End a wait that was cancelled, or whose connection ended."""
        if waiter in named.waiting:
            named.limiter.cancel(self._clock(), waiter)
            future = self._gone(named, waiter).future
            if not future.done():
                future.set_exception(CancelledRequestError("the connection was closed"))
            self._arm(named)

    def _gone(self, named: NamedLimit, waiter: Waiter) -> Waiting:
        waiting = named.waiting.pop(waiter)
        holder = waiting.way.holder
        del holder.waiting[waiter]
        holder.account.waiters -= 1
        self._waiters -= 1
        return waiting


def _cost_of(params: LimitAcquireParams, named: NamedLimit) -> Cost:
    slots = named.default_slots if params.concurrency is None else params.concurrency
    return _tuple(Cost, (params.requests, params.tokens, params.money_micros, slots))


def _tell_grant(future: asyncio.Future[LimitReservation]) -> None:
    """Note at the request that waited that it did not wait for nothing."""
    if not future.cancelled() and future.exception() is None:
        mark("granted")
        count_use("reservations")


def _way_of(reservation: Reservation) -> Way:
    return cast("Way", reservation.holder)
