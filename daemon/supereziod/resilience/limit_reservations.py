"""What connections have reserved of limits, until it is settled: kept, closed, and paid for.

Money under a cap is committed before anybody hears of the grant.
"""

from __future__ import annotations

import secrets
from typing import Final, cast

from superezio.errors import RateLimitedError
from superezio.resilience.rate_limiter import Budget, Cost, Reservation, Scope
from supereziod.observability.events import EventLog
from supereziod.resilience.limit_accounts import Holder, Way
from supereziod.resilience.limit_answers import slots_are_kept, spent_words
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.named_limit import NamedLimit

NOTHING: Final = Cost(0, 0, 0, 0)
ONE: Final = Cost()


class Reservations:
    """The open reservations of all connections. Loop-owned."""

    __slots__ = (
        "_changed", "_events", "_first", "_registry", "_written", "number",
    )  # fmt: skip

    def __init__(self, registry: LimitRegistry, *, events: EventLog) -> None:
        self._registry = registry
        self._events = events
        # Another range in each life of the daemon, and all of it exact in any reader's numbers.
        self._first = (secrets.randbelow((1 << 20) - 1) + 1) << 32
        #: The number of the last one: whoever opens one counts it up.
        self.number = self._first
        self._written = self._first
        self._changed = True

    @property
    def granted(self) -> int:
        """How many there have been."""
        return self.number - self._first

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to be written down."""
        return self._changed or self.number != self._written

    def changed(self) -> None:
        """Have something to be written down."""
        self._changed = True

    def written(self) -> None:
        """Have nothing to be written down that is known now."""
        self._changed = False
        self._written = self.number

    def open(self, holder: Holder, reservation: Reservation) -> int:
        """Keep a reservation; return its number."""
        self.number = number = self.number + 1
        if reservation.cost.concurrency:
            holder.slots[number] = reservation
            holder.account.slot_reservations += 1
        else:
            kept = holder.priced if limit_of(reservation).is_capped else holder.open
            kept[number] = reservation
            holder.account.reservations += 1
        return number

    def close(self, holder: Holder, number: int, now_ns: int, used: Cost | None) -> int:
        """Settle an open reservation; return how much of the money some shared cap leaves out."""
        held = _pop(holder, number)
        self._changed = True
        if isinstance(held, Way):
            named = held.named
            (budget,) = held.fixed
            budget.users -= 1
            if used is not None:
                final = max(named.final_number, named.final_by_scope.get(budget.scope, 0))
                taken_ns = now_ns if number > final else -1
                budget.settle(now_ns, ONE, used, taken_ns=taken_ns)
                if named.is_capped:
                    uid = holder.account.uid
                    return named.settle_spend(uid, number, held.fixed, used.money_micros)
            return 0
        named = limit_of(held)
        named.limiter.settle(now_ns, held, used)
        if named.is_capped or named.spends:
            micros = None if used is None else used.money_micros
            return named.settle_spend(holder.account.uid, number, held.budgets, micros)
        return 0

    def make_room(self, holder: Holder, now_ns: int) -> NamedLimit | None:
        """Settle as reserved the oldest that keeps no slot; return its limit.

        Most that is reserved and keeps nothing is never settled by its holder. It is one of the
        connection where that has as many as it may, else one of its user. What is capped money
        goes last: it may cost more than was reserved, or less.
        """
        account = holder.account
        if len(holder.open) >= self._registry.bounds.reservations_per_connection:
            oldest = holder.oldest_open.take((holder,))
        else:
            holders = account.holders
            oldest = account.oldest_open.take(holders) or account.oldest_priced.take(holders)
        return self._settle_oldest(oldest, now_ns)

    def make_room_for(self, way: Way, cost: Cost, now_ns: int) -> NamedLimit | None:
        """Do the same for what keeps a slot or capped money; return the limit, if there is one.

        Nothing that keeps a slot is ended: raises BusyError where there is no room for another.
        """
        holder, bounds = way.holder, self._registry.bounds
        if cost.concurrency > 0:
            count = holder.account.slot_reservations
            if len(holder.slots) >= bounds.slot_reservations_per_connection:
                raise slots_are_kept("slot_reservations_per_connection", len(holder.slots))
            if count >= bounds.slot_reservations_per_uid:
                raise slots_are_kept("slot_reservations_per_uid", count)
        elif (
            way.named.is_capped
            and len(holder.priced) >= self._registry.bounds.reservations_per_connection
        ):
            return self._settle_oldest(holder.oldest_priced.take((holder,)), now_ns)
        return None

    def _settle_oldest(self, oldest: tuple[int, Holder] | None, now_ns: int) -> NamedLimit | None:
        if oldest is None:
            return None
        number, holder = oldest
        named = limit_of(holder.open.get(number) or holder.priced[number])
        self.close(holder, number, now_ns, None)
        return named

    # --- money ----------------------------------------------------------------------------------

    def check_spend(self, way: Way, budgets: tuple[Budget, ...], micros: int) -> None:
        """Raise where a cap leaves no room: RateLimitedError, NeverPassesError."""
        named = way.named
        try:
            named.check_spend(budgets, micros)
        except RateLimitedError as error:
            if named.tell_once(error):
                kind, scope_name = error.data["scope"], error.data["scope_name"]
                self._events.emit(
                    "limit.spent",
                    spent_words(error, Scope(kind, scope_name), named.limiter.currency),
                    severity="warning",
                    uid=None if kind in ("host", "group") else way.holder.account.uid,
                    name=named.owned.name,
                    scope=f"{kind} {scope_name}".strip(),
                )
            raise
        if named.spend_overshoots:
            named.check_overshoot(way.holder.account.uid, budgets)


def limit_of(held: Reservation | Way) -> NamedLimit:
    """Return the limit that a reservation is of."""
    return held.named if isinstance(held, Way) else cast("Way", held.holder).named


def _pop(holder: Holder, number: int) -> Reservation | Way:
    held = holder.open.pop(number, None) or holder.priced.pop(number, None)
    if held is not None:
        holder.account.reservations -= 1
        return held
    holder.account.slot_reservations -= 1
    return holder.slots.pop(number)
