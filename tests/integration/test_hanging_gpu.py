"""An NVML call that hangs on one GPU of two: the other goes on as if nothing happened.

The real pynvml talks to the simulated library; the hang is in its C code. As if nothing happened
is what a twin does at the same time: a daemon on the same machine, none of whose GPUs hangs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from nvml_sim.plugin import MakeSimulator
from nvml_sim.simulator import NvmlSimulator
from plain_client import Json, PlainClient, RefusedError, plain_client

GIB = 1 << 30
#: Less has what the probe does in a minute's hang each at as much less of its time: the GPU is
#: given a probe of its own, and is tried again in vain.
HANG_S = float(os.environ.get("SUPEREZIO_TEST_HANG_S", "60"))
CONFIG = f"""
[gpu.probe]
replace_after = {5 * HANG_S / 60}
trial_interval = {30 * HANG_S / 60}
"""
#: In all: a calm machine takes a few milliseconds, as the twin does.
P99_BOUND_S = 0.050


@pytest.fixture
def daemon(tmp_path: Path, nvml_env: dict[str, str]) -> Iterator[LiveDaemon]:
    directory = tmp_path / "daemon"
    live = LiveDaemon(directory, gpu_driver="nvml", environment=nvml_env, config=CONFIG).start()
    yield live
    live.close()


@pytest.fixture
def twin(tmp_path: Path, make_nvml_sim: MakeSimulator, nvml_library: Path) -> Iterator[LiveDaemon]:
    """A daemon on two GPUs of its own, which are as those of the other."""
    environment = make_nvml_sim(name="twin.state").env(nvml_library)
    live = LiveDaemon(tmp_path / "twin", gpu_driver="nvml", environment=environment).start()
    yield live
    live.close()


async def timed(client: PlainClient, latencies: list[float], method: str, **params: Any) -> Json:
    begun = time.monotonic()
    answer = await client.call(method, **params)
    latencies.append(time.monotonic() - begun)
    return answer


@dataclass
class Mix:
    """The mix that matters: acquires and releases on the healthy GPU, and looking around."""

    client: PlainClient
    avoid: str
    acquires: list[float] = field(default_factory=list)
    releases: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    async def go_round(self, look: str) -> None:
        lease = await timed(
            self.client,
            self.acquires,
            "lease.acquire",
            vram_bytes=GIB,
            mode="connection",
            avoid=[self.avoid],
        )
        await timed(self.client, self.releases, "lease.release", lease=lease["id"])
        await timed(self.client, self.looks, look)

    def p99_ms(self) -> dict[str, float]:
        everything = self.acquires + self.releases + self.looks
        of = {"acquire": self.acquires, "release": self.releases, "look": self.looks}
        return {
            name: round(percentile(values, 0.99) * 1000, 1)
            for name, values in (of | {"all": everything}).items()
        }


async def work_on(mixes: list[Mix], until: float) -> None:
    """Go round with each in turn, so that what else the machine does meets all alike."""
    looks = itertools.cycle(("gpu.list", "health.get", "lease.list", "system.ping"))
    while time.monotonic() < until:
        look = next(looks)
        for mix in mixes:
            await mix.go_round(look)


async def await_condition(client: PlainClient, what: str, holds: Any, within_s: float) -> float:
    """Ask after each event, and each second at least, until `holds` of the GPUs' list."""
    begun = time.monotonic()
    while not holds((await client.call("gpu.list"))["gpus"]):
        assert time.monotonic() - begun < within_s, f"{what} did not come within {within_s} s"
        try:
            await asyncio.wait_for(client.notifications.get(), 1.0)
        except TimeoutError:
            continue
    return time.monotonic() - begun


def all_are_admissible(gpus: list[Json]) -> bool:
    return bool(gpus) and all(gpu["admissible"] for gpu in gpus)


def percentile(values: list[float], fraction: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * fraction))]


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_minutes_hang_of_one_gpu_costs_the_other_at_most_50_ms(
    daemon: LiveDaemon, twin: LiveDaemon, nvml_sim: NvmlSimulator
) -> None:
    hanging = nvml_sim.gpu(0)
    async with (
        plain_client(daemon.socket_path) as worker,
        plain_client(twin.socket_path) as twins_worker,
        plain_client(daemon.socket_path) as observer,
    ):
        await observer.call("events.subscribe", types=["gpu.", "probe.", "health."])
        mix, twins = Mix(worker, hanging.uuid), Mix(twins_worker, hanging.uuid)
        # A daemon is ready before it has read its GPUs, and cannot find one by its UUID until then.
        for each in (observer, twins_worker):
            await await_condition(each, "the first reading", all_are_admissible, 20)
        hanging.hang()
        # From the first instant on, when nobody knows of the hang yet.
        work = asyncio.create_task(work_on([mix, twins], time.monotonic() + HANG_S))
        noticed_s = await await_condition(
            observer, "the hang", lambda gpus: gpus[0]["status"] == "unknown", 10
        )
        await work
        health = await observer.call("health.get")
        hanging.unhang()
        recovered_s = await await_condition(
            observer, "the recovery", lambda gpus: gpus[0]["admissible"], 60
        )
    figures, usual = mix.p99_ms(), twins.p99_ms()
    print(
        f"\nhang of {HANG_S:.0f} s noticed after {noticed_s:.1f} s, over {recovered_s:.1f} s after"
        f" its end; {len(mix.acquires)} rounds, p99 in ms: {figures}; of the twin: {usual}"
    )
    # Where the machine is so busy that the twin takes half of the bound: p99 is of few rounds then,
    # the second or third worst, by which two that are alike differ by as much again.
    for name in ("acquire", "all"):
        assert figures[name] < max(P99_BOUND_S * 1000, 2 * usual[name])
    assert [reason["gpu"] for reason in health["reasons"] if reason["check"] == "gpu_unknown"] == [
        hanging.uuid
    ]
    assert "GPU 0" in next(r["message"] for r in health["reasons"] if r["check"] == "gpu_unknown")


# The times that the daemon has by itself leave 0.3 s for all but the slow call, which a busy
# machine takes. How long each is is not asked here: that all come to their end, in their order, is.
PATIENT = """
[gpu.probe]
deadline = "5s"

[leases]
reading_age = "1.2s"
reading_deadline = "10s"
"""


@pytest.fixture
def patient_daemon(tmp_path: Path, nvml_env: dict[str, str]) -> Iterator[LiveDaemon]:
    directory = tmp_path / "daemon"
    live = LiveDaemon(directory, gpu_driver="nvml", environment=nvml_env, config=PATIENT).start()
    yield live
    live.close()


def await_calls(simulator: NvmlSimulator, call: str, more: int) -> None:
    """Return when the probe has begun `more` of these calls, of all GPUs together.

    Their counter is all that tells.
    """
    wanted, deadline = simulator.calls(call) + more, time.monotonic() + 20
    while simulator.calls(call) < wanted:
        assert time.monotonic() < deadline, f"nobody calls {call}"
        time.sleep(0.01)


@pytest.mark.timeout(60)
async def test_a_gpu_whose_readings_take_long_is_leased_together_with_another(
    patient_daemon: LiveDaemon, nvml_sim: NvmlSimulator
) -> None:
    """Each is decided on by a recent pass: the fast one is read again once the slow one is."""
    slow, slow_call = nvml_sim.gpu(0).uuid, "nvmlDeviceGetUtilizationRates"
    nvml_sim.hang(slow_call, ms=700, gpu=0)
    async with plain_client(patient_daemon.socket_path) as client:
        for _ in range(2):
            # Two more readings of each GPU: what was known is too old then, and the slow one is
            # just being read, so that two of its readings, 1.4 s, are over when its pass is there.
            await_calls(nvml_sim, slow_call, 4)
            lease = await client.call("lease.acquire", vram_bytes=GIB, count=2, mode="connection")
            await client.call("lease.release", lease=lease["id"])
        await client.call("lease.acquire", vram_bytes=3 * GIB, mode="connection", avoid=[slow])
        with pytest.raises(RefusedError, match=r"GPU 1: 2\.\d GiB free, needs 4"):
            await client.call("lease.acquire", vram_bytes=4 * GIB, count=2, mode="connection")


@pytest.mark.timeout(60)
async def test_an_acquire_at_the_moment_of_a_hang_is_answered_from_the_healthy_gpu(
    daemon: LiveDaemon, nvml_sim: NvmlSimulator
) -> None:
    """The hang is not known yet: the acquire finds out, and does not wait for its end."""
    async with plain_client(daemon.socket_path) as client:
        nvml_sim.gpu(0).hang()
        latencies: list[float] = []
        for _ in range(20):
            lease = await timed(
                client, latencies, "lease.acquire", vram_bytes=GIB, mode="connection", wait_ms=5000
            )
            await client.call("lease.release", lease=lease["id"])
        nvml_sim.gpu(0).unhang()
    print(f"\nworst of 20 acquires from the moment of a hang: {max(latencies) * 1000:.0f} ms")
    assert max(latencies) < 2.0
