"""Who fetches the value of a key, and who waits for it: one leader a key, the others in line."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from superezio.resilience.cache_answers import (
    Failed,
    Filled,
    Holder,
    Lead,
    Outcome,
    Stale,
    TimedOut,
    Token,
)
from superezio.resilience.cache_counters import Counters
from superezio.resilience.cache_limits import Limits
from superezio.resilience.deadlines import Deadlines
from superezio.resilience.invalidations import Invalidations


class Pending:
    """The fills of one namespace by their keys, and what was invalidated while they ran."""

    __slots__ = ("counters", "fills", "invalidations", "name", "waiting")

    def __init__(self, name: str, counters: Counters) -> None:
        self.name = name
        self.counters = counters
        self.fills: dict[str, Fill] = {}
        self.invalidations = Invalidations()
        self.waiting = 0


class Waiter:
    """One call that waits for a fill, and for how long it would lead if its turn came."""

    __slots__ = ("deadline_ns", "fill", "generation", "holder", "lead_ns", "number")

    def __init__(
        self, fill: Fill, holder: Holder, *, generation: int, lead_ns: int, deadline_ns: int
    ) -> None:
        self.fill = fill
        self.holder = holder
        self.generation = generation
        self.lead_ns = lead_ns
        self.deadline_ns = deadline_ns
        self.number = 0


class Fill:
    """A key that is being fetched: by one leader, for those that wait, first come first."""

    __slots__ = ("holder", "key", "number", "pending", "token", "waiters")

    def __init__(self, pending: Pending, key: str) -> None:
        self.pending = pending
        self.key = key
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()
        self.holder: Holder = None
        self.token = Token(pending.name, key, generation=0, deadline_ns=0)
        self.number = 0


class _Held:
    """What one holder leads and what it waits for."""

    __slots__ = ("leads", "waits")

    def __init__(self) -> None:
        self.leads: dict[Fill, None] = {}
        self.waits: dict[int, Waiter] = {}


class Fills:
    """The fills of all namespaces. While anybody waits for a key, somebody leads it.

    The generation is one number for all keys. It grows with every token and every invalidation,
    so that a token, an invalidation and a waiter always tell which of them came first.
    """

    def __init__(self, limits: Limits, user_of: Callable[[Holder], Hashable]) -> None:
        self.generation = 0
        self._max_fills = limits.max_fills
        self._max_leads = limits.max_leads_per_holder
        self._max_leads_per_user = limits.max_leads_per_user
        self._user_of = user_of
        self._users: Counter[Hashable] = Counter()
        self._leads: Deadlines[Fill] = Deadlines()
        self._waits: Deadlines[Waiter] = Deadlines()
        self._held: dict[Holder, _Held] = {}

    def __len__(self) -> int:
        return len(self._leads)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waits)

    def advance(self) -> int:
        """Begin a generation and return it."""
        self.generation += 1
        return self.generation

    def may_lead(self, holder: Holder) -> bool:
        """Whether there is room for one more fill, one of that holder, and one of its user."""
        held = self._held.get(holder)
        return (
            len(self._leads) < self._max_fills
            and (held is None or len(held.leads) < self._max_leads)
            and self._users[self._user_of(holder)] < self._max_leads_per_user
        )

    def begin(
        self, pending: Pending, key: str, holder: Holder, *, lead_ns: int, now_ns: int
    ) -> Token:
        """Let `holder` fill a key that nobody fills."""
        fill = pending.fills[key] = Fill(pending, key)
        return self._appoint(fill, holder, now_ns + lead_ns)

    def take_over(self, fill: Fill, holder: Holder, *, lead_ns: int, now_ns: int) -> Token:
        """Let `holder` lead in place of the one that is too late, for whom nobody waits."""
        self._dismiss(fill)
        return self._appoint(fill, holder, now_ns + lead_ns)

    def join(self, fill: Fill, holder: Holder, *, lead_ns: int, deadline_ns: int) -> int:
        """Let `holder` wait until its deadline, and return the waiter's number."""
        waiter = Waiter(
            fill, holder, generation=self.generation, lead_ns=lead_ns, deadline_ns=deadline_ns
        )
        waiter.number = self._waits.add(deadline_ns, waiter)
        fill.waiters[waiter.number] = waiter
        fill.pending.waiting += 1
        self._of(holder).waits[waiter.number] = waiter
        return waiter.number

    def leave(self, number: int) -> None:
        """Let a waiter go without an answer, if it still waits."""
        waiter = self._waits.get(number)
        if waiter is not None:
            self._leave(waiter)

    def answer(
        self,
        fill: Fill,
        answer: Filled | Stale | Failed,
        now_ns: int,
        *,
        before: int | None = None,
    ) -> list[Outcome]:
        """Answer all that wait, or only those that came before that generation."""
        outcomes = []
        while (waiter := _first(fill)) and (before is None or waiter.generation < before):
            self._leave(waiter)
            if waiter.deadline_ns <= now_ns:
                outcomes.append(_time_out(waiter))
            else:
                outcomes.append(Outcome(waiter.number, waiter.holder, answer))
        return outcomes

    def pass_on(self, fill: Fill, now_ns: int) -> list[Outcome]:
        """Let the first that waits lead, and the rest wait on; end the fill where nobody does."""
        outcomes: list[Outcome] = []
        self._dismiss(fill)
        while waiter := _first(fill):
            self._leave(waiter)
            if waiter.deadline_ns > now_ns:
                token = self._appoint(fill, waiter.holder, now_ns + waiter.lead_ns)
                fill.pending.counters.passed_on += 1
                return [*outcomes, Outcome(waiter.number, waiter.holder, Lead(token))]
            outcomes.append(_time_out(waiter))
        pending = fill.pending
        del pending.fills[fill.key]
        if not pending.fills:
            pending.invalidations.forget()
        return outcomes

    def drop(self, holder: Holder, now_ns: int) -> list[Outcome]:
        """Forget all that a holder waits for, then pass on all that it leads."""
        held = self._held.get(holder)
        if held is None:
            return []
        for waiter in list(held.waits.values()):
            self._leave(waiter)
        outcomes: list[Outcome] = []
        for fill in list(held.leads):
            outcomes += self.pass_on(fill, now_ns)
        return outcomes

    def expire(self, now_ns: int) -> list[Outcome]:
        """Answer the waiters whose deadlines have come, then replace the leaders that are late."""
        outcomes: list[Outcome] = []
        while (waiter := self._waits.pop_due(now_ns)) is not None:
            self._leave(waiter)
            outcomes.append(_time_out(waiter))
        while (fill := self._leads.pop_due(now_ns)) is not None:
            outcomes += self.pass_on(fill, now_ns)
        return outcomes

    def next_deadline_ns(self) -> int | None:
        """Return when a leader is late or a waiter has waited enough, whichever is first."""
        nexts = [at for at in (self._leads.next_ns(), self._waits.next_ns()) if at is not None]
        return min(nexts, default=None)

    def _appoint(self, fill: Fill, holder: Holder, deadline_ns: int) -> Token:
        fill.holder = holder
        fill.token = Token(fill.pending.name, fill.key, self.advance(), deadline_ns)
        fill.number = self._leads.add(deadline_ns, fill)
        self._of(holder).leads[fill] = None
        self._users[self._user_of(holder)] += 1
        return fill.token

    def _dismiss(self, fill: Fill) -> None:
        self._leads.remove(fill.number)
        held = self._held[fill.holder]
        del held.leads[fill]
        self._let_go(fill.holder, held)
        user = self._user_of(fill.holder)
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def _leave(self, waiter: Waiter) -> None:
        self._waits.remove(waiter.number)
        del waiter.fill.waiters[waiter.number]
        waiter.fill.pending.waiting -= 1
        held = self._held[waiter.holder]
        del held.waits[waiter.number]
        self._let_go(waiter.holder, held)

    def _of(self, holder: Holder) -> _Held:
        held = self._held.get(holder)
        if held is None:
            held = self._held[holder] = _Held()
        return held

    def _let_go(self, holder: Holder, held: _Held) -> None:
        if not held.leads and not held.waits:
            del self._held[holder]


def _first(fill: Fill) -> Waiter | None:
    return next(iter(fill.waiters.values()), None)


def _time_out(waiter: Waiter) -> Outcome:
    waiter.fill.pending.counters.timed_out += 1
    return Outcome(waiter.number, waiter.holder, TimedOut())
