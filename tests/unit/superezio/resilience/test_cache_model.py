"""The cache against the slow one that is written from the rules (semantics 3)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from cache_model import Reference, Told, Waiting
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import (
    Answer,
    Failed,
    Filled,
    Hit,
    Join,
    Lead,
    Outcome,
    Refused,
    Settled,
    Stale,
    TimedOut,
    Token,
    Value,
)
from superezio.resilience.cache_limits import Lifetime, Limits, Quota

LIMITS = Limits(
    max_bytes=11_000,
    max_entries=9,
    max_value_bytes=2500,
    quota=Quota(max_bytes=7500, max_entries=4),
    max_fills=5,
    max_leads_per_holder=2,
    max_leads_per_user=3,
    owner=Quota(7000, 3, guaranteed_bytes=2600, guaranteed_entries=2),
    max_promised=1,
)
QUOTAS = {
    "kept": Quota(6500, 3, guaranteed_bytes=3500, guaranteed_entries=2),
    "small": Quota(3600, 2, guaranteed_bytes=1300, guaranteed_entries=1),
    "other": LIMITS.quota,
    "eva 1": LIMITS.quota,
    "eva 2": LIMITS.quota,
    "fay": LIMITS.quota,
}
#: Who has namespaces together, and whose a holder is.
OWNERS = {"eva 1": "eva", "eva 2": "eva", "fay": "fay"}
USERS = {"ann": "one", "ben": "one", "cleo": "two", "dan": "three"}
NAMESPACES = st.sampled_from(("kept", "small", "other", "kept", "small", "eva 1", "eva 2", "fay"))
KEYS = st.sampled_from(("k", "k", "k", "l", "m", "n"))
#: What one owner does in its namespaces, whose entries are more than it may have.
EVAS, EVAS_KEYS = st.sampled_from(("eva 1", "eva 2")), st.sampled_from(("k", "l", "m"))
DEEDS = st.sampled_from(("put", "put", "put", "use", "use", "delete"))
HOLDERS = st.sampled_from(("ann", "ben", "cleo", "dan"))
SIZES = st.sampled_from((0, 100, 1000, 2000, 2501))
TAGS = st.sampled_from(((), (), ("t",), ("u",), ("t", "u")))
LIVES = st.builds(
    Lifetime,
    ttl_ns=st.sampled_from((10, 10, 100)),
    grace_ns=st.sampled_from((0, 30)),
    stale_if_error_ns=st.sampled_from((0, 20, 60)),
)
PARTS = st.sampled_from((0.0, 0.5, 1.0))
SPANS = st.sampled_from((5, 20, 60))
PICKS = st.integers(0, 99)
ASKERS = st.lists(HOLDERS, min_size=2, max_size=5)


def _told(answer: Answer | Filled | Failed | TimedOut) -> Told:  # noqa: PLR0911 - one of each
    match answer:
        case Hit(value, age):
            return ("hit", value, age)
        case Stale(value, age, token):
            return ("stale", value, age, token.deadline_ns if token else None)
        case Lead(token):
            return ("lead", token.deadline_ns)
        case Join(_, deadline):
            return ("join", deadline)
        case Refused():
            return ("refused",)
        case Filled(value):
            return ("filled", value)
        case Failed(error):
            return ("failed", error)
        case TimedOut():
            return ("timed out",)


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.part = 0.5
        self.cache = Cache(
            LIMITS,
            jitter=lambda: min(self.part, 1 - 2**-53),
            owner_of=OWNERS.get,
            user_of=lambda holder: USERS[str(holder)],
        )
        for name in ("kept", "small"):
            self.cache.declare(name, QUOTAS[name])
        self.model = Reference(LIMITS, QUOTAS, OWNERS, USERS)
        self.now = 1000
        self.made = 0
        self.issued: list[tuple[Token, str]] = []
        self.asked: dict[int, str] = {}
        self.ended: set[int] = set()

    # --- asking and waiting -----------------------------------------------------------------------

    @rule(ns=NAMESPACES, key=KEYS, holder=HOLDERS, lead=SPANS, wait=SPANS)
    def get(self, ns: str, key: str, holder: str, lead: int, wait: int) -> None:
        answer = self.cache.get(ns, key, holder=holder, now_ns=self.now, lead_ns=lead, wait_ns=wait)
        assert _told(answer) == self.model.get(ns, key, holder, lead, wait, self.now)
        if isinstance(answer, Join):
            assert answer.waiter not in self.asked, "a number is never used again"
            self.asked[answer.waiter] = holder
            self.model.joined(ns, key, Waiting(answer.waiter, holder, answer.deadline_ns, lead, 0))
        elif isinstance(answer, Lead | Stale) and answer.token:
            self._issued(answer.token, holder, ns, key)

    @rule(ns=NAMESPACES, key=KEYS, holder=HOLDERS, lead=SPANS)
    def get_at_once(self, ns: str, key: str, holder: str, lead: int) -> None:
        answer = self.cache.get_at_once(ns, key, holder=holder, now_ns=self.now, lead_ns=lead)
        told = self.model.get_at_once(ns, key, holder, lead, self.now)
        assert (answer and _told(answer)) == told
        if isinstance(answer, Lead | Stale) and answer.token:
            self._issued(answer.token, holder, ns, key)

    @rule(ns=NAMESPACES, key=KEYS)
    def peek(self, ns: str, key: str) -> None:
        seen = self.cache.peek(ns, key, now_ns=self.now)
        told = ("miss",) if seen is None else _told(seen)
        assert told == self.model.peek(ns, key, self.now)

    @rule(ns=NAMESPACES, key=KEYS, many=ASKERS, wait=SPANS)
    def many_get(self, ns: str, key: str, many: list[str], wait: int) -> None:
        for holder in many:
            self.get(ns, key, holder, 20, wait)

    @precondition(lambda self: self.asked)
    @rule(pick=PICKS)
    def leave(self, pick: int) -> None:
        number = list(self.asked)[-1 - pick % len(self.asked)]
        self.cache.leave(number)
        self.model.leave(number)
        self.ended.add(number)

    @rule(holder=HOLDERS)
    def drop(self, holder: str) -> None:
        waits = {each.number for each in self.model.waiters() if each.holder == holder}
        outcomes = self.cache.drop(holder, self.now)
        assert not waits & {each.waiter for each in outcomes}
        self.ended |= waits
        self._outcomes(outcomes, self.model.drop(holder, self.now))

    @rule(elapsed=st.sampled_from((1, 4, 10, 30)))
    def time_passes(self, elapsed: int) -> None:
        self.now += elapsed

    @rule(elapsed=st.sampled_from((0, 5, 30)))
    def expire(self, elapsed: int) -> None:
        self.now += elapsed
        self._outcomes(self.cache.expire(self.now), self.model.expire(self.now))
        late = self.cache.next_deadline_ns()
        assert late is None or late > self.now, "nobody waits for one that is late"

    # --- leading ----------------------------------------------------------------------------------

    @precondition(lambda self: self.issued)
    @rule(pick=PICKS, size=SIZES, life=LIVES, part=PARTS, tags=TAGS)
    def fill(
        self, pick: int, size: int, life: Lifetime, part: float, tags: tuple[str, ...]
    ) -> None:
        self._fills(*self._token(pick), size, life, part, tags)

    def _fills(
        self,
        token: Token,
        holder: str,
        size: int,
        life: Lifetime,
        part: float,
        tags: tuple[str, ...],
    ) -> None:
        self.part = part
        value = self._value(size)
        others = self._guaranteed_beside(token.namespace)
        self._settled(
            self.cache.fill(token, value, life, holder=holder, now_ns=self.now, tags=tags),
            self.model.fill(token, value, life, part, tags, holder, self.now),
        )
        self._are_kept(others)

    @precondition(lambda self: self.issued)
    @rule(pick=PICKS)
    def fail(self, pick: int) -> None:
        self._fails(*self._token(pick))

    def _fails(self, token: Token, holder: str) -> None:
        self._settled(
            self.cache.fail(token, "gone", holder=holder, now_ns=self.now),
            self.model.fail(token, "gone", holder, self.now),
        )

    @precondition(lambda self: self.issued)
    @rule(pick=PICKS)
    def abandon(self, pick: int) -> None:
        token, holder = self._token(pick)
        self._settled(
            self.cache.abandon(token, holder=holder, now_ns=self.now),
            self.model.abandon(token, holder, self.now),
        )

    @precondition(lambda self: self.issued)
    @rule(pick=PICKS, thief=HOLDERS, forged=st.booleans())
    def steal(self, pick: int, thief: str, *, forged: bool) -> None:
        token, holder = self._token(pick)
        if forged:
            token = structs.replace(token, deadline_ns=token.deadline_ns + 1000)
        elif thief == holder:
            return
        for settled in (
            self.cache.fill(token, self._value(1), Lifetime(10), holder=thief, now_ns=self.now),
            self.cache.fail(token, "stolen", holder=thief, now_ns=self.now),
            self.cache.abandon(token, holder=thief, now_ns=self.now),
        ):
            assert settled == Settled(accepted=False)

    # --- setting and deleting ---------------------------------------------------------------------

    @rule(ns=NAMESPACES, key=KEYS, size=SIZES, life=LIVES, part=PARTS, tags=TAGS)
    def put(
        self, ns: str, key: str, size: int, life: Lifetime, part: float, tags: tuple[str, ...]
    ) -> None:
        self.part = part
        value = self._value(size)
        others = self._guaranteed_beside(ns)
        self._settled(
            self.cache.put(ns, key, value, life, now_ns=self.now, tags=tags),
            self.model.put(ns, key, value, life, part, tags, self.now),
        )
        self._are_kept(others)

    @rule(ns=NAMESPACES, key=KEYS)
    def delete(self, ns: str, key: str) -> None:
        assert self.cache.delete(ns, key) == self.model.delete(ns, "key", key)

    @rule(ns=NAMESPACES, tag=st.sampled_from(("t", "u", "v")))
    def delete_tag(self, ns: str, tag: str) -> None:
        assert self.cache.delete_tag(ns, tag) == self.model.delete(ns, "tag", tag)

    @rule(ns=NAMESPACES)
    def clear(self, ns: str) -> None:
        assert self.cache.clear(ns) == self.model.delete(ns, "all", "")

    # --- stories that chance seldom tells ---------------------------------------------------------

    @rule(ns=NAMESPACES, key=KEYS, life=LIVES, age=st.integers(9, 75), many=ASKERS, pick=PICKS)
    def a_value_grows_old(
        self, ns: str, key: str, life: Lifetime, age: int, many: list[str], pick: int
    ) -> None:
        self.put(ns, key, 100, life, 0.5, ())
        self.now += age
        self.many_get(ns, key, many, 60)
        token, holder = self._led(ns, key)
        if token and pick % 3:
            self._fails(token, holder)

    @rule(puts=st.lists(st.tuples(NAMESPACES, KEYS, SIZES, st.booleans()), min_size=3, max_size=8))
    def much_is_put_and_some_of_it_used(self, puts: list[tuple[str, str, int, bool]]) -> None:
        for ns, key, size, used in puts:
            self.put(ns, key, size, Lifetime(100), 0.5, ())
            if used:
                self.get(ns, "k", "ann", 20, 60)

    @rule(acts=st.lists(st.tuples(EVAS, EVAS_KEYS, DEEDS), min_size=6, max_size=12))
    def an_owner_has_more_than_its_part_and_uses_some_of_it(
        self, acts: list[tuple[str, str, str]]
    ) -> None:
        for ns, key, deed in acts:
            match deed:
                case "put":
                    self.put(ns, key, 100, Lifetime(100), 0.5, ())
                case "use":
                    self.get(ns, key, "ann", 20, 60)
                case _:
                    self.delete(ns, key)

    @rule(
        ns=NAMESPACES,
        key=KEYS,
        before=ASKERS,
        after=ASKERS,
        tags=TAGS,
        kinds=st.lists(st.sampled_from(("key", "tag", "all", "put")), min_size=1, max_size=3),
    )
    def it_is_deleted_while_it_is_fetched(
        self,
        ns: str,
        key: str,
        before: list[str],
        after: list[str],
        tags: tuple[str, ...],
        kinds: list[str],
    ) -> None:
        self.delete(ns, key)
        self.many_get(ns, key, before, 60)
        for kind in kinds:
            if kind == "put":
                self.put(ns, key, 100, Lifetime(1), 0.5, ())
                self.now += 1
            elif kind == "key":
                self.delete(ns, key)
            elif kind == "tag":
                self.delete_tag(ns, "t")
            else:
                self.clear(ns)
            self.many_get(ns, key, after, 60)
        token, holder = self._led(ns, key)
        if token:
            self._fills(token, holder, 100, Lifetime(10), 0.5, tags)

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def it_holds_no_more_than_it_may(self) -> None:
        usage = self.cache.usage()
        assert usage.used_bytes <= LIMITS.max_bytes
        assert usage.entries <= LIMITS.max_entries
        for name, quota in QUOTAS.items():
            held = self.cache.usage(name)
            assert held.used_bytes <= quota.max_bytes
            assert held.entries <= quota.max_entries
        assert LIMITS.owner is not None
        for owner in set(OWNERS.values()):
            mine = [self.cache.usage(name) for name in OWNERS if OWNERS[name] == owner]
            assert sum(each.used_bytes for each in mine) <= LIMITS.owner.max_bytes
            assert sum(each.entries for each in mine) <= LIMITS.owner.max_entries

    @invariant()
    def it_holds_what_the_rules_say(self) -> None:
        for name in QUOTAS:
            held, kept = self.cache.usage(name), self.model.of(name)
            assert (held.used_bytes, held.entries) == (sum(e.size for e in kept), len(kept))
            counted = structs.asdict(self.cache.counters(name))
            assert counted == {each: self.model.counts[name, each] for each in counted}
        total = self.cache.usage()
        assert (total.used_bytes, total.entries) == (
            sum(each.size for each in self.model.kept),
            len(self.model.kept),
        )

    @invariant()
    def nobody_waits_when_nobody_leads(self) -> None:
        usage = self.cache.usage()
        assert usage.fills == len(self.model.fills)
        assert usage.waiting == len(self.model.waiters()) == len(self.asked) - len(self.ended)
        assert usage.waiting == sum(self.cache.usage(name).waiting for name in QUOTAS)
        assert not usage.waiting or usage.fills
        assert self.cache.next_deadline_ns() == self.model.next_deadline()

    def teardown(self) -> None:
        """Let all that still waits come to its end: each gets its one answer."""
        for _ in range(50):
            late = self.cache.next_deadline_ns()
            if late is None:
                break
            self.now = late
            self._outcomes(self.cache.expire(late), self.model.expire(late))
        assert self.ended == set(self.asked)
        assert self.cache._fills._held == {}, "nothing is remembered of who is gone"
        assert not self.cache._fills._users

    # --- within -----------------------------------------------------------------------------------

    def _value(self, size: int) -> Value:
        """Return a value like no other."""
        self.made += 1
        return Value(f"{self.made:04}".encode().ljust(size, b".")[: max(size, 4)])

    def _token(self, pick: int) -> tuple[Token, str]:
        """Return one that still leads, more often than one of old."""
        leading = [(fill.token, fill.holder) for fill in self.model.fills.values() if fill.token]
        if leading and pick % 8:
            return leading[pick % len(leading)]
        return self.issued[pick % len(self.issued)]

    def _guaranteed_beside(self, ns: str) -> dict[str, int]:
        """Return how many live entries the others have that hold no more than is guaranteed."""
        return {
            name: sum(each.dead_at > self.now for each in self.model.of(name))
            for name in QUOTAS
            if OWNERS.get(name, name) != OWNERS.get(ns, ns) and self.model.is_guaranteed(name)
        }

    def _are_kept(self, others: dict[str, int]) -> None:
        for name, count in others.items():
            assert self.cache.usage(name).entries >= count, "another's growth evicted them"

    def _led(self, ns: str, key: str) -> tuple[Token | None, str]:
        fill = self.model.fills.get((ns, key))
        return (fill.token, fill.holder) if fill else (None, "")

    def _issued(self, token: Token, holder: str, ns: str, key: str) -> None:
        assert (token.namespace, token.key) == (ns, key)
        assert all(token.generation > each.generation for each, _ in self.issued)
        fill = self.model.fills[ns, key]
        assert fill.token is None, "never two fills of a key at once"
        assert fill.deadline == token.deadline_ns
        fill.token = token
        self.issued.append((token, holder))

    def _settled(self, settled: Settled, expected: Told) -> None:
        accepted, stored, stale, outcomes = expected
        assert (settled.accepted, settled.stored) == (accepted, stored)
        assert (settled.stale and _told(settled.stale)) == stale
        assert isinstance(outcomes, dict)
        self._outcomes(settled.outcomes, outcomes)

    def _outcomes(self, outcomes: Sequence[Outcome], expected: dict[int, Told]) -> None:
        assert {each.waiter: _told(each.answer) for each in outcomes} == expected
        for each in outcomes:
            assert each.holder == self.asked[each.waiter]
            assert each.waiter not in self.ended, "every waiter gets exactly one answer"
            self.ended.add(each.waiter)
        tokens = [
            (each.answer.token, self.asked[each.waiter])
            for each in outcomes
            if isinstance(each.answer, Lead)
        ]
        for token, holder in sorted(tokens, key=lambda each: each[0].generation):
            self._issued(token, holder, token.namespace, token.key)


#: Against a mutant, whose examples are the same each time and the first failure is enough.
AGAINST_MUTANT = "SUPEREZIO_MUTANT" in os.environ

TestCacheModel = CacheMachine.TestCase
TestCacheModel.settings = settings(
    max_examples=400 if AGAINST_MUTANT else 150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate] if AGAINST_MUTANT else tuple(Phase),
)
