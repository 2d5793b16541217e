"""The header `traceparent` of W3C Trace Context, read strictly: what is none is left out."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?",
    re.ASCII | re.DOTALL,
)
#: What a header may have at most: a later version may say more.
_MAX_LENGTH: Final = 512


#: A correlation id that may be the id of a trace.
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SAMPLED: Final = "01"


class TraceContext(NamedTuple):
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


class HandedOn(NamedTuple):
    """The traceparent of one call: for the service, and what the daemon is told, if it needs to."""

    header: str
    told: str | None


def handed_on(correlation_id: str, given: str | None) -> HandedOn:
    """Return what goes with a call: what it was given, or where that is none, a trace of its own.

    The trace has the call's id, where that can be one; of another the daemon is told.
    """
    if given is not None and parse_traceparent(given) is not None:
        return HandedOn(given, given)
    span = os.urandom(8).hex()
    if _TRACE_ID.fullmatch(correlation_id) and correlation_id.strip("0"):
        return HandedOn(f"00-{correlation_id}-{span}-{_SAMPLED}", None)
    made = f"00-{os.urandom(16).hex()}-{span}-{_SAMPLED}"
    return HandedOn(made, made)
