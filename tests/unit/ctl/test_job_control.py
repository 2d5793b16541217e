"""A command under superezioctl run in an interactive shell on a real terminal, as without it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Self

import pytest

from fake_daemon import FakeDaemon
from minders import WITHIN_S

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")


class Shell:
    """An interactive bash that has a terminal to itself."""

    def __init__(self) -> None:
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PS1": "> ", "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - this process has no threads that matter
        )
        os.close(theirs)
        self._read = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def sees(self, text: str) -> str:
        """Wait until the terminal shows `text`, and return what it showed since the last time."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self._read:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._terminal], [], [], max(0, left))
            assert ready, f"no {text!r} on the terminal: {self._read!r}"
            self._read += os.read(self._terminal, 65536).decode(errors="replace")
        shown, found, self._read = self._read.partition(text)
        return shown + found


def take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - in the child alone
    import termios  # noqa: PLC0415 - as above

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def shell(daemon: FakeDaemon) -> Iterator[Shell]:
    with Shell() as shell:
        yield shell
    assert daemon.asked("lease.acquire")


def run(*words: str) -> str:
    return " ".join([sys.executable, "-m", "superezioctl run --vram 1GiB", *words])


@pytest.mark.parametrize("what", ["term", "ignore"])
def test_ctrl_z_fg_and_ctrl_c_work_as_without_us(shell: Shell, what: str) -> None:
    shell.type(run(f"--on-revoke={what} -- sh -c 'echo begun; exec cat'\n"))
    shell.sees("begun\r\n")
    shell.type("\x1a")
    shell.sees("Stopped")
    shell.sees("\n> ")
    shell.type("fg\n")
    shell.sees("exec cat'\r\n")
    shell.type("a line\n")
    shell.sees("a line\r\na line\r\n")
    shell.type("\x03")
    shell.sees("> ")
    shell.type("echo code $?\n")
    shell.sees("code 130\r\n")


def test_it_can_be_continued_in_the_background(shell: Shell) -> None:
    shell.type(run("-- sh -c 'echo begun; read line; echo got $line'\n"))
    shell.sees("begun\r\n")
    shell.type("\x1a")
    shell.sees("Stopped")
    shell.sees("\n> ")
    shell.type("bg; wait; echo waited\n")
    shell.sees("waited\r\n")
    # It reads from the terminal, which a job in the background is stopped for.
    shell.type("fg\n")
    shell.sees("got $line'\r\n")
    shell.type("this\n")
    shell.sees("got this\r\n")
    shell.type("echo code $?\n")
    shell.sees("code 0\r\n")


def test_end_of_input_and_the_exit_code_pass_through(shell: Shell) -> None:
    shell.type(run("-- sh -c 'echo begun; cat; exit 7'\n"))
    shell.sees("begun\r\n")
    shell.type("\x04")
    shell.type("echo code $?\n")
    shell.sees("code 7\r\n")
