"""MIG, a real daemon and real processes: instances are leased, the whole GPU never."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from nvml_sim.plugin import MakeSimulator, built
from nvml_sim.profiles import GIB, H100, RTX_3060
from nvml_sim.simulator import NvmlSimulator
from plain_client import Json, PlainClient, RefusedError, plain_client
from supereziod.gpu.control import SimulatedControl

WITHIN_S = 30.0
NVITOP = """
import json
from nvitop import Device
print(json.dumps([
    {
        "uuid": device.uuid(),
        "parent": physical.uuid(),
        "name": device.name(),
        "vram_total_bytes": device.memory_total(),
        "vram_used_bytes": device.memory_used(),
        "processes": {pid: process.gpu_memory() for pid, process in device.processes().items()},
    }
    for physical in Device.all()
    for device in physical.mig_devices()
]))
"""


class Host:
    """An H100 that MIG has cut into two instances of 10 GiB, and a daemon that reads it by NVML."""

    def __init__(self, simulator: NvmlSimulator, directory: Path) -> None:
        self.simulator = simulator
        self.gpu = simulator.gpu(0)
        self.first, self.second = (self.gpu.mig.add(memory_bytes=10 * GIB) for _ in range(2))
        self.environment = simulator.env(built())
        self.daemon = LiveDaemon(directory, gpu_driver="nvml", environment=self.environment)
        self.daemon.start()

    @contextlib.contextmanager
    def holding(self, lease: Json, size: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program that holds VRAM where the lease says."""
        command = [sys.executable, "-m", "nvml_sim.alloc", "--size", size, "--stdin"]
        environment = {**self.environment, **lease["environment"]}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"claimed\n"
            yield process
            process.communicate()


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a program with the test, however that ends."""
    try:
        yield
    finally:
        process.terminate()


@pytest.fixture
def host(make_nvml_sim: MakeSimulator, tmp_path: Path) -> Iterator[Host]:
    host = Host(make_nvml_sim(H100), tmp_path / "daemon")
    yield host
    host.daemon.close()


def superezioctl(host: Host, *words: str) -> str:
    command = [sys.executable, "-m", "superezioctl", "--socket", str(host.daemon.socket_path)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    return done.stdout


async def acquire(client: PlainClient, gib: int, **params: Any) -> Json:
    return await client.call("lease.acquire", vram_bytes=gib * GIB, mode="connection", **params)


async def reasons(client: PlainClient, gib: int, **params: Any) -> dict[str, str]:
    """Return why each GPU is chosen or passed over, by a fresh pass."""
    placement = await client.call("placement.explain", vram_bytes=gib * GIB, **params)
    return {gpu["uuid"]: gpu["code"] for gpu in placement["gpus"]}


async def until_reason(client: PlainClient, uuid: str, code: str) -> dict[str, str]:
    """Ask with each event, and now and then, until a GPU is passed over for that reason."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = await reasons(client, 1)
            if found.get(uuid) == code:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.notifications.get(), 0.2)


async def until_listed(client: PlainClient, pid: int | None = None) -> list[Json]:
    """Return the processes once a fresh pass has shown the one, or any."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            await reasons(client, 1)
            listed: list[Json] = (await client.call("gpu.processes"))["processes"]
            if any(pid in {None, each["pid"]} and each["lease"] for each in listed):
                return listed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.notifications.get(), 0.2)


async def test_a_lease_is_on_an_instance_and_its_program_finds_it(host: Host) -> None:
    async with plain_client(host.daemon.socket_path) as client:
        lease = await acquire(client, 8)
        (place,) = lease["gpus"]
        assert place["uuid"] in {host.first, host.second}
        assert (place["index"], place["mig_index"]) == (
            0,
            [host.first, host.second].index(place["uuid"]),
        )
        for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
            assert lease["environment"][name] == place["uuid"]
        assert lease["environment"]["SUPEREZIO_CDI_DEVICES"] == f"nvidia.com/gpu={place['uuid']}"
        with host.holding(lease, "5GiB") as process:
            await client.call("lease.attach", lease=lease["id"], pid=process.pid)
            assert host.gpu.mig.free_bytes(place["uuid"]) == 5 * GIB
            processes = await until_listed(client, process.pid)
            found = await reasons(client, 9)
            assert found[place["uuid"]] == "insufficient_vram"
            assert [(p["gpu"], p["pid"], p["lease"]) for p in processes] == [
                (place["uuid"], process.pid, lease["id"])
            ]
            gpus = (await client.call("gpu.list"))["gpus"]
            assert sum(gpu["vram_reserved_bytes"] for gpu in gpus) == 8 * GIB
            whole = next(gpu for gpu in gpus if gpu["uuid"] == host.gpu.uuid)
            assert (whole["vram_used_bytes"], whole["vram_foreign_bytes"]) == (5 * GIB, None)


async def test_the_whole_gpu_is_refused_with_the_reason(host: Host) -> None:
    """80 GiB are on the card, and no instance holds 20."""
    async with plain_client(host.daemon.socket_path) as client:
        with pytest.raises(RefusedError) as refusal:
            await acquire(client, 20)
        assert refusal.value.kind == "never_fits"
        assert "MIG is on" in refusal.value.error["message"]
        placement = refusal.value.error["data"]["placement"]
        codes = {gpu["uuid"]: gpu["code"] for gpu in placement["gpus"]}
        assert codes == {
            host.gpu.uuid: "mig_enabled",
            host.first: "too_small",
            host.second: "too_small",
        }
        with pytest.raises(RefusedError) as refusal:
            await acquire(client, 8, prefer=[host.gpu.uuid], count=2)
        assert "one MIG instance" in refusal.value.error["message"]


async def test_two_leases_are_on_two_instances_and_a_third_waits(host: Host) -> None:
    async with plain_client(host.daemon.socket_path) as client:
        leases = [await acquire(client, 8) for _ in range(2)]
        assert {lease["gpus"][0]["uuid"] for lease in leases} == {host.first, host.second}
        with pytest.raises(RefusedError) as refusal:
            await acquire(client, 8)
        assert refusal.value.kind == "no_capacity"
        waiting = client.send("lease.acquire", vram_bytes=8 * GIB, mode="connection", wait_ms=20000)
        await client.call("lease.release", lease=leases[0]["id"])
        async with asyncio.timeout(WITHIN_S):
            assert (await waiting)["gpus"] == [{**leases[0]["gpus"][0], "actual_bytes": None}]


async def test_an_instance_that_vanishes_is_lost_and_its_lease_is_shown(host: Host) -> None:
    async with plain_client(host.daemon.socket_path) as client:
        await client.call("events.subscribe", types=["gpu.status"])
        lease = await acquire(client, 8, prefer=[host.first])
        assert lease["gpus"][0]["uuid"] == host.first
        host.gpu.mig.remove(host.first)
        found = await until_reason(client, host.first, "lost")
        assert found[host.second] == "chosen"
        gone = await client.call("gpu.get", gpu=host.first)
        assert (gone["status"], gone["admissible"], gone["vram_used_bytes"]) == (
            "lost", False, None,
        )  # fmt: skip
        assert (await client.call("lease.get", lease=lease["id"]))["state"] == "granted"
        health = await client.call("health.get")
        assert [each["check"] for each in health["reasons"]] == ["mig_lost"]
        await client.call("lease.release", lease=lease["id"])
        new = host.gpu.mig.add(memory_bytes=20 * GIB, profile="2g.20gb", gpu_instance=9)
        found = await until_reason(client, new, "fits")
        assert set(found) == {host.gpu.uuid, host.second, new}
        assert (await acquire(client, 15))["gpus"][0]["uuid"] == new


async def test_an_instance_that_may_not_be_read_is_no_permission_never_empty(host: Host) -> None:
    host.gpu.mig.forbid(host.first)
    async with plain_client(host.daemon.socket_path) as client:
        found = await until_reason(client, host.first, "no_permission")
        assert found[host.second] == "chosen"
        hidden = await client.call("gpu.get", gpu=host.first)
        assert (hidden["mig_mode"], hidden["admissible"]) == ("no_permission", False)
        assert (hidden["vram_used_bytes"], hidden["vram_total_bytes"]) == (None, None)
        assert "/dev/nvidia-caps" in hidden["blocked_reason"]
        with pytest.raises(RefusedError):
            await acquire(client, 8, avoid=[host.second])
        assert "no permission" in superezioctl(host, "gpu", "list")
        host.gpu.mig.forbid(host.first, rc=0)
        await until_reason(client, host.first, "chosen")


async def test_heat_on_the_gpu_blocks_all_its_instances(host: Host) -> None:
    async with plain_client(host.daemon.socket_path) as client:
        await client.call("events.subscribe", types=["gpu.level", "lease."])
        lease = await acquire(client, 8)
        host.gpu.set(temperature_c=88)
        found = await until_reason(client, host.gpu.uuid, "critical")
        assert set(found.values()) == {"critical"}
        assert (await client.call("lease.get", lease=lease["id"]))["state"] == "draining"
        health = await client.call("health.get")
        assert [(each["check"], each["gpu"]) for each in health["reasons"]] == [
            ("gpu_critical", host.gpu.uuid)
        ]


async def test_an_instance_that_hangs_takes_its_gpu_along_and_no_other(
    make_nvml_sim: MakeSimulator, tmp_path: Path
) -> None:
    """They are read by the thread of their GPU, within its deadline."""
    host = Host(make_nvml_sim(H100, RTX_3060, name="two.state"), tmp_path / "two")
    try:
        async with plain_client(host.daemon.socket_path) as client:
            host.simulator.hang("nvmlDeviceGetMigDeviceHandleByIndex", gpu=0)
            found = await until_reason(client, host.first, "unknown")
            assert {found[host.gpu.uuid], found[host.second]} == {"unknown"}
            assert found[host.simulator.gpu(1).uuid] == "chosen"
            assert (await acquire(client, 8))["gpus"][0]["mig_index"] is None
            host.simulator.mend()
            await until_reason(client, host.first, "fits")
    finally:
        host.daemon.close()


async def test_people_find_and_cordon_an_instance_by_its_names(host: Host) -> None:
    number = [host.first, host.second].index(host.second)
    text = superezioctl(host, "gpu", "list")
    assert f"0:{number}" in text
    assert "MIG 1g.10gb" in text
    superezioctl(host, "gpu", "cordon", host.second.removeprefix("MIG-"), "--reason", "class")
    shown = json.loads(superezioctl(host, "--json", "gpu", "show", f"0:{number}"))
    assert (shown["uuid"], shown["cordon_reason"]) == (host.second, "class")
    assert (shown["parent"], shown["mig_profile"]) == (host.gpu.uuid, "1g.10gb")
    assert host.first in superezioctl(host, "gpu", "show", "0")
    async with plain_client(host.daemon.socket_path) as client:
        assert (await reasons(client, 1))[host.second] == "cordoned"


async def test_leases_on_instances_survive_kill_nine(host: Host) -> None:
    async with plain_client(host.daemon.socket_path) as client:
        lease = await acquire(client, 8, prefer=[host.second])
    host.daemon.kill()
    host.daemon.start()
    async with plain_client(host.daemon.socket_path) as client:
        again = await client.call("lease.get", lease=lease["id"])
        assert again["gpus"][0]["uuid"] == host.second
        assert (await reasons(client, 8))[host.second] == "insufficient_vram"


def test_nvitop_sees_the_same_instances(host: Host) -> None:
    host.gpu.run_process(os.getpid(), 3 * GIB, gpu_instance=1)
    done = subprocess.run(
        [sys.executable, "-c", NVITOP],
        env=host.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    host.daemon.stop()
    host.daemon.start()
    gpus = json.loads(superezioctl(host, "--json", "gpu", "list"))["gpus"]
    processes = json.loads(superezioctl(host, "--json", "gpu", "processes"))["processes"]
    ours = [
        {name: gpu[name] for name in ("uuid", "parent", "name")}
        | {name: gpu[name] for name in ("vram_total_bytes", "vram_used_bytes")}
        | {
            "processes": {
                str(p["pid"]): p["vram_bytes"] for p in processes if p["gpu"] == gpu["uuid"]
            }
        }
        for gpu in gpus
        if gpu["parent"] is not None
    ]
    assert len(ours) == 2
    assert json.loads(done.stdout) == ours


async def test_a_simulated_card_is_cut_up_and_a_program_runs_on_an_instance(
    tmp_path: Path,
) -> None:
    scenario = "[[gpu]]\nprofile = 'A100 80GB'\ninstances = ['3g.40gb', '1g.10gb']\n"
    daemon = LiveDaemon(tmp_path / "daemon", scenario=scenario).start()
    try:
        async with plain_client(daemon.socket_path) as client:
            command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path)]
            standin = [sys.executable, "-m", "supereziod.gpu.standin", "--vram", "4GiB"]
            with (
                subprocess.Popen(
                    [*command, "run", "--vram", "5GiB", "--", *standin],
                    env=daemon.standin_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                ) as process,
                ended(process),
            ):
                assert process.stdout is not None
                assert process.stdout.readline().endswith("holds 4.0 GiB on GPU 0:1\n")
                (use,) = await until_listed(client)
                small = await client.call("gpu.get", gpu="0:1")
                assert (use["gpu"], use["vram_bytes"]) == (small["uuid"], 4 * GIB)
                assert use["lease"] is not None
                assert (small["leases"], small["vram_foreign_bytes"]) == (1, 0)
                SimulatedControl(daemon.runtime_dir / "simulated").cut(0, "3g.40gb")
                await until_reason(client, small["uuid"], "lost")
    finally:
        daemon.close()
