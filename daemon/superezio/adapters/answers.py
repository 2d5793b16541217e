"""What an HTTP response says of the service that gave it: whether it works, and what is left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

from superezio.guarding.composing import GuardedCall
from superezio.quantities import parse_duration

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = range(500, 600)
#: Longer than any cap that the daemon has, and short enough for its numbers.
_LONGEST_S: Final = 366 * 86_400.0
_WHOLE: Final = re.compile(r"\d{1,15}")


def take_in(call: GuardedCall, status: int, headers: Mapping[str, str], *, now_s: float) -> None:
    """Tell the breaker and the limit what a response means.

    5xx is a failure. 429 is none: it blocks for its Retry-After, and without one for as long as
    the breaker opens after failures. Anything else is an answer. `headers` are found by names in
    lower case; `now_s` is the time since the epoch.
    """
    if status in _SERVER_ERRORS:
        call.failure()
    elif status == _TOO_MANY_REQUESTS:
        call.throttled(retry_after_s(headers, now_s=now_s))
    requests = _count(headers.get("x-ratelimit-remaining-requests"))
    tokens = _count(headers.get("x-ratelimit-remaining-tokens"))
    if requests is not None or tokens is not None:
        call.remaining(
            requests=requests,
            requests_reset=_duration_s(headers.get("x-ratelimit-reset-requests")),
            tokens=tokens,
            tokens_reset=_duration_s(headers.get("x-ratelimit-reset-tokens")),
        )


def retry_after_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Return what Retry-After says, or retry-after-ms; None where neither can be read.

    A date counts from the response's own Date, where there is one, for clocks differ.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, _LONGEST_S)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return min(seconds, _LONGEST_S)
    until_s = _date_s(text)
    if until_s is None:
        return None
    since_s = _date_s(headers.get("date"))
    return min(max(until_s - (now_s if since_s is None else since_s), 0.0), _LONGEST_S)


def _date_s(text: str | None) -> float | None:
    if text is not None:
        with suppress(ValueError, OverflowError):
            return parsedate_to_datetime(text).timestamp()
    return None


def _number(text: str | None) -> float | None:
    if text is not None:
        with suppress(ValueError):
            number = float(text)
            return number if math.isfinite(number) and number >= 0 else None
    return None


def _count(text: str | None) -> int | None:
    stripped = "" if text is None else text.strip()
    return int(stripped) if _WHOLE.fullmatch(stripped) else None


def _duration_s(text: str | None) -> float | None:
    """Return seconds, written as `6m0s` or as a number."""
    if text is not None:
        with suppress(ValueError):
            return min(parse_duration(text), _LONGEST_S)
    return None
