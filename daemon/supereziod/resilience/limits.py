"""Rate limits that programs share: room by a name, at once or in a line, until it is settled.

What a connection has reserved ends with it, as does its waiting. Whatever is decided is recorded
before anything is awaited; money under a cap is committed before anybody hears of the grant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from superezio.errors import RateLimitedError
from superezio.resilience.rate_limiter import Budget, Cost, Dimension, Rejection
from superezio.wire import (
    LimitAcquireParams,
    LimitOvershoot,
    LimitReservation,
    LimitSettlement,
    LimitSettleParams,
)
from supereziod.observability.events import EventLog
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.limit_accounts import Holder, Request, Way
from supereziod.resilience.limit_answers import limited
from supereziod.resilience.limit_beginnings import beginning
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.limit_reports import is_more, refusal_of, used_of
from supereziod.resilience.limit_reservations import ONE, Reservations, limit_of
from supereziod.resilience.limit_signals import LimitSignals
from supereziod.resilience.limit_waits import LimitWaits, tell_grant
from supereziod.resilience.named_limit import NamedLimit
from supereziod.resilience.spend_commits import Disk, Grant

_SETTLED: Final = b'{"settled":true,"not_counted":null}'
_NOT_SETTLED: Final = b'{"settled":false,"not_counted":null}'
_NOTHING_OVER: Final = LimitOvershoot()
#: As long as the longest period of a rate: what one's own programs say keeps one out no longer.
_LONGEST_DEBT_NS: Final = 366 * 86_400 * 10**9

_encode = msgspec.json.Encoder().encode
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
        disk: Disk,
        clock: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._holders = registry.holders
        self._clock = clock
        self._reservations = Reservations(registry, events=events)
        self._waits = LimitWaits(registry, self._reservations, disk=disk, clock=clock)
        self._signals = LimitSignals(events=events, event_rate=event_rate)
        self.set_bounds()

    # --- requests -------------------------------------------------------------------------------

    def acquire(self, request: Request, params: LimitAcquireParams) -> bytes | None:
        """Reserve room at once; return the answer, or None where it has to wait, and may.

        What costs money of a cap waits for the disk at least. Nothing has changed then. Raises
        RateLimitedError, NeverPassesError, InvalidParamsError, PermissionDeniedError or BusyError.
        """
        try:
            way = request.origin.limit_ways[params.name]
        except KeyError:
            if params.if_exists and not self._exists(request, params):
                request.came_to = "unlimited"
                return _encode(_absent(params.name))
            way = self._find_way(request, params)
        account = way.account
        if account.reservations >= self._least_bound and (
            len(way.open) >= self._per_connection or account.reservations >= self._per_uid
        ):
            self._waits.arm(self._reservations.make_room(way.holder, request.received_ns))
        # Written out for one request of a limit with one budget: this is the hot path. What is
        # claimed of a budget is claimed by who waits.
        sole = way.sole
        now_ns = request.received_ns
        if (
            way.waiting
            or params.requests != 1
            or params.tokens
            or params.money_micros
            or params.concurrency
            or params.rates is not None
            or (rate := sole.requests) is None
        ):
            return self._acquire(way, request, params)
        # As Gcra.acquire does; where the whole burst is there, one passes.
        if rate.tat_ns <= now_ns:
            rate.tat_ns = now_ns + rate.unit_ns
        else:
            tat_ns = rate.tat_ns + rate.unit_ns
            if tat_ns - now_ns > rate.burst_ns:
                return self._acquire(way, request, params)
            rate.tat_ns = tat_ns
        request.came_to = "granted"
        request.session.reservations += 1
        sole.users += 1
        account.reservations += 1
        reservations = self._reservations
        reservations.number = number = reservations.number + 1
        way.open[number] = way
        return way.answer % _encode(number)

    def _acquire(self, way: Way, request: Request, params: LimitAcquireParams) -> bytes | None:
        """Do what `acquire` does, for whatever it is."""
        named, holder = way.named, way.holder
        budgets = self._budgets(way, request, params)
        micros = params.money_micros if named.is_capped else 0
        if named.is_capped and micros >= 0:
            self._reservations.check_spend(way, budgets, micros)
        cost = _cost_of(params, named)
        if cost.concurrency or named.is_capped:
            self._waits.arm(self._reservations.make_room_for(way, cost, request.received_ns))
        if micros > 0:
            # Told once it is on the disk, see `wait`.
            return None
        try:
            granted = named.limiter.acquire(
                request.received_ns, budgets, cost, key=budgets, holder=way
            )
        except ValueError as error:
            raise refusal_of(named.owned.name, error, named.limiter.currency) from None
        if isinstance(granted, Rejection):
            if params.wait_ms > 0:
                return None
            raise _no_room(named, granted, budgets, request.received_ns)
        number = self._reservations.open(holder, granted)
        request.came_to = "granted"
        request.session.reservations += 1
        return way.answer % _encode(number)

    def wait(
        self, request: Request, params: LimitAcquireParams
    ) -> asyncio.Future[LimitReservation]:
        """Wait for room, behind those who wait for the same; return what is awaited.

        Where that is cancelled, the waiting has ended. Raises what `acquire` does.
        """
        # Found by `acquire`, just now.
        way = request.origin.limit_ways[params.name]
        budgets = self._budgets(way, request, params)
        cost = _cost_of(params, way.named)
        if way.named.is_capped and cost.money_micros > 0:
            future = self._acquire_paid(way, budgets, cost, may_wait=params.wait_ms > 0)
            if future is not None:
                return future
        return self._waits.add(way, budgets, cost, wait_ms=params.wait_ms)

    def _acquire_paid(
        self, way: Way, budgets: tuple[Budget, ...], cost: Cost, *, may_wait: bool
    ) -> asyncio.Future[LimitReservation] | None:
        """Reserve room that costs capped money, to be told of once that is on the disk.

        Return None where it has to wait for room, and may.
        """
        named, holder = way.named, way.holder
        self._reservations.check_spend(way, budgets, cost.money_micros)
        try:
            granted = named.limiter.acquire(self._clock(), budgets, cost, key=budgets, holder=way)
        except ValueError as error:
            raise refusal_of(named.owned.name, error, named.limiter.currency) from None
        if isinstance(granted, Rejection):
            if may_wait:
                return None
            raise _no_room(named, granted, budgets, self._clock())
        future: asyncio.Future[LimitReservation] = asyncio.get_running_loop().create_future()
        future.add_done_callback(tell_grant)
        number = self._reservations.open(holder, granted)
        self._waits.grant(Grant(named, holder, number, 0, future), granted)
        return future

    def settle(self, request: Request, params: LimitSettleParams) -> bytes:
        """Correct a reservation of this connection to what was used; return the answer.

        One that is not open over this connection is not settled, whoever has it. Raises
        InvalidParamsError.
        """
        holder = self._holders.get(request.origin.id)
        if holder is None:
            return _NOT_SETTLED
        held = holder.open.get(params.reservation) or holder.find(params.reservation)
        if held is None:
            return _NOT_SETTLED
        reserved, budgets = (
            (ONE, held.fixed) if isinstance(held, Way) else (held.cost, held.budgets)
        )
        used = used_of(params, reserved)
        request.came_to = "settled"
        now_ns = request.received_ns
        reservations, named = self._reservations, limit_of(held)
        answer = _SETTLED
        if used is not None and is_more(used, reserved):
            answer = self._settle_more(
                named, holder, params.reservation, budgets, now_ns=now_ns, used=used
            )
        else:
            reservations.close(holder, params.reservation, now_ns, used)
        if params.retry_after_ms is not None or params.remaining is not None:
            number = reservations.number
            self._signals.heed(
                named, budgets, params, now_ns=now_ns, number=number, by_uid=holder.account.uid
            )
        if named.waiting:
            self._waits.arm(named)
        return answer

    def connection_closed(self, connection: str) -> None:
        """Settle as reserved what a connection had reserved, and let it wait no longer."""
        holder = self._registry.close_holder(connection)
        if holder is None:
            return
        concerned = dict.fromkeys(self._waits.end_all(holder))
        now_ns = self._clock()
        for number, held in list(holder.all_open()):
            self._reservations.close(holder, number, now_ns, None)
            concerned[limit_of(held)] = None
        for named in concerned:
            self._waits.arm(named)

    @property
    def reservations(self) -> Reservations:
        """What is reserved, and has been."""
        return self._reservations

    @property
    def waiters(self) -> int:
        """How many requests wait."""
        return self._waits.count

    def look_again(self, named: NamedLimit) -> None:
        """Have those who wait for a limit looked at when its budgets have changed."""
        self._reservations.changed()
        named.final_number = self._reservations.number
        self._waits.arm(named)

    def set_bounds(self) -> None:
        """Go by the registry's bounds from now on."""
        self._per_connection = self._registry.bounds.reservations_per_connection
        self._per_uid = self._registry.bounds.reservations_per_uid
        #: Who has less over all connections is below both.
        self._least_bound = min(self._per_connection, self._per_uid)

    def close(self) -> None:
        """Look at nothing more."""
        self._waits.close()

    # --- budgets --------------------------------------------------------------------------------

    def _exists(self, request: Request, params: LimitAcquireParams) -> bool:
        """Return whether there is a limit of that name, or will be, by the rates that are given."""
        return params.rates is not None or self._registry.has(request.origin.peer, params.name)

    def _find_way(self, request: Request, params: LimitAcquireParams) -> Way:
        self._waits.sweep_later()
        return self._registry.find_way(request.origin, params.name, params.rates)

    def _budgets(
        self, way: Way, request: Request, params: LimitAcquireParams
    ) -> tuple[Budget, ...]:
        if params.rates is not None and self._registry.take_rates(way.named, params.rates):
            self.look_again(way.named)
        if not way.varies:
            return way.fixed
        return self._registry.varying_budgets(way, request.session.id, params.key)

    def _settle_more(
        self,
        named: NamedLimit,
        holder: Holder,
        number: int,
        budgets: tuple[Budget, ...],
        *,
        now_ns: int,
        used: Cost,
    ) -> bytes:
        """Settle what used more than was reserved: others are to bear a bounded part of it."""
        uid = holder.account.uid
        before = {rate: rate.tat_ns for budget in budgets for rate in budget.rates().values()}
        micros = self._reservations.close(holder, number, now_ns, used)
        if named.owned.owner is not None:
            for budget in budgets:
                budget.owe_at_most(now_ns, _LONGEST_DEBT_NS)
            return _SETTLED
        units = named.rate_overshoots.bound(
            uid,
            before,
            budgets,
            now_ns,
            longest_ns=self._registry.bounds.longest_block_ns,
            share=named.rules.overshoot_share,
        )
        left_out = LimitOvershoot(
            requests=units.get(Dimension.REQUESTS, 0),
            tokens=units.get(Dimension.TOKENS, 0),
            money_micros=max(micros, units.get(Dimension.MONEY, 0)),
        )
        if left_out == _NOTHING_OVER:
            return _SETTLED
        self._signals.tell_overshoot(named, uid, left_out)
        return _encode(LimitSettlement(settled=True, not_counted=left_out))


def _absent(name: str) -> LimitReservation:
    return LimitReservation(name=name, reservation=0, shared=False, waited_ms=0, absent=True)


def _no_room(
    named: NamedLimit, rejection: Rejection, budgets: tuple[Budget, ...], now_ns: int
) -> RateLimitedError:
    return limited(named.owned.name, rejection, beginning(named, budgets, now_ns))


def _cost_of(params: LimitAcquireParams, named: NamedLimit) -> Cost:
    slots = named.default_slots if params.concurrency is None else params.concurrency
    return _tuple(Cost, (params.requests, params.tokens, params.money_micros, slots))
