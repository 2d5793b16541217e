"""The standard streams of the process, as they may have been left to it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

#: Numbers below this are standard input, output and error.
_STANDARD = 2


def settle() -> None:
    """Make standard output and error take any text.

    One that is closed (`>&-`) goes nowhere: whoever closed it does not want it. What an encoding
    has no character for is a question mark.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _occupy()
    sys.stdout = _settled(sys.stdout)
    sys.stderr = _settled(sys.stderr)


def _occupy() -> None:
    """Let nothing have the number of a closed stream; in a program that is run it is closed."""
    while os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) < _STANDARD:
        continue


def _settled(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - open to the end
    stream.reconfigure(errors="replace")  # type: ignore[attr-defined]
    return stream


def discard(stream: TextIO) -> None:
    """Let nothing more out that the stream still holds: it cannot be written to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
