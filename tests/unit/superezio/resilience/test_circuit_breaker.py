"""The breaker, rule by rule (semantics 1)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from superezio.resilience.breaker_answers import Outcome, Permit, Rejection, Transition
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import (
    FAILED,
    SLOW,
    CallRing,
    Counts,
    CountWindow,
    TimeWindow,
)
from superezio.resilience.circuit_breaker import CircuitBreaker

SECOND = 1_000_000_000
YEAR = 365 * 86_400 * SECOND
RULES = BreakerRules(
    window=CountWindow(calls=10),
    minimum_calls=4,
    failure_rate_threshold=0.5,
    slow_call_rate_threshold=0.75,
    slow_call_duration_ns=SECOND,
    open_duration_ns=10 * SECOND,
    max_open_duration_ns=60 * SECOND,
    healthy_interval_ns=100 * SECOND,
    half_open_calls=2,
    permit_ttl_ns=30 * SECOND,
    max_block_ns=120 * SECOND,
)


class Service:
    """Calls of one service through a breaker, at a clock that the test moves."""

    def __init__(self, **changes: Any) -> None:
        self.rules = msgspec.structs.replace(RULES, **changes)
        self.now = 1000 * SECOND
        self.breaker = CircuitBreaker(self.rules, now_ns=self.now)
        self.steps: list[Transition] = []

    def acquire(self, holder: str | None = None, cause: str | None = None) -> Permit | Rejection:
        answer = self.breaker.acquire(self.now, holder=holder, correlation_id=cause)
        self.steps += answer.transitions
        return answer

    def permit(self, holder: str | None = None, cause: str | None = None) -> Permit:
        answer = self.acquire(holder, cause)
        assert isinstance(answer, Permit)
        return answer

    def rejection(self) -> Rejection:
        answer = self.acquire()
        assert isinstance(answer, Rejection)
        return answer

    def settle(self, permit: Permit, outcome: Outcome) -> str:
        answer = self.breaker.settle(permit.id, outcome, self.now)
        self.steps += answer.transitions
        return answer.effect

    def call(self, outcome: Outcome, *, took: int = 0, times: int = 1) -> None:
        for _ in range(times):
            permit = self.permit()
            self.now += took
            assert self.settle(permit, outcome) == "settled"

    def trip(self) -> None:
        self.call("failure", times=self.rules.minimum_calls)
        assert self.state == "open"

    def wait_out(self) -> None:
        self.now += self.rejection().retry_after_ns

    def half_open(self) -> Permit:
        self.trip()
        self.wait_out()
        permit = self.permit()
        assert self.state == "half_open"
        return permit

    def expire(self) -> list[Permit]:
        returned = self.breaker.expire(self.now)
        self.steps += returned.transitions
        return list(returned.permits)

    @property
    def state(self) -> str:
        return self.breaker.state

    def restarted(self, *, after: int = 0, rebooted_at: int | None = None) -> Service:
        """Return it after a restart, by what a file keeps."""
        self.expire()
        kept = msgspec.json.encode(self.breaker.dump(self.now, boot_id="boot"))
        record = msgspec.json.decode(kept, type=type(self.breaker.dump(self.now, boot_id="")))
        other = Service()
        other.rules = self.rules
        other.now = self.now + after if rebooted_at is None else rebooted_at
        other.breaker = CircuitBreaker(self.rules, now_ns=other.now, first_permit_id=1_000_000)
        boot = "boot" if rebooted_at is None else "next"
        other.steps += other.breaker.load(record, other.now, boot_id=boot)
        return other


# --- the window ---------------------------------------------------------------------------------


def test_no_decision_below_minimum_calls() -> None:
    service = Service()
    service.call("failure", times=3)
    assert service.state == "closed"
    service.call("failure")
    assert service.state == "open"


def test_count_clamps_minimum_calls_to_n() -> None:
    service = Service(window=CountWindow(calls=3), minimum_calls=100)
    service.call("failure", times=2)
    assert service.state == "closed"
    service.call("success")
    assert service.state == "open", "2 of 3 failed, and no more than 3 are ever counted"


def test_time_does_not_clamp_minimum_calls() -> None:
    service = Service(window=TimeWindow(seconds=3), minimum_calls=5)
    service.call("failure", times=4)
    assert service.state == "closed"


def test_count_is_the_last_n_however_long_ago() -> None:
    service = Service(window=CountWindow(calls=4))
    service.call("success", times=3)
    service.now += 10_000 * SECOND
    service.call("failure")
    assert service.breaker.counts(service.now) == Counts(4, 1, 0)
    service.call("success", times=4)
    assert service.breaker.counts(service.now) == Counts(4, 0, 0), "the failure is out of the ring"


def test_time_is_of_whole_buckets() -> None:
    service = Service(window=TimeWindow(seconds=3), minimum_calls=100)
    service.now = 100 * SECOND + SECOND // 2
    service.call("failure")
    service.now = 103 * SECOND - 1
    assert service.breaker.counts(service.now).failures == 1, "the seconds 100, 101 and 102"
    service.now += 1
    assert service.breaker.counts(service.now).failures == 0, "the seconds 101, 102 and 103"


def test_it_trips_at_the_threshold_and_not_below() -> None:
    service = Service(failure_rate_threshold=0.6)
    service.call("success", times=3)
    service.call("failure", times=4)
    assert service.state == "closed", "4 of 7 are less than 0.6"
    service.call("success")
    service.call("failure")
    assert service.state == "closed", "5 of 9 are less"
    service.call("failure")
    assert service.state == "open", "6 of 10 are 0.6"


def test_the_rates_are_checked_after_every_call_a_success_too() -> None:
    service = Service()
    service.call("failure", times=3)
    service.call("success")
    assert [step.reason for step in service.steps] == ["failure_rate"], "3 of 4, by a success"


# --- slow calls ---------------------------------------------------------------------------------


def test_a_call_is_slow_when_it_takes_longer_and_not_when_as_long() -> None:
    service = Service()
    service.call("success", took=SECOND)
    assert service.breaker.counts(service.now).slow_calls == 0
    service.call("success", took=SECOND + 1)
    assert service.breaker.counts(service.now).slow_calls == 1


def test_slow_successes_trip_it() -> None:
    service = Service()
    service.call("success")
    service.call("success", took=2 * SECOND, times=3)
    assert [step.reason for step in service.steps] == ["slow_call_rate"]


def test_a_slow_error_counts_in_both_rates() -> None:
    service = Service()
    service.call("failure", took=2 * SECOND)
    assert service.breaker.counts(service.now) == Counts(1, 1, 1)


# --- open ---------------------------------------------------------------------------------------


def test_open_rejects_with_the_time_that_is_left_and_then_lets_one_through() -> None:
    service = Service()
    service.trip()
    assert service.rejection().retry_after_ns == 10 * SECOND
    service.now += 10 * SECOND - 1
    assert service.rejection().retry_after_ns == 1
    service.now += 1
    assert service.permit()
    assert service.state == "half_open"


def test_open_doubles_per_consecutive_re_open_up_to_a_cap() -> None:
    service = Service()
    service.trip()
    waits = []
    for _ in range(5):
        waits.append(service.rejection().retry_after_ns // SECOND)
        service.wait_out()
        service.call("failure", times=2)
    assert waits == [10, 20, 40, 60, 60]


def _opened_four_times(service: Service) -> None:
    """Be CLOSED after waits of 10, 20, 40 and 60 seconds."""
    service.trip()
    for _ in range(3):
        service.wait_out()
        service.call("failure", times=2)
    service.wait_out()
    service.call("success", times=2)
    assert service.state == "closed"


@pytest.mark.parametrize(
    ("healthy_s", "wait_s"), [(0, 60), (99, 60), (100, 40), (200, 20), (299, 20), (900, 10)]
)
def test_open_decays_after_healthy_intervals(healthy_s: int, wait_s: int) -> None:
    service = Service()
    _opened_four_times(service)
    service.now += healthy_s * SECOND
    service.trip()
    assert service.rejection().retry_after_ns == wait_s * SECOND


def test_nothing_happens_to_an_open_breaker_that_nobody_asks() -> None:
    service = Service()
    service.trip()
    assert service.breaker.next_deadline_ns() is None
    service.now += YEAR
    service.expire()
    assert service.state == "open"
    assert service.permit()


# --- half-open ----------------------------------------------------------------------------------


def test_half_open_admits_half_open_calls_and_no_more() -> None:
    service = Service()
    service.half_open()
    service.permit()
    rejection = service.rejection()
    assert rejection.state == "half_open"
    assert rejection.retry_after_ns == 10 * SECOND, "decided by then: the longest wait"


def test_half_open_closes_when_its_calls_went_well() -> None:
    service = Service()
    first, second = service.half_open(), service.permit()
    service.settle(first, "success")
    assert service.state == "half_open"
    service.settle(second, "success")
    assert service.state == "closed"
    assert service.breaker.counts(service.now) == Counts(), "and begins anew"


def test_half_open_re_opens_when_its_calls_fail() -> None:
    service = Service()
    first, second = service.half_open(), service.permit()
    service.settle(first, "success")
    service.settle(second, "failure")
    assert service.state == "open"
    assert service.rejection().retry_after_ns == 20 * SECOND


def test_half_open_re_opens_after_its_maximum_wait_which_is_the_open_wait() -> None:
    service = Service()
    service.half_open()
    service.now += 10 * SECOND - 1
    service.expire()
    assert service.state == "half_open"
    service.now += 1
    assert service.breaker.next_deadline_ns() == service.now
    service.expire()
    assert service.state == "open"
    assert service.steps[-1].reason == "half_open_wait"
    assert service.rejection().retry_after_ns == 20 * SECOND


def test_half_open_has_the_maximum_wait_it_is_given() -> None:
    service = Service(half_open_wait_ns=3 * SECOND)
    service.half_open()
    service.permit()
    assert service.rejection().retry_after_ns == 3 * SECOND


def test_a_half_open_breaker_that_waited_in_vain_re_opened_when_that_was_due() -> None:
    service = Service()
    service.half_open()
    service.now += 10 * SECOND + 5 * SECOND
    assert service.rejection().retry_after_ns == 15 * SECOND, "20 s, of which 5 are over"


def test_a_call_that_began_before_it_opened_does_not_count_in_half_open() -> None:
    service = Service()
    early = service.permit()
    service.half_open()
    assert service.settle(early, "failure") == "stale"
    assert service.breaker.counts(service.now) == Counts()


# --- permits ------------------------------------------------------------------------------------


def test_a_permit_is_settled_once() -> None:
    service = Service()
    permit = service.permit()
    assert service.settle(permit, "failure") == "settled"
    assert service.settle(permit, "failure") == "unknown"
    assert service.breaker.counts(service.now) == Counts(1, 1, 0)


def test_a_permit_says_which_and_of_what_generation_it_is_and_when_it_started() -> None:
    service = Service()
    first, second = service.permit(), service.permit()
    assert first.id != second.id
    assert first.generation == service.breaker.generation
    assert first.started_ns == service.now
    assert service.half_open().generation == first.generation + 2


def test_what_is_ignored_never_counts() -> None:
    service = Service()
    service.call("ignore", times=100)
    assert service.breaker.counts(service.now) == Counts()


def test_a_half_open_probe_that_is_cancelled_gives_its_place_back() -> None:
    service = Service()
    first, _ = service.half_open(), service.permit()
    service.rejection()
    service.settle(first, "ignore")
    assert service.state == "half_open"
    service.permit()


def test_a_half_open_probe_whose_holder_goes_gives_its_place_back() -> None:
    service = Service()
    service.trip()
    service.wait_out()
    lost = [service.permit("connection 1"), service.permit("connection 1")]
    service.rejection()
    assert service.breaker.held("connection 1") == 2
    returned = service.breaker.drop("connection 1", service.now)
    assert list(returned.permits) == lost
    assert service.breaker.held("connection 1") == 0
    assert service.settle(lost[0], "success") == "unknown"
    service.call("success", times=2)
    assert service.state == "closed"


def test_the_permits_of_others_stay_when_a_holder_goes() -> None:
    service = Service()
    mine, _ = service.permit("a"), service.permit("b")
    service.breaker.drop("b", service.now)
    assert service.breaker.permit(mine.id) == mine
    assert service.settle(mine, "success") == "settled"


def test_a_permit_that_outlives_its_time_is_ignored_and_gives_its_place_back() -> None:
    service = Service(half_open_wait_ns=100 * SECOND)
    first, second = service.half_open(), service.permit()
    service.now += 30 * SECOND - 1
    service.rejection()
    service.now += 1
    assert service.breaker.next_deadline_ns() == service.now
    assert service.expire() == [first, second]
    assert service.settle(first, "failure") == "unknown"
    service.call("success", times=2)
    assert service.state == "closed"


def test_without_a_timer_a_permit_that_outlived_its_time_is_ignored_too() -> None:
    service = Service()
    permit = service.permit()
    service.now += 30 * SECOND
    assert service.settle(permit, "failure") == "unknown"
    assert service.breaker.counts(service.now) == Counts()
    assert service.breaker.out == 0


# --- 429 ----------------------------------------------------------------------------------------


def block(service: Service, retry_after_ns: int | None) -> None:
    service.steps += service.breaker.block(service.now, retry_after_ns, correlation_id="c429")


def test_429_opens_for_retry_after_and_is_not_a_failure() -> None:
    service = Service()
    block(service, 7 * SECOND)
    assert service.rejection().retry_after_ns == 7 * SECOND
    assert service.steps[-1].reason == "retry_after"
    assert service.steps[-1].failures == 0
    service.wait_out()
    service.call("success", times=2)
    service.trip()
    assert service.rejection().retry_after_ns == 10 * SECOND, "nor did it double anything"


def test_a_retry_after_that_is_shorter_than_the_current_block_does_not_shorten_it() -> None:
    service = Service()
    block(service, 50 * SECOND)
    block(service, 5 * SECOND)
    assert service.rejection().retry_after_ns == 50 * SECOND
    block(service, 60 * SECOND)
    assert service.rejection().retry_after_ns == 60 * SECOND
    assert len(service.steps) == 1, "it was open already"


def test_a_retry_after_of_a_year_is_capped() -> None:
    service = Service()
    block(service, YEAR)
    assert service.rejection().retry_after_ns == 120 * SECOND


def test_429_without_a_retry_after_opens_for_the_open_duration() -> None:
    service = Service()
    block(service, None)
    assert service.rejection().retry_after_ns == 10 * SECOND


@pytest.mark.parametrize("retry_after_ns", [0, -5])
def test_a_retry_after_that_is_over_changes_nothing(retry_after_ns: int) -> None:
    service = Service()
    block(service, retry_after_ns)
    assert service.state == "closed"


def test_429_in_half_open_opens_it() -> None:
    service = Service()
    probe = service.half_open()
    block(service, 3 * SECOND)
    assert service.state == "open"
    assert service.rejection().retry_after_ns == 3 * SECOND
    assert service.settle(probe, "success") == "stale"


# --- an administrator ---------------------------------------------------------------------------


def test_forced_open_rejects_for_good_and_still_carries_retry_after() -> None:
    service = Service()
    service.breaker.force_open(service.now)
    service.now += YEAR
    assert service.rejection() == Rejection(state="forced_open", retry_after_ns=10 * SECOND)
    block(service, SECOND)
    assert service.state == "forced_open"


def test_disabled_lets_all_through_and_records_none() -> None:
    service = Service()
    service.trip()
    service.breaker.disable(service.now)
    service.call("failure", times=100)
    block(service, SECOND)
    assert service.state == "disabled"


def test_reset_begins_anew() -> None:
    service = Service()
    _opened_four_times(service)
    service.breaker.force_open(service.now)
    service.breaker.reset(service.now)
    assert service.state == "closed"
    service.call("failure", times=3)
    service.breaker.reset(service.now)
    service.trip()
    assert service.rejection().retry_after_ns == 10 * SECOND


def test_an_order_that_stands_already_is_no_transition() -> None:
    service = Service()
    assert len(service.breaker.force_open(service.now)) == 1
    assert service.breaker.force_open(service.now) == ()


# --- transitions --------------------------------------------------------------------------------


def test_every_transition_tells_the_rates_the_counts_and_whose_call_caused_it() -> None:
    service = Service()
    service.call("success", times=3)
    service.call("failure", took=2 * SECOND, times=2)
    last = service.permit(cause="call 6")
    service.settle(last, "failure")
    assert service.steps == [
        Transition(
            previous="closed",
            state="open",
            reason="failure_rate",
            at_ns=service.now,
            generation=2,
            calls=6,
            failures=3,
            slow_calls=2,
            failure_rate=0.5,
            slow_call_rate=2 / 6,
            rejected=0,
            correlation_id="call 6",
            open_ns=10 * SECOND,
        )
    ]


def test_a_whole_outage_is_told_step_by_step() -> None:
    service = Service()
    service.trip()
    service.rejection()
    service.wait_out()
    probe = service.permit(cause="probe")
    service.settle(probe, "success")
    service.settle(service.permit(cause="last"), "success")
    assert [
        (step.previous, step.state, step.reason, step.rejected, step.correlation_id)
        for step in service.steps
    ] == [
        ("closed", "open", "failure_rate", 0, None),
        ("open", "half_open", "open_over", 2, "probe"),
        ("half_open", "closed", "recovered", 0, "last"),
    ]


# --- over a restart -----------------------------------------------------------------------------


def test_open_stays_open_for_what_is_left() -> None:
    service = Service()
    service.trip()
    service.now += 2 * SECOND
    again = service.restarted(after=3 * SECOND)
    assert again.rejection().retry_after_ns == 5 * SECOND
    assert again.steps == []


def test_open_that_was_over_meanwhile_is_due() -> None:
    service = Service()
    service.trip()
    assert service.restarted(after=10 * SECOND).permit()


def test_over_a_reboot_open_stays_for_the_open_duration_at_most() -> None:
    service = Service()
    block(service, 100 * SECOND)
    assert service.restarted(rebooted_at=5).rejection().retry_after_ns == 10 * SECOND
    service.now += 96 * SECOND
    assert service.restarted(rebooted_at=5).rejection().retry_after_ns == 4 * SECOND


def test_half_open_comes_back_as_open_that_is_due_with_all_its_permits() -> None:
    service = Service()
    lost = [service.half_open(), service.permit()]
    again = service.restarted(after=SECOND)
    assert again.state == "open"
    assert again.steps[0].reason == "restored"
    assert again.settle(lost[0], "success") == "unknown"
    again.call("success", times=2)
    assert again.state == "closed"


def test_a_re_open_after_a_restart_is_consecutive() -> None:
    service = Service()
    service.half_open()
    again = service.restarted()
    again.call("failure", times=2)
    assert again.rejection().retry_after_ns == 20 * SECOND


def test_a_permit_of_an_earlier_life_is_not_taken_for_one_of_this() -> None:
    service = Service()
    early = service.permit()
    again = service.restarted()
    mine = again.permit()
    assert again.settle(early, "failure") == "unknown"
    assert again.settle(mine, "success") == "settled"


@pytest.mark.parametrize("window", [CountWindow(calls=10), TimeWindow(seconds=60)])
def test_an_outage_that_was_almost_noticed_is_noticed(window: CountWindow | TimeWindow) -> None:
    service = Service(window=window)
    service.call("failure", times=3)
    again = service.restarted(after=SECOND)
    again.call("failure")
    assert again.state == "open"
    later = service.restarted(rebooted_at=service.now)
    later.call("failure", times=3)
    assert later.state == "closed", "what was before a reboot says nothing"


def test_the_calls_that_went_badly_come_back_as_the_newest() -> None:
    service = Service(failure_rate_threshold=1.0)
    service.call("failure", times=2)
    service.call("success", times=8)
    again = service.restarted()
    again.call("success", times=8)
    assert again.breaker.counts(again.now) == Counts(10, 2, 0)
    again.call("success")
    assert again.breaker.counts(again.now) == Counts(10, 1, 0)


@pytest.mark.parametrize("order", ["force_open", "disable"])
def test_what_an_administrator_decided_outlives_a_reboot(order: str) -> None:
    service = Service()
    getattr(service.breaker, order)(service.now)
    assert service.restarted(rebooted_at=5).state == service.state


def test_a_record_that_cannot_be_true_opens_nothing_for_ever() -> None:
    service = Service()
    service.trip()
    record = service.breaker.dump(service.now, boot_id="boot")
    record = msgspec.structs.replace(
        record, openings=10**9, open_until_ns=YEAR * 100, counts=Counts(-1, 7, 10**9)
    )
    breaker = CircuitBreaker(service.rules, now_ns=service.now)
    breaker.load(record, service.now, boot_id="boot")
    assert breaker.retry_after_ns(service.now) == 120 * SECOND
    assert breaker.counts(service.now) == Counts(0, 0, 0)


# --- the configuration --------------------------------------------------------------------------


def test_the_rules_that_are_given_are_read_from_a_file() -> None:
    text = b'{"window": {"type": "time", "seconds": 30}, "half_open_calls": 5}'
    rules = msgspec.json.decode(text, type=BreakerRules)
    assert rules == BreakerRules(window=TimeWindow(seconds=30), half_open_calls=5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minimum_calls", 0),
        ("failure_rate_threshold", 0),
        ("failure_rate_threshold", 1.01),
        ("slow_call_rate_threshold", float("nan")),
        ("slow_call_duration_ns", 0),
        ("open_duration_ns", 0),
        ("max_open_duration_ns", 1),
        ("healthy_interval_ns", 0),
        ("half_open_calls", 0),
        ("half_open_calls", 100_001),
        ("half_open_wait_ns", 0),
        ("permit_ttl_ns", 0),
        ("max_block_ns", 0),
    ],
)
def test_rules_that_cannot_work_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        BreakerRules(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [("permit_ttl_ns", 60), ("half_open_wait_ns", 60), ("max_open_duration_ns", 60)],
)
def test_times_in_which_no_call_could_come_back_are_refused(key: str, value: int) -> None:
    BreakerRules(**{key: value * SECOND + 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{key}.*slow_call_duration_ns"):
        BreakerRules(**{key: value * SECOND})  # type: ignore[arg-type]


def test_a_service_whose_calls_take_longer_than_the_first_wait_is_found_well_in_the_end() -> None:
    service = Service(slow_call_duration_ns=25 * SECOND)
    service.trip()
    for _ in range(3):
        service.wait_out()
        permits = [service.permit(), service.permit()]
        service.now += 25 * SECOND
        for permit in permits:
            service.settle(permit, "success")
    assert service.state == "closed", "after 10 and 20 seconds it waits for 40"


@pytest.mark.parametrize("size", [0, 10**9])
def test_windows_that_cannot_work_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"window\.calls"):
        CountWindow(calls=size)
    with pytest.raises(ValueError, match=r"window\.seconds"):
        TimeWindow(seconds=size)


# --- other rules --------------------------------------------------------------------------------


def test_other_rules_keep_what_was_recorded_and_decide_with_the_next_call() -> None:
    service = Service()
    for _ in range(3):
        service.settle(service.permit(), "failure")
    other = msgspec.structs.replace(RULES, window=TimeWindow(seconds=60), minimum_calls=3)
    assert service.breaker.set_rules(other, service.now) == ()
    assert service.breaker.counts(service.now) == Counts(3, 3, 0)
    assert service.state == "closed", "a decision follows a call"
    service.settle(service.permit(), "failure")
    assert service.state == "open"
    assert service.steps[-1].calls == 4


def test_a_smaller_window_keeps_the_calls_that_went_badly() -> None:
    service = Service()
    for outcome in ("success", "success", "success", "failure", "failure", "success", "success"):
        service.settle(service.permit(), outcome)
    smaller = msgspec.structs.replace(RULES, window=CountWindow(calls=3))
    service.breaker.set_rules(smaller, service.now)
    assert service.breaker.counts(service.now) == Counts(3, 2, 0)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
@pytest.mark.parametrize(
    "counts", [Counts(), Counts(4, 0, 0), Counts(4, 3, 1), Counts(4, 1, 3), Counts(4, 4, 4)]
)
def test_a_window_takes_over_calls_as_if_the_bad_ones_had_come_last(
    size: int, counts: Counts
) -> None:
    """Whatever is recorded then drives out the same calls."""
    filled, called = CallRing(size), CallRing(size)
    filled.fill(0, counts)
    for left in range(counts.calls, 0, -1):
        called.record(0, (left <= counts.failures) * FAILED + (left <= counts.slow_calls) * SLOW)
    for _ in range(size + 1):
        assert (filled.calls, filled.failures, filled.slow_calls) == (
            called.calls,
            called.failures,
            called.slow_calls,
        )
        filled.record(0, 0)
        called.record(0, 0)


def test_open_stays_for_as_long_as_was_told_whatever_the_rules_become() -> None:
    service = Service()
    service.trip()
    told = service.rejection().retry_after_ns
    assert told == 10 * SECOND
    other = msgspec.structs.replace(
        RULES, open_duration_ns=SECOND, max_open_duration_ns=2 * SECOND, half_open_calls=1
    )
    service.breaker.set_rules(other, service.now)
    assert service.rejection().retry_after_ns == told
    service.now += told
    service.permit()
    # As many probes as the rules of now say, which have as long as those let OPEN last at most.
    assert service.rejection().retry_after_ns == 2 * SECOND
    assert service.state == "half_open"


def test_a_half_open_breaker_decides_by_the_rules_it_began_with() -> None:
    service = Service()
    service.trip()
    service.wait_out()
    permits = [service.permit(), service.permit()]
    other = msgspec.structs.replace(RULES, half_open_calls=5, open_duration_ns=20 * SECOND)
    service.breaker.set_rules(other, service.now)
    assert isinstance(service.acquire(), Rejection), "it still lets two through"
    for permit in permits:
        service.settle(permit, "success")
    assert service.state == "closed"
    assert service.breaker.rules == other


def test_a_shorter_time_for_permits_counts_for_those_that_are_out() -> None:
    service = Service()
    permit = service.permit()
    service.now += 5 * SECOND
    assert service.expire() == []
    shorter = msgspec.structs.replace(RULES, permit_ttl_ns=5 * SECOND)
    service.breaker.set_rules(shorter, service.now)
    assert [each.id for each in service.expire()] == [permit.id]
