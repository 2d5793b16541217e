"""Placement end to end: reserves, constraints and splits of a real daemon on simulated GPUs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from superezio.client import Client
from superezio.errors import NeverFitsError, NoCapacityError
from superezio.wire import Gpu
from supereziod.gpu.profiles import PROFILES, simulated_uuid

GIB = 1 << 30
BIG = simulated_uuid(0, PROFILES["RTX 3060"])
SMALL = simulated_uuid(1, PROFILES["RTX 2060"])
CONFIG = f'[gpu]\nreserve = "1GiB"\n[gpu.override."{SMALL}"]\nreserve = "2GiB"\n'
SCENARIO = (
    '[[gpu]]\nprofile = "RTX 3060"\ndisplay = true\n'
    '[[gpu]]\nprofile = "RTX 2060"\ncompute_mode = "exclusive_process"\n'
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon", config=CONFIG, scenario=SCENARIO).start()
    yield live
    live.close()


@contextmanager
def stand_in(daemon: LiveDaemon, uuid: str, vram: str) -> Iterator[None]:
    """Use VRAM without a lease, as foreign programs do."""
    process = subprocess.Popen(
        [sys.executable, "-m", "supereziod.gpu.standin", "--vram", vram, "--gpu", uuid],
        env=daemon.standin_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the stand-in did not get its VRAM"
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def somebody_else() -> Iterator[int]:
    """Run a process that has no part in what this one has started: that would be its own."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def await_foreign(client: Client, uuid: str, vram_bytes: int) -> Gpu:
    """Return the GPU once a pass has shown that foreign use: there is no event to await."""
    deadline = time.monotonic() + 10
    while True:
        client.placement_explain("1GiB")  # asks for a pass where the last one is old
        gpu = client.gpu_get(uuid)
        if gpu.vram_foreign_bytes == vram_bytes:
            return gpu
        assert time.monotonic() < deadline, f"{gpu.vram_foreign_bytes} bytes are foreign"
        time.sleep(0.05)


def test_free_is_the_total_less_all_reserves_foreign_use_and_leases(daemon: LiveDaemon) -> None:
    """free = total - driver_reserved - configured_reserve - foreign - sum of max(reserved, actual).

    A lease is admitted iff it needs no more than that; each GPU has its own configured reserve.
    """
    with daemon.client() as client, stand_in(daemon, BIG, "3GiB"), somebody_else() as pid:
        big, small = await_foreign(client, BIG, 3 * GIB), client.gpu_get(SMALL)
        for gpu, configured, foreign in ((big, GIB, 3 * GIB), (small, 2 * GIB, 0)):
            assert gpu.vram_total_bytes is not None
            assert gpu.vram_driver_reserved_bytes is not None
            admissible = gpu.vram_total_bytes - gpu.vram_driver_reserved_bytes - configured
            assert gpu.vram_leasable_bytes == admissible - foreign
        free = big.vram_leasable_bytes
        assert free > small.vram_leasable_bytes
        with pytest.raises(NoCapacityError):
            client.lease_acquire(free + 1, holder_pid=pid)
        with pytest.raises(NeverFitsError, match="at most even when empty"):
            client.lease_acquire(free + 3 * GIB + 1, holder_pid=pid)
        first = client.lease_acquire(2 * GIB, holder_pid=pid, prefer=[BIG])
        left = client.gpu_get(BIG).vram_leasable_bytes
        assert left == free - 2 * GIB
        lease = client.lease_acquire(left, holder_pid=pid, prefer=[BIG])
        assert {first.gpus[0].uuid, lease.gpus[0].uuid} == {BIG}
        assert client.gpu_get(BIG).vram_leasable_bytes == 0


def test_what_can_be_leased_agrees_with_what_is_used_on_a_quiet_host(daemon: LiveDaemon) -> None:
    """Processes are read every 30 s there, and again where the VRAM in use has moved."""
    with daemon.client() as client:
        empty = client.gpu_get(BIG)
        with stand_in(daemon, BIG, "3GiB"):
            used = await_used(client, lambda used_bytes: used_bytes >= 3 * GIB)
            assert used.vram_leasable_bytes == empty.vram_leasable_bytes - 3 * GIB
            assert used.vram_foreign_bytes == 3 * GIB
        again = await_used(client, lambda used_bytes: used_bytes < 3 * GIB)
        assert again.vram_leasable_bytes == empty.vram_leasable_bytes


def await_used(client: Client, holds: Callable[[int], bool]) -> Gpu:
    """Return the GPU once that holds of its VRAM in use; looking asks for no pass."""
    deadline = time.monotonic() + 10
    while True:
        gpu = client.gpu_get(BIG)
        if gpu.vram_used_bytes is not None and holds(gpu.vram_used_bytes):
            return gpu
        assert time.monotonic() < deadline, f"{gpu.vram_used_bytes} bytes are in use"
        time.sleep(0.05)


def test_constraints_are_met_or_refused_for_ever(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        for options, uuid in (
            ({"min_compute_capability": "8.0"}, BIG),
            ({"compute_mode": "exclusive_process"}, SMALL),
            ({"no_display": True}, SMALL),
        ):
            assert client.placement_explain("1GiB", **options).chosen == [uuid]
        with pytest.raises(NeverFitsError, match=r"compute capability is 8\.6"):
            client.lease_acquire("1GiB", mode="connection", min_compute_capability="9.0")
        with pytest.raises(NeverFitsError, match="it drives a display"):
            client.lease_acquire("1GiB", mode="connection", no_display=True, compute_mode="default")


def test_a_gpu_in_exclusive_process_mode_takes_one_lease(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        lease = client.lease_acquire("1GiB", mode="connection", no_display=True)
        with pytest.raises(NoCapacityError, match="EXCLUSIVE_PROCESS, and a lease is on it"):
            client.lease_acquire("1GiB", mode="connection", no_display=True)
        gpu = client.gpu_get(SMALL)
        assert (gpu.admissible, gpu.vram_leasable_bytes) == (False, 0)
        client.lease_release(lease.id)
        again = client.lease_acquire("1GiB", mode="connection", no_display=True, wait="10s")
        assert again.gpus[0].uuid == SMALL


def test_a_command_on_a_split_lease_can_hand_the_proportions_on(daemon: LiveDaemon) -> None:
    shown = ctl(
        daemon,
        *("run", "--vram", "12GiB", "--split", "--model", "llama", "--"),
        *("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES $SUPEREZIO_TENSOR_SPLIT"'),
    )
    devices, proportions = shown.split()
    assert set(devices.split(",")) == {BIG, SMALL}
    small, big = (int(part) for part in proportions.split(","))
    assert devices.split(",")[0] == SMALL
    assert 0 < small < big


def test_explain_names_who_is_in_the_way(daemon: LiveDaemon) -> None:
    with stand_in(daemon, BIG, "3GiB"), daemon.client() as client:
        await_foreign(client, BIG, 3 * GIB)
        top, big, small = ctl(daemon, "explain", "--vram", "9GiB").splitlines()
        assert top == "wait: no room for 9.0 GiB now"
        assert big.startswith("GPU 0 (RTX 3060): 7.7 GiB free after 3.0 GiB foreign (python")
        assert big.endswith("), needs 9.0 GiB: no")
        assert small.endswith("no, holds 3.7 GiB at most even when empty, needs 9.0 GiB")


def ctl(daemon: LiveDaemon, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
