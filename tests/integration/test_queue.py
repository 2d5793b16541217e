"""The queue over the real socket: places that are told, waits that are taken out, backfill."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon

HOLD = ("sh", "-c", "echo ready; read line")


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory() as directory:
        live = LiveDaemon(Path(directory))
        try:
            yield live.start()
        finally:
            live.close()


def command(daemon: LiveDaemon, *words: str) -> list[str]:
    return [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words]


def ctl(daemon: LiveDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(daemon, *words), capture_output=True, text=True, timeout=60, check=False
    )


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(daemon: LiveDaemon) -> Iterator[Start]:
    """Starts commands on the first GPU; what a test that fails leaves running ends with it."""
    with ExitStack() as started:

        def run(vram: str, *words: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                command(daemon, "run", "--avoid", "1", "--vram", vram, *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield run


def said(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()
    assert words in line


def is_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_a_place_is_told_and_one_that_waits_is_taken_out(daemon: LiveDaemon, run: Start) -> None:
    holder = run("8GiB", *HOLD)
    is_ready(holder)
    first = run("9GiB", "--wait", "60s", "--name", "first", "echo", "never")
    said(first, "place 1 of 1 in the queue: 9.0 GiB: GPU 0: ")
    second = run("9GiB", "--wait", "60s", "--name", "second", *HOLD)
    said(second, "place 2 of 2 in the queue: 9.0 GiB: GPU 0: kept for an acquire ahead")

    queue = json.loads(ctl(daemon, "--json", "queue").stdout)["queue"]
    assert [(each["name"], each["ahead"]) for each in queue] == [("first", 0), ("second", 1)]
    assert [each["code"] for each in queue] == ["insufficient_vram", "queued"]
    cancelled = ctl(daemon, "queue", "cancel", queue[0]["id"][:8])
    assert cancelled.stdout == f"{queue[0]['id']} taken out of the queue\n"

    _, error = first.communicate(timeout=20)
    assert first.returncode == 125
    assert "taken out of the queue by user " in error
    said(second, "place 1 of 1 in the queue: 9.0 GiB: GPU 0: ")
    holder.communicate("\n", timeout=20)
    is_ready(second)
    assert ctl(daemon, "queue").stdout == "nobody waits\n"


def test_a_small_one_goes_past_a_large_one_that_it_does_not_delay(
    daemon: LiveDaemon, run: Start
) -> None:
    holder = run("8GiB", *HOLD)
    is_ready(holder)
    large = run("9GiB", "--wait", "60s", *HOLD)
    said(large, "place 1 of 1")
    refused = ctl(daemon, "run", "--avoid", "1", "--vram", "3GiB", "true")
    assert refused.returncode == 125
    assert "kept for an acquire ahead that needs 9.0 GiB" in refused.stderr
    small = run("2GiB", *HOLD)
    is_ready(small)
    holder.communicate("\n", timeout=20)
    is_ready(large)
    assert small.poll() is None, "the large one did not wait for it"
