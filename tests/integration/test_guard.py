"""superezioctl guard: shell commands behind the breaker, the limit and the cache of the host."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from superezio.errors import NeverPassesError

pytestmark = pytest.mark.installed

CONFIG = """
[breaker]
minimum_calls = 3
open = "1m"
[limit.shared.paid]
everyone = true
[limit.shared.paid.host]
tokens = "1000/1h"
concurrency = 2
"""
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("guard") / "d", config=CONFIG).start()
    yield live
    live.close()


def words(daemon: LiveDaemon, *guard: str) -> list[str]:
    """Return the command line of a guard."""
    return [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *guard]


def run(daemon: LiveDaemon, *guard: str) -> subprocess.CompletedProcess[str]:
    """Run a guard to its end."""
    return subprocess.run(
        words(daemon, "guard", *guard),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def test_the_command_is_run_with_its_own_files_and_exit_code(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    done = subprocess.run(
        words(daemon, "guard", "plain", "--", "sh", "-c", "cat; echo oops >&2; exit 7"),
        input="in\n",
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "oops\n")
    assert list(tmp_path.iterdir()) == [], "what it may report by is gone"


def test_failures_open_the_breaker_and_the_next_is_told_when(daemon: LiveDaemon) -> None:
    for _ in range(3):
        assert run(daemon, "broken", "--", "false").returncode == 1
    refused = run(daemon, "broken", "--", "echo", "called")
    assert refused.returncode == 75
    assert refused.stdout == ""
    told, trace = refused.stderr.splitlines()
    assert re.fullmatch(r"superezioctl: the breaker broken is open .*: ask again in \d+m?s?", told)
    assert trace.startswith("`superezioctl trace ")
    with daemon.client() as client:
        (breaker,) = [b for b in client.breaker_list().breakers if b.name == "broken"]
    assert (breaker.state, breaker.failures, breaker.permits) == ("open", 3, 0)


def test_an_exit_code_may_say_nothing_of_the_service(daemon: LiveDaemon) -> None:
    for _ in range(4):
        code = run(daemon, "picky", "--ignore-code", "22", "--", "sh", "-c", "exit 22").returncode
        assert code == 22
    assert run(daemon, "picky", "--", "true").returncode == 0


def test_a_service_that_has_had_enough_is_left_alone_for_as_long_as_it_said(
    daemon: LiveDaemon,
) -> None:
    tell = "echo retry_after=30s >> $SUPEREZIO_GUARD_REPORT; exit 1"
    assert run(daemon, "busy", "--", "sh", "-c", tell).returncode == 1
    refused = run(daemon, "--json", "busy", "--", "true")
    assert refused.returncode == 75
    error = json.loads(refused.stdout)["error"]
    assert error["kind"] == "breaker_open"
    assert 25_000 < error["retry_after_ms"] <= 33_000


def test_one_of_many_runs_the_command_and_all_get_what_it_prints(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    command = f"echo called >> {calls}; sleep 0.3; printf 'Paris: 21 C\\n'"
    asked = [
        subprocess.Popen(
            words(daemon, "guard", "w", "--cache-key", "paris", "--", "sh", "-c", command),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    answers = {each.communicate(timeout=WITHIN_S)[0] for each in asked}
    assert answers == {"Paris: 21 C\n"}
    assert calls.read_text() == "called\n"
    assert {each.returncode for each in asked} == {0}


def test_what_is_no_text_is_cached_as_it_is(daemon: LiveDaemon) -> None:
    latin = r"caf\351 is a text of another encoding, and no UTF-8\001"
    command = [*words(daemon, "guard", "raw", "--cache-key", "k", "--"), "printf", latin]
    first = subprocess.run(command, capture_output=True, timeout=WITHIN_S, check=True)
    again = subprocess.run(
        [*command[:-2], "false"], capture_output=True, timeout=WITHIN_S, check=True
    )
    assert (
        first.stdout == again.stdout == b"caf\xe9 is a text of another encoding, and no UTF-8\x01"
    )


def test_an_error_is_not_cached_and_an_old_value_may_stand_in_for_it(daemon: LiveDaemon) -> None:
    key = ("old", "--cache-key", "k")
    assert run(daemon, *key, "--", "false").returncode == 1
    short = ("--ttl", "50ms", "--stale-if-error", "1h")
    assert run(daemon, *key, *short, "--", "echo", "good").stdout == "good\n"
    while (stale := run(daemon, *key, "--", "sh", "-c", "exit 3")).stderr == "":
        assert stale.stdout == "good\n"
    assert (stale.returncode, stale.stdout) == (0, "good\n")
    assert "this is the value of before" in stale.stderr


def test_a_limit_of_the_host_is_kept_and_settled_with_what_was_used(daemon: LiveDaemon) -> None:
    tell = "echo tokens=100 > $SUPEREZIO_GUARD_REPORT"
    assert run(daemon, "paid", "--tokens", "900", "--", "sh", "-c", tell).returncode == 0
    assert run(daemon, "paid", "--tokens", "900", "--", "true").returncode == 0
    refused = run(daemon, "paid", "--tokens", "900", "--", "true")
    assert refused.returncode == 75
    assert "tokens" in refused.stderr
    never = run(daemon, "paid", "--tokens", "9000", "--", "true")
    assert never.returncode == 125


def test_a_command_keeps_a_slot_while_it_runs_and_gives_it_back(daemon: LiveDaemon) -> None:
    running = [
        subprocess.Popen(
            words(daemon, "guard", "paid", "--", "sh", "-c", "echo runs; read _"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "runs\n"
    refused = run(daemon, "--json", "paid", "--", "true")
    assert json.loads(refused.stdout)["error"]["data"]["dimension"] == "concurrency"
    for each in running:
        each.communicate("\n", timeout=WITHIN_S)
    assert run(daemon, "paid", "--", "true").returncode == 0


def test_a_name_without_a_limit_is_no_failure_of_a_request(daemon: LiveDaemon) -> None:
    """For programs of Python as for commands: most guards have no limit."""
    assert run(daemon, "no-limit", "--", "true").returncode == 0
    with daemon.client() as client:
        with client.guard("no-limit"):
            pass
        found = client.trace_find(method="limit.acquire", failed=True, last=1000).requests
        assert [each for each in found if each.outcome == "not_found"] == []
        with client.guard("no-limit") as call:
            pass
        (asked,) = [
            each
            for each in client.trace_get(call.correlation_id).records
            if each.method == "limit.acquire"
        ]
    assert (asked.outcome, [each.name for each in asked.marks]) == ("ok", ["unlimited"])


def test_a_limit_of_ones_own_is_made_by_its_rate(daemon: LiveDaemon) -> None:
    once = ("mine", "--rate", "1/1h", "--", "true")
    assert run(daemon, *once).returncode == 0
    assert run(daemon, *once).returncode == 75
    missing = run(daemon, "other", "--tokens", "5", "--", "true")
    assert missing.returncode == 125
    assert "there is no limit other" in missing.stderr


def test_a_trace_says_which_breaker_limit_and_namespace_a_call_was_about(
    daemon: LiveDaemon,
) -> None:
    with daemon.client() as client:
        with client.guard("mine", limit="paid", cache="answers", cache_key="k") as call:
            call.value = 1
        records = client.trace_get(call.correlation_id).records
        assert [(each.method, each.about) for each in records] == [
            ("cache.get", "answers"),
            ("limit.acquire", "paid"),
            ("breaker.acquire", "mine"),
            ("breaker.settle", "mine"),
            ("limit.settle", None),
            ("cache.set", "answers"),
        ]
        with pytest.raises(NeverPassesError) as refused, client.guard("paid", tokens=999_999):
            pytest.fail("it ran")
        assert refused.value.correlation_id is not None
        (record,) = client.trace_get(refused.value.correlation_id).records
        assert (record.outcome, record.about) == ("never_passes", "paid")
        trace = f"{7:032x}"
        with client.guard("mine", limit=None, traceparent=f"00-{trace}-00f067aa0ba902b7-01"):
            pass
        assert {each.about for each in client.trace_get(trace).records} == {"mine"}
        client.limit_peek("paid")
        (peeked,) = client.trace_find(method="limit.peek", last=1).requests
        assert peeked.about == "paid"


def test_an_amount_that_nothing_counts_is_told(daemon: LiveDaemon) -> None:
    first = run(daemon, "spender", "--money-rate", "5.00/1h", "--money", "0.02", "--", "true")
    assert (first.returncode, first.stderr) == (0, "")
    done = run(daemon, "spender", "--tokens", "9", "--money", "0.02", "--slots", "1", "--", "true")
    assert done.returncode == 0
    tokens, slots = done.stderr.splitlines()
    assert "nothing counts tokens of spender: --token-rate 90000/1m of a limit" in tokens
    assert "nothing counts slots of spender: [limit.shared.spender] of the" in slots
    with daemon.client() as client:
        (budget,) = client.limit_peek("spender").budgets
    assert budget.dimension == "money"
    assert 4_960_000 <= budget.available < 4_980_000
    assert run(daemon, "x", "--money-rate", "5", "--", "true").returncode == 125


def test_a_command_that_cannot_be_run_gives_back_what_it_took(daemon: LiveDaemon) -> None:
    assert run(daemon, "none", "--", "/no/such/thing").returncode == 127
    assert run(daemon, "none", "--", "/etc/passwd").returncode == 126
    with daemon.client() as client:
        (breaker,) = [b for b in client.breaker_list().breakers if b.name == "none"]
    assert (breaker.permits, breaker.calls) == (0, 0)


def test_an_interrupt_is_the_commands_and_says_nothing_of_the_service(daemon: LiveDaemon) -> None:
    guard = subprocess.Popen(
        words(daemon, "guard", "stopped", "--", "sh", "-c", "echo up; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    assert guard.stdout.readline() == "up\n"
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(WITHIN_S) == -signal.SIGTERM, "as the command itself"
    guard.stdout.close()
    with daemon.client() as client:
        (breaker,) = [b for b in client.breaker_list().breakers if b.name == "stopped"]
    assert (breaker.permits, breaker.calls) == (0, 0)


def test_ctrl_c_ends_a_loop_of_a_shell(daemon: LiveDaemon) -> None:
    """A shell goes on after what was interrupted and did not die of it."""
    guard = shlex.join(words(daemon, "guard", "looped", "--", "sh", "-c", "echo up; exec sleep 60"))
    shell = subprocess.Popen(
        ["bash", "-c", f"for each in 1 2; do {guard}; done; echo 'went on'"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "up\n"
    os.killpg(shell.pid, signal.SIGINT)
    said, _ = shell.communicate(timeout=WITHIN_S)
    assert (shell.returncode, said) == (-signal.SIGINT, "")
    assert calls_of(daemon, "looped") == (0, 0)


def test_a_command_that_takes_an_interrupt_well_ends_as_it_says(daemon: LiveDaemon) -> None:
    catch = "trap 'echo caught; exit 0' INT; echo up; while :; do sleep 0.01; done"
    guard = subprocess.Popen(
        words(daemon, "guard", "heeded", "--", "sh", "-c", catch),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert guard.stdout is not None
    assert guard.stdout.readline() == "up\n"
    os.killpg(guard.pid, signal.SIGINT)
    said, _ = guard.communicate(timeout=WITHIN_S)
    assert (guard.returncode, said) == (0, "caught\n")


def test_a_guard_that_is_killed_leaves_no_permit_behind(daemon: LiveDaemon) -> None:
    guard = subprocess.Popen(
        words(daemon, "guard", "killed", "--", "sh", "-c", "echo $$; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    command = int(guard.stdout.readline())
    guard.kill()
    guard.wait(WITHIN_S)
    os.kill(command, signal.SIGKILL)
    guard.stdout.close()
    with daemon.client() as client:
        (breaker,) = [b for b in client.breaker_list().breakers if b.name == "killed"]
    assert (breaker.permits, breaker.calls) == (0, 0)


def test_without_a_daemon_the_caller_chooses(tmp_path: Path) -> None:
    base = [sys.executable, "-m", "superezioctl", "--socket", str(tmp_path / "none.sock"), "guard"]
    closed = subprocess.run(
        [*base, "x", "--", "echo", "ran"], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stdout) == (125, "")
    opened = subprocess.run(
        [*base, "x", "--when-absent", "open", "--", "echo", "ran"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (opened.returncode, opened.stdout) == (0, "ran\n")
    assert "unguarded" in opened.stderr


def test_a_daemon_that_goes_away_changes_nothing_of_how_the_command_ended(tmp_path: Path) -> None:
    live = LiveDaemon(tmp_path / "d").start()
    guard = subprocess.Popen(
        words(live, "--timeout", "1s", "guard", "x", "--", "sh", "-c", "echo up; read _; exit 9"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    assert guard.stdout.readline() == "up\n"
    live.kill()
    _, said = guard.communicate("\n", timeout=WITHIN_S)
    live.close()
    assert guard.returncode == 9
    assert "the daemon could not be told" in said


def test_who_waits_for_a_value_is_told_what_to_do_when_the_daemon_dies(tmp_path: Path) -> None:
    live = LiveDaemon(tmp_path / "d").start()
    lines: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    guard = ("guard", "x", "--cache-key", "k", "--")
    with subprocess.Popen(words(live, *guard, "sh", "-c", "echo up; read _"), **lines) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "up\n"
        with subprocess.Popen(
            words(live, *guard, "true"), stderr=subprocess.PIPE, **lines
        ) as waiter:
            with live.client() as client:
                while not sum(each.waiting for each in client.cache_stats().namespaces):
                    pass
            live.kill()
            said = waiter.communicate(timeout=WITHIN_S)[1]
        leader.communicate("\n", timeout=WITHIN_S)
    live.close()
    assert waiter.returncode == 125
    assert "lost the daemon" in said
    assert "supereziod` in another terminal" in said
    assert "--when-absent open" in said


def test_a_daemon_that_hangs_is_as_none_for_a_command_that_may_run_without(tmp_path: Path) -> None:
    live = LiveDaemon(tmp_path / "d").start()
    os.kill(live.pid, signal.SIGSTOP)
    try:
        guard = ("guard", "x", "--when-absent", "open", "--", "echo", "ran")
        opened = subprocess.run(
            words(live, *guard), capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
    finally:
        os.kill(live.pid, signal.SIGCONT)
        live.close()
    assert (opened.returncode, opened.stdout) == (0, "ran\n")
    assert "does not answer" in opened.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tokns=1", "it can report tokens, money, retry_after, outcome"),
        ("nonsense", "it can report"),
        ("tokens=lots", "cannot read 'lots' as tokens"),
        ("retry_after=soon", "retry_after=soon: cannot read"),
        ("outcome=great", "has to be success, failure or ignore"),
        ("money=-1", "as money: write it like 10.00 or 0.02"),
    ],
)
def test_what_cannot_be_read_of_a_report_is_said_once(
    daemon: LiveDaemon, line: str, said: str
) -> None:
    done = run(daemon, "told", "--", "sh", "-c", f"echo '{line}' >> $SUPEREZIO_GUARD_REPORT")
    assert done.returncode == 0
    assert done.stderr.count("superezioctl guard:") == 1
    assert said in done.stderr


def test_output_that_is_hardly_text_is_cached_all_the_same(daemon: LiveDaemon) -> None:
    command = ("zeros", "--cache-key", "k", "--", "head", "-c", "200000", "/dev/zero")
    first = run(daemon, *command)
    assert (first.returncode, first.stderr, len(first.stdout)) == (0, "", 200_000)
    assert run(daemon, *command[:3], "--", "false").stdout == first.stdout


def test_output_that_comes_too_late_or_is_too_much_is_said_not_to_be_cached(
    daemon: LiveDaemon,
) -> None:
    late = run(daemon, "late", "--cache-key", "k", "--lead", "50ms", "--", "sleep", "0.2")
    assert "longer than --lead" in late.stderr
    big = run(daemon, "big", "--cache-key", "k", "--", "head", "-c", "600000", "/dev/zero")
    assert "was not cached: it is larger than the 256 KiB" in big.stderr
    huge = run(daemon, "huge", "--cache-key", "k", "--", "head", "-c", "900000", "/dev/zero")
    assert "too much to be kept" in huge.stderr


@pytest.mark.parametrize("code", [129, 130, 131, 141, 143])
def test_a_command_that_was_cancelled_says_nothing_of_the_service(
    daemon: LiveDaemon, code: int
) -> None:
    """By a signal (Ctrl-C, a hangup, a pipe that is closed), or by an exit code that means one."""
    name = f"cancelled-{code}"
    assert run(daemon, name, "--", "sh", "-c", f"exit {code}").returncode == code
    # A shell would leave the signal ignored where the test itself was started so.
    dies = "import os, signal, sys; n = int(sys.argv[1]); signal.signal(n, signal.SIG_DFL)"
    dies += "; os.kill(os.getpid(), n)"
    died = run(daemon, name, "--", sys.executable, "-c", dies, str(code - 128))
    assert died.returncode == 128 - code
    assert calls_of(daemon, name) == (0, 0)


def test_another_signal_is_a_failure_of_the_command(daemon: LiveDaemon) -> None:
    assert run(daemon, "crashed", "--", "sh", "-c", "kill -SEGV $$").returncode == -signal.SIGSEGV
    assert calls_of(daemon, "crashed") == (1, 0)


def calls_of(daemon: LiveDaemon, name: str) -> tuple[int, int]:
    """Return the calls that a breaker has counted, and its permits that are out."""
    with daemon.client() as client:
        (breaker,) = [b for b in client.breaker_list().breakers if b.name == name]
    return breaker.calls, breaker.permits


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_handed_on(daemon: LiveDaemon, number: signal.Signals) -> None:
    catch = f"trap 'echo caught; exit 0' {number.value}; echo up; while :; do sleep 0.01; done"
    guard = subprocess.Popen(
        words(daemon, "guard", "signals", "--", "sh", "-c", catch),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    assert guard.stdout.readline() == "up\n"
    guard.send_signal(number)
    rest, _ = guard.communicate(timeout=WITHIN_S)
    assert (guard.returncode, rest) == (0, "caught\n")


def test_what_was_ignored_stays_ignored(daemon: LiveDaemon) -> None:
    """As of a command that nohup runs."""
    done = subprocess.run(
        [
            *("sh", "-c", "trap '' HUP; exec \"$@\"", "sh"),
            *words(daemon, "guard", "nohup", "--"),
            *("sh", "-c", "kill -HUP $PPID $$; echo stands"),
        ],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "stands\n")


def test_a_reader_that_has_enough_keeps_the_value_from_nobody(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    script = f"echo first; read _ < {go}; seq 30000"
    guard = subprocess.Popen(
        words(daemon, "guard", "pipe", "--cache-key", "k", "--", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    assert guard.stderr is not None
    assert guard.stdout.readline() == "first\n"
    guard.stdout.close()
    go.write_text("\n")
    assert guard.wait(WITHIN_S) == 0
    assert guard.stderr.read() == ""
    guard.stderr.close()
    again = run(daemon, "pipe", "--cache-key", "k", "--", "false")
    assert again.stdout.splitlines()[-1] == "30000"
    assert calls_of(daemon, "pipe") == (1, 0)


def test_the_command_needs_no_dashes_before_it(daemon: LiveDaemon) -> None:
    done = run(daemon, "bare", "--rate", "60/1m", "sh", "-c", "echo $1; exit 3", "sh", "--wait")
    assert (done.returncode, done.stdout) == (3, "--wait\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a name", "--", "true"), "NAME has to be"),
        (("x", "--namespace", "a name", "--cache-key", "k", "--", "true"), "--namespace has to be"),
        (("x", "--cache-key", "k" * 600, "--", "true"), "--cache-key has to be"),
        (("nolimit", "--tokens", "5", "--", "true"), "--token-rate 90000/1m makes one"),
        (("x", "--"), "COMMAND is missing"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_command_line(
    daemon: LiveDaemon, given: tuple[str, ...], said: str
) -> None:
    refused = run(daemon, *given)
    assert refused.returncode == 125
    assert said in refused.stderr


def test_money_may_be_reported_as_programs_print_it(daemon: LiveDaemon) -> None:
    for amount in ("2.4e-06", ".000824", "0.0000001"):
        tell = f"echo money={amount} > $SUPEREZIO_GUARD_REPORT"
        done = run(daemon, "paid", "--", "sh", "-c", tell)
        assert (done.returncode, done.stderr) == (0, "")


TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_a_trace_goes_through_the_guard_to_the_command_and_is_found_by_its_id(
    daemon: LiveDaemon,
) -> None:
    done = subprocess.run(
        words(daemon, "guard", "traced", "--", "sh", "-c", "echo $TRACEPARENT"),
        env={**os.environ, "TRACEPARENT": TRACEPARENT},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    assert done.stdout == f"{TRACEPARENT}\n"
    with daemon.client() as client:
        methods = [each.method for each in client.trace_get(TRACE).records]
    assert methods == ["limit.acquire", "breaker.acquire", "breaker.settle"]


@pytest.mark.parametrize("given", [None, "nonsense"])
def test_without_a_trace_the_command_gets_one_that_has_the_id_of_the_call(
    daemon: LiveDaemon, given: str | None
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRACEPARENT"}
    done = subprocess.run(
        words(
            daemon,
            "guard",
            "fresh",
            "--",
            "sh",
            "-c",
            "echo $TRACEPARENT $SUPEREZIO_CORRELATION_ID",
        ),
        env=environment if given is None else {**environment, "TRACEPARENT": given},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    header, id_ = done.stdout.split()
    assert header.split("-")[1] == id_
    with daemon.client() as client:
        assert client.trace_get(id_).records


def test_options_that_say_nothing_are_refused(daemon: LiveDaemon) -> None:
    for words_ in (("--ttl", "5m"), ("--ignore-code", "300")):
        assert run(daemon, "x", *words_, "--", "true").returncode == 125
