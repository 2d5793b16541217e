"""The stand-in, by the rules of SEMANTICS 1 to 3 and on a clock of the test's."""

from __future__ import annotations

from typing import Any

import pytest

from superezio import errors, wire
from superezio.calls import Call
from superezio.guarding import asking
from superezio.guarding.fallback import Fallback
from superezio.guarding.options import LimitOptions, limit_params
from superezio.guarding.pending import Pending

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = SECOND

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fallback(clock: Clock) -> Fallback:
    return Fallback(clock=clock)


def acquire(fallback: Fallback, **options: Any) -> Any:
    given: LimitOptions = {"rates": {"requests": "1/1s", "tokens": "100/1s"}, **options}  # type: ignore[typeddict-item]
    return fallback.answer(asking.limit_acquire(limit_params("openai", given)))


def settle(fallback: Fallback, reservation: int, **used: Any) -> bool:
    params = wire.LimitSettleParams(reservation=reservation, **used)
    answer = fallback.answer(asking.limit_settle(params))
    assert isinstance(answer, wire.LimitSettlement)
    return answer.settled


def get(fallback: Fallback, key: str = "k", wait_ms: int = 30_000) -> Any:
    return fallback.answer(asking.cache_get("ns", key, wait_ms=wait_ms, lead_ms=10_000))


def store(fallback: Fallback, token: str | None, text: str = "v", **more: Any) -> wire.CacheStored:
    params = wire.CacheSetParams(namespace="ns", key="k", text=text, token=token, **more)
    answer = fallback.answer(asking.cache_set(params))
    assert isinstance(answer, wire.CacheStored)
    return answer


def fail(
    fallback: Fallback, token: str, error: str | None, *, pass_on: bool = False
) -> wire.CacheFailed:
    answer = fallback.answer(asking.cache_fail("ns", "k", token, error, pass_on=pass_on))
    assert isinstance(answer, wire.CacheFailed)
    return answer


@pytest.mark.parametrize("rates", [{"concurrency": 1}, {"requests": "9/1s", "concurrency": 1}])
def test_a_call_that_names_no_slots_takes_one_where_the_limit_has_any(
    fallback: Fallback, rates: dict[str, Any]
) -> None:
    taken = acquire(fallback, rates=rates)
    with pytest.raises(errors.RateLimitedError):
        acquire(fallback, rates=rates)
    acquire(fallback, rates=rates, concurrency=0)
    settle(fallback, taken.reservation)
    acquire(fallback, rates=rates)


def test_a_breaker_opens_rejects_and_recovers(fallback: Fallback, clock: Clock) -> None:
    rules = wire.BreakerRules(
        window_calls=2, minimum_calls=2, open_s=70, half_open_calls=1, slow_call_s=60
    )

    def ask() -> wire.BreakerPermit:
        answer = fallback.answer(asking.breaker_acquire("openai", rules))
        assert isinstance(answer, wire.BreakerPermit)
        return answer

    def end(permit: wire.BreakerPermit, outcome: wire.CallOutcome) -> wire.BreakerSettlement:
        call: Call[Any] = asking.breaker_settle("openai", permit.permit, outcome, None)
        answer = fallback.answer(call)
        assert isinstance(answer, wire.BreakerSettlement)
        return answer

    assert end(ask(), "failure").state == "closed"
    assert end(ask(), "failure") == wire.BreakerSettlement(effect="settled", state="open")
    with pytest.raises(errors.BreakerOpenError) as caught:
        ask()
    assert caught.value.retry_after_ms == 70_000
    clock.now_ns += 70 * SECOND
    probe = ask()
    assert probe.state == "half_open"
    with pytest.raises(errors.BreakerOpenError):
        ask()
    assert end(probe, "success").state == "closed"
    assert end(probe, "failure").effect == "unknown"


def test_429_opens_a_breaker_for_its_retry_after(fallback: Fallback) -> None:
    permit = fallback.answer(asking.breaker_acquire("openai", None))
    assert isinstance(permit, wire.BreakerPermit)
    fallback.answer(asking.breaker_settle("openai", permit.permit, "throttled", 5000))
    with pytest.raises(errors.BreakerOpenError) as caught:
        fallback.answer(asking.breaker_acquire("openai", None))
    assert caught.value.retry_after_ms == 5000


def test_rules_that_cannot_work_are_told(fallback: Fallback) -> None:
    with pytest.raises(ValueError, match="failure_rate_threshold"):
        fallback.answer(asking.breaker_acquire("x", wire.BreakerRules(failure_rate=2)))


def test_a_rejection_names_the_dimension_and_when_to_come_back(fallback: Fallback) -> None:
    acquire(fallback, tokens=60)
    with pytest.raises(errors.RateLimitedError) as caught:
        acquire(fallback, requests=0, tokens=60)
    assert caught.value.retry_after_ms == 200
    assert caught.value.data["dimension"] == "tokens"
    with pytest.raises(errors.NeverPassesError) as never:
        acquire(fallback, tokens=101)
    assert never.value.data["burst"] == 100


def test_what_was_not_used_is_given_back(fallback: Fallback) -> None:
    reservation = acquire(fallback, tokens=100).reservation
    assert settle(fallback, reservation, requests=0, tokens=40)
    assert not settle(fallback, reservation)
    acquire(fallback, tokens=60)


def test_what_the_service_says_lowers_what_is_left(fallback: Fallback) -> None:
    settle(fallback, acquire(fallback).reservation, requests=0, retry_after_ms=3000)
    with pytest.raises(errors.RateLimitedError) as caught:
        acquire(fallback)
    assert (caught.value.retry_after_ms, caught.value.data["blocked"]) == (3000, True)


def test_remaining_lowers_what_is_left_too(fallback: Fallback) -> None:
    left = wire.LimitRemaining(tokens=10)
    settle(fallback, acquire(fallback, requests=0, tokens=1).reservation, remaining=left)
    acquire(fallback, requests=0, tokens=10)
    with pytest.raises(errors.RateLimitedError):
        acquire(fallback, requests=0, tokens=1)


def test_waiters_are_let_in_in_order_and_those_too_late_are_told(
    fallback: Fallback, clock: Clock
) -> None:
    acquire(fallback)
    first, second = acquire(fallback, wait=5), acquire(fallback, wait=1.5)
    assert isinstance(first, Pending)
    assert fallback.next_s() == 1.0
    clock.now_ns += SECOND
    fallback.turn()
    assert (first.done, second.done) == (True, False)
    assert first.outcome().waited_ms == 1000
    assert fallback.next_s() == 0.5
    clock.now_ns += SECOND // 2
    fallback.turn()
    with pytest.raises(errors.RateLimitedError) as caught:
        second.outcome()
    assert caught.value.retry_after_ms == 500
    assert fallback.next_s() is None


def test_one_that_waits_is_woken_when_its_turn_may_come_sooner(
    fallback: Fallback, clock: Clock
) -> None:
    woken: list[int] = []
    acquire(fallback)
    first = acquire(fallback, wait=50)
    first.on_change(lambda: woken.append(clock.now_ns))
    before_s = fallback.next_s()
    second = acquire(fallback, wait=0.25)
    assert (before_s, fallback.next_s()) == (1.0, 0.25)
    assert woken, "who sleeps until the earlier time has to sleep less"
    fallback.leave(second)
    fallback.leave(first)
    assert fallback.next_s() is None
    clock.now_ns += SECOND
    acquire(fallback)


def test_one_caller_leads_and_the_others_get_its_value(fallback: Fallback) -> None:
    lead, waiting = get(fallback), get(fallback)
    assert (lead.status, waiting.done) == ("lead", False)
    assert store(fallback, lead.token) == wire.CacheStored(accepted=True, stored=True)
    assert (waiting.outcome().status, waiting.outcome().text) == ("filled", "v")
    assert get(fallback).status == "hit"
    assert not store(fallback, lead.token).accepted


def test_an_error_of_the_leader_goes_to_all_and_is_not_cached(fallback: Fallback) -> None:
    lead, waiting = get(fallback), get(fallback)
    assert fail(fallback, lead.token, "OSError: down").accepted
    with pytest.raises(errors.FillFailedError, match="OSError: down"):
        waiting.outcome()
    assert get(fallback).status == "lead"
    assert not fail(fallback, lead.token, "again").accepted


def test_a_leader_that_gives_up_or_is_late_is_followed_by_the_next(
    fallback: Fallback, clock: Clock
) -> None:
    lead, second, third = get(fallback), get(fallback), get(fallback)
    fail(fallback, lead.token, "RateLimitedError", pass_on=True)
    assert (second.outcome().status, third.done) == ("lead", False)
    assert fallback.next_s() == 10.0
    clock.now_ns += 10 * SECOND
    fallback.turn()
    assert third.outcome().status == "lead"
    assert not store(fallback, second.outcome().token).accepted


def test_a_wait_for_a_fill_ends_with_its_own_time(fallback: Fallback, clock: Clock) -> None:
    get(fallback)
    waiting, left = get(fallback, wait_ms=500), get(fallback, wait_ms=500)
    fallback.leave(left)
    clock.now_ns += SECOND // 2
    fallback.turn()
    with pytest.raises(errors.FillTimeoutError):
        waiting.outcome()
    assert not left.done


def test_a_stale_value_is_served_and_one_caller_refreshes_it(
    fallback: Fallback, clock: Clock
) -> None:
    store(fallback, None, ttl_ms=1000, grace_ms=5000, stale_if_error_ms=60_000)
    clock.now_ns += 2 * SECOND
    first, second = get(fallback), get(fallback)
    assert (first.status, first.text) == ("stale", "v")
    assert first.token is not None
    assert second.token is None
    clock.now_ns += 8 * SECOND
    failed = fail(fallback, first.token, "BreakerOpenError", pass_on=True)
    assert (failed.accepted, failed.text) == (True, "v")
