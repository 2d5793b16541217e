"""Deletions of more than goes at once, against a model in which all goes at once (semantics 3).

The model knows live entries alone. What is outdated and has still to go must show nowhere but in
the room that it takes: nobody is served it, nothing live goes for it, and it is counted once.
"""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from superezio.resilience import entries
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import Hit, Lead, Token, Value
from superezio.resilience.cache_limits import Lifetime, Limits, Quota

MOST = 6
ROOMY = Quota(10**9, MOST)
LIMITS = Limits(10**9, 10**6, 1000, ROOMY, owner=Quota(10**9, 2 * MOST - 2))
#: Two of one owner, whose entries are fewer than they may have each, and one of nobody.
OWNERS = {"eva 1": "eva", "eva 2": "eva"}
NAMESPACES = st.sampled_from(("eva 1", "eva 1", "eva 2", "alone"))
KEYS = st.sampled_from("abcdefghij")
TAGS = st.sampled_from(((), ("t",), ("t",), ("u",), ("t", "u")))
LIFE = Lifetime(10**9)


class DeletionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.most_at_once = entries.MOST_AT_ONCE
        entries.MOST_AT_ONCE = 1  # type: ignore[misc]  # little is much then
        self.cache = Cache(LIMITS, jitter=lambda: 0.5, owner_of=OWNERS.get)
        #: What lives, by its namespace and key, in the order of use.
        self.live: dict[tuple[str, str], tuple[Value, tuple[str, ...]]] = {}
        self.counts: Counter[str] = Counter()
        self.led: dict[tuple[str, str], Token] = {}
        #: What was deleted by key or tag, or cleared, since each token.
        self.since: dict[tuple[str, str], set[str]] = {}
        self.made = 0

    @rule(ns=NAMESPACES, keys=st.lists(KEYS, min_size=1, max_size=8), tags=TAGS)
    def put(self, ns: str, keys: list[str], tags: tuple[str, ...]) -> None:
        for key in keys:
            value = self._value()
            self.cache.put(ns, key, value, LIFE, now_ns=0, tags=tags)
            self._stored(ns, key, value, tags)
            self.since.get((ns, key), set()).add("put")

    @rule(ns=NAMESPACES, key=KEYS)
    def look(self, ns: str, key: str) -> None:
        self._look(ns, key)

    @rule(ns=NAMESPACES, key=KEYS)
    def lead(self, ns: str, key: str) -> None:
        if (ns, key) in self.led:
            return
        answer = self.cache.get(ns, key, holder="ann", now_ns=0)
        if (ns, key) in self.live:
            assert isinstance(answer, Hit)
            self._use(ns, key)
        else:
            assert isinstance(answer, Lead)
            self.led[ns, key] = answer.token
            self.since[ns, key] = set()

    @precondition(lambda self: self.led)
    @rule(pick=st.integers(0, 9), tags=TAGS)
    def fill(self, pick: int, tags: tuple[str, ...]) -> None:
        at = list(self.led)[pick % len(self.led)]
        token, since, value = self.led.pop(at), self.since.pop(at), self._value()
        settled = self.cache.fill(token, value, LIFE, holder="ann", now_ns=0, tags=tags)
        wins = not since & {"put", "key", "all", *tags}
        assert settled.stored == wins, "an invalidation during the fill wins"
        if wins:
            self._stored(*at, value, tags)

    @rule(ns=NAMESPACES, key=KEYS)
    def delete(self, ns: str, key: str) -> None:
        assert self.cache.delete(ns, key) == ((ns, key) in self.live)
        self._gone([(ns, key)])
        self.since.get((ns, key), set()).add("key")

    @rule(ns=NAMESPACES, tag=st.sampled_from("ttu"))
    def delete_tag(self, ns: str, tag: str) -> None:
        had = [at for at, (_, tags) in self.live.items() if at[0] == ns and tag in tags]
        rest = self.cache.next_deadline_ns() == 0
        told = self.cache.delete_tag(ns, tag)
        assert told >= len(had) if rest else told == len(had)
        self._gone(had)
        self._invalidated(ns, tag)

    @rule(ns=NAMESPACES)
    def clear(self, ns: str) -> None:
        self.cache.clear(ns)
        self._gone([at for at in self.live if at[0] == ns])
        self._invalidated(ns, "all")

    @rule(turns=st.integers(1, 4))
    def the_alarm_rings(self, turns: int) -> None:
        for _ in range(turns):
            before = self.cache.usage().entries
            if self.cache.next_deadline_ns() == 0:
                assert self.cache.expire(0) == []
                assert before - self.cache.usage().entries == 1, "one goes at a time here"

    @rule(
        order=st.permutations(("eva 1", "eva 2", "alone")),
        tags=st.sampled_from((("t",), ("t", "u"), ("u", "t"))),
        then=st.lists(st.tuples(st.booleans(), NAMESPACES, KEYS, TAGS), min_size=1, max_size=9),
    )
    def much_is_deleted_by_tag(
        self,
        order: list[str],
        tags: tuple[str, ...],
        then: list[tuple[bool, str, str, tuple[str, ...]]],
    ) -> None:
        for ns in order:
            self.put(ns, ["j"], ())
            self.put(ns, list("abcde" if ns == "alone" else "abcd"), tags)
        for ns in order:
            self.delete_tag(ns, "t")
        for is_put, ns, key, given in then:
            if is_put:
                self.put(ns, [key], given)
            else:
                self._look(ns, key)

    @invariant()
    def what_is_held_is_counted(self) -> None:
        usage = self.cache.usage()
        assert usage.entries >= len(self.live)
        assert usage.entries == len(self.cache._entries._kept)
        kept = self.cache._entries._kept.values()
        assert usage.used_bytes == sum(each.size for each in kept)
        for name in ("eva 1", "eva 2", "alone"):
            assert self.cache.usage(name).entries <= MOST
        totals = self.cache.totals()
        assert (totals.quota, totals.replaced) == (self.counts["quota"], self.counts["replaced"])
        assert (totals.expired, totals.total) == (0, 0)
        assert totals.deleted <= self.counts["deleted"]

    @invariant()
    def where_nothing_has_to_go_there_is_what_lives(self) -> None:
        if self.cache.next_deadline_ns() == 0:
            return
        assert self.cache.usage().entries == len(self.live)
        assert self.cache.totals().deleted == self.counts["deleted"]

    def teardown(self) -> None:
        for ns, key in list(self.live):
            self._look(ns, key)
        for _ in range(200):
            if self.cache.next_deadline_ns() != 0:
                break
            self.cache.expire(0)
        for ns in ("eva 1", "eva 2", "alone"):
            for key in "abcdefghij":
                self._look(ns, key)
        self.where_nothing_has_to_go_there_is_what_lives()
        assert self.cache.next_deadline_ns() != 0, "it comes to its end"
        for space in self.cache._spaces.values():
            assert not space.cleared
            mine = [tags for at, (_, tags) in self.live.items() if at[0] == space.name]
            assert {tag for tags in mine for tag in tags} == set(space.tagged)
        entries.MOST_AT_ONCE = self.most_at_once  # type: ignore[misc]

    # --- within -----------------------------------------------------------------------------------

    def _value(self) -> Value:
        self.made += 1
        return Value(str(self.made).encode())

    def _look(self, ns: str, key: str) -> None:
        seen = self.cache.peek(ns, key, now_ns=0)
        held = self.live.get((ns, key))
        assert (seen.value if seen else None) == (held[0] if held else None)
        self._use(ns, key)

    def _use(self, ns: str, key: str) -> None:
        if (ns, key) in self.live:
            self.live[ns, key] = self.live.pop((ns, key))

    def _stored(self, ns: str, key: str, value: Value, tags: tuple[str, ...]) -> None:
        if self.live.pop((ns, key), None):
            self.counts["replaced"] += 1
        self._make_room([at for at in self.live if at[0] == ns], MOST)
        if ns in OWNERS:
            self._make_room([at for at in self.live if at[0] in OWNERS], 2 * MOST - 2)
        self.live[ns, key] = (value, tags)

    def _make_room(self, held: list[tuple[str, str]], most: int) -> None:
        if len(held) == most:
            del self.live[held[0]]
            self.counts["quota"] += 1

    def _gone(self, gone: list[tuple[str, str]]) -> None:
        for at in gone:
            self.counts["deleted"] += self.live.pop(at, None) is not None

    def _invalidated(self, ns: str, what: str) -> None:
        for at, since in self.since.items():
            if at[0] == ns:
                since.add(what)


#: Against a mutant, whose examples are the same each time and the first failure is enough.
AGAINST_MUTANT = "SUPEREZIO_MUTANT" in os.environ

TestDeletions = DeletionMachine.TestCase
TestDeletions.settings = settings(
    max_examples=200 if AGAINST_MUTANT else 60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate] if AGAINST_MUTANT else tuple(Phase),
)
