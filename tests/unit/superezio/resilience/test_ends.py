"""When entries end: found one at a time, with little kept of those that are gone (semantics 3)."""

from __future__ import annotations

from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import Value
from superezio.resilience.cache_limits import Lifetime, Limits, Quota

VALUE = Value(b"v")
ROOMY = Quota(max_bytes=10**9, max_entries=10**6)


def _cache(owner: Quota = ROOMY) -> Cache:
    limits = Limits(10**9, 10**6, 1000, ROOMY, owner=owner)
    return Cache(limits, jitter=lambda: 0.5, owner_of=lambda name: name.split()[0])


def _put(cache: Cache, namespace: str, key: str, ttl_ns: int, now_ns: int = 0) -> None:
    cache.put(namespace, key, VALUE, Lifetime(ttl_ns), now_ns=now_ns)


def test_little_is_kept_of_entries_that_are_gone() -> None:
    cache = _cache()
    for number in range(5000):
        _put(cache, "ann 1", "k", 10**9 - number)
    space = cache._spaces["ann 1"]
    assert space.owner is not None
    for ends in (cache._entries._ends, space.ends, space.owner.ends):
        assert len(ends) < 100


def test_a_full_owner_lets_its_expired_go_before_its_live_however_many_there_are() -> None:
    cache = _cache(owner=Quota(10**9, 300))
    for number in range(300):
        _put(cache, "ben 1", str(number), 1000)
    _put(cache, "ann 2", "live", 10**9)
    for number in range(299):
        _put(cache, "ann 1", str(number), 2000)
    _put(cache, "ann 3", "new", 10**9, now_ns=10**6)
    assert cache.peek("ann 2", "live", now_ns=10**6) is not None
    assert (cache.counters("ann 1").expired, cache.counters("ann 2").quota) == (1, 0)


def test_a_full_owner_lets_what_it_cleared_go_before_its_live() -> None:
    cache = _cache(owner=Quota(10**9, 300))
    _put(cache, "ann 2", "live", 10**9)
    for number in range(299):
        _put(cache, "ann 1", str(number), 10**9)
    assert cache.clear("ann 1") == 299
    for number in range(299):
        _put(cache, "ann 1", str(number), 10**9)
    assert cache.peek("ann 2", "live", now_ns=0) is not None
    assert cache.usage("ann 1").entries == 299
    assert cache.totals().quota == 0


def test_where_much_has_gone_the_others_are_sifted_a_few_with_each_that_goes() -> None:
    cache = _cache()
    for number in range(3000):
        _put(cache, "ann 1", str(number), 10**9 + number)
    ends, kept = cache._entries._ends, dict(cache._entries._kept)
    while not ends._unsifted:
        kept.popitem()
        ends.tidy(len(kept), kept)
    assert len(ends) == 3000
    remaining = len(kept)
    assert remaining == 3000 - 1043, "of three one is gone, and 64"
    for number in range(3000, 3010):
        _put(cache, "ann 1", str(number), number)
        kept[number + 1] = cache._entries._kept[number + 1]
    for number in range(3000, 3010):
        first = ends.first_dead(10**6, kept)
        assert first is not None
        assert first.key == str(number), "what is sifted and what is not are one group"
        del kept[first.number]
    steps = 0
    while ends._unsifted:
        before = len(ends._unsifted)
        ends.tidy(len(kept), kept)
        assert before - len(ends._unsifted) <= 4
        steps += 1
    assert steps >= 3000 // 4 - 3
    ended = []
    while (first := ends.first_dead(10**10, kept)) is not None:
        ended.append(first.number)
        del kept[first.number]
    assert ended == sorted(ended)
    assert len(ended) == remaining
