"""The level of a log, and who has set it since the configuration was read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from superezio.wire import ConfigRunTime
from supereziod.observability.logging_setup import Logging
from supereziod.observability.running_level import KEY, RunningLevel

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def log() -> Iterator[Logging]:
    with Logging(log_format="json", level="warning") as made:
        yield made


def test_a_level_is_known_by_who_has_set_it_until_the_configuration_is_read_again(
    log: Logging,
) -> None:
    level = RunningLevel(log, now=lambda: NOON)
    assert (level.get(), level.set_since()) == ("warning", {})
    level.set("debug", 1000)
    level.set("debug", 1001)
    assert level.set_since() == {
        KEY: ConfigRunTime(
            value="debug", configured="warning", uid=1001, at="2026-01-01T12:00:00.000+00:00"
        )
    }
    assert level.get() == log.level == "debug"
    level.configure("error")
    assert (log.level, level.set_since()) == ("error", {})


def test_a_level_that_is_as_configured_was_set_by_nobody(log: Logging) -> None:
    level = RunningLevel(log)
    level.set("debug", 0)
    level.set("warning", 0)
    assert (level.get(), level.set_since()) == ("warning", {})
    level.configure("debug")
    level.set("debug", 0)
    assert level.set_since() == {}


def test_a_level_that_there_is_none_of_changes_nothing(log: Logging) -> None:
    level = RunningLevel(log)
    level.set("debug", 0)
    with pytest.raises(ValueError, match="loud"):
        level.set("loud", 1)
    assert (level.get(), level.set_since()[KEY].uid) == ("debug", 0)
