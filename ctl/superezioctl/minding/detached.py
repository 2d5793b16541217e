"""A process beside this one: not its child, not on its terminal, and holding none of its files."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NAME = b"lease-minder"


def start_beside(work: Callable[[], None], *, keep: Iterable[int] = ()) -> None:
    """Let `work` be done in a process of its own, which ends with it; returns once that runs.

    Of the open files it has standard error and those in `keep`: a pipe or a lock that is this
    process's own must not live on in the other. Nothing in `work` may close what was open before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    between = os.fork()
    if between:
        # Collected at once: the command must not find a child that it did not start.
        os.waitpid(between, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _let_go_of_files({2, *keep})
            _be_named()
            work()
    except BaseException:  # noqa: BLE001 - the edge of a process: nothing may return to the caller
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _let_go_of_files(keep: set[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib costs 8 ms
        if int(name) not in keep | {0, 1}:
            try:
                os.close(int(name))
            except OSError:  # the one that listed them
                continue


def _be_named() -> None:
    """Show as what it is where processes are listed by name, not as one more superezioctl."""
    try:
        with open("/proc/self/comm", "wb") as comm:  # noqa: PTH123 - pathlib costs 8 ms
            comm.write(_NAME)
    except OSError:
        return
