"""The header `traceparent` of W3C Trace Context, read strictly: what is none is left out."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?",
    re.ASCII | re.DOTALL,
)
#: What a header may have at most: a later version may say more.
_MAX_LENGTH: Final = 512


class TraceContext(Struct, frozen=True, gc=False):
    """The trace that a request is a part of, and the span that made it."""

    trace_id: str
    parent_id: str


def parse_traceparent(header: str) -> TraceContext | None:
    """Return what the header says, or None if it is none.

    Version 00 has exactly four members; of later ones the first four are read. All zeros is no id,
    and ff no version.
    """
    found = _TRACEPARENT.fullmatch(header) if len(header) <= _MAX_LENGTH else None
    if found is None or found["version"] == "ff":
        return None
    if found["version"] == "00" and found["more"] is not None:
        return None
    if not int(found["trace"], 16) or not int(found["parent"], 16):
        return None
    return TraceContext(found["trace"], found["parent"])
