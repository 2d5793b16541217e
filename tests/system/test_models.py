"""superezio-model@.service: model servers that systemd runs, each under a lease."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markdown_blocks import blocks, commands
from supereziod.gpu.control import SimulatedControl
from system.machine import Machine
from system.service import Service
from system.test_doctor import doctor

MODEL = "superezio-model@llama.service"
_PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SLICE = "superezio-models.slice"
_SERVER = "/usr/lib/superezio-test/server.py"
#: Loads for a moment, and then listens, as a model server does.
_SCRIPT = """\
import os, signal, socket, sys, time
def end(*_):
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: end())
time.sleep(0.3)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("serving", flush=True)
while True:
    listening.accept()[0].close()
"""
_END = "/var/lib/superezio-models/end"
#: Ends once there is a file.
_SLOW_TO_END = _SCRIPT.replace(
    "    sys.exit(0)\n",
    f"""\
    print("told to end", flush=True)
    while not os.path.exists("{_END}"):
        time.sleep(0.02)
    print("has ended", flush=True)
    sys.exit(0)
""",
)
_QUICK_HEAT = """\
[watchdog]
grace = "1s"
on_overheat = "report"
[gpu]
sample_period = "100ms"
[gpu.thermal]
warm_enter_dwell = "300ms"
warm_leave_dwell = "300ms"
hot_enter_dwell = "300ms"
hot_leave_dwell = "300ms"
critical_throttle_dwell = "500ms"
critical_leave_dwell = "300ms"
"""
_FILE = """\
command = ["/usr/bin/python3", "{server}", "{port}"]
vram = "{vram}"
working_directory = "/var/lib/superezio-models"

[environment]
MODEL_HOME = "/srv/models"

[ready]
tcp = "127.0.0.1:{port}"
timeout = "{timeout}"
"""


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    machine.write(_SERVER, _SCRIPT)
    machine.write(f"/etc/systemd/system/{MODEL}.d/test.conf", "[Service]\nRestartSec=100ms\n")
    service = Service(machine)
    service.start()
    yield service
    machine.run("systemctl", "stop", SLICE)


def _write(
    machine: Machine,
    *,
    name: str = "llama",
    port: int = 8080,
    vram: str = "8GiB",
    timeout: str = "30s",
) -> None:
    text = _FILE.format(server=_SERVER, port=port, vram=vram, timeout=timeout)
    machine.write(f"/etc/superezio/models/{name}.toml", text)


def _leases(service: Service) -> list[dict[str, Any]]:
    leases: list[dict[str, Any]] = service.call("lease.list")["leases"]
    return leases


def _pid(machine: Machine, unit: str = MODEL) -> int:
    return int(machine.properties(unit, "MainPID")["MainPID"])


def test_a_model_is_ready_under_a_lease_on_the_right_gpu(service: Service) -> None:
    machine = service.machine
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    assert "serving" in [e["MESSAGE"] for e in machine.journal(f"--unit={MODEL}")], "not ready yet"
    pid = _pid(machine)
    (lease,) = _leases(service)
    assert lease["name"] == "llama"
    assert [process["pid"] for process in lease["holder"]] == [pid]
    assert [gpu["index"] for gpu in lease["gpus"]] == [0], "8 GiB fit on the 12 GiB card alone"
    environ = machine.output("cat", f"/proc/{pid}/environ").split("\0")
    assert f"CUDA_VISIBLE_DEVICES={lease['gpus'][0]['uuid']}" in environ
    assert "MODEL_HOME=/srv/models" in environ
    assert not [entry for entry in environ if entry.startswith("NOTIFY_SOCKET=")]
    assert machine.output("ps", "-o", "user:32=", "-p", str(pid)).strip() == "superezio-models"
    shown = machine.properties(MODEL, "Slice", "ActiveState", "StatusText")
    assert shown == {"Slice": SLICE, "ActiveState": "active", "StatusText": "ready"}
    (listed,) = json.loads(machine.output("superezioctl", "--json", "model", "list"))["models"]
    assert (listed["name"], listed["active_state"], listed["lease"], listed["gpus"]) == (
        *("llama", "active", lease["id"], [0]),
    )


def test_a_model_runs_on_under_its_lease_while_the_daemon_restarts(service: Service) -> None:
    machine = service.machine
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    lease, pid = service.leases(), _pid(machine)
    machine.run("systemctl", "restart", "superezio.service")
    machine.run("systemctl", "kill", "--signal=KILL", "superezio.service")
    machine.wait_for_properties("superezio.service", SubState="auto-restart")
    machine.run("systemctl", "restart", "superezio.service")
    assert service.leases() == lease
    assert _pid(machine) == pid


def test_a_model_that_is_killed_is_started_again_under_a_new_lease(service: Service) -> None:
    machine = service.machine
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    (before,), pid = service.leases(), _pid(machine)
    machine.run("kill", "-KILL", str(pid))
    machine.wait_for_properties(MODEL, NRestarts="1", ActiveState="active")
    assert _pid(machine) != pid
    (after,) = service.leases()
    assert after != before


def test_the_slice_stops_all_models_and_their_leases_end(service: Service) -> None:
    machine = service.machine
    _write(machine)
    _write(machine, name="whisper", port=8081, vram="2GiB")
    machine.run("systemctl", "start", MODEL, "superezio-model@whisper.service")
    assert len(service.leases()) == 2
    machine.run("systemctl", "stop", SLICE)
    assert machine.properties(MODEL, "ActiveState", "Result") == {
        "ActiveState": "inactive",
        "Result": "success",
    }
    machine.wait_until("the leases to end", lambda: service.leases() == [])
    assert machine.properties("superezio.service", "ActiveState") == {"ActiveState": "active"}


def test_a_model_waits_for_room_and_starts_when_there_is_some(service: Service) -> None:
    machine = service.machine
    _write(machine)
    _write(machine, name="other", port=8081)
    machine.run("systemctl", "start", MODEL)
    machine.run("systemctl", "start", "--no-block", "superezio-model@other.service")
    machine.wait_for_properties(
        "superezio-model@other.service",
        ActiveState="activating",
        StatusText="waiting for a lease of 8.0 GiB",
    )
    machine.run("systemctl", "stop", MODEL)
    machine.wait_for_properties("superezio-model@other.service", ActiveState="active")


def test_a_model_that_starts_while_the_socket_is_missing_waits_for_the_systems(
    service: Service,
) -> None:
    machine = service.machine
    _write(machine)
    machine.run("rm", "/run/superezio/control.sock")
    machine.run("systemctl", "start", "--no-block", MODEL)
    waits = "superezioctl run: no daemon on /run/superezio/control.sock, waiting for one"
    machine.wait_until(
        "it to wait",
        lambda: waits in [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")],
    )
    machine.run("systemctl", "restart", "superezio.socket", "superezio.service")
    machine.wait_for_properties(MODEL, ActiveState="active")


def test_a_bad_file_fails_the_unit_once_and_says_where(service: Service) -> None:
    machine = service.machine
    machine.write("/etc/superezio/models/llama.toml", 'vram = "much"\ncomand = ["server"]\n')
    assert machine.run("systemctl", "start", MODEL, check=False).returncode != 0
    shown = machine.properties(MODEL, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    file = "/etc/superezio/models/llama.toml"
    expected = [
        f"{file}:1: vram: expected a size such as 512MiB, got 'much'",
        f"{file}:2: comand: no such key; did you mean command?",
        f"{file}: command: is missing",
    ]
    said = [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")]
    assert [line for line in said if line.startswith(file)] == expected
    checked = machine.run("superezioctl", "model", "check", check=False)
    assert (checked.returncode, checked.stdout.splitlines()) == (1, expected)


def test_a_server_that_its_user_cannot_execute_is_told_before_it_is_started(
    service: Service,
) -> None:
    machine = service.machine
    _write(machine)
    assert machine.output("superezioctl", "model", "check") == "good\n"
    closed = "/usr/lib/superezio-test/closed"
    machine.write(closed, "#!/bin/sh\n", mode=0o700)
    file = "/etc/superezio/models/llama.toml"
    machine.write(file, f'command = ["{closed}"]\nvram = "1GiB"\n')
    checked = machine.run("superezioctl", "model", "check", check=False)
    told = f"{file}:1: command: the user superezio-models may not execute {closed}: `namei -l"
    assert (checked.returncode, checked.stdout[: len(told)]) == (1, told)
    machine.run("systemctl", "start", MODEL, check=False)
    machine.wait_for_properties(MODEL, ActiveState="failed", ExecMainStatus="126")
    said = [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")]
    assert any(line.startswith("superezioctl model: llama: command: you may not") for line in said)
    granted = service.call("events.subscribe", {"types": ["lease.granted"], "replay": 10})
    assert granted["replay"] == [], "none of its starts took a lease"


def test_a_model_that_is_not_ready_in_time_is_ended_and_tried_a_few_times(
    service: Service,
) -> None:
    machine = service.machine
    text = _FILE.format(server=_SERVER, port=8080, vram="8GiB", timeout="500ms")
    # It listens, and not where it is looked for.
    machine.write("/etc/superezio/models/llama.toml", text.replace(":8080", ":8099"))
    machine.run("systemctl", "start", MODEL, check=False)
    machine.wait_for_properties(MODEL, ActiveState="failed", NRestarts="5")
    said = [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")]
    told = "superezioctl model: llama: not ready: waited 500ms for an answer on 127.0.0.1:8099"
    assert sum(line.startswith(told) for line in said) == 5
    machine.wait_until("the leases to end", lambda: service.leases() == [])


def test_a_model_that_dies_at_each_start_keeps_nobody_waiting_and_is_told_of(
    service: Service,
) -> None:
    """Its lease goes at once each time; once systemd has given it up, it is said how to go on."""
    machine = service.machine
    die = "/var/lib/superezio-models/die"
    line = f"while ! test -e {die}; do sleep 0.05; done; echo no such file; exit 3"
    machine.write(
        "/etc/superezio/models/llama.toml", f'command = ["sh", "-c", "{line}"]\nvram = "8GiB"\n'
    )
    _write(machine, name="other", port=8081)
    other = "superezio-model@other.service"
    machine.run("systemctl", "start", MODEL)
    machine.run("systemctl", "start", "--no-block", other)
    machine.wait_for_properties(other, StatusText="waiting for a lease of 8.0 GiB")
    machine.write(die, "")
    machine.wait_for_properties(other, ActiveState="active")
    machine.wait_for_properties(MODEL, ActiveState="activating", NRestarts="1")
    machine.run("systemctl", "stop", other)

    machine.wait_for_properties(MODEL, ActiveState="failed", NRestarts="5")
    machine.wait_until("the lease to end", lambda: service.leases() == [])
    assert service.call("lease.list")["queue"] == []
    listed = machine.output("superezioctl", "model", "list")
    assert "llama has failed (exit code 3, 5 restarts): `journalctl -u" in listed
    assert doctor(machine)[1]["model"]["status"] == "warn"
    (advice,) = (line for line in listed.splitlines() if line.startswith("llama has failed"))
    journal, *again = advice.split("`")[1::2]
    assert "no such file" in machine.output(*journal.split())
    machine.run("rm", die)
    for command in again:
        machine.run(*command.split())
    machine.wait_for_properties(MODEL, ActiveState="active")


def test_a_revoked_model_ends_and_is_not_started_again(service: Service) -> None:
    machine = service.machine
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    (lease,) = service.leases()
    machine.run("superezioctl", "lease", "revoke", lease)
    machine.wait_for_properties(MODEL, ActiveState="inactive", Result="success", NRestarts="0")
    assert service.leases() == []


def test_a_model_whose_gpu_is_too_hot_waits_and_comes_back_when_it_is_cool(
    service: Service,
) -> None:
    """It has done nothing wrong: it is started anew, and stands in the queue meanwhile."""
    machine = service.machine
    gpus = _quick_to_heat(service)
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    (before,) = service.leases()
    gpus.temperature(0, 95)
    waiting = "waiting for a lease of 8.0 GiB"
    machine.wait_for_properties(MODEL, ActiveState="activating", StatusText=waiting)
    assert service.leases() == []
    assert [waiter["name"] for waiter in service.call("lease.list")["queue"]] == ["llama"]
    said = [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")]
    assert "superezioctl run: systemd starts it anew, and then it waits for a lease" in said
    gpus.temperature(0, 40)
    machine.wait_for_properties(MODEL, ActiveState="active", NRestarts="1")
    assert service.leases() != [before]


def test_a_model_that_an_administrator_stops_while_it_ends_for_heat_stays_stopped(
    service: Service,
) -> None:
    machine = service.machine
    gpus = _quick_to_heat(service)
    machine.write(_SERVER, _SLOW_TO_END)
    _write(machine)
    machine.run("systemctl", "start", MODEL)
    pid = _pid(machine)
    gpus.temperature(0, 95)
    machine.wait_until("another main process", lambda: _pid(machine) != pid)
    machine.run("systemctl", "stop", "--no-block", MODEL)
    machine.wait_for_properties(MODEL, ActiveState="deactivating")
    machine.write(_END, "")
    machine.wait_for_properties(MODEL, ActiveState="inactive", Result="success", NRestarts="0")
    said = [entry["MESSAGE"] for entry in machine.journal(f"--unit={MODEL}")]
    assert said.count("told to end") == 1, "a second time would end some servers at once"
    assert "has ended" in said


def _quick_to_heat(service: Service) -> SimulatedControl:
    """Have heat decided within moments, and let the pings go on whatever is hot."""
    service.configure(_QUICK_HEAT)
    service.machine.run("systemctl", "restart", "superezio.service")
    return SimulatedControl(service.machine.root / "run/superezio/simulated")


def test_the_page_on_models_can_be_followed(service: Service) -> None:
    """With a stand-in by the name of the program, which finds its port where that does."""
    machine = service.machine
    (text,) = blocks(_PAGE, "toml")
    machine.write("/etc/superezio/models/llama.toml", text)
    program = "#!/bin/sh\nfor port; do :; done\nexec /usr/bin/python3 " + _SERVER + " $port\n"
    machine.write("/usr/bin/llama-server", program, mode=0o755)
    shown = [machine.output(*line.split()) for line in commands(_PAGE, "# ")]
    assert shown[0] == "good\n"
    assert "active (running)" in shown[2]
    assert machine.properties(MODEL, "ActiveState") == {"ActiveState": "inactive"}
    machine.wait_until("the lease to end", lambda: service.leases() == [])
