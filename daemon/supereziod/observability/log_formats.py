"""A log line as JSON, and as text for a person at a terminal."""

from __future__ import annotations

from typing import Final

import msgspec
from structlog.typing import EventDict, WrappedLogger

from superezio.json_text import shown_json_bytes
from supereziod.observability.log_fields import LEADING_FIELDS, as_text, extras, sentence, to_json

_COLOURS: Final = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "notice": "\x1b[36m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def render_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> bytes:
    """Return one line of JSON, the leading fields first. People look at it in terminals, too."""
    ordered = {name: fields[name] for name in LEADING_FIELDS if name in fields} | dict(fields)
    try:
        line = _encode(ordered)
    except (TypeError, ValueError, OverflowError):
        # One value has no JSON form: the others keep theirs.
        line = _encode({name: msgspec.Raw(to_json(v)) for name, v in ordered.items()})
    return shown_json_bytes(line) + b"\n"


class ConsoleRenderer:
    """Time of day, level, sentence, then the event and its details."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> bytes:
        """Return the line, in colour or not."""
        level = fields["level"]
        text, _, rest = sentence(fields).partition("\n")
        time_of_day = fields["time"][11:23]
        details = self._details(fields)
        line = f"{self._paint(_DIM, time_of_day)} {self._paint(_COLOURS[level], f'{level:<8}')} "
        line += text
        if details:
            line += "  " + self._paint(_DIM, details)
        if rest:
            line += "\n    " + rest.replace("\n", "\n    ")
        return f"{line}\n".encode("utf-8", "backslashreplace")

    def _details(self, fields: EventDict) -> str:
        if fields.get("message") is None:
            named = []  # the sentence is made of them
        else:
            named = [f"event={as_text(fields['event'])}"]
            named += [f"{k}={as_text(v)}" for k, v in extras(fields)]
        request = ("method", "uid", "pid", "gpu", "lease", "session_id", "correlation_id")
        named += [f"{k}={as_text(fields[k])}" for k in request if fields.get(k) is not None]
        return " ".join(named)

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self._colour else text
