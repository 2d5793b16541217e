"""Records of requests whose user has no room in the lane of full ones: who, what, and how it ended.

They stand in the lane of what is answered at once, under the name of the method and the outcome.
An id of the caller's own, the timeline, the GPUs and how long it took are left out.
"""

from __future__ import annotations

from typing import Final, Protocol

from superezio.flight.layout import stamp
from superezio.flight.marking import is_short, short_text
from supereziod.observability.ring import Ring

#: So many names of a ring may be of short records: the others are left for what is answered at
#: once. What comes after them is recorded without the name of its method.
_MOST_NAMES: Final = 256


class RecordedInShort(Protocol):
    """A request, as far as a short record tells of it. Its ids are of 16 hexadecimal digits."""

    received_ns: int
    number: int
    method: str | None

    @property
    def connection_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def uid(self) -> int: ...
    @property
    def pid(self) -> int: ...


class ShortRecords:
    """Writes them. Loop-owned."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._heads: dict[tuple[str | None, str], bytes] = {}

    def write(self, request: RecordedInShort, outcome: str) -> None:
        """Record a request that begins to wait, or is answered now, as `outcome` says."""
        head = self._heads.get((request.method, outcome)) or self._head(request.method, outcome)
        who = stamp(
            request.uid,
            request.pid,
            bytes.fromhex(request.connection_id),
            bytes.fromhex(request.session_id),
        )
        self._ring.plain.write(head, who, request.number, request.received_ns)

    def _head(self, method: str | None, outcome: str) -> bytes:
        name = short_text(method, outcome)
        known = self._ring.names
        if name not in known and sum(map(is_short, known)) >= _MOST_NAMES:
            name = short_text(None, outcome)
        head = self._heads[method, outcome] = self._ring.marks_of(name).plain
        return head
