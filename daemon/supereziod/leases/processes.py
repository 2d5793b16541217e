"""What /proc says of a process: who it is, whose it is, and where it comes from."""

from __future__ import annotations

import errno
import os
import resource
import select
from pathlib import Path
from typing import Final, NamedTuple

from superezio.errors import BusyError
from supereziod.leases.cgroups import own_cgroup, unit_path

_COMMAND_BYTES: Final = 512
#: PF_KTHREAD of the kernel's flags of a process: a thread of its own.
_KERNEL_THREAD: Final = 0x00200000
BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")


class Identity(NamedTuple):
    """One process of this boot. The start time (clock ticks) tells it from a reuse of its pid."""

    pid: int
    start_time: int


class Origin(NamedTuple):
    """A process and its parent."""

    identity: Identity
    parent_pid: int


class ProcessTable:
    """Reads one /proc tree. Every answer is None where the process is not there (any more).

    Raises BusyError where no file can be opened: that says nothing of any process.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = str(root)

    def origin(self, pid: int) -> Origin | None:
        """Return who the process is, and its parent."""
        text = self._read(pid, "stat", 1024)
        if text is None:
            return None
        # The command stands in parentheses and may hold any character: count from its end.
        fields = text[text.rfind(b")") + 2 :].split(b" ", 20)
        return Origin(Identity(pid, int(fields[19])), int(fields[1]))

    def is_kernel_thread(self, pid: int) -> bool | None:
        """Tell whether it is a thread of the kernel's own."""
        text = self._read(pid, "stat", 1024)
        if text is None:
            return None
        fields = text[text.rfind(b")") + 2 :].split(b" ", 7)
        return bool(int(fields[6]) & _KERNEL_THREAD)

    def is_alive(self, identity: Identity) -> bool:
        """Tell whether that very process is there."""
        origin = self.origin(identity.pid)
        return origin is not None and origin.identity == identity

    def uids(self, pid: int) -> tuple[int, int] | None:
        """Return the real and the effective user."""
        text = self._read(pid, "status", 4096)
        if text is None:
            return None
        start = text.find(b"\nUid:")
        fields = text[start + 5 : text.find(b"\n", start + 1)].split()
        return int(fields[0]), int(fields[1])

    def command(self, pid: int) -> str | None:
        """Return the start of the command line; the bare name of one that shows none.

        It is only shown, and never worth a refusal: None, too, where no file can be opened.
        """
        try:
            text = self._read(pid, "cmdline", _COMMAND_BYTES) or self._read(pid, "comm", 64)
        except BusyError:
            return None
        if not text:
            return None
        return text.rstrip(b"\0\n").replace(b"\0", b" ").decode(errors="replace")

    def own_cgroup(self, pid: int) -> str | None:
        """Return the cgroup, if it is a service, a container's or a scope of one program."""
        text = self._read(pid, "cgroup", 16384)
        if text is None:
            return None
        return own_cgroup(text.decode(errors="replace"))

    def unit_path(self, pid: int) -> str | None:
        """Return the cgroup path of the innermost unit that the process is in."""
        text = self._read(pid, "cgroup", 16384)
        return None if text is None else unit_path(text.decode(errors="replace"))

    def origins(self) -> dict[int, Origin]:
        """Return every process there is, by pid."""
        found: dict[int, Origin] = {}
        try:
            paths = list(Path(self._root).iterdir())
        except OSError as error:
            busy = out_of_files(error)
            if busy is None:
                raise
            raise busy from error
        for path in paths:
            origin = self.origin(int(path.name)) if path.name.isdigit() else None
            if origin is not None:
                found[origin.identity.pid] = origin
        return found

    def _read(self, pid: int, name: str, limit_bytes: int) -> bytes | None:
        return _read(f"{self._root}/{pid}/{name}", limit_bytes)


def out_of_files(error: OSError) -> BusyError | None:
    """Return what to raise where the kernel gave no descriptor; None for any other error."""
    if error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        why = f"the daemon has as many files open as its limit of open files ({limit:,}) allows"
    elif error.errno == errno.ENFILE:
        why = "the host has as many files open as its limit of open files (fs.file-max) allows"
    elif error.errno == errno.ENOMEM:
        why = "the kernel has no memory for it"
    else:
        return None
    return BusyError(f"cannot look at a process: {why}", retry_after_ms=1000)


def pid_of(pidfd: int) -> int | None:
    """Return the pid that `pidfd` stands for; None if it is no pidfd, or its process is gone."""
    text = _read(f"/proc/self/fdinfo/{pidfd}", 1024) or b""
    for line in text.splitlines():
        if line.startswith(b"Pid:"):
            pid = int(line[4:])
            return pid if pid > 0 else None
    return None


def has_ended(pidfd: int) -> bool:
    """Tell whether the process of `pidfd` has ended (a zombie has)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def read_boot_id(path: Path = BOOT_ID_PATH) -> str:
    """Return the id of the running boot."""
    return path.read_text(encoding="ascii").strip()


def _read(path: str, limit_bytes: int) -> bytes | None:
    # Files of /proc are read on the event loop, at every acquire: no more calls than it takes.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        busy = out_of_files(error)
        if busy is not None:
            raise busy from error
        return None
    try:
        return os.read(fd, limit_bytes)
    except OSError:  # ESRCH: it ended in between
        return None
    finally:
        os.close(fd)
