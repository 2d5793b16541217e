"""Two daemons on one host: the second says what is there already, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import call_once

pytestmark = pytest.mark.installed


def start_second(
    first: LiveDaemon, *arguments: str, state: str = "other-state"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "supereziod", "--gpu-driver", "simulated"),
            *("--state-dir", str(first.directory / state), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_second_one_on_the_same_leases_ends_with_a_sentence(tmp_path: Path) -> None:
    first = LiveDaemon(tmp_path / "first").start()
    try:
        other = tmp_path / "other.sock"
        second = start_second(
            first, "--socket", str(other), "--runtime-dir", str(first.runtime_dir)
        )
        assert second.returncode == 1
        assert f"another supereziod (pid {first.pid}) keeps its leases in" in second.stderr
        assert not other.exists(), "it takes its socket along"
        assert call_once(first.socket_path, "system.ping")["pid"] == first.pid
        first.kill()
        first.start()
    finally:
        first.close()


def test_a_second_one_with_the_same_state_ends_with_a_sentence(tmp_path: Path) -> None:
    """A socket and leases of its own do not help: each would overwrite the other's cordons."""
    first = LiveDaemon(tmp_path / "first").start()
    other = tmp_path / "other.sock"
    apart = ("--socket", str(other), "--runtime-dir", str(tmp_path / "other"))
    try:
        second = start_second(first, *apart, state="state")
        assert second.returncode == 1
        assert f"another supereziod (pid {first.pid}) keeps its state" in second.stderr
        assert "choose another --state-dir" in second.stderr
        assert not other.exists()
        assert call_once(first.socket_path, "system.ping")["pid"] == first.pid
        both = start_second(
            first, "--socket", str(other), "--runtime-dir", str(first.runtime_dir), state="state"
        )
        assert "keeps its leases in" in both.stderr
        first.kill()
        first.start()
    finally:
        first.close()


def test_one_directory_may_hold_both_leases_and_state(tmp_path: Path) -> None:
    first = LiveDaemon(tmp_path / "first")
    try:
        first.start("--runtime-dir", str(tmp_path / "all"), "--state-dir", str(tmp_path / "all"))
        assert call_once(first.socket_path, "system.ping")["pid"] == first.pid
    finally:
        first.close()


def test_a_second_one_on_the_same_socket_ends_with_a_sentence(tmp_path: Path) -> None:
    first = LiveDaemon(tmp_path / "first").start()
    try:
        second = start_second(
            first, "--socket", str(first.socket_path), "--runtime-dir", str(tmp_path / "other")
        )
        assert second.returncode == 1
        assert f"another supereziod (pid {first.pid}) serves {first.socket_path}" in second.stderr
        assert call_once(first.socket_path, "system.ping")["pid"] == first.pid
    finally:
        first.close()
