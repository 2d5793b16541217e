"""Rate limits over several dimensions and scopes at once, with reservations and fair waiting.

A request names the budgets that apply to it (those of its host, its user, its key, ...) and what
it costs. All are checked, then all are charged, in one call: nothing is taken where one rejects.
What was reserved is settled with what was used. One that may wait is queued with a deadline.
What the far side says of its own limits is told to the budget: `Budget.block`, `Budget.lower`.

Everything here is decided at once: there is no clock, no lock and no I/O. Each call is given the
time, in nanoseconds of a monotonic clock that never goes back; `next_at_ns` says when to call
`due`. All money in one limiter is in one currency.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from msgspec import Struct

from superezio.resilience.budget import Budget
from superezio.resilience.gcra import Gcra
from superezio.resilience.limiter_snapshot import BudgetState, Restart, Snapshot, state_of
from superezio.resilience.limits import (
    Cost,
    Dimension,
    Limit,
    LimiterFullError,
    NeverPassesError,
    Rate,
    Rejection,
    Scope,
)
from superezio.resilience.waiting import Waiter, WaitingLines

__all__ = [
    "Budget",
    "Cost",
    "Dimension",
    "Due",
    "Gcra",
    "Limit",
    "LimiterFullError",
    "NeverPassesError",
    "Rate",
    "RateLimiter",
    "Rejection",
    "Reservation",
    "Restart",
    "Scope",
    "Snapshot",
    "Waiter",
]

_RESERVATIONS: Final = 100_000
_WAITERS: Final = 20_000


class Reservation:
    """What a granted request has taken, until it is settled."""

    __slots__ = ("budgets", "cost", "holder", "settled", "taken_ns")

    def __init__(
        self, budgets: tuple[Budget, ...], cost: Cost, holder: Hashable, taken_ns: int
    ) -> None:
        self.budgets = budgets
        self.cost = cost
        self.holder = holder
        self.taken_ns = taken_ns
        self.settled = False


class Due(Struct, kw_only=True):
    """What came of the waiters since the last look, in the order in which it was decided.

    `hopeless` are those that a limit made smaller leaves no chance.
    """

    granted: list[tuple[Waiter, Reservation]]
    late: list[Waiter]
    hopeless: list[tuple[Waiter, NeverPassesError]]


class RateLimiter:
    """The budgets of all scopes, who has reserved of them, and who waits for them."""

    def __init__(
        self,
        *,
        currency: str = "USD",
        max_reservations: int = _RESERVATIONS,
        max_waiters: int = _WAITERS,
        restart: Restart | None = None,
    ) -> None:
        if restart is not None and restart.currency not in {None, currency}:
            raise ValueError(
                f"the snapshot counts money in {restart.currency}, not in {currency}: leave it out"
            )
        self.currency = currency
        self._max_reservations = max_reservations
        self._max_waiters = max_waiters
        self._budgets: dict[Scope, Budget] = {}
        self._restart = restart
        self._open: dict[Hashable, dict[Reservation, None]] = {}
        self._reservations = 0
        self._lines = WaitingLines()
        self._waiting_by_holder: dict[Hashable, dict[Waiter, None]] = {}
        self._next_number = 0
        self._claimed: dict[Budget, None] = {}
        self._look_at_ns: int | None = None
        #: When a limit last changed: what is reserved after that is stamped later, so that it is
        #: told from what was reserved before, in the same instant too.
        self._changed_ns = -1

    # --- budgets -----------------------------------------------------------------------------

    def budget(self, now_ns: int, scope: Scope, limit: Limit) -> Budget:
        """Return the budget of `scope`, under `limit` from now on.

        A new one has its whole burst, or what the restart leaves of it. One that was forgotten,
        or that another process owed, is found again by its scope: budgets are not to be kept
        beyond the requests that they are named in.
        """
        budget = self._budgets.get(scope)
        if budget is None:
            budget = self._budgets[scope] = Budget(scope, limit)
            if self._restart is not None:
                self._restart.apply(budget, now_ns)
        elif budget.limit != limit:
            budget.reconfigure(self._change(now_ns), limit)
            self._look_again(now_ns)
        return budget

    def budgets(self) -> list[Budget]:
        """Return all there are."""
        return list(self._budgets.values())

    def not_applied(self) -> list[BudgetState]:
        """Return what a restart left owed by scopes that were not asked for yet."""
        return [] if self._restart is None else self._restart.not_applied()

    @property
    def empty_at_ns(self) -> int | None:
        """When rates that a restart knew nothing of had nothing; None where all was known."""
        return None if self._restart is None else self._restart.empty_at_ns

    def forget_idle(self, now_ns: int, *, at_most: int | None = None) -> list[Scope]:
        """Forget the budgets that have all their burst and that nobody uses; return whose.

        With `at_most`, so many are looked at, in turns.
        """
        forgotten = []
        for scope in list(islice(self._budgets, at_most)):
            budget = self._budgets.pop(scope)
            if budget.is_idle(now_ns):
                forgotten.append(scope)
            else:
                self._budgets[scope] = budget
        return forgotten

    def has_budget(self, scope: Scope) -> bool:
        """Whether there is a budget of a scope."""
        return scope in self._budgets

    @property
    def budget_count(self) -> int:
        """How many budgets there are."""
        return len(self._budgets)

    def clear(self, now_ns: int, scopes: Container[Scope] | None = None) -> int:
        """Have all of the budgets of `scopes` there (of all of them, if None); return how many.

        Who holds a slot keeps it, and what a restart left owed is not owed any more.
        """
        cleared = [
            each for each in self._budgets.values() if scopes is None or each.scope in scopes
        ]
        changed_ns = self._change(now_ns)
        for budget in cleared:
            budget.clear(changed_ns)
        if scopes is None:
            self._restart = None
        self._look_again(now_ns)
        return len(cleared)

    def snapshot(self, now_ns: int, *, boot_id: str, final: bool = False) -> Snapshot:
        """Return what is owed, for a limiter after a restart; `final` where it grants no more."""
        states = [state_of(each) for each in self._budgets.values() if not each.is_idle(now_ns)]
        restart = self._restart
        return Snapshot(
            boot_id=boot_id,
            taken_ns=now_ns,
            final=final,
            currency=self.currency,
            budgets=[*states, *(restart.not_applied() if restart else ())],
            empty_at_ns=restart.empty_at_ns if restart else None,
        )

    # --- requests ----------------------------------------------------------------------------

    def acquire(
        self,
        now_ns: int,
        budgets: Sequence[Budget],
        cost: Cost,
        *,
        key: Hashable = None,
        holder: Hashable = None,
    ) -> Reservation | Rejection:
        """Reserve `cost` of all `budgets`, or take nothing and say what is short.

        Each budget is named once. Where others wait under `key`, a newcomer does not pass them.
        `holder` is who has to be named to `drop`. Raises NeverPassesError where waiting is
        pointless, ValueError for a negative cost, LimiterFullError.
        """
        if min(cost) < 0:
            raise ValueError(f"a cost is not negative: {cost}")
        if self._lines and (head := self._lines.head(key)) is not None:
            return self._behind(now_ns, budgets, cost, head)
        for budget in budgets:
            if not budget.admits(now_ns, cost):
                shortage = _shortage(now_ns, budgets, cost)
                if shortage is not None:
                    return shortage
                break
        return self._reserve(now_ns, tuple(budgets), cost, holder)

    def settle(self, now_ns: int, reservation: Reservation, actual: Cost | None = None) -> bool:
        """Correct a reservation to what was used (as reserved, if None) and free its slots.

        What was used may be more than was reserved, and more than the burst. Return whether it
        was open: to settle it again changes nothing.
        """
        if actual is not None and min(actual) < 0:
            raise ValueError(f"a cost is not negative: {actual}")
        if reservation.settled:
            return False
        reservation.settled = True
        held = self._open[reservation.holder]
        del held[reservation]
        if not held:
            del self._open[reservation.holder]
        self._reservations -= 1
        cost = reservation.cost
        used = actual or cost
        # Where none could be granted for their number, one can be now.
        helps = self._reservations + 1 == self._max_reservations
        for budget in reservation.budgets:
            budget.users -= 1
            budget.settle(now_ns, cost, used, taken_ns=reservation.taken_ns)
            if budget.claims and budget.is_short_of(cost, used):
                helps = True
        if helps and self._lines:
            self._look_again(now_ns)
        return True

    def drop(self, now_ns: int, holder: Hashable) -> tuple[int, int]:
        """Settle all that a holder who is gone had reserved, and let it wait no longer.

        What it used is not known, so what it reserved counts as used. Return how many
        reservations and waiters there were.
        """
        reservations = list(self._open.get(holder, ()))
        for reservation in reservations:
            self.settle(now_ns, reservation)
        waiters = list(self._waiting_by_holder.get(holder, ()))
        for waiter in waiters:
            self.cancel(now_ns, waiter)
        return len(reservations), len(waiters)

    @property
    def reservations(self) -> int:
        """How many are open."""
        return self._reservations

    # --- waiting ---------------------------------------------------------------------------------

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._lines)

    @property
    def next_at_ns(self) -> int | None:
        """When to call `due` next; None where nobody waits. Every call here may change it."""
        deadline_ns = self._lines.next_deadline_ns()
        if deadline_ns is None or self._look_at_ns is None:
            return deadline_ns
        return min(deadline_ns, self._look_at_ns)

    def enqueue(
        self,
        now_ns: int,
        budgets: Sequence[Budget],
        cost: Cost,
        *,
        key: Hashable,
        holder: Hashable = None,
        deadline_ns: int,
    ) -> Waiter:
        """Wait for `cost` of all `budgets` until the deadline, behind those who wait under `key`.

        Raises what `acquire` does.
        """
        if min(cost) < 0:
            raise ValueError(f"a cost is not negative: {cost}")
        if len(self._lines) >= self._max_waiters:
            raise LimiterFullError(f"{self._max_waiters} requests wait already")
        shortage = _shortage(now_ns, budgets, cost)
        waiter = Waiter(
            number=self._next_number,
            key=key,
            budgets=tuple(budgets),
            cost=cost,
            holder=holder,
            deadline_ns=deadline_ns,
        )
        self._next_number += 1
        for budget in waiter.budgets:
            budget.users += 1
        self._waiting_by_holder.setdefault(holder, {})[waiter] = None
        if self._lines.add(waiter):
            if shortage is None:
                self._look_again(now_ns)
            else:
                self._keep_for(now_ns, waiter, shortage)
        return waiter

    def cancel(self, now_ns: int, waiter: Waiter) -> bool:
        """Let `waiter` wait no longer; return whether it did."""
        if waiter not in self._lines:
            return False
        # Whoever is behind another of its key has nothing kept for it.
        is_first = self._lines.head(waiter.key) is waiter
        self._lines.remove(waiter)
        self._gone(waiter)
        if is_first:
            self._look_again(now_ns)
        return True

    def due(self, now_ns: int) -> Due:
        """Grant what can be granted now, and take out who has waited until the deadline.

        The order is that of arrival, under each key strictly; under different keys one passes
        another only where it takes nothing that the other is short of (see `Budget.claim`).
        """
        due = Due(granted=[], late=self._lines.pop_late(now_ns), hopeless=[])
        for waiter in due.late:
            self._gone(waiter)
        if due.late:
            self._look_again(now_ns)
        if self._look_at_ns is not None and self._look_at_ns <= now_ns:
            self._look(now_ns, due)
        return due

    def _look(self, now_ns: int, due: Due) -> None:
        self._look_at_ns = None
        self._end_claims()
        heads = [(waiter.number, waiter) for waiter in self._lines.heads()]
        heapify(heads)
        while heads:
            _, waiter = heappop(heads)
            if not self._try(now_ns, waiter, due):
                continue
            self._lines.remove(waiter)
            self._gone(waiter)
            follower = self._lines.head(waiter.key)
            if follower is not None:
                heappush(heads, (follower.number, follower))

    def _try(self, now_ns: int, waiter: Waiter, due: Due) -> bool:
        """Grant a waiter that is the first of its key; return whether it is done waiting."""
        try:
            shortage = _shortage(now_ns, waiter.budgets, waiter.cost)
        except NeverPassesError as error:
            due.hopeless.append((waiter, error))
            return True
        if shortage is not None:
            self._keep_for(now_ns, waiter, shortage)
            return False
        if self._reservations >= self._max_reservations:
            return False
        reservation = self._reserve(now_ns, waiter.budgets, waiter.cost, waiter.holder)
        due.granted.append((waiter, reservation))
        return True

    def _keep_for(self, now_ns: int, waiter: Waiter, shortage: Rejection) -> None:
        waiter.shortage = shortage
        look_ns = shortage.retry_after_ns
        for budget in waiter.budgets:
            look_ns = min(look_ns, budget.claim(now_ns, waiter.cost, shortage.retry_after_ns))
            self._claimed[budget] = None
        self._look_again(now_ns + look_ns)

    def _behind(
        self, now_ns: int, budgets: Sequence[Budget], cost: Cost, head: Waiter
    ) -> Rejection:
        """Reject a newcomer that others of its key are before."""
        shortage = _shortage(now_ns, budgets, cost) or head.shortage
        if shortage is not None:
            return shortage
        # The one before it has not been looked at yet.
        scope = budgets[0].scope if budgets else Scope("host")
        return Rejection(dimension=Dimension.REQUESTS, scope=scope, retry_after_ns=1)

    def _change(self, now_ns: int) -> int:
        self._changed_ns = max(now_ns, self._changed_ns + 1)
        return self._changed_ns

    def _look_again(self, at_ns: int) -> None:
        if self._look_at_ns is None or at_ns < self._look_at_ns:
            self._look_at_ns = at_ns

    def _gone(self, waiter: Waiter) -> None:
        for budget in waiter.budgets:
            budget.users -= 1
        waiting = self._waiting_by_holder[waiter.holder]
        del waiting[waiter]
        if not waiting:
            del self._waiting_by_holder[waiter.holder]
        if not self._lines:
            self._end_claims()

    def _end_claims(self) -> None:
        for budget in self._claimed:
            budget.claims.clear()
        self._claimed.clear()

    def _reserve(
        self, now_ns: int, budgets: tuple[Budget, ...], cost: Cost, holder: Hashable
    ) -> Reservation:
        if self._reservations >= self._max_reservations:
            raise LimiterFullError(f"{self._max_reservations} reservations are open already")
        taken_ns = now_ns if now_ns > self._changed_ns else self._changed_ns + 1
        reservation = Reservation(budgets, cost, holder, taken_ns)
        for budget in budgets:
            budget.users += 1
            budget.take(now_ns, cost)
        self._reservations += 1
        held = self._open.get(holder)
        if held is None:
            held = self._open[holder] = {}
        held[reservation] = None
        return reservation


def _shortage(now_ns: int, budgets: Sequence[Budget], cost: Cost) -> Rejection | None:
    """Return the longest wait of all budgets, None where there is none."""
    longest: Rejection | None = None
    for budget in budgets:
        shortage = budget.shortage(now_ns, cost)
        if shortage is not None and (
            longest is None or shortage.retry_after_ns > longest.retry_after_ns
        ):
            longest = shortage
    return longest
