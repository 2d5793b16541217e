"""One daemon per directory that it keeps, and one per host's GPUs: two would grant them twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from superezio.client import Client
from superezio.errors import SuperezioError
from superezio.paths import SYSTEM_SOCKET

_ANSWER_WITHIN_S: Final = 1.0


class SecondInstanceError(Exception):
    """Another daemon is there; the message is a sentence for whoever started us."""


@contextmanager
def only_instance(runtime_dir: Path, state_dir: Path) -> Iterator[None]:
    """Hold both directories, as long as this process lives. Raises SecondInstanceError.

    The kernel lets go of them with the process, however that ends. Where a directory cannot be
    written there is nothing in it to share, and it is not held.
    """
    with (
        _held(
            runtime_dir / "supereziod.lock",
            f"keeps its leases in {runtime_dir}: stop it first, or choose another --runtime-dir",
        ),
        _held(
            # By another name: both directories may be one.
            state_dir / "state.lock",
            f"keeps its state (cordons, quarantines) in {state_dir}: stop it first, or choose"
            " another --state-dir",
        ),
    ):
        yield


@contextmanager
def _held(path: Path, otherwise: str) -> Iterator[None]:
    """Hold one file; `otherwise` says what the process does that has it, and what to do."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise SecondInstanceError(f"another supereziod (pid {pid}) {otherwise}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def refuse_beside_system_daemon(socket: Path) -> None:
    """Raise SecondInstanceError where the host's service watches the real GPUs already.

    A daemon in a terminal has directories and a socket of its own, and knows nothing of the
    leases of the service. One that does not answer is no reason to refuse.
    """
    if socket == Path(SYSTEM_SOCKET):
        return
    try:
        with Client(SYSTEM_SOCKET, timeout_s=_ANSWER_WITHIN_S) as client:
            info = client.system_info()
    except SuperezioError:
        return
    if info.gpu_driver == "nvml":
        raise SecondInstanceError(
            f"the superezio service of this host (pid {info.pid}) watches its GPUs: use it, stop it"
            " first, or take simulated ones with --gpu-driver simulated"
        )
