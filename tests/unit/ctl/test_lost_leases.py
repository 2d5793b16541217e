"""A command whose lease is no more: it was lost, or its user has released it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

import wire_samples
from fake_daemon import FakeDaemon, HangUp
from minders import WITHIN_S
from superezio import errors, wire
from superezioctl.minding.family import Process
from superezioctl.minding.follower import Follower, Revocation
from superezioctl.minding.minder import Minder
from superezioctl.minding.responses import Hook, Termination

LEASE = "1ea5e"
GONE = errors.StaleLeaseError("gone")
RELEASED_BEFORE = wire.ReleaseResult(lease=LEASE, released=False)
Command = subprocess.Popen[bytes]
WORDS = ["sleep", "60"]


@contextmanager
def command() -> Iterator[Command]:
    with subprocess.Popen(WORDS) as process:
        try:
            yield process
        finally:
            process.kill()


def mind(
    daemon: FakeDaemon, process: Command, *, response: Callable[..., Any] | None = None
) -> list[str]:
    """Mind a command until there is nothing left to mind; return what was said."""
    said: list[str] = []
    minded = Process.open(process.pid)
    make = response or (
        lambda say: Termination(command=minded, group=os.getpgrp(), grace_s=None, say=say)
    )
    Minder(
        command=minded,
        follower=Follower(socket_path=str(daemon.path), lease=LEASE),
        response=make(said.append),
        say=said.append,
    ).run()
    os.close(minded.pidfd)
    return said


def past(message: str, **changes: Any) -> wire.Event:
    return wire_samples.event(type="lease.lost", message=message, **changes)


def recalls(daemon: FakeDaemon, *events: wire.Event) -> None:
    """Let the daemon remember these losses, for those who ask for the past."""

    def subscribe(params: dict[str, Any]) -> wire.SubscribeResult:
        wanted = [event for event in events if event.type in params["types"]]
        return wire_samples.subscribed(9, wanted if params.get("replay") else [])

    daemon.answers["events.subscribe"] = subscribe


def test_a_lease_lost_while_its_minder_was_away_ends_the_command(daemon: FakeDaemon) -> None:
    """A holder whose lease is lost is signalled, whoever heard of the loss."""
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    with command() as process:
        said = mind(daemon, process)
        assert process.wait(WITHIN_S) == -signal.SIGTERM
    assert said[0].startswith(f"lease {LEASE} is lost: the daemon knows it no more")
    assert said[1].startswith("sent SIGTERM")


def test_the_daemon_is_asked_why(daemon: FakeDaemon) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    recalls(daemon, past("another is lost", lease="other"), past("it was revoked: now"))
    with command() as process:
        assert mind(daemon, process)[0] == "it was revoked: now"
        assert process.wait(WITHIN_S) == -signal.SIGTERM
    assert not daemon.asked("lease.release"), "it was said already how it ended"


def test_a_lease_that_was_void_with_the_file_of_leases_is_lost(daemon: FakeDaemon) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    corrupt = past("the file of leases was corrupt", lease=None, data={"reason": "state_corrupt"})
    recalls(daemon, corrupt)
    with command() as process:
        said = mind(daemon, process)
        assert process.wait(WITHIN_S) == -signal.SIGTERM
    assert said[0] == f"lease {LEASE} is lost: the file of leases was corrupt"


@pytest.mark.parametrize("heard", [True, False])
def test_a_lease_that_its_user_released_leaves_the_command_running(
    daemon: FakeDaemon, *, heard: bool
) -> None:
    """Released is not lost, whether the minder was connected or away."""
    looks = 0

    def look(_: dict[str, Any]) -> object:
        nonlocal looks
        looks += 1
        if looks == 1 and heard:
            daemon.push("event", wire_samples.notification(2, type="lease.released"))
            return wire_samples.lease()
        return GONE

    daemon.answers["lease.get"] = look
    daemon.answers["lease.release"] = RELEASED_BEFORE
    recalls(daemon, past("another is lost", lease="other"))
    with command() as process:
        assert mind(daemon, process) == []
        assert process.poll() is None


@pytest.mark.parametrize("passing", [HangUp, errors.ShuttingDownError("stopping")])
def test_how_a_lease_ended_is_asked_again_of_the_next_daemon(
    daemon: FakeDaemon, passing: object
) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = [passing, RELEASED_BEFORE]
    with command() as process:
        assert mind(daemon, process) == []
        assert process.poll() is None
    assert len(daemon.asked("lease.release")) == 2


def test_a_user_with_too_many_subscriptions_is_told_all_the_same(daemon: FakeDaemon) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    full = errors.BusyError("uid 0 has 256 subscriptions")
    daemon.answers["events.subscribe"] = [wire_samples.subscribed(), full]
    with command() as process:
        assert "is lost" in mind(daemon, process)[0]
        assert process.wait(WITHIN_S) == -signal.SIGTERM


def test_the_users_command_is_run_for_a_loss_too(daemon: FakeDaemon) -> None:
    daemon.answers["lease.get"] = GONE
    daemon.answers["lease.release"] = GONE
    line = '[ "$SUPEREZIO_REVOKE_REASON" = lost ] && kill -INT $SUPEREZIO_PID'
    with command() as process:

        def hook(say: Callable[[str], None]) -> Hook:
            minded = Process.open(process.pid)
            return Hook(command=minded, line=line, environment=dict(os.environ), say=say)

        mind(daemon, process, response=hook)
        assert process.wait(WITHIN_S) == -signal.SIGINT


def test_what_was_dropped_of_a_full_subscription_may_have_been_ours(daemon: FakeDaemon) -> None:
    looks = 0

    def look(_: dict[str, Any]) -> object:
        nonlocal looks
        looks += 1
        if looks > 1:
            return GONE
        daemon.push("event", wire_samples.notification(2, lease="other", lost=3))
        return wire_samples.lease()

    daemon.answers["lease.get"] = look
    daemon.answers["lease.release"] = GONE
    with command() as process:
        assert "is lost" in mind(daemon, process)[0]
        assert process.wait(WITHIN_S) == -signal.SIGTERM


class Told:
    """What a minder does about notices: nothing but to note them."""

    due_ns = None
    watched: tuple[int, ...] = ()
    busy = False

    def __init__(self, _: Callable[[str], None]) -> None:
        self.deadlines_ns: dict[str, list[int]] = {"heard": [], "changed": []}

    def heard(self, revocation: Revocation) -> None:
        self.deadlines_ns["heard"].append(revocation.deadline_ns)

    def changed(self, revocation: Revocation) -> None:
        self.deadlines_ns["changed"].append(revocation.deadline_ns)

    def withdrawn(self) -> None:
        raise AssertionError("it was not withdrawn")

    def command_ended(self) -> None:
        raise AssertionError("it did not end")

    def turn(self) -> None:
        return


@pytest.mark.parametrize("left_s", [3600.0, 0.5])
def test_the_time_of_a_notice_is_over_when_the_lease_is_lost_before(
    daemon: FakeDaemon, left_s: float
) -> None:
    """A deadline that was brought forward unheard: what was begun is not left until the first."""
    revocation = {
        "reason": "admin",
        "message": "later",
        "remaining_s": left_s,
        "answer": None,
        "answer_message": None,
    }
    draining = msgspec.to_builtins(wire_samples.lease(state="draining"))
    draining["revocation"] = revocation

    def acknowledge(_: dict[str, Any]) -> object:
        daemon.push("event", wire_samples.notification(2, type="lease.lost", message="now"))
        return draining

    daemon.answers["lease.get"] = [draining, GONE]
    daemon.answers["lease.acknowledge"] = acknowledge
    told = Told(print)
    with command() as process:
        said = mind(daemon, process, response=lambda _: told)
    assert said[-1] == "now"
    left_ns = told.deadlines_ns["changed"][-1] - time.monotonic_ns()
    assert left_ns <= min(left_s, 10) * 1e9
    assert len(told.deadlines_ns["heard"]) == 1


def test_the_end_of_the_command_is_no_loss(daemon: FakeDaemon) -> None:
    with command() as process:

        def look(_: dict[str, Any]) -> object:
            process.kill()
            process.wait()
            return GONE

        daemon.answers["lease.get"] = look
        daemon.answers["lease.release"] = GONE
        assert mind(daemon, process, response=Quiet) == []


class Quiet(Told):
    """One whose command has ended: nothing else may be told it."""

    def heard(self, revocation: Revocation) -> None:
        raise AssertionError(f"the command has ended: {revocation.message}")

    def command_ended(self) -> None:
        return
