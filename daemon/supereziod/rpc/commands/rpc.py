"""rpc.*: the protocol itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from superezio.wire import CancelParams, Done, NoParams
from supereziod.rpc.requests import RequestContext


class RpcCommands:
    """Handlers of rpc.*. `document` makes the encoded OpenRPC document; it is asked once."""

    def __init__(self, document: Callable[[], bytes]) -> None:
        self._make_document = document
        self._document: msgspec.Raw | None = None

    def discover(self, _request: RequestContext, _params: NoParams) -> msgspec.Raw:
        """Return the OpenRPC document of these methods."""
        if self._document is None:
            self._document = msgspec.Raw(self._make_document())
        return self._document

    def cancel(self, request: RequestContext, params: CancelParams) -> Done:
        """Cancel a request in flight on this connection."""
        return Done(done=request.origin.cancel(params.id))
