"""Faults put into the daemon on purpose, to see that a minute of fuzzing finds them.

`python -m fuzz --fault NAME` runs against a copy of the sources with one of them in it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from msgspec import Struct

SOURCES: Final = Path(__file__).parents[2] / "daemon"


class Fault(Struct, frozen=True):
    """In the file at `path`, `old` (there exactly once) becomes `new`. `target` is to find it."""

    target: str
    path: str
    old: str
    new: str


FAULTS: Final = {
    "unbounded-line": Fault(
        "framing",
        "superezio/framing.py",
        "        if len(self._carry) + len(tail) > self._max:\n",
        "        if len(tail) > self._max:\n",
    ),
    "deep-nesting": Fault(
        "framing",
        "supereziod/rpc/decoding.py",
        "UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)",
        "UNREADABLE: Final = (msgspec.DecodeError, ValueError)",
    ),
    "batch-twice": Fault(
        "requests",
        "supereziod/rpc/batches.py",
        "        if self._outstanding == 0 and self._lines:\n",
        "        if self._outstanding <= 1 and self._lines:\n",
    ),
    "cache-over-its-bound": Fault(
        "requests",
        "supereziod/settings.py",
        "            max_bytes=given.max_bytes,\n            max_entries=given.max_entries,\n"
        "            max_value_bytes",
        "            max_bytes=given.max_bytes * 4,\n            max_entries=given.max_entries,\n"
        "            max_value_bytes",
    ),
    "permit-kept": Fault(
        "requests",
        "supereziod/rpc/build.py",
        "on_closed=_each_of(parts.leases, parts.breakers, parts.caches, parts.limits)",
        "on_closed=_each_of(parts.leases, parts.caches, parts.limits)",
    ),
}


def with_fault(fault: Fault, directory: Path) -> Path:
    """Return a copy of the sources with the fault in it, below `directory`."""
    copy = directory / "daemon"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / fault.path
    source = file.read_text()
    if source.count(fault.old) != 1:
        raise ValueError(f"{fault.old!r} is not there exactly once in {fault.path}")
    file.write_text(source.replace(fault.old, fault.new))
    return copy
