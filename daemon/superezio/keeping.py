"""Connection leases of a client, and which of them its newest connection does not have yet."""

from __future__ import annotations

from superezio.errors import (
    ConnectionLostError,
    InvalidParamsError,
    MethodNotFoundError,
    PermissionDeniedError,
    ReplyTimeoutError,
    ShuttingDownError,
    StaleLeaseError,
)

#: Why a lease can never be resumed: it is over, or no lease of this process any more.
FINAL = (StaleLeaseError, MethodNotFoundError, PermissionDeniedError, InvalidParamsError)
#: What ends the call for which it was resumed, too. Any other error is the resume's own (the daemon
#: has too much to do, or has not seen the end of the earlier connection): the call goes on.
OF_THE_CALL = (ConnectionLostError, ShuttingDownError, ReplyTimeoutError)


class KeptLeases:
    """Leases to resume after each reconnect; `due` until that was done on the connection there is.

    A resume that fails is not forgotten: it is due for the next call, too.
    """

    def __init__(self) -> None:
        self._kept: dict[str, None] = {}
        self._due: dict[str, None] = {}

    def __contains__(self, lease: str) -> bool:
        return lease in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def due(self) -> tuple[str, ...]:
        """Those still to be resumed, oldest first."""
        return tuple(self._due)

    def keep(self, lease: str) -> None:
        """Take in a lease that the connection there is has."""
        self._kept[lease] = None

    def give_up(self, lease: str) -> None:
        """Let go of a lease, if it is here."""
        self._kept.pop(lease, None)
        self._due.pop(lease, None)

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
        self._due.clear()

    def connected_anew(self) -> None:
        """Note that there is a new connection, which has none of them."""
        self._due = dict(self._kept)

    def resumed(self, lease: str) -> None:
        """Note that the connection there is has the lease."""
        self._due.pop(lease, None)
