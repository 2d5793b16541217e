"""What was stopped, on disk before it is stopped: whoever is killed meanwhile, it is not forgotten.

It lies in a runtime directory and counts for its boot alone. After a reboot what is enabled starts
by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

_FILE: Final = "stopped.json"


class StoppedUnit(Struct, frozen=True, kw_only=True):
    """A unit that ran in the slice. `transient`: once stopped it is gone, as systemd-run's are.

    `held`: it had a lease when it was stopped; `served`: it had been active, then or before.
    """

    name: str
    transient: bool = False
    held: bool = False
    served: bool = False

    @property
    def turn(self) -> tuple[bool, bool, str]:
        """Sorts units in the order in which they are started again: by what they had, then name."""
        return (not self.held, not self.served, self.name)


class Stopped(Struct, frozen=True, kw_only=True):
    """What was stopped, for which GPUs, and what is not started again yet.

    `units` are in their order. `stage` is `starting` once the GPUs were cool; `since_ns`
    (CLOCK_MONOTONIC) is when it began.
    """

    boot_id: str
    since_ns: int
    gpus: tuple[str, ...]
    units: tuple[StoppedUnit, ...] = ()
    stage: Literal["stopped", "starting"] = "stopped"


class StoppedRecord:
    """The one record in `directory`."""

    def __init__(self, directory: Path, *, boot_id: str) -> None:
        self._path = directory / _FILE
        self._boot_id = boot_id

    def load(self) -> Stopped | None:
        """Return what an earlier run of this boot left, or None. Raises OSError.

        Raises msgspec.MsgspecError or UnicodeDecodeError for a file that is no record.
        """
        try:
            stopped = msgspec.json.decode(self._path.read_bytes(), type=Stopped)
        except FileNotFoundError:
            return None
        return stopped if stopped.boot_id == self._boot_id else None

    def save(self, stopped: Stopped) -> None:
        """Write it, whole or not at all. Raises OSError."""
        written = self._path.with_suffix(".new")
        with written.open("wb") as file:
            file.write(msgspec.json.encode(stopped))
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)

    def remove(self) -> None:
        """All is started again, or somebody else's to start."""
        self._path.unlink(missing_ok=True)
