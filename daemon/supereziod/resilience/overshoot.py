"""What callers say they used beyond what they had reserved, in budgets that they share with others.

A caller's word is capped (a reservation is checked, a settlement is not). It counts in full for the
caller alone: for its user and its session. In a budget that others use too (of the host, a group or
a key), what one user overshoots counts up to a share: of a cap, in each of its windows; of a rate,
of its burst. Who overshoots a cap by more gets nothing of that limit before the window is over:
money is spent that no cap knows of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from superezio.resilience.overshoot import WHOLE, Overshoot
from superezio.resilience.rate_limiter import Budget, Dimension, Gcra, Scope
from superezio.resilience.spend_cap import SpendCap
from supereziod.resilience.spend import Row, SpendBook

#: Of one user alone; all others are shared.
_OWN_KINDS: Final = frozenset({"user", "session"})


def is_shared(scope: Scope) -> bool:
    """Whether several users may have the budget of a scope."""
    return scope.kind not in _OWN_KINDS


class RateOvershoots:
    """What users overshot of the rates of one limit. Loop-owned.

    It is not kept over a restart: what counted is.
    """

    def __init__(self) -> None:
        self._by_user: dict[tuple[int, Scope, Dimension], Overshoot] = {}

    def bound(
        self,
        uid: int,
        before: Mapping[Gcra, int],
        budgets: Iterable[Budget],
        now_ns: int,
        *,
        longest_ns: int,
        share: int,
    ) -> dict[Dimension, int]:
        """Take back what does not count; return how many units of each dimension those are.

        `before` has the arrival times from before the settlement. `longest_ns` always counts.
        """
        left_out: dict[Dimension, int] = {}
        for budget in budgets:
            for dimension, rate in budget.rates().items():
                was_ns = max(before[rate], now_ns)
                push_ns = rate.tat_ns - was_ns
                if push_ns <= 0:
                    continue
                pushed_ns = rate.tat_ns
                if is_shared(budget.scope):
                    rate.tat_ns = was_ns + self._counted_ns(
                        (uid, budget.scope, dimension),
                        now_ns,
                        push_ns,
                        most_ns=max(longest_ns, rate.rebuild_ns(rate.burst) * share // WHOLE),
                        share=share,
                    )
                rate.owe_at_most(now_ns, longest_ns)
                units = (pushed_ns - rate.tat_ns) // rate.rebuild_ns(1)
                if units and is_shared(budget.scope):
                    left_out[dimension] = max(units, left_out.get(dimension, 0))
        return left_out

    def forget_idle(self, now_ns: int) -> None:
        """Forget those that have grown back."""
        idle = [key for key, each in self._by_user.items() if each.is_idle(now_ns)]
        for key in idle:
            del self._by_user[key]

    def _counted_ns(
        self,
        key: tuple[int, Scope, Dimension],
        now_ns: int,
        push_ns: int,
        *,
        most_ns: int,
        share: int,
    ) -> int:
        overshoot = self._by_user.get(key)
        if overshoot is None:
            overshoot = self._by_user[key] = Overshoot()
        return overshoot.take(now_ns, push_ns, most_ns=most_ns, share=share)


class SpendOvershoots:
    """What users overshot of the caps of one limit in the windows that are now. Loop-owned.

    It is kept with what was spent, in full.
    """

    def __init__(self, name: str, book: SpendBook) -> None:
        # No limit's name has a blank in it.
        self._name = f"{name} overshot"
        self._book = book
        self._by_user: dict[tuple[int, Scope], SpendCap] = {}
        for kept in book.scopes(self._name):
            uid, _, scope_name = kept.name.partition(" ")
            scope = Scope(kept.kind, scope_name)
            self._by_user[int(uid), scope] = book.cap(self._name, kept, {})

    def __bool__(self) -> bool:
        return bool(self._by_user)

    def add(
        self, uid: int, scope: Scope, micros: int, caps_micros: Mapping[str, int], share: int
    ) -> dict[str, int]:
        """Count `micros` in full for a user; return what of them counts for all, by window."""
        keys = self._book.calendar.keys()
        overshot = self._by_user.get((uid, scope))
        if overshot is None:
            overshot = self._by_user[uid, scope] = SpendCap({})
        counted = {
            kind: min(micros, max(0, cap * share // WHOLE - overshot.spent(kind, keys[kind])))
            for kind, cap in caps_micros.items()
        }
        overshot.spend(keys, micros)
        # A window without a cap may get one.
        most = max(counted.values(), default=micros)
        return {kind: counted.get(kind, most) for kind in keys}

    def over(
        self, uid: int, scope: Scope, caps_micros: Mapping[str, int], share: int
    ) -> tuple[str, int] | None:
        """Return which window a user overshot by more than its share, and by how much in all."""
        overshot = self._by_user.get((uid, scope))
        if overshot is None:
            return None
        keys = self._book.calendar.keys()
        over = [
            (kind, micros)
            for kind, cap in caps_micros.items()
            if (micros := overshot.spent(kind, keys[kind])) > cap * share // WHOLE
        ]
        # The month ends after the day.
        return max(over, default=None)

    def has(self, uid: int) -> bool:
        """Whether a user has overshot anything."""
        return any(each == uid for each, _ in self._by_user)

    def forgive(self, uid: int | None, scopes: Iterable[Scope] | None) -> list[Row]:
        """Take it that a user (all, if None) overshot nothing of `scopes`; return what to write."""
        chosen = None if scopes is None else set(scopes)
        rows: list[Row] = []
        for who, scope in list(self._by_user):
            if (uid is None or who == uid) and (chosen is None or scope in chosen):
                overshot = self._by_user.pop((who, scope))
                keys = self._book.calendar.keys()
                for kind, window in overshot.state().items():
                    if window.key == keys[kind]:
                        overshot.spend({kind: window.key}, -window.spent_micros)
                rows.extend(self._rows_of(who, scope, overshot))
        return rows

    def rows(self, uid: int, scope: Scope) -> Iterator[Row]:
        """Yield what is to be written down of a user."""
        return self._rows_of(uid, scope, self._by_user[uid, scope])

    def forget_old(self) -> None:
        """Forget those of windows that are over."""
        keys = self._book.calendar.keys()
        for who, overshot in list(self._by_user.items()):
            if not any(overshot.spent(kind, key) for kind, key in keys.items()):
                del self._by_user[who]

    def _rows_of(self, uid: int, scope: Scope, overshot: SpendCap) -> Iterator[Row]:
        kept = Scope(scope.kind, f"{uid} {scope.name}")
        for kind, window in overshot.state().items():
            yield (self._name, kept, kind, window)
