"""cache.*: values that one caller fetches where many ask, by key in namespaces."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

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
    CacheStored,
    NoParams,
)
from supereziod.resilience.cache_namespaces import CacheCaller
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext


class CacheService(Protocol):
    """The cache, as far as it is asked."""

    def get(self, caller: CacheCaller, params: CacheGetParams) -> CacheAnswer | None:
        """Return what there is, or None where the caller has to wait."""

    def wait(self, caller: CacheCaller, params: CacheGetParams) -> Awaitable[CacheAnswer]:
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
        return None if answer is None else encode(answer)

    def wait(self, request: RequestContext, params: CacheGetParams) -> Awaitable[CacheAnswer]:
        """Wait for what another fetches, or for the turn to fetch it."""
        return self._caches.wait(_caller(request), params)

    def set(self, request: RequestContext, params: CacheSetParams) -> CacheStored:
        """Set a value, or deliver it to those that wait."""
        return self._caches.set(_caller(request), params)

    def fail(self, request: RequestContext, params: CacheFailParams) -> CacheFailed:
        """Give a lead up, with an error for all or for the next one to lead."""
        return self._caches.fail(_caller(request), params)

    def delete(self, request: RequestContext, params: CacheDeleteParams) -> CacheDeleted:
        """Delete a key, or all with a tag."""
        return self._caches.delete(_caller(request), params)

    def clear(self, request: RequestContext, params: CacheNamespaceParams) -> CacheDeleted:
        """Delete all of a namespace."""
        return self._caches.clear(_caller(request), params)

    def stats(self, request: RequestContext, _params: NoParams) -> CacheStats:
        """Return what the caller's namespaces hold, and what happened in them."""
        return self._caches.stats(_caller(request))


def _caller(request: RequestContext) -> CacheCaller:
    origin = request.origin
    return CacheCaller(origin.peer, origin.id, origin.role == "admin")
