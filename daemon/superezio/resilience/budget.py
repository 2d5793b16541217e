"""What one scope has left: a meter for each dimension of its limit, and what is kept from others.

A budget is asked and charged by the RateLimiter, which looks at all budgets of a request before
it charges any. Two things beside the meters hold a request up: a block that the far side asked
for, and a claim of one that waits already.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from superezio.resilience.gcra import Gcra
from superezio.resilience.limits import (
    CONCURRENCY,
    DIMENSIONS,
    Cost,
    Dimension,
    Limit,
    NeverPassesError,
    Rate,
    Rejection,
    Scope,
)

#: Slots are counted where they are not limited too: a limit may come later.
_NO_LIMIT: Final = 1 << 62
_REQUESTS: Final = DIMENSIONS.index(Dimension.REQUESTS)


class Meter(Protocol):
    """One dimension of a budget."""

    burst: int

    def wait_ns(self, now_ns: int, cost: int) -> int: ...
    def take(self, now_ns: int, cost: int) -> None: ...
    def settle(self, now_ns: int, reserved: int, actual: int, *, taken_ns: int) -> None: ...
    def rebuild_ns(self, cost: int) -> int: ...


class Slots:
    """The meter of concurrency: a slot is free again when its request is settled."""

    __slots__ = ("burst", "in_use", "retry_ns")

    def __init__(self, *, slots: int, retry_ns: int) -> None:
        self.burst = slots
        self.retry_ns = retry_ns
        self.in_use = 0

    def wait_ns(self, now_ns: int, cost: int) -> int:  # noqa: ARG002 - as a rate's
        """Return 0 where `cost` slots are free, else after how long to ask again."""
        return 0 if self.in_use + cost <= self.burst else self.retry_ns

    def take(self, now_ns: int, cost: int) -> None:  # noqa: ARG002 - as a rate's
        """Take `cost` slots."""
        self.in_use += cost

    def settle(self, now_ns: int, reserved: int, actual: int, *, taken_ns: int) -> None:  # noqa: ARG002
        """Free them all, whatever was used."""
        self.in_use -= reserved

    def rebuild_ns(self, cost: int) -> int:  # noqa: ARG002 - as a rate's
        """Return the time in which a slot is taken to come free."""
        return self.retry_ns


class Claim(Struct):
    """What waiters keep of one dimension from those that came later.

    `closed`: one of them is short of it, so that nobody passes until there is `need` for that
    one. `kept`: units that are there for one that is short of something else only. `until_ns`: when
    the last of them hopes to have what it is short of.
    """

    need: int = 0
    kept: int = 0
    closed: bool = False
    until_ns: int = 0


class Budget:
    """What one scope has left of each dimension that its limit names."""

    __slots__ = (
        "_blocks", "_meters", "_named", "_slots", "blocked_until_ns", "claims",
        "limit", "requests", "scope", "users",
    )  # fmt: skip

    def __init__(self, scope: Scope, limit: Limit) -> None:
        self.scope = scope
        self.limit = limit
        self._meters: dict[int, Meter] = {}
        #: The same, as the request path reads it.
        self._named: tuple[tuple[int, Meter], ...] = ()
        self._blocks: dict[int, int] = {}
        #: The longest of the blocks, 0 where there is none that has not been seen to end.
        self.blocked_until_ns = 0
        self.claims: dict[int, Claim] = {}
        #: The meter of requests, where they are limited, and neither are slots nor is there a block
        #: to look at: where nothing claims of it, it may be asked for one request alone.
        self.requests: Gcra | None = None
        #: Open reservations and waiters, which keep it from being forgotten.
        self.users = 0
        self._slots = Slots(slots=_NO_LIMIT, retry_ns=limit.slot_retry_ns)
        self._meters[CONCURRENCY] = self._slots
        self.reconfigure(0, limit)

    def reconfigure(self, now_ns: int, limit: Limit) -> None:
        """Apply another limit from now on; what is owed stays owed, who holds a slot keeps it."""
        self.limit = limit
        for index, rate in enumerate((limit.requests, limit.tokens, limit.money)):
            self._set_rate(now_ns, index, rate)
        self._slots.burst = _NO_LIMIT if limit.concurrency is None else limit.concurrency
        self._slots.retry_ns = limit.slot_retry_ns
        self._named = tuple(sorted(self._meters.items()))
        self.requests = self._requests_alone()

    def admits(self, now_ns: int, cost: Cost) -> bool:
        """Whether `cost` passes now as far as the meters go, where nothing else holds it up.

        False says only that `shortage` has to be asked.
        """
        if self.blocked_until_ns:
            if now_ns < self.blocked_until_ns:
                return False
            self._end_blocks()
        if self.claims:
            return False
        for index, meter in self._named:
            amount = cost[index]
            if amount and (amount > meter.burst or meter.wait_ns(now_ns, amount)):
                return False
        return True

    def take(self, now_ns: int, cost: Cost) -> None:
        """Take `cost`."""
        for index, meter in self._named:
            if cost[index]:
                meter.take(now_ns, cost[index])

    def settle(self, now_ns: int, reserved: Cost, actual: Cost, *, taken_ns: int) -> None:
        """Correct what was taken at `taken_ns` to what was used."""
        for index, meter in self._named:
            if reserved[index] or actual[index]:
                meter.settle(now_ns, reserved[index], actual[index], taken_ns=taken_ns)

    def shortage(self, now_ns: int, cost: Cost) -> Rejection | None:
        """Return why `cost` does not pass now, the longest wait of all, or None where it does.

        Raises NeverPassesError where it never would.
        """
        index, wait_ns, blocked = _REQUESTS, self._blocks.get(-1, 0) - now_ns, True
        for each, meter in self._named:
            amount = cost[each]
            if not amount:
                continue
            if amount > meter.burst:
                raise NeverPassesError(DIMENSIONS[each], self.scope, cost=amount, burst=meter.burst)
            short_ns = self._meter_wait_ns(now_ns, each, meter, amount)
            if short_ns > wait_ns:
                index, wait_ns, blocked = each, short_ns, False
            block_ns = self._blocks.get(each, 0) - now_ns
            if block_ns > wait_ns:
                index, wait_ns, blocked = each, block_ns, True
        if wait_ns <= 0:
            return None
        return Rejection(
            dimension=DIMENSIONS[index], scope=self.scope, retry_after_ns=wait_ns, blocked=blocked
        )

    def claim(self, now_ns: int, cost: Cost, wait_ns: int) -> int:
        """Keep for one that has to wait `wait_ns` what those that came later may not take.

        What it is short of is closed, so that it grows until the one passes. What there is enough
        of is kept if the one comes for it no later than it could grow back: kept for longer it
        would lie idle, given away later it could be short each time that the rest is there.
        Return the nanoseconds after which to claim anew, for something else would be kept then.
        """
        look_ns = wait_ns
        for index, meter in self._named:
            amount = cost[index]
            if not amount:
                continue
            short_ns = self._meter_wait_ns(now_ns, index, meter, amount)
            if short_ns:
                look_ns = min(look_ns, short_ns)
                claim = self.claims.setdefault(index, Claim())
                claim.closed = True
                claim.need = max(claim.need, amount)
                claim.until_ns = max(claim.until_ns, now_ns + short_ns)
            elif wait_ns <= (rebuild_ns := meter.rebuild_ns(amount)):
                claim = self.claims.setdefault(index, Claim())
                claim.kept += amount
                claim.until_ns = max(claim.until_ns, now_ns + wait_ns)
            else:
                look_ns = min(look_ns, wait_ns - rebuild_ns)
        return look_ns

    def is_short_of(self, reserved: Cost, used: Cost) -> bool:
        """Whether one that waits is short of what a settlement gives back, slots in any case."""
        return any(
            claim.closed
            and (reserved[index] if index == CONCURRENCY else reserved[index] > used[index])
            for index, claim in self.claims.items()
        )

    def block(self, now_ns: int, retry_after_ns: int, dimension: Dimension | None = None) -> None:
        """Let nothing pass for `retry_after_ns`, or nothing that takes of `dimension`.

        It never ends a block sooner, and lasts no longer than the limit's `longest_block_ns`.
        """
        index = -1 if dimension is None else DIMENSIONS.index(dimension)
        until_ns = now_ns + min(retry_after_ns, self.limit.longest_block_ns)
        if until_ns > max(now_ns, self._blocks.get(index, 0)):
            self._blocks[index] = until_ns
            self.blocked_until_ns = max(self.blocked_until_ns, until_ns)
            self.requests = None

    def lower(
        self, now_ns: int, dimension: Dimension, *, remaining: int, reset_after_ns: int = 0
    ) -> None:
        """Leave no more than the far side says is left of `dimension`: never more than before.

        It grows again at the limit's own rate. Where nothing is left, what takes of it is blocked
        until the far side's reset.
        """
        meter = self._meters.get(DIMENSIONS.index(dimension))
        if isinstance(meter, Gcra):
            meter.lower(now_ns, remaining)
        if remaining <= 0:
            self.block(now_ns, reset_after_ns, dimension)

    def clear(self, now_ns: int) -> None:
        """Have all there is of each rate, and no block; who holds a slot keeps it."""
        for rate in self.rates().values():
            rate.clear(now_ns)
        self._end_blocks()

    def owe_at_most(self, now_ns: int, ahead_ns: int) -> None:
        """Let nobody wait longer than `ahead_ns` for what was settled beyond the burst."""
        for rate in self.rates().values():
            rate.owe_at_most(now_ns, ahead_ns)

    def is_idle(self, now_ns: int) -> bool:
        """Whether forgetting this budget loses nothing: all is there, and nobody waits for it."""
        return (
            not self.users
            and now_ns >= self.blocked_until_ns
            and all(rate.is_full(now_ns) for rate in self.rates().values())
        )

    @property
    def in_use(self) -> int:
        """How many slots are taken."""
        return self._slots.in_use

    def rates(self) -> dict[Dimension, Gcra]:
        """Return the meters of what is limited per period."""
        return {DIMENSIONS[index]: meter for index, meter in self._named if isinstance(meter, Gcra)}

    def blocks(self) -> dict[Dimension | None, int]:
        """Return until when each dimension is blocked, and under None all of them."""
        return {None if i < 0 else DIMENSIONS[i]: until for i, until in self._blocks.items()}

    def _end_blocks(self) -> None:
        self._blocks.clear()
        self.blocked_until_ns = 0
        self.requests = self._requests_alone()

    def _requests_alone(self) -> Gcra | None:
        if self.blocked_until_ns or self.limit.concurrency is not None:
            return None
        meter = self._meters.get(_REQUESTS)
        return meter if isinstance(meter, Gcra) else None

    def _meter_wait_ns(self, now_ns: int, index: int, meter: Meter, amount: int) -> int:
        wait_ns = meter.wait_ns(now_ns, amount)
        claim = self.claims.get(index)
        if claim is None:
            return wait_ns
        beside = amount + claim.kept
        if beside <= meter.burst:
            wait_ns = max(wait_ns, meter.wait_ns(now_ns, beside))
        if claim.closed:
            wait_ns = max(wait_ns, meter.wait_ns(now_ns, min(claim.need, meter.burst)))
        if claim.closed or beside > meter.burst:
            # Not before the other one has what it waits for, and is looked at.
            wait_ns = max(wait_ns, claim.until_ns - now_ns, 1)
        return wait_ns

    def _set_rate(self, now_ns: int, index: int, rate: Rate | None) -> None:
        meter = self._meters.get(index)
        if rate is None:
            self._meters.pop(index, None)
        elif isinstance(meter, Gcra):
            meter.reshape(now_ns, limit=rate.limit, period_ns=rate.period_ns, burst=rate.at_once)
        else:
            meter = Gcra(limit=rate.limit, period_ns=rate.period_ns, burst=rate.at_once)
            # What is not limited was not charged: nothing of it is given back.
            meter.final_ns = now_ns
            self._meters[index] = meter
