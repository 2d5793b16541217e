"""The files of a SQLite database, by name: itself, and the log and index that lie beside it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

#: For the daemon's user alone.
_MODE: Final = 0o600


def make_private(path: Path) -> None:
    """Keep others from reading the file: its directory may be open to all, as the socket's is.

    The log and the index that SQLite makes beside it get the same mode.
    """
    with suppress(OSError):  # where that is refused, SQLite says so better
        if path.exists():  # not opened: that would give up the locks of another connection
            path.chmod(_MODE)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))


def move_aside(path: Path) -> Path:
    """Rename a file that is corrupt, and remove its log; return its new name."""
    target = _aside(path, "corrupt")
    path.rename(target)
    remove_logs(path)
    return target


def keep_aside(path: Path) -> Path:
    """Give the file a second name, by which it outlives the first; return that."""
    target = _aside(path, "aside")
    os.link(path, target)
    return target


def logs(path: Path) -> tuple[Path, Path]:
    """Return the log and its index, which SQLite makes beside a file."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def remove_logs(path: Path) -> None:
    """Remove log and index, where they are."""
    for log in logs(path):
        log.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove the file with log and index, where they are."""
    path.unlink(missing_ok=True)
    remove_logs(path)


def sync_names(directory: Path) -> None:
    """Have on the disk which files are in a directory, and by which names, as far as that goes.

    A disk that takes nothing more is told with the next file that is synced.
    """
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy_files(path: Path, folder: Path) -> Path:
    """Copy the file and its log into a folder; return the copy."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    log, _ = logs(path)
    if log.exists():
        shutil.copyfile(log, copy.with_name(log.name))
    return copy


def _aside(path: Path, why: str) -> Path:
    return path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
