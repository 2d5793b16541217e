"""Who waits for a limit: first come, first served under each key, each with a deadline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

from superezio.resilience.budget import Budget
from superezio.resilience.deadlines import Deadlines
from superezio.resilience.limits import Cost, Rejection


class Waiter:
    """A request that waits. `shortage` is what it was short of when it was last looked at."""

    __slots__ = (
        "alarm", "budgets", "cost", "deadline_ns", "holder", "key", "number", "shortage",
    )  # fmt: skip

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
        #: The number of its deadline, while it waits.
        self.alarm = 0


class WaitingLines:
    """The waiters of all keys. Adding and removing one is O(log n)."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, OrderedDict[int, Waiter]] = {}
        self._by_number: dict[int, Waiter] = {}
        self._deadlines: Deadlines[Waiter] = Deadlines()

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
        waiter.alarm = self._deadlines.add(waiter.deadline_ns, waiter)
        return len(line) == 1

    def remove(self, waiter: Waiter) -> None:
        """Take out a waiter that is there."""
        del self._by_number[waiter.number]
        line = self._lines[waiter.key]
        del line[waiter.number]
        if not line:
            del self._lines[waiter.key]
        self._deadlines.remove(waiter.alarm)

    def next_deadline_ns(self) -> int | None:
        """Return the earliest deadline; None where nobody waits."""
        return self._deadlines.next_ns()

    def pop_late(self, now_ns: int) -> list[Waiter]:
        """Take out those whose deadline has come."""
        late = []
        while (waiter := self._deadlines.pop_due(now_ns)) is not None:
            self.remove(waiter)
            late.append(waiter)
        return late
