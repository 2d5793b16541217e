"""superezioctl run --on-revoke: what happens beside the command, against a fake daemon."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wire_samples
from fake_daemon import FakeDaemon
from gpu_views import FakeClock
from minders import await_minder, gone, minders, open_files, state_of, until
from superezio import errors, wire
from superezioctl.minding.family import Process
from superezioctl.minding.follower import Revocation
from superezioctl.minding.responses import Termination, kill_ns

LEASE = "1ea5e"
#: Says when a signal can be taken, and takes SIGTERM with exit code 9.
TAKES_TERM = "trap 'echo told; exit 9' TERM; echo ready; while :; do read -r line || sleep 60; done"
IGNORES_TERM = "trap 'echo told' TERM; echo ready; while :; do sleep 60 & wait; done"


def asked_back(remaining_s: float = 60.0, **changes: Any) -> dict[str, Any]:
    """Return the lease as it is while a notice stands."""
    revocation = {
        "reason": "gpu_critical",
        "message": "GPU 0 is too hot",
        "remaining_s": remaining_s,
        "answer": None,
        "answer_message": None,
    }
    lease = msgspec.to_builtins(wire_samples.lease(state="draining"))
    return {**lease, "revocation": {**revocation, **changes}}


def event(type_: str = "lease.draining", lease: str = LEASE) -> wire.EventNotification:
    return wire.EventNotification(
        subscription="s1",
        lost=0,
        event=wire.Event(
            seq=8,
            time=wire_samples.TIME,
            type=type_,
            severity="warning",
            message="",
            gpu=None,
            lease=lease,
            uid=0,
            correlation_id=None,
            data={},
        ),
    )


class Run:
    """A `superezioctl run` under a name of its own, and its minder."""

    def __init__(self, *options: str, code: str, minded: bool = True, **changes: Any) -> None:
        self.name = f"run-{uuid.uuid4().hex}"
        words = ["run", "--vram", "1GiB", "--name", self.name, *options, "--", "sh", "-c", code]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "superezioctl", *words],
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "start_new_session": True,
            }
            | changes,
        )
        assert self.line() == "ready"
        self.minder = await_minder(self.name) if minded else None

    def line(self) -> str:
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).strip()

    def said(self) -> str:
        assert self.process.stderr is not None
        return str(self.process.stderr.readline()).strip()

    def close(self) -> None:
        for pid in minders(self.name):
            os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its session: what it started, too
        self.process.communicate()

    def ended(self) -> int:
        code = self.process.wait(20)
        until(lambda: not minders(self.name))
        return code


Start = Callable[..., Run]


@pytest.fixture
def start(daemon: FakeDaemon) -> Iterator[Start]:
    """Start runs, of which nothing is left in the end, however the test ended."""
    with ExitStack() as stack:

        def begin(*options: str, **changes: Any) -> Run:
            run = Run(*options, **changes)
            stack.callback(run.close)
            return run

        yield begin
    assert daemon.asked("lease.acquire")


def notify(daemon: FakeDaemon, lease: dict[str, Any]) -> None:
    daemon.answers["lease.get"] = lease
    answered = {**lease["revocation"], "answer": "accepted"}
    daemon.answers["lease.acknowledge"] = {**lease, "revocation": answered}
    daemon.push("event", event())


def test_a_notice_is_acknowledged_and_ends_the_command(daemon: FakeDaemon, start: Start) -> None:
    run = start(code=TAKES_TERM)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.ended() == 9
    assert run.line() == "told"
    (request,) = daemon.await_asked("lease.acknowledge")
    assert request["params"] == {"lease": LEASE, "accept": True}
    assert daemon.params_of("events.subscribe")["types"][0] == "lease.draining"
    said = [run.said(), run.said()]
    assert "lost in 1m (gpu_critical: GPU 0 is too hot)" in said[0]
    assert "sent SIGTERM" in said[1]


def test_with_json_notices_are_lines_of_json(daemon: FakeDaemon, start: Start) -> None:
    run = start("--json", code=TAKES_TERM)
    assert json.loads(run.said())["lease"]["id"] == LEASE
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert "gpu_critical" in json.loads(run.said())["notice"]
    assert run.ended() == 9


def test_a_fatal_signal_is_the_commands_end_as_without_us(daemon: FakeDaemon, start: Start) -> None:
    run = start(code="echo ready; exec sleep 60")
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.ended() == -signal.SIGTERM


def test_a_notice_told_while_the_daemon_was_away_is_not_missed(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start(code=TAKES_TERM)
    daemon.await_asked("lease.get")
    daemon.stop()
    daemon.answers["lease.get"] = asked_back()
    daemon.answers["lease.acknowledge"] = asked_back(answer="accepted")
    daemon.start()
    assert run.ended() == 9
    assert daemon.await_asked("lease.acknowledge")


def test_an_event_of_another_lease_is_none_of_ours(daemon: FakeDaemon, start: Start) -> None:
    run = start(code=TAKES_TERM)
    looks = len(daemon.await_asked("lease.get"))
    daemon.push("event", event(lease="other"))
    daemon.push("event", event("lease.kept"))
    daemon.await_asked("lease.get", looks + 1)
    run.process.terminate()
    assert run.ended() == 9
    assert len(daemon.asked("lease.get")) == looks + 1


def test_a_command_that_does_not_end_is_killed_before_its_lease_is_lost(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start(code=IGNORES_TERM)
    daemon.await_asked("lease.get")
    started = time.monotonic()
    notify(daemon, asked_back(remaining_s=2.0))
    assert run.line() == "told"
    assert run.ended() == -signal.SIGKILL
    # 2 s is the deadline; a busy machine may be late, but not early.
    assert time.monotonic() - started >= 1.7
    assert run.process.stderr is not None
    assert "sent SIGKILL" in run.process.stderr.read()


@pytest.mark.parametrize(
    ("deadline_s", "grace_s", "kill_s"),
    [
        (60, None, 59),
        (2, None, 1.8),
        (60, 5, 5),
        (60, 600, 59),
        (60, math.inf, None),
        (-1, None, -1),
    ],
)
def test_when_a_command_is_killed(
    deadline_s: float, grace_s: float | None, kill_s: float | None
) -> None:
    """At the end of its grace, and at the latest so early that its VRAM is back in time."""
    told_ns = 7_000_000_000
    at_ns = kill_ns(told_ns, told_ns + round(deadline_s * 1e9), grace_s)
    assert at_ns == (None if kill_s is None else told_ns + round(kill_s * 1e9))


def test_the_grace_is_the_time_between_sigterm_and_sigkill(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start("--revoke-grace", "200ms", code=IGNORES_TERM)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back(remaining_s=600.0))
    assert run.ended() == -signal.SIGKILL


def test_without_a_daemon_what_was_begun_is_brought_to_its_end(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start("--revoke-grace", "300ms", code=IGNORES_TERM)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back(remaining_s=600.0))
    assert run.line() == "told"
    daemon.stop()
    assert run.ended() == -signal.SIGKILL


def test_a_notice_that_is_withdrawn_kills_nothing(daemon: FakeDaemon, start: Start) -> None:
    run = start("--revoke-grace", "1s", code=IGNORES_TERM)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.line() == "told"
    daemon.answers["lease.get"] = wire_samples.lease()
    daemon.push("event", event("lease.kept"))
    assert [run.said(), run.said(), run.said()][2].endswith("the lease is kept after all")
    # The next notice counts its grace anew: were the first still counted, it would come at once.
    notify(daemon, asked_back(remaining_s=30.0))
    started = time.monotonic()
    assert run.line() == "told"
    assert run.ended() == -signal.SIGKILL
    assert time.monotonic() - started >= 0.9


def test_a_notice_that_was_withdrawn_kills_nothing_later_either() -> None:
    clock = FakeClock()
    words = ["sh", "-c", "trap '' TERM; echo ready; while :; do read -r line || sleep 60; done"]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()
        termination = Termination(
            command=Process.open(process.pid),
            group=os.getpgrp(),
            grace_s=1.0,
            say=lambda _: None,
            clock=clock,
        )
        termination.heard(a_minute_from(clock))
        termination.withdrawn()
        assert termination.due_ns is None
        clock.advance(90)
        termination.turn()
        termination.heard(a_minute_from(clock))
        assert termination.due_ns is not None, "it was not killed before"
        clock.advance(2)
        termination.turn()
        assert process.wait(20) == -signal.SIGKILL


def a_minute_from(clock: FakeClock) -> Revocation:
    deadline_ns = clock() + 60_000_000_000
    return Revocation(reason="admin", message="", deadline_ns=deadline_ns, answered=True)


def test_what_a_script_leaves_running_is_ended_too(daemon: FakeDaemon, start: Start) -> None:
    run = start(code="sleep 61 & child=$!; echo ready; echo $child; wait")
    child = int(run.line())
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.process.wait(20) == -signal.SIGTERM
    until(lambda: gone(child))
    until(lambda: not minders(run.name))


def test_what_it_leaves_running_and_does_not_listen_is_killed(
    daemon: FakeDaemon, start: Start
) -> None:
    deaf = "(trap '' TERM; echo deaf >&2; while :; do sleep 1; done) & echo $!; read line; true"
    run = start("--revoke-grace", "300ms", code=f"echo ready; {deaf}")
    assert run.said() == "deaf"
    child = int(run.line())
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.process.wait(20) == -signal.SIGTERM
    until(lambda: gone(child))
    until(lambda: not minders(run.name))


#: Makes a group, in which only the child ends on SIGTERM.
GROUP = """\
import os, signal, sys
os.setpgid(0, 0)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: (print("child told", flush=True), os._exit(0)))
    print("ready", flush=True)
    signal.pause()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.wait()
sys.exit(11)
"""


def test_a_process_group_of_its_own_is_told_as_a_whole(daemon: FakeDaemon, start: Start) -> None:
    program = Path(os.environ["SUPEREZIO_SOCKET"]).parent / "group.py"
    program.write_text(GROUP)
    run = start(code=f"exec {sys.executable} {program}", start_new_session=False)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert run.line() == "child told"
    assert run.ended() == 11


def test_a_command_that_was_stopped_is_ended(daemon: FakeDaemon, start: Start) -> None:
    run = start(code=TAKES_TERM)
    daemon.await_asked("lease.get")
    run.process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(run.process.pid) == "T")
    notify(daemon, asked_back())
    assert run.ended() == 9


SHOW = (
    "exec=echo $SUPEREZIO_LEASE $SUPEREZIO_PID $SUPEREZIO_REVOKE_REASON"
    " $SUPEREZIO_REVOKE_DEADLINE_S $CUDA_VISIBLE_DEVICES; kill -USR1 $SUPEREZIO_PID"
)


def test_a_command_of_the_users_is_run_at_a_notice(daemon: FakeDaemon, start: Start) -> None:
    run = start(
        "--on-revoke", SHOW, code="trap 'exit 5' USR1; echo ready; while :; do read -r line; done"
    )
    daemon.await_asked("lease.get")
    notify(daemon, asked_back(remaining_s=30.0))
    assert run.process.wait(20) == 5
    assert "gpu_critical" in run.said()
    lease, pid, reason, seconds, gpus = run.said().split()
    assert (lease, int(pid), reason) == (LEASE, run.process.pid, "gpu_critical")
    assert 0 < float(seconds) <= 30
    assert gpus == wire_samples.UUID_3060
    assert daemon.await_asked("lease.acknowledge")
    assert run.ended() == 5


def test_it_is_run_once_for_a_notice_and_its_failure_is_said(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start("--on-revoke=exec=echo once >&2; exit 3", code=TAKES_TERM)
    daemon.await_asked("lease.get")
    notify(daemon, asked_back())
    assert "gpu_critical" in run.said()
    assert run.said() == "once"
    assert run.said().endswith("the command of --on-revoke failed with exit code 3")
    looks = len(daemon.asked("lease.get"))
    notify(daemon, asked_back(answer="accepted"))
    daemon.await_asked("lease.get", looks + 1)
    run.process.terminate()
    assert run.ended() == 9
    assert run.process.stderr is not None
    assert not run.process.stderr.read()


def test_ignore_leaves_nothing_beside_the_command(daemon: FakeDaemon, start: Start) -> None:
    run = start("--on-revoke=ignore", code=TAKES_TERM, minded=False)
    assert not minders(run.name)
    assert not daemon.asked("events.subscribe")
    run.process.terminate()
    assert run.process.wait(20) == 9


def test_the_command_goes_on_without_its_minder(daemon: FakeDaemon, start: Start) -> None:
    run = start(code="echo ready; read line; echo $line; exit 3")
    assert run.minder is not None
    os.kill(run.minder, signal.SIGKILL)
    until(lambda: not minders(run.name))
    out, _ = run.process.communicate("still here\n", timeout=20)
    assert (out, run.process.returncode) == ("still here\n", 3)
    assert daemon.requests


def test_a_daemon_that_is_gone_for_good_is_waited_for_no_longer_than_the_command(
    daemon: FakeDaemon, start: Start
) -> None:
    run = start(code="echo ready; read line; exit 3")
    daemon.stop()
    run.process.communicate("\n", timeout=20)
    assert run.ended() == 3


def test_a_minder_ends_with_the_lease(daemon: FakeDaemon, start: Start) -> None:
    run = start(code=TAKES_TERM)
    daemon.await_asked("lease.get")
    daemon.answers["lease.get"] = errors.StaleLeaseError("gone")
    daemon.push("event", event("lease.released"))
    until(lambda: not minders(run.name))
    assert run.process.poll() is None
    run.process.terminate()
    assert run.process.wait(20) == 9


def test_the_minder_is_no_child_of_the_command_and_not_on_its_terminal(
    daemon: FakeDaemon, start: Start
) -> None:
    code = (
        "import os\n"
        "print('ready', flush=True)\n"
        "try:\n    os.wait()\n"
        "except ChildProcessError:\n    print('no child', flush=True)\n"
        "input()\n"
    )
    program = Path(os.environ["SUPEREZIO_SOCKET"]).parent / "children.py"
    program.write_text(code)
    run = start(code=f"exec {sys.executable} {program}")
    assert run.line() == "no child"
    assert run.minder is not None
    assert os.getsid(run.minder) != os.getsid(run.process.pid)
    run.process.communicate("\n", timeout=20)
    assert run.ended() == 0
    assert daemon.requests


def test_the_minder_holds_no_file_of_the_commands(daemon: FakeDaemon, start: Start) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb"):
        run = start(code="exec 8>&-; echo ready; read line", pass_fds=[theirs])
        assert run.minder is not None
        files = open_files(run.minder)
    assert {files[0], files[1]} == {"/dev/null"}
    kinds = sorted(target.partition(":")[0] for fd, target in files.items() if fd > 2)
    assert kinds in (["anon_inode", "socket"], ["pidfd", "socket"])
    os.close(ours)
    run.process.communicate("\n", timeout=20)
    assert run.ended() == 0
    assert daemon.requests


def test_a_closed_standard_error_is_nothing_to_write_notices_to(daemon: FakeDaemon) -> None:
    name = f"run-{uuid.uuid4().hex}"
    words = f"-m superezioctl run --vram 1GiB --name {name} -- sh -c"
    shell = f"exec {sys.executable} {words} 'echo ready; exec sleep 60' 0<&- 2>&-"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True) as process:
        minder = await_minder(name)
        assert [open_files(minder)[fd] for fd in (0, 1, 2)] == ["/dev/null"] * 3
        daemon.await_asked("lease.get")
        notify(daemon, asked_back())
        assert process.wait(20) == -signal.SIGTERM
    until(lambda: not minders(name))
    # Nothing but requests was written to the daemon.
    assert {request["jsonrpc"] for request in daemon.requests} == {"2.0"}


@pytest.mark.parametrize(
    "words",
    [["--on-revoke=kill"], ["--on-revoke=exec="], ["--on-revoke=ignore", "--revoke-grace=1s"]],
)
def test_what_cannot_be_meant_is_refused(daemon: FakeDaemon, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "run", "--vram=1GiB", *words, "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert "--on-revoke" in done.stderr
    assert not daemon.requests
