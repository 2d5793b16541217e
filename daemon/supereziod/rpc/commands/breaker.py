"""breaker.*: leave to call a service, how the call ended, and what is known of the service."""

from __future__ import annotations

from typing import Protocol

from superezio.wire import (
    Breaker,
    BreakerAcquireParams,
    BreakerList,
    BreakerParams,
    BreakerSettleParams,
    NoParams,
)
from supereziod.resilience.breaker_administration import Who
from supereziod.rpc.requests import RequestContext


class BreakerService(Protocol):
    """The breakers, as far as they are asked."""

    def acquire(self, request: RequestContext, params: BreakerAcquireParams) -> bytes:
        """Ask for leave to call."""

    def settle(self, request: RequestContext, params: BreakerSettleParams) -> bytes:
        """Tell how a call ended."""

    def get(self, name: str, who: Who, *, uid: int | None = None) -> Breaker:
        """Return a breaker as it is."""

    def list(self, who: Who) -> BreakerList:
        """Return the breakers that one may see."""

    def force_open(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        """Let a breaker reject every call."""

    def disable(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        """Let a breaker let every call through."""

    def reset(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        """Begin anew."""


class BreakerCommands:
    """Handlers of breaker.*."""

    def __init__(self, breakers: BreakerService) -> None:
        self._breakers = breakers
        # Nothing in between: what is asked most has no call to spare.
        self.acquire = breakers.acquire  # type: ignore[method-assign]
        self.settle = breakers.settle  # type: ignore[method-assign]

    def acquire(self, request: RequestContext, params: BreakerAcquireParams) -> bytes:
        """Return a permit for one call, or the error that says when to ask again."""
        return self._breakers.acquire(request, params)

    def settle(self, request: RequestContext, params: BreakerSettleParams) -> bytes:
        """Tell how the call of a permit ended; to do it twice changes nothing."""
        return self._breakers.settle(request, params)

    def get(self, request: RequestContext, params: BreakerParams) -> Breaker:
        """Return one breaker."""
        return self._breakers.get(params.name, _who(request), uid=params.uid)

    def list(self, request: RequestContext, _params: NoParams) -> BreakerList:
        """Return the caller's own breakers and the shared ones it may use; an admin sees all."""
        return self._breakers.list(_who(request))

    def force_open(self, request: RequestContext, params: BreakerParams) -> Breaker:
        """Let a breaker reject every call, until it is reset or disabled."""
        return self._breakers.force_open(
            params.name,
            _who(request),
            uid=params.uid,
            correlation_id=request.correlation_id,
        )

    def disable(self, request: RequestContext, params: BreakerParams) -> Breaker:
        """Let a breaker let every call through and record none, until it is reset."""
        return self._breakers.disable(
            params.name,
            _who(request),
            uid=params.uid,
            correlation_id=request.correlation_id,
        )

    def reset(self, request: RequestContext, params: BreakerParams) -> Breaker:
        """Begin anew: closed, with nothing recorded."""
        return self._breakers.reset(
            params.name,
            _who(request),
            uid=params.uid,
            correlation_id=request.correlation_id,
        )


def _who(request: RequestContext) -> Who:
    return Who(request.peer, request.role == "admin")
