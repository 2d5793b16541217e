"""From the lease of a container that is to start to the lease of the container that runs.

The GPU process of a container is no descendant of `podman run`, and with -d that ends at once. So
the lease is first held by the process that attends to it; once the container has a first process,
that holds the lease alone, and the lease ends with the container, whatever becomes of the command.
"""

from __future__ import annotations

import os
import select

from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    HolderGoneError,
    PermissionDeniedError,
    ReplyTimeoutError,
    ShuttingDownError,
    StaleLeaseError,
    SuperezioError,
)
from superezio.holder import start_time
from superezioctl.caller import Caller
from superezioctl.minding.family import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.engine import Engine

#: How often it is looked whether the container is there: at first, and at most (a long pull).
_FIRST_LOOK_MS = 20
_LONGEST_LOOK_MS = 500
_PASSING = (ConnectionLostError, DaemonNotRunningError, ReplyTimeoutError, ShuttingDownError)


class Container:
    """One that runs: its id and its first process."""

    def __init__(self, id_: str, first: Process) -> None:
        self.id = id_
        self.first = first


def await_container(*, command: Process, engine: Engine, cidfile: str) -> Container | None:
    """Wait for the container that `command` runs; None if that ends and there is none."""
    pause_ms = _FIRST_LOOK_MS
    while True:
        ended = command.ended  # before the look: what it started by then is found
        found = _look(engine, cidfile)
        if found is not None or ended:
            return found
        poll = select.poll()
        poll.register(command.pidfd, select.POLLIN)
        poll.poll(pause_ms)
        pause_ms = min(pause_ms * 5 // 4, _LONGEST_LOOK_MS)


def _look(engine: Engine, cidfile: str) -> Container | None:
    try:
        with open(cidfile, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 8 ms
            id_ = file.read().strip()
    except OSError:
        return None
    pid = engine.first_pid(id_) if id_ else None
    try:
        return None if pid is None else Container(id_, Process.open(pid))
    except OSError:
        return None


def hand_over(
    container: Container, *, caller: Caller, lease: str, say: Callable[[str], None]
) -> bool:
    """Bind the container's first process to the lease, over restarts of the daemon.

    Returns False where that is not possible while the container runs: this process has to hold
    the lease then. Raises StaleLeaseError where the lease is no more.
    """
    first = container.first
    started = start_time(first.pid)
    while not first.ended:
        params = {"lease": lease, "pid": first.pid, "start_time": started}
        try:
            caller.call("lease.attach", params)
        except HolderGoneError:
            return True
        except StaleLeaseError:
            raise
        except _PASSING:
            continue
        except SuperezioError as error:
            say(f"{error.message}. superezioctl holds the lease while the container runs")
            if isinstance(error, PermissionDeniedError):
                say(
                    "what the container uses counts as foreign until an admin attaches it: "
                    f"superezioctl lease attach {lease} --container {container.id[:12]}"
                )
            return False
        else:
            return True
    return True


def become_another() -> None:
    """Go on in a process that holds nothing: this one ends, and what it held ends with it."""
    if os.fork():
        os._exit(0)
