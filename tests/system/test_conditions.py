"""What docs/operations.md tells to do about a condition ends it: one machine, one daemon.

Not here: no_gpus and what needs a card to be seen to; loop_lag and log_drops, which end by
themselves after a minute and after five (unit/health/test_lag.py, test_losses.py); self_check and
watchdog_restarted (unit/health/test_watchdog.py, test_self_check.py); logging
(test_journal_away.py); probe, state_not_writable and state_not_kept (faults/).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from supereziod.gpu.control import SimulatedControl
from system.installation import Installation, install
from system.machine import Machine
from system.operations_page import commands_under, type_in
from system.service import GIB, UNIT, Service

_GPUS = """\
[[gpu]]
profile = "RTX 3060"
[[gpu]]
profile = "RTX 2060"
[[gpu]]
profile = "A100 80GB"
instances = ["3g.40gb", "1g.10gb"]
"""
_CUT = ("3g.40gb", "1g.10gb")
#: Dwells of minutes in a moment; nothing else is another than on a host.
_CONFIG = """\
[gpu]
sample_period = "200ms"
process_interval_busy = "300ms"
process_interval_idle = "300ms"
[gpu.thermal]
warm_enter_dwell = "200ms"
warm_leave_dwell = "200ms"
hot_enter_dwell = "200ms"
hot_leave_dwell = "200ms"
critical_leave_dwell = "200ms"
[gpu.fitness]
quarantine = "1s"
quarantine_limit = "1s"
probation = "500ms"
suspect_window = "500ms"
[gpu.probe]
lost_interval = "500ms"
driver_retry = "200ms"
[watchdog]
on_overheat = "report"
[recorder]
size = "1MiB"
"""
#: The card comes back by a reset.
_NVIDIA_SMI = """\
#!/bin/sh
test "$*" = "--gpu-reset -i 0"
export SUPEREZIO_SIMULATED_DIR=/run/superezio/simulated
exec /opt/superezio/bin/python -m supereziod.gpu.control 0 reset
"""
_RING = "/var/lib/superezio/flight.ring"


class Host:
    """The service, and what forces values on its GPUs. Conditions are what its clients are told."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.machine = service.machine
        directory = self.machine.root / "run/superezio/simulated"
        self.gpus = SimulatedControl(directory)

    def await_condition(self, code: str) -> None:
        """Wait until it is shown."""
        self.machine.wait_until(code, lambda: code in self.service.conditions())

    def await_end(self, code: str) -> None:
        """Wait until it is not shown any more."""
        self.machine.wait_until(
            f"the end of {code}", lambda: code not in self.service.conditions(), timeout_s=12
        )

    def await_health(self) -> None:
        """Wait until nothing is shown, of whichever severity."""
        self.machine.wait_until("health", lambda: not self.service.conditions(), timeout_s=12)

    def follow(self, code: str) -> list[str]:
        """Type what the page says of a condition, and return what each command printed."""
        return [type_in(self.machine, command) for command in commands_under(f"### {code}")]


@pytest.fixture(scope="module")
def host(installation: Installation) -> Iterator[Host]:
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        install(machine)
        machine.write("/usr/local/bin/nvidia-smi", _NVIDIA_SMI, mode=0o755)
        service = Service(machine, config=_CONFIG, scenario=_GPUS)
        service.drop_in("[Unit]\nStartLimitIntervalSec=0\n")
        service.start()
        yield Host(service)
        machine.run("systemctl", "stop", UNIT, "superezio.socket")


@pytest.fixture(autouse=True)
def is_well_afterwards(host: Host) -> Iterator[None]:
    yield
    host.await_health()


# --- what ends by itself, once its cause has ------------------------------------------------------

_CAUSES: dict[str, Callable[[SimulatedControl], None]] = {
    "gpu_warm": lambda gpus: gpus.temperature(0, 85),
    "gpu_hot": lambda gpus: gpus.temperature(0, 91),
    "gpu_critical": lambda gpus: gpus.temperature(0, 94),
    "gpu_unknown": lambda gpus: gpus.hang(0),
    "driver": lambda gpus: gpus.driver_fault("no_driver"),
}


@pytest.mark.parametrize("code", _CAUSES)
def test_it_ends_when_its_cause_does(host: Host, code: str) -> None:
    _CAUSES[code](host.gpus)
    host.await_condition(code)
    if code == "gpu_hot":
        host.follow(code)
    host.gpus.set(0, hang=False, temperature_c=40)
    host.gpus.driver_fault(None)
    host.await_health()
    host.gpus.restore(0)


@pytest.mark.parametrize(("code", "xid"), [("gpu_suspect", 63), ("gpu_quarantined", 79)])
def test_a_gpu_that_stays_clean_is_let_back(host: Host, code: str, xid: int) -> None:
    host.gpus.xid(0, xid)
    host.await_condition(code)
    if code == "gpu_quarantined":
        assert f"XID {xid}" in host.follow(code)[0]
        host.await_condition("gpu_probation")


# --- what is told to do ---------------------------------------------------------------------------


def test_a_detached_probe_is_attached_and_it_is_known_who_detached_it(host: Host) -> None:
    host.machine.run("superezioctl", "gpu", "detach")
    host.await_condition("probe_detached")
    assert "root (uid=0)" in host.follow("probe_detached")[-1]


def test_a_lost_gpu_is_back_after_its_reset(host: Host) -> None:
    host.gpus.lose(0)
    host.await_condition("gpu_lost")
    host.follow("gpu_lost")
    host.await_end("gpu_lost")
    host.await_condition("gpu_quarantined")


def test_a_cordon_is_lifted_and_it_is_known_who_set_it(host: Host) -> None:
    host.machine.run("superezioctl", "gpu", "cordon", "1", "--reason", "new fan")
    host.await_condition("gpu_cordoned")
    said = host.follow("gpu_cordoned")[-1]
    assert "gpu.cordon" in said
    assert "new fan" in said


def _admissible_parts(host: Host) -> list[str]:
    gpus = host.service.call("gpu.list")["gpus"]
    return [gpu["uuid"] for gpu in gpus if gpu.get("parent") and gpu["admissible"]]


@pytest.mark.parametrize("way", ["release", "cut"])
def test_a_lost_instance_is_over_when_it_is_released_or_there_again(host: Host, way: str) -> None:
    parts = host.machine.wait_until("the instances", lambda: _admissible_parts(host))
    asked = {"vram_bytes": GIB, "mode": "ttl", "ttl_ms": 600_000, "prefer": parts}
    lease = host.service.call("lease.acquire", asked)
    assert lease["gpus"][0]["uuid"] in parts
    host.gpus.cut(2)
    host.await_condition("mig_lost")
    if way == "release":
        host.machine.run("superezioctl", "lease", "release", lease["id"])
        host.await_end("mig_lost")
    host.gpus.cut(2, *_CUT)
    host.await_end("mig_lost")
    assert host.service.leases() == ([] if way == "release" else [lease["id"]])
    host.service.call("lease.release", {"lease": lease["id"]})


def test_instances_that_could_not_be_read_are_after_a_restart(host: Host) -> None:
    host.gpus.forbid_mig(2)
    host.await_condition("mig_unreadable")
    host.gpus.restore(2)
    # The directory of the simulation begins anew with the daemon.
    for command in commands_under("### mig_unreadable")[1:]:
        type_in(host.machine, command)


def _takes(host: Host, gib: int) -> tuple[subprocess.Popen[str], int]:
    """Start a program that takes so much of the first GPU; return it, and its pid inside."""
    standin = ("/opt/superezio/bin/python", "-m", "supereziod.gpu.standin")
    program = host.machine.start(
        *("env", "SUPEREZIO_SIMULATED_DIR=/run/superezio/simulated"),
        *(*standin, "--gpu", "0", "--vram", f"{gib}GiB", "--seconds", "20"),
    )
    assert program.stdout is not None
    said = program.stdout.readline()
    assert said.startswith("pid "), said
    return program, int(said.split()[1])


def _on_the_first(host: Host) -> dict[str, list[str]]:
    return {"avoid": [gpu["uuid"] for gpu in host.service.call("gpu.list")["gpus"][1:]]}


def test_vram_that_is_overcommitted_is_not_when_who_took_it_is_stopped(host: Host) -> None:
    asked = {"vram_bytes": 10 * GIB, "mode": "ttl", "ttl_ms": 600_000, **_on_the_first(host)}
    lease = host.service.call("lease.acquire", asked)
    program, pid = _takes(host, 4)
    with program:
        host.await_condition("gpu_overcommitted")
        (said,) = host.follow("gpu_overcommitted")
        assert str(pid) in said
        host.machine.run("kill", str(pid))
    host.await_end("gpu_overcommitted")
    host.service.call("lease.release", {"lease": lease["id"]})


def test_vram_that_did_not_return_does_when_who_holds_it_is_ended(host: Host) -> None:
    program, pid = _takes(host, 4)
    with program:
        asked = {"vram_bytes": 4 * GIB, "holder_pid": pid, "wait_ms": 5000, **_on_the_first(host)}
        lease = host.service.call("lease.acquire", asked)
        host.service.call("lease.release", {"lease": lease["id"]})
        host.await_condition("vram_unreturned")
        assert any(str(pid) in said for said in host.follow("vram_unreturned"))
        host.machine.run("kill", str(pid))
    host.await_end("vram_unreturned")


_CROWD = """\
import socket, sys
crowd = [socket.socket(socket.AF_UNIX) for _ in range(70)]
for sock in crowd:
    sock.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.read()
"""


def test_a_full_table_of_connections_has_room_when_the_limit_is_raised(host: Host) -> None:
    few = "[limits]\nconnections = 20\nconnections_reserved = 5\n"
    host.service.configure(f"{_CONFIG}{few}")
    host.service.call("system.reload")
    crowd = host.machine.start("/usr/bin/python3", "-c", _CROWD, "/run/superezio/control.sock",
                               user="nobody")  # fmt: skip
    with crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "connected\n"
        host.await_condition("connections")
        holders, refused = host.follow("connections")
        assert re.match(r' *15 "python3",pid=\d+\n', holders), holders
        assert "the daemon has 15 connections, which is all it takes" in refused
        host.service.configure(_CONFIG)
        host.machine.run("superezioctl", "reload")
        host.await_end("connections")


def test_too_few_open_files_are_enough_for_fewer_connections(host: Host) -> None:
    host.service.drop_in("[Service]\nLimitNOFILE=8000\n", name="files")
    host.machine.run("systemctl", "restart", UNIT)
    host.await_condition("open_files")
    host.service.configure(f"{_CONFIG}[limits]\nconnections = 500\n")
    host.machine.run("superezioctl", "reload")
    host.await_end("open_files")
    host.service.configure(_CONFIG)
    host.service.drop_in("", name="files")
    host.machine.run("systemctl", "restart", UNIT)


def test_a_refused_configuration_is_over_when_it_is_mended(host: Host) -> None:
    host.service.configure(f"{_CONFIG}[limits]\nframe_size = 'much'\n")
    host.machine.run("systemctl", "reload", UNIT, check=False)
    host.await_condition("configuration")
    check, reload = commands_under("### configuration")
    wrong = host.machine.run("sh", "-c", check, check=False)
    assert wrong.returncode != 0
    assert "limits.frame_size" in f"{wrong.stdout}{wrong.stderr}"
    host.service.configure(_CONFIG)
    type_in(host.machine, check)
    type_in(host.machine, reload)
    host.await_end("configuration")


def test_a_run_that_was_killed_is_known_until_a_restart_that_is_asked_for(host: Host) -> None:
    pid = host.service.main_pid
    host.machine.run("kill", "-KILL", str(pid))
    host.machine.wait_for_properties(UNIT, SubState="auto-restart")
    host.machine.run("systemctl", "restart", UNIT)  # as systemd would, some seconds later
    host.await_condition("restarted_suddenly")
    # The boot before is not one of this machine.
    named, units, *_ = commands_under("### restarted_suddenly")[:-1]
    assert f"(pid {pid}, started" in type_in(host.machine, named)
    assert "status=9/KILL" in type_in(host.machine, units)
    host.machine.run("systemctl", "restart", UNIT)
    host.await_end("restarted_suddenly")


def test_a_ring_that_was_moved_aside_may_be_deleted_and_a_restart_ends_it(host: Host) -> None:
    host.machine.run("systemctl", "stop", UNIT)
    host.machine.run("sh", "-c", f"echo nothing >{_RING}")
    host.service.start()
    host.await_condition("flight_recorder")
    host.machine.run("sh", "-ec", f"rm {_RING}.aside-*")
    host.machine.run("systemctl", "restart", UNIT)
    host.await_end("flight_recorder")
