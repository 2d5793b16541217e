"""What a command is given: its arguments, a way to print, and a way to call the daemon."""

from __future__ import annotations

import os

from superezioctl.caller import Caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.arguments import Arguments
    from superezioctl.output import Output


class Context:
    """One run of one command."""

    def __init__(self, *, arguments: Arguments, out: Output, socket_path: str) -> None:
        self.arguments = arguments
        self.out = out
        self.socket_path = socket_path
        self._caller: Caller | None = None
        self._own_id: str | None = None
        #: The trace that calls are a part of, to be set before the first one.
        self.traceparent: str | None = None

    @property
    def timeout_s(self) -> float:
        """How long one call may take, waiting on purpose left out."""
        timeout_s: float = self.arguments["timeout"]
        return timeout_s

    @property
    def correlation_id(self) -> str | None:
        """The id this run goes by, if it was given one, or has made one up."""
        given: str | None = self.arguments["correlation_id"]
        return given or self._own_id

    def one_id(self) -> str:
        """Have all calls of this run go by one id, the one given if there is one; return it."""
        known = self.correlation_id
        if known is not None:
            return known
        self._own_id = os.urandom(16).hex()
        return self._own_id

    def caller(self, *, patient: bool = False) -> Caller:
        """Return a new caller, with a connection of its own."""
        return Caller(
            socket_path=self.socket_path,
            timeout_s=self.timeout_s,
            correlation_id=self.correlation_id,
            traceparent=self.traceparent,
            patient=patient,
        )

    def be_quick(self, most_s: float) -> None:
        """Let no further call of `call` wait longer than that for an answer."""
        if self._caller is None:
            self._caller = self.caller()
        self._caller.timeout_s = min(self._caller.timeout_s, most_s)

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        wait_s: float = 0.0,
        idempotency_key: str | None = None,
        retry: bool = True,
    ) -> bytes:
        """Return the result of a call as JSON, over the connection that this run's calls share."""
        if self._caller is None:
            self._caller = self.caller()
        return self._caller.call(
            method, params, wait_s=wait_s, idempotency_key=idempotency_key, retry=retry
        )

    def close(self) -> None:
        """End what was opened."""
        if self._caller is not None:
            self._caller.close()
