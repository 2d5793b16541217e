"""The real cache service with a clock and users that a test moves, asked as the dispatcher asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from superezio.resilience.cache_limits import Limits, Quota
from superezio.wire import (
    CacheAnswer,
    CacheDeleteParams,
    CacheFailed,
    CacheFailParams,
    CacheGetParams,
    CacheSetParams,
    CacheStored,
)
from supereziod.resilience.cache_namespaces import CacheCaller, SharedNamespace
from supereziod.resilience.cache_rules import CacheRules
from supereziod.resilience.caches import Caches
from supereziod.resilience.sharing import Audience

MS = 1_000_000
ROOMY = Quota(10**8, 10**5)


class User(Struct, frozen=True):
    uid: int
    groups: frozenset[int] = frozenset()


ANN, BEN, EVE = User(1000), User(1001), User(1002)
ROOT = User(0)


class Told(Struct, frozen=True):
    """An event as it was emitted."""

    type: str
    message: str
    uid: int | None
    data: dict[str, Any]


class Events:
    def __init__(self) -> None:
        self.told: list[Told] = []

    def emit(self, type_: str, message: str, *, uid: int | None = None, **data: Any) -> None:
        self.told.append(Told(type_, message, uid, data))


def limits(**changes: Any) -> Limits:
    """Return roomy bounds, but for what a test sets."""
    values: dict[str, Any] = {
        "max_bytes": 10**8,
        "max_entries": 10**5,
        "max_value_bytes": 2000,
        "quota": ROOMY,
        "owner": ROOMY,
        **changes,
    }
    return Limits(**values)


def shared_with(*users: User, quota: Quota = ROOMY) -> SharedNamespace:
    uids = frozenset(user.uid for user in users)
    return SharedNamespace(audience=Audience(uids=uids), quota=quota)


class Line:
    """One connection of a user."""

    def __init__(self, host: CacheHost, user: User, name: str) -> None:
        self.host = host
        self.user = user
        self.caller = CacheCaller(user, name, is_admin=user is ROOT)
        self.waits: list[asyncio.Future[CacheAnswer]] = []

    def ask(
        self, key: str = "k", namespace: str = "n", **params: Any
    ) -> CacheAnswer | asyncio.Future[CacheAnswer]:
        """Ask as the dispatcher does: at once, or, if that has no answer, by waiting."""
        asked = CacheGetParams(namespace=namespace, key=key, **{"fill": True, **params})
        answer = self.host.caches.get(self.caller, asked)
        if answer is not None:
            return answer
        future = self.host.caches.wait(self.caller, asked)
        self.waits.append(future)
        return future

    def get(self, key: str = "k", namespace: str = "n", **params: Any) -> CacheAnswer:
        """Ask where there has to be an answer at once."""
        answer = self.ask(key, namespace, **params)
        assert isinstance(answer, CacheAnswer)
        return answer

    def lead(self, key: str = "k", namespace: str = "n", **params: Any) -> str:
        """Ask where nobody else does, and return the token."""
        answer = self.get(key, namespace, **params)
        assert answer.status == "lead"
        assert answer.token is not None
        return answer.token

    def join(
        self, key: str = "k", namespace: str = "n", **params: Any
    ) -> asyncio.Future[CacheAnswer]:
        """Ask where another leads."""
        future = self.ask(key, namespace, **params)
        assert isinstance(future, asyncio.Future)
        assert not future.done()
        return future

    def set(
        self, value: str | bytes = "v", key: str = "k", namespace: str = "n", **params: Any
    ) -> CacheStored:
        given = {"text": value} if isinstance(value, str) else {"data": value}
        asked = CacheSetParams(namespace=namespace, key=key, **{**given, **params})
        return self.host.caches.set(self.caller, asked)

    def fail(
        self,
        token: str,
        error: str | None = "no route",
        key: str = "k",
        namespace: str = "n",
        *,
        pass_on: bool = False,
    ) -> CacheFailed:
        asked = CacheFailParams(
            namespace=namespace, key=key, token=token, error=error, pass_on=pass_on
        )
        return self.host.caches.fail(self.caller, asked)

    def delete(self, key: str | None = None, tag: str | None = None, namespace: str = "n") -> int:
        asked = CacheDeleteParams(namespace=namespace, key=key, tag=tag)
        return self.host.caches.delete(self.caller, asked).entries

    def close(self) -> None:
        """End as a connection does: what is in flight is cancelled, then it is told."""
        for future in self.waits:
            future.cancel()
        self.host.caches.connection_closed(self.caller.connection)


class CacheHost:
    """A cache service, and whoever connects to it."""

    def __init__(
        self, *, shared: Mapping[str, SharedNamespace] | None = None, **rules: Any
    ) -> None:
        self.now = 10**12
        self.events = Events()
        self.caches = Caches(
            rules=CacheRules(**{"limits": limits(), **rules}),
            events=self.events,
            shared=shared,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )
        self._lines = 0

    def connect(self, user: User) -> Line:
        self._lines += 1
        return Line(self, user, f"c{self._lines}")

    def pass_ms(self, ms: int) -> None:
        """Let time pass, and what is due then happen."""
        self.now += ms * MS
        self.caches.expire()

    def close(self) -> None:
        self.caches.close()
