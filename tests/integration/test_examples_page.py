"""Every command and program of docs/examples.md runs, with stand-ins and simulated GPUs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import program_standins
from live_daemon import LiveDaemon
from markdown_blocks import blocks, commands
from minders import until
from superezio import wire

pytestmark = pytest.mark.installed

PAGE = Path(__file__).parents[2] / "docs" / "examples.md"
COMMANDS = commands(PAGE, "$ ")
TRAIN, ASKS_ITSELF = blocks(PAGE, "python")


class Place:
    """A directory with the programs of the page, and a daemon."""

    def __init__(self, directory: Path, daemon: LiveDaemon) -> None:
        self.directory = directory
        self.daemon = daemon
        (directory / "train.py").write_text(TRAIN)
        self.environment = {
            **daemon.standin_environment(),
            **program_standins.install(directory),
            "SUPEREZIO_SOCKET": str(daemon.socket_path),
        }

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def log(self) -> list[str]:
        return (self.directory / "programs.log").read_text().splitlines()

    def uuids(self) -> list[str]:
        with self.daemon.client() as client:
            return [gpu.uuid for gpu in client.gpu_list().gpus]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    daemon = LiveDaemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield Place(tmp_path_factory.mktemp("examples"), daemon)
    daemon.close()


@pytest.mark.timeout(120)
def test_the_commands_run_from_the_top_and_leave_nothing(place: Place) -> None:
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        place.run("bash", "-c", command)
    with place.daemon.client() as client:
        until(lambda: not client.lease_list().leases)
        big, small = place.uuids()
        log = place.log()
        llama, split, vllm, comfyui, _ = log
        assert llama.endswith(f"--port 8080 on {big}")
        proportions = split.split("--tensor-split ")[1].split()[0].split(",")
        assert len(proportions) == 2
        assert {big, small} == set(split.rpartition(" on ")[2].split(","))
        assert vllm.endswith(f"--gpu-memory-utilization 0.8 on {big}")
        assert comfyui.endswith(f"--port 8188 on {big}")
    assert (place.directory / "checkpoint.pt").read_text() == "saved"


def test_a_program_that_asks_by_itself_runs(place: Place) -> None:
    printed = place.run(sys.executable, "-c", ASKS_ITSELF)
    assert printed.startswith("leased ")
    assert printed.split()[-1] in place.uuids()


def test_a_training_that_is_revoked_saves_what_it_has(place: Place) -> None:
    checkpoint = place.directory / "checkpoint.pt"
    checkpoint.unlink(missing_ok=True)
    # As on the page, but for an epoch that takes longer than the test.
    (place.directory / "long.py").write_text(TRAIN.replace("weights += 1", "signal.pause()"))
    words = ["superezioctl", "run", "--vram=6GiB", "--name=train", "--", "python", "long.py"]
    with (
        subprocess.Popen(words, cwd=place.directory, env=place.environment) as process,
        place.daemon.client() as client,
    ):
        lease = until(
            lambda: next((lease for lease in client.lease_list().leases if in_use(lease)), None)
        )
        client.lease_revoke(lease.id, deadline="60s")
        assert process.wait(30) == 0
    assert checkpoint.read_text() == "saved"


def in_use(lease: wire.Lease) -> bool:
    """Say whether the program has got as far as to use VRAM, and so takes SIGTERM."""
    return bool(lease.gpus[0].actual_bytes)
