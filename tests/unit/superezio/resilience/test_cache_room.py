"""What a cache holds: bounded by bytes and by entries, by namespace and in all (semantics 3)."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import Filled, Hit, Join, Lead, Value
from superezio.resilience.cache_limits import Lifetime, Limits, Quota
from superezio.resilience.entries import MOST_AT_ONCE
from superezio.resilience.namespaces import entry_bytes

ROOMY = Quota(max_bytes=10**9, max_entries=10**6)
LIFE = Lifetime(1000)
VALUE = Value(b"x" * 200)
#: What each of the entries here counts: keys of one letter, values of 200 bytes.
SIZE = entry_bytes("k", VALUE)


def _cache(*, entries: int, quota: Quota = ROOMY, spare: int = 0) -> Cache:
    """Return one with room for the bytes of so many entries."""
    limits = Limits(
        max_bytes=entries * SIZE + spare, max_entries=10**6, max_value_bytes=1000, quota=quota
    )
    return Cache(limits, jitter=lambda: 0.5)


def _put(
    cache: Cache, keys: str, namespace: str = "n", life: Lifetime = LIFE, now: int = 0
) -> None:
    for key in keys:
        cache.put(namespace, key, VALUE, life, now_ns=now)


def _kept(cache: Cache, namespace: str = "n") -> str:
    space = cache._spaces[namespace]
    return "".join(sorted([*space.shared, *space.guaranteed]))


def test_the_least_recently_used_goes_first() -> None:
    cache = _cache(entries=3, spare=SIZE - 1)
    _put(cache, "abc")
    assert isinstance(cache.get("n", "a", holder="ann", now_ns=1), Hit)
    _put(cache, "d")
    assert _kept(cache) == "acd"
    assert cache.counters("n").total == 1


def test_a_value_that_is_served_stale_was_used() -> None:
    cache = _cache(entries=2)
    _put(cache, "ab", life=Lifetime(10, grace_ns=100))
    cache.get("n", "a", holder="ann", now_ns=50)
    _put(cache, "c", now=50)
    assert _kept(cache) == "ac"


def test_entries_are_bounded_as_bytes_are() -> None:
    limits = Limits(max_bytes=10**9, max_entries=2, max_value_bytes=1000, quota=ROOMY)
    cache = Cache(limits)
    _put(cache, "abc")
    assert _kept(cache) == "bc"


def test_expired_entries_go_before_live_ones() -> None:
    cache = _cache(entries=3)
    _put(cache, "a")
    _put(cache, "bc", life=Lifetime(10))
    _put(cache, "d", now=10)
    assert _kept(cache) == "ad"
    counters = cache.counters("n")
    assert (counters.expired, counters.total) == (2, 0)


def test_an_expired_entry_of_another_namespace_goes_before_a_live_one() -> None:
    cache = _cache(entries=2)
    _put(cache, "a")
    _put(cache, "b", "other", life=Lifetime(10))
    _put(cache, "c", now=10)
    assert _kept(cache) == "ac"


def test_what_may_still_stand_in_for_an_error_is_not_expired() -> None:
    cache = _cache(entries=3)
    _put(cache, "a", life=Lifetime(10, stale_if_error_ns=5))
    cache.expire(14)
    assert _kept(cache) == "a"
    cache.expire(15)
    assert _kept(cache) == ""


def test_a_value_over_the_size_cap_reaches_its_waiters_but_is_not_stored() -> None:
    cache = _cache(entries=10)
    lead = cache.get("n", "k", holder="ann", now_ns=0)
    joined = cache.get("n", "k", holder="ben", now_ns=0)
    assert isinstance(lead, Lead)
    assert isinstance(joined, Join)
    large = Value(bytes(1001))
    settled = cache.fill(lead.token, large, LIFE, holder="ann", now_ns=0)
    assert (settled.accepted, settled.stored) == (True, False)
    assert [each.answer for each in settled.outcomes] == [Filled(large)]
    assert cache.usage().entries == 0
    assert cache.counters("n").too_large == 1


def test_a_value_of_the_size_cap_is_stored() -> None:
    cache = _cache(entries=10)
    assert cache.put("n", "k", Value(bytes(1000)), LIFE, now_ns=0).stored


def test_a_value_that_is_too_large_takes_the_old_one_with_it() -> None:
    cache = _cache(entries=10)
    _put(cache, "k")
    assert not cache.put("n", "k", Value(bytes(1001)), LIFE, now_ns=0).stored
    assert _kept(cache) == ""


def test_what_no_eviction_makes_room_for_evicts_nothing() -> None:
    cache = _cache(entries=3, quota=Quota(max_bytes=2 * SIZE, max_entries=9))
    _put(cache, "ab")
    assert not cache.put("n", "c" * 1000, Value(bytes(1000)), LIFE, now_ns=0).stored
    assert _kept(cache) == "ab"


def test_a_quota_of_nothing_stores_nothing() -> None:
    cache = _cache(entries=3, quota=Quota(max_bytes=10**6, max_entries=0))
    assert not cache.put("n", "a", VALUE, LIFE, now_ns=0).stored


def test_a_namespace_that_is_full_makes_room_among_its_own() -> None:
    cache = _cache(entries=10, quota=Quota(max_bytes=2 * SIZE, max_entries=9))
    _put(cache, "z", "other")
    _put(cache, "abc")
    assert (_kept(cache), _kept(cache, "other")) == ("bc", "z")
    assert cache.counters("n").quota == 1


def test_nobodys_growth_evicts_what_is_guaranteed_to_another() -> None:
    cache = _cache(entries=4)
    cache.declare("kept", Quota(10**9, 10**6, 2 * SIZE, 10))
    _put(cache, "abc", "kept")
    _put(cache, "defghi", "other")
    assert _kept(cache, "kept") == "bc", "the two that it used last"
    assert _kept(cache, "other") == "hi", "what is left of the total"
    _put(cache, "jk", "kept")
    assert _kept(cache, "kept") == "bcjk", "its older ones go to the part that all share"
    assert _kept(cache, "other") == ""
    _put(cache, "l", "other")
    assert _kept(cache, "kept") == "cjk"


def test_what_was_moved_on_is_guaranteed_again_where_there_is_room() -> None:
    cache = _cache(entries=4)
    cache.declare("kept", Quota(10**9, 10**6, 2 * SIZE, 10))
    _put(cache, "abc", "kept")
    cache.delete("kept", "b")
    cache.delete("kept", "c")
    _put(cache, "defg", "other")
    assert _kept(cache, "kept") == "a"
    assert _kept(cache, "other") == "fg"
    _put(cache, "hi", "kept")
    _put(cache, "j", "kept")
    assert "".join(cache._spaces["kept"].guaranteed) == "ij"


def test_a_guaranteed_part_bounded_by_entries_holds_no_more_of_them() -> None:
    cache = _cache(entries=4)
    cache.declare("kept", Quota(10**9, 10**6, 3 * SIZE, 1))
    _put(cache, "ab", "kept")
    _put(cache, "xyz", "other")
    assert _kept(cache, "kept") == "b"


def test_more_than_there_is_cannot_be_guaranteed() -> None:
    cache = _cache(entries=4)
    cache.declare("first", Quota(10**9, 10**6, 3 * SIZE, 10))
    with pytest.raises(ValueError, match=r"cannot guarantee that much to second: .* of a total"):
        cache.declare("second", Quota(10**9, 10**6, 2 * SIZE, 10))
    cache.declare("first", None)
    cache.declare("second", Quota(10**9, 10**6, 2 * SIZE, 10))


def test_a_smaller_quota_holds_at_once() -> None:
    cache = _cache(entries=6)
    cache.declare("n", Quota(10**9, 10**6, 4 * SIZE, 10))
    _put(cache, "abcd")
    cache.declare("n", Quota(3 * SIZE, 10, 1 * SIZE, 10))
    assert _kept(cache) == "bcd"
    assert "".join(cache._spaces["n"].guaranteed) == "d"
    cache.declare("other", Quota(10**9, 10**6, 4 * SIZE, 10))
    assert _kept(cache) == "cd", "the part that all share is smaller now"


@pytest.mark.parametrize("parts", [(10, 5, 11, 0), (10, 5, 0, 6), (10, 5, -1, 0)])
def test_a_quota_guarantees_no_more_than_it_allows(parts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="guaranteed_"):
        Quota(*parts)


def test_a_wide_character_counts_what_it_takes() -> None:
    assert entry_bytes("kk€", VALUE) == entry_bytes("k" * 12, VALUE)


@pytest.mark.parametrize("tags", [0, 4])
@pytest.mark.parametrize("churn", [False, True])
@pytest.mark.parametrize("owner", [None, "ann"])
def test_it_takes_no_more_memory_than_it_counts(
    tags: int, owner: str | None, *, churn: bool
) -> None:
    """At the worst size of each table within: they double when they are full."""
    limits = Limits(
        max_bytes=10**9,
        max_entries=10**6,
        max_value_bytes=1000,
        quota=ROOMY,
        owner=Quota(10**9, 10**6, 10**8, 10**5),
        max_promised=1,
    )
    many = 3000
    worst = 0.0
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = Cache(limits, owner_of=lambda _: owner)
        for number in range(many):
            for _ in range(3 if churn else 1):
                _fetch(cache, f"key {number:09}", number, tags)
            if number > many // 2:
                taken = tracemalloc.get_traced_memory()[0] - before
                worst = max(worst, taken / cache.usage().used_bytes)
    finally:
        tracemalloc.stop()
    assert worst < 1


def _fetch(cache: Cache, key: str, number: int, tags: int) -> None:
    now = 10**15 + number
    cache.delete("n", key)
    lead = cache.get("n", key, holder="ann", now_ns=now)
    assert isinstance(lead, Lead)
    value = Value(bytes(100))
    names = [f"tag {each} of {number:09}" for each in range(tags)]
    cache.fill(lead.token, value, Lifetime(10**18), holder="ann", now_ns=now, tags=names)


def test_where_all_is_guaranteed_nobody_else_stores_anything() -> None:
    cache = _cache(entries=2)
    cache.declare("kept", Quota(10**9, 10**6, 2 * SIZE, 10))
    _put(cache, "abc", "kept")
    assert _kept(cache, "kept") == "bc"
    assert not cache.put("other", "d", VALUE, LIFE, now_ns=0).stored
    counters = cache.counters("kept")
    assert (counters.total, counters.quota) == (1, 0)


# --- many namespaces of one owner -----------------------------------------------------------------


def _owned(*, entries: int, most: int, guaranteed: int, promised: int = 2) -> Cache:
    """Return one whose namespaces are those of the owner before the slash in their names."""
    limits = Limits(
        max_bytes=entries * SIZE,
        max_entries=10**6,
        max_value_bytes=1000,
        quota=ROOMY,
        owner=Quota(most * SIZE, 10**6, guaranteed * SIZE, 10**5 if guaranteed else 0),
        max_promised=promised if guaranteed else 0,
    )
    return Cache(
        limits,
        jitter=lambda: 0.5,
        owner_of=lambda name: name.partition("/")[0] if "/" in name else None,
    )


def test_a_thousand_namespaces_of_one_owner_are_no_more_than_one() -> None:
    cache = _owned(entries=20, most=5, guaranteed=0)
    _put(cache, "abcdefgh", "ann/n")
    for number in range(1000):
        _put(cache, "k", f"eve/{number}")
    assert _kept(cache, "ann/n") == "defgh", "ann's own quota is five"
    assert cache.usage().entries == 10


def test_an_owners_least_recently_used_goes_first_whatever_namespace_it_is_in() -> None:
    cache = _owned(entries=20, most=3, guaranteed=0)
    _put(cache, "ab", "ann/1")
    _put(cache, "c", "ann/2")
    cache.peek("ann/1", "a", now_ns=1)
    _put(cache, "de", "ann/3")
    assert (_kept(cache, "ann/1"), _kept(cache, "ann/2"), _kept(cache, "ann/3")) == ("a", "", "de")
    assert cache.counters("ann/1").quota == 1


def test_no_growth_of_another_owner_evicts_what_is_guaranteed_to_one() -> None:
    cache = _owned(entries=6, most=6, guaranteed=2)
    _put(cache, "ab", "ann/n")
    for number in range(1000):
        _put(cache, "k", f"eve/{number}")
    assert _kept(cache, "ann/n") == "ab"
    assert cache.usage().entries == 6, "what ann does not use of hers is still hers"


def test_a_guaranteed_part_is_taken_off_the_others_only_while_its_owner_holds_something() -> None:
    cache = _owned(entries=6, most=6, guaranteed=2)
    _put(cache, "abcdef", "eve/n")
    assert _kept(cache, "eve/n") == "abcdef"
    _put(cache, "k", "ann/n")
    assert _kept(cache, "eve/n") == "cdef"
    cache.delete("ann/n", "k")
    _put(cache, "gh", "eve/n")
    assert _kept(cache, "eve/n") == "cdefgh"


def test_who_comes_when_all_is_promised_has_what_all_share_alone() -> None:
    cache = _owned(entries=5, most=6, guaranteed=2, promised=1)
    _put(cache, "ab", "ann/n")
    _put(cache, "cdefg", "eve/n")
    assert _kept(cache, "eve/n") == "efg"
    _put(cache, "xyz", "ann/n")
    assert _kept(cache, "ann/n") == "abxyz"
    assert _kept(cache, "eve/n") == ""


def test_a_namespace_of_an_owner_has_no_part_of_its_own() -> None:
    cache = _owned(entries=5, most=6, guaranteed=2)
    with pytest.raises(ValueError, match="has its guaranteed part with its owner's others"):
        cache.declare("ann/n", Quota(10**6, 10, SIZE, 1))


def test_what_owners_are_promised_is_there() -> None:
    with pytest.raises(ValueError, match="what is promised to owners is more than there is"):
        _owned(entries=5, most=6, guaranteed=2, promised=3)
    cache = _owned(entries=5, most=6, guaranteed=2, promised=2)
    with pytest.raises(ValueError, match="cannot guarantee that much to shared"):
        cache.declare("shared", Quota(10**6, 10, 2 * SIZE, 0))


def _many(cache: Cache, count: int, namespace: str = "n") -> None:
    for number in range(count):
        cache.put(namespace, str(number), VALUE, LIFE, now_ns=0)


def test_of_many_that_expired_together_a_store_lets_only_some_go() -> None:
    cache = _cache(entries=20_000)
    _many(cache, 10_000)
    before = cache.usage().entries
    _put(cache, "a", "other", now=10**6)
    assert before - MOST_AT_ONCE < cache.usage().entries < before
    assert cache.counters("n").expired == MOST_AT_ONCE
    assert cache.expire(10**6) == []
    assert cache.counters("n").expired == 2 * MOST_AT_ONCE


def test_every_store_leaves_fewer_expired_ones() -> None:
    cache = _cache(entries=20_000)
    _many(cache, 1000)
    for number in range(1 + 1000 // MOST_AT_ONCE):
        _put(cache, "abcdefghijklmnopqrstuvwxyz"[number], "other", now=10**6)
    assert cache.usage("n").entries == 0


def test_a_full_namespace_lets_its_expired_go_before_its_live_however_many_there_are() -> None:
    cache = _cache(entries=10**5, quota=Quota(10**9, 300))
    _many(cache, 10 * MOST_AT_ONCE, "older")
    _put(cache, "a", life=Lifetime(10**9))
    _many(cache, 299)
    assert isinstance(cache.peek("n", "298", now_ns=1), Hit)
    _put(cache, "b", life=Lifetime(10**9), now=10**6)
    assert "a" in _kept(cache)
    assert "b" in _kept(cache)
    assert cache.counters("n").quota == 0
    assert cache.counters("n").expired == 1


def test_many_that_are_cleared_are_found_no_more_and_go_a_few_at_a_time() -> None:
    cache = _cache(entries=20_000)
    _many(cache, 10_000)
    assert cache.clear("n") == 10_000
    assert cache.peek("n", "9999", now_ns=1) is None
    assert cache.usage("n").entries == 0
    assert cache.usage().entries == 10_000 - MOST_AT_ONCE
    _many(cache, 10)
    assert cache.usage("n").entries == 10
    times = 0
    while cache.next_deadline_ns() == 0:
        cache.expire(1)
        times += 1
    assert times == pytest.approx(10_000 / MOST_AT_ONCE, abs=12)
    assert cache.usage() == cache.usage("n")
    assert cache.next_deadline_ns() is None
    counters = cache.counters("n")
    assert (counters.stored, counters.deleted, counters.expired) == (10_010, 10_000, 0)
    assert cache.clear("n") == 10


def test_what_was_cleared_makes_room_before_what_lives() -> None:
    cache = _cache(entries=1000, spare=3000)
    _put(cache, "a", "other")
    _many(cache, 999)
    cache.clear("n")
    for number in range(999):
        cache.put("n", str(number), VALUE, LIFE, now_ns=1)
    assert cache.usage().entries == 1000
    assert _kept(cache, "other") == "a"
    assert cache.usage("n").entries == 999
    assert cache.totals().total == 0


# --- many that are deleted by tag -----------------------------------------------------------------


def _tagged(cache: Cache, count: int, *tags: str, namespace: str = "n") -> None:
    for number in range(count):
        cache.put(namespace, str(number), VALUE, LIFE, now_ns=0, tags=tags)


def _drain(cache: Cache) -> int:
    """Let all that is outdated go as the alarm would; return in how many turns."""
    turns = 0
    while cache.next_deadline_ns() == 0:
        before = cache.usage().entries
        cache.expire(1)
        assert before - cache.usage().entries <= MOST_AT_ONCE
        turns += 1
    return turns


def test_many_that_are_deleted_by_tag_are_served_to_nobody_and_go_a_few_at_a_time() -> None:
    cache = _cache(entries=20_000)
    _tagged(cache, 10_000, "t")
    _put(cache, "a")
    assert cache.delete_tag("n", "t") == 10_000
    assert cache.usage().entries == 10_001 - MOST_AT_ONCE, "the others take their room"
    for number in range(0, 10_000, 99):
        assert cache.peek("n", str(number), now_ns=1) is None
    assert cache.delete_tag("n", "t") == 0
    assert not cache.delete("n", "1"), "it was deleted before"
    assert isinstance(cache.peek("n", "a", now_ns=1), Hit)
    assert _drain(cache) == pytest.approx(10_000 / MOST_AT_ONCE, abs=3)
    assert cache.next_deadline_ns() is None
    counters = cache.counters("n")
    assert (counters.deleted, counters.expired, counters.replaced) == (10_000, 0, 0)
    assert cache.usage() == cache.usage("n")
    assert cache.usage().entries == 1
    assert cache.usage().used_bytes == SIZE


def test_what_gets_the_tag_after_all_with_it_were_deleted_stays() -> None:
    cache = _cache(entries=20_000)
    _tagged(cache, 1000, "t", "u")
    cache.delete_tag("n", "t")
    cache.put("n", "1", VALUE, LIFE, now_ns=1, tags=("t", "u"))
    cache.put("n", "new", VALUE, LIFE, now_ns=1, tags=("t",))
    _drain(cache)
    assert isinstance(cache.peek("n", "1", now_ns=1), Hit)
    assert isinstance(cache.peek("n", "new", now_ns=1), Hit)
    assert cache.usage("n").entries == 2
    counters = cache.counters("n")
    assert (counters.deleted, counters.replaced) == (1000, 0), "the old one was deleted, not set"
    assert cache.delete_tag("n", "u") == 1


def test_an_old_value_that_was_deleted_by_tag_stands_in_for_no_error() -> None:
    cache = _cache(entries=20_000)
    for number in range(1000):
        life = Lifetime(10, stale_if_error_ns=1000)
        cache.put("n", str(number), VALUE, life, now_ns=0, tags=("t",))
    lead = cache.get("n", "0", holder="ann", now_ns=20)
    assert isinstance(lead, Lead)
    cache.delete_tag("n", "t")
    assert cache.fail(lead.token, "gone", holder="ann", now_ns=21).stale is None


def test_those_with_two_tags_go_once_though_both_are_deleted() -> None:
    cache = _cache(entries=20_000)
    _tagged(cache, 1000, "t", "u")
    cache.delete_tag("n", "t")
    assert cache.delete_tag("n", "u") == 1000 - MOST_AT_ONCE, "those that have still to go count"
    _drain(cache)
    assert cache.counters("n").deleted == 1000
    assert cache.usage().used_bytes == 0
    assert not cache._spaces["n"].tagged
    assert not cache._spaces["n"].cleared


def test_what_is_cleared_while_it_goes_by_tag_goes_once() -> None:
    cache = _cache(entries=20_000)
    _tagged(cache, 1000, "t")
    cache.delete_tag("n", "t")
    cache.clear("n")
    assert cache.usage("n").entries == 0
    _drain(cache)
    assert cache.counters("n").deleted == 1000
    assert cache.usage().entries == 0


def test_a_full_namespace_lets_what_was_deleted_by_tag_go_before_its_live() -> None:
    cache = _cache(entries=10**5, quota=Quota(10**9, 1000))
    _put(cache, "a")
    _tagged(cache, 999, "t")
    cache.delete_tag("n", "t")
    for number in range(999):
        cache.put("n", f"new {number}", VALUE, LIFE, now_ns=1)
    assert "a" in cache._spaces["n"].shared
    assert cache.usage("n").entries == 1000
    assert cache.counters("n").quota == 0
    assert cache.counters("n").deleted == 999


def test_a_full_owner_lets_what_was_deleted_by_tag_go_before_its_live() -> None:
    cache = _owned(entries=5000, most=300, guaranteed=0)
    _put(cache, "a", "ann/1")
    _tagged(cache, 200, "t", namespace="ann/2")
    cache.delete_tag("ann/2", "t")
    for number in range(250):
        cache.put("ann/3", str(number), VALUE, LIFE, now_ns=1)
    assert _kept(cache, "ann/1") == "a"
    assert cache.totals().quota == 0


def test_what_was_deleted_by_tag_makes_room_before_what_lives() -> None:
    cache = _cache(entries=1000)
    _put(cache, "a", "other")
    _tagged(cache, 400, "t")
    cache.delete_tag("n", "t")
    for number in range(700):
        cache.put("n", f"new {number}", VALUE, LIFE, now_ns=1)
    assert _kept(cache, "other") == "a"
    assert cache.totals().total == 0


def test_what_was_deleted_by_tag_is_counted_as_that_whatever_it_goes_for() -> None:
    limits = Limits(max_bytes=10**9, max_entries=6300, max_value_bytes=1000, quota=ROOMY)
    cache = Cache(limits, jitter=lambda: 0.5)
    cache.declare("kept", Quota(10**9, 10**6, 10**8, 6000))
    _tagged(cache, 6000, "t", namespace="kept")
    _tagged(cache, 300, "t")
    cache.delete_tag("kept", "t")
    assert cache.delete_tag("n", "t") == 300
    for number in range(70):
        cache.put("n", f"new {number}", VALUE, LIFE, now_ns=1)
    counters = cache.counters("n")
    assert (counters.deleted, counters.total) == (MOST_AT_ONCE + 6, 0), "it made room for others"
    assert cache.counters("kept").deleted < 6000, "of these there were enough to go first"
