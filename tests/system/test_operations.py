"""docs/operations.md, run as an administrator would."""

from __future__ import annotations

from pathlib import Path

from markdown_blocks import commands_of
from system.machine import Machine
from system.service import UNIT, Service

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def _commands(heading: str) -> list[str]:
    section = _PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return commands_of(section.split("```console\n")[1].split("```")[0], "#")


def test_state_that_was_moved_goes_on_where_it_is_now(machine: Machine) -> None:
    service = Service(machine)
    service.start()
    service.call("gpu.cordon", {"gpu": "1", "reason": "new fan"})
    for command in _commands("Moving the state"):
        machine.run("sh", "-ec", command)
    assert [gpu["cordoned"] for gpu in service.call("gpu.list")["gpus"]] == [False, True]
    inodes = [
        machine.output("stat", "--format=%i", f"{place}/superezio/state.db")
        for place in ("/srv", "/var/lib")
    ]
    assert inodes[0] == inodes[1], "it writes where the state is now"


def test_stopped_it_stays_stopped_and_leases_stand(machine: Machine) -> None:
    service = Service(machine)
    service.start()
    lease, _ = service.lease()
    stop, *others = _commands("Stop and start")
    machine.run("sh", "-ec", stop)
    asked = machine.run("superezioctl", "status", check=False)
    assert asked.returncode == 5
    assert "systemd says: superezio.service is inactive (dead)\n" in asked.stderr
    for command in others:
        machine.run("sh", "-ec", command)
    assert service.leases() == [lease]


def test_a_daemon_that_systemd_starts_no_more_is_brought_back(machine: Machine) -> None:
    service = Service(machine)
    service.start()
    lease, _ = service.lease()
    restarts = [machine.run("systemctl", "restart", UNIT, check=False).returncode for _ in range(4)]
    assert restarts[-1] != 0
    assert machine.properties(UNIT, "ActiveState") == {"ActiveState": "failed"}
    for command in _commands("When systemd starts it no more"):
        machine.run("sh", "-c", command, check=not command.startswith("systemctl status"))
    assert service.leases() == [lease]
