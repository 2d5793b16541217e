"""Each check of doctor, on a tree made for it: what is wrong, and the command that mends it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

import wire_samples
from superezio import errors, wire
from superezio.paths import SYSTEM_SOCKET
from superezioctl.doctor import daemon, driver, groups, service
from superezioctl.doctor.answers import Answers
from superezioctl.doctor.examination import examine
from superezioctl.doctor.finding import Finding
from superezioctl.doctor.host import Host

VERSION = "580.82.07"
NO_LIBRARY = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
COMMANDS = daemon.Commands(start="START", restart="RESTART")


class Tree:
    """A root to examine. Commands are not found in it unless a test puts them on the PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loads: Callable[[str], object] = lambda _: object()

    def write(self, path: str, text: str = "", mode: int | None = None) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if mode is not None:
            file.chmod(mode)
        return file

    def host(self, **changes: Any) -> Host:
        values = {"root": self.root, "uid": 1000, "gids": frozenset({1000}), "load": self.loads}
        return Host(**{**values, "named_socket": None, "patience_s": 0.5, **changes})

    def without_library(self, why: str = NO_LIBRARY) -> None:
        def load(_: str) -> object:
            raise OSError(why)

        self.loads = load


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return Tree(tmp_path / "root")


def with_card(tree: Tree, *, module: str | None = VERSION, library: str = VERSION) -> Tree:
    """Put in a card, its driver and its nodes, all well."""
    tree.write("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    tree.write("/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    tree.write("/sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n")
    tree.write("/sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n")
    if module is not None:
        tree.write("/sys/module/nvidia/version", f"{module}\n")
        tree.write("/proc/driver/nvidia/gpus/0000:01:00.0/information", "Device Minor: \t 0\n")
    tree.write("/proc/self/maps", f"7f00 r-xp 0 0 0 /usr/lib/libnvidia-ml.so.{library}\n")
    for node in ("nvidiactl", "nvidia0", "nvidia-uvm"):
        tree.write(f"/dev/{node}", mode=0o666)
    return tree


def by_check(findings: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def seen(tree: Tree, **changes: Any) -> dict[str, Finding]:
    return by_check(driver.check(tree.host(**changes), None, None))


# --- driver ---------------------------------------------------------------------------------------


def test_a_driver_that_is_all_there_passes(tree: Tree) -> None:
    found = seen(with_card(tree))
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["card"].message.endswith(": 1"), "sound on the same card is no GPU"
    assert VERSION in found["driver_version"].message


def test_a_host_without_a_card_is_warned_of_and_needs_no_driver(tree: Tree) -> None:
    tree.without_library()
    found = seen(tree)
    assert list(found) == ["card"]
    assert found["card"].status == "warn"
    assert "the daemon would run, with no GPUs" in found["card"].message, "there is none"
    for host in (tree.host(), with_card(Tree(tree.root / "other"), module=None).host()):
        simulated = driver.check(host, wire_samples.system_info(), [])
        assert [finding.status for finding in simulated] == ["ok"]
    real = msgspec.structs.replace(wire_samples.system_info(), gpu_driver="nvml")
    (card,) = driver.check(tree.host(), real, [])
    assert (card.status, "the daemon runs, with no GPUs" in card.message) == ("warn", True)
    (card,) = driver.check(tree.host(), real, [wire_samples.gpu()])
    assert (card.status, "sees 1" in card.message) == ("ok", True)


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "sudo apt-get install nvidia-driver"),
        ('ID=pop\nID_LIKE="ubuntu debian"\n', "sudo ubuntu-drivers install"),
        ("ID=plan9\n", "as your distribution has it"),
    ],
)
def test_a_library_that_is_missing_is_installed_with_the_driver(
    tree: Tree, release: str, command: str
) -> None:
    with_card(tree, module=None).without_library()
    tree.write("/etc/os-release", release)
    found = seen(tree)
    assert found["library"].status == "fail"
    assert "not installed" in found["library"].message
    assert command in str(found["library"].action)
    assert found["kernel_module"].action == found["library"].action


def test_a_library_that_cannot_be_loaded_says_why(tree: Tree) -> None:
    with_card(tree).without_library("wrong ELF class: ELFCLASS32")
    assert "ELFCLASS32" in seen(tree)["library"].message


def test_a_module_that_is_not_loaded_is_loaded_as_root(tree: Tree) -> None:
    with_card(tree, module=None)
    assert seen(tree)["kernel_module"].action == "sudo modprobe nvidia"
    assert seen(tree, uid=0)["kernel_module"].action == "modprobe nvidia"
    assert "device_nodes" not in seen(tree), "there are none before the module is there"
    tree.write("/sys/module/nouveau/refcnt")
    assert "blacklist nouveau" in str(seen(tree)["kernel_module"].action)


def test_a_driver_that_was_upgraded_under_what_runs_wants_a_reboot(tree: Tree) -> None:
    found = seen(with_card(tree, library="590.10"))["driver_version"]
    assert (found.status, found.action) == ("fail", "sudo reboot")
    assert "590.10" in found.message
    assert VERSION in found.message


def test_the_modules_version_is_read_from_proc_too(tree: Tree) -> None:
    with_card(tree)
    (tree.root / "sys/module/nvidia/version").unlink()
    line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Wed Aug 27\n"
    tree.write("/proc/driver/nvidia/version", line + "GCC version:  gcc version 12.2.0\n")
    assert seen(tree)["driver_version"].status == "ok"
    (tree.root / "proc/driver/nvidia/version").unlink()
    found = seen(tree)
    assert found["kernel_module"].status == "ok"
    assert "driver_version" not in found


def test_nodes_that_are_missing_or_closed_are_named(tree: Tree) -> None:
    with_card(tree)
    (tree.root / "dev/nvidia0").chmod(0o660)
    closed = seen(tree)["device_nodes"]
    assert (closed.status, closed.action) == ("warn", "sudo chmod 666 /dev/nvidia0")
    (tree.root / "dev/nvidia0").unlink()
    missing = seen(tree)["device_nodes"]
    assert (missing.status, missing.action) == ("fail", "sudo nvidia-modprobe -c 0 -u")
    assert "/dev/nvidia0: not there" in missing.message
    tree.write("/proc/driver/nvidia/gpus/0000:02:00.0/information", "Device Minor: \t 1\n")
    tree.write("/dev/nvidia0", mode=0o666)
    fewer = seen(tree)["device_nodes"]
    assert (fewer.status, "/dev/nvidia1: not there" in fewer.message) == ("warn", True)
    tree.write("/dev/nvidia1", mode=0o666)
    (tree.root / "dev/nvidia-uvm").unlink()
    assert "CUDA" in seen(tree)["device_nodes"].message


# --- MIG ------------------------------------------------------------------------------------------


def test_mig_devices_that_the_daemon_may_not_read_are_opened_for_it(tree: Tree) -> None:
    host = tree.host()
    assert driver.check_mig(host, None, None).status == "ok"
    tree.write("/proc/driver/nvidia/capabilities/mig/monitor", "DeviceFileMinor: 2\n")
    tree.write("/proc/driver/nvidia/capabilities/gpu0/mig/gi7/access", "DeviceFileMinor: 66\n")
    tree.write("/dev/nvidia-caps/nvidia-cap66", mode=0o444)
    unknown = driver.check_mig(host, None, None)
    assert unknown.status == "warn"
    assert unknown.action == (
        "sudo nvidia-modprobe -f /proc/driver/nvidia/capabilities/mig/monitor && "
        "sudo setfacl -m u:superezio:r /dev/nvidia-caps/nvidia-cap2"
    )
    assert driver.check_mig(host, None, [wire_samples.gpu(mig_mode="enabled")]).status == "ok"
    refused = driver.check_mig(host, None, [wire_samples.gpu(mig_mode="no_permission")])
    assert (refused.status, refused.action) == ("fail", unknown.action)
    tree.write("/dev/nvidia-caps/nvidia-cap2", mode=0o444)
    assert driver.check_mig(host, None, None).status == "ok"


def test_mig_devices_that_are_simulated_are_told_of_as_the_daemon_has_them(tree: Tree) -> None:
    system = wire_samples.system_info()
    whole, part, unreadable = wire_samples.mig_gpus()
    assert driver.check_mig(tree.host(), system, []).message == (
        "no GPU is divided into MIG instances"
    )
    found = driver.check_mig(tree.host(), system, [whole, part])
    assert (found.status, found.message) == ("ok", "MIG instances: 1, which the daemon simulates")
    refused = driver.check_mig(tree.host(), system, [whole, part, unreadable])
    assert refused.status == "fail"
    assert refused.action == (
        f"python -m supereziod.gpu.control --directory {system.runtime_dir}/simulated 2 "
        "mig_forbidden=false"
    )
    real = msgspec.structs.replace(system, gpu_driver="nvml")
    assert "MIG instances: 1" in driver.check_mig(tree.host(), real, [whole, part]).message


# --- units ----------------------------------------------------------------------------------------


def unit(tree: Tree, *, service_: str, socket_: str = "", installed: bool = True) -> Host:
    """Put in a systemd that says this of the units."""
    tree.write("/run/systemd/system/x")
    load = "loaded" if installed else "not-found"
    lines = ["Id=superezio.service", f"LoadState={load}", *service_.split(), ""]
    lines += ["Id=superezio.socket", f"LoadState={load}", *socket_.split()]
    body = "\n".join(f"echo '{line}'" for line in lines)
    tree.write("../bin/systemctl", f"#!/bin/sh\n{body}\n", 0o755)
    return tree.host()


def units(host: Host, *, answers: bool = False) -> dict[str, Finding]:
    return by_check(service.check(host, service.units(host), answers=answers))


ON = "ActiveState=active UnitFileState=enabled"


def test_units_that_run_and_start_with_the_host_pass(tree: Tree) -> None:
    host = unit(tree, service_=f"{ON} NRestarts=2", socket_=ON)
    found = units(host, answers=True)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert "restarted 2 times" in found["unit_active"].message
    assert "systemctl restart" in service.how_to_restart(host, service.units(host))


def test_units_that_run_where_nobody_reaches_the_daemon_are_restarted(tree: Tree) -> None:
    """As where the file of the socket was removed: there is nothing to start."""
    host = unit(tree, service_=ON, socket_=ON)
    restart = "sudo systemctl restart superezio.socket superezio.service"
    assert service.how_to_start(host, service.units(host)) == restart
    host = unit(tree, service_=ON, socket_="ActiveState=failed")
    assert service.how_to_start(host, service.units(host)) == restart


@pytest.mark.parametrize(
    ("path", "state", "said"),
    [
        (SYSTEM_SOCKET, "active", f"the daemon runs, and cannot be reached at {SYSTEM_SOCKET}"),
        (SYSTEM_SOCKET, "inactive", "the daemon is not running"),
        ("/s", "active", "the daemon is not running"),
    ],
)
def test_a_daemon_that_runs_where_nobody_reaches_it_is_not_said_to_be_down(
    tree: Tree, path: str, state: str, said: str
) -> None:
    host = unit(tree, service_=f"ActiveState={state} UnitFileState=enabled", socket_=ON)
    gone = Answers(error=errors.DaemonNotRunningError("x"))
    assert by_check(examine(host, gone, path))["daemon"].message == said


def test_without_systemd_the_daemon_is_run_by_hand(tree: Tree) -> None:
    assert units(tree.host())["unit"].action == "supereziod"
    assert units(tree.host(), answers=True)["unit"].status == "ok"
    assert service.how_to_start(tree.host(), None) == "supereziod"


def test_a_daemon_that_was_started_by_hand_is_ended_by_its_pid_and_started_as_it_was(
    tree: Tree,
) -> None:
    """By its name it is not to be found: that of its program may be Python's."""
    tree.write("/proc/77/cmdline", "/usr/bin/python3\0-m\0supereziod\0--socket\0/a b\0")
    uid = (tree.root / "proc/77").stat().st_uid
    assert service.how_to_restart(tree.host(uid=uid), None, pid=77) == (
        "kill 77; timeout 15 tail --pid=77 -f /dev/null || kill -9 77; "
        "/usr/bin/python3 -m supereziod --socket '/a b'"
    )
    another = service.how_to_restart(tree.host(uid=uid + 1), None, pid=77)
    assert another.startswith("sudo kill 77; ")
    assert "; sudo /usr/bin/python3" in another
    (tree.root / "proc/77/cmdline").unlink()
    assert service.how_to_restart(tree.host(uid=uid), None, pid=77).endswith("; supereziod")
    assert service.how_to_restart(tree.host(), None) == "supereziod"


def test_a_unit_that_is_not_installed_is_installed(tree: Tree) -> None:
    host = unit(tree, service_="ActiveState=inactive", installed=False)
    assert units(host)["unit"].action == "sudo make install"


def test_a_unit_that_is_off_is_enabled_and_started(tree: Tree) -> None:
    off = "ActiveState=inactive SubState=dead UnitFileState=disabled"
    host = unit(tree, service_=off, socket_=off)
    found = units(host)
    assert found["unit_enabled"].status == "warn"
    assert found["unit_enabled"].action == (
        "sudo systemctl enable superezio.service superezio.socket"
    )
    start = "sudo systemctl start superezio.socket superezio.service"
    assert (found["unit_active"].status, found["unit_active"].action) == ("fail", start)
    assert (found["socket_unit"].status, found["socket_unit"].action) == ("fail", start)
    by_hand = units(host, answers=True)
    assert (by_hand["unit_active"].status, by_hand["socket_unit"].status) == ("warn", "warn")


@pytest.mark.parametrize(
    ("state", "why", "action"),
    [
        ("Result=start-limit-hit", "too often", "reset-failed"),
        ("Result=watchdog", "watchdog", "reset-failed"),
        ("Result=exit-code ExecMainStatus=78", "configuration is bad", "superezioctl config check"),
        ("Result=exit-code ExecMainStatus=1", "status 1", "reset-failed"),
    ],
)
def test_a_unit_that_failed_says_why(tree: Tree, state: str, why: str, action: str) -> None:
    host = unit(tree, service_=f"ActiveState=failed UnitFileState=enabled {state}", socket_=ON)
    found = units(host)["unit_active"]
    assert found.status == "fail"
    assert why in found.message
    assert action in str(found.action)
    assert "&& sudo systemctl start" in str(found.action)
    known = service.units(host)
    assert service.how_to_restart(host, known) == service.how_to_start(host, known)


def test_a_daemon_that_stands_still_until_it_is_cool_is_not_started_by_hand(tree: Tree) -> None:
    unit(tree, service_="ActiveState=failed UnitFileState=enabled Result=watchdog", socket_=ON)
    script = tree.root.parent / "bin/systemctl"
    overheat = "echo; echo Id=superezio-overheat.service; echo ActiveState=active"
    script.write_text(f"{script.read_text()}{overheat}; echo 'StatusText=GPU 0 reads HOT'\n")
    assert "overheat" not in units(tree.host()), "it only looks yet"
    tree.write("/run/superezio-overheat/stopped.json", '{"stage":"starting"}')
    found = units(tree.host())
    assert "overheat" not in found, "it has started the daemon already, and starts the models"
    assert "reset-failed" in str(found["unit_active"].action)
    tree.write("/run/superezio-overheat/stopped.json", '{"stage":"stopped"}')
    found = units(tree.host())
    assert found["overheat"].status == "fail"
    assert "once the GPUs are cool: GPU 0 reads HOT" in found["overheat"].message
    look = "journalctl -u superezio-overheat -n 50"
    assert {found[name].action for name in ("overheat", "unit_active")} == {look}


def test_a_model_that_systemd_has_given_up_is_named(tree: Tree) -> None:
    unit(tree, service_=ON, socket_=ON)
    assert "model" not in units(tree.host())
    script = tree.root.parent / "bin/systemctl"
    failed = "echo; echo Id=superezio-model@llama.service; echo ActiveState=failed"
    runs = "echo; echo Id=superezio-model@whisper.service; echo ActiveState=active"
    script.write_text(f"{script.read_text()}{failed}\n{runs}\n")
    (found,) = [
        each
        for each in service.check(tree.host(), service.units(tree.host()), answers=True)
        if each.check == "model"
    ]
    assert (found.status, found.action) == ("warn", "journalctl -u superezio-model@llama -n 50")
    assert "the model llama has failed" in found.message


def test_a_unit_on_its_way_is_waited_for(tree: Tree) -> None:
    host = unit(tree, service_="ActiveState=activating SubState=auto-restart", socket_=ON)
    assert units(host)["unit_active"].status == "warn"


# --- daemon ---------------------------------------------------------------------------------------


def answers(tree: Tree, **changes: Any) -> Answers:
    for directory in ("run", "state"):
        (tree.root / directory).mkdir(parents=True, exist_ok=True)
    system = msgspec.structs.replace(
        wire_samples.system_info(), runtime_dir="/run", state_dir="/state", **changes
    )
    return Answers(system=system, health=wire_samples.health(), gpus=[])


def asked(tree: Tree, given: Answers, path: str = "/s", **changes: Any) -> dict[str, Finding]:
    return by_check(daemon.check(tree.host(**changes), given, path, COMMANDS))


@pytest.fixture
def listening(tree: Tree) -> Path:
    # Bound by a name of few bytes: a socket's path may have 107.
    tree.root.mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(tree.root)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(before)
    (tree.root / "s").chmod(0o666)
    return tree.root / "s"


@pytest.mark.usefixtures("listening")
def test_a_daemon_that_is_well_passes(tree: Tree) -> None:
    found = asked(tree, answers(tree))
    assert {finding.status for finding in found.values()} == {"ok"}
    assert "you are admin" in found["daemon"].message
    tree.write("/proc/77/limits", "Max open files            1024                524288  files\n")
    assert "1024" in asked(tree, answers(tree))["open_files"].message


def test_a_daemon_that_is_not_there_is_started(tree: Tree) -> None:
    gone = Answers(error=errors.DaemonNotRunningError("x"))
    found = asked(tree, gone)
    assert (found["socket"].status, found["socket"].action) == ("fail", "START")
    assert (found["daemon"].status, found["daemon"].action) == ("fail", "START")
    assert "version" not in found


def test_a_variable_that_names_another_socket_is_unset(tree: Tree) -> None:
    gone = Answers(error=errors.DaemonNotRunningError("x"))
    tree.write("/run/superezio/control.sock")
    assert asked(tree, gone, named_socket="/s")["socket"].action == "unset SUPEREZIO_SOCKET"
    assert asked(tree, gone)["socket"].action == "START"


def test_a_socket_that_is_left_behind_closed_or_none_is_told(tree: Tree, listening: Path) -> None:
    gone = Answers(error=errors.DaemonNotRunningError("x"))
    assert "left behind" in asked(tree, gone)["socket"].message
    listening.chmod(0o600)
    closed = asked(tree, answers(tree))["socket"]
    assert (closed.status, closed.action) == ("fail", "sudo chmod 666 /s")
    listening.unlink()
    listening.write_text("")
    assert asked(tree, gone)["socket"].action == "sudo rm /s && RESTART"


def test_a_daemon_that_hangs_or_speaks_otherwise_is_told(tree: Tree) -> None:
    hangs = asked(tree, Answers(error=errors.ReplyTimeoutError("x")))["daemon"]
    assert (hangs.status, hangs.action) == ("fail", "RESTART")
    gone = asked(tree, Answers(error=errors.ConnectionLostError("it closed")))["daemon"]
    assert (gone.status, gone.action) == ("fail", "START")
    assert "too many" in asked(tree, Answers(error=errors.BusyError("too many")))["daemon"].message


@pytest.mark.usefixtures("listening")
def test_a_daemon_of_another_version_is_restarted(tree: Tree) -> None:
    older = asked(tree, answers(tree, version="0.0.1"))["version"]
    assert (older.status, older.action) == ("warn", "RESTART")
    assert asked(tree, answers(tree, protocol=2))["version"].status == "fail"


@pytest.mark.usefixtures("listening")
def test_too_few_open_files_are_told_in_the_daemons_words(tree: Tree) -> None:
    given = answers(tree)
    assert given.health is not None
    short = msgspec.structs.replace(
        given.health.checks[0], check="open_files", passing=False, message="the limit is 64"
    )
    given.health.checks.append(short)
    found = asked(tree, given)["open_files"]
    assert (found.status, found.message) == ("warn", "the limit is 64")
    assert found.action == "ulimit -n 65536"
    tree.write("/usr/lib/systemd/system/superezio.service")
    assert "systemctl edit" in str(asked(tree, given)["open_files"].action)


@pytest.mark.usefixtures("listening")
def test_directories_that_are_gone_or_closed_to_the_daemon_are_told(tree: Tree) -> None:
    given = answers(tree)
    process = tree.root / "proc/77"
    process.mkdir(parents=True)
    (tree.root / "run").chmod(0o555)
    if os.geteuid() == 0:
        os.chown(process, 4711, 4711)
        os.chown(tree.root / "run", 4711, 4711)
    closed = asked(tree, given)["runtime_dir"]
    assert closed.status == "fail"
    assert "chmod u+rwx /run" in str(closed.action)
    (tree.root / "state").rmdir()
    gone = asked(tree, given)["state_dir"]
    assert (gone.status, "not there" in gone.message) == ("fail", True)


def test_the_daemons_own_reasons_are_handed_on_with_their_actions() -> None:
    (hot,) = daemon.health_findings(wire_samples.health())
    assert (hot.check, hot.status, hot.action) == ("health.gpu_hot", "warn", "look at its fan")
    (hot,) = daemon.health_findings(wire_samples.health("unhealthy"))
    assert hot.status == "fail"
    (well,) = daemon.health_findings(wire_samples.health("healthy"))
    assert well.status == "ok"


def test_what_the_daemon_calls_information_is_no_warning() -> None:
    """As a cordon is somebody's wish: the host is as healthy as health says."""
    health = wire_samples.health("degraded")
    cordon = structs.replace(health.reasons[0], check="gpu_cordoned", severity="info")
    healthy = structs.replace(health, verdict="healthy", reasons=[cordon])
    well, told = daemon.health_findings(healthy)
    assert (well.status, well.message) == ("ok", "the host is healthy")
    assert (told.check, told.status, told.action) == (
        *("health.gpu_cordoned", "info", "look at its fan"),
    )
    degraded = structs.replace(health, reasons=[*health.reasons, cordon])
    assert [found.status for found in daemon.health_findings(degraded)] == ["warn", "info"]


# --- groups ---------------------------------------------------------------------------------------


GROUPS = "superezio:x:500:ann\nsuperezio-admin:x:501:\n"


def belongs(tree: Tree, *, role: wire.Role | None = "observer", **changes: Any) -> Finding:
    tree.write("/etc/passwd", "ann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n")
    return by_check(groups.check(tree.host(**changes), role=role, installed=True))["membership"]


def test_groups_that_are_missing_are_made(tree: Tree) -> None:
    found = by_check(groups.check(tree.host(), role=None, installed=True))["groups"]
    assert found.status == "warn"
    assert found.action == (
        "sudo groupadd --system superezio && sudo groupadd --system superezio-admin"
    )
    tree.write("/usr/lib/sysusers.d/superezio.conf")
    found = by_check(groups.check(tree.host(), role=None, installed=True))["groups"]
    assert found.action == "sudo systemd-sysusers superezio.conf"
    tree.write("/etc/group", GROUPS)
    assert by_check(groups.check(tree.host(), role=None, installed=True))["groups"].status == "ok"


def test_whoever_a_daemon_in_a_terminal_lets_in_is_not_warned_of_groups(tree: Tree) -> None:
    def found(role: wire.Role | None, *, installed: bool) -> Finding:
        checks = groups.check(tree.host(), role=role, installed=installed)
        return by_check(checks)["groups"]

    assert found("admin", installed=False).status == "ok"
    assert "you need none" in found("user", installed=False).message
    assert found("observer", installed=False).status == "warn"
    assert found("admin", installed=True).status == "warn"
    assert found(None, installed=False).status == "warn"


def test_who_is_in_no_group_joins_one(tree: Tree) -> None:
    tree.write("/etc/group", GROUPS)
    found = belongs(tree, uid=1001)
    assert (found.status, found.action) == ("warn", "sudo usermod -aG superezio bob")
    assert belongs(tree, uid=4242).action == "sudo usermod -aG superezio 4242"


def test_who_joined_after_logging_in_logs_in_again(tree: Tree) -> None:
    tree.write("/etc/group", GROUPS)
    roles: tuple[wire.Role | None, ...] = ("observer", None)
    for role in roles:
        found = belongs(tree, role=role)
        assert (found.status, found.action) == ("fail", "newgrp superezio")
        assert "log in again" in found.message
    assert belongs(tree, role=None, gids=frozenset({1000, 500})).status == "ok"


def test_whom_the_daemon_lets_in_needs_no_group(tree: Tree) -> None:
    assert belongs(tree, role="user").status == "ok"
    assert "administer" in belongs(tree, role="admin").message
    assert belongs(tree, role=None, uid=0).status == "ok"
    tree.write("/etc/group", GROUPS)
    other = belongs(tree, gids=frozenset({500}))
    assert (other.status, other.action) == ("fail", "superezioctl access")


# --- all of it ------------------------------------------------------------------------------------


def test_nothing_that_hangs_holds_it_up(tree: Tree) -> None:
    tree.write("/run/systemd/system/x")
    tree.write("/etc/group", GROUPS)
    for command in ("systemctl", "getent"):
        tree.write(
            f"../bin/{command}", f"#!{sys.executable}\nimport time\ntime.sleep(600)\n", 0o755
        )
    started_s = time.monotonic()
    gone = Answers(error=errors.DaemonNotRunningError("x"))
    found = by_check(examine(tree.host(), gone, "/s"))
    assert time.monotonic() - started_s < 10
    assert found["unit"].status == "warn"
    assert found["groups"].status == "ok", "read from /etc/group instead"


def test_a_name_service_is_asked_before_the_file(tree: Tree) -> None:
    tree.write("../bin/getent", '#!/bin/sh\necho "$2:*:77:ann"\n', 0o755)
    assert by_check(groups.check(tree.host(), role=None, installed=True))["groups"].status == "ok"


def test_doctor_does_not_load_nvml_by_its_bindings() -> None:
    code = (
        "import sys; from superezioctl.__main__ import main; main(['doctor']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pynvml" not in done.stderr.split()
