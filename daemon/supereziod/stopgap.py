"""Where documents are kept that the state directory does not take: in the runtime directory.

They outlive the daemon there, and not the boot. One that is here is newer than what the state
directory has, and is there no more once that has taken it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

#: For the daemon's user alone.
_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
DIRECTORY: Final = "unwritten"


class Stopgap:
    """Documents by name, a file each in `unwritten` of the runtime directory, made when needed.

    It has what an earlier life left. What cannot be kept here either is not: nothing is raised.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir / DIRECTORY
        self._bodies = _bodies_in(self._directory)

    def get(self, name: str) -> bytes | None:
        """Return the document, or None where the state directory has what is newest."""
        return self._bodies.get(name)

    def put(self, name: str, body: bytes) -> None:
        """Keep the document until it is dropped."""
        if self._bodies.get(name) == body:
            return  # it is tried every second whether the state directory takes it
        with suppress(OSError):
            self._directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            half = self._directory / f".{name}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(half, flags, _MODE), "wb") as file:
                file.write(body)
            half.replace(self._directory / name)
            self._bodies[name] = body

    def drop(self, name: str) -> None:
        """Forget the document: the state directory has it, or something newer."""
        if name in self._bodies:
            with suppress(OSError):
                (self._directory / name).unlink(missing_ok=True)
                del self._bodies[name]


def left_in(runtime_dir: Path, name: str) -> bytes | None:
    """Return a document as a daemon that is gone left it here, or None."""
    return _bodies_in(runtime_dir / DIRECTORY).get(name)


def _bodies_in(directory: Path) -> dict[str, bytes]:
    bodies: dict[str, bytes] = {}
    with suppress(OSError):
        for file in directory.iterdir():
            if not file.name.startswith("."):
                with suppress(OSError):  # one that cannot be read is no reason to lose the others
                    bodies[file.name] = file.read_bytes()
    return bodies
