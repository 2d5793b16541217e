"""breaker.*, limit.* and cache.* as coroutines, as they are on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, Unpack

from superezio import calls, wire
from superezio.calls import CacheOptions, Call, LimitCost, LimitUse

T = TypeVar("T")


class AsyncServiceMethods(Protocol):
    """A part of `AsyncClient`: each is written at its twin in `client_services.ServiceMethods`."""

    async def _call(self, call: Call[T], timeout_s: float | str | None) -> T:
        """Make a call and return its result."""

    async def breaker_acquire(
        self,
        name: str,
        *,
        rules: wire.BreakerRules | Mapping[str, Any] | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.BreakerPermit:
        """Ask for leave to call the service that `name` stands for; settle it when the call ends.

        The permit is this client's connection's, and returns with it. `rules` are for a name of
        one's own: wire.BreakerRules, or a dict such as {"open_s": 5}. Raises
        BreakerOpenError, with `retry_after_ms`.
        """
        return await self._call(calls.breaker_acquire(name, rules), timeout_s)

    async def breaker_settle(
        self,
        name: str,
        permit: int,
        outcome: wire.CallOutcome,
        *,
        retry_after: float | str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.BreakerSettlement:
        """Tell how the call of a permit ended: success, failure, ignore or throttled.

        `retry_after` goes with throttled: how long the service wants to be left alone. Doing it
        twice is fine: the second one changes nothing.
        """
        call = calls.breaker_settle(name, permit, outcome, retry_after)
        return await self._call(call, timeout_s)

    async def breaker_get(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Return one breaker, for admins that of user `uid`. Raises NotFoundError."""
        return await self._call(calls.breaker_get(name, uid), timeout_s)

    async def breaker_list(self, *, timeout_s: float | str | None = None) -> wire.BreakerList:
        """Return one's own breakers and the shared ones that one may use; for admins all."""
        return await self._call(calls.breaker_list(), timeout_s)

    async def breaker_force_open(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker reject every call. Shared ones are for admins."""
        return await self._call(calls.breaker_force_open(name, uid), timeout_s)

    async def breaker_disable(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker let every call through and record none. Shared ones are for admins."""
        return await self._call(calls.breaker_disable(name, uid), timeout_s)

    async def breaker_reset(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker begin anew, closed. Shared ones are for admins. Raises NotFoundError."""
        return await self._call(calls.breaker_reset(name, uid), timeout_s)

    async def cache_get(
        self,
        namespace: str,
        key: str,
        *,
        fill: bool = False,
        wait: float | str = 30.0,
        lead: float | str = 30.0,
        timeout_s: float | str | None = None,
    ) -> wire.CacheAnswer:
        """Return what the cache has for a key; with `fill`, be ready to be who fetches it."""
        call = calls.cache_get(namespace, key, fill=fill, wait=wait, lead=lead)
        return await self._call(call, timeout_s)

    async def cache_set(
        self,
        namespace: str,
        key: str,
        value: str | bytes,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> wire.CacheStored:
        """Set a value; with the `token` of a lead, deliver it to all who wait."""
        return await self._call(calls.cache_set(namespace, key, value, options), timeout_s)

    async def cache_fail(
        self,
        namespace: str,
        key: str,
        token: str,
        *,
        error: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.CacheFailed:
        """Give a lead up, with an `error` for all who wait or for the next one to lead."""
        return await self._call(calls.cache_fail(namespace, key, token, error), timeout_s)

    async def cache_delete(
        self,
        namespace: str,
        *,
        key: str | None = None,
        tag: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.CacheDeleted:
        """Delete a key, or all that has a tag."""
        return await self._call(calls.cache_delete(namespace, key, tag), timeout_s)

    async def cache_clear(
        self, namespace: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.CacheDeleted:
        """Delete all of a namespace."""
        return await self._call(calls.cache_clear(namespace, uid), timeout_s)

    async def cache_stats(self, *, timeout_s: float | str | None = None) -> wire.CacheStats:
        """Return what the caller's namespaces hold, and what happened in them."""
        return await self._call(calls.cache_stats(), timeout_s)

    async def limit_acquire(
        self, name: str, *, timeout_s: float | str | None = None, **options: Unpack[LimitCost]
    ) -> wire.LimitReservation:
        """Reserve room for one request in the limit `name`; settle it with what was used.

        Options: `requests` (1), `tokens`, `money_micros`, `concurrency` (slots; one where the limit
        has any, unless given), what it takes; `key`, whose request it is; `wait`, how long to wait
        for room (0: not at all); `rates`, of a limit of one's own. What was reserved counts as
        used when this client's connection ends. Raises RateLimitedError (with `retry_after_ms`),
        NeverPassesError, StateNotWritableError.
        """
        return await self._call(calls.limit_acquire(name, options), timeout_s)

    async def limit_settle(
        self, reservation: int, *, timeout_s: float | str | None = None, **used: Unpack[LimitUse]
    ) -> wire.LimitSettlement:
        """Say what a request used: `requests`, `tokens`, `money_micros`; what is None as reserved.

        `retry_after` and `remaining` are what the far side said. `settled` is False where the
        reservation is not open over this client's connection any more.
        """
        return await self._call(calls.limit_settle(reservation, used), timeout_s)

    async def limit_peek(
        self,
        name: str,
        *,
        key: str | None = None,
        uid: int | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.LimitState:
        """Return what is left of a limit (with `uid`, of another user's: admins).

        Raises NotFoundError.
        """
        return await self._call(calls.limit_peek(name, key, uid), timeout_s)

    async def limit_list(self, *, timeout_s: float | str | None = None) -> wire.LimitList:
        """Return the limits that the caller may use, and what is left of each."""
        return await self._call(calls.limit_list(), timeout_s)

    async def limit_reset(
        self,
        name: str,
        *,
        key: str | None = None,
        uid: int | None = None,
        spend: bool = False,
        timeout_s: float | str | None = None,
    ) -> wire.Done:
        """Have all of a limit there again; with `spend`, as if no money was spent (shared: admins).

        Raises NotFoundError.
        """
        return await self._call(calls.limit_reset(name, key, uid, spend=spend), timeout_s)
