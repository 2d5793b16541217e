"""Whether journald has a place for what it is given: it takes lines from everybody, full or not.

A journald whose file system is full drops what it takes, and its senders are not told. It looks
for room of its own first, by deleting its oldest files, so that a file system without any is one
where it has found none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

#: The least that a new file of the journal takes.
_LEAST_BYTES: Final = 512 * 1024
_FRESH_NS: Final = 2_000_000_000


class JournalSpace:
    """What was last seen of the file systems that this host's journal may be on."""

    def __init__(
        self,
        *,
        roots: Sequence[Path] = (Path("/var/log/journal"), Path("/run/log/journal")),
        machine_id: Path = Path("/etc/machine-id"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._roots = roots
        self._machine_id = machine_id
        self._clock = clock
        self._roomy_until_ns = 0

    @property
    def is_known_roomy(self) -> bool:
        """Whether there was room a moment ago. Asks nobody, so that it never waits for a disk."""
        return self._clock() < self._roomy_until_ns

    def look(self) -> bool:
        """Return whether there is room, or that cannot be told. May wait for a disk."""
        places = [each for each in map(self._free_bytes, self._roots) if each is not None]
        roomy = not places or max(places) >= _LEAST_BYTES
        self._roomy_until_ns = self._clock() + _FRESH_NS if roomy else 0
        return roomy

    def _free_bytes(self, root: Path) -> int | None:
        """Return what root, whom journald runs as, may write there; None: no journal is there."""
        try:
            status = os.statvfs(root / self._machine_id.read_text().strip())
        except OSError:
            return None
        return status.f_bfree * status.f_frsize
