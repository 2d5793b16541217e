"""The stand-in: a real process that claims simulated VRAM, as a CUDA program would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supereziod.gpu.claims import DIRECTORY_VARIABLE, Card, ClaimsDirectory
from supereziod.gpu.control import SimulatedControl
from supereziod.gpu.scenario import DEFAULT
from supereziod.gpu.simulated import SimulatedDriver
from supereziod.gpu.standin import choose, default_directory

GIB = 1 << 30
CARDS = [Card("GPU-aaaa", 0, 4 * GIB), Card("GPU-bbbb", 1, 4 * GIB)]


@pytest.fixture
def simulation(tmp_path: Path) -> Path:
    now_ns = time.monotonic_ns()
    SimulatedDriver(directory=tmp_path, scenario=DEFAULT, epoch_ns=now_ns, since_ns=now_ns).open()
    return tmp_path


@pytest.fixture
def environment(simulation: Path) -> dict[str, str]:
    return {**os.environ, DIRECTORY_VARIABLE: str(simulation), "CUDA_VISIBLE_DEVICES": "0"}


@pytest.fixture
def started(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [*STANDIN, "--vram", "8GiB", "--load", "250"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


STANDIN = [sys.executable, "-m", "supereziod.gpu.standin"]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*STANDIN, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_says_what_it_holds_and_holds_it(
    simulation: Path, started: subprocess.Popen[str]
) -> None:
    assert started.stdout is not None
    assert started.stdout.readline() == f"pid {started.pid} holds 8.0 GiB on GPU 0\n"
    (claim,) = SimulatedControl(simulation).claims()
    assert (claim.pid, claim.vram_bytes, claim.load_percent) == (started.pid, 8 * GIB, 100)


def test_it_fails_as_an_allocation_does_where_there_is_no_room(
    environment: dict[str, str], started: subprocess.Popen[str]
) -> None:
    assert started.stdout is not None
    started.stdout.readline()
    second = run(environment, "--vram", "8GiB")
    assert second.returncode == 1
    assert "out of memory" in second.stderr


def test_it_ends_by_itself_after_its_time(environment: dict[str, str]) -> None:
    answer = run(environment, "--vram", "1GiB", "--seconds", "0", "--gpu", "1")
    assert answer.returncode == 0
    assert "on GPU 1" in answer.stdout


def test_it_says_that_there_is_no_simulation_or_no_such_gpu(
    environment: dict[str, str], tmp_path: Path
) -> None:
    nowhere = run(environment, "--vram", "1GiB", "--directory", str(tmp_path / "no"))
    assert (nowhere.returncode, "no simulated GPUs" in nowhere.stderr) == (1, True)
    no_gpu = run(environment, "--vram", "1GiB", "--gpu", "GPU-x")
    assert (no_gpu.returncode, "no simulated GPU GPU-x" in no_gpu.stderr) == (1, True)


def test_it_sees_the_gpus_that_cuda_would_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb, 0")
    assert [card.slot for card in choose(None, CARDS)] == [1, 0]
    assert choose("GPU-a", CARDS) == CARDS[:1]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert choose(None, CARDS) == CARDS[:1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(LookupError, match="no CUDA-capable device"):
        choose(None, CARDS)


def test_a_program_gets_one_mig_instance_however_many_it_names() -> None:
    """As CUDA has it: the first instance it names, and nothing besides."""
    cards = [*CARDS, Card("MIG-cccc", 1, GIB, 0), Card("MIG-dddd", 1, GIB, 1)]
    assert [card.uuid for card in choose("MIG-dddd,MIG-cccc", cards)] == ["MIG-dddd"]
    assert [card.place for card in choose("1:0", cards)] == ["1:0"]
    assert [card.uuid for card in choose("1", cards)] == ["GPU-bbbb"]


def test_it_finds_the_simulation_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/tmp/sim")
    assert default_directory() == Path("/tmp/sim")
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert default_directory() == Path("/run/user/7/superezio/simulated")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/run/superezio/simulated")


def test_published_gpus_are_written_once(tmp_path: Path) -> None:
    directory = ClaimsDirectory(tmp_path)
    directory.publish(CARDS)
    before = (tmp_path / "gpus.json").stat().st_ino
    directory.publish(CARDS)
    assert (tmp_path / "gpus.json").stat().st_ino == before
    assert directory.cards() == CARDS
