"""What a handler is told about the request it works for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from superezio.wire import Meta, Role
from supereziod.observability.correlation import RequestScope
from supereziod.rpc.peers import Peer
from supereziod.rpc.sessions import SessionState


class Origin(Protocol):
    """The connection of a request, as far as handlers use it. It may be gone when they answer."""

    id: str
    peer: Peer
    role: Role
    max_priority: int
    session: SessionState
    #: Explicit sessions that were opened or resumed here.
    sessions: set[str]
    subscriptions: dict[str, Callable[[], None]]

    def pidfd(self) -> int | None:
        """Return a pidfd of the peer, which the connection closes at its end."""

    def cancel(self, request_id: float | str) -> bool:
        """Cancel a request in flight on this connection; False if there is none."""

    def push(self, line: bytes) -> None:
        """Send a line out of turn."""

    @property
    def writable(self) -> bool:
        """Whether what is sent now goes out, and does not pile up."""


class RequestContext(Struct, frozen=True, gc=False):
    """Who asks, over which connection, and under which conditions.

    `received_ns` is the clock when the request was read. The scope is the current one already.
    """

    origin: Origin
    scope: RequestScope
    meta: Meta | None
    received_ns: int

    @property
    def peer(self) -> Peer:
        """The process that asks."""
        return self.origin.peer

    @property
    def role(self) -> Role:
        """The role it has."""
        return self.origin.role

    @property
    def deadline_ns(self) -> int | None:
        """When the caller stops waiting; the handler is cancelled then."""
        if self.meta is None or self.meta.deadline_ms is None:
            return None
        return self.received_ns + self.meta.deadline_ms * 1_000_000

    @property
    def idempotency_key(self) -> str | None:
        """What marks a repeated request as the same one."""
        return self.meta.idempotency_key if self.meta is not None else None

    def may_see(self, uid: int) -> bool:
        """Whether what belongs to `uid` may be shown to the caller in full."""
        return self.origin.role == "admin" or self.origin.peer.uid == uid
