"""superezioctl queue, and the place that `run --wait` shows."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from typing import Any

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon, HangUp
from superezio import errors, wire


def two_waiters() -> wire.LeaseList:
    return wire.LeaseList(
        leases=[wire_samples.lease()],
        queue=[
            wire_samples.waiter(id="aa11aa11aa11aa11", name=None, priority=5),
            wire_samples.waiter(id="aa22aa22aa22aa22", position=2, ahead=1, count=2),
        ],
    )


def test_the_queue_is_a_line_for_each_with_its_id_and_the_reason(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.list"] = two_waiters()
    assert ctl("queue") == 0
    lines = ctl.out.splitlines()
    assert lines[0].startswith("1. aa11aa11 4242424: 8.0 GiB x 1, best_fit, priority 5, waits 12s")
    assert lines[1] == "   gpu 0 has 4.0 GiB free and gpu 1 is hot"
    assert lines[2].startswith("2. aa22aa22 4242424 (nightly): 8.0 GiB x 2, best_fit, waits 12s")
    assert max(map(len, lines)) <= 80


def test_a_pipe_gets_the_line_of_a_waiter_to_its_end(ctl: Ctl, daemon: FakeDaemon) -> None:
    waiter = wire_samples.waiter(name="a-server-with-a-name-of-some-length", count=2)
    daemon.answers["lease.list"] = wire.LeaseList(leases=[], queue=[waiter])
    assert ctl("queue") == 0
    assert ctl.out.splitlines()[0].endswith(" at most")


def test_the_queue_for_programs_has_those_who_wait_alone(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = two_waiters()
    document = ctl.json("queue")
    assert list(document) == ["queue"]
    assert [waiter["ahead"] for waiter in document["queue"]] == [0, 1]
    assert document["queue"][0]["code"] == "insufficient_vram"


def test_an_empty_queue_says_so(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = wire.LeaseList(leases=[], queue=[])
    assert ctl("queue") == 0
    assert ctl.out == "nobody waits\n"
    assert ctl.json("queue") == {"queue": []}


def test_several_are_taken_out_by_the_beginnings_of_their_ids(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = two_waiters()
    daemon.answers["lease.cancel"] = [wire.Done(done=True), wire.Done(done=False)]
    gone = "bb11bb11bb11bb11"
    assert ctl("queue", "cancel", "aa11", gone) == 0
    assert ctl.out == f"aa11aa11aa11aa11 taken out of the queue\n{gone} is not in the queue\n"
    asked = [request["params"] for request in daemon.asked("lease.cancel")]
    assert asked == [{"waiter": "aa11aa11aa11aa11"}, {"waiter": gone}]


def test_one_is_taken_out_by_its_name(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = two_waiters()
    daemon.answers["lease.cancel"] = wire.Done(done=True)
    assert ctl("queue", "cancel", "nightly") == 0
    (asked,) = daemon.asked("lease.cancel")
    assert asked["params"] == {"waiter": "aa22aa22aa22aa22"}


def test_whom_nobody_is_called_is_told_to_be_nobody(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = two_waiters()
    assert ctl("queue", "cancel", "zz") == 2
    assert "nobody waits who is called zz" in ctl.err
    assert not daemon.asked("lease.cancel")


def test_each_is_taken_out_and_told_where_another_is_not_ours(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = two_waiters()
    daemon.answers["lease.cancel"] = [
        errors.PermissionDeniedError("it is of uid 4242424"),
        wire.Done(done=True),
    ]
    assert ctl("queue", "cancel", "aa11", "aa22") == 4
    assert ctl.out == "aa22aa22aa22aa22 taken out of the queue\n"
    assert "it is of uid 4242424" in ctl.err


def test_taking_out_is_told_to_programs(ctl: Ctl, daemon: FakeDaemon) -> None:
    whole = "aa22aa22aa22aa22"
    assert ctl.json("queue", "cancel", whole) == {"waiter": whole, "done": True}
    assert not daemon.asked("lease.list"), "a whole id is not looked up"
    assert len(ctl.json("queue", "cancel", whole, "aa11aa11aa11aa11")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aa"], "2 waiters are called aa, or begin with it: aa11aa11aa11aa11, aa22aa22aa22aa22"),
        ([""], "it is empty"),
        (["aa11", "--json"], "options go before the ids"),
        ([], "WAITER"),
    ],
)
def test_what_names_no_single_waiter_is_a_usage_error(
    ctl: Ctl, daemon: FakeDaemon, words: list[str], said: str
) -> None:
    daemon.answers["lease.list"] = two_waiters()
    assert ctl("queue", "cancel", *words) == 2
    assert said in ctl.err
    assert not daemon.asked("lease.cancel")


def test_anothers_place_is_refused(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.cancel"] = errors.PermissionDeniedError("it is of uid 4242424")
    assert ctl("queue", "cancel", "aa11aa11aa11aa11") == 4


# --- run --wait ---------------------------------------------------------------------------------


class Pushing:
    """A daemon that tells by events where our acquire stands."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.granted = threading.Event()
        self.position = 2
        daemon.answers["lease.acquire"] = self.acquire

    def acquire(self, _: dict[str, Any]) -> wire.Lease:
        self.tell("lease.queued", vram_bytes=8 << 30)
        assert self.granted.wait(20)
        return wire_samples.lease()

    def tell(self, type_: str = "lease.position", **data: Any) -> None:
        mine = self.daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
        place = {"waiter": "wa17", "position": self.position, "queue_length": 2}
        why = {"code": "queued", "reason": "it is kept"}
        for correlation_id, position in (("another", 7), (mine, self.position)):
            told = {**place, "position": position, **why, **data}
            notification = wire_samples.notification(
                type=type_, correlation_id=correlation_id, data=told
            )
            self.daemon.push("event", notification)


def run(*words: str, **streams: Any) -> subprocess.Popen[str]:
    # Nobody minds the command: what is asked of the daemon is asked by the one that waits.
    options = ["--vram", "8GiB", "--on-revoke", "ignore"]
    command = [sys.executable, "-m", "superezioctl", "run", *options, *words]
    return subprocess.Popen(command, text=True, **streams)


def test_the_place_is_told_by_events_and_not_asked_for(daemon: FakeDaemon) -> None:
    told = Pushing(daemon)
    process = run("--wait", "60s", "--", "echo", "run", stdout=-1, stderr=-1)
    assert process.stderr is not None
    place = "superezioctl run: waiting, place {} of 2 in the queue: it is kept\n"
    assert process.stderr.readline() == place.format(2)
    told.tell()
    told.position = 1
    told.tell()
    assert process.stderr.readline() == place.format(1)
    told.granted.set()
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("run\n", "", 0)
    assert daemon.params_of("events.subscribe")["types"] == ["lease.queued", "lease.position"]
    assert not daemon.asked("lease.list")
    assert daemon.connections == 1


def test_a_terminal_shows_how_long_it_has_been_and_asks_nothing(daemon: FakeDaemon) -> None:
    told = Pushing(daemon)
    ours, theirs = pty.openpty()
    process = run("--wait", "60s", "true", stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"(1s)" not in shown:
        shown += os.read(ours, 4096)
    assert b"place 2 of 2 in the queue: it is kept (" in shown
    told.granted.set()
    assert process.wait(20) == 0
    os.close(ours)
    assert not daemon.asked("lease.list")


def test_who_does_not_wait_hears_no_events(daemon: FakeDaemon) -> None:
    process = run("true")
    assert process.wait(20) == 0
    assert not daemon.asked("events.subscribe")


def test_after_a_restart_of_the_daemon_the_next_one_tells(daemon: FakeDaemon) -> None:
    told = Pushing(daemon)

    def begin(_: dict[str, Any]) -> type[HangUp]:
        told.tell("lease.queued")
        return HangUp

    daemon.answers["lease.acquire"] = [begin, told.acquire]
    process = run("--wait", "60s", "true", stderr=-1)
    assert process.stderr is not None
    assert "place 2 of 2" in process.stderr.readline()
    assert "waiting for the daemon" in process.stderr.readline()
    assert "place 2 of 2" in process.stderr.readline()
    told.granted.set()
    assert process.wait(20) == 0
    process.stderr.close()
    assert len(daemon.asked("events.subscribe")) == 2


@pytest.mark.parametrize("refusal", [errors.BusyError("too many"), None])
def test_a_place_that_nothing_tells_of_is_asked_for(
    daemon: FakeDaemon, refusal: errors.BusyError | None
) -> None:
    """No room for a subscription, or a daemon that tells only where a wait begins."""
    granted = threading.Event()
    told = Pushing(daemon)

    def acquire(_: dict[str, Any]) -> wire.Lease:
        if refusal is None:
            mine = daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
            data = {"waiter": "wa17", "position": 9}
            daemon.push(
                "event",
                wire_samples.notification(type="lease.queued", correlation_id=mine, data=data),
            )
        assert granted.wait(20)
        return wire_samples.lease()

    def queue(_: dict[str, Any]) -> wire.LeaseList:
        mine = daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
        waiter = wire_samples.waiter(position=told.position, correlation_id=mine)
        return wire.LeaseList(leases=[], queue=[waiter, waiter])

    if refusal is not None:
        daemon.answers["events.subscribe"] = refusal
    daemon.answers |= {"lease.acquire": acquire, "lease.list": queue}
    process = run("--wait", "60s", "true", stderr=-1)
    assert process.stderr is not None
    assert "place 2 of 2" in process.stderr.readline()
    told.position = 1
    assert "place 1 of 2" in process.stderr.readline()
    granted.set()
    assert process.wait(20) == 0
    process.stderr.close()


def test_a_wait_that_is_taken_out_ends_with_the_reason(daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.CancelledRequestError("taken out by uid 4242424")
    process = run("--wait", "60s", "true", stderr=-1)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (125, "superezioctl: taken out by uid 4242424\n")
