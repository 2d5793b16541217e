"""One limit by its name: its limiter, the budgets of its scopes, and what they have spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from superezio.errors import RateLimitedError
from superezio.resilience.rate_limiter import (
    Budget,
    Limit,
    RateLimiter,
    Restart,
    Scope,
    Waiter,
)
from superezio.resilience.spend_cap import OverCapError, Spend, SpendCap, Window
from superezio.wire import LimitRates, LimitReservation
from supereziod.resilience.limit_accounts import Account, Way
from supereziod.resilience.limit_answers import over_cap, over_whole_cap, overshot
from supereziod.resilience.limit_memory import Unknown
from supereziod.resilience.limit_rules import SCOPE_KINDS, LimitRules
from supereziod.resilience.overshoot import RateOvershoots, SpendOvershoots, is_shared
from supereziod.resilience.sharing import Owned
from supereziod.resilience.spend import Row, SpendBook

#: The service bounds them, over all limits.
_NO_BOUND: Final = 1 << 62
_TOLD_AT_MOST: Final = 1000


class Waiting(NamedTuple):
    """Who waits, since when, and where it is told."""

    way: Way
    since_ns: int
    future: asyncio.Future[LimitReservation]


class NamedLimit:
    """A limiter under a name. Loop-owned; whatever it has decided is for the service to tell."""

    def __init__(
        self,
        owned: Owned,
        rules: LimitRules,
        *,
        book: SpendBook,
        currency: str,
        rates: LimitRates | None = None,
        restart: Restart | None = None,
        unknown: Unknown | None = None,
    ) -> None:
        self.owned = owned
        #: Why it is not known what was granted before, where that is so.
        self.unknown = unknown
        self.limiter = RateLimiter(
            currency=currency,
            max_reservations=_NO_BOUND,
            max_waiters=_NO_BOUND,
            restart=restart,
        )
        #: Of a private limit, as its user gave them.
        self.rates = rates
        self.waiting: dict[Waiter, Waiting] = {}
        #: Reservations up to this number are given nothing back: they count elsewhere, or at
        #: another rate.
        self.final_number = 0
        self.final_by_scope: dict[Scope, int] = {}
        #: When it was last seen in use.
        self.used_ns = 0
        #: What open reservations have spent of capped money, by their number.
        self.spends: dict[int, list[tuple[Scope, Spend]]] = {}
        #: Sessions and keys that have a budget or a cap, and who asked for them first.
        self.claimed: dict[Scope, Account | None] = {}
        self._book = book
        self._caps: dict[Scope, SpendCap] = {}
        self.rate_overshoots = RateOvershoots()
        self.spend_overshoots = SpendOvershoots(owned.name, book)
        self._told: set[tuple[str, ...]] = set()
        self.set_rules(rules)
        shared = b"true" if owned.owner is None else b"false"
        #: The answer of a grant at once, with room for its number.
        self.answer = (
            b'{"name":"%b","reservation":%%b,"shared":%b,"waited_ms":0,"absent":false}'
            % (owned.name.encode("ascii"), shared)
        )

    def set_rules(self, rules: LimitRules) -> None:
        """Go by other rules from now on."""
        self.rules = rules
        self.varies = not rules.scopes.keys().isdisjoint(("session", "key"))
        has_slots = any(each.limit.concurrency is not None for each in rules.scopes.values())
        #: What a request takes that does not say.
        self.default_slots = 1 if has_slots else 0
        self.is_capped = any(each.caps_micros for each in rules.scopes.values())
        for scope, cap in self._caps.items():
            of_kind = rules.scopes.get(scope.kind)
            caps = of_kind.caps_micros if of_kind is not None else {}
            self._caps[scope] = SpendCap(caps, cap.state())

    def apply_rules(self, now_ns: int) -> None:
        """Let the budgets that are there go by the rules."""
        for budget in self.limiter.budgets():
            rules = self.rules.scopes.get(budget.scope.kind)
            self.limiter.budget(now_ns, budget.scope, rules.limit if rules else Limit())

    def budget(self, now_ns: int, scope: Scope) -> Budget:
        """Return the budget of a scope that the rules have."""
        return self.limiter.budget(now_ns, scope, self.rules.scopes[scope.kind].limit)

    def fixed_scopes(self, uid: int, groups: Iterable[str]) -> Iterator[Scope]:
        """Yield the scopes of a user that do not depend on the request, the widest first."""
        names: dict[str, Iterable[str]] = {"host": ("",), "group": groups, "user": (str(uid),)}
        for kind in SCOPE_KINDS:
            if kind in self.rules.scopes:
                yield from (Scope(kind, name) for name in names.get(kind, ()))

    def varying_scopes(self, session: str, key: str | None) -> Iterator[Scope]:
        """Yield the scopes of one request. Those who name no key share one."""
        if "session" in self.rules.scopes:
            yield Scope("session", session)
        if "key" in self.rules.scopes:
            yield Scope("key", key or "")

    def scopes_of(self, uid: int) -> list[Scope]:
        """Return those that are one user's: its own, and the keys and sessions it asked for."""
        user = [Scope("user", str(uid))] if "user" in self.rules.scopes else []
        claimed = (s for s, who in self.claimed.items() if who is not None and who.uid == uid)
        return [*user, *claimed]

    def groups_of(self, gids: frozenset[int]) -> tuple[str, ...]:
        """Return those of the groups with a budget that somebody is in."""
        return tuple(name for gid, name in self.rules.group_names.items() if gid in gids)

    @property
    def size(self) -> int:
        """How many budgets, or keys and sessions that have one, it consists of."""
        return max(self.limiter.budget_count, len(self.claimed))

    def reservations(self) -> int:
        """Return how many are open."""
        kinds = [kind for kind in SCOPE_KINDS if kind in self.rules.scopes]
        users = sum(b.users for b in self.limiter.budgets() if b.scope.kind == kinds[0])
        return max(0, users - len(self.waiting))

    def is_idle(self, now_ns: int) -> bool:
        """Whether nobody uses it and nothing is owed."""
        return not self.waiting and all(each.is_idle(now_ns) for each in self.limiter.budgets())

    # --- money ----------------------------------------------------------------------------------

    def check_spend(self, budgets: Iterable[Budget], micros: int) -> None:
        """Raise where a cap leaves no room: RateLimitedError, NeverPassesError."""
        calendar = self._book.calendar
        keys = calendar.keys()
        worst: RateLimitedError | None = None
        for budget in budgets:
            cap = self.cap(budget.scope)
            if cap is None:
                continue
            try:
                kind = cap.may_spend(keys, micros)
            except OverCapError:
                caps = self.rules.scopes[budget.scope.kind].caps_micros
                raise over_whole_cap(
                    self.owned.name,
                    budget.scope,
                    cost=micros,
                    cap=min(caps.values()),
                    currency=self.limiter.currency,
                ) from None
            if kind is not None:
                window = cap.state()[kind]
                most = self.rules.scopes[budget.scope.kind].caps_micros[kind]
                error = over_cap(
                    self.owned.name,
                    budget.scope,
                    kind,
                    left_ms=calendar.left_ms(kind, window.key),
                    left_micros=most - window.spent_micros,
                    currency=self.limiter.currency,
                )
                if worst is None or (error.retry_after_ms or 0) > (worst.retry_after_ms or 0):
                    worst = error
        if worst is not None:
            raise worst

    def check_overshoot(self, uid: int, budgets: Iterable[Budget]) -> None:
        """Raise RateLimitedError for who has overshot a cap by more than a share of it."""
        for budget in budgets:
            rules = self.rules.scopes[budget.scope.kind]
            over = self.spend_overshoots.over(
                uid, budget.scope, rules.caps_micros, self.rules.overshoot_share
            )
            if over is not None:
                calendar = self._book.calendar
                kind, micros = over
                raise overshot(
                    self.owned.name,
                    budget.scope,
                    kind,
                    left_ms=calendar.left_ms(kind, calendar.keys()[kind]),
                    micros=micros,
                    currency=self.limiter.currency,
                )

    def spend(self, number: int, budgets: Iterable[Budget], micros: int) -> None:
        """Spend what a reservation costs: to be committed before anybody is told."""
        keys = self._book.calendar.keys()
        self.spends[number] = [
            (budget.scope, cap.spend(keys, micros))
            for budget in budgets
            if (cap := self.cap(budget.scope)) is not None
        ]

    def rows_of(self, number: int) -> list[Row]:
        """Return what is to be committed before a reservation is told of."""
        return self._rows(scope for scope, _ in self.spends.get(number, ()))

    def settle_spend(
        self, uid: int, number: int, budgets: Iterable[Budget], micros: int | None
    ) -> int:
        """Correct what was spent to `micros` (as reserved, if None), and commit it.

        Where nothing of it was reserved, all of it counts now; of what is more than was reserved
        no more than the user's share, in a cap that others have too. Return how much does not
        count in some cap.
        """
        spends = self.spends.pop(number, None)
        if micros is None:
            return 0
        if spends is None:
            spends = self._not_reserved(budgets)
        changed = [(scope, spend) for scope, spend in spends if spend.micros != micros]
        rows: list[Row] = []
        left_out = 0
        for scope, spend in changed:
            more = micros - spend.micros
            counts = self._count(uid, scope, more) if more > 0 and is_shared(scope) else None
            # In the window that is now, though nothing may have been spent in it yet.
            self._caps[scope].spend(self._book.calendar.keys(), 0)
            self._caps[scope].settle(spend, micros, more_counts=counts)
            if counts is not None:
                left_out = max(left_out, more - min(counts.values()))
                rows.extend(self.spend_overshoots.rows(uid, scope))
        if changed:
            self._book.owe([*self._rows(scope for scope, _ in changed), *rows])
        return left_out

    def _count(self, uid: int, scope: Scope, micros: int) -> dict[str, int]:
        of_kind = self.rules.scopes.get(scope.kind)
        caps = of_kind.caps_micros if of_kind is not None else {}
        return self.spend_overshoots.add(uid, scope, micros, caps, self.rules.overshoot_share)

    def _not_reserved(self, budgets: Iterable[Budget]) -> list[tuple[Scope, Spend]]:
        keys = self._book.calendar.keys()
        return [
            (budget.scope, cap.spend(keys, 0))
            for budget in budgets
            if (cap := self.cap(budget.scope)) is not None
        ]

    def cap(self, scope: Scope) -> SpendCap | None:
        """Return what a scope may spend, None where that is not capped."""
        rules = self.rules.scopes.get(scope.kind)
        if rules is None or not rules.caps_micros:
            return None
        cap = self._caps.get(scope)
        if cap is None:
            cap = self._book.cap(self.owned.name, scope, rules.caps_micros)
            self._caps[scope] = cap
        return cap

    def forget_spend(self, scopes: Iterable[Scope] | None, *, uid: int | None = None) -> None:
        """Take it that nothing was spent of `scopes`, or of any, in the windows that are now.

        With `uid`, they are one user's; what it overshot of any is forgiven.
        """
        keys = self._book.calendar.keys()
        if scopes is not None:
            chosen = list(scopes)
        else:
            chosen = list({*self._caps, *self._book.scopes(self.owned.name)})
            self._book.forgive(self.owned.name)
        for scope in chosen:
            rules = self.rules.scopes.get(scope.kind)
            if rules is not None and rules.caps_micros:
                empty = {kind: Window(key, 0) for kind, key in keys.items()}
                self._caps[scope] = SpendCap(rules.caps_micros, empty)
        for number, spends in self.spends.items():
            self.spends[number] = [each for each in spends if each[0] not in set(chosen)]
        forgiven = self.spend_overshoots.forgive(uid, scopes if uid is None else None)
        rows = self._rows(scope for scope in chosen if scope in self._caps)
        self._book.owe([*rows, *forgiven])

    def tell_once(self, error: RateLimitedError) -> bool:
        """Return whether a cap that is reached was not told of yet in its window."""
        keys = self._book.calendar.keys()
        told = (str(error.data["scope"]), str(error.data["scope_name"]), *keys.values())
        if told in self._told:
            return False
        if len(self._told) >= _TOLD_AT_MOST:
            self._told.clear()
        self._told.add(told)
        return True

    def has_spent(self, scope: Scope) -> bool:
        """Whether forgetting a scope would forget what it has spent in a window that is now."""
        cap = self._caps.get(scope)
        if cap is None:
            return False
        keys = self._book.calendar.keys()
        return any(cap.spent(kind, key) for kind, key in keys.items())

    def forget_idle(self, now_ns: int, *, at_most: int) -> bool:
        """Forget budgets that are there again in full and unused; return whether any was."""
        forgotten = self.limiter.forget_idle(now_ns, at_most=at_most)
        for scope in forgotten:
            # Nothing that was reserved of it is open.
            self.final_by_scope.pop(scope, None)
        if self.limiter.budget_count:
            self.used_ns = now_ns
        return bool(forgotten)

    def forget_scope(self, scope: Scope) -> None:
        """Forget the cap of a scope that has spent nothing."""
        self._caps.pop(scope, None)

    def _rows(self, scopes: Iterable[Scope]) -> list[Row]:
        return [
            (self.owned.name, scope, kind, window)
            for scope in scopes
            for kind, window in self._caps[scope].state().items()
        ]
