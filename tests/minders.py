"""Processes as a test finds them: a minder by the words of its `superezioctl run`, and ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

#: What a seeded mutant never does need not be waited for so long.
WITHIN_S = 3.0 if "SUPEREZIO_MUTANT" in os.environ else 20.0

T = TypeVar("T")


def minders(word: str) -> list[int]:
    """Return the minders that were started by a command line with `word` in it."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            if (directory / "comm").read_text() == "lease-minder\n" and word in words_of(directory):
                found.append(int(directory.name))
        except (OSError, ValueError):
            continue
    return found


def words_of(directory: Path) -> list[str]:
    return (directory / "cmdline").read_text().split("\0")


def await_minder(word: str) -> int:
    """Return the minder, once it has let go of what is not its own and talks to the daemon."""
    pid = until(lambda: next(iter(minders(word)), None))
    until(lambda: any(target.startswith("socket:") for target in open_files(pid).values()))
    return pid


def open_files(pid: int) -> dict[int, str]:
    """Return what each descriptor of a process is."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(link.name)] = os.readlink(link)  # noqa: PTH115 - not a path
        except OSError:
            continue
    return found


def gone(pid: int) -> bool:
    """Say whether a process has ended."""
    return state_of(pid) in {None, "Z"}


def state_of(pid: int) -> str | None:
    """Return the state letter of a process, or None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def until(look: Callable[[], T | None]) -> T:
    """Return the first thing `look` finds: what other processes come to has no event to await."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
