"""JSON-RPC over the socket with the standard library alone: the outside observer's client.

It retries nothing and hides nothing, so that what a test logs is what the daemon said.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class RefusedError(Exception):
    """The daemon answered with an error object."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.kind: str = error["data"]["kind"]
        self.error = error


class PlainClient:
    """One connection whose answers are matched to their requests by id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Json]] = {}
        self.notifications: asyncio.Queue[Json] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    def send(self, method: str, meta: Json | None = None, **params: Any) -> asyncio.Future[Json]:
        """Write a request now; the future has its result, RefusedError or ConnectionError."""
        request: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        if params:
            request["params"] = params
        if meta:
            request["meta"] = meta
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            future.set_exception(ConnectionResetError("the connection is closed"))
            return future
        self._pending[request["id"]] = future
        self._writer.write(json.dumps(request).encode() + b"\n")
        return future

    async def call(self, method: str, meta: Json | None = None, **params: Any) -> Json:
        """Return the result of one request."""
        return await self.send(method, meta, **params)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except ConnectionError:
            pass
        finally:
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(ConnectionResetError("the daemon closed the connection"))
                    future.exception()

    def _take(self, message: Json) -> None:
        if "method" in message:
            self.notifications.put_nowait(message)
            return
        future = self._pending.pop(message["id"])
        if future.done():
            return
        if "error" in message:
            future.set_exception(RefusedError(message["error"]))
        else:
            future.set_result(message["result"])


@asynccontextmanager
async def plain_client(path: Path) -> AsyncIterator[PlainClient]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 24)
    client = PlainClient(reader, writer)
    try:
        yield client
    finally:
        await client.close()


def call_once(path: Path, method: str, timeout_s: float = 10.0, **params: Any) -> Json:
    """Ask one thing over a connection of its own, synchronously."""
    with socket.socket(socket.AF_UNIX) as connection:
        # Blocking: with a timeout, connect fails instead of waiting for room in the backlog.
        connection.connect(str(path))
        connection.settimeout(timeout_s)
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        connection.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(connection.makefile("rb").readline())
    if "error" in reply:
        raise RefusedError(reply["error"])
    result: Json = reply["result"]
    return result
