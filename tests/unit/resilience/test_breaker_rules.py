"""Rules of breakers: what a caller gives for its own, and what a reload changes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio import wire
from superezio.errors import InvalidParamsError
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow, TimeWindow
from supereziod.resilience.breaker_settings import configured_rules, on_wire, own_rules
from unit.resilience.breaker_host import (
    ANNA,
    BEN,
    ROOT,
    RULES,
    SECOND,
    SETTINGS,
    BreakerHost,
    with_rules,
)

# --- as they are written ------------------------------------------------------------------------


def test_what_is_not_given_is_as_configured() -> None:
    rules = own_rules(wire.BreakerRules(open_s=2.5, window_s=20), RULES)
    assert rules == msgspec.structs.replace(
        RULES, open_duration_ns=2_500_000_000, window=TimeWindow(seconds=20)
    )
    assert own_rules(wire.BreakerRules(), RULES) == RULES


def test_a_window_of_calls_takes_the_place_of_one_of_time() -> None:
    timed = msgspec.structs.replace(RULES, window=TimeWindow(seconds=20))
    assert own_rules(wire.BreakerRules(window_calls=7), timed).window == CountWindow(calls=7)
    assert own_rules(wire.BreakerRules(), timed).window == TimeWindow(seconds=20)


@pytest.mark.parametrize("rules", [RULES, BreakerRules()])
@pytest.mark.parametrize("wait", [None, 80 * SECOND])
def test_rules_are_written_as_they_are_read(rules: BreakerRules, wait: int | None) -> None:
    rules = msgspec.structs.replace(rules, half_open_wait_ns=wait)
    assert configured_rules(on_wire(rules), BreakerRules()) == rules


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"window_calls": 0}, "window_calls has to be from 1 to 1000, not 0"),
        ({"window_calls": 1001}, "window_calls has to be from 1 to 1000"),
        ({"window_s": 601}, "window_s has to be from 1 to 600"),
        ({"window_s": 10, "window_calls": 10}, "choose one of window_calls and window_s"),
        ({"minimum_calls": -1}, "minimum_calls has to be"),
        ({"failure_rate": 0}, "failure_rate has to be from 0.001 to 1, not 0"),
        ({"failure_rate": 1.01}, "failure_rate has to be"),
        ({"failure_rate": float("nan")}, "failure_rate has to be"),
        ({"slow_call_rate": 50}, "slow_call_rate has to be"),
        ({"open_s": 0}, "open_s has to be from 0.001 to 86400, not 0"),
        ({"open_s": 1e300}, "open_s has to be"),
        ({"open_s": float("inf")}, "open_s has to be"),
        ({"half_open_calls": 1001}, "half_open_calls has to be from 1 to 1000"),
        ({"permit_s": -3}, "permit_s has to be"),
        ({"block_limit_s": 86_401}, "block_limit_s has to be"),
        ({"open_s": 61}, r"open_limit_s \(60\) has to be at least open_s \(61\)"),
        ({"slow_call_s": 30}, r"permit_s \(30\) has to be more than slow_call_s \(30\)"),
        (
            {"slow_call_s": 60, "permit_s": 90},
            r"open_limit_s \(60\) has to be more than slow_call_s \(60\)",
        ),
        (
            {"half_open_wait_s": 1},
            r"half_open_wait_s \(1\) has to be more than slow_call_s \(1\)",
        ),
    ],
)
def test_rules_that_cannot_work_are_refused_by_the_name_they_were_given_under(
    host: BreakerHost, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidParamsError, match=f"^rules.{said}"):
        host.acquire(ANNA, "mine", rules=wire.BreakerRules(**given))
    assert host.breakers.list(ANNA.who).breakers[0].name == "openai", "and none was made"


#: Names of the wire: none ends as those of the pure part do.
_NAMED = rf"^((?!_ns).)*({'|'.join(wire.BreakerRules.__struct_fields__)})((?!_ns).)*$"
_AMOUNTS = st.one_of(
    st.none(), st.floats(), st.floats(0.001, 100_000), st.sampled_from((0.001, 1, 60, 86_400))
)
_NUMBERS = st.one_of(st.none(), st.integers(), st.integers(1, 2000))


@given(
    st.builds(
        wire.BreakerRules,
        **{
            name: _NUMBERS
            if name in {"window_calls", "window_s", "minimum_calls", "half_open_calls"}
            else _AMOUNTS
            for name in wire.BreakerRules.__struct_fields__
        },
    )
)
def test_whatever_is_given_it_works_or_is_refused_in_a_sentence(rules: wire.BreakerRules) -> None:
    """The pure part never sees what it would refuse in words of its own."""
    for read in (own_rules, configured_rules):
        with suppress(ValueError):
            read(rules, BreakerRules())
            continue
        with pytest.raises(ValueError, match=_NAMED):
            read(rules, BreakerRules())


# --- a caller's own -----------------------------------------------------------------------------


def test_a_caller_has_rules_of_its_own_for_a_name_of_its_own(host: BreakerHost) -> None:
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(minimum_calls=1, window_calls=1))
    host.call(ANNA, "failure", "mine")
    assert host.state("mine", ANNA) == "open"
    assert host.view("mine", ANNA).rules.minimum_calls == 1


def test_to_ask_again_with_equal_rules_or_with_none_loses_nothing(host: BreakerHost) -> None:
    rules = wire.BreakerRules(minimum_calls=3)
    host.settle(ANNA, host.acquire(ANNA, "mine", rules=rules), "failure", "mine")
    again = wire.BreakerRules(minimum_calls=3)
    host.settle(ANNA, host.acquire(ANNA, "mine", rules=again), "failure", "mine")
    host.settle(ANNA, host.acquire(ANNA, "mine"), "failure", "mine")
    view = host.view("mine", ANNA)
    assert (view.state, view.calls) == ("open", 3)
    assert host.refused(ANNA, "mine", rules=again).data["state"] == "open"


def test_other_rules_count_at_once_and_lose_nothing(host: BreakerHost) -> None:
    host.call(ANNA, "failure", "mine")
    other = wire.BreakerRules(minimum_calls=3, window_calls=10)
    host.settle(ANNA, host.acquire(ANNA, "mine", rules=other), "failure", "mine")
    assert host.view("mine", ANNA).calls == 2
    assert host.state("mine", ANNA) == "closed", "3 are needed now"
    host.call(ANNA, "failure", "mine")
    assert host.state("mine", ANNA) == "open"
    with_short = wire.BreakerRules(minimum_calls=3, window_calls=10, open_s=0.001)
    assert host.refused(ANNA, "mine", rules=with_short).retry_after_ms == 10_000, (
        "no rules open what is open before its time"
    )


def test_other_rules_for_a_half_open_breaker_wait_for_its_decision(host: BreakerHost) -> None:
    host.trip(ANNA, "mine")
    host.advance(10)
    permits = [host.acquire(ANNA, "mine") for _ in range(2)]
    many = wire.BreakerRules(half_open_calls=500, minimum_calls=4)
    for _ in range(3):
        host.refused(ANNA, "mine", rules=many)
    for permit in permits:
        host.settle(ANNA, permit, "success", "mine")
    view = host.view("mine", ANNA)
    assert (view.state, view.rules.half_open_calls) == ("closed", 500)
    host.call(ANNA, "failure", "mine", times=3)
    assert host.state("mine", ANNA) == "closed"


def test_a_shared_breaker_ignores_what_a_caller_gives(host: BreakerHost) -> None:
    rules = wire.BreakerRules(minimum_calls=100_000)
    for _ in range(2):
        host.settle(ANNA, host.acquire(ANNA, rules=rules), "failure")
    assert host.state() == "open"
    assert host.view().rules.minimum_calls == 2


def test_a_caller_cannot_do_anything_to_the_breaker_of_another_by_its_rules(
    host: BreakerHost,
) -> None:
    host.acquire(ANNA, "mine")
    host.acquire(BEN, "mine", rules=wire.BreakerRules(minimum_calls=1))
    assert host.view("mine", ANNA).rules.minimum_calls == 2
    assert host.view("mine", ANNA).permits == 1


def test_a_shorter_time_for_permits_frees_those_that_are_out_for_the_bounds(
    host: BreakerHost,
) -> None:
    for _ in range(8):
        host.acquire(ANNA, "mine")
    host.clock.advance(5)
    shorter = wire.BreakerRules(permit_s=4.0)
    for _ in range(8):
        host.acquire(ANNA, "mine", rules=shorter)
    assert host.view("mine", ANNA).permits == 8


# --- a reload -----------------------------------------------------------------------------------


def test_a_reload_changes_the_rules_of_existing_breakers_without_losing_their_state(
    host: BreakerHost,
) -> None:
    host.call(ANNA, "failure")
    host.call(ANNA, "failure", "mine")
    host.trip(ANNA, "open")
    host.breakers.set_settings(with_rules(minimum_calls=3, open_duration_ns=20 * SECOND))
    for name in ("openai", "mine"):
        view = host.view(name, ANNA)
        assert (view.calls, view.failures, view.rules.minimum_calls) == (1, 1, 3)
        host.call(ANNA, "failure", name)
        assert host.state(name, ANNA) == "closed"
        host.call(ANNA, "failure", name)
        assert host.refused(ANNA, name).retry_after_ms == 20_000
    assert host.refused(ANNA, "open").retry_after_ms == 10_000


def test_a_reload_leaves_what_a_caller_gave_and_changes_the_rest(host: BreakerHost) -> None:
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(minimum_calls=3))
    host.breakers.set_settings(with_rules(minimum_calls=4, half_open_calls=7))
    rules = host.view("mine", ANNA).rules
    assert (rules.minimum_calls, rules.half_open_calls) == (3, 7)


def test_what_a_caller_gave_and_does_not_go_with_the_new_configuration_gives_way(
    host: BreakerHost,
) -> None:
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(open_s=50.0))
    host.breakers.set_settings(with_rules(max_open_duration_ns=40 * SECOND))
    assert host.view("mine", ANNA).rules.open_s == 10.0


def test_a_reload_shares_other_names(host: BreakerHost) -> None:
    host.call(ANNA, "failure")
    permit = host.acquire(ANNA)
    changed = msgspec.structs.replace(
        SETTINGS, shared={"claude": RULES}, audiences={"claude": SETTINGS.audiences["openai"]}
    )
    host.breakers.set_settings(changed)
    assert [each.name for each in host.breakers.list(ROOT.who).breakers] == ["claude"]
    assert host.settle(ANNA, permit, "failure") == "unknown"
    host.acquire(ANNA)
    assert host.view("openai", ANNA).uid == ANNA.uid, "the name is private now"
    host.trip(ANNA, "claude")
    host.refused(BEN, "claude")
    # What was held of the one that went is held no more, and its end is no fault.
    for _ in range(7):
        host.acquire(ANNA)
    host.breakers.connection_closed(f"of {ANNA.uid}")
    assert host.view("openai", ANNA).permits == 0


def test_a_reload_of_the_same_configuration_changes_nothing(host: BreakerHost) -> None:
    host.trip(ANNA)
    before = host.view()
    host.breakers.set_settings(SETTINGS)
    assert host.view() == before
    assert host.told() == ["breaker.opened"]
