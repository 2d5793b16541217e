"""Answers as lines: results, errors and notifications."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from superezio.errors import SuperezioError
from supereziod.rpc.decoding import RequestId

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
