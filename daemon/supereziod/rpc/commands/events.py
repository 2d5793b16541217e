"""events.*: being told of what changes."""

from __future__ import annotations

from typing import Final

from superezio.errors import InvalidParamsError
from superezio.wire import Done, SubscribeParams, SubscribeResult, UnsubscribeParams
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.subscriptions import Subscriptions

_MAX_TYPES: Final = 64
_MAX_REPLAY: Final = 4096


class EventCommands:
    """Handlers of events.*."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def subscribe(self, request: RequestContext, params: SubscribeParams) -> SubscribeResult:
        """Push events to this connection, as notifications of the method `event`."""
        if len(params.types) > _MAX_TYPES:
            raise InvalidParamsError(f"types may name up to {_MAX_TYPES}")
        if not 0 <= params.replay <= _MAX_REPLAY:
            raise InvalidParamsError(f"replay has to be 0 to {_MAX_REPLAY}")
        return self._subscriptions.subscribe(
            request.origin, types=params.types, replay=params.replay
        )

    def unsubscribe(self, request: RequestContext, params: UnsubscribeParams) -> Done:
        """End a subscription of this connection."""
        done = self._subscriptions.unsubscribe(request.origin, params.subscription)
        return Done(done=done)
