"""The cache: values by key in namespaces, where one caller fetches what many ask for.

It does no I/O and waits for nobody. Each method takes the time, in nanoseconds of a monotonic
clock, and says who is to be told what: `get` answers its caller, and the outcomes that other
methods return are the answers of callers that were told to wait. Who uses it wakes them, and
calls `expire` when `next_deadline_ns` has come.

    answer = cache.get("embeddings", key, holder=me, now_ns=now)
    # Hit, Stale: there is a value. Lead: fetch it, then `fill` or `fail`. Join: wait.

An invalidation wins over every fill that was under way: what that fill brings is not stored, and
goes only to those that asked before the invalidation. Who asked after it waits for that fill to
end, as no key is ever fetched twice at once, and then the first of them fetches the key anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from superezio.resilience.cache_answers import (
    Answer,
    Failed,
    Filled,
    Hit,
    Holder,
    Join,
    Lead,
    Outcome,
    Refused,
    Settled,
    Stale,
    Token,
    Value,
)
from superezio.resilience.cache_counters import Counters, Usage
from superezio.resilience.cache_limits import Lifetime, Limits, Quota
from superezio.resilience.entries import Entries
from superezio.resilience.fills import Fill, Fills
from superezio.resilience.namespaces import Entry, Namespace
from superezio.resilience.owners import Owner

SECOND_NS: Final = 1_000_000_000
#: The part of a time to live by which it is made shorter or longer at random.
JITTER: Final = 10
#: How many namespaces may be known beyond twice those that hold something or have a quota.
_SPARE_NAMESPACES: Final = 256


class Cache:
    """LRU with a time to live, bounded by bytes and by entries, with one fill of a key at a time.

    Every operation is amortised O(log n). A holder is anything hashable that stands for who
    asks; a token counts only in the hands of the holder that got it.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        jitter: Callable[[], float] = random.random,
        owner_of: Callable[[str], Hashable] = lambda _namespace: None,
        user_of: Callable[[Holder], Hashable] = lambda holder: holder,
    ) -> None:
        """Take the bounds, and what gives random numbers from 0 to 1, 1 excluded.

        `owner_of` says whose a namespace is, by its name: those of one owner have `limits.owner`
        together. What it gives None for stands alone. `user_of` says whose a holder is.
        """
        self._limits = limits
        self._jitter = jitter
        self._owner_of = owner_of
        self._entries = Entries(limits)
        self._fills = Fills(limits, user_of)
        self._owners: dict[Hashable, Owner] = {}
        self._forgotten = Counters()
        self._spaces: dict[str, Namespace] = {}
        self._declared: set[str] = set()
        self._sweep_at = _SPARE_NAMESPACES

    # --- who asks ---------------------------------------------------------------------------------

    def get(
        self,
        namespace: str,
        key: str,
        *,
        holder: Holder,
        now_ns: int,
        wait_ns: int = 30 * SECOND_NS,
        lead_ns: int = 30 * SECOND_NS,
    ) -> Answer:
        """Return the value, or who is to fetch it.

        The caller is ready to wait for `wait_ns`, and delivers within `lead_ns` if it is to lead,
        now or when its turn comes.

        Raises ValueError where it would have no time at all to lead.
        """
        answer = self.get_at_once(namespace, key, holder=holder, now_ns=now_ns, lead_ns=lead_ns)
        if answer is not None:
            return answer
        space = self._spaces[namespace]
        space.counters.misses += 1
        space.counters.coalesced += 1
        deadline_ns = now_ns + wait_ns
        fill = space.pending.fills[key]
        waiter = self._fills.join(fill, holder, lead_ns=lead_ns, deadline_ns=deadline_ns)
        return Join(waiter, deadline_ns)

    def get_at_once(
        self,
        namespace: str,
        key: str,
        *,
        holder: Holder,
        now_ns: int,
        lead_ns: int = 30 * SECOND_NS,
    ) -> Hit | Stale | Lead | Refused | None:
        """Do what `get` does, but where the caller would have to wait count nothing; return None.

        Raises ValueError as `get` does.
        """
        space = self._spaces.get(namespace) or self._open(namespace)
        served = self._serve(space, key, now_ns)
        if isinstance(served, Hit):
            return served
        token = self._lead(space, key, holder, lead_ns, now_ns)
        if served is not None:
            return served if token is None else Stale(served.value, served.age_ns, token)
        if token is None and key in space.pending.fills:
            return None
        space.counters.misses += 1
        if token is not None:
            return Lead(token)
        space.counters.refused += 1
        return Refused()

    def peek(self, namespace: str, key: str, *, now_ns: int) -> Hit | Stale | None:
        """Return the value, if there is one that may be served: a look by who will not fetch it.

        It counts, and counts as use of the value, as `get` does; nobody leads or waits for it.
        """
        space = self._spaces.get(namespace) or self._open(namespace)
        served = self._serve(space, key, now_ns)
        if served is None:
            space.counters.misses += 1
        return served

    def leave(self, waiter: int) -> None:
        """Let a waiter go that does not wait any more; it gets no outcome."""
        self._fills.leave(waiter)

    def drop(self, holder: Holder, now_ns: int) -> list[Outcome]:
        """Let a holder go: what it leads passes to the first that waits, its own waits end."""
        return self._fills.drop(holder, now_ns)

    # --- who leads --------------------------------------------------------------------------------

    def fill(
        self,
        token: Token,
        value: Value,
        lifetime: Lifetime,
        *,
        holder: Holder,
        now_ns: int,
        tags: Iterable[str] = (),
    ) -> Settled:
        """Give the value to those that wait, and store it unless it is too large or outdated.

        Tags are names by which it can be deleted together with others.
        """
        fill = self._led(token, holder)
        if fill is None:
            return Settled(accepted=False)
        if token.deadline_ns <= now_ns:
            return Settled(accepted=False, outcomes=self._fills.pass_on(fill, now_ns))
        space = self._spaces[token.namespace]
        labels = tuple(dict.fromkeys(tags))
        outdated = fill.pending.invalidations.first_after(token.generation, token.key, labels)
        stored = False
        if outdated is None:
            stored = self._store(space, token.key, value, lifetime, labels, now_ns)
        else:
            space.counters.outdated += 1
        outcomes = self._fills.answer(fill, Filled(value), now_ns, before=outdated)
        outcomes += self._fills.pass_on(fill, now_ns)
        was_outdated = outdated is not None
        return Settled(accepted=True, stored=stored, outcomes=outcomes, outdated=was_outdated)

    def fail(self, token: Token, error: object, *, holder: Holder, now_ns: int) -> Settled:
        """Give the error to all that wait, or the old value where it stands in for an error.

        Nothing is stored, and nobody fetches the key again until somebody asks for it.
        """
        fill = self._led(token, holder)
        if fill is None:
            return Settled(accepted=False)
        if token.deadline_ns <= now_ns:
            return Settled(accepted=False, outcomes=self._fills.pass_on(fill, now_ns))
        space = self._spaces[token.namespace]
        space.counters.failed += 1
        stale = self._stand_in(token, now_ns)
        outcomes = self._fills.answer(fill, stale or Failed(error), now_ns)
        if stale is not None:
            given = sum(isinstance(each.answer, Stale) for each in outcomes)
            space.counters.stale_on_error += given + 1
        outcomes += self._fills.pass_on(fill, now_ns)
        return Settled(accepted=True, stale=stale, outcomes=outcomes)

    def has_stand_in(self, token: Token, *, now_ns: int) -> bool:
        """Tell whether there is an old value that would stand in for an error."""
        return self._stand_in(token, now_ns) is not None

    def abandon(self, token: Token, *, holder: Holder, now_ns: int) -> Settled:
        """Give the lead back without a result: the first that waits leads."""
        fill = self._led(token, holder)
        if fill is None:
            return Settled(accepted=False)
        return Settled(accepted=True, outcomes=self._fills.pass_on(fill, now_ns))

    # --- who sets and deletes ---------------------------------------------------------------------

    def put(
        self,
        namespace: str,
        key: str,
        value: Value,
        lifetime: Lifetime,
        *,
        now_ns: int,
        tags: Iterable[str] = (),
    ) -> Settled:
        """Set a value without a lead: it wins over a fill under way, and goes to who waits."""
        space = self._spaces.get(namespace) or self._open(namespace)
        labels = tuple(dict.fromkeys(tags))
        stored = self._store(space, key, value, lifetime, labels, now_ns)
        outcomes: list[Outcome] = []
        fill = space.pending.fills.get(key)
        if fill is not None:
            fill.pending.invalidations.add_key(key, self._fills.advance())
            outcomes = self._fills.answer(fill, Filled(value), now_ns)
        return Settled(accepted=True, stored=stored, outcomes=outcomes)

    def delete(self, namespace: str, key: str) -> bool:
        """Delete a key and outdate its fill; return whether an entry went, be it an expired one."""
        space = self._spaces.get(namespace)
        if space is None:
            return False
        if key in space.pending.fills:
            space.pending.invalidations.add_key(key, self._fills.advance())
        entry = self._entries.find(space, key)
        if entry is None:
            return False
        self._entries.remove(entry, "deleted")
        return True

    def delete_tag(self, namespace: str, tag: str) -> int:
        """Delete all with a tag, and outdate fills that bring it; return how many had it.

        Nobody is served any of them from now on. Of many, most take their room until they go, a few
        at a time; those that are deleted again before that, by another tag, count again.
        """
        space = self._spaces.get(namespace)
        if space is None:
            return 0
        if space.pending.fills:
            space.pending.invalidations.add_tag(tag, self._fills.advance())
        return self._entries.delete_tag(space, tag)

    def clear(self, namespace: str) -> int:
        """Delete all of a namespace and outdate its fills; return how many entries went."""
        space = self._spaces.get(namespace)
        if space is None:
            return 0
        if space.pending.fills:
            space.pending.invalidations.add_all(self._fills.advance())
        count = space.count
        self._spaces[namespace] = self._entries.clear(space)
        return count

    # --- time, quotas and counters ----------------------------------------------------------------

    def expire(self, now_ns: int) -> list[Outcome]:
        """Answer who has waited enough, replace late leaders, let some of what is over go."""
        self._entries.drop_expired(now_ns)
        return self._fills.expire(now_ns)

    def next_deadline_ns(self) -> int | None:
        """Return when `expire` is to be called, or None; 0, at once, where deleted ones have to go.

        Entries that expire need no timer: they are not served, and go when a value is stored.
        """
        if self._entries.clearing:
            return 0
        return self._fills.next_deadline_ns()

    def declare(self, namespace: str, quota: Quota | None) -> None:
        """Give a namespace a quota of its own, or with None that of the undeclared again.

        Raises ValueError where the guaranteed parts together would be more than the total, and for
        a part of a namespace that has an owner, who has one over all of them.
        """
        space = self._spaces.get(namespace) or self._open(namespace)
        if space.owner is not None and quota is not None and quota.guaranteed_bytes:
            raise ValueError(f"{namespace} has its guaranteed part with its owner's others")
        self._entries.set_quota(space, quota or self._limits.quota)
        if quota is None:
            self._declared.discard(namespace)
        else:
            self._declared.add(namespace)

    def namespaces(self) -> list[str]:
        """Return the names that are known. One that has no quota and holds nothing is forgotten."""
        return list(self._spaces)

    def counters(self, namespace: str) -> Counters:
        """Return what a namespace has counted since it is known."""
        space = self._spaces.get(namespace)
        return Counters() if space is None else space.counters

    def totals(self) -> Counters:
        """Return what all namespaces have counted together, those that were forgotten, too."""
        totals = Counters()
        totals.add(self._forgotten)
        for space in self._spaces.values():
            totals.add(space.counters)
        return totals

    def usage(self, namespace: str | None = None) -> Usage:
        """Return what a namespace holds, or all together."""
        if namespace is None:
            entries, fills = self._entries, self._fills
            return Usage(entries.used_bytes, len(entries), len(fills), fills.waiting)
        space = self._spaces.get(namespace)
        if space is None:
            return Usage(0, 0, 0, 0)
        pending = space.pending
        return Usage(space.used_bytes, space.count, len(pending.fills), pending.waiting)

    # --- within -----------------------------------------------------------------------------------

    def _serve(self, space: Namespace, key: str, now_ns: int) -> Hit | Stale | None:
        entry = space.find(key)
        if entry is None:
            return None
        if space.cleared and entry.is_outdated:
            self._entries.remove(entry, "deleted")
            return None
        if now_ns < entry.fresh_until_ns:
            self._entries.touch(entry)
            space.counters.hits += 1
            return Hit(entry.value, now_ns - entry.stored_ns)
        if now_ns < entry.grace_until_ns:
            self._entries.touch(entry)
            space.counters.stale_served += 1
            return Stale(entry.value, now_ns - entry.stored_ns)
        if now_ns >= entry.dead_at_ns:
            self._entries.remove(entry, "expired")
        return None

    def _lead(
        self, space: Namespace, key: str, holder: Holder, lead_ns: int, now_ns: int
    ) -> Token | None:
        """Return a token if nobody leads, or only one that is too late and nobody waits for.

        Where somebody waits for one that is late, they are first: `expire` lets them lead.
        """
        if lead_ns < 1:
            raise ValueError("lead_ns has to be positive: who waits may come to lead")
        fill = space.pending.fills.get(key)
        if fill is None:
            if not self._fills.may_lead(holder):
                return None
            return self._fills.begin(space.pending, key, holder, lead_ns=lead_ns, now_ns=now_ns)
        if fill.token.deadline_ns > now_ns or fill.waiters:
            return None
        return self._fills.take_over(fill, holder, lead_ns=lead_ns, now_ns=now_ns)

    def _led(self, token: Token, holder: Holder) -> Fill | None:
        """Return the fill of a token, if that token leads it and is its holder's."""
        space = self._spaces.get(token.namespace)
        fill = None if space is None else space.pending.fills.get(token.key)
        if fill is None or fill.token != token or fill.holder != holder:
            return None
        return fill

    def _store(
        self,
        space: Namespace,
        key: str,
        value: Value,
        lifetime: Lifetime,
        tags: tuple[str, ...],
        now_ns: int,
    ) -> bool:
        """Put a value in the place of the key's old one, which goes even if this is too large."""
        old = self._entries.find(space, key)
        if old is not None:
            self._entries.remove(old, "replaced" if now_ns < old.dead_at_ns else "expired")
        entry = Entry(
            space,
            key,
            value,
            tags=tags,
            stored_ns=now_ns,
            fresh_until_ns=now_ns + self._jittered(lifetime.ttl_ns),
            grace_ns=lifetime.grace_ns,
            stale_if_error_ns=lifetime.stale_if_error_ns,
        )
        fits = len(value.data) <= self._limits.max_value_bytes
        stored = fits and self._entries.store(entry, now_ns)
        if stored:
            space.counters.stored += 1
        else:
            space.counters.too_large += 1
        return stored

    def _stand_in(self, token: Token, now_ns: int) -> Stale | None:
        space = self._spaces.get(token.namespace)
        entry = None if space is None else self._entries.find(space, token.key)
        if entry is None or now_ns >= entry.dead_at_ns:
            return None
        return Stale(entry.value, now_ns - entry.stored_ns)

    def _jittered(self, ttl_ns: int) -> int:
        most = ttl_ns // JITTER
        return ttl_ns - most + int(self._jitter() * (2 * most + 1))

    def _open(self, name: str) -> Namespace:
        """Return a new namespace; now and then, forget those that are empty and undeclared."""
        if len(self._spaces) >= self._sweep_at:
            before = self._spaces
            self._spaces = {
                each: space
                for each, space in self._spaces.items()
                if space.count or space.pending.fills or each in self._declared
            }
            for each in before.keys() - self._spaces.keys():
                self._forgotten.add(before[each].counters)
            kept = {self._owner_of(each) for each in self._spaces}
            self._owners = {
                each: owner for each, owner in self._owners.items() if each in kept or owner.count
            }
            self._sweep_at = 2 * len(self._spaces) + _SPARE_NAMESPACES
        space = Namespace(name, self._limits.quota, self._owner(name))
        self._spaces[name] = space
        return space

    def _owner(self, namespace: str) -> Owner | None:
        """Return who has a namespace together with others."""
        key = self._owner_of(namespace)
        if key is None or self._limits.owner is None:
            return None
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = Owner(self._limits.owner)
        return owner
