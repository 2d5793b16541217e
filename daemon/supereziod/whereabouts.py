"""Whether files that are in use are still the ones that others find by their names.

What is open goes on to be written after somebody has removed it, moved it away or put another in
its place, and no write fails: it is for nobody any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: What a file has here is the same for as long as it is one of its kind.
_BEGINNING_BYTES: Final = 4


class Whereabouts:
    """Remembers which files they are, and how long; `lost` compares.

    How those `to_read` begin has to stay, too. A database is none of them: to close it gives up
    the locks that another part of the process has on it.
    """

    def __init__(self, paths: Iterable[Path], *, to_read: Iterable[Path] = ()) -> None:
        self._known = [
            *(_Known(path, is_read=False) for path in paths),
            *(_Known(path, is_read=True) for path in to_read),
        ]
        self.lost()

    def lost(self) -> str | None:
        """Return what has become of a file, as a sentence to go on with; None where all is well.

        What cannot be looked at is well: a write says better what is wrong.
        """
        for known in self._known:
            what = known.what_became_of_it()
            if what is not None:
                return f"{known.path} was {what} while it was in use"
        return None

    def may_shrink(self) -> None:
        """Let the files be shorter when they are looked at next: their owner makes them so."""
        for known in self._known:
            known.size_bytes = 0


class _Known:
    """What a file was when it was last looked at: which one, how long, and how it begins."""

    __slots__ = ("begins", "identity", "is_read", "path", "size_bytes")

    def __init__(self, path: Path, *, is_read: bool) -> None:
        self.path = path
        self.is_read = is_read
        self.identity: tuple[int, int] | None = None
        self.size_bytes = 0
        self.begins = b""

    def what_became_of_it(self) -> str | None:
        try:
            status = self.path.stat()
            begins = self._read() if self.is_read else b""
        except FileNotFoundError:
            return None if self.identity is None else "removed"
        except OSError:
            return None
        identity = (status.st_dev, status.st_ino)
        if self.identity not in {None, identity}:
            return "replaced"
        if status.st_size < self.size_bytes:
            return "cut short"
        if self.begins and begins and begins != self.begins:
            return "cut short"  # and written to since, behind what is missing now
        self.identity, self.size_bytes = identity, status.st_size
        self.begins = self.begins or begins
        return None

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(_BEGINNING_BYTES)
