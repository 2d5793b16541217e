"""superezioctl run --container: leases of containers, with a real podman and with stand-ins.

SEMANTICS 9, case 22: a container's GPU process whose parent is not the command that leased.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import engine_standin
import podman_engine
from live_daemon import LiveDaemon
from minders import minders, until
from superezio import wire
from superezio.client import Client
from supereziod.gpu.claims import Claim, ClaimsDirectory, read_stat

pytestmark = pytest.mark.installed

GIB = 1 << 30
SLEEP = ("sleep", "600")
Start = Callable[..., "Command"]


class Engine:
    """podman or docker, or what stands in for it, with which a test runs containers."""

    def __init__(self, name: str, *, real: bool, image: str, environment: dict[str, str]) -> None:
        self.name = name
        self.real = real
        self.image = image
        self.environment = environment
        self.options = ["--network=none", "--ulimit=host"] if real else []

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [self.name, *words],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def first_pid(self, container: str) -> int:
        return int(self("inspect", "--format", "{{.State.Pid}}", container))


@pytest.fixture(scope="module", params=["podman", "podman stand-in", "docker stand-in"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    name, _, stood_in = request.param.partition(" ")
    if stood_in:
        yield stand_in(name, tmp_path_factory.mktemp(name))
        return
    reason = podman_engine.why_not()
    if reason is not None:
        pytest.skip(reason)
    podman = podman_engine.Podman(Path(tempfile.mkdtemp(prefix="superezio-podman-")))
    podman.make_image()
    yield Engine(name, real=True, image=podman_engine.IMAGE, environment=podman.environment)
    podman.close()


def stand_in(name: str, directory: Path) -> Engine:
    (directory / "containers").mkdir()
    engine_standin.install(directory / "bin", name)
    environment = {
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
        "ENGINE_STANDIN_DIR": str(directory / "containers"),
    }
    return Engine(str(directory / "bin" / name), real=False, image="any", environment=environment)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.close()


class Command:
    """One `superezioctl run --container` of a container with a name of its own."""

    def __init__(
        self,
        daemon: LiveDaemon,
        engine: Engine,
        *words: str,
        options: tuple[str, ...] = (),
        run: tuple[str, ...] = (),
        image: str | None = None,
    ) -> None:
        self.engine = engine
        self.container = f"sz-{secrets.token_hex(6)}"
        self.scratch = Path(tempfile.mkdtemp(dir=daemon.directory))
        kind = Path(engine.name).name
        passing = () if "--pass-gpus" in options else ("--pass-gpus", "none")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "superezioctl", "run", "--vram", "4GiB"),
                *("--container", kind, *passing, *options, "--"),
                *(engine.name, "run", "--name", self.container, *engine.options, *run),
                *(image or engine.image, *words),
            ],
            env={
                **os.environ,
                **engine.environment,
                "SUPEREZIO_SOCKET": str(daemon.socket_path),
                "XDG_RUNTIME_DIR": str(self.scratch),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def first_pid(self) -> int:
        """Return the container's first process, once it is there."""

        def look() -> int | None:
            try:
                return self.engine.first_pid(self.container)
            except AssertionError:
                return None

        return until(look)

    def lease(self, client: Client) -> wire.Lease:
        """Return the lease, once its container holds it alone."""
        first = self.first_pid()

        def look() -> wire.Lease | None:
            for lease in client.lease_list().leases:
                if lease.name == self.container and [p.pid for p in lease.holder] == [first]:
                    return lease
            return None

        return until(look)

    def leaves_nothing(self, client: Client) -> None:
        until(lambda: not client.lease_list().leases)
        until(lambda: not minders(self.container))
        assert list(self.scratch.iterdir()) == []

    def close(self) -> None:
        for pid in minders(self.container):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
        if not self.engine.real:
            for state in states(Path(self.engine.environment["ENGINE_STANDIN_DIR"])):
                if state["pid"]:
                    os.kill(state["pid"], signal.SIGKILL)


@pytest.fixture
def start(daemon: LiveDaemon, engine: Engine) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(*words: str, **changes: Any) -> Command:
            command = Command(daemon, engine, *words, **changes)
            stack.callback(command.close)
            return command

        yield begin


def test_a_container_holds_its_lease_although_its_command_has_ended(
    daemon: LiveDaemon, start: Start
) -> None:
    command = start(*SLEEP, run=("-d",))
    out, err = command.process.communicate(timeout=30)
    assert (command.process.returncode, err) == (0, "")
    with daemon.client() as client:
        lease = command.lease(client)
        assert lease.holder_confirmed
        assert list(command.scratch.iterdir()) == []
        command.engine("stop", "-t", "0", out.strip())
        command.leaves_nothing(client)


def test_the_command_in_the_foreground_is_no_holder_and_passes_the_exit_code(
    daemon: LiveDaemon, start: Start
) -> None:
    command = start("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    with daemon.client() as client:
        command.lease(client)
        os.kill(command.first_pid(), signal.SIGTERM)
        assert command.process.wait(30) == 7
        command.leaves_nothing(client)


def test_a_command_that_is_killed_takes_no_lease_from_a_container_that_runs(
    daemon: LiveDaemon, start: Start
) -> None:
    command = start(*SLEEP)
    with daemon.client() as client:
        lease = command.lease(client)
        command.process.kill()
        command.process.wait()
        for pid in minders(command.container):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not minders(command.container))
        assert client.lease_get(lease.id).holder == lease.holder
        os.kill(command.first_pid(), signal.SIGKILL)
        command.leaves_nothing(client)


@pytest.mark.parametrize("image", ["never", "broken"])
def test_a_container_that_never_starts_leaks_nothing(
    daemon: LiveDaemon, start: Start, engine: Engine, image: str
) -> None:
    if not engine.real:
        command = start(*SLEEP, image=image)
    elif image == "never":
        command = start(*SLEEP, run=("--pull=never",), image="localhost/no-such-image")
    else:
        command = start("/no/such/program")
    assert command.process.wait(30) in {125, 127}
    with daemon.client() as client:
        command.leaves_nothing(client)


def test_a_revoked_lease_stops_its_container(daemon: LiveDaemon, start: Start) -> None:
    words = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    command = start(*words)
    with daemon.client() as client:
        lease = command.lease(client)
        client.lease_revoke(lease.id, deadline="60s", reason="a new driver")
        assert command.process.wait(30) == 7
        command.leaves_nothing(client)
    assert command.process.stderr is not None
    said = command.process.stderr.read()
    assert "by its user: a new driver" in said
    assert "stopping container" in said


def test_a_container_that_does_not_stop_is_killed_before_the_lease_is_lost(
    daemon: LiveDaemon, start: Start
) -> None:
    command = start("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", run=("-d",))
    with daemon.client() as client:
        lease = command.lease(client)
        client.lease_revoke(lease.id, deadline="3s")
        with client.events(["lease."], replay=100) as events:
            types = []
            for each in events:
                types.append(each.event.type)
                if types[-1] in {"lease.released", "lease.lost"}:
                    break
        assert types[-1] == "lease.released"
        command.leaves_nothing(client)


def test_a_command_of_the_users_is_told_of_the_container(daemon: LiveDaemon, start: Start) -> None:
    line = "exec=echo told $SUPEREZIO_PID $SUPEREZIO_CONTAINER; kill -KILL $SUPEREZIO_PID"
    command = start(*SLEEP, options=("--on-revoke", line))
    with daemon.client() as client:
        lease = command.lease(client)
        first = command.first_pid()
        client.lease_revoke(lease.id, deadline="60s")
        assert command.process.wait(30) == 137
        command.leaves_nothing(client)
    assert command.process.stderr is not None
    assert f"told {first} " in command.process.stderr.read()


def test_with_ignore_nothing_stays_beside_the_container(daemon: LiveDaemon, start: Start) -> None:
    command = start(*SLEEP, run=("-d",), options=("--on-revoke=ignore",))
    assert command.process.wait(30) == 0
    with daemon.client() as client:
        lease = command.lease(client)
        until(lambda: not minders(command.container))
        assert client.lease_get(lease.id).holder == lease.holder
        os.kill(command.first_pid(), signal.SIGKILL)
        command.leaves_nothing(client)


def test_what_runs_in_the_container_counts_for_its_lease(
    daemon: LiveDaemon, start: Start, engine: Engine
) -> None:
    command = start("sh", "-c", "sleep 601 & wait", run=("-d",))
    claims = ClaimsDirectory(daemon.runtime_dir / "simulated")
    with daemon.client() as client:
        lease = command.lease(client)
        pids = [child_of(command.first_pid())]
        if engine.real:
            # No descendant of the first process, and yet in the container: by its cgroup.
            engine("exec", "-d", command.container, "sleep", "602")
            pids.append(until(lambda: find("sleep", "602")))
        for pid in pids:
            claims.add(Claim(pid, read_stat(pid) or 0, lease.gpus[0].uuid, GIB, 0))

        def all_count() -> bool:
            return client.lease_get(lease.id).gpus[0].actual_bytes == len(pids) * GIB

        until(all_count)
        for pid in [command.first_pid(), *pids]:
            with suppress(ProcessLookupError):  # with its first process a real container ends
                os.kill(pid, signal.SIGKILL)
        command.leaves_nothing(client)


def test_a_daemon_that_restarts_while_the_container_starts_is_waited_for(
    daemon: LiveDaemon, start: Start, engine: Engine
) -> None:
    if engine.real:
        pytest.skip("a real container cannot be held up half way to its start")
    directory = Path(engine.environment["ENGINE_STANDIN_DIR"])
    command = start(*SLEEP, image="slow", run=("-d",))
    until(lambda: command.container in {state["name"] for state in states(directory)})
    daemon.kill()
    (directory / "go").touch()
    assert command.process.wait(30) == 0
    daemon.start()
    with daemon.client() as client:
        command.lease(client)
        os.kill(command.first_pid(), signal.SIGKILL)
        command.leaves_nothing(client)


def test_an_interrupt_in_the_queue_leaves_nothing(daemon: LiveDaemon, start: Start) -> None:
    with daemon.client() as client, client.lease("10GiB"), client.lease("4GiB"):
        command = start(*SLEEP, options=("--wait", "60s"))
        until(lambda: client.lease_list().queue)
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(30) == -signal.SIGINT
        until(lambda: not client.lease_list().queue)
        until(lambda: not minders(command.container))
        assert list(command.scratch.iterdir()) == []


def test_the_gpus_are_passed_by_cdi(daemon: LiveDaemon, start: Start, engine: Engine) -> None:
    with daemon.client() as client, ExitStack() as stack:
        uuids = [gpu.uuid for gpu in client.gpu_list().gpus]
        if engine.real:
            stack.callback(cdi_spec(uuids).unlink)
        shown = "echo $CUDA_VISIBLE_DEVICES $SUPEREZIO_LEASE $CDI_DEVICE; exec sleep 600"
        command = start("sh", "-c", shown, options=("--pass-gpus", "cdi"))
        lease = command.lease(client)
        assert command.process.stdout is not None
        uuid = lease.gpus[0].uuid
        expected = [uuid, lease.id, *([uuid] if engine.real else [])]
        assert command.process.stdout.readline().split() == expected
        if not engine.real:
            made = states(Path(engine.environment["ENGINE_STANDIN_DIR"]))
            (devices,) = [each["devices"] for each in made if each["name"] == command.container]
            assert devices == [f"nvidia.com/gpu={uuid}"]
        os.kill(command.first_pid(), signal.SIGKILL)
        command.leaves_nothing(client)


def test_a_container_that_runs_already_is_leased_for_by_its_name(
    daemon: LiveDaemon, engine: Engine
) -> None:
    name = f"sz-{secrets.token_hex(6)}"
    engine("run", "-d", "--name", name, *engine.options, engine.image, *SLEEP)
    first = engine.first_pid(name)
    environment = {**os.environ, **engine.environment, "SUPEREZIO_SOCKET": str(daemon.socket_path)}
    words = ["lease", "acquire", "--vram=1GiB", "--container", name]
    words += ["--engine", Path(engine.name).name]
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "--json", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lease = json.loads(done.stdout)
    assert ([each["pid"] for each in lease["holder"]], lease["name"]) == ([first], name)
    engine("stop", "-t", "0", name)
    with daemon.client() as client:
        until(lambda: not client.lease_list().leases)


def states(directory: Path) -> list[dict[str, Any]]:
    """Return what the stand-in made."""
    return [json.loads(path.read_text()) for path in directory.glob("*.json")]


def cdi_spec(uuids: list[str]) -> Path:
    """Write a specification of the devices for the host's engines, and return where."""
    devices = [{"name": uuid, "containerEdits": {"env": [f"CDI_DEVICE={uuid}"]}} for uuid in uuids]
    path = Path(f"/var/run/cdi/superezio-test-{secrets.token_hex(4)}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices})
    )
    return path


def child_of(pid: int) -> int:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return int(until(path.read_text).split()[0])


def find(*words: str) -> int | None:
    """Return the process of a command line."""
    for directory in Path("/proc").iterdir():
        try:
            if (directory / "cmdline").read_text().split("\0")[:-1] == list(words):
                return int(directory.name)
        except (OSError, ValueError):
            continue
    return None
