"""The head of a ring file: which bytes are which lane, the names of methods, and the times.

It is written twice, in turns, each with a number and a checksum: of a head that was being written
when the daemon died, the one before it is still there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from superezio.flight.layout import MAX_RECORD_BYTES, UNIT_BYTES

MAGIC: Final = b"superezio flight ring\n"
VERSION: Final = 1
#: One of the two slots. What is written into it is bounded.
SLOT_BYTES: Final = 32 * 1024
HEAD_BYTES: Final = 2 * SLOT_BYTES
#: Smaller lanes would hold no record of the greatest length beside others.
LEAST_LANE_BYTES: Final = 4 * MAX_RECORD_BYTES
LEAST_BYTES: Final = HEAD_BYTES + 2 * LEAST_LANE_BYTES
MAX_ERAS: Final = 64
MAX_METHODS: Final = 512

_SLOT: Final = struct.Struct("<22sHIQI")


class UnreadableRingError(Exception):
    """The file is no ring, or one of another version; the message says which."""


class Era(Struct, frozen=True, kw_only=True):
    """From these places on, `wall_ns` is what to add to a monotonic time for the time of day.

    A new one begins with each life of the daemon, and when the wall clock was set or the host
    slept. `boot_id` tells the monotonic times of different boots apart; `life` counts the lives.
    """

    boot_id: str
    life: int
    pid: int
    wall_ns: int
    plain_place: int
    full_place: int


class Head(Struct, frozen=True, kw_only=True):
    """What the head says. A method is recorded by its index in `methods`, which only grows."""

    plain_bytes: int
    full_bytes: int
    methods: list[str] = []
    eras: list[Era] = []

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        return HEAD_BYTES + self.plain_bytes + self.full_bytes


def lanes_of(size: int) -> tuple[int, int]:
    """Return the bytes of the two lanes of a file of about `size` bytes."""
    lane = (max(size, LEAST_BYTES) - HEAD_BYTES) // 2 // UNIT_BYTES * UNIT_BYTES
    return lane, lane


def write_head(buffer: memoryview, head: Head, generation: int) -> None:
    """Write the head of that number into its slot: the other one stays as it is."""
    body = msgspec.json.encode(head)
    start = generation % 2 * SLOT_BYTES
    buffer[start + _SLOT.size : start + _SLOT.size + len(body)] = body
    _SLOT.pack_into(buffer, start, MAGIC, VERSION, len(body), generation, crc32(body))


def read_head(buffer: memoryview) -> tuple[Head, int]:
    """Return the newest whole head and its number. Raises UnreadableRingError."""
    if len(buffer) < LEAST_BYTES:
        raise UnreadableRingError(f"it has {len(buffer)} bytes, too few for a ring")
    versions: set[int] = set()
    found: list[tuple[int, Head]] = []
    for start in (0, SLOT_BYTES):
        magic, version, length, generation, checksum = _SLOT.unpack_from(buffer, start)
        if magic != MAGIC:
            continue
        versions.add(version)
        if version != VERSION or length > SLOT_BYTES - _SLOT.size:
            continue
        body = bytes(buffer[start + _SLOT.size :][:length])
        if crc32(body) == checksum and (head := _decoded(body)) is not None:
            found.append((generation, head))
    other = versions - {VERSION}
    if not found and other:
        raise UnreadableRingError(f"it has version {max(other)}, and {VERSION} is what is read")
    if not found:
        raise UnreadableRingError("it is no flight ring, or its head is damaged")
    generation, head = max(found, key=lambda each: each[0])
    if head.size != len(buffer) or min(head.plain_bytes, head.full_bytes) < LEAST_LANE_BYTES:
        raise UnreadableRingError(f"it has {len(buffer)} bytes, and its head says {head.size}")
    return head, generation


_decode: Final[Callable[[bytes], Head]] = msgspec.json.Decoder(Head).decode


def _decoded(body: bytes) -> Head | None:
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return None
