"""The guarded command: run beside its terminal, and heard where its output is to be kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from superezioctl.exit_codes import KilledBy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

#: What one line of the protocol carries, in base64, with room for the rest.
MOST_KEPT_BYTES = 700 * 1024
_CHUNK = 65536


#: What ends a command for its user's sake: Ctrl-C and Ctrl-\\, a terminal that is closed, `kill`,
#: and a reader that has enough, as `head`.
_CANCELLED = frozenset(
    128 + number
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)
)
#: What is handed on, besides those that a terminal sends to the command, too.
_HANDED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_A_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


class Ended:
    """How the command ended. `code` is as a shell has it: `KilledBy` a signal, if one did."""

    def __init__(self, status: int, output: bytes | None) -> None:
        self.code = status if status >= 0 else KilledBy(-status)
        #: What it printed, where that was kept and is not too much.
        self.output = output
        #: By a signal, or with the exit code that a shell has for one: that is a cancellation.
        self.interrupted = self.code in _CANCELLED


def run(command: Sequence[str], environment: Mapping[str, str], *, keep: bool) -> Ended:
    """Run a command to its end, with this process's own files. Raises OSError.

    What `keep`s its output prints it as it comes. An interrupt from the terminal goes to both: it
    is the command that decides what to do. Other signals are handed on. What was ignored before
    (`nohup`) stays so.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    handlers = dict.fromkeys(_HANDED_ON, hand_on) | dict.fromkeys(
        _FROM_A_TERMINAL, _wait_for_the_child
    )
    before = {number: signal.getsignal(number) for number in handlers}
    try:
        for taken, handler in handlers.items():
            if before[taken] is not signal.SIG_IGN:
                signal.signal(taken, handler)
        child = subprocess.Popen(
            command, env=dict(environment), stdout=subprocess.PIPE if keep else None
        )
        for number in early:
            child.send_signal(number)
        kept = _tee(child) if keep else None
        return Ended(child.wait(), kept)
    finally:
        for changed, restored in before.items():
            signal.signal(changed, restored)


def _wait_for_the_child(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler, unlike SIG_IGN, is not handed down to the command."""


def _tee(child: subprocess.Popen[bytes]) -> bytes | None:
    """Print what the command prints; return it, unless it is too much to be kept.

    A reader that has enough (`head`) is not waited for: others may want the rest.
    """
    pipe = child.stdout
    if pipe is None:
        return None
    kept: list[bytes] | None = []
    size = 0
    out: int | None = sys.stdout.fileno()
    with pipe:
        while chunk := os.read(pipe.fileno(), _CHUNK):
            if out is not None and not _print(out, chunk):
                out = None
            if out is None and kept is None:
                break
            size += len(chunk)
            if size > MOST_KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(chunk)
    return None if kept is None else b"".join(kept)


def _print(out: int, chunk: bytes) -> bool:
    """Return whether anybody reads it."""
    try:
        while chunk:
            chunk = chunk[os.write(out, chunk) :]
    except BrokenPipeError:
        return False
    return True
