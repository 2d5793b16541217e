"""SEMANTICS 7: it acts only if result, stored reason and a fresh reading all say heat."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from superezio.wire import Level
from supereziod.health.record import StoredReasons, Withholding
from supereziod.overheat.decision import (
    Heat,
    Trigger,
    blamed,
    by_reading,
    by_result,
    by_stored_reason,
)

BOOT = "boot-1"
HEAT = Withholding(kind="overheat", message="GPU 0 is CRITICAL", time="t", boot_id=BOOT, gpu="G")
STUCK = replace(HEAT, kind="stuck", message="it does not answer")
NONE = StoredReasons()
#: All results that systemd has for a service.
RESULTS = (
    *("watchdog", "start-limit-hit", "exit-code", "signal", "core-dump", "oom-kill", "timeout"),
    *("protocol", "resources", "exec-condition", "success"),
)
LEVELS: tuple[Level, ...] = ("normal", "warm", "hot", "critical", "unknown")


def heat(level: Level) -> Heat:
    return Heat(uuid="G", label="GPU 0 (Test)", level=level, temperature_c=95)


def acts(result: str, stored: StoredReasons, level: Level, *, unit: str | None = None) -> bool:
    trigger = Trigger(unit=unit or "superezio.service", result=result)
    whys = (
        by_result(trigger),
        by_stored_reason(trigger, stored, boot_id=BOOT),
        by_reading([heat("normal"), heat(level)], fault=None),
    )
    return all(why is None for why in whys)


@pytest.mark.parametrize(("result", "level"), [*product(RESULTS, LEVELS)])
def test_all_three_have_to_hold_at_once(result: str, level: Level) -> None:
    by_heat = result in {"watchdog", "start-limit-hit"}
    assert acts(result, StoredReasons(current=HEAT), level) == (by_heat and level == "critical")
    assert not acts(result, NONE, level)
    assert not acts(result, StoredReasons(current=STUCK), level)


@pytest.mark.parametrize(
    ("case", "result", "stored"),
    [
        ("a bad configuration", "exit-code", StoredReasons(current=HEAT)),
        ("five manual restarts", "start-limit-hit", NONE),
        ("an OOM kill", "oom-kill", StoredReasons(current=HEAT)),
        ("a kill", "signal", StoredReasons(current=HEAT)),
        ("a stuck loop", "watchdog", NONE),
        ("a stuck loop that could say so", "watchdog", StoredReasons(current=STUCK)),
        ("a stuck loop after a run that was too hot", "watchdog", StoredReasons(last=HEAT)),
    ],
)
def test_what_stops_no_model_however_hot_it_is(
    case: str, result: str, stored: StoredReasons
) -> None:
    assert not acts(result, stored, "critical"), case


def test_at_the_start_limit_the_last_run_that_stored_a_reason_counts() -> None:
    assert acts("start-limit-hit", StoredReasons(last=HEAT), "critical")
    assert not acts("start-limit-hit", StoredReasons(current=STUCK, last=HEAT), "critical")
    stored = StoredReasons(current=HEAT, last=STUCK)
    assert blamed(Trigger(result="start-limit-hit"), stored) == HEAT


def test_heat_of_an_earlier_boot_is_none() -> None:
    stored = StoredReasons(current=replace(HEAT, boot_id="boot-0"))
    assert not acts("watchdog", stored, "critical")


def test_the_failure_of_another_unit_is_not_ours() -> None:
    assert not acts("watchdog", StoredReasons(current=HEAT), "critical", unit="other.service")


def test_without_a_failure_nothing_is_done_and_that_is_said() -> None:
    assert Trigger.from_environment({}) == Trigger()
    assert by_result(Trigger()) == "superezio.service has not failed"


def test_systemd_tells_the_failure_in_the_environment() -> None:
    environ = {
        "MONITOR_UNIT": "superezio.service",
        "MONITOR_SERVICE_RESULT": "exit-code",
        "MONITOR_EXIT_STATUS": "78",
    }
    why = by_result(Trigger.from_environment(environ))
    assert why is not None
    assert "exit-code, status 78" in why


@pytest.mark.parametrize(
    ("heats", "fault", "said"),
    [
        ([], "no driver", "no GPU can be read: no driver"),
        ([], None, "the driver lists none"),
        ([heat("unknown")], None, "GPU 0 (Test) cannot be read (it does not answer)"),
        ([heat("hot")], None, "GPU 0 (Test) reads HOT at 95 C"),
    ],
)
def test_what_a_reading_says_instead_is_told(
    heats: list[Heat], fault: str | None, said: str
) -> None:
    why = by_reading(heats, fault=fault)
    assert why is not None
    assert said in why
