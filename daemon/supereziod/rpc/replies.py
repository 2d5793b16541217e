"""Answers as lines: results, errors, and the one array that answers a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET

from superezio.errors import SuperezioError
from supereziod.rpc.decoding import RequestId

Send = Callable[[bytes], None]

_ENCODER: Final = msgspec.json.Encoder()
# The hot path puts the line of a result together itself, from these, as `result_line` does.
encode = _ENCODER.encode
#: Less work than formatting with %.
join: Final = b"".join
RESULT: Final = b'{"jsonrpc":"2.0","result":'
ID: Final = b',"id":'
END: Final = b"}\n"


def result_line(request_id: RequestId, result: object) -> bytes:
    """Return the line that answers a request with its result."""
    return join((RESULT, encode(result), ID, encode(request_id), END))


def error_line(request_id: RequestId, error: SuperezioError, correlation_id: str) -> bytes:
    """Return the line that answers a request with an error, whatever has become of its id."""
    data = {**error.data, "kind": error.kind, "correlation_id": correlation_id}
    if error.retry_after_ms is not None:
        data["retry_after_ms"] = error.retry_after_ms
    body = {
        "jsonrpc": "2.0",
        "error": {"code": error.code, "message": error.message, "data": data},
        "id": None if request_id is UNSET else request_id,
    }
    return encode(body) + b"\n"


def notification_line(method: str, params: bytes) -> bytes:
    """Return a notification with encoded `params`."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}\n' % (encode(method), params)


class BatchReply:
    """Collects the answers to the members of a batch; sent when the last one is there.

    A batch of notifications alone is answered with nothing, not with an empty array.
    """

    __slots__ = ("_lines", "_outstanding", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lines: list[bytes] = []
        self._outstanding = 1

    def expect(self) -> None:
        """Wait for one more answer, which `add` brings."""
        self._outstanding += 1

    def add(self, line: bytes | None) -> None:
        """Take an expected answer; None if that member is answered with nothing."""
        if line is not None:
            self._lines.append(line)
        self._outstanding -= 1
        if self._outstanding == 0 and self._lines:
            self._send(b"[" + b",".join(line[:-1] for line in self._lines) + b"]\n")

    def close(self, lines: list[bytes]) -> None:
        """Take the answers that were there at once: no further member will be expected."""
        self._lines.extend(lines)
        self.add(None)
