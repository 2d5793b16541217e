"""superezioctl top in a real terminal, against the real daemon; judged by the daemon's answers."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import wire_samples
from fake_daemon import FakeDaemon
from live_daemon import LiveDaemon
from superezio import errors, wire
from terminal import WITHIN_S, Terminal

pytestmark = pytest.mark.installed

GIB = 1 << 30
REFUSAL = (
    "cannot call gpu.cordon as user: it needs the role admin. Join the group superezio-admin"
    ' (sudo usermod -aG superezio-admin "$USER"), then log in again.'
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory() as directory:
        live = LiveDaemon(Path(directory))
        try:
            yield live.start()
        finally:
            live.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    # Not tmp_path: tmux's own socket has 107 bytes for its path, too.
    with tempfile.TemporaryDirectory() as directory:
        window = Terminal(Path(directory))
        try:
            yield window
        finally:
            window.close()


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def top(socket_path: Path) -> list[str]:
    return [sys.executable, "-m", "superezioctl", "--socket", str(socket_path), "top"]


def pid_in(terminal: Terminal) -> int:
    """Return the process that the window's shell waits for."""
    shell = terminal.asked("pane_pid")
    (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    return int(child)


def once(daemon: LiveDaemon, wanted: Callable[[wire.LeaseList], bool]) -> None:
    """Wait until the daemon has leases as wanted."""
    deadline = time.monotonic() + WITHIN_S
    with daemon.client() as client:
        while not wanted(found := client.lease_list()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


def test_it_shows_the_gpus_and_a_lease_which_a_key_releases(
    daemon: LiveDaemon, terminal: Terminal, holder: subprocess.Popen[bytes]
) -> None:
    with daemon.client() as client:
        lease = client.lease_acquire(2 * GIB, holder_pid=holder.pid, name="trainer")
    terminal.start(top(daemon.socket_path))
    lines = terminal.shows("RTX 3060", "RTX 2060", "trainer", lease.id[:8], "of 2.0 GiB", "q quit")
    assert lines[0].startswith("healthy")
    terminal.press("r")
    terminal.shows("Select a lease first")
    terminal.press("Tab")
    terminal.shows(f"> {lease.id[:8]}")
    terminal.press("r")
    terminal.shows(f"Release lease {lease.id[:8]} (trainer)?")
    terminal.press("n")
    terminal.shows("left as it was")
    once(daemon, lambda found: [each.id for each in found.leases] == [lease.id])
    terminal.press("r")
    terminal.shows("y / n")
    terminal.press("y")
    terminal.shows(f"lease {lease.id} is released")
    once(daemon, lambda found: not found.leases)
    assert holder.poll() is None


def test_a_lease_is_revoked_and_one_that_waits_taken_out_by_key(
    daemon: LiveDaemon, terminal: Terminal, holder: subprocess.Popen[bytes]
) -> None:
    ctl = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), "run"]
    waits = [*ctl, "--vram", "9GiB", "--wait", "60s", "--name", "nightly", "true"]
    with daemon.client() as client, ExitStack() as running:
        lease = client.lease_acquire(8 * GIB, holder_pid=holder.pid, name="trainer")
        nightly = running.enter_context(subprocess.Popen(waits, stderr=subprocess.DEVNULL))
        running.callback(nightly.kill)
        terminal.start(top(daemon.socket_path))
        terminal.shows("nightly", "trainer")
        terminal.press("x")
        terminal.shows("Select one that waits first")
        terminal.press("BTab")
        terminal.shows("> 1. ")
        terminal.press("x")
        terminal.shows("(nightly) out of the queue?")
        terminal.press("y")
        terminal.shows("is taken out of the queue", "nobody waits")
        assert nightly.wait(timeout=30) == 125
        terminal.press("v")
        terminal.shows("Select a lease first")
        terminal.press("BTab", "BTab")
        terminal.shows(f"> {lease.id[:8]}")
        terminal.press("v")
        terminal.shows(f"Revoke lease {lease.id[:8]} (trainer)?")
        terminal.press("n")
        terminal.shows("left as it was")
        assert client.lease_get(lease.id).revocation is None
        terminal.press("v")
        terminal.shows("y / n")
        terminal.press("y")
        terminal.shows(f"lease {lease.id} is revoked: lost in ")
        order = client.lease_get(lease.id).revocation
        assert order is not None
        assert client.lease_release(lease.id).released
    assert holder.poll() is None


def test_a_gpu_is_cordoned_and_uncordoned_by_key(daemon: LiveDaemon, terminal: Terminal) -> None:
    terminal.start(top(daemon.socket_path))
    terminal.shows("> 0 RTX 3060")
    terminal.press("Down")
    terminal.shows("> 1 RTX 2060")
    terminal.press("c")
    terminal.shows("Cordon gpu 1, because")
    terminal.type("quit? a new fan")
    terminal.press("Enter")
    terminal.shows("gpu 1 is cordoned", "admits no lease: it is cordoned: quit? a new fan")
    with daemon.client() as client:
        first, second = client.gpu_list().gpus
        assert (first.cordoned, second.cordoned) == (False, True)
        assert second.cordon_reason == "quit? a new fan"
        terminal.press("u")
        terminal.shows("gpu 1 is not cordoned", without=["admits no lease"])
        assert not any(gpu.cordoned for gpu in client.gpu_list().gpus)
        terminal.press("c")
        terminal.shows("Cordon gpu 1, because")
        terminal.press("Escape")
        terminal.shows("left as it was")
        assert not any(gpu.cordoned for gpu in client.gpu_list().gpus)


@pytest.mark.parametrize("end", ["q", "C-c", "SIGTERM"])
def test_the_terminal_is_left_as_it_was(daemon: LiveDaemon, terminal: Terminal, end: str) -> None:
    terminal.start(top(daemon.socket_path))
    terminal.shows("RTX 3060", "q quit")
    assert terminal.asked("alternate_on") == "1"
    if end == "SIGTERM":
        os.kill(pid_in(terminal), signal.SIGTERM)
    else:
        terminal.press(end)
    lines = terminal.shows("ended with 0", without=["RTX 3060"])
    assert [line for line in lines if line] == ["ended with 0"]
    assert (terminal.asked("alternate_on"), terminal.asked("cursor_flag")) == ("0", "1")
    before, after = terminal.settings()
    assert before == after


def test_it_ends_with_its_terminal(daemon: LiveDaemon, terminal: Terminal) -> None:
    terminal.start(top(daemon.socket_path))
    terminal.shows("RTX 3060", "q quit")
    process = os.pidfd_open(pid_in(terminal))
    try:
        terminal.close()
        ended, _, _ = select.select([process], [], [], WITHIN_S)
        assert ended
    finally:
        os.close(process)


def test_ctrl_z_stops_it_and_fg_brings_it_back(daemon: LiveDaemon, terminal: Terminal) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not there: apt-get install bash")
    terminal.start(["bash", "--norc", "-i"])
    terminal.type(shlex.join(top(daemon.socket_path)))
    terminal.press("Enter")
    terminal.shows("RTX 3060", "q quit")
    terminal.press("C-z")
    terminal.shows("Stopped", without=["q quit"])
    terminal.type("fg")
    terminal.press("Enter")
    terminal.shows("RTX 3060", "q quit")
    terminal.press("q")
    terminal.shows("Stopped", without=["q quit"])


def test_processes_the_queue_and_what_others_do_are_shown(
    daemon: LiveDaemon, terminal: Terminal
) -> None:
    ctl = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), "run"]
    standin = [sys.executable, "-m", "supereziod.gpu.standin", "--vram", "7GiB", "--load", "90"]
    words = [*ctl, "--vram", "8GiB", "--name", "model", "--", *standin]
    waits = [*ctl, "--vram", "9GiB", "--wait", "60s", "--name", "nightly", "true"]
    terminal.start(top(daemon.socket_path))
    with ExitStack() as running:
        model = running.enter_context(
            subprocess.Popen(words, env=daemon.standin_environment(), stdout=subprocess.DEVNULL)
        )
        running.callback(model.kill)
        terminal.shows("model", f"{model.pid}", "7.0 GiB  of 8.0 GiB", " 90 %")
        nightly = running.enter_context(subprocess.Popen(waits, stderr=subprocess.DEVNULL))
        running.callback(nightly.kill)
        lines = terminal.shows("nightly", "9.0 GiB x 1")
        (process,) = [line for line in lines if f" {model.pid}  C " in line]
        assert "7.0 GiB" in process
        with daemon.client() as client:
            client.gpu_cordon("1", reason="from outside")
            terminal.shows("admits no lease: it is cordoned: from outside")
            client.gpu_uncordon("1")
        model.kill()
        nightly.wait(timeout=30)
    terminal.shows("nobody waits", without=["model"])
    once(daemon, lambda found: not found.leases)


def test_a_daemon_that_restarts_is_waited_for(
    daemon: LiveDaemon, terminal: Terminal, holder: subprocess.Popen[bytes]
) -> None:
    with daemon.client() as client:
        lease = client.lease_acquire(1 * GIB, holder_pid=holder.pid, name="stays")
    terminal.start(top(daemon.socket_path))
    terminal.shows("stays", "healthy")
    daemon.kill()
    terminal.shows("no daemon, waiting", "stays")
    daemon.start()
    terminal.shows("healthy", "stays", "supereziod", without=["no daemon"])
    terminal.press("Tab", "r", "y")
    once(daemon, lambda found: not found.leases)
    terminal.shows(f"lease {lease.id} is released")


def test_without_a_daemon_it_waits_for_one(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start(top(tmp_path / "none.sock"))
    terminal.shows("no daemon, waiting", "q quit")
    terminal.press("q")
    terminal.shows("ended with 0")


def test_it_follows_the_size_of_the_window(daemon: LiveDaemon, terminal: Terminal) -> None:
    terminal.start(top(daemon.socket_path))
    lines = terminal.shows("RTX 3060", "RTX 2060", "leases", "processes", "queue", "q quit")
    assert (len(lines), lines[-1].split()[0]) == (24, "Tab")
    terminal.resize(100, 40)
    terminal.shows("RTX 3060", "q quit")
    terminal.resize(50, 9)
    lines = terminal.shows("> 0 RTX 3060", "Tab arrows", without=["q quit"])
    assert (len(lines), lines[-1].split()[0]) == (9, "Tab")
    terminal.press("?")
    terminal.shows("superezioctl top", without=["RTX 3060"])
    terminal.press("?")
    terminal.shows("RTX 3060")


def test_colour_is_left_out_where_it_is_not_wanted(daemon: LiveDaemon, terminal: Terminal) -> None:
    terminal.start(top(daemon.socket_path), {"NO_COLOR": "1"})
    terminal.shows("> 0 RTX 3060", "q quit")
    assert not any("\x1b[" in line for line in terminal.lines(styles=True))


def test_colour_is_there_where_it_is_wanted(daemon: LiveDaemon, terminal: Terminal) -> None:
    terminal.start(top(daemon.socket_path))
    terminal.shows("> 0 RTX 3060", "q quit")
    assert any("\x1b[32m" in line for line in terminal.lines(styles=True))


def test_a_refusal_is_shown_in_the_daemons_words(terminal: Terminal) -> None:
    with tempfile.TemporaryDirectory() as directory:
        fake = FakeDaemon(Path(directory) / "control.sock")
        fake.answers = wire_samples.everything()
        fake.answers["gpu.cordon"] = errors.PermissionDeniedError(REFUSAL)
        fake.answers["lease.release"] = errors.PermissionDeniedError("It is not yours.")
        fake.answers["gpu.list"] = wire.GpuList(gpus=[wire_samples.gpu(name="NVIDIA \x1b[2J evil")])
        fake.start()
        try:
            terminal.start(top(fake.path))
            terminal.shows("?[2J evil", "trainer", "nightly", "degraded", "gpu 1 is hot")
            terminal.press("c", "Enter")
            lines = terminal.shows("then log in again.", "q quit")
            said = "".join(line.ljust(80) for line in lines)
            assert REFUSAL in said, "the whole of it, though it is longer than a line"
            terminal.press("Tab", "r", "y")
            terminal.shows("It is not yours.")
            terminal.press("q")
            terminal.shows("ended with 0")
        finally:
            fake.close()
