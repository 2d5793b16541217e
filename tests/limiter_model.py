"""What a rate limiter is to do, in exact fractions, as the semantics put it (section 2).

It knows meters, blocks and slots. Who of several waiters is next is not modelled but judged: the
rules say who may not pass whom, and that nobody waits for what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

RATES = ("requests", "tokens", "money")
Amounts = dict[str, int]
#: A scope and a dimension of it.
Place = tuple[str, str]


@dataclass
class Rate:
    limit: int
    period: int
    burst: int
    tat: int = 0
    #: What was taken by then is not refunded: a signal of the far side has counted it.
    final: int = -1

    def interval(self, cost: int) -> int:
        return ceil(Fraction(cost * self.period, self.limit))

    def wait(self, now: int, cost: int) -> int:
        """tat' = max(now, tat) + ceil(cost * period / limit), allowed from tat' - ceil(burst)."""
        allow_at = max(now, self.tat) + self.interval(cost) - self.interval(self.burst)
        return max(allow_at - now, 0)

    def take(self, now: int, cost: int) -> None:
        self.tat = max(now, self.tat) + self.interval(cost)

    def settle(self, now: int, reserved: int, actual: int, taken: int) -> None:
        """A delta > 0 pushes the TAT; one < 0 refunds, clamped to now."""
        delta = self.interval(actual) - self.interval(reserved)
        if delta > 0:
            self.tat = max(now, self.tat) + delta
        elif taken > self.final:
            self.tat = max(now, self.tat + delta)

    def lower(self, now: int, remaining: int) -> None:
        """No more than `remaining` pass now, and never more than would have passed before."""
        left = floor(Fraction(remaining * self.period, self.limit))
        lowered = now + self.interval(self.burst) - left
        if lowered > max(self.tat, now):
            self.tat = lowered
            self.final = now

    def empty(self, now: int) -> None:
        self.tat = max(self.tat, now + self.interval(self.burst))
        self.final = now


@dataclass
class WordModel:
    """What a caller reports is capped: how much of what one overshoots counts for others too."""

    left_from: int = 0
    owed: Fraction = Fraction(0)

    def counts(self, now: int, push: int, most: int, share: Fraction) -> int:
        """So much at once as `most`; it grows back at `share` of the time that passes."""
        self.owed = max(Fraction(0), self.owed - (now - self.left_from) * share)
        self.left_from = now
        counted = min(push, max(0, floor(most - self.owed)))
        self.owed += counted
        return counted


@dataclass
class ScopeModel:
    rates: dict[str, Rate]
    slots: int | None
    slot_retry: int
    longest_block: int
    in_use: int = 0
    #: By dimension; "" is for all.
    blocked_until: dict[str, int] = field(default_factory=dict)

    def waits(self, now: int, cost: Amounts) -> dict[str, int]:
        """What each dimension that `cost` names keeps it waiting for, where it does."""
        waits = {"requests": self.blocked_until.get("", 0) - now}
        for dimension, amount in cost.items():
            if not amount:
                continue
            wait = self.blocked_until.get(dimension, 0) - now if self.limits(dimension) else 0
            wait = max(wait, self.short(now, dimension, amount))
            waits[dimension] = max(wait, waits.get(dimension, 0))
        return {dimension: wait for dimension, wait in waits.items() if wait > 0}

    def short(self, now: int, dimension: str, amount: int) -> int:
        """How long the meter alone keeps `amount` waiting."""
        if dimension == "concurrency":
            full = self.slots is not None and self.in_use + amount > self.slots
            return self.slot_retry if full else 0
        rate = self.rates.get(dimension)
        return rate.wait(now, amount) if rate else 0

    def limits(self, dimension: str) -> bool:
        return dimension in self.rates or dimension == "concurrency"

    def never(self, cost: Amounts) -> bool:
        too_much = any(cost.get(name, 0) > rate.burst for name, rate in self.rates.items())
        return too_much or (self.slots is not None and cost.get("concurrency", 0) > self.slots)

    def take(self, now: int, cost: Amounts) -> None:
        for name, rate in self.rates.items():
            if cost[name]:
                rate.take(now, cost[name])
        self.in_use += cost["concurrency"]

    def settle(self, now: int, reserved: Amounts, actual: Amounts, taken: int) -> None:
        for name, rate in self.rates.items():
            rate.settle(now, reserved[name], actual[name], taken)
        self.in_use -= reserved["concurrency"]

    def block(self, now: int, retry_after: int, dimension: str = "") -> None:
        """Only ever lengthens the block, and that no further than the cap."""
        until = now + min(retry_after, self.longest_block)
        self.blocked_until[dimension] = max(self.blocked_until.get(dimension, 0), until)


@dataclass
class LimiterModel:
    scopes: dict[str, ScopeModel]

    def waits(self, now: int, names: tuple[str, ...], cost: Amounts) -> dict[Place, int]:
        return {
            (name, dimension): wait
            for name in names
            for dimension, wait in self.scopes[name].waits(now, cost).items()
        }

    def short(self, now: int, names: tuple[str, ...], cost: Amounts) -> set[Place]:
        """The meters that are short of `cost`, whatever blocks it."""
        return {
            (name, dimension)
            for name in names
            for dimension, amount in cost.items()
            if amount and self.scopes[name].short(now, dimension, amount)
        }

    def never(self, names: tuple[str, ...], cost: Amounts) -> bool:
        return any(self.scopes[name].never(cost) for name in names)

    def take(self, now: int, names: tuple[str, ...], cost: Amounts) -> None:
        for name in names:
            self.scopes[name].take(now, cost)

    def settle(
        self, now: int, names: tuple[str, ...], reserved: Amounts, actual: Amounts, taken: int
    ) -> None:
        for name in names:
            self.scopes[name].settle(now, reserved, actual, taken)

    def restart(self, now: int, *, final: bool) -> None:
        """Whoever held a slot is gone; without a last snapshot nothing is there to begin with."""
        for scope in self.scopes.values():
            scope.in_use = 0
            for rate in scope.rates.values():
                if not final:
                    rate.empty(now)
