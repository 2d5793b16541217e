"""A server under systemd whose lease is taken: when it is started anew, and what systemd is told.

What systemd makes of it is tried in a booted one (tests/system/test_models.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import wire_samples
from fake_daemon import FakeDaemon
from superezioctl.minding.family import Process
from superezioctl.minding.follower import Revocation
from superezioctl.minding.standing_in import StandIn
from unit.ctl.test_lost_leases import GONE, RELEASED_BEFORE, Command, command, mind, past, recalls

ANEW, OVER = 75, 0


class Inner:
    """A response that ends a command at once that is not deaf, and writes down what it is told."""

    due_ns = None
    busy = False

    def __init__(self, process: Process, heard: list[str], *, deaf: bool) -> None:
        self._process = process
        self._deaf = deaf
        self._heard = heard
        self.watched: list[int] = []

    def heard(self, revocation: Revocation) -> None:
        self._heard.append(f"heard {revocation.reason}")
        if not self._deaf:
            self._process.send(signal.SIGKILL)

    def changed(self, _: Revocation) -> None:
        return

    def withdrawn(self) -> None:
        self._heard.append("withdrawn")

    def command_ended(self) -> None:
        self._heard.append("ended")

    def turn(self) -> None:
        return


class Scene:
    """A stand-in for a real process. `log`: what was told to whom, in order."""

    def __init__(self, process: Process, *, deaf: bool = False) -> None:
        self.log: list[str] = []
        self.stand_in = StandIn(
            Inner(process, self.log, deaf=deaf),
            command=process,
            tell=lambda *assignments: self.log.extend(assignments),
            say=self.log.append,
        )


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """Who stands in takes SIGTERM for another; here that is the process of the tests."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def child() -> Iterator[Command]:
    with command() as process:
        yield process


@pytest.fixture
def scene(child: Command) -> Iterator[Scene]:
    process = Process.open(child.pid)
    yield Scene(process)
    os.close(process.pidfd)


def notice(reason: str) -> Revocation:
    return Revocation(reason=reason, message="GPU 0 is hot", deadline_ns=1 << 62, answered=True)


def test_for_heat_systemd_is_told_of_another_main_process_before_the_server_is_told_to_end(
    scene: Scene,
) -> None:
    scene.stand_in.heard(notice("gpu_critical"))
    assert scene.log == [
        f"MAINPID={os.getpid()}",
        "STATUS=ends, to be started anew: GPU 0 is hot",
        "systemd starts it anew, and then it waits for a lease",
        "heard gpu_critical",
    ]
    assert scene.stand_in.exit_code == ANEW


@pytest.mark.parametrize("reason", ["admin", "owner", "overrun", "idle", "of a later daemon"])
def test_what_somebody_wants_back_is_not_started_anew(scene: Scene, reason: str) -> None:
    scene.stand_in.heard(notice(reason))
    assert scene.log == [f"heard {reason}"]
    assert scene.stand_in.exit_code == OVER


def test_an_admin_who_wants_it_back_while_it_ends_for_heat_has_the_last_word(scene: Scene) -> None:
    scene.stand_in.heard(notice("gpu_critical"))
    scene.stand_in.changed(notice("gpu_critical"))
    assert scene.stand_in.exit_code == ANEW
    scene.stand_in.changed(notice("admin"))
    scene.stand_in.changed(notice("gpu_critical"))
    assert scene.stand_in.exit_code == OVER


def test_heat_does_not_bring_back_what_an_admin_wanted_back_before(scene: Scene) -> None:
    scene.stand_in.heard(notice("admin"))
    scene.stand_in.changed(notice("gpu_critical"))
    assert scene.stand_in.exit_code == OVER


def test_what_systemd_stops_meanwhile_is_not_started_anew_and_told_once(
    child: Command,
) -> None:
    process = Process.open(child.pid)
    scene = Scene(process, deaf=True)
    scene.stand_in.heard(notice("gpu_critical"))
    os.kill(os.getpid(), signal.SIGTERM)
    assert scene.stand_in.exit_code == OVER
    child.send_signal(signal.SIGVTALRM)  # a SIGTERM would be delivered before
    assert child.wait(10) == -signal.SIGVTALRM
    os.close(process.pidfd)


def test_a_stop_reaches_a_server_that_has_outlived_a_notice_withdrawn(child: Command) -> None:
    process = Process.open(child.pid)
    scene = Scene(process, deaf=True)
    scene.stand_in.heard(notice("gpu_critical"))
    scene.stand_in.withdrawn()
    assert child.poll() is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert scene.stand_in.exit_code == OVER
    os.close(process.pidfd)


def test_a_server_that_ends_for_a_notice_withdrawn_is_started_anew(scene: Scene) -> None:
    scene.stand_in.heard(notice("gpu_critical"))
    scene.stand_in.withdrawn()
    scene.stand_in.command_ended()
    assert scene.log[-2:] == ["withdrawn", "ended"]
    assert scene.stand_in.exit_code == ANEW


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"reason": "revoked", "revoked_for": "gpu_critical"}, ANEW),
        ({"reason": "revoked", "revoked_for": "admin"}, OVER),
        ({"reason": "revoked", "revoked_for": "owner"}, OVER),
        ({"reason": "revoked"}, OVER),  # a daemon of before says no more
        ({"reason": "void"}, ANEW),
    ],
)
def test_a_lease_that_was_lost_before_it_was_heard_of_counts_by_what_it_was_lost_for(
    daemon: FakeDaemon, scene: Scene, child: Command, data: dict[str, Any], code: int
) -> None:
    daemon.answers["lease.get"] = GONE
    recalls(daemon, past("it is lost", data=data))
    mind(daemon, child, response=lambda _: scene.stand_in)
    assert scene.stand_in.exit_code == code


def test_a_lease_that_is_gone_with_the_file_of_leases_is_nobodys_will(
    daemon: FakeDaemon, scene: Scene, child: Command
) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    recalls(daemon)
    mind(daemon, child, response=lambda _: scene.stand_in)
    assert scene.stand_in.exit_code == ANEW


def test_a_lease_that_its_user_released_leaves_the_server_and_its_place(
    daemon: FakeDaemon, scene: Scene, child: Command
) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = RELEASED_BEFORE
    recalls(daemon)
    mind(daemon, child, response=lambda _: scene.stand_in)
    assert (scene.log, scene.stand_in.exit_code, child.poll()) == ([], OVER, None)


def test_without_a_notice_the_server_has_its_place_to_its_end(
    daemon: FakeDaemon, scene: Scene, child: Command
) -> None:
    daemon.answers["lease.get"] = msgspec.to_builtins(wire_samples.lease())
    child.kill()
    mind(daemon, child, response=lambda _: scene.stand_in)
    assert (scene.log, scene.stand_in.exit_code) == (["ended"], OVER)
