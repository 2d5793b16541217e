"""The guarded command: run beside its terminal, and heard where its output is to be kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

#: What one line of the protocol carries, in base64, with room for the rest.
MOST_KEPT_BYTES = 700 * 1024
_CHUNK = 65536


class Ended:
    """How the command ended. `code` is as a shell has it: 128 and the signal, if one killed it."""

    def __init__(self, status: int, output: bytes | None) -> None:
        self.code = status if status >= 0 else 128 - status
        #: What it printed, where that was kept and is not too much.
        self.output = output
        self.interrupted = status in {-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}


def run(command: Sequence[str], environment: Mapping[str, str], *, keep: bool) -> Ended:
    """Run a command to its end, with this process's own files. Raises OSError.

    What `keep`s its output prints it as it comes. An interrupt from the terminal goes to both: it
    is the command that decides what to do. A SIGTERM is handed on.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if before[signal.SIGINT] is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _wait_for_the_child)
        signal.signal(signal.SIGTERM, hand_on)
        child = subprocess.Popen(
            command, env=dict(environment), stdout=subprocess.PIPE if keep else None
        )
        for number in early:
            child.send_signal(number)
        kept = _tee(child) if keep else None
        return Ended(child.wait(), kept)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_the_child(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler, unlike SIG_IGN, is not handed down to the command."""


def _tee(child: subprocess.Popen[bytes]) -> bytes | None:
    """Print what the command prints; return it, unless it is too much to be kept."""
    pipe = child.stdout
    if pipe is None:
        return None
    kept: list[bytes] | None = []
    size = 0
    out = sys.stdout.fileno()
    with pipe:
        while chunk := os.read(pipe.fileno(), _CHUNK):
            _print(out, chunk)
            size += len(chunk)
            if size > MOST_KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(chunk)
    return None if kept is None else b"".join(kept)


def _print(out: int, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(out, chunk) :]
