"""What a client has sent and is not done: it counts for its user, as `unread.py` counts.

That are requests that wait for a turn, or until answers are read, and a line that has no end yet.
Either is little of one connection, but a user may have thousands of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

#: What is no more than this is not counted: what thousands of connections have is little.
SHORT_BYTES: Final = 4096
#: What who is closed for it did.
LEFT: Final = "sent more requests, whole or in part, than are kept waiting"


class Sender(Protocol):
    """The connection that has sent it."""

    @property
    def undone_bytes(self) -> int:
        """How much that is."""


class Undone:
    """What one connection has sent and is not done, as what it leaves."""

    __slots__ = ("_sender", "drop")

    def __init__(self, sender: Sender, drop: Callable[[str], None]) -> None:
        self._sender = sender
        #: Closes the connection, and has it told why.
        self.drop = drop

    @property
    def unread_bytes(self) -> int:
        """How much that is."""
        return self._sender.undone_bytes
