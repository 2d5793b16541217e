"""No library, no driver, driver gone and back or upgraded, a GPU off the bus.

The daemon goes on serving, says what is wrong in health and log, and recovers by itself. The real
pynvml talks to the simulated library.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from nvml_sim.simulator import NvmlSimulator
from plain_client import Json, PlainClient, RefusedError, call_once, plain_client

GIB = 1 << 30
NO_DRIVER = 9
#: Retries of a driver or a GPU that is gone, faster than on a host, where nobody waits for them.
HASTE = """
[gpu.probe]
driver_retry = "0.2s"
driver_retry_limit = "0.5s"
lost_interval = "0.5s"
"""

Start = Callable[..., LiveDaemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_daemon(environment: dict[str, str] | None = None) -> LiveDaemon:
            daemon = LiveDaemon(
                tmp_path / "daemon", gpu_driver="nvml", config=HASTE, environment=environment
            )
            stack.callback(daemon.close)
            return daemon.start()

        yield start_daemon


async def until(client: PlainClient, method: str, holds: Callable[[Json], bool]) -> Json:
    """Ask after each event, and each second at least, until the answer is as expected."""
    deadline = time.monotonic() + 30
    while not holds(answer := await client.call(method)):
        assert time.monotonic() < deadline, f"{method} still says {json.dumps(answer)[:2000]}"
        try:
            await asyncio.wait_for(client.notifications.get(), 0.5)
        except TimeoutError:
            continue
    return answer


def has_check(name: str) -> Callable[[Json], bool]:
    return lambda health: any(reason["check"] == name for reason in health["reasons"])


def is_healthy(health: Json) -> bool:
    return bool(health["verdict"] == "healthy")


def test_without_a_library_the_daemon_serves_and_says_what_to_install(start: Start) -> None:
    daemon = start()
    health = call_once(daemon.socket_path, "health.get")
    assert health["verdict"] == "degraded"
    (reason,) = (each for each in health["reasons"] if each["check"] == "driver")
    assert "Install the NVIDIA driver" in reason["action"]
    assert call_once(daemon.socket_path, "gpu.list")["gpus"] == []
    with pytest.raises(RefusedError) as refusal:
        call_once(daemon.socket_path, "lease.acquire", vram_bytes=GIB)
    assert refusal.value.kind == "gpus_unavailable"
    assert "Install the NVIDIA driver" in str(refusal.value)
    assert "retry_after_ms" not in refusal.value.error["data"]
    daemon.await_log("driver.lost")
    assert daemon.stop() == 0


async def test_a_driver_that_is_loaded_later_is_found(
    start: Start, nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    nvml_sim.refuse_init(NO_DRIVER)
    daemon = start(nvml_env)
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe")
        await until(client, "health.get", has_check("driver"))
        nvml_sim.refuse_init(0)
        found = await until(client, "gpu.list", lambda answer: len(answer["gpus"]) == 2)
        await until(client, "health.get", is_healthy)
        assert [gpu["index"] for gpu in found["gpus"]] == [0, 1]
        assert (await client.call("lease.acquire", vram_bytes=GIB, wait_ms=5000))["gpus"]


async def test_a_driver_upgraded_under_the_daemon_is_told_and_its_leases_stand(
    start: Start, nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    daemon = start(nvml_env)
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe")
        lease = await client.call("lease.acquire", vram_bytes=GIB, wait_ms=5000)
        nvml_sim.upgrade_driver()
        health = await until(client, "health.get", has_check("driver"))
        (reason,) = (each for each in health["reasons"] if each["check"] == "driver")
        assert "upgraded" in reason["action"]
        with pytest.raises(RefusedError):
            await client.call("lease.acquire", vram_bytes=GIB)
        assert (await client.call("lease.get", lease=lease["id"]))["id"] == lease["id"]
        nvml_sim.mend()
        nvml_sim.refuse_init(0)
        await until(client, "health.get", is_healthy)
        assert (await client.call("lease.acquire", vram_bytes=GIB, wait_ms=5000))["gpus"]


async def test_a_gpu_off_the_bus_is_lost_and_comes_back_by_itself(
    start: Start, nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    daemon = start(nvml_env)
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe")
        gone, other = nvml_sim.gpu(0), nvml_sim.gpu(1)
        gone.lose()
        listed = await until(
            client, "gpu.list", lambda answer: bool(answer["gpus"][0]["status"] == "lost")
        )
        assert not listed["gpus"][0]["admissible"]
        assert listed["gpus"][1]["admissible"]
        await until(client, "health.get", has_check("gpu_lost"))
        lease = await client.call("lease.acquire", vram_bytes=GIB, wait_ms=5000)
        assert lease["gpus"][0]["uuid"] == other.uuid
        gone.find_again()
        back = await until(
            client, "gpu.list", lambda answer: bool(answer["gpus"][0]["status"] == "ok")
        )
        assert back["gpus"][0]["fitness"] == "quarantined", "a GPU that was lost is not trusted yet"
        assert back["gpus"][0]["uuid"] == gone.uuid


async def test_detach_lets_go_of_the_driver_and_attach_takes_it_up_again(
    start: Start, nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    daemon = start(nvml_env)
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe")
        assert await client.call("gpu.detach") == {"attached": False}
        calls = nvml_sim.all_calls()
        await until(client, "health.get", has_check("probe_detached"))
        gpus = (await client.call("gpu.list"))["gpus"]
        assert [gpu["status"] for gpu in gpus] == ["detached", "detached"]
        assert nvml_sim.all_calls() == calls, "the driver was called while detached"
        assert await client.call("gpu.attach") == {"attached": True}
        await until(client, "health.get", is_healthy)
        assert nvml_sim.all_calls() != calls
