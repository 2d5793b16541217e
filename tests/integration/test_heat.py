"""95 C on one GPU: every change of level is an event with the leases on it; they drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import Json, RefusedError, plain_client
from supereziod.gpu.control import SimulatedControl

GIB = 1 << 30


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon", config="[watchdog]\ngrace = '1s'\n").start()
    yield live
    live.close()


async def test_a_hot_gpu_admits_nothing_and_its_leases_are_told(daemon: LiveDaemon) -> None:
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe", types=["gpu.level", "lease.", "health."])

        async def next_event(type_: str) -> Json:
            while True:
                event: Json = (await client.notifications.get())["params"]["event"]
                if event["type"] == type_:
                    return event

        lease = await client.call("lease.acquire", vram_bytes=GIB, mode="connection")
        hot = lease["gpus"][0]["uuid"]
        index = lease["gpus"][0]["index"]
        SimulatedControl(daemon.runtime_dir / "simulated").temperature(index, 95)
        async with asyncio.timeout(30):
            change = await next_event("gpu.level")
            while change["data"]["level"] != "critical":
                change = await next_event("gpu.level")
        assert change["gpu"] == hot
        assert change["severity"] == "critical"
        assert change["data"]["leases"] == [lease["id"]]
        assert change["data"]["temperature_c"] == 95
        assert change["data"]["margin_c"] is not None
        assert change["data"]["throttle_mask"] is not None

        assert (await client.call("lease.get", lease=lease["id"]))["state"] == "draining"
        with pytest.raises(RefusedError) as refusal:
            await client.call("lease.acquire", vram_bytes=GIB, prefer=[hot], count=2)
        reasons = refusal.value.error["data"]["placement"]["gpus"]
        assert next(r["code"] for r in reasons if r["uuid"] == hot) == "critical"
        async with asyncio.timeout(10):
            while (await next_event("health.changed"))["data"]["verdict"] != "unhealthy":
                continue
        health = await client.call("health.get")
        (reason,) = (each for each in health["reasons"] if each["check"] == "gpu_critical")
        assert reason["gpu"] == hot
        assert reason["action"]
