"""What a client leaves unread: counted for its user, and not left for ever.

Whoever reads is not counted: a connection is from when a write has not gone through until all of
it has.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final, Protocol

from supereziod.rpc.buffers import Buffers
from supereziod.rpc.limits import Limits

#: What who is closed for it did.
LEFT_UNREAD: Final = "left too many answers unread"


class Reader(Protocol):
    """The connection whose client is to read."""

    unlimited: bool

    def drop(self, why: str) -> None:
        """Close at once, unsent answers lost, and have it told."""


class Sending(Protocol):
    """The server, as far as what it sends is concerned."""

    limits: Limits
    unread: Buffers


class Unread:
    """What one client has still to read, besides what the system has taken for it."""

    __slots__ = (
        "_host",
        "_largest_bytes",
        "_reader",
        "_sent_bytes",
        "_stall",
        "_transport",
        "_uid",
    )

    def __init__(
        self, reader: Reader, transport: asyncio.WriteTransport, uid: int, host: Sending
    ) -> None:
        self._reader = reader
        self._transport = transport
        self._uid = uid
        self._host = host
        #: What was sent since something was left, in all and at once.
        self._sent_bytes = self._largest_bytes = 0
        self._stall: asyncio.TimerHandle | None = None

    @property
    def kept_bytes(self) -> int:
        """How much that is. What was sent in part is kept whole."""
        unread = self._transport.get_write_buffer_size()
        return min(self._sent_bytes, unread + self._largest_bytes)

    def drop(self, why: str) -> None:
        """Close the connection at once, and have it told."""
        self._reader.drop(why)

    def note(self, line: bytes) -> None:
        """Count what was sent and has not gone out at once."""
        self._sent_bytes += len(line)
        self._largest_bytes = max(self._largest_bytes, len(line))
        if not (self._reader.unlimited or self._transport.is_closing()):
            self._host.unread.note(self, self._uid, self.kept_bytes)

    def watch(self) -> None:
        """Close the connection if its client reads nothing for long, while something is left."""
        if self._stall is None:
            unread = self._transport.get_write_buffer_size()
            if unread:
                self._watch_stall(unread)

    def forget(self) -> None:
        """Count and watch no more: all was read, or nobody will."""
        self._sent_bytes = self._largest_bytes = 0
        self._host.unread.forget(self, self._uid)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _watch_stall(self, unread: int) -> None:
        self._stall = asyncio.get_running_loop().call_later(
            self._host.limits.stall_timeout_s, self._check_stall, unread, context=Context()
        )

    def _check_stall(self, unread_before: int) -> None:
        unread = self._transport.get_write_buffer_size()
        if unread >= unread_before:
            self.drop(f"it read nothing for {self._host.limits.stall_timeout_s:g} s")
        else:
            self._watch_stall(unread)
