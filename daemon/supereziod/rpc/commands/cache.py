"""cache.*: values that one caller fetches where many ask, by key in namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from superezio.wire import (
    CacheAnswer,
    CacheDeleted,
    CacheDeleteParams,
    CacheFailed,
    CacheFailParams,
    CacheGetParams,
    CacheNamespaceParams,
    CacheSetParams,
    CacheStats,
    CacheStatus,
    CacheStored,
    NoParams,
)
from supereziod.observability.marks import count_use, mark
from supereziod.resilience.cache_namespaces import CacheCaller
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext

#: A value that was there.
_SERVED: Final = frozenset({"hit", "stale"})
#: What those come to who are to fetch it.
_LEADS: Final[dict[CacheStatus, str]] = {"lead": "miss,lead", "stale": "stale,lead"}


class CacheService(Protocol):
    """The cache, as far as it is asked."""

    def get(self, caller: CacheCaller, params: CacheGetParams) -> CacheAnswer | None:
        """Return what there is, or None where the caller has to wait."""

    def wait(self, caller: CacheCaller, params: CacheGetParams) -> asyncio.Future[CacheAnswer]:
        """Return what waits for another's fetch."""

    def set(self, caller: CacheCaller, params: CacheSetParams) -> CacheStored:
        """Set a value, or deliver it."""

    def fail(self, caller: CacheCaller, params: CacheFailParams) -> CacheFailed:
        """Give a lead up."""

    def delete(self, caller: CacheCaller, params: CacheDeleteParams) -> CacheDeleted:
        """Delete a key, or all with a tag."""

    def clear(self, caller: CacheCaller, params: CacheNamespaceParams) -> CacheDeleted:
        """Delete all of a namespace."""

    def stats(self, caller: CacheCaller) -> CacheStats:
        """Return what is told of the namespaces that the caller may see."""


class CacheCommands:
    """Handlers of cache.*."""

    def __init__(self, caches: CacheService) -> None:
        self._caches = caches

    def get(self, request: RequestContext, params: CacheGetParams) -> bytes | None:
        """Look a key up; None where that is to wait for another's fetch."""
        answer = self._caches.get(_caller(request), params)
        if answer is None:
            return None
        if answer.status in _SERVED:
            request.session.hits += 1
        request.came_to = _LEADS.get(answer.status) if answer.token is not None else answer.status
        return encode(answer)

    def wait(self, request: RequestContext, params: CacheGetParams) -> Awaitable[CacheAnswer]:
        """Wait for what another fetches, or for the turn to fetch it."""
        answer = self._caches.wait(_caller(request), params)
        if not answer.done():
            mark("miss")
            mark("queued")
        # It runs for the request, which is the scope here.
        answer.add_done_callback(_tell_answer)
        return answer

    def set(self, request: RequestContext, params: CacheSetParams) -> CacheStored:
        """Set a value, or deliver it to those that wait."""
        stored = self._caches.set(_caller(request), params)
        if params.token is not None and stored.accepted:
            mark("settled", "value")
            count_use("fills")
        return stored

    def fail(self, request: RequestContext, params: CacheFailParams) -> CacheFailed:
        """Give a lead up, with an error for all or for the next one to lead."""
        failed = self._caches.fail(_caller(request), params)
        if failed.accepted:
            mark("settled", "given up" if params.error is None else "error")
        return failed

    def delete(self, request: RequestContext, params: CacheDeleteParams) -> CacheDeleted:
        """Delete a key, or all with a tag."""
        return self._caches.delete(_caller(request), params)

    def clear(self, request: RequestContext, params: CacheNamespaceParams) -> CacheDeleted:
        """Delete all of a namespace."""
        return self._caches.clear(_caller(request), params)

    def stats(self, request: RequestContext, _params: NoParams) -> CacheStats:
        """Return what the caller's namespaces hold, and what happened in them."""
        return self._caches.stats(_caller(request))


def _tell_answer(answered: asyncio.Future[CacheAnswer]) -> None:
    """Note at the request that waited how that ended, unless an error says so."""
    if answered.cancelled() or answered.exception() is not None:
        return
    status = answered.result().status
    mark(status)
    if status in _SERVED:
        count_use("hits")
    elif status == "filled":
        count_use("coalesced")


def _caller(request: RequestContext) -> CacheCaller:
    origin = request.origin
    return CacheCaller(origin.peer, origin.id, origin.role == "admin")
