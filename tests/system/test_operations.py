"""docs/operations.md, run as an administrator would: one machine, whose disks are small.

What the page tells to do about a condition is in test_conditions.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.callers import Caller, kind_of
from system.installation import Installation, install
from system.machine import Machine
from system.operations_page import commands_under, type_in
from system.service import GIB, UNIT, RefusedError, Service

_RUNTIME, _STATE, _JOURNAL = "/run/superezio", "/var/lib/superezio", "/var/log/journal"
_SIZES = {_RUNTIME: ("4m", "0755"), _STATE: ("8m", "0700")}
_CONFIG = """\
[recorder]
size = "1MiB"
"""


@pytest.fixture(scope="module")
def booted(installation: Installation) -> Iterator[Machine]:
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        install(machine)
        machine.run("mkdir", "--parents", _STATE, _JOURNAL)
        for directory, (size, mode) in _SIZES.items():
            options = f"size={size},mode={mode},uid=superezio,gid=superezio"
            machine.run("mount", "-t", "tmpfs", "-o", options, "small", directory)
        for user, groups in (("alice", "superezio"), ("fritz", "")):
            machine.run("useradd", "--no-create-home", "--groups", groups, user)
        # Sessions are logind's, which boots with no other test.
        machine.run("rm", "/etc/systemd/system/systemd-logind.service")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "dbus.socket", "systemd-logind.service")
        yield machine


@pytest.fixture
def service(booted: Machine) -> Iterator[Service]:
    """The service, started, with no lease."""
    service = Service(booted, config=_CONFIG)
    booted.run("systemctl", "reset-failed", "superezio.socket", UNIT, check=False)
    service.start()
    yield service
    for lease in service.leases():
        service.call("lease.release", {"lease": lease})
    booted.run("systemctl", "stop", UNIT, "superezio.socket")


def _await_conditions(service: Service, *codes: str) -> None:
    service.machine.wait_until(
        f"conditions {codes}", lambda: service.conditions() == set(codes), timeout_s=20
    )


def _cordoned(service: Service) -> list[bool]:
    return [gpu["cordoned"] for gpu in service.call("gpu.list")["gpus"]]


def _restart(service: Service) -> None:
    """Restart it, however often that was done before."""
    service.machine.run("systemctl", "reset-failed", UNIT)
    service.machine.run("systemctl", "restart", UNIT)


# --- a full disk ----------------------------------------------------------------------------------


def _fill(machine: Machine, directory: str) -> str:
    file = f"{directory}/filler"
    machine.run("dd", "if=/dev/zero", f"of={file}", "bs=4096", check=False)
    assert machine.output("df", "--output=avail", directory).split()[-1] == "0"
    return file


def test_a_full_runtime_directory_grants_nothing_and_leases_stand(service: Service) -> None:
    pid = service.main_pid
    for_a_time = {"vram_bytes": GIB, "mode": "ttl", "ttl_ms": 600_000}
    kept, given = (service.call("lease.acquire", for_a_time)["id"] for _ in range(2))
    file = _fill(service.machine, _RUNTIME)
    with pytest.raises(RefusedError) as refused:
        service.call("lease.acquire", for_a_time)
    assert refused.value.kind == "state_not_writable"
    _await_conditions(service, "state_not_writable")
    service.call("lease.renew", {"lease": kept})
    service.call("lease.release", {"lease": given})
    assert service.leases() == [kept]
    shown = [type_in(service.machine, each) for each in commands_under("## A full disk")]
    assert "100% /run/superezio" in shown[0]
    service.machine.run("rm", file)
    _await_conditions(service)
    service.call("lease.acquire", for_a_time)
    assert service.main_pid == pid


def test_with_a_full_state_directory_leases_are_granted_and_cordons_kept_until_a_reboot(
    service: Service,
) -> None:
    machine = service.machine
    # What is there has room for a change more, as its log is written over: there is nothing.
    machine.run("systemctl", "stop", UNIT)
    machine.run("sh", "-c", f"rm {_STATE}/state.db*")
    file = _fill(machine, _STATE)
    service.start()
    lease, _ = service.lease()
    machine.run("superezioctl", "gpu", "cordon", "1")
    _await_conditions(service, "state_not_kept", "gpu_cordoned")
    assert _cordoned(service) == [False, True]
    _restart(service)
    assert _cordoned(service) == [False, True], "it is in the runtime directory meanwhile"
    assert service.leases() == [lease]
    pid = service.main_pid
    machine.run("rm", file)
    machine.wait_until("room", lambda: "state_not_kept" not in service.conditions())
    assert service.main_pid == pid
    _restart(service)
    assert _cordoned(service) == [False, True], "it was written when there was room"
    machine.run("superezioctl", "gpu", "uncordon", "1")
    _restart(service)  # of whose start nothing is left to tell


# --- files that are taken away --------------------------------------------------------------------


def test_databases_that_are_removed_are_written_anew_and_kill_nine_loses_nothing(
    service: Service,
) -> None:
    machine, pid = service.machine, service.main_pid
    before, _ = service.lease()
    machine.run("superezioctl", "gpu", "cordon", "1")
    machine.run("sh", "-c", f"rm {_RUNTIME}/leases.db* {_STATE}/state.db*")
    since_it_was_gone, _ = service.lease()
    service.await_message("leases.db was removed while it was in use")
    service.await_message("state.db was removed while it was in use")
    _await_conditions(service, "gpu_cordoned")
    machine.run("systemctl", "reset-failed", UNIT)
    service.drop_in("[Service]\nRestartSec=100ms\n")
    machine.run("kill", "-KILL", str(pid))
    machine.wait_until("another process", lambda: service.main_pid not in (0, pid))
    assert service.call("system.ping", timeout_s=30)["pid"] != pid
    assert set(service.leases()) == {before, since_it_was_gone}
    assert _cordoned(service) == [False, True]
    machine.run("superezioctl", "gpu", "uncordon", "1")
    service.drop_in("")


# --- the journal ----------------------------------------------------------------------------------


def test_a_journald_that_stands_still_is_mended_by_its_restart_and_no_act_is_lost(
    service: Service,
) -> None:
    machine, pid = service.machine, service.main_pid
    acts = 400
    journald = machine.properties("systemd-journald", "MainPID")["MainPID"]
    machine.run("kill", "-STOP", journald)
    with Caller(machine, "root") as root:
        for number in range(acts):
            method = ("gpu.cordon", "gpu.uncordon")[number % 2]
            root.result(method, {"gpu": "0"}, correlation_id=f"away-{number}")
    machine.wait_until("health to say so", lambda: "logging" in service.conditions())
    for command in commands_under("## The journal is down or full"):
        type_in(machine, command)
    _await_conditions(service)
    told = [
        entry["CORRELATION_ID"]
        for entry in machine.journal(f"--unit={UNIT}", "AUDIT=1")
        if entry["CORRELATION_ID"].startswith("away-")
    ]
    assert told == [f"away-{number}" for number in range(acts)]
    assert service.main_pid == pid


# --- rights ---------------------------------------------------------------------------------------


def test_a_file_that_the_daemon_may_not_read_is_named_with_what_mends_it(service: Service) -> None:
    machine, file = service.machine, "/etc/superezio/conf.d/50-own.toml"
    machine.write(file, '[logging]\nlevel = "debug"\n', mode=0o600)
    mend = f"chmod a+r {file}"
    refused = machine.run("superezioctl", "reload", check=False)
    assert refused.returncode == 1
    assert f"the old configuration stays: {file}: cannot read it: Permission denied" in (
        refused.stderr
    )
    assert mend in refused.stderr
    _await_conditions(service, "configuration")
    checked = machine.run("superezioctl", "config", "check", check=False)
    assert checked.returncode == 1
    assert f"{file}: Permission denied to superezio: {mend}" in checked.stdout
    assert "good" not in checked.stdout + checked.stderr
    machine.run("sh", "-c", mend)
    assert "Permission" not in machine.run("superezioctl", "config", "check").stdout
    machine.run("superezioctl", "reload")
    _await_conditions(service)
    machine.run("rm", file)
    machine.run("superezioctl", "reload")


_FRITZ = '[access]\nusers = ["fritz"]\n'
_FOR_A_TIME = {"vram_bytes": GIB, "mode": "ttl", "ttl_ms": 600_000}
_VALUE = {"namespace": "own", "key": "k"}


_PAGE = "## Taking a user's rights away"


def test_a_name_that_is_taken_out_counts_from_the_reload_on(service: Service) -> None:
    machine = service.machine
    service.configure(f"{_CONFIG}{_FRITZ}")
    service.call("system.reload")
    check, reload, show = commands_under(_PAGE)[:3]
    asked = {**_FOR_A_TIME, "vram_bytes": 8 * GIB}
    with Caller(machine, "fritz") as kept_open, Caller(machine, "fritz") as waiting:
        lease = kept_open.result("lease.acquire", asked)["id"]
        kept_open.result("cache.set", {**_VALUE, "text": "v"})
        waiting.tell("lease.acquire", {**asked, "wait_ms": 10_000})
        (waiter,) = machine.wait_until("fritz to wait", lambda: service.call("lease.list")["queue"])
        service.configure(_CONFIG)
        assert "is good" in type_in(machine, check)
        type_in(machine, reload)
        assert "fritz" not in type_in(machine, show)
        for method, params in (
            ("lease.acquire", _FOR_A_TIME),
            ("lease.renew", {"lease": lease}),
            ("cache.get", _VALUE),
        ):
            assert kind_of(kept_open.ask(method, params)) == "permission_denied", method
        # What was granted or asked for before stands, until somebody ends it.
        leases, revoke, queue, cancel = commands_under(_PAGE)[-4:]
        ids = [each[:8] for each in (lease, waiter["id"])]
        assert ids[0] in type_in(machine, leases)
        assert ids[1] in type_in(machine, queue)
        type_in(machine, " ".join([*cancel.split()[:-1], ids[1]]))
        assert service.call("lease.list")["queue"] == []
        type_in(machine, " ".join([*revoke.split()[:-1], ids[0]]))
        assert service.call("lease.list")["leases"][0]["state"] == "draining"
        # Given back, they are as before, and so is what was theirs.
        service.configure(f"{_CONFIG}{_FRITZ}")
        service.call("system.reload")
        assert kept_open.result("cache.get", _VALUE)["text"] == "v"


def test_who_is_taken_out_of_a_group_has_its_rights_until_the_processes_end(
    service: Service,
) -> None:
    machine = service.machine
    take_out, *end = commands_under(_PAGE)[3:-4]
    session = ("systemd-run", "--uid=alice", "--property=PAMName=login", "--unit=session", "sleep")
    machine.run(*session, "1000")
    machine.wait_until(
        "alice to be logged in", lambda: "alice" in machine.output("loginctl", "list-sessions")
    )
    with Caller(machine, "alice") as alice:
        lease = alice.result("lease.acquire", {"vram_bytes": GIB, "mode": "connection"})["id"]
        type_in(machine, take_out)
        assert alice.result("lease.get", {"lease": lease})["id"] == lease
        alice.result("breaker.list")
        for command in end:
            type_in(machine, command)
        machine.wait_until(
            "all of it to end",
            lambda: not machine.run("pgrep", "--uid", "alice", check=False).stdout,
        )
    with Caller(machine, "alice") as again:
        assert kind_of(again.ask("breaker.list")) == "permission_denied"
    machine.wait_until("the lease to end", lambda: service.leases() == [])


# --- the unit -------------------------------------------------------------------------------------


def test_stopped_it_stays_stopped_and_leases_stand(service: Service) -> None:
    machine = service.machine
    lease, _ = service.lease()
    stop, *others = commands_under("## Stop and start")
    type_in(machine, stop)
    asked = machine.run("superezioctl", "status", check=False)
    assert asked.returncode == 5
    assert "systemd says: superezio.service is inactive (dead)\n" in asked.stderr
    for command in others:
        type_in(machine, command)
    assert service.leases() == [lease]


def test_a_daemon_that_systemd_starts_no_more_is_brought_back(service: Service) -> None:
    machine = service.machine
    lease, _ = service.lease()
    restarts = [machine.run("systemctl", "restart", UNIT, check=False).returncode for _ in range(4)]
    assert restarts[-1] != 0
    assert machine.properties(UNIT, "ActiveState") == {"ActiveState": "failed"}
    for command in commands_under("## When systemd starts it no more"):
        machine.run("sh", "-c", command, check=not command.startswith("systemctl status"))
    assert service.leases() == [lease]


def test_state_that_was_moved_goes_on_where_it_is_now(service: Service) -> None:
    machine = service.machine
    service.call("gpu.cordon", {"gpu": "1", "reason": "new fan"})
    for command in commands_under("## Moving the state"):
        type_in(machine, command)
    assert [gpu["cordoned"] for gpu in service.call("gpu.list")["gpus"]] == [False, True]
    inodes = [
        machine.output("stat", "--format=%i", f"{place}/superezio/state.db")
        for place in ("/srv", "/var/lib")
    ]
    assert inodes[0] == inodes[1], "it writes where the state is now"
    machine.run("superezioctl", "gpu", "uncordon", "1")
