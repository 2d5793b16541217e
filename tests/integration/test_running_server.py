"""A server that already runs is leased where it is, and outlives a kill -9 of the daemon so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import Json, call_once

GIB = 1 << 30
LARGE = 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


@pytest.fixture
def server(daemon: LiveDaemon) -> Iterator[int]:
    """A real process whose child uses 8 GiB of the large GPU, with no lease."""
    standin = (
        f"[sys.executable, '-m', 'supereziod.gpu.standin', '--gpu', '{LARGE}', '--vram', '8GiB']"
    )
    code = f"import subprocess, sys\nworker = subprocess.Popen({standin}, stdout=subprocess.PIPE)"
    code += "\nprint(worker.stdout.readline(), flush=True)\nsys.stdin.read()\nworker.kill()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=daemon.standin_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.communicate()


def gpu(daemon: LiveDaemon) -> Json:
    gpus: list[Json] = call_once(daemon.socket_path, "gpu.list")["gpus"]
    return gpus[LARGE]


def test_a_server_is_leased_with_what_it_uses_already(daemon: LiveDaemon, server: int) -> None:
    # A decision may go by a reading of the last second, from before the server started.
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        told = call_once(daemon.socket_path, "placement.explain", vram_bytes=10 * GIB)
        if told["decision"] == "wait":
            break
    assert told["decision"] == "wait", "for anybody else there are less than 4 GiB"
    assert gpu(daemon)["vram_foreign_bytes"] >= 8 * GIB
    lease = call_once(daemon.socket_path, "lease.acquire", vram_bytes=10 * GIB, holder_pid=server)
    (placed,) = lease["gpus"]
    assert (placed["index"], placed["actual_bytes"]) == (LARGE, 8 * GIB)
    before = gpu(daemon)
    assert before["vram_foreign_bytes"] < GIB
    daemon.kill()
    daemon.start()
    call_once(daemon.socket_path, "placement.explain", vram_bytes=GIB)  # has the GPUs read
    assert gpu(daemon)["vram_foreign_bytes"] < GIB
    (again,) = call_once(daemon.socket_path, "lease.list")["leases"]
    assert (again["id"], again["gpus"][0]["actual_bytes"]) == (lease["id"], 8 * GIB)
