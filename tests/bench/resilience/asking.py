"""The two ways in which a program in Python asks the daemon."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.resilience.contest import WorkFailedError
from superezio import envelope, wire
from superezio.calls import Call
from superezio.client import Client

T = TypeVar("T")

#: What the plain wire lacks.
RAW: Final = "reconnect, deadlines"

_CHUNK: Final = 1 << 16
_decode: Final = msgspec.json.Decoder().decode


class PlainWire:
    """JSON-RPC by hand: one connection that is kept, a line out, a line in."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._ids = count(1)

    def ask(self, method: str, params: wire.Params) -> dict[str, Any]:
        """Return the result. Raises WorkFailedError with what the daemon says instead."""
        answer = self.answer(method, params)
        if "error" in answer:
            raise WorkFailedError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def answer(self, method: str, params: wire.Params) -> dict[str, Any]:
        """Return the whole answer, with a result or an error."""
        line = envelope.encode(method, params, id_=next(self._ids), meta=None)
        self._socket.sendall(line)
        answer = self._socket.recv(_CHUNK)
        while not answer.endswith(b"\n"):
            answer += self._socket.recv(_CHUNK)
        told: dict[str, Any] = _decode(answer)
        return told

    def tell(self, method: str, params: wire.Params) -> None:
        """Ask for no answer."""
        self._socket.sendall(envelope.encode(method, params, id_=None, meta=None))


class OurClient:
    """The published client, with its deadlines, its taking turns and its reconnecting."""

    def __init__(self, path: Path) -> None:
        self._client = Client(str(path))

    def ask(self, method: str, params: wire.Params, result: type[T]) -> T:
        """Return the result. Raises what the client does."""
        return self._client._call(Call(method=method, params=params, result=result), None)
