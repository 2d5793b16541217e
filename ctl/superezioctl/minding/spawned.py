"""Programs that a minder starts: as light as can be, and never waited for without need."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms
import os
import shutil

from superezioctl.minding.family import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Spawned:
    """A child of the minder. What it prints goes to standard error."""

    def __init__(self, pid: int) -> None:
        self._process = Process.open(pid)

    @classmethod
    def start(cls, words: Sequence[str], environment: Mapping[str, str]) -> Spawned:
        """Start a program, by its path or name. Raises OSError."""
        return cls(_spawn(words, environment, stdout=2))

    @property
    def pidfd(self) -> int:
        """What has something to read once it has ended."""
        return self._process.pidfd

    def failure(self) -> str | None:
        """Return how it failed, an empty text if it did not, and None while it runs."""
        if not self._process.ended:
            return None
        _, status = os.waitpid(self._process.pid, 0)
        os.close(self._process.pidfd)
        code = os.waitstatus_to_exitcode(status)
        if code > 0:
            return f"failed with exit code {code}"
        return f"was ended by signal {-code}" if code else ""


def output_of(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return what a program prints, or None where it fails; its complaints go nowhere."""
    ours, theirs = os.pipe()
    try:
        pid = _spawn(words, environment, stdout=theirs, stderr=0)
    except OSError:
        os.close(ours)
        return None
    finally:
        os.close(theirs)
    with os.fdopen(ours, "r", errors="replace") as printed:
        text = printed.read()
    _, status = os.waitpid(pid, 0)
    return None if status else text


def _spawn(
    words: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int = 2
) -> int:
    path = shutil.which(words[0], path=environment.get("PATH")) or words[0]
    return os.posix_spawn(
        path,
        list(words),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ],
        setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
    )
