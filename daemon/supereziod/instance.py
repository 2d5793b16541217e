"""One daemon per runtime directory: two that share the file of leases would grant GPUs twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SecondInstanceError(Exception):
    """Another daemon is there; the message is a sentence for whoever started us."""


@contextmanager
def only_instance(runtime_dir: Path) -> Iterator[None]:
    """Hold the runtime directory, as long as this process lives. Raises SecondInstanceError.

    The kernel lets go of it with the process, however that ends. Where the directory cannot be
    written there are no leases to share, and nothing is held.
    """
    path = runtime_dir / "supereziod.lock"
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
            raise SecondInstanceError(
                f"another supereziod (pid {pid}) keeps its leases in {runtime_dir}: stop it first,"
                " or choose another --runtime-dir"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)
