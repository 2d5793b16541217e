"""Lines out of a byte stream: one JSON text a line, in both directions.

Pure: bytes in, lines out. A line longer than the cap is told once, when the cap is passed, and the
rest of it is dropped as it comes, so that memory stays bounded whatever the other side sends.
"""

from __future__ import annotations

from typing import Final

#: Longest line that is read unless configured otherwise.
MAX_FRAME_BYTES: Final = 1 << 20

#: What ends a line, as a byte.
NEWLINE: Final = 0x0A


class LineFramer:
    """Cuts what is fed to it into lines. What is left over waits for the next bytes."""

    __slots__ = ("_carry", "_discarding", "_max", "is_clean")

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._carry = bytearray()
        self._discarding = False
        #: Whether the next byte begins a line. Bytes that are whole lines then, each within the
        #: cap, need not be fed.
        self.is_clean = True

    @property
    def carried_bytes(self) -> int:
        """How much of an unfinished line is held."""
        return len(self._carry)

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the lines that `data` completes, without their ends.

        None stands for a line over the cap, at the place where it stood.
        """
        lines: list[bytes | None] = []
        first, *rest = data.split(b"\n")
        if rest:
            self._complete(first, lines)
            tail = rest.pop()
            lines.extend(part if len(part) <= self._max else None for part in rest)
        else:
            tail = first
        self._keep(tail, lines)
        self.is_clean = not (self._carry or self._discarding)
        return lines

    def forget(self) -> None:
        """Let go of an unfinished line: nobody is there to end it."""
        self._carry = bytearray()

    def finish(self) -> bytes:
        """Return the line that the end of the stream left without an end; empty if there is none.

        A stream may end without a newline after its last line.
        """
        last = bytes(self._carry)
        self._carry = bytearray()
        self._discarding = False
        self.is_clean = True
        return last

    def _complete(self, part: bytes, lines: list[bytes | None]) -> None:
        if self._discarding:
            self._discarding = False
        elif len(self._carry) + len(part) > self._max:
            lines.append(None)
        elif self._carry:
            lines.append(bytes(self._carry) + part)
        else:
            lines.append(part)
        if self._carry:
            self._carry = bytearray()

    def _keep(self, tail: bytes, lines: list[bytes | None]) -> None:
        if self._discarding:
            return
        if len(self._carry) + len(tail) > self._max:
            lines.append(None)
            self._carry = bytearray()
            self._discarding = True
        else:
            self._carry += tail
