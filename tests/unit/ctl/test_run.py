from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon, HangUp
from superezio import errors, wire
from superezio.holder import start_time

SHOW = "echo $CUDA_VISIBLE_DEVICES $SUPEREZIO_LEASE"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "superezioctl", *words]


def run(*words: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=30, check=False, **changes
    )


def test_the_command_sees_its_gpus_and_keeps_its_exit_code(daemon: FakeDaemon) -> None:
    done = run("run", "--vram", "8GiB", "--name", "x", "--", "sh", "-c", f"{SHOW}; exit 7")
    assert done.returncode == 7
    assert done.stdout == f"{wire_samples.UUID_3060} 1ea5e\n"
    assert not done.stderr
    params = daemon.params_of("lease.acquire")
    assert (params["vram_bytes"], params["name"], params["wait_ms"]) == (8 << 30, "x", 0)
    assert not daemon.asked("lease.release")


def test_the_holder_is_the_command_itself(daemon: FakeDaemon) -> None:
    process = subprocess.Popen(
        command("run", "--vram", "1GiB", "sh", "-c", "echo $$; read line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    assert daemon.params_of("lease.acquire").get("holder_pid") is None
    process.communicate("", timeout=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_reach_the_command(daemon: FakeDaemon, number: signal.Signals) -> None:
    process = subprocess.Popen(
        command("run", "--vram", "1GiB", "sh", "-c", "echo ready; read line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == -number
    assert daemon.requests


def test_a_restart_of_the_daemon_does_not_concern_the_command(daemon: FakeDaemon) -> None:
    process = subprocess.Popen(
        command("run", "--vram", "1GiB", "sh", "-c", "echo ready; read line; echo $line; exit 3"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    daemon.stop()
    rest, _ = process.communicate("still here\n", timeout=10)
    assert rest == "still here\n"
    assert process.returncode == 3


def test_the_command_starts_as_without_us(daemon: FakeDaemon) -> None:
    code = (
        "import os, re; status = open('/proc/self/status').read(); "
        "print(re.search(r'SigIgn:\\s*(\\w+)', status)[1], "
        "sorted(os.listdir('/proc/self/fd')), os.environ.get('LC_CTYPE'))"
    )
    bare = {"PATH": os.environ["PATH"], "SUPEREZIO_SOCKET": str(daemon.path)}
    inner = ["env", "--", sys.executable, "-c", code]
    alone = subprocess.run(inner, capture_output=True, text=True, env=bare, check=True).stdout
    done = run("run", "--vram", "1GiB", "--", *inner, env=bare)
    assert done.stdout == alone


@pytest.mark.parametrize(
    ("words", "code"),
    [(["/nonexistent/x"], 127), (["no-such-command"], 127), (["/etc/passwd"], 126), (["/"], 126)],
)
def test_a_command_that_cannot_be_run_gives_the_lease_back(
    daemon: FakeDaemon, words: list[str], code: int
) -> None:
    done = run("run", "--vram", "1GiB", "--", *words)
    assert done.returncode == code
    assert f"cannot run {words[0]}" in done.stderr
    assert daemon.params_of("lease.release") == {"lease": "1ea5e"}


def test_a_refusal_is_a_failure_of_our_own(daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.NoCapacityError("no GPU has 8 GiB")
    done = run("run", "--vram", "8GiB", "true")
    assert done.returncode == 125
    assert "no GPU has 8 GiB" in done.stderr
    done = run("--json", "run", "--vram", "8GiB", "true")
    assert done.returncode == 125
    assert json.loads(done.stdout)["error"]["kind"] == "no_capacity"


def test_no_daemon_is_a_failure_of_our_own() -> None:
    done = run("--socket", "/nonexistent/x.sock", "run", "--vram", "8GiB", "true")
    assert done.returncode == 125
    assert "is not running" in done.stderr


def test_with_json_the_lease_is_told_on_standard_error(daemon: FakeDaemon) -> None:
    done = run("--json", "run", "--vram", "8GiB", "echo", "mine")
    assert done.stdout == "mine\n"
    assert json.loads(done.stderr)["lease"]["id"] == "1ea5e"
    assert daemon.requests


class Queue:
    """A fake queue: our acquire waits until `grant`, and its place is told by correlation id."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self.granted = threading.Event()
        self.position = 2
        daemon.answers["lease.acquire"] = self._acquire
        daemon.answers["lease.list"] = self._list

    def _acquire(self, _: dict[str, Any]) -> wire.Lease:
        assert self.granted.wait(20)
        return wire_samples.lease()

    def _list(self, _: dict[str, Any]) -> wire.LeaseList:
        mine = self._daemon.asked("lease.acquire")[-1]["meta"]["correlation_id"]
        others = [wire_samples.waiter(correlation_id=None)] * (self.position - 1)
        me = wire_samples.waiter(position=self.position, correlation_id=mine, reason="all is full")
        return wire.LeaseList(leases=[], queue=[*others, me])


def test_the_place_in_the_queue_is_told_once_per_change(daemon: FakeDaemon) -> None:
    queue = Queue(daemon)
    process = subprocess.Popen(
        command("run", "--vram", "8GiB", "--wait", "60s", "--", "echo", "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first == "superezioctl run: waiting, place 2 of 2 in the queue: all is full\n"
    daemon.await_asked("lease.list", 3)
    queue.position = 1
    assert "place 1 of 1" in process.stderr.readline()
    queue.granted.set()
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("run\n", "", 0)


def test_on_a_terminal_the_place_is_one_line_that_goes_away(daemon: FakeDaemon) -> None:
    queue = Queue(daemon)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("run", "--vram", "8GiB", "--wait", "60s", "true"), stderr=theirs
    )
    os.close(theirs)
    daemon.await_asked("lease.list", 2)
    queue.granted.set()
    assert process.wait(20) == 0
    printed = read_all(ours)
    assert "\r\x1b[Ksuperezioctl run: waiting, place 2 of 2" in printed
    assert printed.endswith("\r\x1b[K")


def read_all(terminal: int) -> str:
    """Return what was printed to a pseudo-terminal that nobody prints to any more."""
    printed = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # EIO is how it says that nobody is left
            chunk = b""
        if not chunk:
            os.close(terminal)
            return printed.decode()
        printed += chunk


def test_an_interrupt_gives_the_place_up(daemon: FakeDaemon) -> None:
    queue = Queue(daemon)
    process = subprocess.Popen(
        command("--json", "run", "--vram", "8GiB", "--wait", "60s", "echo", "never"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "place 2 of 2" in json.loads(process.stderr.readline())["waiting"]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    queue.granted.set()
    assert process.returncode == -signal.SIGINT, "so that Ctrl-C ends a loop of a shell"
    assert not out


def test_a_restart_of_the_daemon_while_waiting_asks_again_under_the_same_key(
    daemon: FakeDaemon,
) -> None:
    daemon.answers["lease.acquire"] = [
        HangUp,
        errors.ShuttingDownError("stopping"),
        wire_samples.lease(),
    ]
    done = run("run", "--vram", "8GiB", "--wait", "60s", "echo", "run")
    assert done.stdout == "run\n"
    assert "waiting for the daemon" in done.stderr
    requests = daemon.asked("lease.acquire")
    assert len(requests) == 3
    assert len({request["meta"]["idempotency_key"] for request in requests}) == 1


def test_a_queue_that_may_not_be_seen_is_waited_in_all_the_same(daemon: FakeDaemon) -> None:
    queue = Queue(daemon)
    daemon.answers["lease.list"] = errors.PermissionDeniedError("no")
    process = subprocess.Popen(
        command("run", "--vram", "8GiB", "--wait", "60s", "true"),
        stderr=subprocess.PIPE,
        text=True,
    )
    daemon.await_asked("lease.list", 2)
    queue.granted.set()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_a_daemon_that_never_answers_is_given_up(daemon: FakeDaemon) -> None:
    queue = Queue(daemon)
    done = run("--timeout", "100ms", "run", "--vram", "8GiB", "--wait", "50ms", "true")
    queue.granted.set()
    assert done.returncode == 125
    assert "did not answer" in done.stderr


def test_a_holder_that_the_daemon_is_not_sure_of_vouches_for_itself(daemon: FakeDaemon) -> None:
    def unsure(_: dict[str, Any]) -> wire.Lease:
        pid = holder[0]
        started = start_time(pid)
        assert started is not None
        process = wire.HolderProcess(pid=pid, start_time=started, command=None)
        return wire_samples.lease(holder_confirmed=False, holder=[process])

    holder: list[int] = []
    known = threading.Event()
    daemon.answers["lease.acquire"] = lambda params: (known.wait(10), unsure(params))[1]
    process = subprocess.Popen(command("run", "--vram", "1GiB", "true"))
    holder.append(process.pid)
    known.set()
    assert process.wait(20) == 0
    assert daemon.params_of("lease.attach")["pid"] == process.pid


def test_a_lease_bound_to_somebody_else_is_given_back(daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=False)
    done = run("run", "--vram", "1GiB", "true")
    assert done.returncode == 125
    assert "another process" in done.stderr
    assert daemon.asked("lease.release")
