"""A real server on a real socket with a table of methods for the occasion, and a bare client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from superezio.wire import Params
from supereziod.observability.events import EventLog
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.limits import Limits, Traffic
from supereziod.rpc.listener import Listener
from supereziod.rpc.method import Method
from supereziod.rpc.server import RpcServer
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.subscriptions import Subscriptions

#: The tests' own process is no exception: as the daemon's own it would be outside all limits.
NOT_OUR_PID = -1
PATIENCE_S = 10.0

Json = Any


class Subtract(Params):
    minuend: int
    subtrahend: int


class Numbers(Params):
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0


class Nothing(Params):
    pass


def method(
    name: str,
    params: type[Params],
    handler: Callable[..., object],
    *,
    role: Any = "observer",
    may_wait: bool = False,
    hot: bool = False,
    waiting: Callable[..., object] | None = None,
    hands_out: Callable[[Any], bool] | None = None,
) -> Method:
    return Method(
        name=name,
        params=params,
        result=object,
        role=role,
        visibility="public",
        handler=handler,
        summary=name,
        may_wait=may_wait or waiting is not None,
        hot=hot,
        waiting=waiting,
        hands_out=hands_out,
    )


def example_methods() -> list[Method]:
    """Return the methods that the examples of the JSON-RPC 2.0 specification call."""
    return [
        method("subtract", Subtract, lambda _request, p: p.minuend - p.subtrahend),
        method("sum", Numbers, lambda _request, p: p.a + p.b + p.c + p.d + p.e),
        method("update", Numbers, lambda _request, _p: None),
        method("notify_hello", Numbers, lambda _request, _p: None),
        method("notify_sum", Numbers, lambda _request, _p: None),
        method("get_data", Nothing, lambda _request, _p: ["hello", 5]),
    ]


class Parking:
    """Handlers that wait until they are told to go on, as a queued acquire does."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[str]] = []
        self.cancelled = 0
        self._arrived = asyncio.Event()

    def park(self, _request: object, _params: object) -> Awaitable[str]:
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._count)
        self.waiting.append(future)
        self._arrived.set()
        return future

    async def wait_for(self, count: int) -> None:
        """Return when so many calls have been parked in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.waiting) < count:
                self._arrived.clear()
                await self._arrived.wait()

    def methods(self) -> list[Method]:
        return [method("park", Nothing, self.park, may_wait=True)]

    def _count(self, future: asyncio.Future[str]) -> None:
        self.cancelled += future.cancelled()


class Client:
    """Lines to a socket and back, with nothing in between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Self:
        return cls(*await asyncio.open_unix_connection(path, limit=1 << 26))

    async def send(self, *messages: Json) -> None:
        await self.send_raw(
            b"".join(
                (m.encode() if isinstance(m, str) else json.dumps(m).encode()) + b"\n"
                for m in messages
            )
        )

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> Json:
        async with asyncio.timeout(PATIENCE_S):
            line = await self.reader.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    async def ask(self, message: Json) -> Json:
        await self.send(message)
        return await self.receive()

    async def call(self, name: str, params: Json = None, **members: Json) -> Json:
        request = {"jsonrpc": "2.0", "id": 1, "method": name, **members}
        if params is not None:
            request["params"] = params
        return await self.ask(request)

    async def closed(self) -> bool:
        """Return when the other side has closed; True if nothing came before that."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def aclose(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            return


class Served:
    """A running server, its parts, and clients of it."""

    def __init__(self, server: RpcServer, path: Path, events: EventLog, sessions: Sessions) -> None:
        self.server = server
        self.path = path
        self.events = events
        self.sessions = sessions
        self.closed_connections: list[str] = []
        self._clients: list[Client] = []
        self._changed = asyncio.Event()

    def on_closed(self, connection: str) -> None:
        self.closed_connections.append(connection)
        self._changed.set()

    async def client(self) -> Client:
        client = await Client.connect(self.path)
        self._clients.append(client)
        return client

    async def closed(self, count: int) -> None:
        """Return when the server has seen so many connections end."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.closed_connections) < count:
                self._changed.clear()
                await self._changed.wait()

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self.server.aclose()


@asynccontextmanager
async def serving(
    directory: Path,
    methods: Sequence[Method],
    *,
    limits: Limits | None = None,
    access: AccessPolicy | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    own_pid: int = NOT_OUR_PID,
    drain_s: float = 5.0,
    audit: AuditTrail | None = None,
) -> AsyncIterator[Served]:
    limits = limits or Limits()
    sessions, events = Sessions(clock=clock), EventLog()
    server = RpcServer(
        dispatcher=CommandDispatcher(
            methods,
            access=access or AccessPolicy(own_uid=0),
            sessions=sessions,
            max_batch=limits.max_batch,
            audit=audit,
        ),
        sessions=sessions,
        subscriptions=Subscriptions(events),
        events=events,
        limits=limits,
        traffic=Traffic(),
        on_closed=lambda connection: served.on_closed(connection),  # noqa: PLW0108 - made below
        drain_s=drain_s,
        clock=clock,
        own_pid=own_pid,
    )
    served = Served(server, directory / "control.sock", events, sessions)
    await server.start(Listener.make(served.path))
    try:
        yield served
    finally:
        await served.aclose()
