"""Which request the running code works for: carried by ContextVars into every log line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from msgspec import Struct

from supereziod.observability.timeline import Timeline

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Scope(Protocol):
    """Who asks what, as it is read: a request itself, or what was noted of one."""

    @property
    def correlation_id(self) -> str:
        """The same at each reading, though it may be made at the first one."""

    @property
    def session_id(self) -> str | None: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def method(self) -> str | None: ...
    @property
    def gpu(self) -> str | None: ...
    @property
    def lease(self) -> str | None: ...
    @property
    def trace_id(self) -> str | None: ...
    @property
    def timeline(self) -> Timeline | None:
        """Where what happens to it is noted; None where nobody keeps it."""


class RequestScope(Struct, frozen=True, kw_only=True, gc=False):
    """Who asks what: the fields that stand on every log line and event of a request.

    `gpu` and `lease` are not known when a request comes in: `note` adds them. `trace_id` is that
    of the caller's traceparent.
    """

    correlation_id: str
    session_id: str | None = None
    uid: int | None = None
    pid: int | None = None
    method: str | None = None
    gpu: str | None = None
    lease: str | None = None
    trace_id: str | None = None
    timeline: Timeline | None = None


#: None outside a request, as in the daemon's own background work.
current_scope: ContextVar[Scope | None] = ContextVar("current_scope", default=None)


def new_id() -> str:
    """Return a fresh correlation id: 128 random bits in hex."""
    return os.urandom(16).hex()


def accept_id(given: str | None) -> str:
    """Return the client's id if it is well-formed, else a fresh one."""
    if given is not None and _CLIENT_ID.fullmatch(given):
        return given
    return new_id()


def numbered_id(connection_id: str, number: int) -> str:
    """Return the id of a request that came without one: unique, and the same when made again."""
    return f"{connection_id}.{number}"


def correlation_id() -> str | None:
    """Return the id of the request that the running code works for, if any."""
    scope = current_scope.get()
    return scope.correlation_id if scope is not None else None


@contextmanager
def in_scope(scope: Scope | None) -> Iterator[None]:
    """Work for another request than the one that set this off, or for none."""
    token = current_scope.set(scope)
    try:
        yield
    finally:
        current_scope.reset(token)


def note(*, gpu: str | None = None, lease: str | None = None) -> None:
    """Put the GPU or the lease that the request turned out to be about on its further lines.

    Lasts as long as the request's own scope does; without one, nothing happens.
    """
    scope = current_scope.get()
    if scope is not None:
        timeline = scope.timeline
        if timeline is not None:
            timeline.lease = lease or timeline.lease
            timeline.gpus = timeline.gpus if gpu is None else (gpu,)
        current_scope.set(
            RequestScope(
                correlation_id=scope.correlation_id,
                session_id=scope.session_id,
                uid=scope.uid,
                pid=scope.pid,
                method=scope.method,
                gpu=gpu or scope.gpu,
                lease=lease or scope.lease,
                trace_id=scope.trace_id,
                timeline=timeline,
            )
        )
