"""The control plane's server: the table of connections, its limits, and its orderly end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final

import structlog

from superezio.errors import BusyError, ShuttingDownError, SuperezioError
from superezio.flight.layout import stamp
from supereziod.rpc.access import RANK, AccessPolicy
from supereziod.rpc.buffers import Buffers
from supereziod.rpc.connection import Connection
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.intake import LEFT_UNDONE
from supereziod.rpc.limits import Account, Accounts, Boundless, Limits, Traffic
from supereziod.rpc.listener import BACKLOG, Listener
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.subscriptions import Events, Subscriptions
from supereziod.rpc.turns import Turns
from supereziod.rpc.unread import LEFT_UNREAD

#: At most one line in this time tells of refused connections.
_REFUSALS_QUIET_NS: Final = 10_000_000_000

_BOUNDLESS: Final = Boundless()

#: From Python 3.13 on a server that closes unlinks its socket's file, also that of systemd, which
#: listens on: nobody could connect any more. The listener unlinks what is its own.
_LEAVE_THE_FILE: Final[dict[str, Any]] = (
    {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
)


class RpcServer:
    """Serves a listener. `on_closed` hears the id of each connection that ended.

    Connections from `own_pid`, which is this process, are outside all limits: the self-check.
    """

    def __init__(
        self,
        *,
        dispatcher: CommandDispatcher,
        sessions: Sessions,
        subscriptions: Subscriptions,
        events: Events,
        limits: Limits,
        traffic: Traffic,
        on_closed: Callable[[str], None],
        drain_s: float = 5.0,
        own_pid: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self.dispatcher = dispatcher
        self.limits = limits
        self.traffic = traffic
        self.clock = clock
        self.turns = Turns()
        self.unread = Buffers(
            max_per_uid_bytes=limits.write_buffer_per_uid_bytes,
            max_bytes=limits.write_buffer_all_bytes,
            left=LEFT_UNREAD,
        )
        self.unfinished = Buffers(
            max_per_uid_bytes=limits.read_buffer_per_uid_bytes,
            max_bytes=limits.read_buffer_all_bytes,
            left=LEFT_UNDONE,
        )
        self._sessions = sessions
        self._subscriptions = subscriptions
        self._events = events
        self._on_closed = on_closed
        self._drain_s = drain_s
        self._log = logger if logger is not None else structlog.get_logger()
        self._accounts = Accounts(
            requests_per_second=limits.requests_per_second, requests_burst=limits.requests_burst
        )
        self._own_pid = os.getpid() if own_pid is None else own_pid
        self._connections: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._quiet_until_ns = 0
        self._listener: Listener | None = None
        self._server: asyncio.AbstractServer | None = None

    @property
    def is_full(self) -> bool:
        """Whether the table of connections has no room for a caller who is no admin."""
        limits = self.limits
        return self.traffic.connections >= limits.connections - limits.connections_reserved

    async def start(self, listener: Listener) -> None:
        """Serve `listener`, which is closed with the server."""
        self._listener = listener
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(self), sock=listener.socket, backlog=BACKLOG, **_LEAVE_THE_FILE
        )

    async def aclose(self) -> None:
        """Stop accepting, let what is in flight end within the drain time, and close all.

        Closing twice is fine.
        """
        if self.dispatcher.draining:
            return
        self.dispatcher.drain()
        if self._server is not None:
            self._server.close()
        await self._drain()
        for connection in list(self._connections):
            connection.close()
        await self._wait_until_all_closed(1.0)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until_all_closed(1.0)
        self.turns.close()
        self._subscriptions.close()
        if self._listener is not None:
            self._listener.close()

    def set_access(self, policy: AccessPolicy) -> None:
        """Put another policy in force, for open connections too."""
        self.dispatcher.access = policy
        for connection in self._connections:
            self._assign_role(connection)

    def set_limits(self, limits: Limits) -> None:
        """Put other limits in force: frame size for new connections only."""
        self.limits = limits
        self._accounts.set_rate(
            requests_per_second=limits.requests_per_second, requests_burst=limits.requests_burst
        )
        self.unread.set_bounds(
            max_per_uid_bytes=limits.write_buffer_per_uid_bytes,
            max_bytes=limits.write_buffer_all_bytes,
        )
        self.unfinished.set_bounds(
            max_per_uid_bytes=limits.read_buffer_per_uid_bytes,
            max_bytes=limits.read_buffer_all_bytes,
        )

    # --- what connections use -------------------------------------------------------------------

    def admit(self, connection: Connection) -> SuperezioError | None:
        """Take a new connection in (its role, account and session), or say why not."""
        self.turns.newcomer()
        peer = connection.peer
        connection.unlimited = peer.pid == self._own_pid
        self._assign_role(connection)
        connection.account = account = self._accounts.of(peer.uid, self.clock())
        refusal = None if connection.unlimited else self._no_room(connection, account)
        if connection.unlimited:
            connection.rate = _BOUNDLESS
        else:
            connection.rate = account.rate
            connection.turn = account.turn
        if refusal is not None:
            self._note_refusal(refusal)
            return refusal
        connection.session = session = self._sessions.connect(
            peer.uid, peer.pid, lambda: connection.requests - connection.requests_elsewhere
        )
        connection.stamp = stamp(peer.uid, peer.pid, bytes.fromhex(connection.id), session.key)
        connection.hot_request = RequestContext(connection, None, session, None, 0, 0)
        connection.admitted = True
        self._connections.add(connection)
        self.traffic.begin(connection)
        if not connection.unlimited:
            account.connections += 1
            self.traffic.connections += 1
        return None

    def closed(self, connection: Connection) -> None:
        """Forget an admitted connection."""
        self._connections.discard(connection)
        self.traffic.end(connection)
        if not connection.unlimited:
            connection.account.connections -= 1
            self.traffic.connections -= 1
        self._subscriptions.end_all(connection)
        self._sessions.disconnect(connection.session, connection.sessions)
        self._on_closed(connection.id)
        if not self._connections:
            self._all_closed.set()

    def writable(self, connection: Connection) -> None:
        """Give subscriptions their turn: the connection takes data again."""
        self._subscriptions.flush(connection)

    def dropped(self, connection: Connection, why: str) -> None:
        """Tell that a connection is closed by the daemon."""
        peer = connection.peer
        # Not at once: this may happen in the middle of telling subscribers of another event.
        asyncio.get_running_loop().call_soon(
            partial(
                self._events.emit,
                "connection.dropped",
                f"closed a connection of pid {peer.pid} (uid {peer.uid}): {why}",
                severity="warning",
                uid=peer.uid,
            ),
            # It is no part of the request in which it was noticed, which may be another's.
            context=Context(),
        )

    # --- inside ---------------------------------------------------------------------------------

    def _assign_role(self, connection: Connection) -> None:
        policy = self.dispatcher.access
        connection.role = policy.role_of(connection.peer)
        connection.rank = RANK[connection.role]
        connection.routes = self.dispatcher.routes_of[connection.rank]
        connection.max_priority = policy.max_priority(connection.role)

    def _no_room(self, connection: Connection, account: Account) -> SuperezioError | None:
        limits = self.limits
        if self.dispatcher.draining:
            return ShuttingDownError("the daemon is stopping: reconnect and ask again")
        admin = connection.role == "admin"
        room = limits.connections if admin else limits.connections - limits.connections_reserved
        if self.traffic.connections >= room:
            return BusyError(
                f"the daemon has {self.traffic.connections} connections, which is all it takes",
                retry_after_ms=1000,
                data={"limit": "connections"},
            )
        if not admin and account.connections >= limits.connections_per_uid:
            return BusyError(
                f"uid {account.uid} has {account.connections} connections, which is all it may",
                retry_after_ms=1000,
                data={"limit": "connections_per_uid"},
            )
        return None

    def _note_refusal(self, refusal: SuperezioError) -> None:
        """Log one refusal in a while only: a flood must not become a flood of lines."""
        self.traffic.refused_connections += 1
        now_ns = self.clock()
        if now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = now_ns + _REFUSALS_QUIET_NS
            self._log.warning(
                "connection.refused",
                message=f"refused a connection: {refusal.message}",
                refused=self.traffic.refused_connections,
            )

    async def _drain(self) -> None:
        waiting = self._in_flight()
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=self._drain_s)
        if waiting:
            for connection in list(self._connections):
                connection.flights.cancel_all(
                    ShuttingDownError("the daemon is stopping: reconnect and ask again")
                )
            await asyncio.wait(waiting, timeout=1.0)

    def _in_flight(self) -> set[asyncio.Future[Any]]:
        return {each for connection in self._connections for each in connection.flights.futures}

    async def _wait_until_all_closed(self, patience_s: float) -> None:
        if not self._connections:
            return
        self._all_closed.clear()
        try:
            async with asyncio.timeout(patience_s):
                await self._all_closed.wait()
        except TimeoutError:
            return
