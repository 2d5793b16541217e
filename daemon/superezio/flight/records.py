"""What a full record holds: a request with its timeline, or a span that a client added.

They are JSON arrays, tagged by their first element. Members are only ever added, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

#: What a client may attach to a span.
Attributes = dict[str, str | int | float | bool]

#: The outcome of a request that waits, and of one that waited when the daemon died.
IN_FLIGHT: Final = "in_flight"
OK: Final = "ok"


class GpuNote(Struct, array_like=True, gc=False):
    """One GPU as it was when a request was answered. Null is not known."""

    uuid: str
    index: int | None
    temperature_c: int | None
    margin_c: int | None
    vram_used_bytes: int | None
    vram_total_bytes: int | None
    utilization_core_percent: int | None
    age_ms: int


class RequestNote(Struct, array_like=True, tag="request", gc=False):
    """A request. Times are monotonic nanoseconds; `marks` are counted from `received_ns`.

    `about` is the breaker, limit or namespace that it asked for.
    """

    connection: str
    number: int
    correlation_id: str
    session: str
    uid: int
    pid: int
    method: str | None
    outcome: str
    received_ns: int
    duration_ns: int | None
    marks: list[tuple[str, int]] = []
    lease: str | None = None
    gpu: str | None = None
    trace_id: str | None = None
    parent_id: str | None = None
    gpus: list[GpuNote] = []
    about: str | None = None


class SpanNote(Struct, array_like=True, tag="span", gc=False):
    """What a client says it did, under an id of its own; an instant has no duration."""

    correlation_id: str
    uid: int
    pid: int
    name: str
    started_ns: int
    duration_ns: int | None
    attributes: Attributes = {}
    trace_id: str | None = None


Note = RequestNote | SpanNote

encode_note = msgspec.json.Encoder().encode
_decode: Final[Callable[[bytes], Note]] = msgspec.json.Decoder(Note).decode


def decode_note(payload: bytes) -> Note | None:
    """Return what a full record holds, or None for what a later version wrote."""
    try:
        return _decode(payload)
    except msgspec.DecodeError:
        return None
