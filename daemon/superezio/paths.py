"""Where the socket is when nobody says, and what the daemon keeps."""

from __future__ import annotations

import os

#: The environment variable that names the socket, for the daemon and for its clients.
SOCKET_VARIABLE = "SUPEREZIO_SOCKET"

#: The directory of the system's daemon; tmpfiles.d makes it.
SYSTEM_RUNTIME_DIR = "/run/superezio"

#: The socket of the system's daemon.
SYSTEM_SOCKET = f"{SYSTEM_RUNTIME_DIR}/control.sock"

#: The environment variable that names the directory in which the daemon keeps its state.
STATE_DIR_VARIABLE = "SUPEREZIO_STATE_DIR"

#: That of the system's daemon.
SYSTEM_STATE_DIR = "/var/lib/superezio"


def user_runtime_dir() -> str:
    """Return the directory of a daemon that a user started, by the rules of XDG."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"{base}/superezio"


def default_socket_path() -> str:
    """Return where a client looks for the daemon.

    `$SUPEREZIO_SOCKET` wins; then the system's socket, if it is there or the caller is root; then
    the one of a daemon that this user started, if it is there. Where neither is, a host on which
    superezio is installed will have the system's.
    """
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return named
    if os.geteuid() == 0 or os.path.exists(SYSTEM_SOCKET):  # noqa: PTH110 - pathlib costs 8 ms
        return SYSTEM_SOCKET
    own = f"{user_runtime_dir()}/control.sock"
    # Whoever waits, waits for the one that is chosen now.
    if not os.path.exists(own) and os.path.isdir(SYSTEM_RUNTIME_DIR):  # noqa: PTH110, PTH112
        return SYSTEM_SOCKET
    return own


def daemon_socket_path() -> str:
    """Return where a daemon listens unless it is told otherwise: not where another one does."""
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return named
    if os.geteuid() == 0:
        return SYSTEM_SOCKET
    return f"{user_runtime_dir()}/control.sock"


def default_state_dir() -> str:
    """Return where the daemon that a client means keeps its state.

    `$SUPEREZIO_STATE_DIR` wins; then that of a daemon that this user started, if it is there; then
    the system's.
    """
    named = os.environ.get(STATE_DIR_VARIABLE)
    if named:
        return named
    own = user_state_dir()
    system = os.geteuid() == 0 or not os.path.isdir(own)  # noqa: PTH112 - as above
    return SYSTEM_STATE_DIR if system else own


def user_state_dir() -> str:
    """Return where a daemon that a user started keeps its state, by the rules of XDG."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - as above
    return f"{home}/superezio"
