"""200 concurrent clients, 10,000 acquires: never over-committed, judged from the clients' logs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import RefusedError, call_once, plain_client

GIB = 1 << 30
CLIENTS = 200
PROCESSES = 8
ACQUIRES = 10_000

#: What a client knows: from when to when it surely held how much on which GPU.
Held = tuple[float, float, str, int]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


def most_held(log: list[Held]) -> dict[str, int]:
    """The most that was held at one moment on each GPU, by the clients' own clocks."""
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for since, until, gpu, size in log:
        changes[gpu] += [(since, size), (until, -size)]
    peaks = {}
    for gpu, steps in changes.items():
        held = peak = 0
        for _, step in sorted(steps):
            held += step
            peak = max(peak, held)
        peaks[gpu] = peak
    return peaks


@pytest.mark.slow
def test_10000_acquires_of_200_clients_never_overcommit(daemon: LiveDaemon) -> None:
    """The clients' logs are one judge; the other is the simulation, where each grant is used."""
    gpus = {gpu["uuid"]: gpu for gpu in call_once(daemon.socket_path, "gpu.list")["gpus"]}
    simulation = daemon.runtime_dir / "simulated"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(contending_process(daemon.socket_path, simulation, seed))
            for seed in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = []
        for process in processes:
            out, errors = process.communicate(timeout=110)
            assert process.returncode == 0, errors[-2000:]
            answers.append(json.loads(out))
    log: list[Held] = [tuple(held) for answer in answers for held in answer["held"]]
    refused = sum(answer["refused"] for answer in answers)
    peaks = most_held(log)
    print(f"\ngranted {len(log)}, refused {refused}, peaks {peaks}")
    assert len(log) + refused == ACQUIRES
    assert len(log) > 20, "nothing was contended for"
    assert refused > 100, "nothing was refused: the pairs did not collide"
    for uuid, peak in peaks.items():
        assert peak <= gpus[uuid]["vram_total_bytes"] - gpus[uuid]["vram_driver_reserved_bytes"]


def contending_process(socket: Path, simulation: Path, seed: int) -> subprocess.Popen[str]:
    script = Path(__file__).parents[1] / "contending_clients.py"
    numbers = (CLIENTS // PROCESSES, ACQUIRES // PROCESSES, seed)
    return subprocess.Popen(
        [sys.executable, script, socket, simulation, *(str(number) for number in numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_a_pair_that_fits_alone_and_not_together_gets_one_grant(daemon: LiveDaemon) -> None:
    async with plain_client(daemon.socket_path) as client:
        pair = [
            client.send("lease.acquire", vram_bytes=7 * GIB, mode="connection") for _ in range(2)
        ]
        answers = await asyncio.gather(*pair, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert [a.kind for a in answers if isinstance(a, RefusedError)] == ["no_capacity"]


def test_real_processes_on_leased_gpus_never_run_out_of_simulated_vram(daemon: LiveDaemon) -> None:
    """The simulator is the judge: a stand-in that finds no VRAM where its lease said fails."""
    command = [
        *(sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path)),
        *("run", "--vram", "5GiB", "--wait", "60s", "--"),
        *(sys.executable, "-m", "supereziod.gpu.standin", "--vram", "5GiB", "--seconds", "0.5"),
    ]
    environment = daemon.standin_environment()
    runs = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=90)
        assert run.returncode == 0, errors
