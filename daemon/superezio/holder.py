"""This process, as the daemon knows the holder of a lease: by its start time as well as its pid."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezio.errors import HolderGoneError
    from superezio.wire import HolderProcess, Lease

_START_TIME_FIELD = 19  # field 22 of proc(5), counted after the command, which may hold anything


def start_time(pid: int | str = "self") -> int | None:
    """Return when process `pid` started, in clock ticks since boot, or None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib costs 8 ms
            text = stat.read()
    except OSError:
        return None
    return int(text.rpartition(b")")[2].split()[_START_TIME_FIELD])


def needs_confirmation(lease: Lease, holder_pid: int | None) -> bool:
    """Say whether the daemon asks the client to vouch that it is the holder of the lease."""
    return (
        lease.mode == "process" and not lease.holder_confirmed and holder_pid in {None, os.getpid()}
    )


def own_process(lease: Lease) -> HolderProcess | None:
    """Return this process among the holders of a lease.

    By its start time: inside a container the pid is another one than the daemon sees.
    """
    mine = start_time()
    return next((process for process in lease.holder if process.start_time == mine), None)


def not_the_holder(lease: Lease) -> HolderGoneError:
    """Return the exception for a lease that was bound to another process than this one."""
    from superezio.errors import HolderGoneError  # noqa: PLC0415 - paid for on failure only

    return HolderGoneError(
        f"lease {lease.id} was bound to another process than this one, and was released: ask "
        "again, or ask for a lease of mode connection"
    )
