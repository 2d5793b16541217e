"""What connections have reserved of limits, until it is settled: kept, closed, and paid for.

Money under a cap is committed before anybody hears of the grant.
"""

from __future__ import annotations

import secrets
from itertools import islice
from typing import Final, cast

from superezio.errors import RateLimitedError, StateNotWritableError
from superezio.resilience.rate_limiter import Budget, Cost, Reservation
from supereziod.observability.events import EventLog
from supereziod.resilience.limit_accounts import Holder, Way
from supereziod.resilience.limit_answers import too_many
from supereziod.resilience.named_limit import NamedLimit
from supereziod.storage import StorageError

NOTHING: Final = Cost(0, 0, 0, 0)
ONE: Final = Cost()
#: So many of the oldest reservations are looked at for one that can be settled to make room.
_LOOKED_AT: Final = 16


class Reservations:
    """The open reservations of all connections. Loop-owned."""

    __slots__ = ("_changed", "_events", "_first", "_written", "number")

    def __init__(self, *, events: EventLog) -> None:
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
        holder.open[number] = reservation
        holder.account.reservations += 1
        return number

    def close(self, holder: Holder, number: int, now_ns: int, used: Cost | None) -> int:
        """Settle an open reservation; return how much of the money some shared cap leaves out."""
        held = holder.open.pop(number)
        holder.account.reservations -= 1
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

    def make_room(self, holder: Holder, now_ns: int) -> NamedLimit:
        """Settle the connection's oldest reservation that keeps no slot; return its limit.

        Most that is reserved and keeps nothing is never settled by its holder. Raises BusyError.
        """
        for number, held in islice(holder.open.items(), _LOOKED_AT):
            if isinstance(held, Way) or not held.cost.concurrency:
                self.close(holder, number, now_ns, None)
                return limit_of(held)
        raise too_many(
            "reservations are open: settle some first",
            "reservations",
            holder.account.reservations,
            wait=True,
        )

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
                    error.message,
                    severity="warning",
                    uid=None if kind in ("host", "group") else way.holder.account.uid,
                    name=named.owned.name,
                    scope=f"{kind} {scope_name}".strip(),
                )
            raise
        if named.spend_overshoots:
            named.check_overshoot(way.holder.account.uid, budgets)

    def spend(self, holder: Holder, number: int, micros: int) -> None:
        """Commit what a new reservation costs, or undo it. Raises StateNotWritableError."""
        reservation = cast("Reservation", holder.open[number])
        named = limit_of(reservation)
        try:
            named.spend(number, reservation.budgets, micros)
        except StorageError as error:
            self.close(holder, number, reservation.taken_ns, NOTHING)
            raise StateNotWritableError(
                f"the limit {named.owned.name} grants nothing that costs money: what is spent"
                f" cannot be recorded ({error})"
            ) from None


def limit_of(held: Reservation | Way) -> NamedLimit:
    """Return the limit that a reservation is of."""
    return held.named if isinstance(held, Way) else cast("Way", held.holder).named
