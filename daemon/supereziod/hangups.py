"""SIGHUP, which asks for a reload, while there is nobody who could do one.

Unhandled it ends a process, and systemd takes that for an end in order. So it waits with the kernel
from the start of the process until it is handled, and again while the process ends.
"""

from __future__ import annotations

import signal
from typing import Final

_HANGUP: Final = {signal.SIGHUP}


def hold() -> None:
    """Let it wait. Threads and processes that are started by then inherit that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP)


def deliver() -> None:
    """Let it come, and what has waited as well."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANGUP)
