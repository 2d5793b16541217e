"""superezioctl doctor on this very host, with the real daemon and without one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import superezio
import superezioctl
from fake_daemon import FakeDaemon, Silence
from live_daemon import LiveDaemon
from nvml_sim.plugin import MakeSimulator

pytestmark = pytest.mark.installed


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def doctor(socket_path: Path, *, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "--json", "--socket", str(socket_path), "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
    )
    assert not done.stderr
    checks = json.loads(done.stdout)["checks"]
    for check in checks:
        assert set(check) == {"check", "status", "message", "action"}
        assert (check["action"] is None) == (check["status"] == "ok")
    failed = any(check["status"] == "fail" for check in checks)
    assert done.returncode == (1 if failed else 0)
    return done.returncode, {check["check"]: check for check in checks}


def test_with_a_daemon_that_is_well_nothing_fails(directory: Path) -> None:
    live = LiveDaemon(directory)
    try:
        live.start()
        code, found = doctor(live.socket_path)
        assert code == 0
        for check in ("card", "socket", "daemon", "version", "runtime_dir", "state_dir", "health"):
            assert found[check]["status"] == "ok", found[check]
        assert str(live.pid) in found["daemon"]["message"]
        limits = Path(f"/proc/{live.pid}/limits").read_text().split("Max open files")[1].split()
        assert limits[0] in found["open_files"]["message"]
        with live.client() as client:
            client.gpu_cordon("1", reason="new fan")
        code, found = doctor(live.socket_path)
        assert (code, found["health.gpu_cordoned"]["status"]) == (0, "info")
        assert "uncordon" in found["health.gpu_cordoned"]["action"]
        live.kill()
        code, found = doctor(live.socket_path)
        assert code == 1
        assert "left behind" in found["socket"]["message"]
        assert found["daemon"]["status"] == "fail"
    finally:
        live.close()


def test_a_daemon_that_hangs_is_restarted_by_the_command_that_is_named(directory: Path) -> None:
    """It ends that very process, and starts another with the same options."""
    live = LiveDaemon(directory)
    again = None
    try:
        live.start()
        assert live.process is not None
        hung = live.pid
        os.kill(hung, signal.SIGSTOP)
        _, found = doctor(live.socket_path)
        assert "does not answer" in found["daemon"]["message"]
        command = found["daemon"]["action"].replace("timeout 15", "timeout 0.1")
        with live.log_path.open("ab") as log:
            again = subprocess.Popen(["sh", "-c", command], stderr=log, start_new_session=True)
        assert live.process.wait(timeout=20) == -signal.SIGKILL
        wait = [sys.executable, "-m", "superezioctl", "--socket", str(live.socket_path), "wait"]
        subprocess.run([*wait, "--timeout", "20s"], timeout=60, check=True)
        with live.client() as client:
            system = client.system_info()
        assert (system.pid != hung, system.gpu_driver) == (True, "simulated")
        ended = os.pidfd_open(system.pid)
        os.killpg(again.pid, signal.SIGTERM)
        # Not the shell alone: the daemon goes on writing in its directory until it has ended.
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)
    finally:
        if again is not None:
            with suppress(ProcessLookupError):
                os.killpg(again.pid, signal.SIGKILL)
            again.wait(timeout=20)
        live.close()


def test_without_a_daemon_it_says_how_to_start_one(directory: Path) -> None:
    code, found = doctor(directory / "none.sock")
    assert code == 1
    assert found["daemon"]["status"] == "fail"
    assert "superezio" in found["daemon"]["action"]


def test_a_daemon_that_hangs_holds_it_up_for_seconds_only(directory: Path) -> None:
    fake = FakeDaemon(directory / "control.sock")
    fake.answers["system.info"] = Silence
    fake.start()
    try:
        started_s = time.monotonic()
        code, found = doctor(fake.path)
        assert time.monotonic() - started_s < 15
        assert (code, found["daemon"]["message"]) == (1, "the daemon does not answer")
    finally:
        fake.close()


def test_people_get_a_line_for_each_check(directory: Path) -> None:
    words = [sys.executable, "-m", "superezioctl", "--socket", str(directory / "s"), "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in {"ok", "info", "warn", "FAIL"} for line in lines)
    (line,) = [line for line in lines if line.split()[1] == "daemon"]
    assert line.startswith("FAIL")
    assert "supereziod" in line.split("→")[1] or "systemctl" in line.split("→")[1]


def test_the_drivers_library_is_loaded_and_not_called(
    make_nvml_sim: MakeSimulator, nvml_library: Path
) -> None:
    """A call would need the state of the simulated host, and abort without it."""
    environment = make_nvml_sim().env(nvml_library)
    code = (
        "from superezioctl.doctor.host import Host\n"
        "from superezioctl.doctor.driver import _library, _library_error\n"
        "host = Host()\n"
        "print(_library(host, _library_error(host)).status)\n"
        "print(host.text('/proc/self/maps'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ok\n")
    assert str(nvml_library.resolve()) in done.stdout


def test_cards_that_only_the_daemon_sees_are_cards(
    directory: Path, make_nvml_sim: MakeSimulator, nvml_library: Path
) -> None:
    if any(Path("/sys/module/nvidia").glob("*")):
        pytest.skip("this host has a driver of its own, which is what doctor looks at")
    environment = make_nvml_sim().env(nvml_library)
    live = LiveDaemon(directory, gpu_driver="nvml", environment=environment)
    try:
        live.start()
        code, found = doctor(live.socket_path)
        assert (code, found["card"]["status"]) == (0, "ok"), found
        assert "sees 2" in found["card"]["message"]
    finally:
        live.close()


NOBODY = 65534


def test_somebody_who_is_not_root_may_ask(directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the other tests are run by who is not")
    directory.chmod(0o755)
    words = ["/usr/bin/python3", "-P", "-m", "superezioctl", "--json", "--socket"]
    paths = [*(str(Path(str(module.__file__)).parents[1]) for module in (superezio, superezioctl))]
    paths.append(str(Path(str(msgspec.__file__)).parents[1]))
    as_nobody: dict[str, Any] = {
        "env": {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(paths)},
        "user": NOBODY,
        "group": NOBODY,
        "extra_groups": [],
        "cwd": "/",
        "capture_output": True,
        "text": True,
    }
    tried = subprocess.run(
        [words[0], "-c", "import superezioctl, msgspec"], check=False, **as_nobody
    )
    if tried.returncode != 0:
        pytest.skip(f"another user cannot run superezioctl from here: {tried.stderr[-200:]}")
    live = LiveDaemon(directory)
    try:
        live.start()
        done = subprocess.run([*words, str(live.socket_path), "doctor"], check=False, **as_nobody)
        found = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
        assert (done.returncode, done.stderr) == (0, "")
        assert "you are observer" in found["daemon"]["message"]
        assert found["membership"]["status"] == "warn"
        assert found["membership"]["action"].startswith("sudo usermod -aG superezio nobody")
        assert found["state_dir"]["status"] == "ok"
    finally:
        live.close()
