"""Sockets that systemd holds for us and hands over at the start (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST_FD: Final = 3
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ActivationError(Exception):
    """What was handed over is not what the units promise."""


def listening_sockets(
    environ: MutableMapping[str, str] = os.environ, *, first_fd: int = _FIRST_FD
) -> dict[str, socket.socket]:
    """Return the sockets meant for this process, by their FileDescriptorName; none without systemd.

    The variables are removed, so that no child believes the sockets to be its own, and the
    sockets do not survive an exec. Call it once. Raises ActivationError.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if not pid and not count:
        return {}
    if not (pid.isdigit() and count.isdigit()):
        raise ActivationError(f"cannot read LISTEN_PID={pid!r} LISTEN_FDS={count!r} as numbers")
    if int(pid) != os.getpid():
        return {}  # meant for a parent that passed its environment on
    fds = range(first_fd, first_fd + int(count))
    by_name = names.split(":") if names else ["unknown"] * len(fds)
    if len(by_name) != len(fds):
        raise ActivationError(f"{len(fds)} sockets were handed over, with the names {names!r}")
    return {name: _adopt(fd, name) for name, fd in zip(by_name, fds, strict=True)}


def _adopt(fd: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional-only
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ActivationError(f"cannot use descriptor {fd} ({name}): {error}") from error
    is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not is_listening:
        sock.detach()
        raise ActivationError(f"descriptor {fd} ({name}) is not a listening Unix stream socket")
    sock.setblocking(False)  # noqa: FBT003 - positional-only
    return sock
