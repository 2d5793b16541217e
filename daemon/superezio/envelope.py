"""Requests and replies as JSON lines: the part of the wire that both clients share."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

from superezio.errors import ConnectionLostError, SuperezioError, from_wire
from superezio.wire import Meta, Params

T = TypeVar("T")

_EMPTY = Raw(b"")


class Request(Struct, omit_defaults=True, kw_only=True, gc=False):
    """A call, or without an id a notification."""

    jsonrpc: Literal["2.0"]
    method: str
    id: int | None = None
    params: Params | None = None
    meta: Meta | None = None


class ErrorObject(Struct, kw_only=True):
    code: int
    message: str
    data: dict[str, Any] | None = None


class Reply(Struct, kw_only=True):
    """Whatever the daemon sends: an answer (it has an id) or a notification (a method)."""

    id: int | str | None = None
    result: Raw = _EMPTY
    error: ErrorObject | None = None
    method: str | None = None
    params: Raw = _EMPTY


_reply_decoder = msgspec.json.Decoder(Reply)
_encoder = msgspec.json.Encoder()


def encode(method: str, params: Params | None, *, id_: int | None, meta: Meta | None) -> bytes:
    """Return the line for a request, its end included."""
    request = Request(jsonrpc="2.0", method=method, id=id_, params=params, meta=meta)
    return _encoder.encode(request) + b"\n"


def decode_line(line: bytes) -> Reply:
    """Read a line from the daemon. Raises ConnectionLostError: it does not speak our protocol."""
    try:
        return _reply_decoder.decode(line)
    except msgspec.DecodeError as error:
        raise ConnectionLostError(f"what answers is not the daemon: {error}") from error


def answers(reply: Reply, id_: int) -> bool:
    """Say whether a line answers request `id_`: an error without an id is about the last line."""
    return reply.id == id_ or (reply.id is None and reply.error is not None)


def decode_body(body: Raw, type_: type[T]) -> T:
    """Read a result or a notification's parameters. Raises SuperezioError where it does not fit."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.DecodeError as error:
        raise SuperezioError(
            f"cannot read the daemon's answer as {type_.__name__}: {error} (is the daemon of an "
            "older version than this client?)"
        ) from error


def result_of(reply: Reply, type_: type[T]) -> T:
    """Return a reply's result, or raise its error as the class of its kind."""
    if reply.error is not None:
        raise from_wire(reply.error.code, reply.error.message, reply.error.data)
    return decode_body(reply.result, type_)
