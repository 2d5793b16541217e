"""limit.*: room for requests to a service that several programs share."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from superezio.wire import (
    Done,
    LimitAcquireParams,
    LimitList,
    LimitParams,
    LimitReservation,
    LimitResetParams,
    LimitSettleParams,
    LimitState,
    NoParams,
)
from supereziod.rpc.peers import Peer
from supereziod.rpc.requests import RequestContext


class Limits(Protocol):
    """The limits, as far as those ask who are limited."""

    def acquire(self, request: RequestContext, params: LimitAcquireParams) -> bytes | None:
        """Reserve room at once, or return None where it has to wait."""

    def wait(
        self, request: RequestContext, params: LimitAcquireParams
    ) -> Awaitable[LimitReservation]:
        """Wait for room."""

    def settle(self, request: RequestContext, params: LimitSettleParams) -> bytes:
        """Correct a reservation to what was used."""

    def connection_closed(self, connection: str) -> None:
        """Hear that a connection ended."""


class LimitBook(Protocol):
    """The limits, as they are looked at."""

    def peek(self, asker: Peer, params: LimitParams, *, session: str, is_admin: bool) -> LimitState:
        """Return one limit."""

    def list(self, asker: Peer, *, session: str, is_admin: bool) -> LimitList:
        """Return the limits that `asker` may see."""

    def reset(self, asker: Peer, params: LimitResetParams, *, is_admin: bool) -> bool:
        """Have all of a limit there again."""


class LimitCommands:
    """Handlers of limit.*."""

    def __init__(self, limits: Limits, book: LimitBook) -> None:
        self._limits = limits
        self._book = book
        # Nothing in between: what is asked most has no call to spare.
        self.acquire = limits.acquire  # type: ignore[method-assign]

    def acquire(self, request: RequestContext, params: LimitAcquireParams) -> bytes | None:
        """Reserve room for one request; to wait for it takes `wait_ms`."""
        return self._limits.acquire(request, params)

    def acquire_later(
        self, request: RequestContext, params: LimitAcquireParams
    ) -> Awaitable[LimitReservation]:
        """Wait for room, behind those who wait already."""
        return self._limits.wait(request, params)

    def settle(self, request: RequestContext, params: LimitSettleParams) -> bytes:
        """Say what was used, and what the far side said."""
        return self._limits.settle(request, params)

    def peek(self, request: RequestContext, params: LimitParams) -> LimitState:
        """Return what is left of a limit; nothing is taken."""
        return self._book.peek(
            request.peer, params, session=request.session_id, is_admin=request.role == "admin"
        )

    def list(self, request: RequestContext, _params: NoParams) -> LimitList:
        """Return the limits that the caller may use, and what is left of each."""
        return self._book.list(
            request.peer, session=request.session_id, is_admin=request.role == "admin"
        )

    def reset(self, request: RequestContext, params: LimitResetParams) -> Done:
        """Have all of a limit there again; one that is shared is for admins."""
        return Done(done=self._book.reset(request.peer, params, is_admin=request.role == "admin"))
