from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from fake_daemon import FakeDaemon
from superezioctl.output import Output, printed_width


class Terminal(io.StringIO):
    encoding = "utf-8"

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
    assert [printed_width(line) for line in lines] == [7, 6 - 0, 7] or lines
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


def run_on_terminal(*words: str, **environment: str) -> str:
    """Return what superezioctl prints to a real pseudo-terminal."""
    ours, theirs = pty.openpty()
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
    assert done.wait(20) == 0
    return printed.decode()


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
