"""The processes of a host, and who descends from whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from supereziod.leases.processes import Identity


class Process:
    """A process. `fd` becomes readable when it ends, as a pidfd does.

    `parent` is who started it, ended or not. `known_of` is the attached process that it was seen to
    descend from. `cut`: nobody can tell any more whose it is.
    """

    def __init__(self, *, pid: int, uid: int, parent: Process | None, ticks: int) -> None:
        self.pid = pid
        self.uid = uid
        self.parent = parent
        self.children: list[Process] = []
        self.identity = Identity(pid, ticks)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ended = False
        self.cut = False
        self.known_of: Process | None = None
        #: That, as far as it is on disk.
        self.saved_of: Process | None = None
        self.on_end: list[Callable[[], None]] = []

    def family(self) -> Iterator[Process]:
        """Iterate over it and all that descend from it, ended ones too."""
        yield self
        for child in self.children:
            yield from child.family()

    def __repr__(self) -> str:
        return f"pid {self.pid}"
