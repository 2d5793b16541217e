"""kill -9 of the daemon at random points during 500 acquire / release cycles.

No granted lease is lost, none is resurrected, none is granted twice: judged by what the clients
were told, never by the daemon's database.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from plain_client import PlainClient, RefusedError, call_once, plain_client

GIB = 1 << 30
CYCLES = 500
WORKERS = 5
KILLS = 15


class Chaos:
    """Kills the daemon after a random number of further requests, and starts it again."""

    def __init__(self, daemon: LiveDaemon, *, seed: int) -> None:
        self._daemon = daemon
        self._random = random.Random(seed)
        self._until_kill = self._next()
        self.kills = 0
        self.up = asyncio.Event()
        self.up.set()
        self._restarting: asyncio.Task[None] | None = None

    def request_was_sent(self) -> None:
        """Count a request; when it is time, kill within the milliseconds that it takes."""
        self._until_kill -= 1
        if self._until_kill == 0 and self.kills < KILLS:
            self.kills += 1
            delay = self._random.choice((0.0, self._random.uniform(0.0, 0.004)))
            asyncio.get_running_loop().call_later(delay, self._kill)

    def _kill(self) -> None:
        self.up.clear()
        self._daemon.kill()
        self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        await asyncio.to_thread(self._daemon.start)
        self._until_kill = self._next()
        self.up.set()

    def _next(self) -> int:
        return self._random.randint(20, 80)


class Worker:
    """Acquires and releases, remembers what it was told, and checks it after every restart."""

    def __init__(self, daemon: LiveDaemon, chaos: Chaos, *, seed: int) -> None:
        self._daemon = daemon
        self._chaos = chaos
        self._random = random.Random(seed)
        self.held: dict[str, dict[str, Any]] = {}
        self.released: list[str] = []
        self.checks = 0

    async def run(self, cycles: int) -> None:
        for _ in range(cycles):
            if len(self.held) < 2 and (lease := await self._acquire()) is not None:
                assert lease["id"] not in self.held, "the same lease was granted twice"
                assert lease["id"] not in self.released, "a released lease was granted again"
                self.held[lease["id"]] = lease
            if self.held and self._random.random() < 0.8:
                lease_id = self._random.choice(sorted(self.held))
                # From the moment that it is asked for, a release may or may not have happened.
                del self.held[lease_id]
                await self._ask("lease.release", lease=lease_id)
                self.released.append(lease_id)

    async def _acquire(self) -> dict[str, Any] | None:
        key = uuid.UUID(int=self._random.getrandbits(128)).hex
        size = self._random.choice((1, 2, 3)) * GIB
        try:
            return await self._ask(
                "lease.acquire", {"idempotency_key": key}, vram_bytes=size, wait_ms=2000
            )
        except RefusedError as error:
            if error.kind not in {"wait_timeout", "no_capacity"}:
                raise
            return None

    async def _ask(
        self, method: str, meta: dict[str, Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        """Ask until there is an answer; a request that a kill cut off is asked again."""
        while True:
            await self._chaos.up.wait()
            try:
                async with plain_client(self._daemon.socket_path) as client:
                    reply = client.send(method, meta, **params)
                    self._chaos.request_was_sent()
                    return await reply
            except (ConnectionError, FileNotFoundError):
                await self._chaos.up.wait()
                await self._check()

    async def _check(self) -> None:
        """All that this client was told still holds in the daemon that runs now."""
        try:
            async with plain_client(self._daemon.socket_path) as client:
                for lease_id, lease in self.held.items():
                    now = await client.call("lease.get", lease=lease_id)
                    assert placed(now) == placed(lease)
                for lease_id in self.released[-20:]:
                    with pytest.raises(RefusedError) as refusal:
                        await client.call("lease.get", lease=lease_id)
                    assert refusal.value.kind == "stale_lease"
                self.checks += 1
        except (ConnectionError, FileNotFoundError):
            return  # killed again meanwhile: the next check sees it


def placed(lease: dict[str, Any]) -> list[tuple[str, int]]:
    return [(gpu["uuid"], gpu["reserved_bytes"]) for gpu in lease["gpus"]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_kill_nine_loses_resurrects_and_doubles_no_lease(daemon: LiveDaemon) -> None:
    seed = int(os.environ.get("SUPEREZIO_TEST_SEED", "1"))
    chaos = Chaos(daemon, seed=seed)
    workers = [Worker(daemon, chaos, seed=seed * 100 + number) for number in range(WORKERS)]
    await asyncio.gather(*(worker.run(CYCLES // WORKERS) for worker in workers))
    await chaos.up.wait()
    told = {lease_id: lease for worker in workers for lease_id, lease in worker.held.items()}
    listed = call_once(daemon.socket_path, "lease.list")["leases"]
    reserved: Counter[str] = Counter()
    for lease in told.values():
        reserved.update(dict(placed(lease)))
    room = {
        gpu["uuid"]: gpu["vram_total_bytes"]
        for gpu in call_once(daemon.socket_path, "gpu.list")["gpus"]
    }
    assert all(reserved[gpu] <= room[gpu] for gpu in reserved), "the told leases do not fit"
    print(f"kills {chaos.kills}, checks {sum(w.checks for w in workers)}, held {len(told)}")
    assert chaos.kills >= 5, "the fault was not seen to happen"
    assert {lease["id"]: placed(lease) for lease in listed} == {
        lease_id: placed(lease) for lease_id, lease in told.items()
    }


async def test_a_retried_acquire_after_kill_nine_returns_the_same_lease(
    daemon: LiveDaemon,
) -> None:
    async with AsyncExitStack() as stack:
        client: PlainClient = await stack.enter_async_context(plain_client(daemon.socket_path))
        first = await client.call(
            "lease.acquire", {"idempotency_key": "once"}, vram_bytes=GIB, wait_ms=2000
        )
        daemon.kill()
        await asyncio.to_thread(daemon.start)
    async with plain_client(daemon.socket_path) as client:
        again = await client.call(
            "lease.acquire", {"idempotency_key": "once"}, vram_bytes=GIB, wait_ms=2000
        )
    assert again["id"] == first["id"]
    assert placed(again) == placed(first)
