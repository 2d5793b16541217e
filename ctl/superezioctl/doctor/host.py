"""The host as doctor sees it: files below a root, commands with a time limit, and who asks."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from superezio.paths import SOCKET_VARIABLE

#: A name service or a systemd that takes longer is taken for one that does not answer.
PATIENCE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """`root` is where / is; a test's tree stands in for it. Nothing here raises OSError."""

    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)
    #: The groups of this login session, which do not follow the user database.
    gids: frozenset[int] = field(default_factory=lambda: frozenset({os.getegid(), *os.getgroups()}))
    #: Loads a shared library without calling anything in it; raises OSError.
    load: Callable[[str], object] = ctypes.CDLL
    patience_s: float = PATIENCE_S
    #: Where the environment says that the socket is.
    named_socket: str | None = field(default_factory=lambda: os.environ.get(SOCKET_VARIABLE))

    def path(self, path: str) -> Path:
        """Return where `path` of the host is."""
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str | None:
        """Return what a file holds, or None if it is not there or not for us."""
        try:
            return self.path(path).read_text(errors="replace")
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Say whether there is such a file, as far as we can see."""
        try:
            return self.path(path).exists()
        except OSError:
            return False

    def names(self, directory: str) -> list[str]:
        """Return what is in a directory, in order; nothing where it cannot be read."""
        try:
            return sorted(os.listdir(self.path(directory)))  # noqa: PTH208 - names alone
        except OSError:
            return []

    def stat(self, path: str) -> os.stat_result | OSError:
        """Return what is known of a file, or why nothing is."""
        try:
            return self.path(path).stat()
        except OSError as error:
            return error

    def room(self, path: str) -> os.statvfs_result | OSError:
        """Return what is known of the file system that `path` is on, or why nothing is."""
        try:
            return os.statvfs(self.path(path))
        except OSError as error:
            return error

    def run(self, *words: str) -> str | None:
        """Return what a command prints; None if it is not there, fails or takes too long."""
        program = shutil.which(words[0])
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *words[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.patience_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def as_root(self, *commands: str) -> str:
        """Return commands that root has to run, one after the other, as this user types them."""
        sudo = "" if self.uid == 0 else "sudo "
        return " && ".join(f"{sudo}{command}" for command in commands)


def properties(text: str) -> list[dict[str, str]]:
    """Return the properties that `systemctl show` prints, a unit each."""
    return [
        {name: value for name, _, value in (line.partition("=") for line in block.splitlines())}
        for block in text.strip().split("\n\n")
    ]
