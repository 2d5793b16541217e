"""journald, natively: every field of a line is a field of the journal's entry.

`journalctl -u superezio CORRELATION_ID=...` works because of it. The wire format, and the sealed
memory file for entries over the datagram limit, are logging-journald's (pure Python, no
dependencies, maintained). It is used for its transport alone, since its handler neither knows our
fields nor avoids blocking; systemd-python and cysystemd need a compiler and libsystemd's headers.

A journal that is stopped, restarted or behind loses nothing here: its socket is addressed anew for
each entry, and one that cannot take an entry now is tried again. Each entry says when it was
logged (LOGGED_AT), as the journal's own time is that of its arrival.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import uuid
from collections.abc import Iterable, Mapping
from typing import Final

from logging_journald import JournaldTransport  # type: ignore[import-untyped]
from structlog.typing import EventDict, WrappedLogger

from supereziod.observability.journal_space import JournalSpace
from supereziod.observability.log_fields import (
    SCOPE_FIELDS,
    as_text,
    extras,
    in_one_line,
    printable,
    sentence,
)

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
SYSLOG_IDENTIFIER: Final = "supereziod"
Entry = list[tuple[str, str]]

_PRIORITIES: Final = {
    "debug": "7",
    "info": "6",
    "notice": "5",
    "warning": "4",
    "error": "3",
    "critical": "2",
}
#: journald's own _UID and _PID are the daemon's: the caller's have names of their own.
_SCOPE_NAMES: Final = {
    "correlation_id": "CORRELATION_ID",
    "session_id": "SESSION_ID",
    "uid": "REQUEST_UID",
    "pid": "REQUEST_PID",
    "method": "METHOD",
    "gpu": "GPU",
    "lease": "LEASE",
}
#: Fields that mean something to journald itself: ours of that name get a prefix.
_RESERVED: Final = re.compile(
    r"MESSAGE|MESSAGE_ID|PRIORITY|ERRNO|EVENT|TID|CODE_.*|SYSLOG_.*|OBJECT_.*|COREDUMP_.*|UNIT|"
    r"USER_UNIT|INVOCATION_ID|DOCUMENTATION|LOGGED_AT|" + "|".join(_SCOPE_NAMES.values())
)
_FIELD_MAX: Final = 64
#: What sending fails with while journald is stopped, restarted, behind, or the host has no memory.
_AWAY: Final = frozenset(
    {
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ECONNREFUSED,
        errno.ENOENT,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
    }
)
#: How long one try may wait for journald to read: struct timeval, 1 s.
_PATIENCE: Final = struct.pack("@ll", 1, 0)
_EVENTS_NAMESPACE: Final = uuid.UUID("6f3a1c52-95b0-4d0e-9f53-0c1e6a7f2b44")


def message_id(event: str) -> str:
    """Return the MESSAGE_ID of a type of event: the same on every host and in every release."""
    return uuid.uuid5(_EVENTS_NAMESPACE, event).hex


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether `fd` is the stream to the journal that JOURNAL_STREAM announces."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isascii() and device.isdigit() and inode.isascii() and inode.isdigit()):
        return False
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


def render_entry(_logger: WrappedLogger, _method: str, fields: EventDict) -> Entry:
    """Return the entry's fields by their names in the journal. What is null is left out."""
    event = str(fields["event"])
    entry = [
        ("MESSAGE", sentence(fields)),
        ("PRIORITY", _PRIORITIES[fields["level"]]),
        ("SYSLOG_IDENTIFIER", SYSLOG_IDENTIFIER),
        ("MESSAGE_ID", message_id(event)),
        ("EVENT", printable(event)),
        ("LOGGED_AT", fields["time"]),
    ]
    for name in SCOPE_FIELDS:
        value = fields.get(name)
        if value is not None:
            entry.append((_SCOPE_NAMES[name], as_text(value)))
    entry += [(_field_name(name), as_text(v)) for name, v in extras(fields) if v is not None]
    return entry


class JournaldSink:
    """The journal's datagram socket, addressed for each entry so that it may be replaced.

    `stream` is the descriptor of the unit's stream to the journal. systemd keeps its other end
    while journald is away, so that it is where entries are left that nobody took by the end.
    `space` is where journald keeps what it takes; without room there nothing is sent.
    """

    def __init__(
        self,
        path: str = JOURNAL_SOCKET,
        *,
        stream: int | None = None,
        space: JournalSpace | None = None,
    ) -> None:
        self._waiting = JournaldTransport(path, connected=False)
        # By the kernel: Python's own time-out would ask whether this end can be written to, which
        # it always can, and so ask without end.
        self._waiting.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        self._prompt = JournaldTransport(path, connected=False)
        self._prompt.socket.setblocking(False)  # noqa: FBT003 - positional-only
        self._stream = stream
        self._space = space

    def try_send(self, payload: Entry) -> bool:
        """Send if journald has room. False: not sent."""
        if self._space is not None and not self._space.is_known_roomy:
            return False
        try:
            self._prompt.send(payload)
        except OSError:
            return False
        return True

    def send(self, payload: Entry) -> None:
        """Send, and wait a second for journald to read if need be. Raises OSError."""
        if self._space is not None and not self._space.is_known_roomy and not self._space.look():
            raise OSError(errno.ENOSPC, "the journal has no room")
        self._waiting.send(payload)

    def is_away(self, error: OSError) -> bool:
        """Whether journald may take an entry later."""
        return error.errno in _AWAY

    def save(self, payloads: Iterable[Entry]) -> int:
        """Write entries as lines to the unit's stream, as far as it has room; return how many."""
        saved = 0
        if self._stream is None:
            return saved
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._stream)) as stream:
            for payload in payloads:
                stream.send(_as_line(payload), socket.MSG_DONTWAIT)
                saved += 1
        return saved

    def close(self) -> None:
        """Close both sockets."""
        for transport in (self._waiting, self._prompt):
            with contextlib.suppress(OSError):
                transport.socket.close()


def _as_line(entry: Entry) -> bytes:
    """Return an entry as the stream takes it: its priority, one line, and what cannot be lost."""
    fields = dict(entry)
    message = in_one_line(fields["MESSAGE"])
    line = f"<{fields['PRIORITY']}>{message} ({fields['EVENT']}, logged at {fields['LOGGED_AT']})"
    return f"{line}\n".encode(errors="backslashreplace")


def _field_name(name: str) -> str:
    field = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_") or "FIELD"
    if _RESERVED.fullmatch(field) or field[0].isdigit():
        field = f"SUPEREZIO_{field}"
    return field[:_FIELD_MAX]
