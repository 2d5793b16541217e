"""A stand-in for systemctl that says what a test has it say, and writes down what it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest


class Systemd:
    """`answers` are lines of shell by the first words of a call; without one it does as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "systemctl"
        self._calls = folder / "calls"
        self._calls.touch()
        self.answer({})

    def answer(self, answers: dict[str, str]) -> None:
        """Say what it does from now on."""
        arms = "".join(f"'{call}'*) {script} ;;\n" for call, script in answers.items())
        self.program.write_text(
            '#!/bin/sh\n[ "$1" = --no-ask-password ] || exit 64\nshift\n'
            f'echo "$*" >>{self._calls}\ncase "$*" in\n{arms}esac\nexit 0\n'
        )
        self.program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What it was asked to do, but for looks."""
        lines = self._calls.read_text().splitlines()
        return [line.replace("-- ", "") for line in lines if not line.startswith("show")]


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Systemd(folder)
