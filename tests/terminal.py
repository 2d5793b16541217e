"""A terminal for programs that draw on one: a window of tmux, typed into and read from outside."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

WITHIN_S = 20.0


class Terminal:
    """One command in a window of its own. `directory` gets what the shell around it notes."""

    def __init__(self, directory: Path, *, columns: int = 80, rows: int = 24) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not there: apt-get install tmux")
        self._directory = directory
        self._size = ("-x", str(columns), "-y", str(rows))
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TMUX", "NO_COLOR"))},
            "TMUX_TMPDIR": str(directory),
            "LC_ALL": "C.UTF-8",
        }

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Self:
        """Run the command, noting the terminal's settings before and after it."""
        script = self._directory / "window.sh"
        given = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in (environment or {}).items())
        script.write_text(
            f"{given}cd {shlex.quote(str(self._directory))}\n"
            f"stty -g >before\n{shlex.join(command)}\ncode=$?\nstty -g >after\n"
            'echo "ended with $code"\nexec cat\n'
        )
        # A size that no client of tmux changes, since there is none.
        self._tmux("new-session", "-d", *self._size, f"sh {shlex.quote(str(script))}")
        return self

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names of them."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type letters."""
        self._tmux("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def lines(self, *, styles: bool = False) -> list[str]:
        """Return what is on the screen now."""
        shown = self._tmux("capture-pane", "-p", *(["-e"] if styles else []))
        return shown.removesuffix("\n").split("\n")

    def asked(self, variable: str) -> str:
        """Return what tmux knows of the window, such as `alternate_on`."""
        return self._tmux("display-message", "-p", f"#{{{variable}}}").strip()

    def shows(self, *texts: str, without: Sequence[str] = ()) -> list[str]:
        """Wait until all texts are on the screen, and none of `without`; return its lines."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            lines = self.lines()
            shown = "\n".join(lines)
            if all(text in shown for text in texts) and not any(text in shown for text in without):
                return lines
            assert time.monotonic() < deadline, f"{texts}, without {without}, are not in\n{shown}"
            time.sleep(0.05)

    def settings(self) -> tuple[str, str]:
        """Return the terminal's settings before the command and after it."""
        return tuple((self._directory / name).read_text() for name in ("before", "after"))  # type: ignore[return-value]

    def close(self) -> None:
        """End the window and what runs in it."""
        subprocess.run(
            ["tmux", "kill-server"], env=self._environment, capture_output=True, check=False
        )

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-f", "/dev/null", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
