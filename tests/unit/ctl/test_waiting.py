"""An acquire that waits: for its turn, told on standard error, and for a daemon that is down."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon
from superezio import errors, wire

RUN = ("run", "--vram", "8GiB", "--on-revoke", "ignore")
ACQUIRE = ("lease", "acquire", "--vram", "8GiB", "--pid", "77")


def start(*words: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "superezioctl", *options, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def next_word(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


class Place:
    """A daemon that tells by an event where our acquire stands, and grants when it is told to."""

    def __init__(self, daemon: FakeDaemon, **data: Any) -> None:
        self._daemon = daemon
        self._data = data
        self.granted = threading.Event()
        daemon.answers["lease.acquire"] = self._acquire

    def _acquire(self, _: dict[str, Any]) -> wire.Lease:
        mine = self._daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
        place = {"waiter": "wa17", "position": 1, "queue_length": 3, "code": "queued"}
        told = {**place, "reason": "all is full", **self._data}
        notification = wire_samples.notification(
            type="lease.queued", correlation_id=mine, data=told
        )
        self._daemon.push("event", notification)
        assert self.granted.wait(20)
        return wire_samples.lease()


# --- lease acquire --wait -----------------------------------------------------------------------


def test_a_lease_that_is_waited_for_has_its_place_told(daemon: FakeDaemon) -> None:
    place = Place(daemon)
    process = start(*ACQUIRE, "--wait", "60s")
    told = "superezioctl lease acquire: waiting, place 1 of 3 in the queue: all is full\n"
    assert next_word(process) == told
    place.granted.set()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("lease ")
    assert daemon.params_of("events.subscribe")["types"] == ["lease.queued", "lease.position"]


def test_programs_get_the_lease_alone_on_standard_output(daemon: FakeDaemon) -> None:
    place = Place(daemon)
    process = start(*ACQUIRE, "--wait", "60s", options=("--json",))
    assert "place 1 of 3" in json.loads(next_word(process))["waiting"]
    place.granted.set()
    out, err = process.communicate(timeout=20)
    assert (json.loads(out)["id"], err) == ("1ea5e", "")


def test_who_does_not_wait_is_told_nothing_on_the_way(daemon: FakeDaemon) -> None:
    process = start(*ACQUIRE)
    assert process.communicate(timeout=20)[1] == ""
    assert not daemon.asked("events.subscribe")
    assert daemon.params_of("lease.acquire")["wait_ms"] == 0


# --- a wait that the daemon makes shorter -------------------------------------------------------


def test_a_wait_beyond_the_daemons_maximum_is_said_to_be_shorter(daemon: FakeDaemon) -> None:
    place = Place(daemon, wait_ms=86_400_000)
    process = start(*ACQUIRE, "--wait", "9d")
    assert next_word(process) == (
        "superezioctl lease acquire: it waits 1d at most, and not 9d: that is the daemon's maximum "
        "(leases.wait_maximum)\n"
    )
    assert "place 1 of 3" in next_word(process)
    place.granted.set()
    assert process.communicate(timeout=20)[1] == ""


def test_a_wait_that_the_daemon_takes_as_it_is_is_not_commented_on(daemon: FakeDaemon) -> None:
    place = Place(daemon, wait_ms=59_990)
    process = start(*ACQUIRE, "--wait", "60s")
    assert "place 1 of 3" in next_word(process)
    place.granted.set()
    assert process.communicate(timeout=20)[1] == ""


def test_an_older_daemon_tells_its_maximum_by_the_queue(daemon: FakeDaemon) -> None:
    granted = threading.Event()

    def queue(_: dict[str, Any]) -> wire.LeaseList:
        mine = daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
        waiter = wire_samples.waiter(correlation_id=mine, waited_s=10.0, remaining_s=3590.0)
        return wire.LeaseList(leases=[], queue=[waiter])

    def grant(_: dict[str, Any]) -> wire.Lease:
        assert granted.wait(20)
        return wire_samples.lease()

    daemon.answers |= {"lease.acquire": grant, "lease.list": queue}
    process = start(*RUN, "--wait", "2h", "true")
    assert "superezioctl run: it waits 1h at most, and not 2h" in next_word(process)
    granted.set()
    process.communicate(timeout=20)


# --- a daemon that does not run -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"), [((*RUN, "--wait", "60s", "true"), 0), ((*ACQUIRE, "--wait", "60s"), 0)]
)
def test_who_waits_waits_for_a_daemon_that_is_down_and_says_so_once(
    daemon: FakeDaemon, words: tuple[str, ...], code: int
) -> None:
    daemon.stop()
    process = start(*words)
    assert next_word(process).endswith(f": no daemon on {daemon.path}, waiting for one\n")
    daemon.start()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (code, "")
    # The time that went by is not waited for a second time.
    assert daemon.params_of("lease.acquire")["wait_ms"] < 60_000


@pytest.mark.parametrize(("words", "code"), [((*RUN, "--wait", "300ms", "true"), 125),
                                             ((*ACQUIRE, "--wait", "300ms"), 5)])  # fmt: skip
def test_the_wait_for_a_daemon_ends_with_the_wait(
    daemon: FakeDaemon, words: tuple[str, ...], code: int
) -> None:
    """Not with the time limit of an answer on top: nobody was asked."""
    daemon.stop()
    process = start(*words, options=("--timeout", "1h"))
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.count("waiting for one") == 1
    assert "is not running" in err


@pytest.mark.parametrize(("words", "code"), [((*RUN, "true"), 125), (ACQUIRE, 5)])
def test_who_does_not_wait_is_told_at_once_that_there_is_no_daemon(
    daemon: FakeDaemon, words: tuple[str, ...], code: int
) -> None:
    daemon.stop()
    process = start(*words)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "is not running" in err
    assert "waiting for one" not in err


def test_a_daemon_that_goes_away_and_stays_away_for_a_while_is_asked_again(
    daemon: FakeDaemon,
) -> None:
    place = Place(daemon)
    process = start(*ACQUIRE, "--wait", "60s")
    assert "place 1 of 3" in next_word(process)
    daemon.stop()
    assert "waiting for" in next_word(process)
    daemon.answers["lease.acquire"] = wire_samples.lease()
    daemon.start()
    process.communicate(timeout=20)
    place.granted.set()
    assert process.returncode == 0
    keys = {request["meta"]["idempotency_key"] for request in daemon.asked("lease.acquire")}
    assert len(keys) == 1


def test_a_refusal_while_waiting_has_its_exit_code(daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.WaitTimeoutError("no GPU admitted it")
    process = start(*ACQUIRE, "--wait", "1s")
    assert "no GPU admitted it" in process.communicate(timeout=20)[1]
    assert process.returncode == 4
