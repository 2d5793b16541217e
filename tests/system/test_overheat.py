"""95 C on one of two GPUs, the shipped unit, a booted systemd; only the times are scaled."""

from __future__ import annotations

from itertools import pairwise

import pytest

from system.machine import Machine
from system.service import GIB, SCENARIO, UNIT, RefusedError, Service

_SCENARIO = """
[[gpu]]
profile = "RTX 3060"
[[gpu]]
profile = "RTX 2060"
[[event]]
at = "{at}"
gpu = 0
kind = "temperature"
celsius = 95
"""
#: A twentieth of the shipped times.
_CONFIG = """
[watchdog]
grace = "1500ms"
[gpu]
sample_period = "200ms"
[gpu.thermal]
warm_enter_dwell = "500ms"
hot_enter_dwell = "250ms"
critical_throttle_dwell = "500ms"
"""
_DROP_IN = """
[Unit]
StartLimitIntervalSec=60
[Service]
WatchdogSec=1.5
RestartSec=2
TimeoutAbortSec=5
"""


pytestmark = pytest.mark.slow


@pytest.fixture
def hot(machine: Machine) -> Service:
    service = Service(machine, config=_CONFIG, scenario=_SCENARIO.format(at="6s"))
    service.drop_in(_DROP_IN)
    service.start()
    return service


def test_an_overheated_gpu_is_cordoned_reported_and_escalated(hot: Service) -> None:
    machine = hot.machine
    lease, _ = hot.lease()
    first_pid = hot.main_pid

    hot.await_message("CRITICAL", timeout_s=30)
    # A card does not cool down because a daemon starts: the next instance finds it hot.
    machine.write(SCENARIO, _SCENARIO.format(at="0s"))
    gpus = hot.call("gpu.list")["gpus"]
    assert [gpu["level"] for gpu in gpus] == ["critical", "normal"]
    assert [gpu["admissible"] for gpu in gpus] == [False, True]

    # The verdict, then silence towards systemd, and never without saying why.
    machine.wait_until(
        "unhealthy", lambda: hot.call("health.get")["verdict"] == "unhealthy", every_s=0.02
    )
    machine.wait_until("STATUS", lambda: "95" in status(hot), every_s=0.02)
    withheld = machine.wait_until(
        "the reason in the journal",
        lambda: machine.journal(f"--unit={UNIT}", "EVENT=watchdog.withheld"),
    )
    assert withheld[0]["PRIORITY"] == "2"
    assert withheld[0]["GPU"] == gpus[0]["uuid"]

    hot.await_restart(1)
    assert any("Failed with result 'watchdog'" in message for message in hot.messages())
    assert hot.main_pid != first_pid
    assert lease in hot.leases()
    with pytest.raises(RefusedError):
        hot.call("lease.acquire", {"vram_bytes": 8 * GIB, "wait_ms": 0})

    # A hot quarter of an hour (here: a minute) is three starts, then a failed unit: no storm.
    machine.wait_for_properties(UNIT, ActiveState="failed", timeout_s=60)
    assert machine.properties(UNIT, "Result", "NRestarts") == {
        "Result": "watchdog",
        "NRestarts": "3",  # the third was refused
    }
    starts = hot.start_times()
    assert len(starts) == 3
    assert all(later - earlier >= 2 for earlier, later in pairwise(starts))

    # The leases are still on record, for whoever mends this and starts it again.
    machine.write(SCENARIO, _SCENARIO.format(at="1h"))
    machine.run("systemctl", "reset-failed", "superezio.socket", UNIT)
    hot.start()
    assert lease in hot.leases()


def status(service: Service) -> str:
    return service.machine.properties(UNIT, "StatusText")["StatusText"]
