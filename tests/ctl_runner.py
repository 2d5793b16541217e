"""superezioctl, called in the process of the test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from superezioctl.__main__ import main


class Ctl:
    """Calls superezioctl and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *words: str) -> int:
        code = main(words)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *words: str) -> Any:
        """Return the one document of a run that succeeds."""
        code = self("--json", *words)
        assert code == 0, self.err
        assert self.out.count("\n") == 1
        return json.loads(self.out)
