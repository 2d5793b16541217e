"""Where the socket is when nobody says."""

from __future__ import annotations

import os

#: The environment variable that names the socket, for the daemon and for its clients.
SOCKET_VARIABLE = "SUPEREZIO_SOCKET"

#: The directory of the system's daemon; tmpfiles.d makes it.
SYSTEM_RUNTIME_DIR = "/run/superezio"

#: The socket of the system's daemon.
SYSTEM_SOCKET = f"{SYSTEM_RUNTIME_DIR}/control.sock"


def user_runtime_dir() -> str:
    """Return the directory of a daemon that a user started, by the rules of XDG."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"{base}/superezio"


def default_socket_path() -> str:
    """Return where a client looks for the daemon.

    `$SUPEREZIO_SOCKET` wins; then the system's socket, if it is there or the caller is root; then
    the one of a daemon that this user started.
    """
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return named
    if os.geteuid() == 0 or os.path.exists(SYSTEM_SOCKET):  # noqa: PTH110 - pathlib costs 8 ms
        return SYSTEM_SOCKET
    return f"{user_runtime_dir()}/control.sock"


def daemon_socket_path() -> str:
    """Return where a daemon listens unless it is told otherwise: not where another one does."""
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return named
    if os.geteuid() == 0:
        return SYSTEM_SOCKET
    return f"{user_runtime_dir()}/control.sock"
