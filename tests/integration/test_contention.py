"""200 concurrent clients, 10,000 acquires: never over-committed, judged from the clients' logs."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import PlainClient, RefusedError, call_once, plain_client

GIB = 1 << 30
CLIENTS = 200
ACQUIRES = 10_000

#: What a client knows: from when to when it surely held how much on which GPU.
Held = tuple[float, float, str, int]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


async def acquire_pairs(client: PlainClient, count: int, seed: int, log: list[Held]) -> int:
    """Ask for pairs in one write, so that they reach the daemon in the same tick."""
    chance = random.Random(seed)
    refused = 0
    for _ in range(count // 2):
        size = chance.choice((7, 4, 3)) * GIB
        pair = [client.send("lease.acquire", vram_bytes=size, mode="connection") for _ in range(2)]
        granted = []
        for reply in pair:
            try:
                granted.append((await reply, time.monotonic()))
            except RefusedError as error:
                if error.kind != "no_capacity":
                    raise
                refused += 1
        for lease, since in granted:
            gpu = lease["gpus"][0]
            log.append((since, time.monotonic(), gpu["uuid"], gpu["reserved_bytes"]))
            await client.call("lease.release", lease=lease["id"])
    return refused


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
async def test_10000_acquires_of_200_clients_never_overcommit(daemon: LiveDaemon) -> None:
    gpus = {gpu["uuid"]: gpu for gpu in call_once(daemon.socket_path, "gpu.list")["gpus"]}
    log: list[Held] = []
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(plain_client(daemon.socket_path))
            for _ in range(CLIENTS)
        ]
        refused = await asyncio.gather(
            *(
                acquire_pairs(client, ACQUIRES // CLIENTS, seed, log)
                for seed, client in enumerate(clients)
            )
        )
    peaks = most_held(log)
    print(f"granted {len(log)}, refused {sum(refused)}, peaks {peaks}")
    assert len(log) + sum(refused) == ACQUIRES
    assert len(log) > 100, "nothing was contended for"
    assert sum(refused) > 100, "nothing was refused: the pairs did not collide"
    for uuid, peak in peaks.items():
        assert peak <= gpus[uuid]["vram_total_bytes"] - gpus[uuid]["vram_driver_reserved_bytes"]


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
