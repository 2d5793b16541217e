"""lease acquire and attach for programs that are named; systemctl and podman are stood in for.

`tests/integration/test_containers.py` asks a real podman, `tests/system` a real systemd.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors
from superezio.holder import start_time
from superezioctl import adoption
from superezioctl.arguments import UsageError

GONE = errors.HolderGoneError("it has ended")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield process
        process.kill()


class Programs:
    """A PATH that has what a test writes there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, name: str, *lines: str) -> None:
        path = self.directory / name
        path.write_text(
            "\n".join(["#!/bin/sh", f'echo "$@" >> {self.directory}/{name}.log', *lines])
        )
        path.chmod(0o755)

    def asked(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def systemctl(self, **properties: object) -> None:
        known = {
            "Id": "llama.service",
            "LoadState": "loaded",
            "ActiveState": "active",
            "SubState": "running",
            "MainPID": 0,
            "ControlGroup": "",
        }
        self.add("systemctl", *(f"echo '{k}={v}'" for k, v in (known | properties).items()))


@pytest.fixture
def programs(no_journal: Path) -> Programs:
    return Programs(no_journal)


def acquired(daemon: FakeDaemon) -> dict[str, Any]:
    params = daemon.params_of("lease.acquire")
    return {name: params[name] for name in ("holder_pid", "name")}


def test_the_main_process_of_a_unit_gets_the_lease(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs, server: subprocess.Popen[bytes]
) -> None:
    programs.systemctl(MainPID=server.pid)
    assert ctl("lease", "acquire", "--vram", "8GiB", "--unit", "llama") == 0
    assert acquired(daemon) == {"holder_pid": server.pid, "name": "llama.service"}
    assert daemon.params_of("lease.attach") == {
        "lease": "1ea5e",
        "pid": server.pid,
        "start_time": start_time(server.pid),
    }
    assert programs.asked("systemctl").endswith("-- llama\n")
    assert "--user" not in programs.asked("systemctl")


def test_a_name_that_is_given_goes_before_that_of_the_unit(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs, server: subprocess.Popen[bytes]
) -> None:
    programs.systemctl(MainPID=server.pid)
    words = ("--unit", "llama", "--user", "--name", "mine", "--wait", "1m")
    assert ctl("lease", "acquire", "--vram", "8GiB", *words) == 0
    assert acquired(daemon)["name"] == "mine"
    assert daemon.params_of("lease.acquire")["wait_ms"] == 60_000
    assert programs.asked("systemctl").startswith("--user show")


def test_a_unit_without_a_main_process_holds_it_with_all_it_has(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as two:
        cgroup = tmp_path / "unified/system.slice/run-1.scope"
        (cgroup / "sub").mkdir(parents=True)
        (cgroup / "cgroup.procs").write_text(f"{two.pid}\n")
        (cgroup / "sub/cgroup.procs").write_text(f"{one.pid}\n")
        roots = (str(tmp_path), str(tmp_path / "unified"))
        assert adoption._in_cgroup("/system.slice/run-1.scope", roots) == [one.pid, two.pid]
        assert adoption._in_cgroup("/", roots) == []
        one.kill()
        two.kill()


@pytest.mark.parametrize(
    ("properties", "code", "said"),
    [
        ({"LoadState": "not-found"}, 1, "there is no unit llama.service: `systemctl list-units`"),
        (
            {"ActiveState": "inactive", "SubState": "dead"},
            1,
            "it is inactive (dead). Start it first: `systemctl start llama.service`",
        ),
        ({"MainPID": 4_000_000_000}, 1, "it has just ended"),
        ({"Id": "a.service\n\nId=b.service"}, 2, "names 2 units"),
    ],
)
def test_what_is_no_running_unit_is_told_with_what_to_do(
    daemon: FakeDaemon,
    ctl: Ctl,
    programs: Programs,
    properties: dict[str, object],
    code: int,
    said: str,
) -> None:
    programs.systemctl(**properties)
    assert ctl("lease", "acquire", "--vram", "8GiB", "--unit", "llama") == code
    assert said in ctl.err
    assert not daemon.requests


def test_a_systemd_that_does_not_answer_is_told(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs
) -> None:
    programs.add("systemctl", "echo 'Failed to connect to bus: no medium found' >&2", "exit 1")
    assert ctl("lease", "acquire", "--vram", "8GiB", "--unit", "llama", "--user") == 1
    assert "systemctl says: Failed to connect to bus" in ctl.err
    (programs.directory / "systemctl").unlink()
    assert ctl("lease", "acquire", "--vram", "8GiB", "--unit", "llama") == 1
    assert "systemctl is not there" in ctl.err
    assert not daemon.requests


def test_a_containers_first_process_gets_the_lease(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs, server: subprocess.Popen[bytes]
) -> None:
    programs.add("podman", "echo 'Error: no such object: \"whisper\"' >&2", "exit 125")
    programs.add("docker", f"echo {server.pid} running")
    assert ctl("lease", "acquire", "--vram", "8GiB", "--container", "whisper") == 0
    assert acquired(daemon) == {"holder_pid": server.pid, "name": "whisper"}
    assert programs.asked("docker").endswith("whisper\n")


def test_an_engine_that_is_named_is_the_only_one_asked(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs
) -> None:
    programs.add("docker", "echo 7 running")
    words = ("lease", "acquire", "--vram", "8GiB", "--container", "whisper", "--engine", "podman")
    assert ctl(*words) == 1
    assert "podman is not there" in ctl.err
    programs.add("podman", "echo 0 exited")
    assert ctl(*words) == 1
    assert "it is exited. Start it first: `podman start whisper`" in ctl.err
    programs.add("podman", "echo 'Error: no such object' >&2", "exit 125")
    assert ctl(*words) == 1
    assert "no container whisper that you may see (podman: Error: no such object)" in ctl.err
    assert not daemon.requests


def test_a_program_that_ended_meanwhile_leaves_no_lease(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs, server: subprocess.Popen[bytes]
) -> None:
    programs.systemctl(MainPID=server.pid)
    daemon.answers["lease.attach"] = GONE
    assert ctl("lease", "acquire", "--vram", "8GiB", "--unit", "llama") == 1
    assert daemon.params_of("lease.release") == {"lease": "1ea5e"}


def test_one_of_several_that_ended_meanwhile_is_left_out(
    daemon: FakeDaemon, ctl: Ctl, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        running = adoption.Running("batch.scope", [server.pid, other.pid])
        other.kill()
    monkeypatch.setattr(adoption, "named", lambda _: running)
    daemon.answers["lease.attach"] = [wire_samples.lease(), GONE]
    assert ctl("lease", "attach", "1ea5e" * 5) == 0
    assert [each["params"]["pid"] for each in daemon.asked("lease.attach")] == [
        server.pid,
        other.pid,
    ]


def test_a_unit_can_be_bound_to_a_lease_that_stands(
    daemon: FakeDaemon, ctl: Ctl, programs: Programs, server: subprocess.Popen[bytes]
) -> None:
    programs.systemctl(MainPID=server.pid)
    assert ctl("lease", "attach", "1e", "--unit", "llama.service") == 0
    assert daemon.params_of("lease.attach")["pid"] == server.pid
    assert not daemon.asked("lease.acquire")


@pytest.mark.parametrize(
    "words",
    [
        "lease attach 1e",
        "lease attach 1e 7 --unit llama",
        "lease attach 1e --unit llama --container whisper",
        "lease acquire --vram 1GiB --unit llama --pid 7",
        "lease acquire --vram 1GiB --container whisper --ttl 1m",
        "lease acquire --vram 1GiB --pid 7 --user",
        "lease acquire --vram 1GiB --pid 7 --engine podman",
        "lease acquire --vram 1GiB --container=-x",
    ],
)
def test_what_cannot_be_meant_is_refused(
    daemon: FakeDaemon,
    ctl: Ctl,
    programs: Programs,
    server: subprocess.Popen[bytes],
    words: str,
) -> None:
    programs.systemctl(MainPID=server.pid)
    programs.add("podman", f"echo {server.pid} running")
    assert ctl(*words.split()) == 2
    assert not daemon.requests


def test_a_program_that_is_gone_is_no_holder() -> None:
    with pytest.raises(errors.HolderGoneError):
        adoption.Running("x", [4_000_000_000])
    with pytest.raises(UsageError):
        adoption.of_container("--help")
