"""What a refusal says of a request's timeline: by what it was held back, or what did not come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from superezio.errors import (
    BreakerOpenError,
    FillFailedError,
    FillTimeoutError,
    NeverPassesError,
    RateLimitedError,
    SuperezioError,
)

#: Name and detail of a mark.
Mark = tuple[str, str]


def mark_of(error: SuperezioError) -> Mark | None:
    """Return what to note of a request that ends with this error, None for most."""
    told = _MARKS.get(type(error))
    return None if told is None else told(error)


def _limited(error: SuperezioError) -> Mark:
    data = error.data
    if "dimension" not in data or data.get("blocked"):
        return "limited", "by the service" if data.get("blocked") else ""
    whose = f"{data['scope']} {data['scope_name']}".strip()
    return "limited", f"{data['dimension']} of {whose}"


_MARKS: Final[dict[type[SuperezioError], Callable[[SuperezioError], Mark]]] = {
    RateLimitedError: _limited,
    NeverPassesError: _limited,
    BreakerOpenError: lambda error: ("rejected", str(error.data.get("state", ""))),
    FillFailedError: lambda _: ("failed", ""),
    FillTimeoutError: lambda _: ("timed_out", ""),
}
