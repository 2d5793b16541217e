"""What is told of the host's health to a monitoring system."""

from __future__ import annotations

from metrics_lint import labelled, problems, value
from supereziod.health.check import Check
from supereziod.health.manager import HealthManager
from supereziod.health.metrics import HealthMetrics
from supereziod.observability.events import EventLog
from supereziod.observability.exposition import Exposition
from unit.health.host import Clock
from unit.health.test_manager import check, finding


def built(clock: Clock, *checks: Check) -> tuple[HealthManager, Exposition]:
    manager = HealthManager(checks=checks, events=EventLog(), clock=clock)
    source = HealthMetrics(manager.evaluate, loop_lag_s=manager.lag.worst_s)
    return manager, Exposition([source])


def test_one_verdict_holds(clock: Clock) -> None:
    broken = check("gpu_critical", [finding("GPU-1")], unhealthy_after_s=30.0)
    _, exposition = built(clock, broken)
    verdicts = [labelled(exposition.text(), "superezio_health_verdict", "verdict")]
    clock.advance(30)
    verdicts.append(labelled(exposition.text(), "superezio_health_verdict", "verdict"))
    assert verdicts == [
        {"healthy": 0, "degraded": 1, "unhealthy": 0},
        {"healthy": 0, "degraded": 0, "unhealthy": 1},
    ]


def test_a_check_fails_where_the_verdict_has_a_reason_by_it(clock: Clock) -> None:
    _, exposition = built(
        clock,
        check("driver", [finding()]),
        check("gpu_lost", [finding("GPU-1"), finding("GPU-2")], depends_on=("driver",)),
        check("probe", [finding()], time_to_visible_s=2.0),
        check("gpu_hot", [finding("GPU-1"), finding("GPU-2")]),
        check("state", []),
    )
    text = exposition.text()
    assert problems(text) == []
    failing = {"driver": 1, "gpu_lost": 0, "probe": 0, "gpu_hot": 1, "state": 0}
    assert labelled(text, "superezio_health_check_failing", "check") == failing
    clock.advance(2)
    text = exposition.text()
    assert labelled(text, "superezio_health_check_failing", "check") == failing | {"probe": 1}


def test_the_watchdog_and_the_loop_are_told(clock: Clock) -> None:
    manager, exposition = built(clock)
    text = exposition.text()
    assert value(text, "superezio_watchdog_enabled") == 0
    assert value(text, "superezio_loop_lag_seconds") == 0
    manager.set_watchdog(enabled=True, withheld=True)
    manager.lag.observe(1_500_000_000)
    text = exposition.text()
    assert value(text, "superezio_watchdog_enabled") == 1
    assert value(text, "superezio_watchdog_withheld") == 1
    assert value(text, "superezio_loop_lag_seconds") == 1.5
