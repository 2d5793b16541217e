"""The format of a ring file: what stands where, for the one who writes and for those who read.

    head slot A | head slot B | lane of plain records | lane of full records

The two lanes are rings of their own, so that requests that are answered at once, which come by the
thousand, do not push out those that waited, failed or were about a lease.

A record begins at a multiple of 64 bytes. Each has its place: how many bytes its lane had taken in
before it, which tells new from old and is where it stands, modulo the lane. It begins with a mark
whose bytes are in no UTF-8 text: what is inside of a record, whoever chose it, is never taken for
the beginning of one.

- plain: 64 bytes, for one request or several of one method, without a gap in their numbers, that
  came in with one read or within a hundredth of a second. Its place stands at both ends. It is
  written from the front to the back, so that one whose ends agree is whole. How many requests
  there are is an aligned word, which is stored anew, at once, when one comes to them.
- named: the same with the id that its caller chose, and what it is about, 128 bytes, in the lane
  of full records.
- full: a length, a checksum, the place, and JSON (see `records`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from msgspec import Struct

UNIT_BYTES: Final = 64
NAMED_BYTES: Final = 2 * UNIT_BYTES
#: The longest record, all included: a search for where one begins goes back no further.
MAX_RECORD_BYTES: Final = 4096
MAX_PAYLOAD_BYTES: Final = MAX_RECORD_BYTES - 16

PLAIN: Final = 0xFFF5
NAMED: Final = 0xFFF6
FULL: Final = 0xFFF7

# A plain record: mark, method, requests | place | uid, pid, connection, session | number of the
# first of them | when it was received | place.
_PLAIN_IN: Final = struct.Struct("<8sQ24sQQQ")
_PLAIN_OUT: Final = struct.Struct("<HHIQII8s8sQQQ")
# The id stands in quotes, as in JSON, so that one search finds it in both.
_NAMED_IN: Final = struct.Struct("<8sQ24sQQ66s2xI")
_NAMED_OUT: Final = struct.Struct("<HHIQII8s8sQQ66s2xI")
_FULL_HEAD: Final = struct.Struct("<HHIQ")
_FULL_BODY: Final = struct.Struct("<Q")
_PLAIN_HEAD: Final = struct.Struct("<HHI")
_STAMP: Final = struct.Struct("<II8s8s")
#: Mark and place of each unit, whatever it is.
_UNITS: Final = struct.Struct("<HHIQ48x")

#: Writes a plain record: buffer, position, head, place, stamp, number, received, place.
write_plain = _PLAIN_IN.pack_into

_LOW_32: Final = 0xFFFFFFFF
#: Of a named record, for the id, and what it is about.
_NAME_BYTES: Final = 66
_CUT: Final = b"~"


class Plain(Struct, frozen=True, kw_only=True, gc=False):
    """A plain or named record, as it stands. `name` is the caller's own id, None without one.

    `about` is the breaker, limit or namespace that a named one is about, as far as there was room.
    """

    place: int
    method: int
    requests: int
    uid: int
    pid: int
    connection: bytes
    session: bytes
    number: int
    received_ns: int
    name: str | None = None
    about: str | None = None

    size = UNIT_BYTES


def plain_head(method: int, requests: int = 1) -> bytes:
    """Return how a plain record of a method, by its number, begins."""
    return _PLAIN_HEAD.pack(PLAIN, method, requests)


def named_head(method: int) -> bytes:
    """Return how a named record begins."""
    return _PLAIN_HEAD.pack(NAMED, method, 1)


def stamp(uid: int, pid: int, connection: bytes, session: bytes) -> bytes:
    """Return what all requests of a connection, in one session, have in common."""
    return _STAMP.pack(uid & _LOW_32, pid & _LOW_32, connection, session)


def in_session(who: bytes, session: bytes) -> bytes:
    """Return the same of requests in another session."""
    return who[:-8] + session


def write_named(
    lane: memoryview, at: int, head: bytes, place: int, who: bytes, number: int, received_ns: int,
    name: str, about: str = "",
) -> None:  # fmt: skip
    """Write a named record of 128 bytes at a position of the lane.

    What it is about stands behind the id, as far as there is room: a `~` tells that it is cut.
    """
    quoted = b'"%b"%b' % (name.encode(), about.encode())
    if len(quoted) > _NAME_BYTES and len(name) < _NAME_BYTES - 2:
        quoted = quoted[: _NAME_BYTES - 1] + _CUT
    _NAMED_IN.pack_into(lane, at, head, place, who, number, received_ns, quoted, place & _LOW_32)


def write_full(lane: memoryview, at: int, place: int, payload: bytes) -> None:
    """Write a full record at a position of the lane, where it has to fit."""
    body = _FULL_BODY.pack(place) + payload
    lane[at : at + 8 + len(body)] = _PLAIN_HEAD.pack(FULL, len(body), crc32(body)) + body


def units_of(payload: bytes) -> int:
    """Return the bytes that a full record takes: whole units."""
    return -(-(16 + len(payload)) // UNIT_BYTES) * UNIT_BYTES


class Found(Struct, frozen=True, gc=False):
    """A whole record in a lane: its place, its bytes, and what it is."""

    place: int
    size: int
    plain: Plain | None
    payload: bytes = b""


def record_at(lane: memoryview, at: int) -> Found | None:
    """Return the record that begins at a position, if one does, and it is whole."""
    mark = lane[at] | lane[at + 1] << 8
    if mark == PLAIN:
        return _plain_at(lane, at)
    if mark == NAMED:
        return _named_at(lane, at)
    if mark == FULL:
        return _full_at(lane, at)
    return None


def places(lane: memoryview, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield position and place of what looks like a record between two positions of a lane."""
    at = start
    for mark, _, _, place in _UNITS.iter_unpack(lane[start:stop]):
        if PLAIN <= mark <= FULL:
            yield at, place
        at += UNIT_BYTES


def newest(lane: memoryview) -> tuple[int, int]:
    """Return the place of the newest whole record and the first place after it; 0, 0 for none."""
    size = len(lane)
    # In C, as far as that goes: the daemon is not ready before it is done.
    marks = lane.cast("H")[:: UNIT_BYTES // 2].tolist()
    claimed = lane.cast("Q")[1 :: UNIT_BYTES // 8].tolist()
    found = [place for mark, place in zip(marks, claimed, strict=True) if PLAIN <= mark <= FULL]
    while found:
        # Seldom more than once: one was torn by a death at most.
        place = max(found)
        record = record_at(lane, place % size // UNIT_BYTES * UNIT_BYTES)
        if record is not None and record.place == place:
            return place, place + record.size
        found = [each for each in found if each < place]
    return 0, 0


def _plain_at(lane: memoryview, at: int) -> Found | None:
    _, method, requests, place, uid, pid, connection, session, number, received, again = (
        _PLAIN_OUT.unpack_from(lane, at)
    )
    if place != again or place % len(lane) != at or not requests:
        return None
    plain = Plain(
        place=place, method=method, requests=requests, uid=uid, pid=pid, connection=connection,
        session=session, number=number, received_ns=received,
    )  # fmt: skip
    return Found(place, UNIT_BYTES, plain)


def _named_at(lane: memoryview, at: int) -> Found | None:
    if at + 2 * UNIT_BYTES > len(lane):
        return None
    _, method, requests, place, uid, pid, connection, session, number, received, name, again = (
        _NAMED_OUT.unpack_from(lane, at)
    )
    if place & _LOW_32 != again or place % len(lane) != at or requests != 1:
        return None
    id_, _, about = name.rstrip(b"\0")[1:].partition(b'"')
    named = Plain(
        place=place, method=method, requests=1, uid=uid, pid=pid, connection=connection,
        session=session, number=number, received_ns=received,
        name=id_.decode("ascii", "replace"), about=about.decode("ascii", "replace") or None,
    )  # fmt: skip
    return Found(place, 2 * UNIT_BYTES, named)


def _full_at(lane: memoryview, at: int) -> Found | None:
    _, length, checksum, place = _FULL_HEAD.unpack_from(lane, at)
    end = at + 8 + length
    if length < _FULL_BODY.size or end > len(lane) or place % len(lane) != at:
        return None
    body = bytes(lane[at + 8 : end])
    if crc32(body) != checksum:
        return None
    return Found(place, units_of(body[8:]), None, body[8:])
