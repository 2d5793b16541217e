"""What all limits are to remember over a restart, written down: at once, or a slice at a time.

With twenty thousand keys it takes a third of a second, in which nobody would be answered. A slice
is as many budgets as take a millisecond or two, and others are answered between two of them. What
is written so is consistent by budget, not in all, and need not be: it is read after a sudden end
alone, when every rate is as though it was empty, whatever it says. What is taken from it is a debt
beyond the burst and a block, and these are one budget's. What is said last is written at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from superezio.resilience.limiter_snapshot import BudgetState, state_of
from superezio.wire import LimitRates
from supereziod.resilience.limit_memory import KeptLimit, KeptLimits, Remembered, is_owed
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.limits import RateLimits
from supereziod.resilience.named_limit import NamedLimit
from supereziod.resilience.sharing import Owned
from supereziod.resilience.spend import SpendBook

#: Budgets that are looked at in one slice.
SLICE: Final = 100
#: Writing takes one of so many parts of the time.
_WRITING_PART: Final = 50
_encode = msgspec.json.Encoder().encode
#: What both kinds of documents end with, before the last list in them is filled.
_CLOSED: Final = b"]}"


class LimitWriting:
    """The document of all limits. Loop-owned."""

    def __init__(
        self,
        limits: RateLimits,
        registry: LimitRegistry,
        *,
        book: SpendBook,
        remembered: Remembered,
        boot_id: str,
        currency: str,
        clock: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._registry = registry
        self._book = book
        self._remembered = remembered
        self._boot_id = boot_id
        self._currency = currency
        self._clock = clock
        self._not_before_ns = 0

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return what is owed, or None where nothing is new or it was written just now."""
        body = None
        for body in self._slices(final=final):  # noqa: B007 - the last one is it
            pass
        return body

    def slices(self) -> Iterator[bytes | None]:
        """Do what a `snapshot` does that is not final, one slice for each step.

        The last thing that comes is what it returns; before that comes None.
        """
        return self._slices(final=False)

    def _slices(self, *, final: bool) -> Iterator[bytes | None]:
        self._book.settle_debts()
        now_ns = self._clock()
        if not final and (not self._limits.reservations.is_changed or now_ns < self._not_before_ns):
            return
        self._limits.reservations.written()
        written: list[bytes] = []
        took_ns, begun_ns = 0, now_ns
        for entry in self._entries(now_ns):
            if entry is not None:
                written.append(entry)
                continue
            took_ns += self._clock() - begun_ns
            yield None
            begun_ns = self._clock()
        head = KeptLimits(
            boot_id=self._boot_id,
            taken_ns=now_ns,
            final=final,
            currency=self._currency,
            empty_at_ns=self._remembered.empty_at_ns,
            limits=[],
        )
        body = _filled(head, written)
        ended_ns = self._clock()
        self._not_before_ns = ended_ns + _WRITING_PART * (took_ns + ended_ns - begun_ns)
        yield body

    def _entries(self, now_ns: int) -> Iterator[bytes | None]:
        """Return each limit that has something to remember, and None after each slice."""
        seen = 0
        for owned, rates, states in self._all(now_ns):
            budgets: list[bytes] = []
            for state in states:
                if state is not None and is_owed(state, now_ns):
                    budgets.append(_encode(state))
                seen += 1
                if seen % SLICE == 0:
                    yield None
            if budgets or rates is not None:
                entry = KeptLimit(owner=owned.owner, name=owned.name, rates=rates, budgets=[])
                yield _filled(entry, budgets)

    def _all(
        self, now_ns: int
    ) -> Iterator[tuple[Owned, LimitRates | None, Iterable[BudgetState | None]]]:
        """Return what limits owe; those too that nobody has asked for yet.

        What is asked for between two slices is told as it was before: it is in one of both.
        """
        not_taken = self._remembered.not_taken()
        for named in list(self._registry.limits.values()):
            yield named.owned, named.rates, _states(named, now_ns)
        yield from not_taken


def _states(named: NamedLimit, now_ns: int) -> Iterator[BudgetState | None]:
    """Return what each budget of a limit owes; None for one that owes nothing."""
    not_applied = named.limiter.not_applied()
    for budget in named.limiter.budgets():
        yield None if budget.is_idle(now_ns) else state_of(budget)
    yield from not_applied


def _filled(document: KeptLimits | KeptLimit, entries: list[bytes]) -> bytes:
    """Return a document, whose last member is an empty list, with that list filled."""
    return _encode(document).removesuffix(_CLOSED) + b",".join(entries) + _CLOSED
