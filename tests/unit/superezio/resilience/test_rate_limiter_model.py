"""The limiter against its definition in fractions, and its waiters against the rules."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from limiter_model import Amounts, LimiterModel, Place, ScopeModel
from limiter_model import Rate as RateModel
from superezio.resilience.rate_limiter import (
    Budget,
    Cost,
    Dimension,
    Limit,
    NeverPassesError,
    Rate,
    RateLimiter,
    Reservation,
    Restart,
    Scope,
    Waiter,
)

BOOT = "boot"
HOST, ANN, BOB = Scope("host"), Scope("user", "ann"), Scope("user", "bob")
LONGEST_BLOCK = 50
SLOT_RETRY = 9
#: Short rates, so that a debt is paid back in some steps; two that come out even nowhere.
LIMITS = (
    {
        HOST: Limit(
            requests=Rate(limit=3, period_ns=20, burst=6),
            tokens=Rate(limit=7, period_ns=30, burst=20),
            concurrency=3,
            slot_retry_ns=SLOT_RETRY,
            longest_block_ns=LONGEST_BLOCK,
        ),
        ANN: Limit(
            requests=Rate(limit=1, period_ns=10, burst=3),
            money=Rate(limit=5, period_ns=7, burst=9),
            concurrency=2,
            slot_retry_ns=SLOT_RETRY,
            longest_block_ns=LONGEST_BLOCK,
        ),
        BOB: Limit(
            tokens=Rate(limit=1, period_ns=3, burst=8),
            slot_retry_ns=SLOT_RETRY,
            longest_block_ns=LONGEST_BLOCK,
        ),
    },
    {
        scope: Limit(
            tokens=Rate(limit=10, period_ns=1, burst=30),
            requests=Rate(limit=3, period_ns=40, burst=3),
            slot_retry_ns=SLOT_RETRY,
            longest_block_ns=LONGEST_BLOCK,
        )
        for scope in (HOST, ANN, BOB)
    },
)
USED = st.sampled_from(((HOST,), (HOST, ANN), (HOST, BOB), (ANN,), (ANN, BOB)))
PATIENCE = st.sampled_from((0, 20, 100, 500, 500))
#: Few, so that some wait for each; a newcomer has one more, under which nobody waits.
KEYS = st.sampled_from(("a", "b"))
NEWCOMERS = st.sampled_from(("a", "b", "c", "c", "c"))
HOLDERS = st.sampled_from(("left", "right"))
COSTS = st.builds(
    Cost,
    requests=st.sampled_from((0, 1, 1, 2, 3)),
    tokens=st.sampled_from((0, 0, 1, 3, 8, 20)),
    money_micros=st.sampled_from((0, 0, 2, 9)),
    concurrency=st.sampled_from((0, 0, 1, 1, 2)),
)
ACTUALS = st.builds(
    Cost,
    requests=st.sampled_from((0, 1, 2)),
    tokens=st.sampled_from((0, 1, 5, 60)),
    money_micros=st.sampled_from((0, 2, 30)),
    concurrency=st.just(0),
)
PICKS = st.integers(0, 9)
ELAPSED = st.sampled_from((0, 0, 1, 3, 9, 30))
RATED = st.sampled_from((Dimension.REQUESTS, Dimension.TOKENS, Dimension.MONEY))


def amounts(cost: Cost) -> Amounts:
    return dict(zip(("requests", "tokens", "money", "concurrency"), cost, strict=True))


def model_of(limits: dict[Scope, Limit]) -> LimiterModel:
    return LimiterModel(
        {
            str(scope): ScopeModel(
                rates={
                    name: RateModel(rate.limit, rate.period_ns, rate.at_once)
                    for name in ("requests", "tokens", "money")
                    if (rate := getattr(limit, name)) is not None
                },
                slots=limit.concurrency,
                slot_retry=limit.slot_retry_ns,
                longest_block=limit.longest_block_ns,
            )
            for scope, limit in limits.items()
        }
    )


def names(budgets: tuple[Budget, ...]) -> tuple[str, ...]:
    return tuple(str(budget.scope) for budget in budgets)


class LimiterMachine(RuleBasedStateMachine):
    @initialize(limits=st.sampled_from(LIMITS))
    def begin(self, limits: dict[Scope, Limit]) -> None:
        self.now = 1000
        self.limits = limits
        self.model = model_of(limits)
        self.limiter = RateLimiter()
        self.open: list[Reservation] = []
        self.settled: list[Reservation] = []
        self.waiting: list[Waiter] = []
        #: What the first waiters of their keys were short of when they were last looked at.
        self.closed: dict[Waiter, set[Place]] = {}

    def budgets(self, use: tuple[Scope, ...]) -> tuple[Budget, ...]:
        return tuple(self.limiter.budget(self.now, scope, self.limits[scope]) for scope in use)

    @rule(elapsed=st.sampled_from((0, 1, 2, 3, 7, 30, 100)))
    def time_passes(self, elapsed: int) -> None:
        self.now += elapsed

    @rule(asks=st.lists(st.tuples(ELAPSED, USED, COSTS, NEWCOMERS, HOLDERS), min_size=1))
    def newcomers_come(self, asks: list[tuple[int, tuple[Scope, ...], Cost, str, str]]) -> None:
        for elapsed, use, cost, key, holder in asks:
            self.now += elapsed
            self.acquire(use, cost, key, holder)

    def acquire(self, use: tuple[Scope, ...], cost: Cost, key: str, holder: str) -> None:
        budgets = self.budgets(use)
        asked, scopes = amounts(cost), names(budgets)
        if self.model.never(scopes, asked):
            with pytest.raises(NeverPassesError):
                self.limiter.acquire(self.now, budgets, cost, key=key, holder=holder)
            return
        waits = self.model.waits(self.now, scopes, asked)
        answer = self.limiter.acquire(self.now, budgets, cost, key=key, holder=holder)
        if isinstance(answer, Reservation):
            assert not waits, "it over-grants"
            assert not any(each.key == key for each in self.waiting), "a newcomer passed"
            for waiter in self.waiting:
                needed = self.closed.get(waiter, set())
                assert not needed & self.places(scopes, asked), "a newcomer took what one needs"
            self.model.take(self.now, scopes, asked)
            self.open.append(answer)
            return
        assert answer.retry_after_ns > 0
        if not self.waiting:
            assert waits, "it under-grants"
            assert answer.retry_after_ns == max(waits.values())
            assert waits[str(answer.scope), str(answer.dimension)] == answer.retry_after_ns
        else:
            assert answer.retry_after_ns >= max(waits.values(), default=1)

    @rule(asks=st.lists(st.tuples(USED, COSTS, KEYS, HOLDERS, PATIENCE), min_size=1, max_size=4))
    def some_wait(self, asks: list[tuple[tuple[Scope, ...], Cost, str, str, int]]) -> None:
        for use, cost, key, holder, patience in asks:
            self.enqueue(use, cost, key, holder, patience)

    def enqueue(
        self, use: tuple[Scope, ...], cost: Cost, key: str, holder: str, patience: int
    ) -> None:
        budgets = self.budgets(use)
        asked, scopes = amounts(cost), names(budgets)
        if self.model.never(scopes, asked):
            return
        deadline_ns = self.now + patience
        first = not any(each.key == key for each in self.waiting)
        waiter = self.limiter.enqueue(
            self.now, budgets, cost, key=key, holder=holder, deadline_ns=deadline_ns
        )
        self.waiting.append(waiter)
        if first:
            self.closed[waiter] = self.model.short(self.now, scopes, asked)

    @rule(elapsed=ELAPSED)
    def look(self, elapsed: int) -> None:
        self.now += elapsed
        next_at = self.limiter.next_at_ns
        heads = self.heads()
        short = {each: self.short(each) for each in self.waiting}
        due = self.limiter.due(self.now)
        assert set(due.late) == {each for each in self.waiting if each.deadline_ns <= self.now}
        assert not due.hopeless
        for waiter in due.late:
            self.waiting.remove(waiter)
        for waiter, reservation in due.granted:
            assert waiter.key not in {e.key for e in self.waiting if e.number < waiter.number}
            asked, scopes = amounts(waiter.cost), names(waiter.budgets)
            assert not self.model.waits(self.now, scopes, asked), "it over-grants"
            first = min(self.waiting, key=lambda each: each.number)
            if first is not waiter:
                first_asked = amounts(first.cost)
                assert self.model.waits(self.now, names(first.budgets), first_asked), "passed over"
            self.model.take(self.now, scopes, asked)
            self.waiting.remove(waiter)
            self.open.append(reservation)
        if next_at is None or next_at > self.now:
            assert not due.granted
            assert not due.late
            assert heads == self.heads()
            return
        self.closed = {each: short[each] for each in self.heads()}
        for waiter, _ in due.granted:
            taken = self.places(names(waiter.budgets), amounts(waiter.cost))
            for earlier in self.heads():
                if earlier.number < waiter.number:
                    assert not taken & short[earlier], "a later one took what it is short of"

    @rule(times=st.integers(1, 6))
    def loop_wakes_when_it_was_told_to(self, times: int) -> None:
        for _ in range(times):
            self.now = max(self.now, self.limiter.next_at_ns or 0)
            self.look(0)

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        if self.waiting:
            waiter = self.waiting.pop(pick % len(self.waiting))
            assert self.limiter.cancel(self.now, waiter)
            assert not self.limiter.cancel(self.now, waiter)

    @rule(picks=st.lists(PICKS, min_size=1, max_size=4), actual=st.none() | ACTUALS)
    def settle(self, picks: list[int], actual: Cost | None) -> None:
        for pick in picks[: len(self.open)]:
            reservation = self.open.pop(pick % len(self.open))
            assert self.limiter.settle(self.now, reservation, actual)
            self.settle_model(reservation, actual or reservation.cost)
            # A double settle is a no-op, at once or later.
            for settled in (reservation, self.settled[0]):
                assert not self.limiter.settle(self.now, settled, Cost(1, 2, 3))

    @rule(holder=HOLDERS)
    def holder_goes(self, holder: str) -> None:
        gone = [each for each in self.open if each.holder == holder]
        left = [each for each in self.waiting if each.holder == holder]
        assert self.limiter.drop(self.now, holder) == (len(gone), len(left))
        for reservation in gone:
            self.open.remove(reservation)
            self.settle_model(reservation, reservation.cost)
        self.waiting = [each for each in self.waiting if each not in left]

    @rule(scope=st.sampled_from((HOST, ANN)), retry_after=st.sampled_from((-5, 0, 10, 40, 10**15)))
    def far_side_blocks(self, scope: Scope, retry_after: int) -> None:
        (budget,) = self.budgets((scope,))
        budget.block(self.now, retry_after)
        self.model.scopes[str(scope)].block(self.now, retry_after)

    @rule(
        scope=st.sampled_from((HOST, ANN)),
        dimension=RATED,
        remaining=st.sampled_from((0, 1, 2, 5, 5, 5, 1000)),
        reset=st.sampled_from((0, 15, 10**12)),
    )
    def far_side_tells_what_is_left(
        self, scope: Scope, dimension: Dimension, remaining: int, reset: int
    ) -> None:
        (budget,) = self.budgets((scope,))
        budget.lower(self.now, dimension, remaining=remaining, reset_after_ns=reset)
        model = self.model.scopes[str(scope)]
        if dimension in model.rates:
            model.rates[dimension].lower(self.now, remaining)
        if remaining == 0:
            model.block(self.now, reset, dimension)

    @rule()
    def idle_budgets_are_forgotten(self) -> None:
        self.limiter.forget_idle(self.now)

    @precondition(lambda self: self.settled or self.waiting)
    @rule(final=st.sampled_from((True, True, False)), down=st.sampled_from((0, 5, 40)))
    def process_restarts(self, *, final: bool, down: int) -> None:
        snapshot = self.limiter.snapshot(self.now, boot_id=BOOT, final=final)
        self.now += down
        restart = Restart(snapshot, now_ns=self.now, boot_id=BOOT)
        self.limiter = RateLimiter(restart=restart)
        self.model.restart(self.now, final=final)
        self.open, self.settled, self.waiting, self.closed = [], [], [], {}

    @invariant()
    def all_is_owed_that_the_definition_says(self) -> None:
        if not hasattr(self, "limiter"):
            return
        for scope in self.limits:
            (budget,) = self.budgets((scope,))
            model = self.model.scopes[str(scope)]
            assert budget.in_use == model.in_use
            owed = {n: max(r.tat_ns, self.now) for n, r in budget.rates().items()}
            assert owed == {n: max(r.tat, self.now) for n, r in model.rates.items()}
        assert self.limiter.reservations == len(self.open)
        assert self.limiter.waiters == len(self.waiting)

    @invariant()
    def nobody_first_waits_for_what_is_there(self) -> None:
        if not hasattr(self, "limiter") or not self.waiting:
            return
        next_at = self.limiter.next_at_ns
        assert next_at is not None
        assert next_at <= min(each.deadline_ns for each in self.waiting)
        first = min(self.waiting, key=lambda each: each.number)
        if not self.model.waits(self.now, names(first.budgets), amounts(first.cost)):
            assert next_at <= self.now

    def settle_model(self, reservation: Reservation, actual: Cost) -> None:
        self.settled.append(reservation)
        scopes = names(reservation.budgets)
        reserved, taken = amounts(reservation.cost), reservation.taken_ns
        self.model.settle(self.now, scopes, reserved, amounts(actual), taken)

    def heads(self) -> list[Waiter]:
        """The first waiter of each key."""
        return list({each.key: each for each in reversed(self.waiting)}.values())

    def short(self, waiter: Waiter) -> set[Place]:
        return self.model.short(self.now, names(waiter.budgets), amounts(waiter.cost))

    def places(self, scopes: tuple[str, ...], asked: Amounts) -> set[Place]:
        return {(name, each) for name in scopes for each, amount in asked.items() if amount}


MUTANT = "SUPEREZIO_MUTANT" in os.environ
LimiterMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SUPEREZIO_MODEL_EXAMPLES", "200")),
    stateful_step_count=40,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow],
)
TestLimiter = LimiterMachine.TestCase
