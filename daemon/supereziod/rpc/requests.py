"""What a handler is told about the request it works for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from superezio.traceparent import TraceContext, parse_traceparent
from superezio.wire import Meta, Params, Role
from supereziod.observability.correlation import accept_id, numbered_id
from supereziod.observability.timeline import Timeline
from supereziod.rpc.actors import Actor
from supereziod.rpc.method import Audit
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
    #: Its ways to the limits, as they keep them: a look-up for each request less.
    limit_ways: dict[str, Any]

    def pidfd(self) -> int | None:
        """Return a pidfd of the peer, which the connection closes at its end."""

    def cancel(self, request_id: float | str) -> bool:
        """Cancel a request in flight on this connection; False if there is none."""

    def push(self, line: bytes) -> None:
        """Send a line out of turn."""

    @property
    def writable(self) -> bool:
        """Whether what is sent now goes out, and does not pile up."""


class Act(Struct, frozen=True, kw_only=True):
    """What the audit has to know of a request when it ends.

    `audit` says what leaves a record. `actor` is who asked, where that was looked up when it began
    to wait. Without `params` they cannot be read.
    """

    params: Params | None
    audit: Audit
    actor: Actor | None


class RequestContext:
    """Who asks, over which connection, and under which conditions.

    `received_ns` is the clock when the request was read. It is the current scope already: what
    stands on the request's log lines is read from here, and made only then, as few requests log.
    Handlers change nothing of it but `came_to`; those of hot methods do not keep it either (see
    `Method`).
    """

    # No Struct: storing into one takes four times as long, and that of hot methods is used again.
    __slots__ = (
        "accepted_id", "act", "came_to", "meta", "method", "number", "origin", "received_ns",
        "session", "timeline",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        method: str | None,
        session: SessionState,
        meta: Meta | None,
        received_ns: int,
        number: int,
        timeline: Timeline | None = None,
    ) -> None:
        self.origin = origin
        #: None where it could not be told.
        self.method = method
        self.session = session
        self.meta = meta
        self.received_ns = received_ns
        #: Which one it is of its connection.
        self.number = number
        #: What stands for the id of `meta`, once it was asked for.
        self.accepted_id: str | None = None
        #: As a hot method's handler says that answers at once: its marks, as in `hit` or
        #: `miss,lead`, in words of the code's own. Kept where the caller gave it an id.
        self.came_to: str | None = None
        #: Where what happens to it is noted. None for one that is answered at once.
        self.timeline = timeline
        #: What is to be audited when it ends; None for most.
        self.act: Act | None = None

    @property
    def correlation_id(self) -> str:
        """The caller's own id, or one that stands for it: the same at each reading."""
        given = self.meta.correlation_id if self.meta is not None else None
        if given is None:
            return numbered_id(self.origin.id, self.number)
        accepted = self.accepted_id
        if accepted is None:
            # Kept, as what stands for an id that is refused is random.
            accepted = accept_id(given)
            self.accepted_id = accepted
        return accepted

    @property
    def connection_id(self) -> str:
        """The connection that it came over."""
        return self.origin.id

    @property
    def trace_id(self) -> str | None:
        """The trace that the caller says it is a part of."""
        context = self._trace_context()
        return None if context is None else context.trace_id

    @property
    def parent_id(self) -> str | None:
        """The span of the caller's that made it."""
        context = self._trace_context()
        return None if context is None else context.parent_id

    @property
    def session_id(self) -> str:
        """The session that the request counts for."""
        return self.session.id

    @property
    def uid(self) -> int:
        """The user who asks."""
        return self.origin.peer.uid

    @property
    def pid(self) -> int:
        """The process that asks."""
        return self.origin.peer.pid

    @property
    def gpu(self) -> None:
        """Not known when a request comes in: `correlation.note` adds it."""

    @property
    def lease(self) -> None:
        """Not known either."""

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

    def _trace_context(self) -> TraceContext | None:
        if self.meta is None or self.meta.traceparent is None:
            return None
        return parse_traceparent(self.meta.traceparent)

    def may_see(self, uid: int) -> bool:
        """Whether what belongs to `uid` may be shown to the caller in full."""
        return self.origin.role == "admin" or self.origin.peer.uid == uid
