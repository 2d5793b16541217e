"""The rate limiter in the words of the semantics (section 2; cases 12 and 13 of section 9)."""

from __future__ import annotations

import pytest

from superezio.resilience.rate_limiter import (
    Cost,
    Dimension,
    Limit,
    LimiterFullError,
    NeverPassesError,
    Rate,
    RateLimiter,
    Rejection,
    Reservation,
    Scope,
)

SECOND = 1_000_000_000
YEAR = 365 * 86_400 * SECOND
NOW = 1_000 * SECOND
HOST, ANN, BOB = Scope("host"), Scope("user", "ann"), Scope("user", "bob")
#: One a second, ten at once.
TEN = Rate(limit=1, burst=10)


def granted(answer: Reservation | Rejection) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def rejected(answer: Reservation | Rejection) -> Rejection:
    assert isinstance(answer, Rejection), answer
    return answer


def test_what_one_dimension_rejects_is_taken_of_no_other() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN, tokens=TEN, money=TEN, concurrency=1))
    granted(limiter.acquire(NOW, [budget], Cost(1, 10, 1)))
    before = limiter.snapshot(NOW, boot_id="")
    rejection = rejected(limiter.acquire(NOW, [budget], Cost(1, 3, 1, 1)))
    assert rejection == Rejection(dimension=Dimension.TOKENS, scope=HOST, retry_after_ns=3 * SECOND)
    assert limiter.snapshot(NOW, boot_id="") == before
    assert budget.in_use == 0


def test_what_one_scope_rejects_is_taken_of_no_other_and_the_rejection_names_it() -> None:
    limiter = RateLimiter()
    scopes = [HOST, Scope("group", "lab"), ANN, Scope("session", "s1"), Scope("key", "openai")]
    budgets = [limiter.budget(NOW, scope, Limit(requests=TEN)) for scope in scopes]
    granted(limiter.acquire(NOW, budgets[3:4], Cost(10)))
    before = limiter.snapshot(NOW, boot_id="")
    assert rejected(limiter.acquire(NOW, budgets, Cost(2))) == Rejection(
        dimension=Dimension.REQUESTS, scope=scopes[3], retry_after_ns=2 * SECOND
    )
    assert limiter.snapshot(NOW, boot_id="") == before


@pytest.mark.parametrize("asked_before_ns", [0, 5])
def test_what_is_reserved_under_a_new_limit_is_given_back_from_the_first_settlement_on(
    asked_before_ns: int,
) -> None:
    """Of the same instant, or of one that was read before the limit changed."""
    limiter = RateLimiter()
    tokens = Rate(limit=1000, period_ns=3600 * SECOND)
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    before = granted(limiter.acquire(NOW, [budget], Cost(1, 400)))
    limiter.budget(NOW, HOST, Limit(requests=TEN, tokens=tokens))
    after = granted(limiter.acquire(NOW - asked_before_ns, [budget], Cost(1, 900)))
    limiter.settle(NOW, after, Cost(1, 412))
    assert budget.rates()[Dimension.TOKENS].available(NOW) == 588
    limiter.settle(NOW, before, Cost(1, 0))
    assert budget.rates()[Dimension.TOKENS].available(NOW) == 588, "it was not charged"


def test_what_changes_again_in_the_same_instant_gives_nothing_back_of_before() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=Rate(limit=1000, period_ns=3600 * SECOND)))
    limiter.budget(NOW, HOST, Limit(tokens=Rate(limit=1000, period_ns=1800 * SECOND)))
    rate = budget.rates()[Dimension.TOKENS]
    for change in (
        lambda: limiter.clear(NOW),
        lambda: budget.lower(NOW, Dimension.TOKENS, remaining=500),
        lambda: limiter.budget(NOW, HOST, Limit(tokens=Rate(limit=1000, period_ns=3600 * SECOND))),
    ):
        taken = granted(limiter.acquire(NOW, [budget], Cost(0, 200)))
        change()
        left = rate.available(NOW)
        limiter.settle(NOW, taken, Cost(0, 0))
        assert rate.available(NOW) == left


def test_of_several_shortages_the_longest_is_named_and_who_waits_for_it_passes() -> None:
    limiter = RateLimiter()
    host = limiter.budget(NOW, HOST, Limit(requests=TEN))
    ann = limiter.budget(NOW, ANN, Limit(tokens=Rate(limit=1, period_ns=2 * SECOND, burst=10)))
    granted(limiter.acquire(NOW, [host, ann], Cost(10, 10)))
    rejection = rejected(limiter.acquire(NOW, [host, ann], Cost(3, 4)))
    assert (rejection.scope, rejection.dimension) == (ANN, Dimension.TOKENS)
    assert rejection.retry_after_ns == 8 * SECOND
    rejected(limiter.acquire(NOW + 8 * SECOND - 1, [host, ann], Cost(3, 4)))
    granted(limiter.acquire(NOW + 8 * SECOND, [host, ann], Cost(3, 4)))


@pytest.mark.parametrize(
    ("cost", "dimension"),
    [
        (Cost(11), Dimension.REQUESTS),
        (Cost(1, 11), Dimension.TOKENS),
        (Cost(1, 0, 11), Dimension.MONEY),
        (Cost(1, 0, 0, 3), Dimension.CONCURRENCY),
    ],
)
def test_more_than_the_burst_is_an_error_even_where_another_dimension_only_waits(
    cost: Cost, dimension: Dimension
) -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, ANN, Limit(requests=TEN, tokens=TEN, money=TEN, concurrency=2))
    granted(limiter.acquire(NOW, [budget], Cost(10)))
    with pytest.raises(NeverPassesError, match="user ann") as caught:
        limiter.acquire(NOW, [budget], cost)
    assert caught.value.dimension == dimension
    with pytest.raises(NeverPassesError, match=str(dimension)):
        limiter.enqueue(NOW, [budget], cost, key="k", deadline_ns=YEAR)
    assert limiter.waiters == 0


@pytest.mark.parametrize(("rate", "interval_ns"), [(150_000, 6_667), (10**10, 1)])
def test_an_interval_that_is_no_whole_number_is_never_cut_short(
    rate: int, interval_ns: int
) -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=Rate(limit=rate, burst=1)))
    instants = [NOW + ns // 2 for ns in range(40_000)]
    answers = [limiter.acquire(now, [budget], Cost()) for now in instants]
    count = sum(isinstance(answer, Reservation) for answer in answers)
    assert count == 1 + 19_999 // interval_ns


def test_a_caller_that_settles_more_than_it_reserved_lets_the_next_ones_wait() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost(tokens=2)))
    assert limiter.settle(NOW, slot, Cost(tokens=100))
    rejection = rejected(limiter.acquire(NOW, [budget], Cost(tokens=1)))
    assert rejection.retry_after_ns == 91 * SECOND, "100 used, 10 at once, 1 wanted"


def test_less_than_was_reserved_is_refunded() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost(tokens=10)))
    limiter.settle(NOW + SECOND, slot, Cost(tokens=4))
    assert budget.rates()[Dimension.TOKENS].tat_ns == NOW + 4 * SECOND


def test_a_refund_never_gives_more_than_the_burst() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost(tokens=10)))
    later = NOW + 8 * SECOND
    limiter.settle(later, slot, Cost(tokens=0))
    granted(limiter.acquire(later, [budget], Cost(tokens=10)))
    assert rejected(limiter.acquire(later, [budget], Cost(tokens=1))).retry_after_ns == SECOND


def test_to_settle_again_changes_nothing() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN, concurrency=2))
    slots = [granted(limiter.acquire(NOW, [budget], Cost(1, 5, 0, 1))) for _ in range(2)]
    assert limiter.settle(NOW, slots[0], Cost(1, 1))
    before = limiter.snapshot(NOW, boot_id="")
    assert not limiter.settle(NOW, slots[0], Cost(1, 0))
    assert not limiter.settle(NOW, slots[0], Cost(1, 500))
    assert limiter.snapshot(NOW, boot_id="") == before
    assert budget.in_use == 1


def test_a_slot_is_free_again_when_its_request_is_settled() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(concurrency=1, slot_retry_ns=7))
    slot = granted(limiter.acquire(NOW, [budget], Cost(concurrency=1)))
    assert rejected(limiter.acquire(NOW, [budget], Cost(concurrency=1))) == Rejection(
        dimension=Dimension.CONCURRENCY, scope=HOST, retry_after_ns=7
    )
    limiter.settle(NOW, slot)
    granted(limiter.acquire(NOW, [budget], Cost(concurrency=1)))


def test_a_holder_that_goes_frees_its_slots_and_waits_no_longer_but_has_used_what_it_took() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN, concurrency=2))
    for holder in ("ann", "bob"):
        granted(limiter.acquire(NOW, [budget], Cost(1, 5, 0, 1), holder=holder))
    limiter.enqueue(NOW, [budget], Cost(1, 1), key="k", holder="ann", deadline_ns=YEAR)
    assert limiter.drop(NOW, "ann") == (1, 1)
    assert limiter.drop(NOW, "ann") == (0, 0)
    assert budget.in_use == 1
    assert limiter.waiters == 0
    assert rejected(limiter.acquire(NOW, [budget], Cost(1, 1))).dimension == Dimension.TOKENS


# --- signals from the far side ----------------------------------------------------------------


def test_a_budget_is_asked_for_one_request_alone_but_while_something_blocks_it() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    assert budget.requests is not None
    budget.block(NOW, 5 * SECOND)
    limiter.budget(NOW, HOST, Limit(requests=TEN, tokens=TEN))
    rejected(limiter.acquire(NOW + 4 * SECOND, [budget], Cost(1)))
    assert budget.requests is None
    granted(limiter.acquire(NOW + 5 * SECOND, [budget], Cost(1)))
    assert budget.requests is not None


def test_a_retry_after_shorter_than_the_block_does_not_end_it_and_a_year_is_capped() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN, longest_block_ns=60 * SECOND))
    budget.block(NOW, 30 * SECOND)
    budget.block(NOW, 5 * SECOND)
    rejection = rejected(limiter.acquire(NOW, [budget], Cost()))
    assert rejection.retry_after_ns == 30 * SECOND
    assert rejection.blocked
    budget.block(NOW, YEAR)
    assert rejected(limiter.acquire(NOW, [budget], Cost())).retry_after_ns == 60 * SECOND
    budget.block(NOW, -YEAR)
    rejected(limiter.acquire(NOW + 60 * SECOND - 1, [budget], Cost()))
    granted(limiter.acquire(NOW + 60 * SECOND, [budget], Cost()))


def test_what_the_far_side_has_left_only_lowers_the_budget() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost(tokens=2)))
    budget.lower(NOW, Dimension.TOKENS, remaining=1000)
    assert rejected(limiter.acquire(NOW, [budget], Cost(tokens=9))).retry_after_ns == SECOND
    budget.lower(NOW, Dimension.TOKENS, remaining=3)
    assert rejected(limiter.acquire(NOW, [budget], Cost(tokens=4))).retry_after_ns == SECOND
    limiter.settle(NOW, slot, Cost(tokens=0))
    assert rejected(limiter.acquire(NOW, [budget], Cost(tokens=4))).retry_after_ns == SECOND
    granted(limiter.acquire(NOW, [budget], Cost(tokens=3)))


def test_where_the_far_side_has_nothing_left_that_dimension_waits_for_its_reset() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN, tokens=TEN))
    budget.lower(NOW, Dimension.TOKENS, remaining=0, reset_after_ns=100 * SECOND)
    assert rejected(limiter.acquire(NOW, [budget], Cost(tokens=1))) == Rejection(
        dimension=Dimension.TOKENS, scope=HOST, retry_after_ns=100 * SECOND, blocked=True
    )
    granted(limiter.acquire(NOW, [budget], Cost()))


# --- waiting --------------------------------------------------------------------------------------


def test_waiters_are_served_first_come_first_and_no_newcomer_passes_one_of_its_key() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    granted(limiter.acquire(NOW, [budget], Cost(10)))
    first = limiter.enqueue(NOW, [budget], Cost(5), key="k", deadline_ns=YEAR)
    second = limiter.enqueue(NOW, [budget], Cost(1), key="k", deadline_ns=YEAR)
    later = NOW + 4 * SECOND
    rejection = rejected(limiter.acquire(later, [budget], Cost(1), key="k"))
    assert rejection.dimension == Dimension.REQUESTS
    assert limiter.due(later).granted == []
    assert limiter.next_at_ns == NOW + 5 * SECOND
    assert [waiter for waiter, _ in limiter.due(NOW + 5 * SECOND).granted] == [first]
    assert [waiter for waiter, _ in limiter.due(NOW + 6 * SECOND).granted] == [second]
    assert limiter.next_at_ns is None


def test_a_big_request_does_not_starve_behind_small_ones_of_other_keys() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    granted(limiter.acquire(NOW, [budget], Cost(tokens=10)))
    big = limiter.enqueue(NOW, [budget], Cost(tokens=8), key="big", deadline_ns=YEAR)
    for second in range(1, 8):
        now = NOW + second * SECOND
        assert limiter.due(now).granted == []
        rejected(limiter.acquire(now, [budget], Cost(tokens=1), key=f"small {second}"))
    (waiter, _), *others = limiter.due(NOW + 8 * SECOND).granted
    assert (waiter, others) == (big, [])


def test_one_that_waits_for_its_own_limit_leaves_the_others_served() -> None:
    """It is short of both at first; then the host's is there each time, long before its own."""
    limiter = RateLimiter()
    host = limiter.budget(NOW, HOST, Limit(requests=TEN))
    hourly = Rate(limit=8, period_ns=3600 * SECOND)
    ann = limiter.budget(NOW, ANN, Limit(requests=hourly))
    granted(limiter.acquire(NOW, [host, ann], Cost(8)))
    waiter = limiter.enqueue(NOW, [host, ann], Cost(8), key="ann", deadline_ns=YEAR)
    for second in range(1, 3600):
        now = NOW + second * SECOND
        assert limiter.due(now).granted == []
        if second % 10 == 0:
            granted(limiter.acquire(now, [host], Cost(10), key="bob"))
    assert limiter.due(NOW + 3600 * SECOND).granted[0][0] is waiter


def test_one_that_needs_two_busy_budgets_is_not_kept_out_by_turns() -> None:
    """Small ones take all there is of either as soon as it is there, for as long as they may."""
    limiter = RateLimiter()
    left = limiter.budget(NOW, Scope("group", "left"), Limit(tokens=TEN))
    right = limiter.budget(NOW, Scope("group", "right"), Limit(tokens=Rate(limit=3, burst=10)))
    for budget in (left, right):
        granted(limiter.acquire(NOW, [budget], Cost(tokens=10)))
    big = limiter.enqueue(NOW, [left, right], Cost(tokens=9), key="big", deadline_ns=YEAR)
    now = NOW
    for _ in range(300):
        now += SECOND // 10
        if due := limiter.due(now).granted:
            break
        for budget in (left, right):
            for _ in range(10):
                limiter.acquire(now, [budget], Cost(tokens=1), key="small")
    assert [waiter for waiter, _ in due] == [big]
    assert now - NOW <= 10 * SECOND, "about what the slower one takes to have 9"


def test_one_that_is_kept_out_by_another_is_looked_at_when_that_one_may_pass() -> None:
    limiter = RateLimiter()
    host = limiter.budget(NOW, HOST, Limit(tokens=TEN))
    ann = limiter.budget(NOW, ANN, Limit(requests=Rate(limit=1, period_ns=4 * SECOND)))
    granted(limiter.acquire(NOW, [ann], Cost()))
    kept_for = limiter.enqueue(NOW, [host, ann], Cost(1, 8), key="ann", deadline_ns=YEAR)
    others = [
        limiter.enqueue(NOW, [host], Cost(tokens=tokens), key=f"bob {tokens}", deadline_ns=YEAR)
        for tokens in (5, 2, 1)
    ]
    served = []
    looks = 0
    while (now := limiter.next_at_ns) is not None and looks < 8:
        looks += 1
        served += [waiter for waiter, _ in limiter.due(now).granted]
    assert served == [kept_for, *others], "each look is for something"


def test_one_that_waits_until_its_deadline_is_told_so_and_holds_nobody_up() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    granted(limiter.acquire(NOW, [budget], Cost(10)))
    late = limiter.enqueue(NOW, [budget], Cost(9), key="k", deadline_ns=NOW + 2 * SECOND)
    next_one = limiter.enqueue(NOW, [budget], Cost(1), key="k", deadline_ns=YEAR)
    assert limiter.next_at_ns == NOW + 2 * SECOND
    due = limiter.due(NOW + 2 * SECOND)
    assert due.late == [late]
    assert [waiter for waiter, _ in due.granted] == [next_one]


def test_one_that_is_cancelled_holds_nobody_up() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    granted(limiter.acquire(NOW, [budget], Cost(9)))
    big = limiter.enqueue(NOW, [budget], Cost(9), key="k", deadline_ns=YEAR)
    same_key = limiter.enqueue(NOW, [budget], Cost(1), key="k", deadline_ns=YEAR)
    another = limiter.enqueue(NOW, [budget], Cost(1), key="another", deadline_ns=YEAR)
    assert limiter.due(NOW).granted == []
    assert limiter.cancel(NOW, big)
    assert limiter.next_at_ns == NOW
    assert [waiter for waiter, _ in limiter.due(NOW).granted] == [same_key]
    assert not limiter.cancel(NOW, same_key)
    assert limiter.cancel(NOW, another)
    assert limiter.next_at_ns in {None, NOW}


def test_a_slot_that_comes_free_is_the_first_waiters_at_once() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(concurrency=2))
    one = granted(limiter.acquire(NOW, [budget], Cost(concurrency=1)))
    two = granted(limiter.acquire(NOW, [budget], Cost(concurrency=1)))
    both = limiter.enqueue(NOW, [budget], Cost(concurrency=2), key="both", deadline_ns=YEAR)
    limiter.settle(NOW + 1, one)
    assert limiter.due(NOW + 1).granted == []
    rejected(limiter.acquire(NOW + 1, [budget], Cost(concurrency=1), key="another"))
    limiter.settle(NOW + 2, two)
    assert limiter.next_at_ns is not None
    assert limiter.next_at_ns <= NOW + 2
    assert [waiter for waiter, _ in limiter.due(NOW + 2).granted] == [both]


def test_a_limit_made_smaller_tells_a_waiter_that_it_never_passes() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    granted(limiter.acquire(NOW, [budget], Cost(10)))
    waiter = limiter.enqueue(NOW, [budget], Cost(8), key="k", deadline_ns=YEAR)
    limiter.budget(NOW, HOST, Limit(requests=Rate(limit=1, burst=5)))
    ((hopeless, error),) = limiter.due(NOW).hopeless
    assert hopeless is waiter
    assert error.burst == 5
    assert limiter.waiters == 0


# --- bounds, and limits that change ---------------------------------------------------------------


def test_reservations_and_waiters_are_bounded() -> None:
    limiter = RateLimiter(max_reservations=1, max_waiters=1)
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost()))
    with pytest.raises(LimiterFullError, match="1 reservations"):
        limiter.acquire(NOW, [budget], Cost())
    waiter = limiter.enqueue(NOW, [budget], Cost(), key="k", deadline_ns=YEAR)
    with pytest.raises(LimiterFullError, match="1 requests wait"):
        limiter.enqueue(NOW, [budget], Cost(), key="k", deadline_ns=YEAR)
    assert limiter.due(NOW).granted == []
    assert rejected(limiter.acquire(NOW, [budget], Cost(), key="k")).retry_after_ns == 1
    limiter.settle(NOW, slot)
    assert [each for each, _ in limiter.due(NOW).granted] == [waiter]


def test_a_debt_and_a_slot_outlive_a_change_of_the_limit() -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost(10, concurrency=1)))
    assert (
        limiter.budget(NOW, HOST, Limit(requests=Rate(limit=2, burst=10), concurrency=1)) is budget
    )
    assert budget.rates()[Dimension.REQUESTS].tat_ns == NOW + 10 * SECOND
    assert rejected(limiter.acquire(NOW + YEAR, [budget], Cost(1, concurrency=1))).dimension == (
        Dimension.CONCURRENCY
    )
    limiter.settle(NOW, slot, Cost(0))
    assert budget.rates()[Dimension.REQUESTS].tat_ns == NOW + 10 * SECOND, "taken at the old rate"
    assert budget.in_use == 0
    limiter.budget(NOW, HOST, Limit())
    granted(limiter.acquire(NOW, [budget], Cost(10**9, 10**9)))


def test_only_a_budget_that_owes_nothing_and_that_nobody_uses_is_forgotten() -> None:
    limiter = RateLimiter()
    owing, blocked, used, idle = (
        limiter.budget(NOW, Scope("key", name), Limit(requests=TEN))
        for name in ("owing", "blocked", "used", "idle")
    )
    granted(limiter.acquire(NOW, [owing], Cost()))
    blocked.block(NOW, SECOND)
    slot = granted(limiter.acquire(NOW, [used], Cost(0)))
    assert len(limiter.forget_idle(NOW)) == 1
    assert limiter.budgets() == [owing, blocked, used]
    assert idle not in limiter.budgets()
    limiter.settle(NOW, slot)
    assert len(limiter.forget_idle(NOW)) == 1
    assert len(limiter.forget_idle(NOW + SECOND)) == 1


@pytest.mark.parametrize("cost", [Cost(-1), Cost(1, -1), Cost(1, 0, -1), Cost(1, 0, 0, -1)])
def test_a_negative_cost_is_refused(cost: Cost) -> None:
    limiter = RateLimiter()
    budget = limiter.budget(NOW, HOST, Limit(requests=TEN))
    slot = granted(limiter.acquire(NOW, [budget], Cost()))
    with pytest.raises(ValueError, match="negative"):
        limiter.acquire(NOW, [budget], cost)
    with pytest.raises(ValueError, match="negative"):
        limiter.enqueue(NOW, [budget], cost, key="k", deadline_ns=YEAR)
    with pytest.raises(ValueError, match="negative"):
        limiter.settle(NOW, slot, cost)
    assert limiter.settle(NOW, slot), "it is still open"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2**60}, "limit"),
        ({"limit": 1, "period_ns": 0}, "period_ns"),
        ({"limit": 1, "burst": -1}, "burst"),
    ],
)
def test_a_senseless_rate_is_refused(values: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Rate(**values)


@pytest.mark.parametrize("name", ["concurrency", "slot_retry_ns", "longest_block_ns"])
def test_a_senseless_limit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limit(**{name: 0})  # type: ignore[arg-type]


def test_idle_budgets_are_forgotten_a_few_at_a_time_each_in_its_turn() -> None:
    limiter = RateLimiter()
    limit = Limit(requests=Rate(limit=1, period_ns=SECOND))
    for number in range(10):
        budget = limiter.budget(NOW, Scope("key", str(number)), limit)
        if number < 5:
            limiter.acquire(NOW, (budget,), Cost())
    rounds = [limiter.forget_idle(NOW, at_most=4) for _ in range(3)]
    assert [[each.name for each in scopes] for scopes in rounds] == [
        [], ["5", "6", "7"], ["8", "9"],
    ]  # fmt: skip
    assert limiter.budget_count == 5
    assert limiter.has_budget(Scope("key", "0"))
    assert not limiter.has_budget(Scope("key", "9"))


def test_only_what_a_waiter_is_short_of_has_the_waiters_looked_at() -> None:
    limiter = RateLimiter()
    slots, plenty = Limit(concurrency=1), Limit(tokens=Rate(limit=1000, period_ns=SECOND))
    host = limiter.budget(NOW, Scope("host"), plenty)
    cost = Cost(tokens=10, concurrency=1)
    held = {}
    for name in ("busy", "free"):
        budgets = (host, limiter.budget(NOW, Scope("key", name), slots))
        held[name] = limiter.acquire(NOW, budgets, cost, key=budgets)
    budgets = (host, limiter.budget(NOW, Scope("key", "busy"), slots))
    waiter = limiter.enqueue(NOW, budgets, cost, key=budgets, deadline_ns=NOW + 100 * SECOND)
    later = limiter.next_at_ns
    assert later is not None
    assert later > NOW
    free, busy = held["free"], held["busy"]
    assert isinstance(free, Reservation)
    assert isinstance(busy, Reservation)
    # A slot that nobody waits for, and tokens of which there are enough.
    limiter.settle(NOW, free, Cost(tokens=0))
    assert limiter.next_at_ns == later
    limiter.settle(NOW, busy, Cost(tokens=20))
    assert limiter.next_at_ns == NOW
    assert [each for each, _ in limiter.due(NOW).granted] == [waiter]


def test_one_that_leaves_frees_what_was_kept_for_it_and_for_nobody_behind_the_first() -> None:
    limiter = RateLimiter()
    slot = (limiter.budget(NOW, Scope("host"), Limit(concurrency=1)),)
    cost = Cost(concurrency=1)
    limiter.acquire(NOW, slot, cost)
    first, second = (
        limiter.enqueue(NOW, slot, cost, key="a", deadline_ns=NOW + 100 * SECOND) for _ in range(2)
    )
    later = limiter.next_at_ns
    assert limiter.cancel(NOW, second)
    assert limiter.next_at_ns == later
    limiter.enqueue(NOW, slot, cost, key="a", deadline_ns=NOW + 100 * SECOND)
    assert limiter.cancel(NOW, first)
    assert limiter.next_at_ns == NOW
