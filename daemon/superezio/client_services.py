"""breaker.*, limit.* and cache.*, as they are on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, Unpack

from superezio import calls, wire
from superezio.calls import CacheOptions, Call, LimitCost, LimitUse

T = TypeVar("T")


class ServiceMethods(Protocol):
    """A part of `Client`. `Client.breaker`, `limit`, `cached` and `guard` are made of these."""

    def _call(self, call: Call[T], timeout_s: float | str | None) -> T:
        """Make a call and return its result."""

    def breaker_acquire(
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
        return self._call(calls.breaker_acquire(name, rules), timeout_s)

    def breaker_settle(
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
        return self._call(call, timeout_s)

    def breaker_get(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Return one breaker, for admins that of user `uid`. Raises NotFoundError."""
        return self._call(calls.breaker_get(name, uid), timeout_s)

    def breaker_list(self, *, timeout_s: float | str | None = None) -> wire.BreakerList:
        """Return one's own breakers and the shared ones that one may use; for admins all."""
        return self._call(calls.breaker_list(), timeout_s)

    def breaker_force_open(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker reject every call. Shared ones are for admins."""
        return self._call(calls.breaker_force_open(name, uid), timeout_s)

    def breaker_disable(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker let every call through and record none. Shared ones are for admins."""
        return self._call(calls.breaker_disable(name, uid), timeout_s)

    def breaker_reset(
        self, name: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.Breaker:
        """Have a breaker begin anew, closed. Shared ones are for admins. Raises NotFoundError."""
        return self._call(calls.breaker_reset(name, uid), timeout_s)

    def cache_get(
        self,
        namespace: str,
        key: str,
        *,
        fill: bool = False,
        wait: float | str = 30.0,
        lead: float | str = 30.0,
        timeout_s: float | str | None = None,
    ) -> wire.CacheAnswer:
        """Return what the cache has for a key: its `status` says what to do.

        With `fill`, be ready to fetch the value where nobody has it: one caller of all gets the
        status "lead" and a `token`, and has `lead` to deliver with `cache_set` or to give up with
        `cache_fail`; the others wait for it, `wait` at most. "stale" with a token is the same for
        a value that may be served meanwhile. Where it is a "miss", fetch it for yourself.

        Raises FillFailedError with the error of who fetched it, FillTimeoutError, and
        PermissionDeniedError for a namespace that is shared by others.
        """
        call = calls.cache_get(namespace, key, fill=fill, wait=wait, lead=lead)
        return self._call(call, timeout_s)

    def cache_set(
        self,
        namespace: str,
        key: str,
        value: str | bytes,
        *,
        timeout_s: float | str | None = None,
        **options: Unpack[CacheOptions],
    ) -> wire.CacheStored:
        """Set a value: text or bytes. With the `token` of a lead, deliver it to all who wait.

        Options: `ttl`, how long it is fresh, give or take a tenth (an hour); `grace`, how long it
        is served after that while one caller refreshes it, and `stale_if_error`, how long where
        refreshing fails (0); `tags`, names to delete it by; `token`. A `ValueError` is raised for
        a duration that cannot be read.
        """
        return self._call(calls.cache_set(namespace, key, value, options), timeout_s)

    def cache_fail(
        self,
        namespace: str,
        key: str,
        token: str,
        *,
        error: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.CacheFailed:
        """Give a lead up: all who wait are told the `error`; without one, the first of them leads.

        Where an old value may stand in for the error, it is in the answer, and they get it, too.
        """
        return self._call(calls.cache_fail(namespace, key, token, error), timeout_s)

    def cache_delete(
        self,
        namespace: str,
        *,
        key: str | None = None,
        tag: str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.CacheDeleted:
        """Delete a key, or all that has a tag. What is being fetched meanwhile is not stored."""
        return self._call(calls.cache_delete(namespace, key, tag), timeout_s)

    def cache_clear(
        self, namespace: str, *, uid: int | None = None, timeout_s: float | str | None = None
    ) -> wire.CacheDeleted:
        """Delete all of a namespace; of a shared one, or another user's (`uid`), as an admin."""
        return self._call(calls.cache_clear(namespace, uid), timeout_s)

    def cache_stats(self, *, timeout_s: float | str | None = None) -> wire.CacheStats:
        """Return what the caller's namespaces hold, and what happened in them."""
        return self._call(calls.cache_stats(), timeout_s)

    def limit_acquire(
        self, name: str, *, timeout_s: float | str | None = None, **options: Unpack[LimitCost]
    ) -> wire.LimitReservation:
        """Reserve room for one request in the limit `name`; settle it with what was used.

        Options: `requests` (1), `tokens`, `money_micros`, `concurrency` (slots; one where the limit
        has any, unless given), what it takes; `key`, whose request it is; `wait`, how long to wait
        for room (0: not at all); `rates`, of a limit of one's own. What was reserved counts as
        used when this client's connection ends. Raises RateLimitedError (with `retry_after_ms`),
        NeverPassesError, StateNotWritableError.
        """
        return self._call(calls.limit_acquire(name, options), timeout_s)

    def limit_settle(
        self, reservation: int, *, timeout_s: float | str | None = None, **used: Unpack[LimitUse]
    ) -> wire.LimitSettlement:
        """Say what a request used: `requests`, `tokens`, `money_micros`; what is None as reserved.

        `retry_after` and `remaining` are what the far side said. `settled` is False where the
        reservation is not open over this client's connection any more.
        """
        return self._call(calls.limit_settle(reservation, used), timeout_s)

    def limit_peek(
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
        return self._call(calls.limit_peek(name, key, uid), timeout_s)

    def limit_list(self, *, timeout_s: float | str | None = None) -> wire.LimitList:
        """Return the limits that the caller may use, and what is left of each."""
        return self._call(calls.limit_list(), timeout_s)

    def limit_reset(
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
        return self._call(calls.limit_reset(name, key, uid, spend=spend), timeout_s)
