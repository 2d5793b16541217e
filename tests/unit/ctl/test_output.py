from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import termios
from typing import Any

import pytest
from msgspec import structs

import wire_samples
from fake_daemon import FakeDaemon
from superezio import wire
from superezioctl.output import Output, plain, printed_width
from wire_samples import limit_state


class Pipe(io.StringIO):
    encoding = "utf-8"


class Terminal(Pipe):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Output(json=False, stdout=Terminal()).style("x", "bad") == "\x1b[1;31mx\x1b[0m"
    assert Output(json=False, stdout=io.StringIO()).style("x", "bad") == "x"
    assert Output(json=True, stdout=Terminal()).style("x", "bad") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Output(json=False, stdout=Terminal()).style("x", "bad") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Output(json=False, stdout=Terminal()).style("x", "bad") == "x"


def test_columns_line_up_also_in_colour() -> None:
    stream = Terminal()
    out = Output(json=False, stdout=stream)
    rows = [("a", out.style("1", "bad")), ("bbb", "22")]
    out.table(("N", "V"), rows, right=(1,))
    lines = stream.getvalue().splitlines()
    assert [printed_width(line) for line in lines] == [7, 7, 7]
    plain = io.StringIO()
    Output(json=False, stdout=plain).table(("N", "V"), [("a", "1"), ("bbb", "22")], right=(1,))
    assert plain.getvalue() == "N     V\na     1\nbbb  22\n"


def test_a_document_is_one_line_for_programs_and_indented_for_people() -> None:
    plain, terminal = io.StringIO(), Terminal()
    Output(json=True, stdout=plain).document(b'{"a":1}')
    Output(json=True, stdout=terminal).document(b'{"a":1}')
    assert plain.getvalue() == '{"a":1}\n'
    assert terminal.getvalue() == '{\n  "a": 1\n}\n'


def test_without_a_terminal_the_width_is_eighty() -> None:
    assert Output(json=False, stdout=io.StringIO()).width == 80


def run_on_terminal(*words: str, code: int = 0, columns: int = 80, **environment: str) -> str:
    """Return what superezioctl prints to a real pseudo-terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    done = subprocess.Popen(
        [sys.executable, "-m", "superezioctl", *words],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # EIO is how a pseudo-terminal says that nobody is left
            break
        if not chunk:
            break
        printed += chunk
    os.close(ours)
    assert done.wait(20) == code
    return printed.decode()


WIDE = ("N" * 30, "LEFT OUT FIRST", "V" * 30, "THEN THIS", "STATE")


def table(stream: io.StringIO, **options: Any) -> list[str]:
    Output(json=False, stdout=stream).table(WIDE, [("n" * 30, "1", "v", "2", "ok")], **options)
    return [plain(line) for line in stream.getvalue().splitlines()]


def test_a_terminal_that_is_too_narrow_gets_fewer_columns() -> None:
    header, _ = table(Terminal(), spare=(1, 3, 2))
    assert header.split() == [WIDE[0], WIDE[2], "THEN", "THIS", "STATE"], "no more than needed"
    assert len(header) == 80
    header, row = table(Terminal(), spare=(3,), cut=0)
    assert header.split()[:4] == ["N" * 24 + "…", "LEFT", "OUT", "FIRST"]
    assert row.startswith("n" * 24 + "…  1 ")
    assert len(header) == 80


def test_a_program_gets_all_columns() -> None:
    header, row = table(io.StringIO(), spare=(1, 3, 2), cut=0)
    assert header.split() == " ".join(WIDE).split()
    assert row.startswith("n" * 30)


def test_a_line_is_broken_between_words_on_a_terminal_alone() -> None:
    words = "  info  " + "word " * 20 + "x" * 90
    out = Output(json=False, stdout=(screen := Terminal()))
    out.paragraph(out.style("GPU", "bold") + words, indent=6)
    first, second, long = screen.getvalue().splitlines()
    assert first.startswith("\x1b[1mGPU\x1b[0m  info  word word")
    assert 76 <= printed_width(first) <= 80, "a style takes no room"
    assert second.startswith("      word")
    assert long == "      " + "x" * 90, "what is to be copied stays whole"
    Output(json=False, stdout=(file := io.StringIO())).paragraph(words)
    assert file.getvalue() == f"{words}\n"


def crowded(daemon: FakeDaemon) -> None:
    """Let the daemon answer with what is long: names, reasons, and a lease of several GPUs."""
    gpus = [wire_samples.gpu(), wire_samples.hot_gpu(), *wire_samples.mig_gpus()]
    reason = "it is cordoned: a new fan is on its way and it will be here on thursday or later"
    gpus[0] = structs.replace(gpus[0], name="NVIDIA RTX PRO 6000 Blackwell Server Edition")
    gpus[1] = structs.replace(gpus[1], blocked_reason=reason, power_w=160.0)
    daemon.answers["gpu.list"] = wire.GpuList(gpus=gpus)
    daemon.answers["gpu.get"] = gpus[1]
    (part,) = wire_samples.lease().gpus
    parts = [structs.replace(part, index=index) for index in range(2)]
    lease = wire_samples.lease(
        id="1ea5e1ea5e1ea5e1ea5e1ea5",
        gpus=parts,
        policy="exclusive",
        idle_s=86_000.0,
        name="a-rather-long-name",
        uid=42_424_242,
    )
    waiter = wire_samples.waiter(name="a-rather-long-name", priority=1000, split=True)
    daemon.answers["lease.list"] = wire.LeaseList(leases=[lease], queue=[waiter])
    daemon.answers["lease.get"] = lease
    (process, *_) = wire_samples.processes().processes
    process = structs.replace(process, command="python -m server " + "--option " * 20)
    daemon.answers["gpu.processes"] = wire.GpuProcessList(processes=[process])
    placement = wire_samples.placement()
    told = [structs.replace(gpu, message=reason, code="cordoned") for gpu in placement.gpus]
    daemon.answers["placement.explain"] = structs.replace(placement, gpus=told)
    health = wire_samples.health()
    long = [structs.replace(each, message=f"GPU 1 is {reason}") for each in health.reasons]
    daemon.answers["health.get"] = structs.replace(health, reasons=long)
    crowded_services(daemon)


def crowded_services(daemon: FakeDaemon) -> None:
    """Let it answer with names of services, keys and ids that are as long as they may be."""
    limit = wire_samples.limit_state(name="l" * 64, uid=42_424_242, shared=False)
    budgets = [structs.replace(limit.budgets[1], scope_name="k" * 64, blocked_ms=86_399_000)]
    limit = structs.replace(limit, budgets=[*limit.budgets, *budgets])
    daemon.answers["limit.list"] = wire.LimitList(limits=[limit])
    daemon.answers["limit.peek"] = limit
    request = wire_samples.trace_summary(
        method="breaker.force_open", outcome="permission_denied", uid=42_424_242,
        correlation_id="c" * 64, duration_ms=123_456.789,
    )  # fmt: skip
    daemon.answers["trace.find"] = wire.TraceList(requests=[request])
    reports = [wire.BreakerReports(uid=uid, reports=12) for uid in range(42_000_000, 42_000_008)]
    breaker = wire_samples.breaker(name="b" * 40, reported_by=reports, opened_by=42_000_000)
    daemon.answers["breaker.get"] = breaker


NARROW = [
    *("gpu list", "gpu show 1", "gpu processes", "lease list", "lease show 1ea5e", "queue"),
    *("explain --vram 8GiB", "status", "health", "doctor"),
    *("limit list", "limit show l", "trace", "trace job-17", "breaker show b"),
]


@pytest.mark.parametrize("words", NARROW)
def test_nothing_is_wider_than_a_terminal_of_eighty_columns(daemon: FakeDaemon, words: str) -> None:
    crowded(daemon)
    code = 1 if words == "doctor" else 0  # its directories are nowhere on this host
    lines = run_on_terminal(*words.split(), code=code, LC_ALL="C.UTF-8").splitlines()
    # What is there to be copied is not broken: an environment, and what mends a fault.
    lines = [line for line in map(plain, lines) if not line.startswith(("set ", "      →"))]
    assert lines
    assert [line for line in lines if len(line) > 80] == []


VERY_NARROW = [
    *("limit list", "breaker list", "cache stats", "session list", "trace", "trace job-17"),
    *("--help", "guard --help", "cache set --help", "breaker --help"),
]


@pytest.mark.parametrize("words", VERY_NARROW)
def test_services_and_help_fit_a_terminal_of_fifty_columns(daemon: FakeDaemon, words: str) -> None:
    names = [f"a-service-with-a-long-name-{number}" for number in range(2)]
    breakers = [wire_samples.breaker(name=name) for name in names]
    daemon.answers["breaker.list"] = wire.BreakerList(breakers=breakers)
    shown = run_on_terminal(*words.split(), columns=50, LC_ALL="C.UTF-8")
    # Examples are there to be copied.
    lines = [plain(line) for line in shown.partition("examples:")[0].splitlines()]
    assert lines
    assert [line for line in lines if len(line) > 50] == []


#: A name of wide characters, and one of marks that take no room.
FOREIGN = ("日本語のモデルの名前", "e\u0301" * 12)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("words", ["lease list", "gpu list", "status", "queue", "access"])
def test_no_line_is_broken_by_a_terminal_whatever_the_names(
    daemon: FakeDaemon, words: str, columns: int
) -> None:
    """Its own lines are: a table that it breaks in mid-word is none."""
    leases = [wire_samples.lease(name=name, uid=0) for name in (*FOREIGN, "plain")]
    waiter = wire_samples.waiter(name=FOREIGN[0])
    daemon.answers["lease.list"] = wire.LeaseList(leases=leases, queue=[waiter])
    daemon.answers["rpc.discover"] = {
        "methods": [
            {
                "name": "breaker.force_open",
                "x-access": {"role": "admin", "visibility": "public", "own": False},
            }
        ]
    }
    shown = run_on_terminal(*words.split(), columns=columns, LC_ALL="C.UTF-8").splitlines()
    lines = [plain(line) for line in shown]
    assert lines
    assert [line for line in lines if printed_width(line) > columns] == []


def test_a_table_lines_up_whatever_the_names() -> None:
    out = Output(json=False, stdout=(screen := Terminal()))
    out.table(("NAME", "V"), [(name, "1") for name in (*FOREIGN, "plain")])
    lines = screen.getvalue().splitlines()
    assert [printed_width(plain(line)) for line in lines] == [23] * 4


def test_a_table_for_which_no_room_can_be_made_is_broken_between_cells() -> None:
    out = Output(json=False, stdout=(screen := Terminal()))
    out.table(("NAME", "V"), [("n" * 60, "v" * 30)], indent="  ")
    _, row, rest = map(plain, screen.getvalue().splitlines()[-3:])
    assert (row, rest) == (f"  {'n' * 60}", f"    {'v' * 30}")


def test_what_quotes_a_command_line_is_one_line() -> None:
    """It may hold the end of one, and what looks like a next."""
    out = Output(json=False, stdout=(screen := Terminal()))
    out.paragraph("holder       7 sleep\nGPU 9 a line of its own")
    assert screen.getvalue() == "holder       7 sleep GPU 9 a line of its own\n"


def test_on_a_dumb_terminal_nothing_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Output(json=False, stderr=Terminal()).interactive
    assert not Output(json=True, stderr=Terminal()).interactive
    monkeypatch.setenv("TERM", "dumb")
    assert not Output(json=False, stderr=Terminal()).interactive


def test_limits_are_told_apart_on_a_terminal_of_fifty_columns(daemon: FakeDaemon) -> None:
    limits = [limit_state(name=name, uid=0, shared=False) for name in ("openai", "weather")]
    daemon.answers["limit.list"] = wire.LimitList(limits=[limit_state(), *limits])
    shown = plain(run_on_terminal("limit", "list", columns=50, LC_ALL="C.UTF-8"))
    for name in ("openai ", "openai (root)", "weather (root)"):
        assert f"\n{name}" in shown.replace("\r", "")


def test_a_real_terminal_gets_colour_unless_it_says_no(daemon: FakeDaemon) -> None:
    assert "\x1b[33mdegraded\x1b[0m" in run_on_terminal("status")
    assert "\x1b" not in run_on_terminal("status", NO_COLOR="1")
    assert "\x1b" not in run_on_terminal("--json", "status")
    assert daemon.requests


def test_json_on_a_terminal_is_still_one_document(daemon: FakeDaemon) -> None:
    assert json.loads(run_on_terminal("--json", "gpu", "list"))["gpus"]
    assert daemon.requests


def test_what_others_named_cannot_command_the_terminal() -> None:
    out = Output(json=False, stdout=(screen := Terminal()), stderr=(notes := Terminal()))
    named = "\x1b]0;title\x07\x1b[2J\x9b2J\r\u202ename\x1b[8m"
    out.line(f"{out.style('lease', 'bold')} {named}")
    out.note(named)
    out.progress(named)
    out.table(("NAME",), [(f"{named}\nGPU 9  a line of their own",)])
    text = screen.getvalue()
    assert text.startswith("\x1b[1mlease\x1b[0m ?]0;title??[2J?2J??name?[8m\n")
    assert text.count("\n") == 3, "a cell is no line of its own"
    for shown in (text, notes.getvalue().removeprefix("\r\x1b[K")):
        assert not {"\x07", "\x9b", "\u202e", "\x1b]", "\x1b[2J"} & set(shown)
        assert "\x1b[2J" not in shown
        assert "\x1b]" not in shown


def test_nor_can_it_in_a_document_or_a_record_and_a_program_reads_the_same() -> None:
    named = "\x7f\x85\x9b2J\u2028\u202ename é \U000e0041 😀"
    raw = json.dumps({"name": named}, ensure_ascii=False).encode()
    for stream in (Pipe(), Terminal()):
        out = Output(json=True, stdout=stream)
        out.document(raw)
        out.record(raw)
        text = stream.getvalue()
        assert text.replace("\n", "").isprintable()
        assert "name é " in text
        document, end = json.JSONDecoder().raw_decode(text)
        assert document == json.loads(text[end:]) == {"name": named}
