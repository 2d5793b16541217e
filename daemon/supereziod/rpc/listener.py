"""The listening socket: given by systemd, or made here with the right mode from the start."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, Self

#: uvloop and asyncio call listen() again, so that the value has to be given to them too.
BACKLOG: Final = 4096
_FIRST_PASSED_FD: Final = 3
_NEITHER_READ_NOR_WRITE_MASKED: Final = 0o111
_UCRED: Final = struct.Struct("=iII")


class ListenError(Exception):
    """The socket cannot be listened on; the message is a sentence for whoever started us."""


class Listener:
    """A listening Unix socket. One that was made here is removed again at the end, if still ours.

    A lock file beside it keeps two daemons that start together from clearing each other's socket.
    """

    def __init__(
        self, sock: socket.socket, path: Path, *, lock_fd: int | None, inherited: bool
    ) -> None:
        self.socket = sock
        self.path = path
        self.inherited = inherited
        self._lock_fd = lock_fd
        self._identity = _identity(path)

    @classmethod
    def inherit(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Take the socket that systemd passed, None if there is none.

        Removes systemd's variables, so that no child mistakes them for its own.
        """
        pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
        environ.pop("LISTEN_FDNAMES", None)
        if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
            return None
        if int(count) > 1:
            raise ListenError(f"systemd passed {count} sockets; superezio.socket has to give one")
        sock = socket.socket(fileno=_FIRST_PASSED_FD)
        os.set_inheritable(sock.fileno(), False)  # noqa: FBT003 - positional in os
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ListenError("the socket that systemd passed is no Unix stream socket")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ListenError("the socket that systemd passed does not listen")
        return cls(sock, Path(sock.getsockname()), lock_fd=None, inherited=True)

    @classmethod
    def make(cls, path: Path) -> Self:
        """Listen at `path`. Clears a stale socket; refuses where a daemon answers.

        Changes the process's umask for the moment of the bind: call it before any thread makes
        files.
        """
        try:
            _make_directory(path.parent)
            lock_fd = _lock(path)
        except OSError as error:
            raise ListenError(f"cannot listen at {path}: {error}") from error
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear_stale(path)
            _bind_open_to_all(sock, path)
            sock.listen(BACKLOG)
            return cls(sock, path, lock_fd=lock_fd, inherited=False)
        except BaseException as error:
            sock.close()
            os.close(lock_fd)
            if isinstance(error, OSError):
                raise ListenError(f"cannot listen at {path}: {error}") from error
            raise

    def out_of_reach(self) -> str | None:
        """Return why nobody finds it by its path any more, and what mends that, or None.

        Connections that are open go on, the daemon's own to itself as well.
        """
        if self._identity is None:
            return None  # it has no path here
        now = _identity(self.path)
        if now == self._identity:
            if os.access(self.path, os.W_OK):
                return None
            return (
                f"the mode of {self.path} keeps the daemon's own user out, and so maybe others."
                f" chmod 666 {self.path}"
            )
        what = "was removed" if now is None else "was replaced"
        mend = "systemctl restart superezio.socket superezio.service"
        return (
            f"nobody can connect: {self.path} {what}."
            f" {mend if self.inherited else 'Restart the daemon'}"
        )

    def close(self) -> None:
        """Close, and remove the socket file if this daemon made the one that is there."""
        is_ours = not self.inherited and self._identity is not None
        if is_ours and _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)
        self.socket.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)


def _lock(path: Path) -> int:
    fd = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise ListenError(_in_use(path, _answering_pid(path))) from None
        raise
    return fd


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen at {path}: something that is no socket is in the way")
    pid = _answering_pid(path)
    if pid is not None:
        raise ListenError(_in_use(path, pid))
    path.unlink(missing_ok=True)


def _answering_pid(path: Path) -> int | None:
    """Return the pid that listens at `path` (0 if it cannot be known), None for nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except BlockingIOError:
            return 0
        cred = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid: int = _UCRED.unpack(cred)[0]
        return pid


def _in_use(path: Path, pid: int | None) -> str:
    who = f" (pid {pid})" if pid else ""
    return f"another supereziod{who} serves {path}: stop it first, or choose another --socket"


def _bind_open_to_all(sock: socket.socket, path: Path) -> None:
    # The mode of a socket file is 0777 less the umask, from the moment it exists.
    umask = os.umask(_NEITHER_READ_NOR_WRITE_MASKED)
    try:
        sock.bind(os.fspath(path))
    finally:
        os.umask(umask)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
