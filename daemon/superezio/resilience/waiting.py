"""Who waits for a limit: first come, first served under each key, each with a deadline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from superezio.resilience.budget import Budget
from superezio.resilience.limits import Cost, Rejection

_STALE_BEFORE_SWEEP: Final = 64


class Waiter:
    """A request that waits. `shortage` is what it was short of when it was last looked at."""

    __slots__ = ("budgets", "cost", "deadline_ns", "holder", "key", "number", "shortage")

    def __init__(
        self,
        *,
        number: int,
        key: Hashable,
        budgets: tuple[Budget, ...],
        cost: Cost,
        holder: Hashable,
        deadline_ns: int,
    ) -> None:
        self.number = number
        self.key = key
        self.budgets = budgets
        self.cost = cost
        self.holder = holder
        self.deadline_ns = deadline_ns
        self.shortage: Rejection | None = None


class WaitingLines:
    """The waiters of all keys. Adding and removing one is O(log n)."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, OrderedDict[int, Waiter]] = {}
        self._by_number: dict[int, Waiter] = {}
        #: Deadlines and numbers; those of waiters that are gone stay until they come up.
        self._deadlines: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter.number in self._by_number

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._by_number.values())

    def head(self, key: Hashable) -> Waiter | None:
        """Return who is next under `key`."""
        line = self._lines.get(key)
        return next(iter(line.values())) if line else None

    def heads(self) -> list[Waiter]:
        """Return who is next under each key."""
        return [next(iter(line.values())) for line in self._lines.values()]

    def add(self, waiter: Waiter) -> bool:
        """Put `waiter` behind those of its key; return whether it is the first there."""
        line = self._lines.get(waiter.key)
        if line is None:
            line = self._lines[waiter.key] = OrderedDict()
        line[waiter.number] = self._by_number[waiter.number] = waiter
        heappush(self._deadlines, (waiter.deadline_ns, waiter.number))
        return len(line) == 1

    def remove(self, waiter: Waiter) -> None:
        """Take out a waiter that is there."""
        del self._by_number[waiter.number]
        line = self._lines[waiter.key]
        del line[waiter.number]
        if not line:
            del self._lines[waiter.key]
        if len(self._deadlines) > 2 * len(self._by_number) + _STALE_BEFORE_SWEEP:
            self._deadlines = [each for each in self._deadlines if each[1] in self._by_number]
            heapify(self._deadlines)

    def next_deadline_ns(self) -> int | None:
        """Return the earliest deadline; None where nobody waits."""
        while self._deadlines and self._deadlines[0][1] not in self._by_number:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def pop_late(self, now_ns: int) -> list[Waiter]:
        """Take out those whose deadline has come."""
        late = []
        while (deadline_ns := self.next_deadline_ns()) is not None and deadline_ns <= now_ns:
            waiter = self._by_number[self._deadlines[0][1]]
            self.remove(waiter)
            late.append(waiter)
        return late
