"""What stands on a log line, whatever its format: the fields of the request, the time, clean text.

Text from outside (a process's command line, a client's name) may hold anything. What is shown to
a person has its control characters escaped, so that a log line cannot drive a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from structlog.typing import EventDict, WrappedLogger

from superezio.json_text import shown_json
from supereziod.observability.correlation import RequestScope, current_scope

SCOPE_FIELDS: Final = tuple(
    name for name in RequestScope.__struct_fields__ if name not in {"trace_id", "timeline"}
)
#: Fields with a place of their own in each format; all others follow them.
LEADING_FIELDS: Final = ("time", "level", "event", "message")

#: Characters of a text on a line.
MAX_TEXT: Final = 16_384

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def add_scope(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Give the line its request's fields, unless it names its own. Null where unknown.

    A line has a `trace_id` only where the caller gave one.
    """
    scope = current_scope.get()
    if scope is not None:
        for name in SCOPE_FIELDS:
            fields.setdefault(name, getattr(scope, name))
        if scope.trace_id is not None:
            fields.setdefault("trace_id", scope.trace_id)
    return fields


class Stamp:
    """Adds `time` (UTC, milliseconds) and `level`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    def __call__(self, _logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        """Return the fields with the two added."""
        fields["time"] = self._now().isoformat(timespec="milliseconds")
        fields["level"] = "error" if method == "exception" else method
        return fields


def cut_long(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Leave the middle out of texts that are very long: lines that wait are bounded by count.

    What a caller sent may be megabytes, and stand in what is said of it. A traceback says at its
    end what it was.
    """
    for name, value in fields.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            half, left_out = MAX_TEXT // 2, len(value) - MAX_TEXT
            fields[name] = f"{value[:half]}... ({left_out} characters) ...{value[-half:]}"
    return fields


def in_one_line(text: str) -> str:
    """Return a text as one line: what others wrote may be made to add one that looks like ours.

    What a terminal would act on besides is seen to where lines are written.
    """
    return text.replace(":\n", ": ").replace("\n", " | ")


def to_json(value: object) -> bytes:
    """Return `value` as JSON; what has no JSON form as the JSON of its repr."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError):
        return _encode(repr(value).encode("utf-8", "backslashreplace").decode())


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Return `text` with what a terminal might obey, or cannot encode, as `\x1b` and the like."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or (keep_newlines and char == "\n") else _escape(char)
        for char in text
    )


def as_text(value: object) -> str:
    """Return a field's value for people: words as they stand, all else as JSON."""
    if isinstance(value, str):
        return printable(value)
    return shown_json(to_json(value).decode())


def sentence(fields: EventDict) -> str:
    """Return the line as a sentence: its `message`, else the event and what came with it.

    A traceback follows on lines of its own.
    """
    message = fields.get("message")
    if message is None:
        details = " ".join(f"{k}={as_text(v)}" for k, v in extras(fields))
        message = f"{fields['event']}: {details}" if details else str(fields["event"])
    text = printable(str(message).rstrip("\n"), keep_newlines=True)
    exception = fields.get("exception")
    if exception:
        text += "\n" + printable(str(exception), keep_newlines=True)
    return text


def extras(fields: EventDict) -> Iterable[tuple[str, Any]]:
    """Yield the fields that are neither leading nor the request's nor a traceback."""
    for name, value in fields.items():
        if name not in LEADING_FIELDS and name not in SCOPE_FIELDS and name != "exception":
            yield name, value


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
