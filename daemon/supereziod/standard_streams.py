"""The standard streams of the process, as they may have been left to it."""

from __future__ import annotations

import os
import sys
from typing import Final

#: Numbers below this are standard input, output and error.
_LAST: Final = 2


def settle() -> None:
    """Have something at the number of each; what was closed (`2>&-`) goes nowhere.

    Else the next file that is opened gets the number, and what somebody writes to standard error
    is in the middle of it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) < _LAST:
        continue
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open to the end
