"""What a guarded command may tell of its call: a file with lines such as `tokens=412`."""

from __future__ import annotations

import os
import tempfile

from superezio.quantities import parse_duration, parse_money

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

#: The variable of the command's environment that names the file.
VARIABLE = "SUPEREZIO_GUARD_REPORT"
#: The one that has the id of the call.
ID_VARIABLE = "SUPEREZIO_CORRELATION_ID"
#: The one that has the trace that it is a part of: a convention of other programs.
TRACE_VARIABLE = "TRACEPARENT"
_MOST_BYTES = 4096
_KEYS = ("tokens", "money", "retry_after", "outcome")


class Report:
    """The file, made for one command, and what was in it.

    `tokens` and `money` (in the currency, as 0.02): what was used. `retry_after`: the service has
    had enough for so long (`30s`). `outcome`: success, failure or ignore, whatever the exit code.
    """

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix="superezio-guard-")
        os.close(handle)
        self.told: dict[str, str] = {}
        #: Sentences about lines that could not be understood.
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.unlink(self.path)  # noqa: PTH108 - pathlib costs 8 ms

    def read(self) -> None:
        """Take in what the command has written."""
        with open(self.path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            for line in file.read(_MOST_BYTES).splitlines():
                key, equals, value = (part.strip() for part in line.partition("="))
                if equals and key in _KEYS:
                    self.told[key] = value
                elif line.strip():
                    self.complaints.append(
                        f"the command reported {line.strip()[:80]!r}: it can report"
                        f" {', '.join(_KEYS)}, as in tokens=412"
                    )

    @property
    def tokens(self) -> int | None:
        """The tokens that were used, if that was told."""
        return self._number("tokens", _tokens)

    @property
    def money_micros(self) -> int | None:
        """The money that was spent, if that was told."""
        return self._number("money", micros)

    @property
    def retry_after_ms(self) -> int | None:
        """For how long the service wants no call, if that was told."""
        return self._number("retry_after", lambda text: round(parse_duration(text) * 1000))

    @property
    def outcome(self) -> str | None:
        """How the call ended, if that was told."""
        outcome = self.told.get("outcome")
        if outcome in {None, "success", "failure", "ignore"}:
            return outcome
        self._complain("outcome", outcome, "has to be success, failure or ignore")
        return None

    def _number(self, key: str, read: Callable[[str], int]) -> int | None:
        text = self.told.get(key)
        if text is None:
            return None
        try:
            number = read(text)
        except ValueError as error:
            self._complain(key, text, str(error))
            return None
        if number < 0:
            self._complain(key, text, "has to be 0 or more")
            return None
        return number

    def _complain(self, key: str, text: str | None, why: str) -> None:
        complaint = f"the command reported {key}={text}: {why}"
        if complaint not in self.complaints:
            self.complaints.append(complaint)


def _tokens(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"cannot read {text!r} as tokens: write it like 412")
    return int(text)


def micros(text: str) -> int:
    """Return money as millionths, rounded up. Raises ValueError, with an example."""
    return parse_money(text, finer="round up")
