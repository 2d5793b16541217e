"""gpustat and nvitop, unmodified, see the GPUs as `superezioctl --json gpu list` shows them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from nvml_sim.plugin import MakeSimulator, built
from nvml_sim.profiles import GIB, H100, MIB, RTX_2060, RTX_3060
from nvml_sim.simulator import NvmlSimulator

pytestmark = pytest.mark.installed

View = Callable[[Path], list[dict[str, Any]]]
VARIANTS = ["current", "r535"]
# Asked of nvitop in a process of its own: its API is what its screen shows.
NVITOP = """
import json
from nvitop import Device
print(json.dumps([
    {
        "uuid": device.uuid(),
        "name": device.name(),
        "vram_total_bytes": device.memory_total(),
        "vram_used_bytes": device.memory_used(),
        "vram_free_bytes": device.memory_free(),
        "temperature_c": device.temperature(),
        "utilization_core_percent": device.gpu_utilization(),
        "power_w": device.power_usage() / 1000,
        "processes": {
            pid: process.gpu_memory() for pid, process in device.processes().items()
        },
    }
    for device in Device.all()
]))
"""


@pytest.fixture
def busy_host(make_nvml_sim: MakeSimulator) -> Iterator[NvmlSimulator]:
    """Three cards at work for processes that exist: tools look them up."""
    simulator = make_nvml_sim(RTX_3060, RTX_2060, H100)
    with contextlib.ExitStack() as stack:
        pids = []
        for _ in range(3):
            process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            stack.enter_context(process)
            stack.callback(process.kill)
            pids.append(process.pid)
        geforce, small, big = simulator.gpus
        geforce.set(temperature_c=74, utilization_core_percent=97, power_mw=166_250)
        geforce.run_process(pids[0], 8 * GIB)
        geforce.run_process(pids[1], 512 * MIB, lists="CG")
        small.set(memory_extra_bytes=200 * MIB, temperature_c=55, utilization_core_percent=3)
        big.run_process(pids[2], 60 * GIB)
        yield simulator


FIELDS = (
    "uuid",
    "name",
    "vram_total_bytes",
    "vram_used_bytes",
    "vram_free_bytes",
    "temperature_c",
    "utilization_core_percent",
    "power_w",
)


@pytest.fixture
def view(busy_host: NvmlSimulator, tmp_path: Path) -> Iterator[View]:
    """What superezioctl prints of the simulated host, read by a daemon through `library`."""
    with contextlib.ExitStack() as stack:

        def look(library: Path) -> list[dict[str, Any]]:
            daemon = LiveDaemon(
                tmp_path / "daemon", gpu_driver="nvml", environment=busy_host.env(library)
            )
            stack.callback(daemon.close)
            daemon.start()
            gpus = superezioctl(daemon, "gpu", "list")["gpus"]
            processes = superezioctl(daemon, "gpu", "processes")["processes"]
            assert daemon.stop() == 0
            return [
                {name: gpu[name] for name in FIELDS}
                | {
                    "processes": {
                        str(process["pid"]): process["vram_bytes"]
                        for process in processes
                        if process["gpu"] == gpu["uuid"]
                    }
                }
                for gpu in gpus
            ]

        yield look


def superezioctl(daemon: LiveDaemon, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "superezioctl", "--json", "--socket", str(daemon.socket_path)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def run_tool(command: list[str], simulator: NvmlSimulator, library: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=simulator.env(library) | {"TERM": "xterm", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def whole_mib(size: int) -> int:
    return size // MIB


@pytest.mark.parametrize("variant", VARIANTS)
def test_gpustat_agrees(busy_host: NvmlSimulator, view: View, variant: str) -> None:
    library = built(variant)
    shown = json.loads(run_tool(["-m", "gpustat", "--json"], busy_host, library))
    assert shown["driver_version"] == "580.95.05"
    theirs = [
        {
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "vram_total_mib": gpu["memory.total"],
            "vram_used_mib": gpu["memory.used"],
            "temperature_c": gpu["temperature.gpu"],
            "utilization_core_percent": gpu["utilization.gpu"],
            "power_w": gpu["power.draw"],
            "processes": {str(p["pid"]): p["gpu_memory_usage"] for p in gpu["processes"]},
        }
        for gpu in shown["gpus"]
    ]
    ours = [
        {
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "vram_total_mib": whole_mib(gpu["vram_total_bytes"]),
            "vram_used_mib": whole_mib(gpu["vram_used_bytes"]),
            "temperature_c": gpu["temperature_c"],
            "utilization_core_percent": gpu["utilization_core_percent"],
            "power_w": int(gpu["power_w"]),
            "processes": {pid: whole_mib(size) for pid, size in gpu["processes"].items()},
        }
        for gpu in view(library)
    ]
    assert len(ours) == 3
    assert theirs == ours


@pytest.mark.parametrize("variant", VARIANTS)
def test_nvitop_agrees(busy_host: NvmlSimulator, view: View, variant: str) -> None:
    library = built(variant)
    shown = json.loads(run_tool(["-c", NVITOP], busy_host, library))
    ours = view(library)
    assert len(ours) == 3
    assert shown == ours


def test_nvitops_screen_shows_every_gpu(busy_host: NvmlSimulator, nvml_library: Path) -> None:
    screen = run_tool(["-m", "nvitop", "--once", "--colorful", "--ascii"], busy_host, nvml_library)
    for text in ("GeForce RTX 3060", "GeForce RTX 2060", "H100 80GB", "74C"):
        assert text in screen
