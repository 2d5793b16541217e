"""A core has the values of every user's cache in it, so that there is none.

The limit keeps the kernel from writing a file. A program that cores are handed to (`core_pattern`)
is started whatever the limit; what it gets then has registers and no memory. `prctl` could forbid
cores altogether, and would keep whoever runs the daemon from its own process as well: its open
files, its memory's figures, a profiler. Root reads any process, with either.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_FILTER: Final = Path("/proc/self/coredump_filter")
_NO_MEMORY: Final = "0"


def leave_no_core() -> None:
    """Have this process, and those it starts, leave nothing of their memory when they are killed.

    What the service manager or a shell has allowed before does not matter.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError):  # a kernel that makes no cores has no such file
        _FILTER.write_text(_NO_MEMORY)
