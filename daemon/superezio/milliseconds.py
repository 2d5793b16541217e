"""Times within are nanoseconds; on the wire they are whole milliseconds."""

from __future__ import annotations

from typing import Final

_MS_NS: Final = 1_000_000


def rounded_up(duration_ns: int) -> int:
    """Return the milliseconds of a time to wait: who comes back after them is not too early."""
    return -(-duration_ns // _MS_NS)
