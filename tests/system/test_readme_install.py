"""What the README has root type on a host with systemd, typed on one that has nothing yet."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from markdown_blocks import commands
from system.machine import Machine, why_not
from system.service import UNIT, Service
from system.wheelhouse import wheelhouse

PROJECT = Path(__file__).parents[2]
#: The new member of the group, who became root with sudo to type the commands.
USER = "alice"
#: The end of `make install`, which restarts what runs.
SETTLE = "PREFIX=/opt/superezio sh packaging/files.sh settle"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Reader(Machine):
    """A machine whose root has cloned the project, has no network and no NVIDIA driver."""

    def type(self, line: str, *, umask: str = "022") -> str:
        """Run a line in root's shell, in the checkout; return what it prints."""
        shell = (
            "env",
            "USER=root",
            f"SUDO_USER={USER}",
            "PIP_NO_INDEX=1",
            "PIP_FIND_LINKS=/root/wheelhouse",
            "bash",
        )
        script = f"cd /root/superezio && umask {umask} && {line}"
        done = self.run(*shell, "-c", script, timeout_s=300)
        print(f"# {line}\n{done.stdout}{done.stderr}")
        return done.stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The host when all that the README says has been typed."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    if shutil.which("git") is None:
        pytest.skip("git is not there: apt-get install git")
    checkout = tmp_path_factory.mktemp("readme") / "superezio"
    subprocess.run(["git", "clone", "--quiet", PROJECT, checkout], check=True)
    mounts = (
        f"--bind={checkout}:/root/superezio",
        f"--bind-ro={wheelhouse()}:/root/wheelhouse",
    )
    with Reader(nspawn_options=mounts) as host:
        host.run("useradd", "--create-home", USER)
        lines = commands(PROJECT / "README.md", "# ")
        assert lines[0] == "make install"
        for line in lines:
            # A careful root's files are nobody else's, unless somebody sees to it.
            host.type(line, umask="077")
        yield host


def test_the_service_runs_as_its_user_on_the_socket_of_systemd(host: Reader) -> None:
    found = host.properties(UNIT, "ActiveState", "UnitFileState", "User")
    assert found == {"ActiveState": "active", "UnitFileState": "enabled", "User": "superezio"}
    pid = host.properties(UNIT, "MainPID")["MainPID"]
    assert host.output("ps", "-o", "user=", "-p", pid).strip() == "superezio"
    socket = host.properties("superezio.socket", "ActiveState", "UnitFileState")
    assert socket == {"ActiveState": "active", "UnitFileState": "enabled"}
    listening = host.output("ss", "--no-header", "--listening", "--unix", "--processes")
    (line,) = [line for line in listening.splitlines() if "/run/superezio/control.sock" in line]
    assert '"systemd"' in line


def test_the_units_are_valid_as_they_were_installed(host: Reader) -> None:
    verify = ("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no")
    verified = host.run(*verify, UNIT, "superezio.socket")
    assert verified.stdout + verified.stderr == ""


def test_status_says_that_there_is_no_driver_and_what_to_do(host: Reader) -> None:
    for user in (None, USER, "nobody"):
        shown = host.run("superezioctl", "status", user=user)
        assert shown.stdout.startswith("degraded")
        assert "libnvidia-ml.so.1 is not installed" in shown.stdout
        assert "Install the NVIDIA driver" in shown.stdout
        assert "no GPUs" in shown.stdout
        assert shown.stderr == ""


def test_a_lease_is_refused_with_the_reason(host: Reader) -> None:
    refused = host.run(
        "superezioctl", "run", "--vram", "1GiB", "--", "true", user=USER, check=False
    )
    assert refused.returncode == 125
    assert "libnvidia-ml.so.1 is not installed" in refused.stderr


def test_the_one_who_was_added_to_the_group_may_lease_and_others_may_not(host: Reader) -> None:
    roles = {
        user: json.loads(host.output("superezioctl", "rpc", "system.info", user=user))["role"]
        for user in (USER, "nobody")
    }
    assert roles == {USER: "user", "nobody": "observer"}


def test_an_upgrade_restarts_the_service_and_leases_stand(host: Reader) -> None:
    """More often than systemd's start limit has it, which is for failures."""
    service = Service(host)
    host.run("systemctl", "restart", UNIT)
    lease, _ = service.lease()
    for line in ("make install", SETTLE, SETTLE):
        before = service.main_pid
        host.type(line)
        assert host.properties(UNIT, "ActiveState") == {"ActiveState": "active"}
        assert service.main_pid != before
        assert service.leases() == [lease]


def test_an_upgrade_does_not_start_what_was_stopped(host: Reader) -> None:
    host.run("systemctl", "stop", UNIT, "superezio.socket")
    host.type(SETTLE)
    assert host.properties(UNIT, "ActiveState") == {"ActiveState": "inactive"}
    assert host.properties("superezio.socket", "ActiveState") == {"ActiveState": "inactive"}


def test_past_the_start_limit_superezioctl_says_how_to_go_on(host: Reader) -> None:
    host.run("systemctl", "start", UNIT)
    while host.run("systemctl", "restart", UNIT, check=False).returncode == 0:
        pass
    stuck = host.run("superezioctl", "status", check=False)
    assert stuck.returncode == 5
    assert "is failed (failed), result start-limit-hit" in stuck.stderr
    advice = "systemctl reset-failed superezio.socket superezio.service"
    assert advice in stuck.stderr
    assert advice in (PROJECT / "README.md").read_text()
    host.run(*advice.split())
    host.run("systemctl", "start", "superezio")
    assert "2 GPUs" in host.properties(UNIT, "StatusText")["StatusText"]
    host.type("superezioctl status")


def test_a_package_is_filled_and_the_host_does_not_notice(host: Reader) -> None:
    pid = host.properties(UNIT, "MainPID")
    host.type("make install DESTDIR=/tmp/package SYSTEMD=252", umask="077")
    assert host.properties(UNIT, "MainPID") == pid
    kept = host.output("find", "/tmp/package", "-name", "superezio*.service").split()
    assert "/tmp/package/usr/lib/systemd/system/superezio.service" in kept
    unlike = host.run("grep", "-rlI", "/tmp/package", "/tmp/package", check=False).stdout
    assert unlike == "", "what is packed knows nothing of where it was packed"
    closed = host.output("find", "/tmp/package", "!", "-perm", "-004", "!", "-type", "l")
    assert closed == "", "what is packed is for all users"
    # Put where it belongs, it runs.
    host.run("mv", "/opt/superezio", "/opt/superezio.before")
    host.run("mv", "/tmp/package/opt/superezio", "/opt/superezio")
    assert host.output("superezioctl", "--version").startswith("superezioctl ")


def test_uninstalled_nothing_is_left_but_configuration_and_state(host: Reader) -> None:
    host.write("/etc/superezio/superezio.toml", "")
    host.run("systemctl", "enable", "superezio-model@llama")
    while host.run("systemctl", "restart", UNIT, check=False).returncode == 0:
        pass  # a unit that has failed is listed as such, even without its file
    host.type("make uninstall")
    host.run("rm", "-r", "/opt/superezio.before", "/tmp/package")
    left = host.output(
        *("find", "/etc", "/usr", "/opt", "/var/lib", "-xdev", "-name", "*superezio*"),
        "-prune",
    )
    assert sorted(left.split()) == ["/etc/superezio", "/var/lib/superezio"]
    assert host.properties(UNIT, "LoadState", "ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
