"""Errors as they stand on the wire: a stable kind, a code, and what the caller can do.

The daemon raises these and translates them once, at the edge of a request. A client raises the
same classes again, by kind, so `except NoCapacityError` reads alike on both sides of the socket.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

JsonObject = dict[str, Any]


class SuperezioError(Exception):
    """Base of every error that may cross the socket.

    `kind` is the stable name scripts match on and `code` the JSON-RPC code. `data` holds the
    further members of the error's `data` object (never secrets: it goes to the caller).
    `retry_after_ms`, where set, says when the same call may succeed.
    """

    kind: ClassVar[str] = "internal_error"
    code: ClassVar[int] = -32603

    def __init__(
        self, message: str, *, retry_after_ms: int | None = None, data: JsonObject | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.data: JsonObject = data or {}
        self.correlation_id: str | None = None


class ParseError(SuperezioError):
    """The line is not JSON, or not UTF-8."""

    kind = "parse_error"
    code = -32700


class InvalidRequestError(SuperezioError):
    """The line is JSON and not a JSON-RPC 2.0 request."""

    kind = "invalid_request"
    code = -32600


class MethodNotFoundError(SuperezioError):
    """No method of that name; `superezioctl rpc --list` prints those there are."""

    kind = "method_not_found"
    code = -32601


class InvalidParamsError(SuperezioError):
    """The parameters do not fit the method; the message names the one at fault."""

    kind = "invalid_params"
    code = -32602


class InternalError(SuperezioError):
    """A fault in the daemon; the journal has the traceback under the correlation id."""


class FrameTooLargeError(SuperezioError):
    """One line was longer than the daemon reads."""

    kind = "frame_too_large"
    code = -32001


class PermissionDeniedError(SuperezioError):
    """The caller's role does not reach; the message says which group to join."""

    kind = "permission_denied"
    code = -32002


class BusyError(SuperezioError):
    """The caller has too many connections, requests in flight or requests a second."""

    kind = "busy"
    code = -32003


class DeadlineExceededError(SuperezioError):
    """The request's own deadline passed before there was an answer."""

    kind = "deadline_exceeded"
    code = -32004


class CancelledRequestError(SuperezioError):
    """The request was cancelled with rpc.cancel, or its wait for a lease with lease.cancel."""

    kind = "cancelled"
    code = -32005


class ShuttingDownError(SuperezioError):
    """The daemon is stopping; a client reconnects and asks the next one."""

    kind = "shutting_down"
    code = -32006


class NotFoundError(SuperezioError):
    """A GPU, session, subscription or other named thing does not exist."""

    kind = "not_found"
    code = -32007


class ConflictError(SuperezioError):
    """The request contradicts the present state, or an earlier request with its key."""

    kind = "conflict"
    code = -32008


class NoCapacityError(SuperezioError):
    """No GPU admits the lease now; `data.placement` has the reason for every GPU."""

    kind = "no_capacity"
    code = -32020


class NeverFitsError(SuperezioError):
    """No GPU of this host could ever admit the lease, so that waiting is pointless."""

    kind = "never_fits"
    code = -32021


class QueueFullError(SuperezioError):
    """The queue for leases is full."""

    kind = "queue_full"
    code = -32022


class WaitTimeoutError(SuperezioError):
    """The lease was still queued when its wait ended; `data.placement` has the reasons."""

    kind = "wait_timeout"
    code = -32023


class StaleLeaseError(SuperezioError):
    """The lease is not there any more: released, lost, or of another boot."""

    kind = "stale_lease"
    code = -32024


class HolderNotVisibleError(SuperezioError):
    """The peer's pid is outside the daemon's view; a connection lease is the way."""

    kind = "holder_not_visible"
    code = -32025


class HolderGoneError(SuperezioError):
    """The process that should hold the lease has ended, or its pid is another process."""

    kind = "holder_gone"
    code = -32026


class StateNotWritableError(SuperezioError):
    """The daemon cannot record a grant, so it grants nothing; existing leases stand."""

    kind = "state_not_writable"
    code = -32027


class GpusUnavailableError(SuperezioError):
    """There is no driver, or the probe is detached or starting."""

    kind = "gpus_unavailable"
    code = -32028


class QuotaExceededError(SuperezioError):
    """The user, or a group of the user's, has leased as much as it may; `data` says of what."""

    kind = "quota_exceeded"
    code = -32030


class BreakerOpenError(SuperezioError):
    """The circuit breaker lets no call through now; `retry_after_ms` says when it may."""

    kind = "breaker_open"
    code = -32040


class RateLimitedError(SuperezioError):
    """A limit has no room for the request now; `data` names the dimension and the scope."""

    kind = "rate_limited"
    code = -32041


class NeverPassesError(SuperezioError):
    """The request takes more than a limit ever has at once, so that waiting is pointless."""

    kind = "never_passes"
    code = -32042


class FillFailedError(SuperezioError):
    """The caller that fetched the value for all who wait for it reported this error."""

    kind = "fill_failed"
    code = -32050


class FillTimeoutError(SuperezioError):
    """Another caller was still fetching the value when the wait for it ended."""

    kind = "fill_timeout"
    code = -32051


#: Every error class by its kind. Part of the published interface: kinds are never renamed.
BY_KIND: Final[dict[str, type[SuperezioError]]] = {
    cls.kind: cls
    for cls in (
        ParseError,
        InvalidRequestError,
        MethodNotFoundError,
        InvalidParamsError,
        InternalError,
        FrameTooLargeError,
        PermissionDeniedError,
        BusyError,
        DeadlineExceededError,
        CancelledRequestError,
        ShuttingDownError,
        NotFoundError,
        ConflictError,
        NoCapacityError,
        NeverFitsError,
        QueueFullError,
        WaitTimeoutError,
        StaleLeaseError,
        HolderNotVisibleError,
        HolderGoneError,
        StateNotWritableError,
        GpusUnavailableError,
        QuotaExceededError,
        BreakerOpenError,
        RateLimitedError,
        NeverPassesError,
        FillFailedError,
        FillTimeoutError,
    )
}


def from_wire(code: int, message: str, data: JsonObject | None) -> SuperezioError:
    """Return the exception for a JSON-RPC error object (raising it is the caller's part).

    An unknown kind, from a newer daemon, becomes a plain `SuperezioError` that keeps kind and
    code.
    """
    data = dict(data or {})
    kind = data.pop("kind", None)
    correlation_id = data.pop("correlation_id", None)
    retry_after_ms = data.pop("retry_after_ms", None)
    cls = BY_KIND.get(kind, SuperezioError) if isinstance(kind, str) else SuperezioError
    error = cls(message, retry_after_ms=retry_after_ms, data=data)
    if cls is SuperezioError:
        error.kind = kind or "unknown"  # type: ignore[misc]
        error.code = code  # type: ignore[misc]
    error.correlation_id = correlation_id
    return error


# --- raised by a client itself: these never cross the socket ------------------------------------


class DaemonNotRunningError(SuperezioError):
    """Nothing listens on the socket. Nothing was sent, so that trying again is safe."""

    kind = "daemon_not_running"
    code = -32090


class ReplyTimeoutError(SuperezioError):
    """The daemon is there and did not answer in time; whether it acted is not known."""

    kind = "reply_timeout"
    code = -32091


class ConnectionLostError(SuperezioError):
    """The connection ended before the answer came; whether the daemon acted is not known."""

    kind = "connection_lost"
    code = -32092
