"""Messages to the service manager over NOTIFY_SOCKET."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import sdnotify
import structlog
from msgspec import Struct

from supereziod.observability.log_fields import printable

_SEPARATORS: Final = str.maketrans("\n\r\0", "   ")


class WatchdogRequest(Struct, frozen=True, kw_only=True):
    """What the service manager asks for: a ping at least every `timeout_s`."""

    timeout_s: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, pid: int) -> WatchdogRequest | None:
        """Return what WATCHDOG_USEC asks of process `pid`; None if nothing, or of another."""
        usec = environ.get("WATCHDOG_USEC", "")
        asked_pid = environ.get("WATCHDOG_PID", str(pid))
        if not usec.isdecimal() or int(usec) == 0 or asked_pid != str(pid):
            return None
        return cls(timeout_s=int(usec) / 1e6)


class Notifier:
    """Sends without ever blocking; what cannot be sent is logged, once until it works again."""

    def __init__(self, *, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET")
        self._log = structlog.get_logger()
        self._connection: _Connection | None = None
        self._failing = False

    @property
    def enabled(self) -> bool:
        """Whether there is a service manager that listens."""
        return bool(self._address)

    def send(self, *assignments: str) -> bool:
        """Send `NAME=value` assignments as one message; return whether they went out."""
        if not self.enabled:
            return False
        # `systemctl status` shows STATUS= as it is, and processes of others are named in it.
        lines = (printable(assignment.translate(_SEPARATORS)) for assignment in assignments)
        # sdnotify encodes as Latin-1: handing it the UTF-8 bytes as such keeps every character.
        message = "\n".join(lines).encode().decode("latin-1")
        try:
            if self._connection is None:
                self._connection = _Connection(self._address or "")
            self._connection.notify(message)
        except OSError as error:
            self._fail(error, assignments[0].partition("=")[0])
            return False
        if self._failing:
            self._failing = False
            self._log.info("notify.recovered")
        return True

    def close(self) -> None:
        """Close the socket; a later `send` opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.socket.close()

    def _fail(self, error: OSError, what: str) -> None:
        # A full queue drains; any other error may be a manager that made its socket anew.
        if not isinstance(error, BlockingIOError):
            self.close()
        if not self._failing:
            self._failing = True
            self._log.error("notify.failed", what=what, error=str(error))


class _Connection(sdnotify.SystemdNotifier):  # type: ignore[misc]  # it has no types
    """sdnotify, which by itself opens a blocking socket, drops it open, and swallows errors."""

    def __init__(self, address: str) -> None:
        self.debug = True  # raise what goes wrong
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(0)
        try:
            self.socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            self.socket.close()
            raise
