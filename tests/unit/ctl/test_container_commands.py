"""superezioctl run --container: the command line, and a container the lease cannot go to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine_standin
import wire_samples
from fake_daemon import FakeDaemon
from minders import minders, until
from superezio import errors, wire
from superezioctl.arguments import UsageError
from superezioctl.minding.engine import RunCommand

ENVIRONMENT = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    "NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2",
    "SUPEREZIO_CDI_DEVICES": "nvidia.com/gpu=GPU-1,nvidia.com/gpu=GPU-2",
    "SUPEREZIO_LEASE": "1ea5e",
    "HOME": "/root",
}


def extended(words: str, *, passing: str = "cdi", cidfile: str | None = "/c") -> str:
    command = RunCommand("podman", words.split())
    return " ".join(command.extended(environment=ENVIRONMENT, passing=passing, cidfile=cidfile))


def test_the_gpus_and_what_tells_of_them_go_before_the_users_options() -> None:
    told = (
        "--env CUDA_DEVICE_ORDER=PCI_BUS_ID --env CUDA_VISIBLE_DEVICES=GPU-1,GPU-2"
        " --env SUPEREZIO_LEASE=1ea5e"
    )
    devices = "--device nvidia.com/gpu=GPU-1 --device nvidia.com/gpu=GPU-2"
    assert extended("podman --log-level debug run -d IMAGE") == (
        f"podman --log-level debug run --cidfile /c {devices} {told} -d IMAGE"
    )
    assert extended("sudo /usr/bin/podman container run IMAGE run", passing="none") == (
        f"sudo /usr/bin/podman container run --cidfile /c {told} IMAGE run"
    )
    assert extended("podman run IMAGE", passing="gpus", cidfile=None) == (
        f'podman run --gpus "device=GPU-1,GPU-2" {told} IMAGE'
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--cidfile /mine IMAGE", "/mine"),
        ("-d --rm --cidfile=/mine IMAGE", "/mine"),
        ("-it -v /a:/b --cidfile /mine IMAGE", "/mine"),
        ("-d IMAGE --cidfile /not/mine", None),
        ("--name x IMAGE nginx --cidfile /not/mine", None),
        ("-- IMAGE --cidfile /not/mine", None),
        ("--cidfile", None),
    ],
)
def test_a_cidfile_of_the_users_is_found_before_the_image(options: str, found: str | None) -> None:
    assert RunCommand("podman", ["podman", "run", *options.split()]).own_cidfile == found


@pytest.mark.parametrize(
    "words", ["podman start x", "docker run IMAGE", "podman compose run web", "./run podman"]
)
def test_what_runs_no_container_of_that_engine_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"podman run \[OPTIONS\] IMAGE"):
        RunCommand("podman", words.split())


class Runs:
    """`superezioctl run --container podman` with an engine that is stood in for."""

    def __init__(self, directory: Path) -> None:
        self.containers = directory / "containers"
        self.containers.mkdir()
        self.engine = directory / "bin" / "podman"
        engine_standin.install(directory / "bin", "podman")
        self.environment = os.environ | {
            "ENGINE_STANDIN_DIR": str(self.containers),
            "XDG_RUNTIME_DIR": str(directory),
        }

    def run(self, *options: str, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        ours = ["run", "--vram=1GiB", "--container=podman", "--pass-gpus=none", *options, "--"]
        return subprocess.run(
            [sys.executable, "-m", "superezioctl", *ours, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def first_pid(self) -> int:
        (path,) = self.containers.glob("*.json")
        pid: int = json.loads(path.read_text())["pid"]
        return pid


@pytest.fixture
def runs(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Runs]:
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=True)
    runs = Runs(tmp_path)
    yield runs
    for path in runs.containers.glob("*.json"):
        if pid := json.loads(path.read_text())["pid"]:
            os.kill(pid, signal.SIGKILL)


def test_a_lease_that_the_container_may_not_hold_is_held_for_it(
    daemon: FakeDaemon, runs: Runs
) -> None:
    told = runs.containers.parent / "told"

    def refuse(_params: object) -> errors.SuperezioError:
        told.touch()
        return errors.PermissionDeniedError("it is a process of uid 100999")

    daemon.answers["lease.attach"] = refuse
    # In the foreground for as long as it takes to be told.
    code = f"import os, time\nwhile not os.path.exists({str(told)!r}): time.sleep(0.01)"
    name = f"held-{os.getpid()}"
    words = (str(runs.engine), "run", "--name", name, "any", sys.executable, "-c", code)
    done = runs.run(words=words)
    assert done.returncode == 0
    assert "it is a process of uid 100999. superezioctl holds the lease" in done.stderr
    assert "superezioctl lease attach 1ea5e --container" in done.stderr
    asked = daemon.params_of("lease.acquire")
    assert asked["name"] == name
    assert asked["holder_pid"] != daemon.params_of("lease.attach")["pid"]
    until(lambda: not minders(name))


def test_a_container_whose_lease_was_lost_before_it_ran_is_stopped(
    daemon: FakeDaemon, runs: Runs
) -> None:
    for method in ("lease.attach", "lease.get", "lease.release"):
        daemon.answers[method] = errors.StaleLeaseError("gone")
    done = runs.run(words=(str(runs.engine), "run", "any", "sleep", "60"))
    assert done.returncode == 128 + signal.SIGTERM
    assert "the lease was over before the container ran" in done.stderr
    assert "lease 1ea5e is lost" in done.stderr


def test_one_whose_lease_was_lost_before_it_ran_is_left_to_the_users_command(
    daemon: FakeDaemon, runs: Runs
) -> None:
    for method in ("lease.attach", "lease.get", "lease.release"):
        daemon.answers[method] = errors.StaleLeaseError("gone")
    hook = "--on-revoke=exec=echo $SUPEREZIO_REVOKE_REASON >&2; kill -INT $SUPEREZIO_PID"
    done = runs.run(hook, words=(str(runs.engine), "run", "any", "sleep", "60"))
    assert "lost" in done.stderr.splitlines()


def test_one_whose_lease_its_user_released_before_it_ran_runs_without(
    daemon: FakeDaemon, runs: Runs
) -> None:
    for method in ("lease.attach", "lease.get"):
        daemon.answers[method] = errors.StaleLeaseError("gone")
    daemon.answers["lease.release"] = wire.ReleaseResult(lease="1ea5e", released=False)
    done = runs.run(words=(str(runs.engine), "run", "any", "sleep", "0.5"))
    assert done.returncode == 0
    assert "the lease was over before the container ran" in done.stderr


def test_a_cidfile_of_an_earlier_container_is_refused(
    daemon: FakeDaemon, runs: Runs, tmp_path: Path
) -> None:
    mine = tmp_path / "cid"
    words = (str(runs.engine), "run", "--cidfile", str(mine), "any", "true")
    assert runs.run(words=words).returncode == 0
    assert len(mine.read_text()) == 64
    again = runs.run(words=words)
    assert again.returncode == 125
    assert "is there already" in again.stderr
    assert len(daemon.asked("lease.acquire")) == 1


def test_a_refusal_starts_no_container(daemon: FakeDaemon, runs: Runs, tmp_path: Path) -> None:
    daemon.answers["lease.acquire"] = errors.NoCapacityError("no GPU has 1 GiB")
    assert runs.run(words=(str(runs.engine), "run", "any", "true")).returncode == 125
    assert list(runs.containers.iterdir()) == []
    until(lambda: sorted(each.name for each in tmp_path.iterdir()) == ["bin", "containers"])


def test_an_engine_that_is_not_there_gives_the_lease_back(daemon: FakeDaemon, runs: Runs) -> None:
    done = runs.run(words=("/no/such/podman", "run", "any", "true"))
    assert done.returncode == 127
    assert daemon.asked("lease.release")


def test_how_gpus_are_passed_is_for_containers(daemon: FakeDaemon) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "run", "--vram=1GiB", "--pass-gpus=cdi", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "--pass-gpus is for --container" in done.stderr) == (125, True)
    assert not daemon.requests
