"""The sections of breakers: rules and bounds, what is shared, and what cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import asdict, fields

from superezio import wire
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow, TimeWindow
from supereziod import settings
from supereziod.config import Config, ConfigError, Source
from supereziod.config.breakers import Breaker, SharedBreaker
from supereziod.config.changes import diff
from supereziod.config.host_names import unknown_names
from supereziod.resilience.breaker_settings import BreakerLimits, BreakerSettings
from supereziod.resilience.sharing import Audience


def load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "superezio.toml"
    file.write_text(text)
    return Source(file=file).load().config


def test_the_defaults_are_those_of_the_parts() -> None:
    assert Breaker().rules() == BreakerRules()
    assert Breaker().limits() == BreakerLimits()
    assert settings.breaker_settings(Breaker()) == BreakerSettings()
    mine = {name: value for name, value in asdict(Breaker()).items() if value is not None}
    theirs = asdict(BreakerLimits())
    assert {name: mine[name] for name in theirs} == theirs


def test_the_keys_are_the_rules_of_the_wire_without_their_unit() -> None:
    rules = set(wire.BreakerRules.__struct_fields__)
    for section in (Breaker, SharedBreaker):
        assert rules <= {each.name for each in fields(section)}


def test_a_shared_breaker_has_who_shares_it_and_the_rules_that_differ(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [breaker]
        minimum_calls = 7
        window = "30s"
        [breaker.shared.openai]
        groups = ["0"]
        failure_rate = 0.3
        open = "1m"
        [breaker.shared."eu.host:8080/v1"]
        everyone = true
        window_calls = 50
        """,
    )
    found = settings.breaker_settings(config.breaker)
    default = BreakerRules(minimum_calls=7, window=TimeWindow(seconds=30))
    assert found.default == default
    assert found.shared == {
        "openai": BreakerRules(
            minimum_calls=7,
            window=TimeWindow(seconds=30),
            failure_rate_threshold=0.3,
            open_duration_ns=60_000_000_000,
        ),
        "eu.host:8080/v1": BreakerRules(minimum_calls=7, window=CountWindow(calls=50)),
    }
    assert found.audiences == {
        "openai": Audience(gids=frozenset({0}), group_names=("0",)),
        "eu.host:8080/v1": Audience(everyone=True),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("failure_rate = 0", "failure_rate has to be from 0.001 to 1, not 0"),
        ('open = "1h"', r"open_limit \(300\) has to be at least open \(3600\)"),
        ('permit = "30s"', r"permit \(30\) has to be more than slow_call \(60\)"),
        ("window = 1.5", "window is 1.5: it has to be whole seconds"),
        ('window_calls = 5\nwindow = "5s"', "choose one of window_calls and window"),
        ("window_calls = 100001", "window_calls has to be from 1 to 100000"),
        ("breakers_per_uid = 0", "expected a whole number"),
        ('[breaker.shared.x]\nopen = "1h"', r"shared\.x: open_limit \(300\) has to be at least"),
        ('[breaker.shared."a b"]\neveryone = true', "shared.'a b' is no name"),
        ("[breaker.shared.x]\nopened = 1", "no such key; did you mean open"),
        ("[breaker.shared]\nx = 1", "expected a table"),
    ],
)
def test_what_cannot_work_is_refused_with_the_key_as_it_stands_in_the_file(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, f"[breaker]\n{text}\n")


def test_all_of_it_changes_live(tmp_path: Path) -> None:
    new = load(
        tmp_path, "[breaker]\npermits_per_uid = 5\n[breaker.shared.x]\neveryone = true\nopen = 5\n"
    )
    changes = diff(Config(), new)
    assert changes.restart == []
    assert changes.live == ["breaker.permits_per_uid", "breaker.shared.x"]


def test_whom_the_host_does_not_know_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_text('[breaker.shared.x]\nusers = ["root", "nobody-here"]\n')
    (problem,) = unknown_names(Source(file=file).load())
    assert str(problem) == f"{file}:2: breaker.shared.x.users: this host has no user nobody-here"
