"""What superezioctl says beside an answer, with the real daemon over its socket."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from plain_client import call_once

WITHIN_S = 15.0
NOBODY = "nobody-of-that-name"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


@pytest.fixture
def server(daemon: LiveDaemon) -> Iterator[int]:
    """A real process that uses 5 GiB of the large GPU, with no lease."""
    process = subprocess.Popen(
        [sys.executable, "-m", "supereziod.gpu.standin", "--gpu", "0", "--vram", "5GiB"],
        env=daemon.standin_environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.communicate()


def ctl(daemon: LiveDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def acquired(daemon: LiveDaemon, *words: str) -> tuple[dict[str, Any], list[str]]:
    done = ctl(daemon, "--json", "lease", "acquire", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), [
        json.loads(line)["warning"] for line in done.stderr.split("\n") if line
    ]


def test_a_server_that_is_leased_twice_and_for_less_than_it_uses(
    daemon: LiveDaemon, server: int
) -> None:
    # A decision may go by a reading of the last second, from before the server started.
    deadline = time.monotonic() + WITHIN_S
    while call_once(daemon.socket_path, "gpu.list")["gpus"][0]["vram_foreign_bytes"] < 5 << 30:
        assert time.monotonic() < deadline
        call_once(daemon.socket_path, "placement.explain", vram_bytes=1 << 30)
    first, said = acquired(daemon, "--vram", "2GiB", "--pid", str(server))
    (too_little,) = said
    assert "5.0 GiB are in use already, and 2.0 GiB reserved: --vram 5GiB" in too_little
    second, said = acquired(daemon, "--vram", "1GiB", "--pid", str(server))
    has_another = said[0]
    assert f"has another lease already, {first['id']}," in has_another
    leases = call_once(daemon.socket_path, "lease.list")["leases"]
    assert {each["id"] for each in leases} == {first["id"], second["id"]}


def test_a_priority_above_ones_role_is_told_before_the_command_runs(daemon: LiveDaemon) -> None:
    done = ctl(daemon, "run", "--vram", "1GiB", "--priority", "5000", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "superezioctl run: the priority is " in done.stderr
    assert ", and not 5000: your role may have no more" in done.stderr


def test_a_deadline_is_not_lengthened_and_that_is_said(daemon: LiveDaemon) -> None:
    lease, _ = acquired(daemon, "--vram", "1GiB", "--ttl", "10m")
    first = ctl(daemon, "lease", "revoke", lease["id"], "--deadline", "2m")
    assert (first.returncode, first.stderr) == (0, "")
    for longer in (("--deadline", "5m"), ("--deadline", "2m")):
        again = ctl(daemon, "lease", "revoke", lease["id"], *longer)
        assert again.returncode == 0
        assert "that deadline stands, for none is lengthened: it is lost in " in again.stderr
    sooner = ctl(daemon, "lease", "revoke", lease["id"])
    assert (sooner.returncode, sooner.stderr) == (0, ""), "30 s are the default"
    assert ctl(daemon, "lease", "revoke", lease["id"]).stderr.endswith("s\n")


def test_a_reload_warns_as_the_check_of_the_files_does(daemon: LiveDaemon) -> None:
    file = daemon.directory / "superezio.toml"
    file.write_text(f'[access]\nadmins = ["{NOBODY}"]\n')
    done = ctl(daemon, "reload")
    warning = f"warning: {file}:2: access.admins: this host has no user {NOBODY}\n"
    assert (done.returncode, done.stderr) == (0, f"superezioctl: {warning}")
    check = subprocess.run(
        [sys.executable, "-m", "supereziod", "--config", str(file), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.stderr == f"supereziod: {warning}"


def test_past_events_are_printed_and_none_is_waited_for(daemon: LiveDaemon) -> None:
    acquired(daemon, "--vram", "1GiB", "--ttl", "10m")
    words = ("--json", "events", "--no-follow", "--type", "lease.granted")
    for more in ((), ("--count", "5"), ("--replay", "5")):
        done = ctl(daemon, *words, *more)
        assert done.returncode == 0
        (event,) = done.stdout.splitlines()
        assert json.loads(event)["event"]["type"] == "lease.granted"
    assert ctl(daemon, *words[:-1], "lease.lost").stdout == ""
