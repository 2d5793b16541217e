"""A daemon on a real Unix socket whose answers a test states: clients are tested against it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from superezio.errors import MethodNotFoundError, SuperezioError

#: What a seeded mutant never does need not be waited for so long.
WITHIN_S = 3.0 if "SUPEREZIO_MUTANT" in os.environ else 10.0


class HangUp:
    """An answer: close the connection instead."""


class Silence:
    """An answer: none."""


Answer = Any
Script = Callable[[dict[str, Any]], Answer]


class FakeDaemon:
    """Answers each method with what `answers` has for it, and remembers what it was asked.

    An answer is a result, a SuperezioError, HangUp, Silence, a list of these (one a request, the
    last for ever), or a function of the parameters that returns one, on a thread of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self._changed = threading.Condition()
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> Self:
        self.path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen(64)
        self._spawn(self._accept, self._listening)
        return self

    def stop(self) -> None:
        """Go as a daemon goes: the socket refuses, connections end."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        with self._changed:
            connections, self._open = self._open, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Stop, and see that nothing is left."""
        self.stop()
        for thread in self._threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()

    def asked(self, method: str) -> list[dict[str, Any]]:
        """Return the requests for `method` so far."""
        with self._changed:
            return [request for request in self.requests if request["method"] == method]

    def await_asked(self, method: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until `method` was asked for `count` times."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(r["method"] == method for r in self.requests) >= count, WITHIN_S
            ), f"{method} was not asked for: {self.requests}"
        return self.asked(method)

    def params_of(self, method: str) -> dict[str, Any]:
        """Return the parameters of the last request for `method`."""
        params: dict[str, Any] = self.asked(method)[-1].get("params", {})
        return params

    def push(self, method: str, params: object) -> None:
        """Send a notification to all connections."""
        line = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n"
        with self._changed:
            for connection in self._open:
                with suppress(OSError):  # it may be gone
                    connection.sendall(line)

    def push_raw(self, data: bytes) -> None:
        """Send bytes to all connections."""
        with self._changed:
            for connection in self._open:
                connection.sendall(data)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._open.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    self._take(connection, json.loads(line))
            except OSError:
                return
            finally:
                with self._changed:
                    self._open = [each for each in self._open if each is not connection]

    def _take(self, connection: socket.socket, request: dict[str, Any]) -> None:
        method = request["method"]
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            unknown = MethodNotFoundError(f"no method {method}")
            answer = self.answers.get(method, unknown)
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer) and not isinstance(answer, type):
            self._spawn(self._answer_later, connection, request, answer)
        else:
            self._answer(connection, request, answer)

    def _answer_later(
        self, connection: socket.socket, request: dict[str, Any], script: Script
    ) -> None:
        self._answer(connection, request, script(request.get("params", {})))

    def _answer(self, connection: socket.socket, request: dict[str, Any], answer: Answer) -> None:
        if answer is HangUp:
            connection.shutdown(socket.SHUT_RDWR)
            return
        if answer is Silence or "id" not in request:
            return
        line = reply_line(request["id"], answer)
        with self._changed:
            try:
                connection.sendall(line)
            except OSError:
                return


def reply_line(id_: object, answer: Answer) -> bytes:
    """Return an answer as the daemon writes it."""
    if isinstance(answer, SuperezioError):
        data = {**answer.data, "kind": answer.kind, "correlation_id": "c0ffee"}
        if answer.retry_after_ms is not None:
            data["retry_after_ms"] = answer.retry_after_ms
        error = {"code": answer.code, "message": answer.message, "data": data}
        return msgspec.json.encode({"jsonrpc": "2.0", "error": error, "id": id_}) + b"\n"
    result = msgspec.json.encode(answer)
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}\n' % (result, msgspec.json.encode(id_))
