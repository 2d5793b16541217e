"""A revoked lease and a program that knows nothing of leases: the real daemon, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from minders import await_minder, minders, until
from superezio import wire
from superezio.client import Client
from supereziod.gpu.control import SimulatedControl

pytestmark = pytest.mark.installed

GIB = 1 << 30
HOLD = [sys.executable, "-m", "supereziod.gpu.standin", "--vram", "3GiB"]
DEAF = ["env", "--ignore-signal=TERM", *HOLD]


class Holder:
    """`superezioctl run` of a stand-in that holds 3 GiB of a lease of 4."""

    def __init__(self, daemon: LiveDaemon, *options: str, command: list[str]) -> None:
        self._daemon = daemon
        self.name = f"run-{uuid.uuid4().hex}"
        words = ["run", "--vram", "4GiB", "--name", self.name, *options, "--", *command]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "superezioctl", *words],
            env={**daemon.standin_environment(), "SUPEREZIO_SOCKET": str(daemon.socket_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert "holds 3.0 GiB" in self.process.stdout.readline()
        if "--on-revoke=ignore" not in options:
            await_minder(self.name)

    def lease(self, client: Client) -> wire.Lease:
        return next(each for each in client.lease_list().leases if each.name == self.name)

    def ended(self) -> tuple[int, str]:
        """Return the exit code and what was said on standard error."""
        _, said = self.process.communicate(timeout=30)
        until(lambda: not minders(self.name))
        return self.process.returncode, said

    def close(self) -> None:
        for pid in minders(self.name):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Holder]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture
def start(daemon: LiveDaemon) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(*options: str, command: list[str] = HOLD) -> Holder:
            holder = Holder(daemon, *options, command=command)
            stack.callback(holder.close)
            return holder

        yield begin


def told(client: Client, lease: str, until_type: str) -> list[wire.Event]:
    """Return the events of a lease up to one of a type."""
    found = []
    with client.events(["lease."], replay=200) as events:
        for each in events:
            if each.event.lease == lease:
                found.append(each.event)
                if each.event.type == until_type:
                    return found
    raise AssertionError("events do not end")


def test_a_revoke_ends_the_program_and_its_lease_in_time(daemon: LiveDaemon, start: Start) -> None:
    with daemon.client() as client:
        holder = start()
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline="60s", reason="a new driver")
        code, said = holder.ended()
        assert code == -signal.SIGTERM
        assert "by its user: a new driver" in said
        types = [event.type for event in told(client, lease.id, "lease.released")]
        assert types[-3:] == ["lease.draining", "lease.acknowledged", "lease.released"]
        until(lambda: all(gpu.vram_reserved_bytes == 0 for gpu in client.gpu_list().gpus))


def test_a_program_ends_though_there_was_no_time_to_say_so(
    daemon: LiveDaemon, start: Start
) -> None:
    with daemon.client() as client:
        holder = start()
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline=0, reason="at once")
        code, said = holder.ended()
        assert code == -signal.SIGTERM
        assert f"lease {lease.id} is lost" in said
        assert "at once" in said


def test_one_that_does_not_listen_is_killed_before_its_lease_is_lost(
    daemon: LiveDaemon, start: Start
) -> None:
    with daemon.client() as client:
        holder = start(command=DEAF)
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline="3s")
        code, said = holder.ended()
        assert code == -signal.SIGKILL
        assert "sent SIGKILL" in said
        events = told(client, lease.id, "lease.released")
        assert "lease.lost" not in {event.type for event in events}


def test_without_a_sigkill_the_lease_is_lost_and_the_program_goes_on(
    daemon: LiveDaemon, start: Start
) -> None:
    with daemon.client() as client:
        holder = start("--revoke-grace=never", command=DEAF)
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline="500ms")
        lost = told(client, lease.id, "lease.lost")[-1]
        assert lost.data["reason"] == "revoked"
        until(lambda: not minders(holder.name))
        assert holder.process.poll() is None


def test_with_ignore_nobody_answers(daemon: LiveDaemon, start: Start) -> None:
    with daemon.client() as client:
        holder = start("--on-revoke=ignore")
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline="300ms")
        types = [event.type for event in told(client, lease.id, "lease.lost")]
        assert "lease.acknowledged" not in types
        assert holder.process.poll() is None


def test_a_command_of_the_users_decides(daemon: LiveDaemon, start: Start) -> None:
    with daemon.client() as client:
        line = "echo $SUPEREZIO_LEASE $SUPEREZIO_REVOKE_REASON; kill -INT $SUPEREZIO_PID"
        holder = start(f"--on-revoke=exec={line}")
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline="60s")
        code, said = holder.ended()
        assert code == -signal.SIGINT
        assert f"{lease.id} owner" in said
        types = {event.type for event in told(client, lease.id, "lease.released")}
        assert "lease.acknowledged" in types


def test_a_restart_of_the_daemon_concerns_nobody_and_a_notice_after_it_is_heard(
    daemon: LiveDaemon, start: Start
) -> None:
    holder = start()
    with daemon.client() as client:
        lease = holder.lease(client)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        assert client.lease_get(lease.id).holder[0].pid == holder.process.pid
        client.lease_revoke(lease.id, deadline="60s")
        assert holder.ended()[0] == -signal.SIGTERM


def test_a_notice_of_an_instant_before_the_daemon_died_is_heard(
    daemon: LiveDaemon, start: Start
) -> None:
    holder = start()
    with daemon.client() as client:
        lease = holder.lease(client)
    (minder,) = minders(holder.name)
    os.kill(minder, signal.SIGSTOP)
    with daemon.client() as client:
        client.lease_revoke(lease.id, deadline="10m")
    daemon.kill()
    os.kill(minder, signal.SIGCONT)
    daemon.start()
    assert holder.ended()[0] == -signal.SIGTERM


def test_a_critically_hot_gpu_is_drained_of_programs_that_know_nothing(
    daemon: LiveDaemon, start: Start
) -> None:
    with daemon.client() as client:
        holder = start()
        lease = holder.lease(client)
        index = lease.gpus[0].index
        assert index is not None
        control = SimulatedControl(daemon.runtime_dir / "simulated")
        control.temperature(index, 97)
        code, said = holder.ended()
        assert code == -signal.SIGTERM
        assert "gpu_critical" in said
        assert told(client, lease.id, "lease.released")[-1].severity == "info"


@pytest.mark.parametrize("died_again", [False, True])
def test_a_lease_lost_while_its_minder_was_away_ends_the_program(
    daemon: LiveDaemon, start: Start, *, died_again: bool
) -> None:
    """Its daemon's successor knows why; the next one, only that nobody released it."""
    holder = start()
    (minder,) = minders(holder.name)
    daemon.kill()
    os.kill(minder, signal.SIGSTOP)
    daemon.start()
    with daemon.client() as client:
        lease = holder.lease(client)
        client.lease_revoke(lease.id, deadline=0, reason="at once")
        told(client, lease.id, "lease.lost")
    if died_again:
        daemon.kill()
        daemon.start()
    assert holder.process.poll() is None
    os.kill(minder, signal.SIGCONT)
    code, said = holder.ended()
    assert code == -signal.SIGTERM
    assert f"lease {lease.id} is lost" in said
    assert "nobody has released it" in said if died_again else "at once" in said


@pytest.mark.parametrize("away", [False, True])
def test_a_lease_that_its_user_released_is_no_concern_of_the_program(
    daemon: LiveDaemon, start: Start, *, away: bool
) -> None:
    """Whether its minder was there or not, and over the death of the daemon that was told."""
    holder = start()
    (minder,) = minders(holder.name)
    if away:
        daemon.kill()
        os.kill(minder, signal.SIGSTOP)
        daemon.start()
    with daemon.client() as client:
        client.lease_release(holder.lease(client).id)
    if away:
        daemon.kill()
        daemon.start()
        os.kill(minder, signal.SIGCONT)
    until(lambda: not minders(holder.name))
    assert holder.process.poll() is None


def test_a_lease_void_with_a_corrupt_file_of_leases_ends_the_program(
    daemon: LiveDaemon, start: Start
) -> None:
    holder = start()
    daemon.kill()
    for file in daemon.runtime_dir.glob("leases*"):
        file.write_bytes(b"not a database, and long enough to be looked at" * 100)
    daemon.start()
    code, said = holder.ended()
    assert code == -signal.SIGTERM
    assert "is lost: the file of leases was corrupt" in said
