"""Raw calls: JSON in, JSON out, and nothing that takes long to import.

A result is handed on as the bytes that came. Programs get them as they are; for people a view
reads them into the types of superezio.wire.
"""

from __future__ import annotations

import time

from superezio.connection import Backoff, Connection, deadline_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from superezio.errors import SuperezioError

#: What goes into JSON between quotes as it is.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-")


class Caller:
    """Makes calls over one connection, one after the other.

    Raises the exceptions of superezio.errors. A person at a prompt is told at once that there is
    no daemon; but a daemon that goes away in the middle of a call is waited for, and asked again,
    until the call's time is up.
    """

    def __init__(
        self,
        *,
        socket_path: str,
        timeout_s: float,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        patient: bool = False,
    ) -> None:
        self.timeout_s = timeout_s
        self.correlation_id = correlation_id
        self.traceparent = traceparent
        self.connection = Connection(socket_path)
        self._patient = patient
        self._last_id = 0

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        wait_s: float = 0.0,
        idempotency_key: str | None = None,
        retry: bool = True,
    ) -> bytes:
        """Return the result of a call as JSON. `wait_s` comes on top of the time limit."""
        deadline_ns = self.deadline_ns(wait_s)
        backoff = Backoff(deadline_ns=deadline_ns, clock=time.monotonic_ns)
        while True:
            try:
                id_ = self.send(
                    method, params, deadline_ns=deadline_ns, idempotency_key=idempotency_key
                )
                return self.receive(id_, deadline_ns=deadline_ns)
            except _passing_errors():
                self.reconnect_patiently()
                pause_s = backoff.next_pause_s() if retry else None
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def deadline_ns(self, wait_s: float = 0.0) -> int:
        """Return when a call that starts now is out of time."""
        return time.monotonic_ns() + round((self.timeout_s + wait_s) * 1e9)

    def send(
        self,
        method: str,
        params: dict[str, Any] | None,
        *,
        deadline_ns: int,
        idempotency_key: str | None = None,
    ) -> int:
        """Send a request, connecting first where that is needed, and return its id."""
        if not self.connection.connected:
            self.connection.connect(deadline_ns, patient=self._patient)
        self._last_id += 1
        meta = f'"deadline_ms":{deadline_ms(deadline_ns - time.monotonic_ns())}'
        for name, text in (
            ("correlation_id", self.correlation_id),
            ("traceparent", self.traceparent),
            ("idempotency_key", idempotency_key),
        ):
            if text is not None:
                meta += f',"{name}":{_quoted(text)}'
        body = "" if params is None else f',"params":{_encoded(params)}'
        line = (
            f'{{"jsonrpc":"2.0","id":{self._last_id},"method":{_quoted(method)}{body},'
            f'"meta":{{{meta}}}}}\n'
        )
        self.connection.send(line.encode(), deadline_ns)
        return self._last_id

    def receive(
        self,
        id_: int,
        *,
        deadline_ns: int | None,
        on_other: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Return the result of request `id_` as JSON, or raise its error.

        What comes before it is for `on_other`: notifications, and answers to other requests.
        """
        while True:
            line = self.connection.receive(deadline_ns)
            result = result_in(line, id_)
            if result is not None:
                return result
            if on_other is not None:
                on_other(line)

    def reconnect_patiently(self) -> None:
        """Let the next call connect anew, and wait for a daemon that is restarting."""
        self._patient = True
        self.connection.close()

    def close(self) -> None:
        """End the connection: what is queued for this caller is cancelled by that."""
        self.connection.close()


def result_in(line: bytes, id_: int) -> bytes | None:
    """Return the result in a line, or None if the line is not the answer to `id_`.

    An answer as the daemon writes it is cut out as it stands; any other is read properly.
    """
    start, end = b'{"jsonrpc":"2.0","result":', b',"id":%d}' % id_
    if line.startswith(start) and line.endswith(end):
        return line[len(start) : -len(end)]
    import json  # noqa: PLC0415 - errors only, with this daemon

    try:
        message = json.loads(line)
    except ValueError as error:
        raise _not_the_daemon(str(error)) from error
    if not isinstance(message, dict):
        raise _not_the_daemon("not an object")
    failure = message.get("error")
    if failure is not None and message.get("id") in {id_, None}:
        from superezio.errors import from_wire  # noqa: PLC0415 - paid for on failure only

        raise from_wire(failure["code"], failure["message"], failure.get("data"))
    if message.get("id") != id_ or "result" not in message:
        return None
    return json.dumps(message["result"], ensure_ascii=False).encode()


def _quoted(text: str) -> str:
    return f'"{text}"' if _PLAIN.issuperset(text) else _encoded(text)


def _encoded(value: object) -> str:
    import json  # noqa: PLC0415 - a call without parameters needs none

    return json.dumps(value)


def _passing_errors() -> tuple[type[SuperezioError], ...]:
    from superezio.errors import (  # noqa: PLC0415 - paid for on failure only
        ConnectionLostError,
        ShuttingDownError,
    )

    return (ConnectionLostError, ShuttingDownError)


def _not_the_daemon(why: str) -> SuperezioError:
    from superezio.errors import ConnectionLostError  # noqa: PLC0415 - paid for on failure only

    return ConnectionLostError(f"what answers is not the daemon: {why}")
