"""The health manager: declared checks in, a verdict with its reasons out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from superezio.wire import Health, Verdict
from supereziod.health.check import Check, Finding
from supereziod.health.manager import HealthManager
from supereziod.observability.events import EventLog
from unit.health.host import Clock, Metronome


class Lab:
    """A manager over checks whose findings the test sets by code."""

    def __init__(self, clock: Clock, *checks: Check) -> None:
        self.clock = clock
        self.events = EventLog()
        self.metronome = Metronome(clock)
        self.manager = HealthManager(
            checks=checks, events=self.events, clock=clock, sleep=self.metronome.sleep
        )

    def verdict(self) -> Verdict:
        return self.manager.evaluate().verdict

    def shown(self) -> list[tuple[str, str | None]]:
        return [(each.check, each.gpu) for each in self.manager.evaluate().reasons]


def check(code: str, found: list[Finding], **declared: Any) -> Check:
    declared.setdefault("severity", "warning")
    return Check(code=code, probe=lambda: found, action=f"mend {code}", **declared)


def finding(gpu: str | None = None) -> Finding:
    return Finding(message="it is broken", gpu=gpu)


def test_a_host_with_nothing_wrong_is_healthy_and_lists_what_was_looked_at(clock: Clock) -> None:
    health = Lab(clock, check("a", []), check("b", [])).manager.evaluate()
    assert (health.verdict, health.reasons) == ("healthy", [])
    assert [(each.check, each.passing) for each in health.checks] == [("a", True), ("b", True)]


def test_a_warning_degrades_and_carries_its_action(clock: Clock) -> None:
    lab = Lab(clock, check("a", [finding("GPU-1")]))
    lab.manager.evaluate()
    clock.advance(5)
    (reason,) = lab.manager.evaluate().reasons
    assert lab.manager.verdict == "degraded"
    assert (reason.check, reason.gpu, reason.since_s) == ("a", "GPU-1", 5.0)
    assert (reason.message, reason.action) == ("it is broken", "mend a")


def test_a_finding_may_know_a_better_action(clock: Clock) -> None:
    found = [Finding(message="no module", action="modprobe it")]
    assert Lab(clock, check("a", found)).manager.evaluate().reasons[0].action == "modprobe it"


def test_info_is_shown_and_does_not_degrade(clock: Clock) -> None:
    lab = Lab(clock, check("a", [finding()], severity="info"))
    assert lab.shown() == [("a", None)]
    assert lab.verdict() == "healthy"


def test_unhealthy_is_only_what_has_stood_for_its_grace(clock: Clock) -> None:
    found = [finding()]
    lab = Lab(clock, check("a", found, unhealthy_after_s=30.0), check("b", [finding()]))
    assert lab.verdict() == "degraded"
    clock.advance(29.9)
    assert lab.verdict() == "degraded"
    clock.advance(0.1)
    assert lab.verdict() == "unhealthy"
    assert lab.manager.evaluate().reasons[0].severity == "critical"
    found.clear()
    assert lab.verdict() == "degraded"


def test_the_grace_runs_again_after_the_condition_has_ended(clock: Clock) -> None:
    found = [finding()]
    lab = Lab(clock, check("a", found, unhealthy_after_s=30.0))
    lab.verdict()
    clock.advance(29)
    found.clear()
    lab.verdict()
    found.append(finding())
    lab.verdict()
    clock.advance(29)
    assert lab.verdict() == "degraded"


def test_the_grace_of_one_gpu_is_not_that_of_another(clock: Clock) -> None:
    found = [finding("GPU-0")]
    lab = Lab(clock, check("a", found, unhealthy_after_s=30.0))
    lab.verdict()
    clock.advance(20)
    found[:] = [finding("GPU-1")]
    lab.verdict()
    clock.advance(20)
    assert lab.verdict() == "degraded"


def test_a_finding_is_shown_once_it_has_stood_long_enough(clock: Clock) -> None:
    found = [finding()]
    lab = Lab(clock, check("a", found, time_to_visible_s=2.0))
    assert lab.shown() == []
    assert not lab.manager.evaluate().checks[0].passing
    clock.advance(1.9)
    assert lab.verdict() == "healthy"
    clock.advance(0.1)
    assert lab.shown() == [("a", None)]


def test_a_finding_that_comes_and_goes_does_not_flap(clock: Clock) -> None:
    found: list[Finding] = []
    lab = Lab(clock, check("a", found, time_to_visible_s=2.0))
    for _ in range(20):
        found[:] = [] if found else [finding()]
        clock.advance(1.5)
        assert lab.verdict() == "healthy"
    assert lab.events.recent(10) == []


def test_a_failed_check_hides_those_that_depend_on_it(clock: Clock) -> None:
    driver = [finding()]
    lab = Lab(
        clock,
        check("b", [finding("GPU-0")], depends_on=("a",)),
        check("c", [finding("GPU-0")], depends_on=("b",)),
        check("a", driver, time_to_visible_s=1.0),
    )
    assert lab.shown() == []
    hidden = {each.check: each.hidden_by for each in lab.manager.evaluate().checks}
    assert hidden == {"a": None, "b": "a", "c": "b"}
    driver.clear()
    assert lab.shown() == [("b", "GPU-0")]


def test_a_gpus_finding_is_hidden_only_by_findings_of_that_gpu_or_of_none(clock: Clock) -> None:
    lab = Lab(
        clock,
        check("lost", [finding("GPU-0")]),
        check("unknown", [finding("GPU-0"), finding("GPU-1")], depends_on=("lost",)),
    )
    assert lab.shown() == [("lost", "GPU-0"), ("unknown", "GPU-1")]


def test_the_gravest_reason_comes_first(clock: Clock) -> None:
    lab = Lab(
        clock,
        check("info", [finding()], severity="info"),
        check("warning", [finding()]),
        check("critical", [finding()], unhealthy_after_s=0.0),
    )
    assert [code for code, _ in lab.shown()] == ["critical", "warning", "info"]


def test_a_check_that_fails_degrades_and_hides_nothing_and_restarts_nothing(clock: Clock) -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("boom")

    bad = Check(code="bad", severity="info", probe=broken, action="", unhealthy_after_s=0.0)
    lab = Lab(clock, bad, check("good", [finding()]))
    for _ in range(3):
        assert lab.verdict() == "degraded"
        clock.advance(100)
    assert lab.shown() == [("bad", None), ("good", None)]
    assert "boom" in lab.manager.evaluate().reasons[0].message


def test_each_visible_change_is_one_event_and_one_call(clock: Clock) -> None:
    found: list[Finding] = []
    lab = Lab(clock, check("a", found, unhealthy_after_s=10.0))
    heard: list[Health] = []
    forget = lab.manager.on_change(heard.append)
    lab.verdict()
    found.append(finding("GPU-0"))
    for _ in range(3):
        lab.verdict()
        clock.advance(9)
    found.clear()
    lab.verdict()
    forget()
    found.append(finding())
    lab.verdict()
    told = lab.events.recent(10)
    assert [each.type for each in told] == ["health.changed"] * 4
    assert [(each.severity, each.data["verdict"], each.data["previous"]) for each in told] == [
        ("warning", "degraded", "healthy"),
        ("critical", "unhealthy", "degraded"),
        ("info", "healthy", "unhealthy"),
        ("warning", "degraded", "healthy"),
    ]
    assert [each.verdict for each in heard] == ["degraded", "unhealthy", "healthy"]


@pytest.mark.parametrize(
    "checks",
    [
        [check("a", []), check("a", [])],
        [check("a", [], depends_on=("nothing",))],
        [check("a", [], depends_on=("b",)), check("b", [], depends_on=("a",))],
    ],
)
def test_a_table_that_makes_no_sense_is_refused(clock: Clock, checks: list[Check]) -> None:
    with pytest.raises(ValueError, match="check"):
        Lab(clock, *checks)


async def test_it_looks_each_second_and_measures_how_late_it_was(clock: Clock) -> None:
    found: list[Finding] = []
    lab = Lab(clock, check("a", found))
    await lab.manager.start()
    assert await lab.metronome.resting() == 1.0
    found.append(finding())
    await lab.metronome.turn(late_s=0.4)
    assert lab.manager.verdict == "degraded"
    assert lab.manager.lag.worst_s() == pytest.approx(0.4)
    await lab.manager.aclose()
    await lab.manager.aclose()


async def test_many_touches_in_one_turn_of_the_loop_are_one_look(clock: Clock) -> None:
    looks: list[int] = []

    def probe() -> list[Finding]:
        looks.append(1)
        return []

    lab = Lab(clock, Check(code="a", severity="warning", probe=probe, action=""))
    for _ in range(5):
        lab.manager.touch()
    await turn_of_the_loop()
    assert len(looks) == 1
    lab.manager.touch()
    await lab.manager.aclose()
    await turn_of_the_loop()
    assert len(looks) == 1


async def turn_of_the_loop() -> None:
    """Return when everything that was due before has run."""
    over = asyncio.Event()
    call: Callable[[], None] = over.set
    asyncio.get_running_loop().call_soon(call)
    await over.wait()
