"""A process beside this one: not its child, not on its terminal, and holding none of its files."""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from superezio.errors import BusyError

_NAME = b"lease-minder"


def start_beside(work: Callable[[], int | None], *, keep: Iterable[int] = ()) -> int:
    """Let `work` be done in a process of its own, which ends with it; return the pid of that.

    Its exit code is what `work` returns, 0 for None.
    Of the open files it has standard error and those in `keep`: a pipe or a lock that is this
    process's own must not live on in the other. Nothing in `work` may close what was open before.
    Raises BusyError where the kernel gives no process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    told, telling = os.pipe()
    try:
        between = os.fork()
    except OSError as error:
        raise _no_process(error) from error
    if between:
        os.close(telling)
        # Collected at once: the command must not find a child that it did not start.
        os.waitpid(between, 0)
        beside = os.read(told, 32)
        os.close(told)
        if not beside:
            raise _no_process(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        return int(beside)
    code = None
    try:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            _let_go_of_files({2, *keep})
            _be_named()
            code = work()
        else:
            os.write(telling, b"%d" % pid)
    except BaseException:  # noqa: BLE001 - the edge of a process: nothing may return to the caller
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(code or 0)


def _no_process(error: OSError) -> BusyError:
    from superezio.errors import BusyError  # noqa: PLC0415 - paid for on failure only

    return BusyError(f"cannot start a process beside the command: {error.strerror}")


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
