"""What is done to systemd and to the journal under a daemon that runs."""

from __future__ import annotations

from system.faults.fault import Fault, Sight
from system.faults.host import SOCKET_UNIT, FaultyHost
from system.service import UNIT


def journald_restarted(host: FaultyHost) -> Sight:
    unit = "systemd-journald.service"
    before = host.machine.properties(unit, "MainPID")
    host.machine.run("systemctl", "restart", unit)
    assert host.machine.properties(unit, "MainPID") != before
    host.service.call("gpu.cordon", {"gpu": "1", "reason": "fault-table"})
    said = host.event("gpu.cordoned", "fault-table")
    status = host.status("1 of 2")
    host.service.call("gpu.uncordon", {"gpu": "1"})
    return Sight("journald has another pid", status, said)


def socket_restarted(host: FaultyHost) -> Sight:
    pid = host.service.main_pid
    host.machine.run("systemctl", "restart", SOCKET_UNIT)
    host.machine.wait_for_properties(UNIT, ActiveState="active")
    assert host.service.main_pid != pid
    said = host.event("daemon.stopping")
    return Sight("both have started anew", host.status("healthy"), said)


def daemon_reload(host: FaultyHost) -> Sight:
    pid = host.service.main_pid
    for _ in range(3):
        host.machine.run("systemctl", "daemon-reload")
    said = host.journal("Reloading", "_PID=1")
    assert host.service.main_pid == pid
    return Sight("Reloading, the same pid", host.status("healthy"), said)


def daemon_reexec(host: FaultyHost) -> Sight:
    pid = host.service.main_pid
    host.machine.run("systemctl", "daemon-reexec", check=False)
    said = host.journal("Reexecuting", "_PID=1")
    host.machine.wait_for_properties(UNIT, ActiveState="active", MainPID=str(pid))
    # The watchdog of before goes on: pings are taken, and still awaited.
    return Sight("Reexecuting, the same pid", host.status("healthy"), said)


FAULTS = (
    Fault(name="journald restarted", provoke=journald_restarted, away_s=5, lives_on=True),
    Fault(name="socket unit restarted", provoke=socket_restarted, away_s=10),
    Fault(name="daemon-reload", provoke=daemon_reload, away_s=5, lives_on=True),
    Fault(name="daemon-reexec", provoke=daemon_reexec, away_s=5, lives_on=True),
)
