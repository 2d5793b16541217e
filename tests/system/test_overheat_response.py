"""superezio-overheat.service in a booted systemd: whom it stops, whom it spares, what comes back.

Judged by systemctl and the journal; only times are scaled, by configuration and drop-ins. That it
acts on each systemd is a row of tests/system/faults; here is that it does not where it must not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from supereziod.gpu.control import SimulatedControl
from system.machine import Machine
from system.service import SCENARIO, UNIT, Service
from system.test_doctor import doctor

pytestmark = pytest.mark.slow

OVERHEAT = "superezio-overheat.service"
SLICE = "superezio-models.slice"
MODELS = ("superezio-model@ann.service", "superezio-model@bob.service")
#: One that is started by hand.
EVE = "superezio-model@eve.service"
#: One that fails at once, and one that systemd does not start a third time.
BROKEN, RESTLESS = EVE, MODELS[0]
_CONFIG = """
[watchdog]
grace = "{grace}"
cool_within = "{within}"
cool_retry_interval = "{retry}"
[gpu]
sample_period = "100ms"
[gpu.thermal]
warm_enter_dwell = "300ms"
hot_enter_dwell = "300ms"
hot_leave_dwell = "500ms"
critical_throttle_dwell = "500ms"
critical_leave_dwell = "1s"
"""
_DROP_IN = """
[Unit]
StartLimitIntervalSec=60
StartLimitBurst={starts}
[Service]
# As the unit that responds has it: in a machine as these it hides the machine's own boot id.
ProtectKernelTunables=yes
WatchdogSec=1
RestartSec=200ms
TimeoutAbortSec=500ms
"""
#: In the slice of the models and nothing more: what they serve is no matter here.
_MODEL = """
[Service]
Slice=superezio-models.slice
ExecStart=sleep infinity
"""
_TWO_STARTS = """
[Unit]
StartLimitIntervalSec=1h
StartLimitBurst=2
"""
_HOT_FROM_THE_FIRST = """
[[gpu]]
profile = "RTX 3060"
[[gpu]]
profile = "RTX 2060"
[[event]]
at = "0s"
gpu = 0
kind = "temperature"
celsius = 95
"""
_ONE_IS_HOT = [("critical", False), ("normal", True)]
_BROKEN = """
[Service]
ExecStart=
ExecStart=false
"""


class Host:
    """A machine with a daemon, two models, and simulated GPUs to heat."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.service = Service(machine)

    def begin(
        self,
        *,
        grace: str = "300ms",
        within: str = "30s",
        retry: str = "30s",
        starts: int = 1,
        model: str | None = _MODEL,
    ) -> None:
        self.service.configure(_CONFIG.format(grace=grace, within=within, retry=retry))
        machine = self.machine
        if model is not None:
            machine.write("/etc/systemd/system/superezio-model@.service", model)
        machine.write(f"/etc/systemd/system/{OVERHEAT}.d/test.conf", "[Service]\nRestartSec=100ms")
        self.service.drop_in(_DROP_IN.format(starts=starts))
        self.service.start()
        machine.run("systemctl", "start", *MODELS)

    @property
    def gpus(self) -> SimulatedControl:
        """What forces values on the GPUs, once the daemon has made its directory."""
        return SimulatedControl(self.machine.root / "run/superezio/simulated")

    def gpu_list(self, *names: str) -> list[tuple[Any, ...]]:
        """Return members of what the daemon says of each GPU."""
        gpus = self.service.call("gpu.list")["gpus"]
        return [tuple(gpu[name] for name in names) for gpu in gpus]

    def told(self, event: str) -> list[dict[str, Any]]:
        return self.machine.journal(f"--unit={OVERHEAT}", f"EVENT={event}")

    def await_told(self, event: str, *, count: int = 1) -> dict[str, Any]:
        def found() -> list[dict[str, Any]] | None:
            entries = self.told(event)
            return entries if len(entries) >= count else None

        entries = self.machine.wait_until(f"{event} x {count}", found, timeout_s=30)
        entry: dict[str, Any] = entries[count - 1]
        return entry

    def states(self, *units: str) -> list[str]:
        shown = self.machine.run("systemctl", "is-active", *units, check=False).stdout
        return shown.split()

    def pids(self) -> list[str]:
        return [self.machine.properties(model, "MainPID")["MainPID"] for model in MODELS]

    def status(self) -> str:
        return self.machine.properties(OVERHEAT, "StatusText")["StatusText"]

    def starts_since(self, cursor: int) -> list[str]:
        """Units whose start was done after a moment of the journal's clock, in order."""
        entries = self.machine.journal("JOB_TYPE=start", "JOB_RESULT=done")
        wanted = {UNIT, "superezio.socket", *MODELS}
        return [
            entry["UNIT"]
            for entry in entries
            if entry.get("UNIT") in wanted and int(entry["__MONOTONIC_TIMESTAMP"]) > cursor
        ]


@pytest.fixture
def host(machine: Machine) -> Iterator[Host]:
    host = Host(machine)
    yield host
    machine.run("systemctl", "stop", OVERHEAT, check=False)


def test_models_are_stopped_and_come_back_in_order_when_it_is_cool(host: Host) -> None:
    machine = host.machine
    machine.write(f"/etc/systemd/system/{RESTLESS}.d/test.conf", _TWO_STARTS)
    machine.write(f"/etc/systemd/system/{BROKEN}.d/test.conf", _BROKEN)
    # As one that is enabled: systemd forgets what it had counted of any other once that is stopped.
    machine.write("/etc/systemd/system/multi-user.target.d/test.conf", f"[Unit]\nWants={RESTLESS}")
    host.begin(starts=3)
    machine.run("systemctl", "restart", RESTLESS)
    machine.run("systemctl", "start", BROKEN, check=False)
    lease, pid = host.service.lease()
    host.gpus.temperature(0, 95)

    confirmed = host.await_told("overheat.confirmed")
    assert machine.properties(UNIT, "ActiveState", "Result") == {
        "ActiveState": "failed",
        "Result": "watchdog",
    }
    assert len(host.service.start_times()) == 3, "restarts come first"
    assert (confirmed["PRIORITY"], len(confirmed["MESSAGE_ID"])) == ("2", 32)
    holder = host.await_told("overheat.holder_outside")
    assert (holder["LEASE"], holder["HOLDER_PID"]) == (lease, str(pid))
    stopped = host.await_told("overheat.models_stopped")
    assert json.loads(stopped["UNIT_NAMES"]) == list(MODELS)
    assert host.states(*MODELS) == ["inactive", "inactive"]
    machine.wait_until("STATUS", lambda: "CRITICAL at 95 C" in host.status())
    assert "the daemon and 2 models stay stopped" in host.status()

    # It does not start a thing while it is hot; then the socket, the daemon, the models.
    assert host.states(UNIT, "superezio.socket", *MODELS) == [
        *("failed", "failed", "inactive", "inactive"),
    ]
    before = int(stopped["__MONOTONIC_TIMESTAMP"])
    host.gpus.temperature(0, 40)
    host.await_told("overheat.over")
    assert host.states(UNIT, "superezio.socket", *MODELS) == ["active"] * 4
    assert host.starts_since(before) == ["superezio.socket", UNIT, *MODELS]
    assert lease in host.service.leases()
    machine.wait_for_properties(OVERHEAT, ActiveState="inactive", Result="success")
    said = [entry["MESSAGE"] for entry in machine.journal(f"UNIT={OVERHEAT}")]
    assert not any("notification message" in line for line in said), "it alone tells systemd"
    assert machine.run("ls", "/run/superezio-overheat").stdout == ""
    assert host.states(BROKEN) == ["failed"], "whoever failed by itself is not ours to reset"


def test_where_it_stays_hot_all_stays_stopped_and_it_looks_again_until_the_host_is_started_anew(
    host: Host,
) -> None:
    """What was stopped is forgotten with /run; what is enabled comes back by the boot."""
    machine = host.machine
    for name, vram in (("ann", "8GiB"), ("bob", "5GiB"), ("eve", "1MiB")):
        file = f'command = ["sleep", "infinity"]\nvram = "{vram}"\n'
        machine.write(f"/etc/superezio/models/{name}.toml", file)
    host.begin(within="1s", retry="2s", model=None)
    machine.run("systemctl", "start", EVE)
    machine.run("systemctl", "enable", "superezio.socket", UNIT, *MODELS)
    host.gpus.temperature(0, 95)
    first = host.await_told("overheat.still_hot")
    assert "the daemon and 3 models stay stopped" in host.status()
    assert host.states(UNIT, *MODELS, EVE) == ["failed", "inactive", "inactive", "inactive"]
    record = json.loads(machine.output("cat", "/run/superezio-overheat/stopped.json"))
    units = {unit["name"]: unit for unit in record["units"]}
    assert all(unit["served"] for unit in units.values()), "also whose lease the heat has ended"
    assert units[MODELS[1]]["held"], "on the card that is cool"

    # Whoever asks is told, and not to start the daemon.
    asked = machine.run("superezioctl", "status", check=False)
    assert asked.returncode == 5
    assert "CRITICAL at 95 C" in asked.stderr
    assert "systemctl start" not in asked.stderr
    assert "`systemctl stop superezio-overheat` keeps all of it stopped" in asked.stderr
    found = doctor(machine)[1]["overheat"]
    assert (found["status"], "CRITICAL at 95 C" in found["message"]) == ("fail", True)

    again = host.await_told("overheat.still_hot", count=2)
    apart_us = int(again["__MONOTONIC_TIMESTAMP"]) - int(first["__MONOTONIC_TIMESTAMP"])
    assert 1.9e6 < apart_us < 10e6
    assert host.states(UNIT, *MODELS, EVE) == ["failed", "inactive", "inactive", "inactive"]

    machine.write(SCENARIO, _HOT_FROM_THE_FIRST)
    host.service.configure(_CONFIG.format(grace="1h", within="1s", retry="2s"))
    machine.reboot()
    _assert_models_wait_on_what_is_hot_alone(host)


def _assert_models_wait_on_what_is_hot_alone(host: Host) -> None:
    ann, bob = MODELS
    waits = "waiting for a lease of 8.0 GiB"
    host.machine.wait_for_properties(ann, ActiveState="activating", StatusText=waits)
    host.machine.wait_for_properties(bob, ActiveState="active")
    assert host.states("multi-user.target") == ["active"], "the boot waits for no model"
    host.machine.wait_until(
        "the levels", lambda: host.gpu_list("level", "admissible") == _ONE_IS_HOT
    )
    assert [lease["name"] for lease in host.service.call("lease.list")["leases"]] == ["bob"]
    assert host.states(UNIT, OVERHEAT) == ["active", "inactive"]
    assert host.states(EVE) == ["inactive"], "it was started by hand, and is not enabled"
    host.gpus.temperature(0, 40)
    host.machine.wait_for_properties(ann, ActiveState="active")


def test_what_was_recorded_comes_back_where_the_unit_is_killed_in_the_middle(host: Host) -> None:
    host.begin()
    host.gpus.temperature(0, 95)
    host.await_told("overheat.waiting")
    host.machine.run("systemctl", "kill", "--signal=KILL", OVERHEAT)
    resumed = host.await_told("overheat.resumed")
    assert json.loads(resumed["UNIT_NAMES"]) == list(MODELS)
    host.await_told("overheat.waiting", count=2)
    host.machine.run("systemctl", "restart", OVERHEAT)
    assert len(host.told("overheat.interrupted")) == 1
    host.await_told("overheat.waiting", count=3)
    host.machine.run("systemctl", "stop", UNIT)  # of what has failed already nobody hears
    assert host.states(UNIT, *MODELS) == ["failed", "inactive", "inactive"]
    host.gpus.temperature(0, 40)
    host.await_told("overheat.over")
    assert host.states(UNIT, *MODELS) == ["active"] * 3


@pytest.mark.each_systemd
def test_a_bad_configuration_stops_no_model(host: Host) -> None:
    host.begin(grace="1h", starts=2)
    pids = host.pids()
    host.gpus.temperature(0, 95)
    host.service.configure("nonsense = 1\n")
    host.machine.run("systemctl", "restart", UNIT, check=False)
    ignored = host.await_told("overheat.ignored")
    assert "exit-code, status 78" in ignored["MESSAGE"]
    assert host.machine.properties(UNIT, "ActiveState") == {"ActiveState": "failed"}
    _assert_spared(host, pids)


@pytest.mark.each_systemd
def test_five_manual_restarts_stop_no_model(host: Host) -> None:
    host.begin(starts=4)
    pids = host.pids()
    for _ in range(5):
        host.machine.run("systemctl", "restart", UNIT, check=False)
    ignored = host.await_told("overheat.ignored")
    assert ignored["MONITOR_RESULT"] == "start-limit-hit"
    assert "stored no reason" in ignored["MESSAGE"]
    _assert_spared(host, pids)


def test_a_kill_as_by_a_lack_of_memory_stops_no_model_on_a_hot_host(host: Host) -> None:
    """The kernel kills with SIGKILL; where cgroups count memory the result is oom-kill."""
    host.begin()
    pids = host.pids()
    host.service.drop_in("[Service]\nWatchdogSec=1h\n", name="zz")
    host.machine.run("systemctl", "reset-failed", UNIT)
    host.machine.run("systemctl", "restart", UNIT)
    host.gpus.temperature(0, 95)
    host.machine.wait_until(
        "heat is the stored reason",
        lambda: "unhealthy" in host.service.call("health.get")["verdict"],
    )
    host.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    ignored = host.await_told("overheat.ignored")
    assert "result signal" in ignored["MESSAGE"]
    _assert_spared(host, pids)


@pytest.mark.each_systemd
def test_a_stuck_loop_stops_no_model_on_a_hot_host(host: Host) -> None:
    host.begin(grace="1h")
    pids = host.pids()
    host.gpus.temperature(0, 95)
    host.service.await_message("CRITICAL")
    host.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    ignored = host.await_told("overheat.ignored")
    assert ignored["MONITOR_RESULT"] == "watchdog"
    assert "stored no reason" in ignored["MESSAGE"]
    _assert_spared(host, pids)


def _assert_spared(host: Host, pids: list[str]) -> None:
    host.machine.wait_for_properties(OVERHEAT, ActiveState="inactive", Result="success")
    assert host.states(*MODELS) == ["active", "active"]
    assert host.pids() == pids
    assert host.told("overheat.models_stopping") == []


def test_the_unit_loads_without_a_warning_and_may_do_little(host: Host) -> None:
    analyze = ("systemd-analyze", "--man=no")
    done = host.machine.run(*analyze, "verify", "--recursive-errors=yes", OVERHEAT, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    host.machine.run(*analyze, "security", "--threshold=20", OVERHEAT)
    assert host.machine.properties(OVERHEAT, "CapabilityBoundingSet", "User") == {
        "CapabilityBoundingSet": "cap_dac_read_search",
        "User": "",
    }
