from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon, HangUp, Silence
from superezio import errors
from superezioctl import exit_codes
from superezioctl.arguments import COMMON, Reader
from superezioctl.catalogue import CATALOGUE
from superezioctl.command_line import load
from supereziod.overheat.record import Stopped, StoppedRecord


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_command_has_help_with_examples_on_eighty_columns(ctl: Ctl, name: str) -> None:
    assert ctl(*name.split(), "--help") == 0
    assert ctl.out.startswith(f"usage: superezioctl {name}")
    assert CATALOGUE[name][1] in ctl.out
    examples = ctl.out.split("examples:\n")[1].splitlines()
    assert any(f"superezioctl {name}" in e or f"--json {name}" in e for e in examples)
    assert examples
    prose = ctl.out.split("examples:")[0].splitlines()[2:]
    assert max(map(len, prose)) <= 80
    for option in load(name).options:
        assert option.name in ctl.out


#: A call in a line of a shell, up to what the shell does with it.
_CALL = re.compile(r"superezioctl ((?:'[^']*'|\"[^\"]*\"|[^|;&)>])*)")


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_example_can_be_typed(name: str) -> None:
    """The command that it is of is called with options and words that there are."""
    called = []
    for example in load(name).examples:
        for call in _CALL.findall(example.replace("$$", "4711").replace("alice", "root")):
            words = Reader(COMMON).read_leading(shlex.split(call))
            found = next(n for n in (" ".join(words[:2]), words[0]) if n in CATALOGUE)
            command = load(found)
            reader = Reader((*command.options, *COMMON))
            reader.read_all(words[len(found.split()) :], command.positionals)
            called.append(found)
    assert name in called


def test_help_says_what_may_be_left_out_and_no_default_of_nothing(ctl: Ctl) -> None:
    assert ctl("trace", "--help") == 0
    assert "  --ring [FILE] " in ctl.out
    assert ctl("gpu", "cordon", "--help") == 0
    assert "(default: )" not in ctl.out


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_help_of_all_names_every_command_and_exit_code(ctl: Ctl, words: list[str]) -> None:
    assert ctl(*words) == 0
    for name, (_, summary) in CATALOGUE.items():
        assert name in ctl.out
        assert summary.split()[0] in ctl.out
    assert "124 timed out" in ctl.out


def test_nothing_at_all_is_a_usage_error_with_the_help(ctl: Ctl) -> None:
    assert ctl() == 2
    assert not ctl.out
    assert "usage: superezioctl" in ctl.err


def test_a_family_alone_lists_its_commands(ctl: Ctl) -> None:
    assert ctl("gpu") == 2
    assert "gpu cordon" in ctl.err
    assert ctl("gpu", "--help") == 0
    assert "gpu cordon" in ctl.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gpus"], "did you mean gpu"),
        (["gpu", "lst"], "did you mean gpu list"),
        (["status", "now"], "unexpected argument 'now'"),
        (["gpu", "show"], "GPU is missing"),
        (["--timeout", "soon", "status"], "--timeout"),
        (["explain", "--vram", "1GiB", "--policy", "best"], "best_fit, spread, exclusive"),
        (["logs", "--gpu", "0", "--lease", "x"], "choose one"),
        (
            ["lease", "acquire", "--vram", "1GiB", "--pid", "4", "--pid", "5"],
            "--pid is given twice, and takes one value: `superezioctl lease attach`",
        ),
        (["rpc"], "METHOD is missing"),
        (["rpc", "x", "[1]"], "JSON object"),
        (["rpc", "x", "{"], "not JSON"),
    ],
)
def test_mistakes_are_told_with_where_to_look(ctl: Ctl, words: list[str], message: str) -> None:
    assert ctl(*words) == 2
    assert not ctl.out
    assert message in ctl.err
    assert "--help`" in ctl.err
    assert ctl("--json", *words) == 2
    assert json.loads(ctl.out)["error"]["kind"] == "usage"


def test_run_keeps_its_own_code_for_its_own_mistakes(ctl: Ctl) -> None:
    assert ctl("run", "--vram", "8GiB") == 125
    assert "COMMAND is missing" in ctl.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PermissionDeniedError("join superezio"), 4),
        (errors.BusyError("too many"), 4),
        (errors.NeverFitsError("too big"), 4),
        (errors.InvalidParamsError("gpu: no"), 2),
        (errors.NotFoundError("no gpu 7"), 1),
        (errors.InternalError("broken"), 1),
        (errors.DeadlineExceededError("late"), 124),
    ],
)
def test_what_the_daemon_refuses_is_said_and_has_its_exit_code(
    ctl: Ctl, daemon: FakeDaemon, error: errors.SuperezioError, code: int
) -> None:
    daemon.answers["gpu.list"] = error
    assert ctl("gpu", "list") == code
    assert not ctl.out
    assert error.message in ctl.err
    assert ctl("--json", "gpu", "list") == code
    assert ctl.out.count("\n") == 1
    document = json.loads(ctl.out)["error"]
    assert (document["kind"], document["message"]) == (error.kind, error.message)
    assert document["correlation_id"] == "c0ffee"


def test_a_refusal_shows_the_reason_of_every_gpu_and_when_to_come_back(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    gpus = [
        {"index": 1, "name": "RTX 2060", "message": "it is hot"},
        {"index": 0, "mig_index": 2, "name": "H100 MIG 1g.10gb", "message": "it is cordoned"},
    ]
    daemon.answers["placement.explain"] = errors.NoCapacityError(
        "no GPU has 8 GiB", retry_after_ms=3000, data={"placement": {"gpus": gpus}}
    )
    assert ctl("explain", "--vram", "8GiB") == 4
    assert "GPU 1 (RTX 2060): it is hot" in ctl.err
    assert "GPU 0:2 (H100 MIG 1g.10gb): it is cordoned" in ctl.err
    assert "in 3s" in ctl.err


def test_a_quota_is_a_refusal(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.QuotaExceededError(
        "cannot lease: the quota of uid 4242424"
    )
    assert ctl("lease", "acquire", "--vram", "8GiB", "--ttl", "1m") == 4
    assert "superezioctl: cannot lease: the quota of uid 4242424" in ctl.err


def test_a_fault_in_the_daemon_says_where_its_log_is(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = errors.InternalError("broken")
    ctl("gpu", "list")
    assert "superezioctl logs --correlation-id c0ffee" in ctl.err


@pytest.mark.usefixtures("no_journal")
def test_that_there_is_no_daemon_is_said_at_once_with_what_to_type(
    ctl: Ctl, tmp_path: Path
) -> None:
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "is not running" in ctl.err
    assert "systemctl start superezio" in ctl.err
    assert "`supereziod`" in ctl.err
    assert ctl("--json", "--socket", str(tmp_path / "no.sock"), "status") == 5
    assert json.loads(ctl.out)["error"]["kind"] == "daemon_not_running"


@pytest.mark.usefixtures("no_journal")
@pytest.mark.parametrize(
    "words", ["status", "run --vram 1GiB true", "doctor", "events", "completion gpus", "logs"]
)
def test_a_socket_that_is_named_is_not_made_nor_its_directories(
    ctl: Ctl, tmp_path: Path, words: str
) -> None:
    ctl("--socket", str(tmp_path / "a/b/no.sock"), *words.split())
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("no_journal")
def test_a_daemon_that_hangs_is_a_timeout(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["health.get"] = Silence
    assert ctl("--timeout", "50ms", "health") == 124
    assert "did not answer within 50ms" in ctl.err


def test_what_the_unit_is_doing_is_told(ctl: Ctl, daemon: FakeDaemon, no_journal: Path) -> None:
    script(
        no_journal / "systemctl",
        "echo LoadState=loaded; echo ActiveState=activating; echo SubState=start; "
        "echo 'StatusText=waiting for the driver'; echo Result=watchdog",
    )
    daemon.answers["health.get"] = Silence
    assert ctl("--timeout", "50ms", "health") == 124
    assert "superezio.service is activating (start), result watchdog" in ctl.err
    assert "waiting for the driver" in ctl.err


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("ActiveState=active SubState=running MainPID=7", "is active (running): "),
        ("ActiveState=activating SubState=start MainPID=7", "is activating (start): "),
        ("ActiveState=failed SubState=failed MainPID=0", "is failed (failed); before it ended it "),
        (
            "ActiveState=activating SubState=auto-restart MainPID=0",
            "is activating (auto-restart); before it ended it had said: ",
        ),
        ("ActiveState=inactive SubState=dead MainPID=0", "is inactive (dead)\n"),
    ],
)
def test_what_a_daemon_that_is_gone_had_said_is_not_told_as_if_it_were_so_now(
    ctl: Ctl, tmp_path: Path, no_journal: Path, state: str, told: str
) -> None:
    printed = f"printf '%s\\n' LoadState=loaded {state} 'StatusText=healthy; 2 GPUs, 3 leases'"
    script(no_journal / "systemctl", printed)
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert f"systemd says: superezio.service {told}" in ctl.err
    gone = "MainPID=0" in state
    assert ("healthy; 2 GPUs, 3 leases" in ctl.err) == ("inactive" not in state)
    ctl("--json", "--socket", str(tmp_path / "no.sock"), "status")
    told_of = json.loads(ctl.out)["error"]["systemd"]
    said = "healthy; 2 GPUs, 3 leases"
    assert (told_of["status"], told_of["last_status"]) == ((None, said) if gone else (said, None))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo LoadState=loaded; echo ActiveState=failed; echo Result=exit-code", "reset-failed"),
        (
            "printf '%s\\n' LoadState=loaded ActiveState=failed Result=exit-code ExecMainStatus=78",
            "configuration is bad: `superezioctl config check` says where",
        ),
        (
            "echo LoadState=loaded; echo ActiveState=inactive; echo SubState=dead",
            "systemctl start superezio`, or run",
        ),
        ("echo LoadState=not-found", "this host has no superezio.service"),
        ("exit 1", "systemctl start superezio`, or run"),
        ("exec /bin/sleep 9", "systemctl start superezio`, or run"),
    ],
)
def test_a_unit_that_failed_or_is_not_there(
    ctl: Ctl,
    tmp_path: Path,
    no_journal: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    said: str,
) -> None:
    monkeypatch.setattr("superezioctl.unit._PATIENCE_S", 0.2)
    script(no_journal / "systemctl", body)
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert said in ctl.err
    assert ("systemd says" in ctl.err) == ("LoadState=loaded" in body)


def test_a_daemon_that_runs_and_has_lost_its_socket_is_not_said_to_be_down(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the file of the socket was removed: to start what runs does nothing."""
    path = str(tmp_path / "no.sock")
    monkeypatch.setattr("superezioctl.unit.SYSTEM_SOCKET", path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script(
        no_journal / "systemctl",
        "printf '%s\\n' LoadState=loaded ActiveState=active SubState=running MainPID=7",
    )
    assert ctl("--socket", path, "status") == 5
    assert f"the daemon runs, and cannot be reached at {path} (No such file" in ctl.err
    assert "`sudo systemctl restart superezio.socket superezio.service`" in ctl.err
    assert "is not running" not in ctl.err
    assert "systemctl start" not in ctl.err


def test_a_unit_that_runs_is_none_to_start_for_a_socket_that_somebody_named(
    ctl: Ctl, tmp_path: Path, no_journal: Path
) -> None:
    script(
        no_journal / "systemctl",
        "printf '%s\\n' LoadState=loaded ActiveState=active SubState=running MainPID=7",
    )
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "superezio.service runs, and is reached at /run/superezio/control.sock" in ctl.err
    assert "systemctl" not in ctl.err


_BAD_WHILE_OVERHEATED = (
    "echo LoadState=loaded; case $2 in superezio.service) echo ActiveState=failed;"
    " echo Result=exit-code; echo ExecMainStatus=78 ;;"
    " *) echo ActiveState=active; echo 'StatusText=its words' ;; esac"
)


def on_record(file: Path, stage: Literal["stopped", "starting"]) -> None:
    stopped = Stopped(boot_id="b", since_ns=1, gpus=("GPU-1",), stage=stage)
    StoppedRecord(file.parent, boot_id="b").save(stopped)
    assert file.exists()


def test_a_daemon_that_stands_still_until_it_is_cool_is_said_to(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superezioctl.unit.STOPPED", str(tmp_path / "stopped.json"))
    script(
        no_journal / "systemctl",
        "echo LoadState=loaded; case $2 in superezio.service) echo ActiveState=failed ;;"
        " *) echo ActiveState=active; echo 'StatusText=GPU 0 reads CRITICAL at 95 C' ;; esac",
    )
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "reset-failed" in ctl.err, "the other unit only looks yet"
    on_record(tmp_path / "stopped.json", "stopped")
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "once the GPUs are cool: GPU 0 reads CRITICAL at 95 C" in ctl.err
    assert "systemctl start" not in ctl.err
    assert "configuration" not in ctl.err


def test_a_bad_configuration_is_told_of_a_daemon_that_stands_still_too(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is started once it is cool, and fails."""
    monkeypatch.setattr("superezioctl.unit.STOPPED", str(tmp_path / "stopped.json"))
    script(no_journal / "systemctl", _BAD_WHILE_OVERHEATED)
    on_record(tmp_path / "stopped.json", "stopped")
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "once the GPUs are cool" in ctl.err
    assert "configuration is bad: `superezioctl config check` says where" in ctl.err


@pytest.mark.parametrize("why", ["Result=start-limit-hit", "Result=exit-code"])
def test_a_daemon_that_fails_once_it_was_started_again_does_not_stand_still_for_heat(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """While the models are still to be started nobody starts the daemon a second time."""
    monkeypatch.setattr("superezioctl.unit.STOPPED", str(tmp_path / "stopped.json"))
    script(no_journal / "systemctl", _BAD_WHILE_OVERHEATED.replace("Result=exit-code", why))
    on_record(tmp_path / "stopped.json", "starting")
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "once the GPUs are cool" not in ctl.err
    assert "reset-failed superezio.socket superezio.service" in ctl.err
    assert ("configuration is bad: `superezioctl" in ctl.err) == (why == "Result=exit-code")
    assert "superezio-overheat.service is starting what it had stopped: its words" in ctl.err
    ctl("--json", "--socket", str(tmp_path / "no.sock"), "status")
    assert json.loads(ctl.out)["error"]["systemd"]["overheat"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stage": 1}'])
def test_a_record_that_is_none_says_nothing(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("superezioctl.unit.STOPPED", str(tmp_path / "stopped.json"))
    script(no_journal / "systemctl", _BAD_WHILE_OVERHEATED)
    (tmp_path / "stopped.json").write_text(text)
    assert ctl("--socket", str(tmp_path / "no.sock"), "status") == 5
    assert "reset-failed" in ctl.err
    assert "superezio-overheat" not in ctl.err


@pytest.mark.parametrize("hot", [False, True])
def test_programs_are_told_what_the_unit_is_doing_too(
    ctl: Ctl, tmp_path: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch, *, hot: bool
) -> None:
    monkeypatch.setattr("superezioctl.unit.STOPPED", str(tmp_path / "stopped.json"))
    script(
        no_journal / "systemctl",
        "echo LoadState=loaded; case $2 in superezio.service) echo ActiveState=failed;"
        " echo SubState=failed; echo Result=watchdog; echo StatusText= ;;"
        " *) echo ActiveState=active; echo 'StatusText=GPU 0 reads CRITICAL at 95 C' ;; esac",
    )
    if hot:
        on_record(tmp_path / "stopped.json", "stopped")
    assert ctl("--json", "--socket", str(tmp_path / "no.sock"), "status") == 5
    error = json.loads(ctl.out)["error"]
    overheat = {"unit": "superezio-overheat.service", "status": "GPU 0 reads CRITICAL at 95 C"}
    assert (error["kind"], error["systemd"]) == (
        "daemon_not_running",
        {
            "unit": "superezio.service",
            "active_state": "failed",
            "sub_state": "failed",
            "result": "watchdog",
            "status": None,
            "last_status": None,
            "overheat": overheat if hot else None,
        },
    )


def test_programs_are_told_nothing_of_a_unit_that_is_not_there(
    ctl: Ctl, tmp_path: Path, no_journal: Path
) -> None:
    script(no_journal / "systemctl", "echo LoadState=not-found")
    assert ctl("--json", "--socket", str(tmp_path / "no.sock"), "status") == 5
    assert json.loads(ctl.out)["error"]["systemd"] is None


def test_a_daemon_that_restarts_in_mid_call_is_asked_again(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = [HangUp, errors.ShuttingDownError("bye"), {"gpus": []}]
    assert ctl.json("gpu", "list") == {"gpus": []}


def test_a_raw_call_is_made_once(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = [HangUp, {"gpus": []}]
    assert ctl("rpc", "gpu.list") == 1
    assert "lost the daemon" in ctl.err


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request\n", b"[]\n"])
def test_what_answers_in_another_language_is_not_the_daemon(
    ctl: Ctl, daemon: FakeDaemon, line: bytes
) -> None:
    def garble(_: dict[str, Any]) -> object:
        daemon.push_raw(line)
        return Silence

    daemon.answers["gpu.list"] = garble
    assert ctl("rpc", "gpu.list") == 1
    assert "not the daemon" in ctl.err


def test_an_answer_in_another_order_is_read_too(ctl: Ctl, daemon: FakeDaemon) -> None:
    def other_order(_: dict[str, Any]) -> object:
        id_ = daemon.asked("gpu.list")[-1]["id"]
        daemon.push_raw(b'{"jsonrpc":"2.0","method":"event","params":{}}\n')
        daemon.push_raw(b'{"id": %d, "result": {"gpus": []}, "jsonrpc": "2.0"}\n' % id_)
        return Silence

    daemon.answers["gpu.list"] = other_order
    assert ctl.json("gpu", "list") == {"gpus": []}


def test_options_of_every_command_may_stand_before_and_after_it(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    ctl("--correlation-id", "c-1", "gpu", "list")
    ctl("gpu", "list", "--correlation-id", "c 2", "--timeout", "3s")
    first, second = daemon.asked("gpu.list")
    assert first["meta"]["correlation_id"] == "c-1"
    assert second["meta"]["correlation_id"] == "c 2"
    assert second["meta"]["deadline_ms"] <= 3000


def test_the_version_needs_no_daemon(ctl: Ctl, tmp_path: Path, daemon: FakeDaemon) -> None:
    assert ctl("--version") == 0
    assert "supereziod 0.1.0 (protocol 1, pid 77)" in ctl.out
    assert ctl("--version", "--socket", str(tmp_path / "no.sock")) == 0
    assert "supereziod: not running" in ctl.out
    daemon.answers["system.info"] = errors.BusyError("too many")
    assert ctl("version") == 0
    assert "too many" in ctl.out
    assert ctl.json("version")["daemon"] is None


def test_a_reader_that_has_enough_is_no_failure_of_ours(daemon: FakeDaemon) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "superezioctl", "gpu", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == exit_codes.PIPE_CLOSED
    assert not done.stderr
    assert daemon.requests


def ctl_in_a_shell(line: str, **changes: str) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", line, sys.executable]
    return subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, **changes}, check=False
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_output_that_is_closed_from_the_start_goes_nowhere(daemon: FakeDaemon, closed: str) -> None:
    done = ctl_in_a_shell(f'"$0" -m superezioctl gpu list {closed}')
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.asked("gpu.list")
    done = ctl_in_a_shell(f'"$0" -m superezioctl gpus {closed}')
    assert done.returncode == 2
    assert not done.stdout


def test_a_full_disk_is_told(daemon: FakeDaemon) -> None:
    for words in ("gpu list", "--json gpu list", "--help"):
        done = ctl_in_a_shell(f'"$0" -m superezioctl {words} >/dev/full')
        assert done.returncode == exit_codes.FAILED
        assert done.stderr == (
            "superezioctl: cannot write to standard output: No space left on device\n"
        )
    assert daemon.requests


def test_an_encoding_without_our_characters_has_question_marks(daemon: FakeDaemon) -> None:
    daemon.answers["gpu.get"] = wire_samples.gpu(name="Größe")
    done = ctl_in_a_shell('"$0" -m superezioctl gpu show 0', PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gpu 0: Gr??e" in done.stdout
    assert "61 ?C" in done.stdout
    done = ctl_in_a_shell('"$0" -m superezioctl --json gpu show 0', PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["name"] == "Größe"


def interrupted(
    line: str, *, when: Callable[[], object], then: Callable[[], object] = lambda: None
) -> tuple[int, str, str]:
    """Return the code, output and errors of a run that gets an interrupt."""
    with subprocess.Popen(
        ["sh", "-c", line, sys.executable],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            when()
            process.send_signal(signal.SIGINT)
            then()
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    return process.returncode, out, err


def test_an_interrupt_ends_who_waits_for_an_answer_without_a_word(daemon: FakeDaemon) -> None:
    daemon.answers["health.get"] = Silence
    code, out, err = interrupted(
        'exec "$0" -m superezioctl health', when=lambda: daemon.await_asked("health.get")
    )
    assert (code, out, err) == (-signal.SIGINT, "", "")


def test_an_interrupt_that_is_ignored_stays_ignored(daemon: FakeDaemon) -> None:
    may_answer = threading.Event()

    def late(_: dict[str, Any]) -> object:
        may_answer.wait(10)
        return {"gpus": []}

    daemon.answers["gpu.list"] = late
    code, _, err = interrupted(
        'trap "" INT; exec "$0" -m superezioctl gpu list',
        when=lambda: daemon.await_asked("gpu.list"),
        then=may_answer.set,
    )
    assert (code, err) == (0, "")


def test_an_interrupt_is_an_exit_code(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("superezioctl.caller.Caller.call", interrupted)
    assert ctl("status") == exit_codes.INTERRUPTED
    assert not daemon.requests


def test_a_bug_is_not_hidden(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("superezioctl.caller.Caller.call", broken)
    with pytest.raises(ZeroDivisionError):
        ctl("status")


def modules_of(*words: str) -> set[str]:
    """Return what a run of superezioctl imports."""
    code = (
        "import sys; from superezioctl.__main__ import main; main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_a_program_that_asks_for_the_gpus_pays_for_nothing_heavy(daemon: FakeDaemon) -> None:
    heavy = {"msgspec", "argparse", "json", "re", "typing", "socket", "subprocess", "asyncio"}
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = modules_of("--json", "gpu", "list") - set(bare.stdout.split())
    assert not heavy & loaded
    assert daemon.requests


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
