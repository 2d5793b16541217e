"""Clients that contend for VRAM, in a process of their own; `test_contention.py` starts several.

    python contending_clients.py SOCKET SIMULATED_DIR CLIENTS ACQUIRES SEED

Each client asks for pairs in one write, so that they reach the daemon in the same tick, and uses
what it is granted in the simulation, where an allocation that finds no room fails. Prints one JSON
object: what was held from when to when by this process's clock, which is the host's.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from plain_client import Json, PlainClient, RefusedError, plain_client
from supereziod.gpu.claims import Claim, ClaimsDirectory, read_stat

GIB = 1 << 30


class Contender:
    """The clients of one process: one holder, for the daemon and for the simulation."""

    def __init__(self, simulation: Path) -> None:
        self._directory = ClaimsDirectory(simulation)
        self._pid = os.getpid()
        self._start_time = read_stat(self._pid) or 0
        self._used: Counter[str] = Counter()
        self.log: list[tuple[float, float, str, int]] = []
        self.refused = 0

    async def run(self, client: PlainClient, acquires: int, seed: int) -> None:
        """Acquire in pairs, use what is granted, and give it back."""
        chance = random.Random(seed)
        for _ in range(acquires // 2):
            size = chance.choice((7, 4, 3)) * GIB
            wait_ms = chance.choice((0, 0, 0, 300))
            pair = [
                client.send("lease.acquire", vram_bytes=size, mode="connection", wait_ms=wait_ms)
                for _ in range(2)
            ]
            for reply in pair:
                try:
                    await self._use(client, await reply)
                except RefusedError as error:
                    if error.kind not in {"no_capacity", "wait_timeout", "queue_full"}:
                        raise
                    self.refused += 1

    async def _use(self, client: PlainClient, lease: Json) -> None:
        since = time.monotonic()
        gpu, size = lease["gpus"][0]["uuid"], lease["gpus"][0]["reserved_bytes"]
        self._claim(gpu, size)
        await client.call("system.ping")
        self._claim(gpu, -size)
        self.log.append((since, time.monotonic(), gpu, size))
        await client.call("lease.release", lease=lease["id"])

    def _claim(self, gpu: str, more_bytes: int) -> None:
        self._used[gpu] += more_bytes
        self._directory.add(Claim(self._pid, self._start_time, gpu, self._used[gpu], 0))


async def main() -> None:
    socket, simulation, clients, acquires, seed = sys.argv[1:]
    contender = Contender(Path(simulation))
    async with AsyncExitStack() as stack:
        connected = [
            await stack.enter_async_context(plain_client(Path(socket))) for _ in range(int(clients))
        ]
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        each = int(acquires) // len(connected)
        await asyncio.gather(
            *(
                contender.run(client, each, int(seed) * 1000 + number)
                for number, client in enumerate(connected)
            )
        )
    json.dump({"held": contender.log, "refused": contender.refused}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
