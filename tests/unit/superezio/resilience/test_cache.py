"""The cache in the words of its rules (semantics 3, and case 3 of 9)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

from superezio.resilience.cache import SECOND_NS, Cache
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

ROOMY = Quota(max_bytes=10**9, max_entries=10**6)
LIMITS = Limits(max_bytes=10**9, max_entries=10**6, max_value_bytes=1000, quota=ROOMY)
VALUE = Value(b"42")
LIFE = Lifetime(100, grace_ns=50, stale_if_error_ns=200)


class Asked:
    """A cache whose clock stands where the test puts it, and whose jitter is none."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.cache = Cache(limits, jitter=lambda: 0.5)
        self.now = 1000

    def get(self, holder: Hashable, key: str = "k", wait: int = 30, lead: int = 20) -> Answer:
        return self.cache.get("n", key, holder=holder, now_ns=self.now, wait_ns=wait, lead_ns=lead)

    def lead(self, holder: Hashable, key: str = "k") -> Token:
        answer = self.get(holder, key)
        assert isinstance(answer, Lead)
        return answer.token

    def join(self, holder: Hashable, key: str = "k", wait: int = 30) -> int:
        answer = self.get(holder, key, wait)
        assert isinstance(answer, Join)
        return answer.waiter

    def fill(
        self, token: Token, holder: Hashable, value: Value = VALUE, tags: Sequence[str] = ()
    ) -> Settled:
        return self.cache.fill(token, value, LIFE, holder=holder, now_ns=self.now, tags=tags)

    def fail(self, token: Token, holder: Hashable) -> Settled:
        return self.cache.fail(token, "no route", holder=holder, now_ns=self.now)

    def put(self, value: Value = VALUE, key: str = "k", tags: Sequence[str] = ()) -> Settled:
        return self.cache.put("n", key, value, LIFE, now_ns=self.now, tags=tags)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def _leads(outcome: Outcome) -> Token:
    assert isinstance(outcome.answer, Lead)
    return outcome.answer.token


# --- fresh, stale, miss ---------------------------------------------------------------------------


def test_a_fresh_hit_returns_the_value_and_its_age(asked: Asked) -> None:
    asked.put()
    asked.now += 99
    assert asked.get("ann") == Hit(VALUE, age_ns=99)


def test_stale_within_grace_returns_stale_and_one_caller_refreshes(asked: Asked) -> None:
    asked.put()
    asked.now += 100
    first, second = asked.get("ann"), asked.get("ben")
    assert isinstance(first, Stale)
    assert first.token is not None
    assert (first.value, first.age_ns) == (VALUE, 100)
    assert second == Stale(VALUE, age_ns=100, token=None)
    assert asked.fill(first.token, "ann", Value(b"43")).stored
    assert asked.get("ben") == Hit(Value(b"43"), age_ns=0)


def test_a_refresh_whose_leader_goes_falls_to_the_next_caller(asked: Asked) -> None:
    asked.put()
    asked.now += 100
    asked.get("ann")
    assert asked.cache.drop("ann", asked.now) == []
    answer = asked.get("ben")
    assert isinstance(answer, Stale)
    assert answer.token is not None


def test_past_its_grace_a_value_is_a_miss_again(asked: Asked) -> None:
    asked.put()
    asked.now += 150
    asked.lead("ann")


def test_a_miss_joins_the_fill_or_leads_it(asked: Asked) -> None:
    token = asked.lead("ann")
    assert (token.key, token.deadline_ns) == ("k", 1020)
    ben, cleo = asked.join("ben"), asked.join("cleo")
    settled = asked.fill(token, "ann")
    assert settled.stored
    assert list(settled.outcomes) == [
        Outcome(ben, "ben", Filled(VALUE)),
        Outcome(cleo, "cleo", Filled(VALUE)),
    ]
    assert asked.cache.next_deadline_ns() is None


@pytest.mark.parametrize("content", [b"\x00\xff", "Ångström", "", b""], ids=repr)
def test_bytes_and_text_come_back_as_what_they_were(asked: Asked, content: bytes | str) -> None:
    asked.put(Value.of(content))
    answer = asked.get("ann")
    assert isinstance(answer, Hit)
    assert answer.value.content == content
    assert type(answer.value.content) is type(content)


@pytest.mark.parametrize(("random", "fresh_for"), [(0.0, 900), (0.5, 1000), (1 - 2**-53, 1100)])
def test_the_time_to_live_varies_by_a_tenth(random: float, fresh_for: int) -> None:
    cache = Cache(LIMITS, jitter=lambda: random)
    cache.put("n", "k", VALUE, Lifetime(1000), now_ns=0)
    assert isinstance(cache.get("n", "k", holder="ann", now_ns=fresh_for - 1), Hit)
    assert isinstance(cache.get("n", "k", holder="ann", now_ns=fresh_for), Lead)


# --- leaders that deliver nothing -----------------------------------------------------------------


def test_of_a_leader_that_disconnects_exactly_one_waiter_takes_the_place(asked: Asked) -> None:
    token = asked.lead("ann")
    ben, cleo = asked.join("ben"), asked.join("cleo")
    asked.now += 5
    (promoted,) = asked.cache.drop("ann", asked.now)
    assert (promoted.waiter, promoted.holder) == (ben, "ben")
    assert _leads(promoted).deadline_ns == asked.now + 20
    assert not asked.fill(token, "ann").accepted
    settled = asked.fill(_leads(promoted), "ben")
    assert list(settled.outcomes) == [Outcome(cleo, "cleo", Filled(VALUE))]


def test_a_holder_that_goes_waits_no_more_and_is_not_promoted(asked: Asked) -> None:
    asked.lead("ann")
    asked.join("ann")
    ben = asked.join("ben")
    (promoted,) = asked.cache.drop("ann", asked.now)
    assert promoted.waiter == ben
    assert asked.cache.drop("ann", asked.now) == []


def test_of_a_leader_that_gives_its_lead_back_one_waiter_takes_the_place(asked: Asked) -> None:
    token = asked.lead("ann")
    ben = asked.join("ben")
    settled = asked.cache.abandon(token, holder="ann", now_ns=asked.now)
    assert [each.waiter for each in settled.outcomes] == [ben]
    assert not asked.cache.abandon(token, holder="ann", now_ns=asked.now).accepted


def test_of_a_leader_that_is_too_late_one_waiter_takes_the_place(asked: Asked) -> None:
    token = asked.lead("ann")
    ben, cleo = asked.join("ben"), asked.join("cleo", wait=90)
    assert asked.cache.next_deadline_ns() == 1020
    asked.now = 1019
    assert asked.cache.expire(asked.now) == []
    asked.now = 1020
    (promoted,) = asked.cache.expire(asked.now)
    assert promoted.waiter == ben
    assert asked.fill(token, "ann") == Settled(accepted=False)
    asked.now = 1040
    (promoted,) = asked.cache.expire(asked.now)
    assert promoted.waiter == cleo


@pytest.mark.parametrize("word", ["fill", "fail"])
def test_what_comes_too_late_promotes_one_and_reaches_nobody(asked: Asked, word: str) -> None:
    token = asked.lead("ann")
    ben = asked.join("ben")
    asked.now = 1020
    settled = asked.fill(token, "ann") if word == "fill" else asked.fail(token, "ann")
    assert (settled.accepted, settled.stored) == (False, False)
    (promoted,) = settled.outcomes
    assert promoted.waiter == ben
    assert _leads(promoted).generation > token.generation


def test_who_comes_after_a_late_leader_leads_unless_somebody_waits(asked: Asked) -> None:
    asked.lead("ann")
    asked.now = 1020
    token = asked.lead("ben")
    asked.join("cleo", wait=90)
    asked.now = 1040
    assert isinstance(asked.get("dan"), Join)
    assert not asked.fill(token, "ann").accepted, "it is not ann's"


def test_an_error_of_the_leader_goes_to_all_and_nobody_runs_it_again(asked: Asked) -> None:
    token = asked.lead("ann")
    waiters = [asked.join(number) for number in range(100)]
    settled = asked.fail(token, "ann")
    assert settled.accepted
    assert [(each.waiter, each.answer) for each in settled.outcomes] == [
        (waiter, Failed("no route")) for waiter in waiters
    ]
    assert asked.cache.usage().fills == 0


def test_errors_are_never_cached(asked: Asked) -> None:
    asked.fail(asked.lead("ann"), "ann")
    assert asked.cache.usage().entries == 0
    asked.lead("ben")


def test_an_old_value_stands_in_for_an_error_as_long_as_it_may(asked: Asked) -> None:
    asked.put()
    asked.now += 299
    token = asked.lead("ann")
    ben = asked.join("ben")
    settled = asked.fail(token, "ann")
    stale = Stale(VALUE, age_ns=299)
    assert settled.stale == stale
    assert list(settled.outcomes) == [Outcome(ben, "ben", stale)]
    asked.now += 1
    token = asked.lead("ann")
    ben = asked.join("ben")
    settled = asked.fail(token, "ann")
    assert settled.stale is None
    assert list(settled.outcomes) == [Outcome(ben, "ben", Failed("no route"))]


def test_each_waiter_has_its_own_deadline(asked: Asked) -> None:
    token = asked.lead("ann")
    ben, cleo = asked.join("ben", wait=5), asked.join("cleo", wait=10)
    asked.now += 5
    assert asked.cache.expire(asked.now) == [Outcome(ben, "ben", TimedOut())]
    settled = asked.fill(token, "ann")
    assert [each.waiter for each in settled.outcomes] == [cleo]


def test_who_has_waited_enough_is_neither_promoted_nor_served(asked: Asked) -> None:
    asked.lead("ann")
    ben, cleo, dan = asked.join("ben", wait=5), asked.join("cleo"), asked.join("dan", wait=5)
    asked.now += 5
    late, promoted = asked.cache.drop("ann", asked.now)
    assert late == Outcome(ben, "ben", TimedOut())
    assert promoted.waiter == cleo
    settled = asked.fill(_leads(promoted), "cleo")
    assert list(settled.outcomes) == [Outcome(dan, "dan", TimedOut())]


def test_who_leaves_gets_no_outcome_and_may_leave_twice(asked: Asked) -> None:
    token = asked.lead("ann")
    waiter = asked.join("ben")
    asked.cache.leave(waiter)
    asked.cache.leave(waiter)
    assert not asked.fill(token, "ann").outcomes


def test_of_a_thousand_callers_of_a_cold_key_one_fetches_whoever_dies(asked: Asked) -> None:
    """Kill the leader again and again: each time one waiter leads, until one delivers."""
    token, holder = asked.lead(0), 0
    waiting = {asked.join(number): number for number in range(1, 1000)}
    for dead in range(500):
        (promoted,) = asked.cache.drop(dead, asked.now)
        token, holder = _leads(promoted), waiting.pop(promoted.waiter)
        assert holder == dead + 1
        assert asked.cache.usage().fills == 1
    settled = asked.fill(token, holder)
    assert {each.waiter for each in settled.outcomes} == set(waiting)
    assert {each.answer for each in settled.outcomes} == {Filled(VALUE)}


def test_a_token_counts_once_and_only_for_its_holder(asked: Asked) -> None:
    token = asked.lead("ann")
    assert asked.fill(token, "ben") == Settled(accepted=False)
    assert asked.fail(token, "ben") == Settled(accepted=False)
    assert asked.fill(token, "ann").accepted
    assert asked.fill(token, "ann") == Settled(accepted=False)


def test_a_token_of_an_unknown_namespace_counts_nothing(asked: Asked) -> None:
    token = Token("nowhere", "k", generation=1, deadline_ns=10**9)
    assert asked.fill(token, "ann") == Settled(accepted=False)


# --- invalidations during a fill ------------------------------------------------------------------


def _delete(asked: Asked) -> None:
    asked.cache.delete("n", "k")


def _delete_tag(asked: Asked) -> None:
    asked.cache.delete_tag("n", "t")


def _clear(asked: Asked) -> None:
    asked.cache.clear("n")


@pytest.mark.parametrize("invalidate", [_delete, _delete_tag, _clear])
def test_an_invalidation_during_the_fill_wins(asked: Asked, invalidate: object) -> None:
    assert callable(invalidate)
    token = asked.lead("ann")
    before = asked.join("ben")
    invalidate(asked)
    after, last = asked.join("cleo"), asked.join("dan")
    settled = asked.fill(token, "ann", tags=["t"])
    assert (settled.accepted, settled.stored) == (True, False)
    assert asked.cache.usage().entries == 0
    served, promoted = settled.outcomes
    assert served == Outcome(before, "ben", Filled(VALUE)), "it asked before the invalidation"
    assert promoted.waiter == after, "it asked after it, and fetches what is true now"
    settled = asked.fill(_leads(promoted), "cleo", Value(b"43"))
    assert settled.stored
    assert list(settled.outcomes) == [Outcome(last, "dan", Filled(Value(b"43")))]


def test_who_asked_between_two_invalidations_gets_nothing_from_before_the_first(
    asked: Asked,
) -> None:
    token = asked.lead("ann")
    asked.cache.delete("n", "k")
    between = asked.join("ben")
    asked.cache.delete("n", "k")
    (promoted,) = asked.fill(token, "ann").outcomes
    assert promoted.waiter == between
    assert isinstance(promoted.answer, Lead)


def test_a_fill_that_began_after_the_invalidation_is_stored(asked: Asked) -> None:
    other = asked.lead("zoe", key="other")
    asked.cache.delete_tag("n", "t")
    assert asked.fill(asked.lead("ann"), "ann", tags=["t"]).stored
    assert not asked.fill(other, "zoe", tags=["u", "t"]).stored


def test_an_invalidation_of_another_key_or_tag_or_namespace_leaves_a_fill_alone(
    asked: Asked,
) -> None:
    token = asked.lead("ann")
    asked.cache.delete("n", "other")
    asked.cache.delete_tag("n", "u")
    asked.cache.clear("elsewhere")
    assert asked.fill(token, "ann", tags=["t"]).stored


def test_an_error_goes_to_all_current_waiters_after_an_invalidation_too(asked: Asked) -> None:
    token = asked.lead("ann")
    asked.join("ben")
    asked.cache.delete("n", "k")
    asked.join("cleo")
    answers = [each.answer for each in asked.fail(token, "ann").outcomes]
    assert answers == [Failed("no route")] * 2


def test_a_value_that_is_set_goes_to_who_waits_and_wins_over_the_fill(asked: Asked) -> None:
    token = asked.lead("ann")
    ben = asked.join("ben")
    assert list(asked.put(Value(b"set")).outcomes) == [Outcome(ben, "ben", Filled(Value(b"set")))]
    assert not asked.fill(token, "ann").stored
    assert asked.get("cleo") == Hit(Value(b"set"), age_ns=0)


@pytest.mark.parametrize("many", [4095, 4096, 10_000])
def test_more_invalidations_than_are_remembered_outdate_what_is_under_way(
    asked: Asked, many: int
) -> None:
    """At the price of a fetch: nobody gets an outdated value, and the memory is bounded."""
    token = asked.lead("ann")
    waiters = [asked.join("ben"), asked.join("cleo")]
    for number in range(many):
        asked.cache.delete_tag("n", str(number))
    remembered = asked.cache._spaces["n"].pending.invalidations
    assert len(remembered._tags) <= 4096
    asked.cache.delete_tag("n", "t")
    settled = asked.fill(token, "ann", tags=["t"])
    assert not settled.stored
    if many < 4096:
        assert [each.answer for each in settled.outcomes] == [Filled(VALUE)] * 2
    else:
        (promoted,) = settled.outcomes
        assert promoted.waiter == waiters[0]
        assert asked.fill(_leads(promoted), "ben").stored
    assert len(remembered._tags) == 0, "no fill is under way"


# --- deleting -------------------------------------------------------------------------------------


def test_a_key_is_deleted_once(asked: Asked) -> None:
    asked.put()
    assert asked.cache.delete("n", "k")
    assert not asked.cache.delete("n", "k")
    assert not asked.cache.delete("nowhere", "k")
    asked.lead("ann")


def test_all_with_a_tag_are_deleted_and_no_other(asked: Asked) -> None:
    for key, tags in (("a", ["t"]), ("b", ["t", "u", "t"]), ("c", ["u"]), ("d", [])):
        asked.put(key=key, tags=tags)
    assert asked.cache.delete_tag("n", "t") == 2
    assert asked.cache.delete_tag("n", "t") == 0
    assert [isinstance(asked.get("ann", key), Hit) for key in "abcd"] == [False, False, True, True]


def test_a_namespace_is_cleared_and_no_other(asked: Asked) -> None:
    asked.put()
    asked.cache.put("other", "k", VALUE, LIFE, now_ns=asked.now)
    assert asked.cache.clear("n") == 1
    assert asked.cache.clear("nowhere") == 0
    assert asked.cache.usage().entries == 1
    assert asked.cache.usage("n").used_bytes == 0


# --- counters and bounds on who asks --------------------------------------------------------------


def test_what_happens_is_counted_by_namespace(asked: Asked) -> None:
    token = asked.lead("ann")
    asked.join("ben")
    asked.fill(token, "ann")
    asked.get("ann")
    asked.now += 100
    asked.get("ann")
    counters = asked.cache.counters("n")
    counted = (counters.hits, counters.misses, counters.coalesced, counters.stale_served)
    assert counted == (1, 2, 1, 1)
    assert asked.cache.counters("other").misses == 0


def test_a_holder_leads_only_so_many_fills() -> None:
    asked = Asked(
        Limits(
            max_bytes=10**6,
            max_entries=10,
            max_value_bytes=10,
            quota=Quota(10**6, 10),
            max_fills=3,
            max_leads_per_holder=2,
        )
    )
    first = asked.lead("ann", "a")
    asked.lead("ann", "b")
    assert asked.get("ann", "c") == Refused()
    assert isinstance(asked.get("ben", "a"), Join), "it may wait for what is fetched"
    asked.lead("ben", "c")
    assert asked.get("cleo", "d") == Refused(), "three are under way in all"
    asked.cache.drop("ben", asked.now)
    asked.fill(first, "ann")
    asked.lead("ann", "d")
    assert asked.cache.counters("n").refused == 2


def test_namespaces_that_hold_nothing_are_forgotten(asked: Asked) -> None:
    asked.put()
    asked.cache.declare("declared", ROOMY)
    asked.cache.get("led", "k", holder="ann", now_ns=0)
    for number in range(10_000):
        name = f"empty {number}"
        asked.cache.get(name, "k", holder="ben", now_ns=0)
        asked.cache.drop("ben", 0)
    known = asked.cache.namespaces()
    assert len(known) < 600
    assert {"n", "declared", "led"} <= set(known)


@pytest.mark.parametrize(
    "times",
    [
        {"ttl_ns": 0},
        {"ttl_ns": 1, "grace_ns": -1},
        {"ttl_ns": 1, "stale_if_error_ns": -1},
    ],
)
def test_senseless_lifetimes_are_refused(times: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Lifetime(**times)


@pytest.mark.parametrize(
    "changed",
    [
        {"max_bytes": -1},
        {"max_fills": 0},
        {"quota": Quota(10, 10, guaranteed_bytes=1)},
    ],
)
def test_senseless_limits_are_refused(changed: dict[str, object]) -> None:
    values: dict[str, object] = {
        "max_bytes": 1, "max_entries": 1, "max_value_bytes": 1, "quota": ROOMY,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"max_|guaranteed"):
        Limits(**(values | changed))  # type: ignore[arg-type]


def test_a_caller_waits_for_half_a_minute_where_it_says_nothing(asked: Asked) -> None:
    asked.cache.get("n", "k", holder="ann", now_ns=0)
    assert asked.cache.next_deadline_ns() == 30 * SECOND_NS


def test_who_has_no_time_to_lead_is_refused_and_counts_for_nothing(asked: Asked) -> None:
    with pytest.raises(ValueError, match="lead_ns"):
        asked.get("ann", lead=0)
    assert asked.cache.usage().fills == 0
