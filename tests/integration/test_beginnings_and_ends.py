"""What comes while the daemon cannot act on it yet, or any more; and a start without streams."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(tmp_path / "d")
    yield daemon
    daemon.close()


def await_mask(pid: int, field: str, number: signal.Signals) -> None:
    """Wait until a signal is in one of the masks that the kernel shows of a process."""
    end = time.monotonic() + 20
    status = Path(f"/proc/{pid}/status")
    while True:
        masks = dict(line.split(":\t") for line in status.read_text().splitlines() if ":\t" in line)
        if int(masks[field], 16) >> (number - 1) & 1:
            return
        assert time.monotonic() < end, f"{number.name} is never in {field}"


def test_a_reload_that_is_asked_for_during_the_start_is_done_once_it_can_be(
    daemon: LiveDaemon,
) -> None:
    """As by logrotate, or a terminal that is closed: it is not the end of the daemon."""
    daemon.start(await_ready=False)
    await_mask(daemon.pid, "SigBlk", signal.SIGHUP)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_notification("READY=1")
    daemon.await_log("config.reloaded")
    assert daemon.process.poll() is None


def test_reloads_that_are_asked_for_until_the_end_do_not_cut_it_short(daemon: LiveDaemon) -> None:
    daemon.start()
    process = daemon.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert "supereziod has stopped" in daemon.log()


def test_leases_whose_file_was_removed_a_moment_before_the_end_stand(daemon: LiveDaemon) -> None:
    with daemon.start().client() as client:
        lease = client.lease_acquire("1GiB", mode="ttl", ttl="10m").id
    for file in daemon.runtime_dir.glob("leases.db*"):
        file.unlink()
    assert daemon.stop() == 0
    with daemon.start().client() as client:
        assert [each.id for each in client.lease_list().leases] == [lease]


def test_without_standard_streams_it_runs_and_nothing_takes_their_numbers(
    daemon: LiveDaemon,
) -> None:
    arguments = ["--config", str(daemon.directory / "superezio.toml"), "--gpu-driver", "simulated"]
    places = ["--socket", str(daemon.socket_path), "--state-dir", str(daemon.directory / "state")]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "supereziod"]
    # Not piped: what it holds open is what it opened itself.
    with subprocess.Popen([*closed, *arguments, *places]) as process:
        end = time.monotonic() + 20
        while not daemon.socket_path.exists():
            assert process.poll() is None, "it ends when it is started so"
            assert time.monotonic() < end
        with daemon.client() as client:
            assert client.system_ping().pid == process.pid
        numbers = {
            number: Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)
        }
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert numbers == dict.fromkeys(range(3), Path("/dev/null"))
    checked = subprocess.run([*closed, "--check", *arguments], check=False)
    assert checked.returncode == 0
