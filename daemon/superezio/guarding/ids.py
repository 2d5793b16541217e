"""What one guarded call goes by: all its requests have its id, so that one trace shows them."""

from __future__ import annotations

import os

from superezio.errors import SuperezioError
from superezio.traceparent import handed_on


class CallContext:
    """The id of a call, and the trace that it is a part of.

    Both are the caller's own; what it has none of, or what is none, is made up.
    """

    __slots__ = ("_handed_on", "_told", "correlation_id")

    def __init__(self, correlation_id: str | None, traceparent: str | None) -> None:
        self.correlation_id = correlation_id or os.urandom(16).hex()
        # Of a call that has none the daemon need not be told, which costs it more; few ask for one.
        self._handed_on = handed_on(self.correlation_id, traceparent) if traceparent else None
        self._told = None if self._handed_on is None else self._handed_on.told

    @property
    def traceparent(self) -> str:
        """What the service is to be told (the header `traceparent`)."""
        if self._handed_on is None:
            self._handed_on = handed_on(self.correlation_id, None)
        return self._handed_on.header

    @property
    def told(self) -> str | None:
        """What the daemon is told: the caller's own."""
        return self._told


def tell_id(error: SuperezioError, correlation_id: str) -> None:
    """Let an error that is of this side, and of no request, name the call that it ended."""
    if error.correlation_id is None:
        error.correlation_id = correlation_id
