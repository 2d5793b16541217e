"""A line that a client has sent in part: what is held of it counts for its user (see `unread.py`).

A line may be as long as a frame, and each of thousands of connections may have one that never ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

#: A part that is no longer than this is not counted: what thousands of connections have is little.
SHORT_BYTES: Final = 4096
#: What who is closed for it did.
LEFT: Final = "sent too much of lines that have no end yet"


class Part(Protocol):
    """What holds the beginning of a line."""

    @property
    def carried_bytes(self) -> int:
        """How much of an unfinished line is held."""


class UnfinishedLine:
    """The line that one connection has not ended, as what it leaves."""

    __slots__ = ("_part", "drop")

    def __init__(self, part: Part, drop: Callable[[str], None]) -> None:
        self._part = part
        #: Closes the connection, and has it told why.
        self.drop = drop

    @property
    def unread_bytes(self) -> int:
        """How much is held."""
        return self._part.carried_bytes
