"""breaker.*: leave to call a service, how the call ended, and what is known of the service."""

from __future__ import annotations

from typing import Final, Protocol

from superezio import wire
from superezio.wire import (
    Breaker,
    BreakerAcquireParams,
    BreakerList,
    BreakerParams,
    BreakerPermit,
    BreakerSettlement,
    BreakerSettleParams,
    CallOutcome,
    NoParams,
)
from supereziod.resilience.breakers import Granted, Who
from supereziod.resilience.sharing import Asker
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext

_MILLISECOND: Final = 1_000_000
_SETTLED: Final[dict[CallOutcome, str]] = {
    "success": "settled success",
    "failure": "settled failure",
    "ignore": "settled ignore",
    "throttled": "settled throttled",
}


class BreakerService(Protocol):
    """The breakers, as far as they are asked."""

    def acquire(
        self,
        name: str,
        *,
        asker: Asker,
        connection: str,
        rules: wire.BreakerRules | None = None,
        correlation_id: str | None = None,
    ) -> Granted:
        """Ask for leave to call."""

    def settle(
        self,
        name: str,
        permit_id: int,
        outcome: CallOutcome,
        *,
        asker: Asker,
        connection: str,
        retry_after_ms: int | None = None,
        correlation_id: str | None = None,
    ) -> BreakerSettlement:
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

    def acquire(self, request: RequestContext, params: BreakerAcquireParams) -> bytes:
        """Return a permit for one call, or the error that says when to ask again."""
        origin = request.origin
        permit, breaker, shared = self._breakers.acquire(
            params.name,
            asker=origin.peer,
            connection=origin.id,
            rules=params.rules,
            correlation_id=request.correlation_id,
        )
        request.came_to = "permit"
        request.session.permits += 1
        return encode(
            BreakerPermit(
                name=params.name,
                permit=permit.id,
                state=breaker.state,
                shared=shared,
                expires_in_ms=breaker.rules.permit_ttl_ns // _MILLISECOND,
            )
        )

    def settle(self, request: RequestContext, params: BreakerSettleParams) -> bytes:
        """Tell how the call of a permit ended; to do it twice changes nothing."""
        origin = request.origin
        settlement = self._breakers.settle(
            params.name,
            params.permit,
            params.outcome,
            asker=origin.peer,
            connection=origin.id,
            retry_after_ms=params.retry_after_ms,
            correlation_id=request.correlation_id,
        )
        if settlement.effect != "unknown":
            request.came_to = _SETTLED[params.outcome]
        return encode(settlement)

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
