"""superezioctl doctor where systemd runs: units off, on, failed; groups and the session's."""

from __future__ import annotations

import json
from typing import Any

from system.machine import Machine
from system.service import SOCKET, UNIT, Service

USER = "ann"


def doctor(machine: Machine, *, user: str | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code, and the checks by name."""
    line = "superezioctl --json doctor; echo $?"
    document, code = machine.run("sh", "-c", line, user=user).stdout.splitlines()
    return int(code), {check["check"]: check for check in json.loads(document)["checks"]}


def test_what_doctor_says_to_do_mends_the_host(machine: Machine) -> None:
    service = Service(machine)
    code, found = doctor(machine)
    assert code == 1
    assert found["unit"]["status"] == "ok"
    assert found["unit_enabled"]["status"] == "warn"
    for check in ("unit_active", "socket_unit", "daemon"):
        assert found[check]["status"] == "fail"
    machine.run("sh", "-c", found["unit_enabled"]["action"])
    machine.run("sh", "-c", found["daemon"]["action"])
    code, found = doctor(machine)
    assert code == 0, [check for check in found.values() if check["status"] != "ok"]
    assert {check["status"] for check in found.values()} == {"ok"}, found
    assert SOCKET in found["socket"]["message"]
    limits = machine.output("cat", f"/proc/{service.main_pid}/limits")
    assert limits.split("Max open files")[1].split()[0] in found["open_files"]["message"]

    service.configure("nonsense = 1\n")
    machine.run("sh", "-c", f"systemctl restart {UNIT} || true")
    code, found = doctor(machine)
    assert code == 1
    assert "configuration is bad" in found["unit_active"]["message"]
    service.configure("")
    machine.run("sh", "-c", found["daemon"]["action"])
    code, found = doctor(machine)
    assert code == 0, [check for check in found.values() if check["status"] != "ok"]


def test_a_start_limit_that_is_hit_is_named_and_lifted(machine: Machine) -> None:
    Service(machine).start()
    machine.run("sh", "-c", f"for _ in 1 2 3 4; do systemctl restart {UNIT}; done; true")
    assert machine.properties(UNIT, "Result") == {"Result": "start-limit-hit"}
    code, found = doctor(machine)
    assert code == 1
    assert "too often" in found["unit_active"]["message"]
    machine.run("sh", "-c", found["unit_active"]["action"])
    assert doctor(machine)[1]["unit_active"]["status"] == "ok"


def test_who_is_no_member_is_told_to_join(machine: Machine) -> None:
    Service(machine).start()
    machine.run("useradd", "--create-home", USER)
    _, found = doctor(machine, user=USER)
    assert found["membership"]["status"] == "warn"
    assert found["state_dir"]["status"] == "ok", "not for this user to see"
    mend = found["membership"]["action"].removeprefix("sudo ")
    machine.run("sh", "-c", mend)
    _, found = doctor(machine, user=USER)
    assert found["membership"]["message"] == "you may lease GPUs"
