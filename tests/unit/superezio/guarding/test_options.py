from __future__ import annotations

from typing import Any

import pytest

from superezio import wire
from superezio.guarding.local_breakers import local_rules
from superezio.guarding.options import (
    BreakerOptions,
    Rules,
    breaker_rules,
    limit_params,
    limit_rate,
    limit_rates,
)
from superezio.resilience.breaker_rules import BreakerRules


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/1m", (60, 60_000, None)),
        ("60/m", (60, 60_000, None)),
        ("10/500ms", (10, 500, None)),
        ("90_000/1m burst 20_000", (90_000, 60_000, 20_000)),
        (" 1 / 1.5s ", (1, 1500, None)),
        ("1000/1d", (1000, 86_400_000, None)),
    ],
)
def test_rates_are_written_as_people_do(text: str, rate: tuple[int, int, int | None]) -> None:
    limit, period_ms, burst = rate
    assert limit_rate(text) == wire.LimitRate(limit=limit, period_ms=period_ms, burst=burst)


@pytest.mark.parametrize(
    "text", ["", "60", "60/", "/1m", "60/1x", "-1/1m", "60/1m burst", "6/1m 7"]
)
def test_what_is_no_rate_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="60"):
        limit_rate(text)


def test_rates_are_by_dimension_or_for_requests_alone() -> None:
    minute = wire.LimitRate(limit=60, period_ms=60_000)
    assert limit_rates("60/1m") == wire.LimitRates(requests=minute)
    given = limit_rates({"requests": "60/1m", "tokens": "60/1m", "concurrency": 4})
    assert given == wire.LimitRates(requests=minute, tokens=minute, concurrency=4)
    assert limit_rates(given) is given


@pytest.mark.parametrize(
    ("rates", "kind"),
    [
        ({"calls": "1/1s"}, ValueError),
        ({"tokens": 5}, TypeError),
        ({"concurrency": "4"}, TypeError),
    ],
)
def test_rates_of_what_cannot_be_limited_are_refused(rates: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        limit_rates(rates)


def test_an_option_with_a_typo_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TypeError, match=r"option token: .*requests, tokens"):
        limit_params("openai", {"token": 900})  # type: ignore[typeddict-unknown-key]


def test_the_options_of_a_breaker_are_its_rules() -> None:
    assert set(BreakerOptions.__optional_keys__) == set(wire.BreakerRules.__struct_fields__)


@pytest.mark.parametrize("rules", [{"open_s": 5}, wire.BreakerRules(open_s=5)])
def test_rules_are_a_dict_or_as_they_are_sent(rules: Rules) -> None:
    assert breaker_rules(rules) == wire.BreakerRules(open_s=5)


def test_rules_that_are_not_given_are_none() -> None:
    assert breaker_rules(None) is None
    assert breaker_rules({}) is None


@pytest.mark.parametrize("rules", ["open_s=5", 5, ["open_s"]])
def test_what_are_no_rules_are_told_with_an_example(rules: Any) -> None:
    with pytest.raises(TypeError, match=r'a dict such as \{"open_s": 5\}, or wire.BreakerRules'):
        breaker_rules(rules)


def test_every_rule_reaches_the_breaker_that_stands_in() -> None:
    given = wire.BreakerRules(
        window_s=30,
        minimum_calls=7,
        failure_rate=0.25,
        slow_call_rate=0.75,
        slow_call_s=0.5,
        open_s=2,
        open_limit_s=16,
        half_open_calls=2,
        half_open_wait_s=4,
        healthy_interval_s=8,
        permit_s=32,
        block_limit_s=64,
    )
    rules, default = local_rules(given), BreakerRules()
    for name in BreakerRules.__struct_fields__:
        assert getattr(rules, name) != getattr(default, name), name
    assert (rules.slow_call_duration_ns, rules.max_block_ns) == (5 * 10**8, 64 * 10**9)
    assert local_rules(wire.BreakerRules(window_calls=5)).window.calls == 5  # type: ignore[union-attr]
    assert local_rules(None) == default


def test_caps_by_day_are_told_to_be_the_configurations() -> None:
    with pytest.raises(ValueError, match=r"money_per_day: .*\[limit\.shared\.NAME\] of the conf"):
        limit_rates({"money_per_day": "5/1d"})
