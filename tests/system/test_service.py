"""The daemon as a service: ready, found in the journal, reloaded, restarted, with nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supereziod.observability.journald import message_id
from system.machine import Machine
from system.service import ASKING_CROWD, GIB, SOCKET, UNIT, RefusedError, Service


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    service = Service(machine)
    service.start()
    yield service
    machine.run("systemctl", "stop", UNIT, "superezio.socket")
    assert machine.properties(UNIT, "Result") == {"Result": "success"}


def test_a_start_ends_ready_and_says_how_it_stands(service: Service) -> None:
    shown = service.machine.properties(
        UNIT, "ActiveState", "StatusText", "WatchdogUSec", "NRestarts", "User"
    )
    assert "2 GPUs" in shown.pop("StatusText")
    assert shown == {
        "ActiveState": "active",
        "WatchdogUSec": "30s",
        "NRestarts": "0",
        "User": "superezio",
    }
    assert [gpu["index"] for gpu in service.call("gpu.list")["gpus"]] == [0, 1]


def test_the_first_client_starts_the_service(machine: Machine) -> None:
    service = Service(machine)
    machine.run("systemctl", "start", "superezio.socket")
    assert machine.properties(UNIT, "ActiveState") == {"ActiveState": "inactive"}
    assert service.call("system.ping", timeout_s=30)["pid"] == service.main_pid


def test_the_socket_of_systemd_is_served_with_its_whole_backlog(service: Service) -> None:
    listening = service.machine.output("ss", "--no-header", "--listening", "--unix")
    (line,) = [line for line in listening.splitlines() if SOCKET in line]
    assert line.split()[3] == "4096"


def test_a_request_is_found_in_the_journal_by_its_correlation_id(service: Service) -> None:
    lease, _ = service.lease(correlation_id="the-request-1")
    entries = service.machine.wait_until(
        "the grant in the journal",
        lambda: service.machine.journal(
            "--unit=superezio", "CORRELATION_ID=the-request-1", "EVENT=lease.granted"
        ),
    )
    (entry,) = entries
    assert entry["LEASE"] == lease
    assert entry["METHOD"] == "lease.acquire"
    assert entry["REQUEST_UID"] == "0"
    assert int(entry["REQUEST_PID"]) > 0
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "supereziod"
    assert entry["MESSAGE_ID"] == message_id("lease.granted")
    assert entry["_SYSTEMD_UNIT"] == UNIT
    assert "GiB" in entry["MESSAGE"]
    by_lease = service.machine.journal("--unit=superezio", f"LEASE={lease}")
    assert entry["__CURSOR"] in {each["__CURSOR"] for each in by_lease}


def test_superezioctl_logs_reads_the_journal_where_it_may(service: Service) -> None:
    """Root gets the journal's lines; nobody gets what the daemon itself still knows."""
    lease, _ = service.lease(correlation_id="the-request-2")
    service.await_message(f"lease {lease} was granted")
    service.machine.run("journalctl", "--sync")
    of_root = service.machine.output("superezioctl", "logs", "--correlation-id", "the-request-2")
    assert f"lease {lease} was granted" in of_root
    by_lease = service.machine.output("superezioctl", "logs", "--lease", lease)
    assert f"lease {lease} was granted" in by_lease
    service.call("gpu.cordon", {"gpu": "1", "reason": "fan"})
    of_nobody = service.machine.run("superezioctl", "logs", "--gpu", "1", user="nobody")
    assert "cordoned: fan" in of_nobody.stdout
    others = service.machine.run("superezioctl", "logs", "--lease", lease, user="nobody")
    assert lease not in others.stdout, "whose lease it is, is personal"


def test_superezioctl_says_what_the_unit_is_doing_when_there_is_no_answer(
    service: Service,
) -> None:
    service.machine.run("kill", "-STOP", str(service.main_pid))
    stuck = service.machine.run("superezioctl", "--timeout", "500ms", "status", check=False)
    assert stuck.returncode == 124
    assert "superezio" in stuck.stderr
    assert "active" in stuck.stderr
    service.machine.run("kill", "-CONT", str(service.main_pid))
    service.machine.run("systemctl", "stop", "superezio.socket", UNIT)
    gone = service.machine.run("superezioctl", "status", check=False)
    assert gone.returncode == 5
    assert "systemctl start superezio" in gone.stderr


def test_anyone_may_look_and_only_the_group_may_lease(service: Service) -> None:
    assert len(service.call("gpu.list", user="nobody")["gpus"]) == 2
    with pytest.raises(RefusedError, match="superezio") as refused:
        service.call("lease.acquire", {"vram_bytes": GIB}, user="nobody")
    assert refused.value.kind == "permission_denied"


def test_a_reload_applies_what_is_live_and_survives_a_bad_file(service: Service) -> None:
    pid = service.main_pid
    service.configure('[logging]\nlevel = "warning"\n')
    service.machine.run("systemctl", "reload", UNIT)
    assert service.call("system.info")["log_level"] == "warning"
    service.configure("[logging]\nlevel = 'loud'\n")
    assert service.machine.run("systemctl", "reload", UNIT, check=False).returncode == 1
    assert service.machine.properties(UNIT, "ActiveState", "Result") == {
        "ActiveState": "active",
        "Result": "success",
    }
    refused = service.await_message("superezio.toml:2: logging.level: expected one of")
    assert refused.endswith("is in force")
    assert service.call("system.info")["log_level"] == "warning"
    assert service.main_pid == pid
    asked = service.machine.run("superezioctl", "reload", check=False)
    assert (asked.returncode, "superezio.toml:2: logging.level: " in asked.stderr) == (1, True)
    degraded = service.call("health.get")
    assert degraded["verdict"] == "degraded"
    assert any("superezio.toml:2: logging.level" in str(each) for each in degraded["reasons"])
    service.configure('[logging]\nlevel = "info"\n')
    service.machine.run("superezioctl", "reload")
    service.machine.wait_until(
        "a good file to heal it", lambda: service.call("health.get")["verdict"] == "healthy"
    )


def test_the_environment_sets_keys_and_origins_are_told(service: Service) -> None:
    service.configure("[leases]\ngrace = 7\nqueue = 9\n")
    service.drop_in("[Service]\nEnvironment=SUPEREZIO__LEASES__QUEUE=77\n")
    service.machine.run("systemctl", "restart", UNIT)
    shown = service.machine.output("superezioctl", "config", "show", "--origin")
    assert 'grace = "7s"  # /etc/superezio/superezio.toml:2' in shown
    assert "queue = 77  # SUPEREZIO__LEASES__QUEUE" in shown
    assert 'driver = "simulated"  # /etc/superezio/conf.d/simulated.toml:2' in shown
    refused = service.machine.run("superezioctl", "config", "show", user="nobody", check=False)
    assert (refused.returncode, "superezio-admin" in refused.stderr) == (4, True)
    service.drop_in("[Service]\nEnvironment=SUPEREZIO__LEASES__QUEU=77\n")
    assert service.machine.run("systemctl", "restart", UNIT, check=False).returncode != 0
    service.await_message("SUPEREZIO__LEASES__QUEU: leases.queu: no such key; did you mean queue?")
    assert service.machine.properties(UNIT, "ExecMainStatus") == {"ExecMainStatus": "78"}
    service.drop_in("")
    service.machine.run("systemctl", "reset-failed", UNIT)
    service.start()


def test_a_restart_keeps_leases_and_their_holders(service: Service) -> None:
    lease, holder = service.lease()
    service.machine.run("systemctl", "restart", UNIT)
    assert service.leases() == [lease]
    service.machine.run("kill", "-KILL", str(holder))
    service.machine.wait_until("the lease to end", lambda: service.leases() == [])


def test_a_restart_of_the_socket_restarts_both(service: Service) -> None:
    lease, _ = service.lease()
    pid = service.main_pid
    service.machine.run("systemctl", "restart", "superezio.socket")
    service.machine.wait_for_properties(UNIT, ActiveState="active")
    assert service.main_pid != pid
    assert service.leases() == [lease]


def test_a_client_waits_through_a_restart(service: Service) -> None:
    service.drop_in("[Service]\nRestartSec=2\n")
    lease, _ = service.lease()
    pid = service.main_pid
    service.machine.run("kill", "-KILL", str(pid))
    service.machine.wait_for_properties(UNIT, SubState="auto-restart")
    assert service.call("system.ping", timeout_s=30)["pid"] != pid
    assert service.leases() == [lease]
    service.await_restart(1)


def test_a_thousand_clients_connect_during_a_restart_and_all_are_served(
    service: Service,
) -> None:
    service.drop_in("[Service]\nRestartSec=3\n")
    service.machine.run("kill", "-KILL", str(service.main_pid))
    service.machine.wait_for_properties(UNIT, SubState="auto-restart")
    crowd = service.machine.start("/usr/bin/python3", "-c", ASKING_CROWD, SOCKET)
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "connected\n"
    assert service.machine.properties(UNIT, "SubState") == {"SubState": "auto-restart"}
    output, _ = crowd.communicate(timeout=60)
    assert output == "1000\n"


def test_a_loop_that_does_not_turn_is_aborted_dumped_and_restarted(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=2\nRestartSec=1\n")
    service.machine.run("systemctl", "restart", UNIT)
    lease, _ = service.lease()
    # systemd lets a stopped process go on when it aborts it.
    service.machine.run("kill", "-STOP", str(service.main_pid))
    service.await_restart(1)
    assert service.leases() == [lease]
    messages = service.messages()
    assert any("Failed with result 'watchdog'" in message for message in messages)
    assert any("Fatal Python error: Aborted" in message for message in messages)
    assert any("most recent call first" in message for message in messages)


def test_a_daemon_in_a_terminal_leaves_the_gpus_to_the_service(machine: Machine) -> None:
    machine.run("systemctl", "start", "superezio.socket", UNIT)
    second = machine.run(
        *("supereziod", "--socket", "/tmp/other.sock", "--state-dir", "/tmp/other"),
        check=False,
    )
    assert second.returncode == 1
    assert "the superezio service of this host" in second.stderr
    assert "--gpu-driver simulated" in second.stderr
