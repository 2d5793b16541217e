"""A slow cache, written from the rules: what the real one has to answer, by looking at it all.

Entries are one list in the order of their use, fills a list of who waits, and invalidations a
diary. Whatever the real one finds with heaps, numbers and counters is searched for here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from superezio.resilience.cache_answers import Token, Value
from superezio.resilience.cache_limits import Lifetime, Limits, Quota
from superezio.resilience.namespaces import ENTRY_OVERHEAD_BYTES, TAG_OVERHEAD_BYTES

#: What an answer is told as: its kind, then what belongs to it.
Told = tuple[object, ...]


@dataclass(eq=False)
class Kept:
    namespace: str
    key: str
    value: Value
    tags: tuple[str, ...]
    stored: int
    fresh_until: int
    grace_until: int
    dead_at: int
    guaranteed: bool = False

    @property
    def size(self) -> int:
        texts = len(self.key) + sum(len(tag) + TAG_OVERHEAD_BYTES for tag in self.tags)
        return ENTRY_OVERHEAD_BYTES + texts + len(self.value.data)


@dataclass(eq=False)
class Waiting:
    number: int
    holder: str
    deadline: int
    lead_ns: int
    page: int


@dataclass(eq=False)
class Filling:
    holder: str
    deadline: int
    page: int
    token: Token | None = None
    waiters: list[Waiting] = field(default_factory=list)


class Reference:
    def __init__(
        self,
        limits: Limits,
        quotas: dict[str, Quota],
        owners: dict[str, str] | None = None,
        users: dict[str, str] | None = None,
    ) -> None:
        self.limits = limits
        self.quotas = quotas
        self.owners = owners or {}
        self.users = users or {}
        self.promised: list[str] = []
        self.kept: list[Kept] = []
        self.fills: dict[tuple[str, str], Filling] = {}
        self.diary: list[tuple[str, str, str]] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    # --- asking and waiting -----------------------------------------------------------------------

    def get(self, ns: str, key: str, holder: str, lead: int, wait: int, now: int) -> Told:
        kept = self._find(ns, key)
        if kept and now < kept.grace_until:
            self._use(kept)
            if now < kept.fresh_until:
                self.counts[ns, "hits"] += 1
                return ("hit", kept.value, now - kept.stored)
            self.counts[ns, "stale_served"] += 1
            led = self._lead(ns, key, holder, lead, now)
            return ("stale", kept.value, now - kept.stored, now + lead if led else None)
        if kept and now >= kept.dead_at:
            self._remove(kept, "expired")
        self.counts[ns, "misses"] += 1
        if self._lead(ns, key, holder, lead, now):
            return ("lead", now + lead)
        if (ns, key) not in self.fills:
            self.counts[ns, "refused"] += 1
            return ("refused",)
        self.counts[ns, "coalesced"] += 1
        return ("join", now + wait)

    def get_at_once(self, ns: str, key: str, holder: str, lead: int, now: int) -> Told | None:
        answer = self.get(ns, key, holder, lead, 0, now)
        if answer[0] != "join":
            return answer
        for counted in ("misses", "coalesced"):
            self.counts[ns, counted] -= 1
        return None

    def peek(self, ns: str, key: str, now: int) -> Told:
        kept = self._find(ns, key)
        if kept and now < kept.grace_until:
            self._use(kept)
            fresh = now < kept.fresh_until
            self.counts[ns, "hits" if fresh else "stale_served"] += 1
            age = now - kept.stored
            return ("hit", kept.value, age) if fresh else ("stale", kept.value, age, None)
        if kept and now >= kept.dead_at:
            self._remove(kept, "expired")
        self.counts[ns, "misses"] += 1
        return ("miss",)

    def joined(self, ns: str, key: str, waiting: Waiting) -> None:
        waiting.page = len(self.diary)
        self.fills[ns, key].waiters.append(waiting)

    def waiters(self) -> list[Waiting]:
        return [each for fill in self.fills.values() for each in fill.waiters]

    def leave(self, number: int) -> None:
        for fill in self.fills.values():
            fill.waiters = [each for each in fill.waiters if each.number != number]

    def drop(self, holder: str, now: int) -> dict[int, Told]:
        for fill in self.fills.values():
            fill.waiters = [each for each in fill.waiters if each.holder != holder]
        outcomes: dict[int, Told] = {}
        for at in [at for at, fill in self.fills.items() if fill.holder == holder]:
            outcomes |= self._pass_on(at, now)
        return outcomes

    def expire(self, now: int) -> dict[int, Told]:
        self._drop_expired(now)
        outcomes: dict[int, Told] = {}
        for (ns, _), fill in self.fills.items():
            for waiter in [each for each in fill.waiters if each.deadline <= now]:
                outcomes[waiter.number] = self._time_out(ns, fill, waiter)
        for at in [at for at, fill in self.fills.items() if fill.deadline <= now]:
            outcomes |= self._pass_on(at, now)
        return outcomes

    def next_deadline(self) -> int | None:
        deadlines = [fill.deadline for fill in self.fills.values()]
        return min(deadlines + [each.deadline for each in self.waiters()], default=None)

    # --- leading ----------------------------------------------------------------------------------

    def fill(
        self,
        token: Token,
        value: Value,
        life: Lifetime,
        part: float,
        tags: tuple[str, ...],
        holder: str,
        now: int,
    ) -> Told:
        at = (token.namespace, token.key)
        fill = self._led(token, holder)
        if fill is None or fill.deadline <= now:
            return (False, False, None, self._pass_on(at, now) if fill else {})
        outdated = next(
            (
                page
                for page, (ns, kind, what) in enumerate(self.diary)
                if page >= fill.page
                and ns == at[0]
                and (kind == "all" or what in (at[1] if kind == "key" else tags))
            ),
            None,
        )
        stored = False
        if outdated is None:
            stored = self._store(*at, value, life, part, tags, now)
        else:
            self.counts[at[0], "outdated"] += 1
        outcomes = self._answer(at, ("filled", value), now, before=outdated)
        return (True, stored, None, outcomes | self._pass_on(at, now))

    def fail(self, token: Token, error: str, holder: str, now: int) -> Told:
        at = (token.namespace, token.key)
        fill = self._led(token, holder)
        if fill is None or fill.deadline <= now:
            return (False, False, None, self._pass_on(at, now) if fill else {})
        self.counts[at[0], "failed"] += 1
        kept = self._find(*at)
        answer: Told = ("failed", error)
        stale = None
        if kept and now < kept.dead_at:
            stale = ("stale", kept.value, now - kept.stored, None)
            answer = stale
        outcomes = self._answer(at, answer, now)
        if stale:
            self.counts[at[0], "stale_on_error"] += 1 + list(outcomes.values()).count(stale)
        return (True, False, stale, outcomes | self._pass_on(at, now))

    def abandon(self, token: Token, holder: str, now: int) -> Told:
        if self._led(token, holder) is None:
            return (False, False, None, {})
        return (True, False, None, self._pass_on((token.namespace, token.key), now))

    # --- setting and deleting ---------------------------------------------------------------------

    def put(
        self,
        ns: str,
        key: str,
        value: Value,
        life: Lifetime,
        part: float,
        tags: tuple[str, ...],
        now: int,
    ) -> Told:
        stored = self._store(ns, key, value, life, part, tags, now)
        self.diary.append((ns, "key", key))
        outcomes = {}
        if (ns, key) in self.fills:
            outcomes = self._answer((ns, key), ("filled", value), now)
        return (True, stored, None, outcomes)

    def delete(self, ns: str, kind: str, what: str) -> int:
        self.diary.append((ns, kind, what))
        gone = [
            each
            for each in self.kept
            if each.namespace == ns
            and (kind == "all" or (what == each.key if kind == "key" else what in each.tags))
        ]
        for each in gone:
            self._remove(each, "deleted")
        return len(gone)

    # --- within -----------------------------------------------------------------------------------

    def of(self, ns: str) -> list[Kept]:
        return [each for each in self.kept if each.namespace == ns]

    def together(self, ns: str) -> list[Kept]:
        """Return what a namespace holds, with the others of its owner."""
        owner = self.owners.get(ns)
        if owner is None:
            return self.of(ns)
        return [each for each in self.kept if self.owners.get(each.namespace) == owner]

    def is_guaranteed(self, ns: str) -> bool:
        """Whether all that a namespace, or its owner, holds is no more than its guaranteed part."""
        return _within(self.together(ns), *self._part(ns))

    def _part(self, ns: str) -> tuple[int, int]:
        """Return the bytes and entries that nobody else's growth evicts."""
        owner = self.owners.get(ns)
        quota = self.quotas[ns] if owner is None else self.limits.owner
        if quota is None or (owner is not None and owner not in self.promised):
            return 0, 0
        return quota.guaranteed_bytes, quota.guaranteed_entries

    def _find(self, ns: str, key: str) -> Kept | None:
        return next((each for each in self.of(ns) if each.key == key), None)

    def _use(self, kept: Kept) -> None:
        self.kept.remove(kept)
        self.kept.append(kept)

    def _remove(self, kept: Kept, cause: str) -> None:
        self.kept.remove(kept)
        owner = self.owners.get(kept.namespace)
        if owner in self.promised and not self.together(kept.namespace):
            self.promised.remove(owner)
        self.counts[kept.namespace, cause] += 1

    def _drop_expired(self, now: int) -> None:
        for each in [each for each in self.kept if each.dead_at <= now]:
            self._remove(each, "expired")

    def _lead(self, ns: str, key: str, holder: str, lead: int, now: int) -> bool:
        fill = self.fills.get((ns, key))
        if fill is None:
            led = sum(each.holder == holder for each in self.fills.values())
            if len(self.fills) >= self.limits.max_fills:
                return False
            if led >= self.limits.max_leads_per_holder:
                return False
            user = self.users.get(holder)
            led = sum(self.users.get(each.holder) == user for each in self.fills.values())
            if user is not None and led >= self.limits.max_leads_per_user:
                return False
        elif fill.waiters or fill.deadline > now:
            return False
        self.fills[ns, key] = Filling(holder, now + lead, len(self.diary))
        return True

    def _led(self, token: Token, holder: str) -> Filling | None:
        fill = self.fills.get((token.namespace, token.key))
        return fill if fill and fill.token == token and fill.holder == holder else None

    def _time_out(self, ns: str, fill: Filling, waiter: Waiting) -> Told:
        fill.waiters.remove(waiter)
        self.counts[ns, "timed_out"] += 1
        return ("timed out",)

    def _answer(
        self, at: tuple[str, str], answer: Told, now: int, before: int | None = None
    ) -> dict[int, Told]:
        """Answer who waits, or of these who asked before that page of the diary was written."""
        fill = self.fills[at]
        outcomes: dict[int, Told] = {}
        for waiter in list(fill.waiters):
            if before is not None and waiter.page > before:
                continue
            if waiter.deadline <= now:
                outcomes[waiter.number] = self._time_out(at[0], fill, waiter)
            else:
                fill.waiters.remove(waiter)
                outcomes[waiter.number] = answer
        return outcomes

    def _pass_on(self, at: tuple[str, str], now: int) -> dict[int, Told]:
        fill = self.fills.pop(at)
        outcomes: dict[int, Told] = {}
        while fill.waiters:
            first = fill.waiters[0]
            if first.deadline <= now:
                outcomes[first.number] = self._time_out(at[0], fill, first)
                continue
            deadline = now + first.lead_ns
            self.fills[at] = Filling(
                first.holder, deadline, len(self.diary), waiters=fill.waiters[1:]
            )
            self.counts[at[0], "passed_on"] += 1
            outcomes[first.number] = ("lead", deadline)
            break
        return outcomes

    def _store(
        self,
        ns: str,
        key: str,
        value: Value,
        life: Lifetime,
        part: float,
        tags: tuple[str, ...],
        now: int,
    ) -> bool:
        old = self._find(ns, key)
        if old:
            self._remove(old, "replaced" if now < old.dead_at else "expired")
        fresh = now + round(life.ttl_ns * (0.9 + 0.2 * part))
        dead = fresh + max(life.grace_ns, life.stale_if_error_ns)
        new = Kept(ns, key, value, tags, now, fresh, fresh + life.grace_ns, dead)
        stored = self._keep(new, now)
        self.counts[ns, "stored" if stored else "too_large"] += 1
        return stored

    def _keep(self, new: Kept, now: int) -> bool:
        quota = self.quotas[new.namespace]
        if len(new.value.data) > self.limits.max_value_bytes:
            return False
        self._drop_expired(now)
        owner, owner_quota = self.owners.get(new.namespace), self.limits.owner
        already = list(self.promised)
        if owner and owner not in already and len(already) < self.limits.max_promised:
            self.promised.append(owner)
        part = self._part(new.namespace)
        new.guaranteed = _within([new], *part)
        fits = _within([new], quota.max_bytes, quota.max_entries)
        if owner and owner_quota:
            fits = fits and _within([new], owner_quota.max_bytes, owner_quota.max_entries)
        if not fits or not (new.guaranteed or self._shareable([new])):
            self.promised = already
            return False
        promised = owner in self.promised
        self._make_room(new, self.of, quota)
        if owner and owner_quota:
            self._make_room(new, self.together, owner_quota)
        if owner and promised and owner not in self.promised:
            self.promised.append(owner)
        self.kept.append(new)
        self._settle(new.namespace, part)
        return True

    def _make_room(self, new: Kept, held: Callable[[str], list[Kept]], quota: Quota) -> None:
        while not _within([*held(new.namespace), new], quota.max_bytes, quota.max_entries):
            oldest = min(held(new.namespace), key=lambda each: each.guaranteed)
            self._remove(oldest, "quota")

    def _settle(self, namespace: str, part: tuple[int, int]) -> None:
        """Bring all parts within their bounds after something came to a namespace."""
        while not _within(
            mine := [each for each in self.together(namespace) if each.guaranteed], *part
        ):
            if self._shareable([mine[0]]):
                mine[0].guaranteed = False
                self._use(mine[0])
            else:
                self._remove(mine[0], "total")
        while not self._shareable(shared := [each for each in self.kept if not each.guaranteed]):
            oldest = shared[0]
            mine = [each for each in self.together(oldest.namespace) if each.guaranteed]
            if _within([*mine, oldest], *self._part(oldest.namespace)):
                oldest.guaranteed = True
                self.kept.remove(oldest)
                self.kept.insert(0, oldest)
            else:
                self._remove(oldest, "total")

    def _shareable(self, entries: list[Kept]) -> bool:
        guaranteed = [each for name, each in self.quotas.items() if name not in self.owners]
        if self.limits.owner:
            guaranteed += [self.limits.owner] * len(self.promised)
        return _within(
            entries,
            self.limits.max_bytes - sum(each.guaranteed_bytes for each in guaranteed),
            self.limits.max_entries - sum(each.guaranteed_entries for each in guaranteed),
        )


def _within(entries: list[Kept], max_bytes: int, max_entries: int) -> bool:
    return sum(each.size for each in entries) <= max_bytes and len(entries) <= max_entries
