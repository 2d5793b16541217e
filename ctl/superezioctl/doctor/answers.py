"""What the daemon says to doctor, or why it says nothing."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import msgspec

from superezio.connection import connect_once
from superezio.errors import SuperezioError
from superezio.wire import Gpu, GpuList, Health, SystemInfo
from superezioctl.caller import Caller

#: A daemon that takes longer is one that does not answer.
_PATIENCE_S = 3.0
#: The kernel's struct ucred: pid, uid and gid.
_CREDENTIALS = struct.Struct("3i")
#: systemd listens for its services; 0 is a process of another pid namespace.
_INIT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """All is None, but `error`, where the daemon did not answer.

    `pid` is who listens on the socket, which is known of one that does not answer, too.
    """

    system: SystemInfo | None = None
    health: Health | None = None
    gpus: list[Gpu] | None = None
    error: SuperezioError | None = None
    pid: int | None = None


def ask(socket_path: str, *, timeout_s: float) -> Answers:
    """Ask the daemon for all that doctor needs, in `timeout_s` at most, or a few seconds."""
    caller = Caller(socket_path=socket_path, timeout_s=min(timeout_s, _PATIENCE_S))
    pid = _listener(socket_path)
    try:
        return Answers(
            pid=pid,
            system=msgspec.json.decode(caller.call("system.info", retry=False), type=SystemInfo),
            health=msgspec.json.decode(caller.call("health.get", retry=False), type=Health),
            gpus=msgspec.json.decode(caller.call("gpu.list", retry=False), type=GpuList).gpus,
        )
    except SuperezioError as error:
        return Answers(error=error, pid=pid)
    except msgspec.ValidationError as error:
        unread = SuperezioError(f"its answer is not one of this version: {error}")
        return Answers(error=unread, pid=pid)
    finally:
        caller.close()


def _listener(socket_path: str) -> int | None:
    """Return the process that listens, which need not answer; None where it is not to be known."""
    try:
        connection = connect_once(socket_path)
    except OSError:
        return None
    try:
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    finally:
        connection.close()
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid if pid > _INIT else None
