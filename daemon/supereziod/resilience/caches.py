"""The cache that the programs of this host share: namespaces by name, over the pure `Cache`.

The holder of a lead, and of a wait, is the connection that asked. Whatever a connection leads
passes to the first that waits when it ends; whoever waits and is gone when its turn comes gives
the lead on at once. Values go to those who may use their namespace and nowhere else: not into the
log, an error or an event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Protocol

from superezio.errors import BusyError, InvalidParamsError
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import (
    Answer,
    Hit,
    Join,
    Lead,
    Outcome,
    Stale,
    Token,
)
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
)
from supereziod.observability.targets import decides_over
from supereziod.resilience import cache_answering
from supereziod.resilience.alarm import Alarm
from supereziod.resilience.cache_namespaces import CacheCaller, Namespaces, SharedNamespace
from supereziod.resilience.cache_rules import CacheRules, message_of, value_of
from supereziod.resilience.cache_waits import CacheWaits
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.known_namespaces import full_name, owner_of
from supereziod.resilience.lead_tokens import LeadTokens
from supereziod.resilience.metrics import SeenCache
from supereziod.resilience.sharing import Owned


class Events(Protocol):
    """Where it is told what changed."""

    def emit(
        self,
        type_: str,
        message: str,
        *,
        uid: int | None = None,
        **data: Any,  # noqa: ANN401 - as the event log has it
    ) -> object:
        """Tell of an event; `uid` is whom it belongs to."""


class Caches:
    """Loop-owned: whatever a method decides is decided and recorded when it returns."""

    def __init__(
        self,
        *,
        rules: CacheRules,
        events: Events,
        shared: Mapping[str, SharedNamespace] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the bounds, and the namespaces that are shared.

        Raises ConflictError where these are guaranteed more than there is.
        """
        self._rules = rules
        self._events = events
        self._event_rate = EventRate(clock=clock)
        self._clock = clock
        #: Of the connections that have led or waited.
        self._uids: dict[Hashable, int] = {}
        self._cache = Cache(rules.limits, jitter=jitter, owner_of=owner_of, user_of=self._user_of)
        self._namespaces = Namespaces(self._cache, rules.limits, per_uid=rules.namespaces_per_uid)
        self._tokens = LeadTokens()
        self._waits = CacheWaits(self._cache, clock=clock, tell_lead=self._told)
        self._alarm = Alarm(clock=clock, ring=self.expire)
        self.set_shared(shared or {})

    def set_shared(self, shared: Mapping[str, SharedNamespace]) -> None:
        """Share other namespaces from now on, or with others; what is shared no more is emptied.

        Who waits in one that is another's now waits no more. Raises ConflictError, and changes
        nothing, where they are guaranteed more than there is.
        """
        self._namespaces.set_shared(shared)
        self._alarm.set(self._cache.next_deadline_ns())
        self._waits.check_again(self._namespaces.owned)

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._alarm.close()

    # --- who asks ---------------------------------------------------------------------------------

    def get(self, caller: CacheCaller, params: CacheGetParams) -> CacheAnswer | None:
        """Return what there is; None, having changed nothing, where the caller has to wait.

        Raises PermissionDeniedError for a namespace that is shared by others, InvalidParamsError,
        and BusyError where the caller's user has too many namespaces.
        """
        now_ns = self._clock()
        self._rules.check_key(params.key)
        owned, namespace = self._namespaces.enter(caller, params.namespace, now_ns)
        if not params.fill:
            seen = self._cache.peek(namespace, params.key, now_ns=now_ns)
            if seen is None:
                return CacheAnswer(status="miss", shared=owned.owner is None)
            return cache_answering.served(seen, None, shared=owned.owner is None)
        self._rules.wait_ns(params.wait_ms)
        lead_ns = self._rules.lead_ns(params.lead_ms)
        self._uids[caller.connection] = caller.peer.uid
        answer = self._cache.get_at_once(
            namespace, params.key, holder=caller.connection, now_ns=now_ns, lead_ns=lead_ns
        )
        return None if answer is None else self._told(answer, caller.connection, owned)

    def wait(self, caller: CacheCaller, params: CacheGetParams) -> asyncio.Future[CacheAnswer]:
        """Return what will have the answer to a request that `get` has none for.

        It ends with the value, with FillFailedError or FillTimeoutError, or with a token for who
        is to fetch it now. To cancel it is to wait no more. Raises BusyError where too many wait.
        """
        uid = caller.peer.uid
        if self._waits.count(uid) >= self._rules.waiters_per_uid:
            raise BusyError(
                f"{self._waits.count(uid)} requests of uid {uid} wait for what others fetch",
                retry_after_ms=100,
                data={"limit": "waiters_per_uid"},
            )
        now_ns = self._clock()
        owned, namespace = self._namespaces.enter(caller, params.namespace, now_ns)
        self._uids[caller.connection] = uid
        wait_ns = self._rules.wait_ns(params.wait_ms)
        answer = self._cache.get(
            namespace,
            params.key,
            holder=caller.connection,
            now_ns=now_ns,
            wait_ns=wait_ns,
            lead_ns=self._rules.lead_ns(params.lead_ms),
        )
        if isinstance(answer, Join):
            self._alarm.set(self._cache.next_deadline_ns())
            wait_ms = wait_ns // 1_000_000
            return self._waits.add(answer, peer=caller.peer, namespace=owned, wait_ms=wait_ms)
        future = asyncio.get_running_loop().create_future()
        future.set_result(self._told(answer, caller.connection, owned))
        return future

    def connection_closed(self, connection: str) -> None:
        """Let a connection go: what it leads passes to others. Its requests are cancelled by it."""
        if connection in self._uids:
            self._deliver(self._cache.drop(connection, self._clock()))
            del self._uids[connection]

    def expire(self) -> None:
        """Answer who has waited enough, and let others lead in the place of those who are late."""
        self._deliver(self._cache.expire(self._clock()))

    # --- who sets, fails and deletes --------------------------------------------------------------

    def set(self, caller: CacheCaller, params: CacheSetParams) -> CacheStored:
        """Set a value, or deliver it as the caller that leads. Raises as `get` does."""
        now_ns = self._clock()
        value, lifetime = value_of(params), self._rules.lifetime(params)
        self._rules.check_key(params.key)
        self._rules.check_tags(params.tags)
        if params.token is None:
            _, namespace = self._namespaces.enter(caller, params.namespace, now_ns)
            settled = self._cache.put(
                namespace, params.key, value, lifetime, now_ns=now_ns, tags=params.tags
            )
        else:
            token = self._token(caller, params.token, params.namespace, params.key)
            if token is None:
                return CacheStored(accepted=False, stored=False)
            settled = self._cache.fill(
                token, value, lifetime, holder=caller.connection, now_ns=now_ns, tags=params.tags
            )
        self._deliver(settled.outcomes)
        return cache_answering.stored(
            settled, self._rules.cut_ttl_ms(params.ttl_ms), self._rules.limits.max_value_bytes
        )

    def fail(self, caller: CacheCaller, params: CacheFailParams) -> CacheFailed:
        """Give a lead up: with an error for all who wait, or to the next of them.

        Raises as `get` does.
        """
        now_ns = self._clock()
        self._rules.check_key(params.key)
        token = self._token(caller, params.token, params.namespace, params.key)
        if token is None:
            return CacheFailed(accepted=False)
        to_next = params.pass_on and not self._cache.has_stand_in(token, now_ns=now_ns)
        if params.error is None or to_next:
            settled = self._cache.abandon(token, holder=caller.connection, now_ns=now_ns)
        else:
            error = message_of(params.error)
            settled = self._cache.fail(token, error, holder=caller.connection, now_ns=now_ns)
        self._deliver(settled.outcomes)
        return cache_answering.failed(settled.stale, accepted=settled.accepted)

    def delete(self, caller: CacheCaller, params: CacheDeleteParams) -> CacheDeleted:
        """Delete a key, or all with a tag; fills under way are outdated. Raises as `get` does."""
        if (params.key is None) == (params.tag is None):
            raise InvalidParamsError("what is deleted is a key or a tag: give one of them")
        namespace = self._namespaces.find(caller, params.namespace)
        if params.key is not None:
            self._rules.check_key(params.key)
            return CacheDeleted(entries=int(self._cache.delete(namespace, params.key)))
        tag = params.tag or ""
        self._rules.check_tag(tag)
        entries = self._cache.delete_tag(namespace, tag)
        self._alarm.set(self._cache.next_deadline_ns())
        return CacheDeleted(entries=entries)

    def clear(self, caller: CacheCaller, params: CacheNamespaceParams) -> CacheDeleted:
        """Delete all of a namespace: of one's own, or as an admin of a shared or another user's.

        Raises PermissionDeniedError.
        """
        owned = self._namespaces.to_clear(caller, params)
        decides_over(f"namespace {owned.name}", owner=owned.owner)
        entries = self._cache.clear(full_name(owned))
        self._alarm.set(self._cache.next_deadline_ns())
        besides = {} if owned.owner is None else self._event_rate.take(owned.owner)
        if besides is None:
            return CacheDeleted(entries=entries)
        whose = "the shared namespace" if owned.owner is None else "the namespace"
        self._events.emit(
            "cache.cleared",
            f"{whose} {owned.name} of the cache was cleared: {entries} entries went",
            uid=owned.owner,
            namespace=owned.name,
            entries=entries,
            by_uid=caller.peer.uid,
            **besides,
        )
        return CacheDeleted(entries=entries)

    def stats(self, caller: CacheCaller) -> CacheStats:
        """Return the namespaces that the caller may see, and what all hold together."""
        limits, usage = self._rules.limits, self._cache.usage()
        return CacheStats(
            used_bytes=usage.used_bytes,
            max_bytes=limits.max_bytes,
            entries=usage.entries,
            max_entries=limits.max_entries,
            namespaces=self._namespaces.visible(caller),
        )

    def seen(self) -> SeenCache:
        """Return what it holds, and what happened in it, as far as that is anybody's business."""
        return SeenCache(self._cache.usage(), self._cache.totals(), self._namespaces.shared())

    # --- within -----------------------------------------------------------------------------------

    def _user_of(self, holder: Hashable) -> int:
        return self._uids[holder]

    def _token(self, caller: CacheCaller, text: str, name: str, key: str) -> Token | None:
        namespace = self._namespaces.find(caller, name)
        return self._tokens.read(text, namespace, key, caller.connection)

    def _told(self, answer: Answer, connection: str, owned: Owned) -> CacheAnswer:
        shared = owned.owner is None
        if isinstance(answer, Hit):
            return cache_answering.served(answer, None, shared=shared)
        token = None
        if isinstance(answer, Lead | Stale) and answer.token is not None:
            self._alarm.set(answer.token.deadline_ns)
            token = self._tokens.text(answer.token, connection)
        if isinstance(answer, Stale):
            return cache_answering.served(answer, token, shared=shared)
        return CacheAnswer(status="lead" if token else "miss", token=token, shared=shared)

    def _deliver(self, outcomes: Iterable[Outcome]) -> None:
        self._waits.deliver(outcomes)
        self._alarm.set(self._cache.next_deadline_ns())
