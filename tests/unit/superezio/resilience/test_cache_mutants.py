"""The tests of the cache see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

#: The model alone has to see them: the examples were written with the code in sight.
TESTS = [Path(__file__).parent / "test_cache_model.py"]

CACHE = "superezio.resilience.cache"
FILLS = "superezio.resilience.fills"
ENTRIES = "superezio.resilience.entries"
INVALIDATIONS = "superezio.resilience.invalidations"
DEADLINES = "superezio.resilience.deadlines"
NAMESPACES = "superezio.resilience.namespaces"
OWNERS = "superezio.resilience.owners"

MUTANTS = (
    # --- fills ------------------------------------------------------------------------------------
    Mutant(
        "stores what was invalidated while it was fetched",
        CACHE,
        "        if outdated is None:\n",
        "        if outdated is None or not fill.waiters:\n",
    ),
    Mutant(
        "gives an outdated value to who asked after the invalidation",
        CACHE,
        "Filled(value), now_ns, before=outdated)",
        "Filled(value), now_ns)",
    ),
    Mutant(
        "gives an outdated value to nobody",
        FILLS,
        "(before is None or waiter.generation < before)",
        "before is None",
    ),
    Mutant(
        "takes the last invalidation for the first",
        INVALIDATIONS,
        "return min(later, default=None)",
        "return max(later, default=None)",
    ),
    Mutant(
        "forgets what was invalidated by tag while it was fetched",
        INVALIDATIONS,
        "*(self._tags.get(tag, ()) for tag in tags)]",
        "*(() for _ in tags)]",
    ),
    Mutant(
        "lets an invalidation by tag outdate what has not got it",
        CACHE,
        "first_after(token.generation, token.key, labels)",
        "first_after(token.generation, token.key, fill.pending.invalidations._tags)",
    ),
    Mutant(
        "lets a clearing miss what is being fetched",
        CACHE,
        "            space.pending.invalidations.add_all(self._fills.advance())\n",
        "            self._fills.advance()\n",
    ),
    Mutant(
        "lets a fill win over a value that was set",
        CACHE,
        "            fill.pending.invalidations.add_key(key, self._fills.advance())\n",
        "            self._fills.advance()\n",
    ),
    Mutant(
        "runs the fill again for each waiter after an error",
        CACHE,
        "        outcomes = self._fills.answer(fill, stale or Failed(error), now_ns)\n",
        "        outcomes = self._fills.answer(fill, stale, now_ns) if stale else []\n",
    ),
    Mutant(
        "forgets that an old value stands in for an error",
        CACHE,
        "if entry is None or now_ns >= entry.dead_at_ns:",
        "if entry is None or now_ns >= entry.grace_until_ns:",
    ),
    Mutant(
        "takes what comes too late",
        CACHE,
        "        if token.deadline_ns <= now_ns:\n"
        "            return Settled(accepted=False, outcomes=self._fills.pass_on(fill, now_ns))\n"
        "        space = self._spaces[token.namespace]\n"
        "        labels",
        "        space = self._spaces[token.namespace]\n        labels",
    ),
    Mutant(
        "takes a token from whoever has it",
        CACHE,
        " or fill.holder != holder:",
        ":",
    ),
    Mutant(
        "takes a token that was used before",
        CACHE,
        "fill.token != token",
        "fill.token.key != token.key",
    ),
    Mutant(
        "promotes the last that came",
        FILLS,
        "return next(iter(fill.waiters.values()), None)",
        "return next(reversed(fill.waiters.values()), None)",
    ),
    Mutant(
        "promotes all that wait",
        FILLS,
        "                return [*outcomes, Outcome(waiter.number, waiter.holder, Lead(token))]\n",
        "                outcomes.append(Outcome(waiter.number, waiter.holder, Lead(token)))\n",
    ),
    Mutant(
        "promotes nobody where a leader goes",
        FILLS,
        "            outcomes += self.pass_on(fill, now_ns)\n        return outcomes\n\n"
        "    def expire",
        "            self._dismiss(fill)\n        return outcomes\n\n    def expire",
    ),
    Mutant(
        "promotes who has waited enough",
        FILLS,
        "if waiter.deadline_ns > now_ns:",
        "if waiter.deadline_ns:",
    ),
    Mutant(
        "lets who comes pass those that wait for a late leader",
        CACHE,
        "if fill.token.deadline_ns > now_ns or fill.waiters:",
        "if fill.token.deadline_ns > now_ns:",
    ),
    Mutant(
        "lets everybody refresh a stale value",
        CACHE,
        "        if fill.token.deadline_ns > now_ns or fill.waiters:\n            return None\n",
        "",
    ),
    Mutant(
        "waits for a late leader for ever",
        FILLS,
        "nexts = [at for at in (self._leads.next_ns(), self._waits.next_ns())",
        "nexts = [at for at in (self._waits.next_ns(),)",
    ),
    Mutant(
        "lets a holder that goes wait on",
        FILLS,
        "        for waiter in list(held.waits.values()):\n            self._leave(waiter)\n",
        "",
    ),
    Mutant(
        "forgets the deadlines of who waits",
        FILLS,
        "waiter.number = self._waits.add(deadline_ns, waiter)",
        "waiter.number = self._waits.add(deadline_ns + 10, waiter)",
    ),
    Mutant(
        "lets a holder lead as much as it likes",
        FILLS,
        "len(held.leads) < self._max_leads",
        "len(held.leads) <= self._max_leads",
    ),
    Mutant(
        "takes a deadline that was taken out",
        DEADLINES,
        "        while heap and heap[0][1] not in self._items:\n            heappop(heap)\n",
        "",
    ),
    Mutant(
        "lets a user lead as much as it likes, with many holders",
        FILLS,
        "self._users[self._user_of(holder)] < self._max_leads_per_user",
        "self._users[self._user_of(holder)] <= self._max_leads_per_user",
    ),
    Mutant(
        "never forgets what a user has led",
        FILLS,
        "        self._users[user] -= 1\n",
        "        pass\n",
    ),
    # --- who looks, and who would have to wait ----------------------------------------------------
    Mutant(
        "counts no miss of who only looks",
        CACHE,
        "        if served is None:\n            space.counters.misses += 1\n",
        "",
    ),
    Mutant(
        "counts a miss twice where the caller has to wait",
        CACHE,
        "        if token is None and key in space.pending.fills:\n            return None\n"
        "        space.counters.misses += 1\n",
        "        space.counters.misses += 1\n"
        "        if token is None and key in space.pending.fills:\n            return None\n",
    ),
    Mutant(
        "refuses who would have to wait",
        CACHE,
        "        if token is None and key in space.pending.fills:\n            return None\n",
        "",
    ),
    Mutant(
        "lets a look keep alive what may not be served",
        CACHE,
        "        if now_ns >= entry.dead_at_ns:\n"
        '            self._entries.remove(entry, "expired")\n        return None\n',
        "        return None\n",
    ),
    Mutant(
        "lets who refreshes a value do so for all",
        CACHE,
        "return served if token is None else Stale(served.value, served.age_ns, token)",
        "return served",
    ),
    # --- owners -----------------------------------------------------------------------------------
    Mutant(
        "lets an owner have as much as its namespaces together",
        ENTRIES,
        "            self._make_room_of_owner(owner, size, 1)\n",
        "",
    ),
    Mutant(
        "lets an owner grow past its bytes",
        ENTRIES,
        "owner.used_bytes + size > quota.max_bytes",
        "owner.used_bytes > quota.max_bytes",
    ),
    Mutant(
        "lets an owner grow past its entries",
        ENTRIES,
        "or owner.count + entries > quota.max_entries",
        "or owner.count > quota.max_entries",
    ),
    Mutant(
        "evicts first what the owner used last",
        OWNERS,
        "return next(iter(self.shared or self.guaranteed))",
        "return next(reversed(self.shared or self.guaranteed))",
    ),
    Mutant(
        "evicts first what is guaranteed to the owner",
        OWNERS,
        "return next(iter(self.shared or self.guaranteed))",
        "return next(iter(self.guaranteed or self.shared))",
    ),
    Mutant(
        "keeps in an owner's part what came first",
        OWNERS,
        "return next(iter(self.guaranteed))",
        "return next(reversed(self.guaranteed))",
    ),
    Mutant(
        "forgets that an owner has used an entry",
        OWNERS,
        "(self.guaranteed if entry.is_guaranteed else self.shared).move_to_end(entry)",
        "pass",
    ),
    Mutant(
        "takes what an owner gets back into its part for the newest",
        OWNERS,
        "self.guaranteed.move_to_end(entry, last=False)",
        "self.guaranteed.move_to_end(entry)",
    ),
    Mutant(
        "loses count of an owner's part",
        OWNERS,
        "            self.guaranteed_bytes -= entry.size\n",
        "            pass\n",
    ),
    Mutant(
        "promises a part to every owner",
        ENTRIES,
        "or owner.promised or self._promised >= self._max_promised",
        "or owner.promised",
    ),
    Mutant(
        "promises an owner a part that it takes off nobody",
        ENTRIES,
        "            self._guaranteed_bytes += owner.quota.guaranteed_bytes\n",
        "",
    ),
    Mutant(
        "never takes a promise back from who holds nothing",
        ENTRIES,
        "                self._take_back(owner)\n",
        "                pass\n",
    ),
    Mutant(
        "guarantees a part to who was not promised it",
        ENTRIES,
        "return space.owner.quota if space.owner.promised else _NOTHING",
        "return space.owner.quota",
    ),
    Mutant(
        "gives each namespace of an owner the whole part",
        ENTRIES,
        "            self._make_room_in_guaranteed(owner or space, size, 1)\n",
        "            if owner is None:\n"
        "                self._make_room_in_guaranteed(space, size, 1)\n",
    ),
    Mutant(
        "counts on the room that it is about to promise",
        ENTRIES,
        "if not (guaranteed or self._fits_shared(size, new)):",
        "if not (guaranteed or self._fits_shared(size)):",
    ),
    # --- entries ----------------------------------------------------------------------------------
    Mutant(
        "serves what is past its grace",
        CACHE,
        "if now_ns < entry.grace_until_ns:",
        "if now_ns < entry.dead_at_ns:",
    ),
    Mutant(
        "never varies a time to live",
        CACHE,
        "return ttl_ns - most + int(self._jitter() * (2 * most + 1))",
        "return ttl_ns",
    ),
    Mutant(
        "stores a value over the size cap",
        CACHE,
        "stored = fits and self._entries.store",
        "stored = self._entries.store",
    ),
    Mutant(
        "keeps the old value where the new one is too large",
        CACHE,
        "        if old is not None:\n",
        "        if old is not None and len(value.data) <= self._limits.max_value_bytes:\n",
    ),
    Mutant(
        "lets live entries go before the expired",
        ENTRIES,
        "        self.drop_expired(now_ns)\n",
        "",
    ),
    Mutant(
        "evicts what was stored first, used or not",
        ENTRIES,
        "            self._shared.move_to_end(entry)\n",
        "            pass\n",
    ),
    Mutant(
        "forgets the overhead of an entry",
        NAMESPACES,
        "size = ENTRY_OVERHEAD_BYTES + _text_bytes(key) + len(value.data)",
        "size = _text_bytes(key) + len(value.data)",
    ),
    Mutant(
        "lets a namespace grow past its entries",
        ENTRIES,
        "or space.count + entries > quota.max_entries",
        "or space.count > quota.max_entries",
    ),
    Mutant(
        "lets a namespace grow past its bytes",
        ENTRIES,
        "space.used_bytes + size > quota.max_bytes",
        "space.used_bytes > quota.max_bytes",
    ),
    Mutant(
        "lends what is guaranteed",
        ENTRIES,
        "        most_bytes = self._max_bytes - self._guaranteed_bytes\n",
        "        most_bytes = self._max_bytes\n",
    ),
    Mutant(
        "evicts what is guaranteed to another",
        ENTRIES,
        "        if guaranteed:\n            self._make_room_in_guaranteed",
        "        if guaranteed and not self._shared:\n            self._make_room_in_guaranteed",
    ),
    Mutant(
        "guarantees nothing again that was moved on",
        ENTRIES,
        "            if self._has_guaranteed_room(oldest):\n",
        "            if self._has_guaranteed_room(oldest) and not self._shared:\n",
    ),
    Mutant(
        "guarantees more bytes than it may",
        ENTRIES,
        "whose.guaranteed_bytes + entry.size <= quota.guaranteed_bytes",
        "whose.guaranteed_bytes <= quota.guaranteed_bytes",
    ),
    Mutant(
        "keeps in the guaranteed part what came first",
        NAMESPACES,
        "return next(iter(self.guaranteed.values()))",
        "return next(reversed(self.guaranteed.values()))",
    ),
    Mutant(
        "loses count of bytes where an entry is moved",
        ENTRIES,
        "            self._shared_bytes -= entry.size\n",
        "            pass\n",
    ),
)

mutants, test_passes, test_the_model_notices_a_cache_that = kept_list(MUTANTS, tests=TESTS)
