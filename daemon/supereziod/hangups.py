"""SIGHUP, which asks for a reload, while there is nobody who could do one.

Unhandled it ends a process, and systemd takes that for an end in order. So it waits with the kernel
from the start of the process until it is handled, and is ignored while the process ends.
"""

from __future__ import annotations

import signal
from typing import Final

_HANGUP: Final = {signal.SIGHUP}


def hold() -> None:
    """Let it wait: call it before there is any other thread, as each has a mask of its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP)


def deliver() -> None:
    """Let it come, and what has waited as well."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANGUP)


def forget() -> None:
    """Have nothing come of what has waited: nothing was started that could do a reload."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which drops it
    deliver()
    signal.signal(signal.SIGHUP, before)


def ignore() -> None:
    """Let nothing come of it any more, in whichever thread."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
