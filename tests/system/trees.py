"""The root directories whose systemd is tried: this machine's, and a Debian 13's.

`make debian13` makes the latter in build/, once; where it could not be made, the tests of it are
skipped and say why.
"""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

_BUILD = Path(__file__).parents[2] / "build"
#: `make debian13` has it while it works, and that takes a minute.
_LOCK = _BUILD / "debian13.lock"
_PATIENCE_S = 300.0
_CHROOT = """\
tree=$1
shift
while [ "$1" != -- ]; do
    mkdir -p "$tree$2"
    mount --bind "$1" "$tree$2"
    shift 2
done
shift
exec chroot "$tree" "$@"
"""


class Tree(Struct, frozen=True):
    """A root directory with a systemd and a Python."""

    root: Path = Path("/")

    @property
    def is_ours(self) -> bool:
        """Whether it is that of this machine."""
        return self.root == Path("/")

    def command(self, *command: str, mounts: Mapping[Path, str]) -> list[str]:
        """Return the command line that runs `command` with the tree as its root."""
        pairs = [word for source, target in mounts.items() for word in (str(source), target)]
        own = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _CHROOT, "chroot"]
        return [*own, str(self.root), *pairs, "--", *command]

    def python(self) -> str:
        """Return the version of its /usr/bin/python3."""
        command = self.command("/usr/bin/python3", "--version", mounts={})
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def debian13() -> Tree | str:
    """Return the tree of Debian 13, or why there is none. Waits for one that is being made."""
    complete = _BUILD / "trixie" / "complete"
    end = time.monotonic() + _PATIENCE_S
    while not complete.exists() and _is_locked() and time.monotonic() < end:
        time.sleep(0.5)
    if complete.exists():
        return Tree(complete.parent)
    why = _BUILD / "debian13.why"
    return why.read_text().strip() if why.exists() else "no Debian 13: `make debian13` makes it"


def _is_locked() -> bool:
    if not _LOCK.exists():
        return False
    with _LOCK.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
