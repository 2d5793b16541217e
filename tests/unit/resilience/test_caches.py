"""The cache as its callers meet it, over connections of several users (semantics 3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cache_host import ANN, BEN, EVE, MS, ROOT, CacheHost, Events, Line, limits, shared_with
from superezio.errors import (
    BusyError,
    ConflictError,
    FillFailedError,
    FillTimeoutError,
    InvalidParamsError,
    PermissionDeniedError,
)
from superezio.resilience.cache_limits import Quota
from superezio.resilience.namespaces import ENTRY_OVERHEAD_BYTES
from superezio.wire import (
    CacheAnswer,
    CacheDeleteParams,
    CacheFailed,
    CacheGetParams,
    CacheNamespace,
    CacheNamespaceParams,
    CacheSetParams,
    CacheStats,
    CacheStored,
)
from supereziod.resilience.cache_rules import CacheRules
from supereziod.resilience.caches import Caches

#: Each takes a moment: one that a fault lets hang is not waited for longer.
pytestmark = pytest.mark.timeout(20)

WITHIN_S = 5.0
COMMON = {"common": shared_with(ANN, BEN)}


@pytest.fixture
def host() -> Iterator[CacheHost]:
    made = CacheHost(shared=COMMON)
    yield made
    made.close()


async def _tick() -> None:
    await asyncio.sleep(0)


# --- fresh, stale, miss ---------------------------------------------------------------------------


async def test_a_fresh_hit_is_returned_with_its_age(host: CacheHost) -> None:
    ann = host.connect(ANN)
    assert ann.set("v") == CacheStored(accepted=True, stored=True)
    host.pass_ms(5)
    assert ann.get() == CacheAnswer(status="hit", text="v", age_ms=5)


@pytest.mark.parametrize("value", [b"\x00\xff", b"", "Ångström", ""], ids=repr)
async def test_text_and_bytes_come_back_as_they_were(host: CacheHost, value: str | bytes) -> None:
    ann = host.connect(ANN)
    waiting_token = ann.lead()
    waiting = ann.join()
    ann.set(value, token=waiting_token)
    for answer in (await waiting, ann.get()):
        assert (answer.data if isinstance(value, bytes) else answer.text) == value
        assert (answer.text if isinstance(value, bytes) else answer.data) is None


async def test_stale_within_grace_is_served_and_one_caller_refreshes(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.set("old", ttl_ms=10, grace_ms=100)
    host.pass_ms(10)
    first, second = other.get(), ann.get()
    assert (first.status, first.text, first.age_ms) == ("stale", "old", 10)
    assert first.token is not None
    assert second == CacheAnswer(status="stale", text="old", age_ms=10)
    assert other.set("new", token=first.token).stored
    assert ann.get().text == "new"


async def test_a_miss_joins_the_fill_or_leads_it(host: CacheHost) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = [other.join(), third.join()]
    assert ann.set("v", token=token) == CacheStored(accepted=True, stored=True)
    filled = CacheAnswer(status="filled", text="v")
    assert [await each for each in waiting] == [filled, filled]


async def test_a_plain_get_neither_leads_nor_waits(host: CacheHost) -> None:
    ann = host.connect(ANN)
    assert ann.get(fill=False) == CacheAnswer(status="miss")
    ann.lead()
    assert ann.get(fill=False) == CacheAnswer(status="miss")
    ann.set("v", ttl_ms=10, grace_ms=100)
    assert ann.get(fill=False).status == "hit"
    host.pass_ms(10)
    assert ann.get(fill=False) == CacheAnswer(status="stale", text="v", age_ms=10)
    (counted,) = _private(_stats(ann))
    assert (counted.counters.misses, counted.counters.hits) == (3, 1)
    assert counted.counters.stale_served == 1


async def test_where_too_many_fetch_one_fetches_for_itself(host: CacheHost) -> None:
    host = CacheHost(limits=limits(max_leads_per_holder=1, max_leads_per_user=2))
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    ann.lead("a")
    assert ann.get("b") == CacheAnswer(status="miss")
    other.lead("c")
    assert third.get("d") == CacheAnswer(status="miss"), "two of this user's lead"
    host.connect(BEN).lead("d")
    host.close()


# --- leaders that deliver nothing -----------------------------------------------------------------


async def test_of_a_leader_that_disconnects_exactly_one_waiter_takes_the_place(
    host: CacheHost,
) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting, last = other.join(), third.join()
    ann.close()
    promoted = await waiting
    assert promoted.status == "lead"
    assert promoted.token not in {None, token}
    assert not last.done()
    assert other.set("v", token=promoted.token).accepted
    assert (await last).text == "v"


@pytest.mark.parametrize("how", ["fails to deliver", "is too late"])
async def test_of_one_that_fails_or_is_late_exactly_one_waiter_takes_the_place(
    host: CacheHost, how: str
) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    token = ann.lead(lead_ms=50)
    waiting, last = other.join(lead_ms=50), third.join(lead_ms=50)
    if how == "is too late":
        host.pass_ms(50)
    else:
        assert ann.fail(token, None) == CacheFailed(accepted=True)
    assert (await waiting).status == "lead"
    assert not last.done()
    assert ann.set("late", token=token) == CacheStored(accepted=False, stored=False)
    assert not last.done()


async def test_the_loop_itself_ends_waits_and_replaces_those_who_are_late() -> None:
    """With the real clock: nothing else calls, and a millisecond is soon over."""
    caches = Caches(rules=CacheRules(limits=limits()), events=Events())
    host = CacheHost()
    host.caches, host.now = caches, time.monotonic_ns()
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    ann.lead(lead_ms=20)
    short = other.join(wait_ms=1)
    long = third.join(wait_ms=60_000)
    with pytest.raises(FillTimeoutError):
        await asyncio.wait_for(short, WITHIN_S)
    assert (await asyncio.wait_for(long, WITHIN_S)).status == "lead"
    caches.close()


async def test_an_earlier_deadline_is_not_missed_for_a_later_one(host: CacheHost) -> None:
    caches = Caches(rules=CacheRules(limits=limits()), events=Events())
    host.caches = caches
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.lead(lead_ms=60_000)
    long = other.join(wait_ms=60_000)
    with pytest.raises(FillTimeoutError):
        await asyncio.wait_for(other.join(wait_ms=1), WITHIN_S)
    assert not long.done()
    caches.close()


async def test_a_leader_that_reports_an_error_gives_it_to_all_current_waiters(
    host: CacheHost,
) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = [other.join() for _ in range(100)]
    assert ann.fail(token, "HTTP 503") == CacheFailed(accepted=True)
    for each in waiting:
        with pytest.raises(FillFailedError, match=r"could not: HTTP 503$") as failed:
            await each
        assert failed.value.data == {"namespace": "n"}
    assert other.get().status == "lead", "errors are never cached, and nobody ran it again"


async def test_an_old_value_stands_in_for_an_error(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.set(b"old", ttl_ms=10, stale_if_error_ms=100)
    host.pass_ms(20)
    token = ann.lead()
    waiting = other.join()
    assert ann.fail(token) == CacheFailed(accepted=True, data=b"old", age_ms=20)
    assert await waiting == CacheAnswer(status="stale", data=b"old", age_ms=20)


async def test_where_the_leader_was_turned_away_the_first_leads_and_the_rest_wait_on(
    host: CacheHost,
) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    first, rest = other.join(), third.join()
    assert ann.fail(token, "RateLimitedError", pass_on=True) == CacheFailed(accepted=True)
    assert (await first).status == "lead"
    await _tick()
    assert not rest.done()
    rest.cancel()


async def test_an_old_value_stands_in_for_a_leader_that_was_turned_away(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.set(b"old", ttl_ms=10, stale_if_error_ms=100)
    host.pass_ms(20)
    token = ann.lead()
    waiting = other.join()
    failed = ann.fail(token, "BreakerOpenError", pass_on=True)
    assert failed == CacheFailed(accepted=True, data=b"old", age_ms=20)
    assert (await waiting).status == "stale"


async def test_each_waiter_has_its_own_deadline(host: CacheHost) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    short, long = other.join(wait_ms=5), third.join(wait_ms=10)
    host.pass_ms(5)
    with pytest.raises(FillTimeoutError, match="still fetching it after 5 ms") as late:
        await asyncio.wait_for(short, WITHIN_S)
    assert late.value.data == {"namespace": "n"}
    ann.set("v", token=token)
    assert (await long).text == "v"


async def test_a_large_value_for_many_is_given_to_some_after_others_were_worked_for() -> None:
    host = CacheHost(limits=limits(max_value_bytes=1 << 20))
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = [other.join() for _ in range(20)]
    large = "x" * (256 << 10)
    ann.set(large, token=token)
    assert [each.done() for each in waiting] == [True] * 8 + [False] * 12
    waiting[10].cancel()
    ann.lead("small")
    small = host.connect(ANN).join("small")
    ann.close()
    assert (await small).status == "lead", "no lead waits for that"
    await _tick()
    given = [await asyncio.wait_for(each, WITHIN_S) for each in waiting if not each.cancelled()]
    assert len(given) == 19
    assert {each.text for each in given} == {large}
    host.close()


async def test_a_message_of_a_leader_is_one_printable_line_of_bounded_length(
    host: CacheHost,
) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = other.join()
    ann.fail(token, "a\n\x1b[31mb\x00 " + "x" * 10_000)
    with pytest.raises(FillFailedError) as failed:
        await waiting
    assert failed.value.message.isprintable()
    assert "a ?[31mb? xxx" in failed.value.message
    assert len(failed.value.message) < 600


# --- requests that are gone -----------------------------------------------------------------------


async def test_a_request_that_is_cancelled_waits_no_more(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.lead()
    waiting = other.join()
    waiting.cancel()
    await _tick()
    (namespace,) = _private(_stats(ann))
    assert (namespace.waiting, namespace.fills) == (0, 1)


@pytest.mark.parametrize("gone", [1, 3])
async def test_a_lead_that_reaches_a_request_that_is_gone_passes_on_at_once(
    host: CacheHost, gone: int
) -> None:
    """In one turn of the loop: what a cancellation calls back has not been called yet."""
    ann, *others, last = (host.connect(ANN) for _ in range(gone + 2))
    ann.lead()
    cancelled = [each.join() for each in others]
    waiting = last.join()
    for each in cancelled:
        each.cancel()
    ann.close()
    assert waiting.done(), "no turn of the loop is needed for that"
    assert (await waiting).status == "lead"


async def test_where_all_who_wait_are_gone_whoever_comes_next_leads(host: CacheHost) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    ann.lead()
    other.join().cancel()
    ann.close()
    third.lead()


async def test_a_connection_that_ends_leads_and_waits_no_more(host: CacheHost) -> None:
    ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
    ann.lead("a")
    other.lead("b")
    ann_waits = ann.join("b")
    third_waits = third.join("a")
    ann.close()
    other.close()
    await _tick()
    assert ann_waits.cancelled()
    assert (await third_waits).status == "lead"
    third.lead("b")


# --- tokens ---------------------------------------------------------------------------------------


async def test_a_token_counts_once_and_only_over_its_own_connection(host: CacheHost) -> None:
    ann, other, ben = host.connect(ANN), host.connect(ANN), host.connect(BEN)
    token = ann.lead("k", "common")
    waiting = ben.join("k", "common")
    nothing = CacheStored(accepted=False, stored=False)
    for thief in (other, ben):
        assert thief.set("stolen", "k", "common", token=token) == nothing
        assert thief.fail(token, namespace="common") == CacheFailed(accepted=False)
    for wrong in ({"key": "other"}, {"namespace": "n"}):
        assert ann.set("x", **{"key": "k", "namespace": "common", **wrong}, token=token) == nothing
    assert not waiting.done()
    assert ann.set("v", "k", "common", token=token).accepted
    assert (await waiting).text == "v"
    assert ann.set("w", "k", "common", token=token) == nothing
    assert ann.get("k", "common").text == "v"


@pytest.mark.parametrize("token", ["", "x", "A" * 40, "ä" * 40, "!" * 40, "0" * 10_000])
async def test_a_token_that_was_made_up_counts_nothing(host: CacheHost, token: str) -> None:
    ann = host.connect(ANN)
    real = ann.lead()
    assert not ann.set("v", token=token).accepted
    assert not ann.fail(token).accepted
    assert ann.set("v", token=real).accepted


# --- setting and deleting -------------------------------------------------------------------------


async def test_an_invalidation_during_the_fill_wins(host: CacheHost) -> None:
    for how in ("key", "tag", "clear"):
        ann, other, third = host.connect(ANN), host.connect(ANN), host.connect(ANN)
        token = ann.lead(how)
        before = other.join(how)
        if how == "clear":
            host.caches.clear(ann.caller, CacheNamespaceParams(namespace="n"))
        else:
            ann.delete(**{how: how if how == "key" else "t"})
        after = third.join(how)
        outdated = CacheStored(accepted=True, stored=False, not_stored="outdated")
        assert ann.set("v", how, tags=["t"], token=token) == outdated
        assert (await before).text == "v"
        assert (await after).status == "lead", "it asked after it"


async def test_a_value_that_is_set_goes_to_who_waits(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = other.join()
    other.set("set")
    assert (await waiting).text == "set"
    outdated = CacheStored(accepted=True, stored=False, not_stored="outdated")
    assert ann.set("filled", token=token) == outdated
    assert ann.get().text == "set"


async def test_a_time_beyond_the_longest_is_cut_and_that_is_told(host: CacheHost) -> None:
    ann = host.connect(ANN)
    most_ms = 30 * 86_400_000
    assert ann.set("v", ttl_ms=most_ms).ttl_ms is None
    assert ann.set("v", ttl_ms=most_ms + 1).ttl_ms == most_ms


async def test_keys_and_tags_are_deleted(host: CacheHost) -> None:
    ann = host.connect(ANN)
    for key in ("a", "b", "c"):
        ann.set(key=key, tags=["t"] if key != "c" else [])
    assert ann.delete(tag="t") == 2
    assert ann.delete(key="c") == 1
    assert ann.delete(key="c") == 0
    assert ann.delete(key="c", namespace="never-used") == 0


async def test_a_value_over_the_cap_reaches_its_waiters_and_is_not_stored(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead()
    waiting = other.join()
    large = "x" * 2001
    assert ann.set(large, token=token) == CacheStored(
        accepted=True, stored=False, not_stored="too_large", max_bytes=2000
    )
    assert (await waiting).text == large
    assert ann.get(fill=False).status == "miss"


# --- whose a namespace is -------------------------------------------------------------------------


async def test_nobody_reads_another_users_namespace(host: CacheHost) -> None:
    ann, ben = host.connect(ANN), host.connect(BEN)
    ann.set("ann's")
    assert ben.get(fill=False).status == "miss"
    token = ben.lead()
    assert ben.delete(key="k") == 0
    ben.set("ben's", token=token)
    assert ann.get() == CacheAnswer(status="hit", text="ann's", age_ms=0)


async def test_no_name_leads_into_anothers_namespace(host: CacheHost) -> None:
    ann, eve = host.connect(ANN), host.connect(EVE)
    ann.set("ann's")
    ann.set("common's", namespace="common")
    for name in ("1000:n", "1000/n", "common:", "x:common"):
        assert eve.get(namespace=name, fill=False).status == "miss"
    for name in ("", ":n", ":common", "../n", "n" * 65, "n\0"):
        with pytest.raises(InvalidParamsError, match="name has to be"):
            eve.get(namespace=name, fill=False)


async def test_a_shared_one_is_one_for_those_who_share_it(host: CacheHost) -> None:
    ann, ben, eve = host.connect(ANN), host.connect(BEN), host.connect(EVE)
    ann.set("v", namespace="common")
    assert ben.get(namespace="common") == CacheAnswer(status="hit", text="v", age_ms=0, shared=True)
    for refused in (
        lambda: eve.get(namespace="common", fill=False),
        lambda: eve.ask(namespace="common"),
        lambda: eve.set("x", namespace="common"),
        lambda: eve.fail("t", namespace="common"),
        lambda: eve.delete(key="k", namespace="common"),
        lambda: host.caches.clear(eve.caller, CacheNamespaceParams(namespace="common")),
    ):
        with pytest.raises(PermissionDeniedError, match="cannot use the namespace common"):
            refused()


async def test_one_that_is_shared_no_more_is_emptied_and_each_users_own(host: CacheHost) -> None:
    ann, ben = host.connect(ANN), host.connect(BEN)
    ann.set("v", namespace="common")
    host.caches.set_shared({})
    assert ben.get(namespace="common", fill=False).status == "miss"
    ann.set("mine", namespace="common")
    host.caches.set_shared(COMMON)
    assert ben.get(namespace="common", fill=False).status == "miss"


async def test_who_shares_and_how_much_changes_while_it_runs(host: CacheHost) -> None:
    ann, eve = host.connect(ANN), host.connect(EVE)
    for key in ("a", "b", "c"):
        ann.set("v", key, "common")
    host.caches.set_shared({"common": shared_with(EVE, quota=Quota(10**6, 2))})
    assert eve.get("c", "common", fill=False).text == "v"
    assert eve.get("a", "common", fill=False).status == "miss", "two entries are left"
    with pytest.raises(PermissionDeniedError):
        ann.get("c", "common", fill=False)


async def test_who_waits_in_what_is_anothers_now_waits_no_more(host: CacheHost) -> None:
    ann, ben, mine = host.connect(ANN), host.connect(BEN), host.connect(ANN)
    token = ann.lead(namespace="common")
    refused, kept = ben.join(namespace="common"), mine.join(namespace="common")
    host.caches.set_shared({"common": shared_with(ANN)})
    with pytest.raises(PermissionDeniedError, match="cannot use the namespace common"):
        await asyncio.wait_for(refused, WITHIN_S)
    assert not kept.done()
    host.caches.set_shared({})
    with pytest.raises(ConflictError, match="who shares the namespace common: ask again"):
        await asyncio.wait_for(kept, WITHIN_S)
    assert not ann.set("v", namespace="common", token=token).accepted
    assert ben.get(namespace="common", fill=False).status == "miss"
    await _tick()
    mine.lead(namespace="common")
    assert sum(each.waiting for each in _stats(host.connect(ROOT)).namespaces) == 0


async def test_what_one_had_under_a_name_that_is_shared_now_is_gone(host: CacheHost) -> None:
    ann = host.connect(ANN)
    ann.set("mine", namespace="new")
    host.caches.set_shared({**COMMON, "new": shared_with(ANN, BEN)})
    assert ann.get(namespace="new", fill=False).status == "miss"
    assert _stats(ann).entries == 0


async def test_parts_are_passed_from_one_to_another_and_never_more_than_there_is() -> None:
    size = 100 * (ENTRY_OVERHEAD_BYTES + 10)
    most, none = Quota(size, 100, size, 100), Quota(size, 100)
    host = CacheHost(
        limits=limits(max_bytes=size, max_entries=100),
        shared={"a": shared_with(ANN, quota=most), "b": shared_with(ANN, quota=none)},
    )
    ann = host.connect(ANN)
    ann.set("v", "k", "a")
    swapped = {"b": shared_with(ANN, quota=most), "a": shared_with(ANN, quota=none)}
    host.caches.set_shared(swapped)
    ann.set("v", "k", "b")
    assert ann.get("k", "b", fill=False).status == "hit"
    with pytest.raises(ConflictError, match="cannot guarantee 232400 bytes and 200 entries"):
        host.caches.set_shared(dict.fromkeys(("a", "b"), shared_with(BEN, quota=most)))
    assert ann.get("k", "b", fill=False).status == "hit", "nothing has changed"
    host.close()


async def test_one_clears_ones_own_and_an_admin_what_is_shared_or_anothers(
    host: CacheHost,
) -> None:
    ann, ben, root = host.connect(ANN), host.connect(BEN), host.connect(ROOT)

    def clear(line: Line, namespace: str, uid: int | None = None) -> int:
        params = CacheNamespaceParams(namespace=namespace, uid=uid)
        return host.caches.clear(line.caller, params).entries

    for line in (ann, ben):
        line.set("v")
    ann.set("v", namespace="common")
    assert clear(ann, "n") == 1
    with pytest.raises(PermissionDeniedError, match="cannot clear a namespace of another user"):
        clear(ann, "n", BEN.uid)
    with pytest.raises(PermissionDeniedError, match="which others use, too: only an admin can"):
        clear(ann, "common")
    assert ben.get().status == "hit"
    assert clear(root, "n", BEN.uid) == 1
    assert clear(root, "common") == 1
    assert clear(ann, "n", ANN.uid) == 0
    told = [(each.type, each.uid, each.data["by_uid"]) for each in host.events.told]
    assert told == [
        ("cache.cleared", 1000, 1000),
        ("cache.cleared", 1001, 0),
        ("cache.cleared", None, 0),
        ("cache.cleared", 1000, 1000),
    ]


async def test_many_that_are_cleared_go_without_another_request(host: CacheHost) -> None:
    ann = host.connect(ANN)
    for number in range(1000):
        ann.set("v", key=str(number))
    params = CacheNamespaceParams(namespace="n")
    assert host.caches.clear(ann.caller, params).entries == 1000
    assert ann.get(key="999", fill=False).status == "miss"
    async with asyncio.timeout(WITHIN_S):
        while _stats(ann).entries:
            await _tick()


async def test_many_that_are_deleted_by_tag_go_without_another_request(host: CacheHost) -> None:
    ann = host.connect(ANN)
    for number in range(1000):
        ann.set("v", key=str(number), tags=["t"])
    params = CacheDeleteParams(namespace="n", tag="t")
    assert host.caches.delete(ann.caller, params).entries == 1000
    assert ann.get(key="999", fill=False).status == "miss"
    async with asyncio.timeout(WITHIN_S):
        while _stats(ann).entries:
            await _tick()


async def test_one_who_clears_at_request_rate_is_told_of_by_a_count(host: CacheHost) -> None:
    ann, root = host.connect(ANN), host.connect(ROOT)
    own, common = CacheNamespaceParams(namespace="n"), CacheNamespaceParams(namespace="common")
    for _ in range(300):
        host.caches.clear(ann.caller, own)
        host.caches.clear(root.caller, common)
    assert [each.uid for each in host.events.told].count(ANN.uid) == 200
    assert [each.uid for each in host.events.told].count(None) == 300, "of what is shared, each"
    host.now += 1000 * MS
    host.caches.clear(ann.caller, own)
    assert host.events.told[-1].data["left_out"] == 100


# --- what is told ---------------------------------------------------------------------------------


def _stats(line: Line) -> CacheStats:
    return line.host.caches.stats(line.caller)


def _private(stats: CacheStats) -> list[CacheNamespace]:
    return [each for each in stats.namespaces if not each.shared]


async def test_one_sees_ones_own_and_what_one_shares_and_an_admin_all(host: CacheHost) -> None:
    ann, eve, root = host.connect(ANN), host.connect(EVE), host.connect(ROOT)
    ann.set("secret")
    ann.lead("other")
    ann.join("other")
    seen = {(each.namespace, each.uid) for each in _stats(ann).namespaces}
    assert seen == {("common", None), ("n", 1000)}
    assert _stats(eve).namespaces == []
    eve.get(fill=False)
    assert {(each.namespace, each.uid) for each in _stats(eve).namespaces} == {("n", 1002)}
    stats = _stats(root)
    all_seen = {(each.namespace, each.uid) for each in stats.namespaces}
    assert all_seen == {("common", None), ("n", 1000), ("n", 1002)}
    mine = next(each for each in stats.namespaces if each.uid == ANN.uid)
    assert (mine.entries, mine.fills, mine.waiting) == (1, 1, 1)
    assert mine.used_bytes == stats.used_bytes > len("secret")
    assert (mine.counters.stored, mine.counters.misses) == (1, 2)


async def test_values_are_in_no_statistics_event_or_error(host: CacheHost) -> None:
    ann, root = host.connect(ANN), host.connect(ROOT)
    ann.set("VALUE", tags=["VALUE-TAG"])
    host.caches.clear(ann.caller, CacheNamespaceParams(namespace="n"))
    with pytest.raises(InvalidParamsError) as refused:
        host.caches.set(
            ann.caller, CacheSetParams(namespace="n", key="k", text="VALUE", data=b"VALUE")
        )
    said = repr((_stats(root), host.events.told, str(refused.value), refused.value.data))
    assert "VALUE" not in said


# --- what one user can take -----------------------------------------------------------------------


async def test_a_thousand_namespaces_evict_nothing_that_is_guaranteed_to_others() -> None:
    entry = ENTRY_OVERHEAD_BYTES + 10
    bounds = limits(
        max_bytes=20 * entry,
        owner=Quota(14 * entry, 1000, 5 * entry, 5),
        max_promised=2,
    )
    host = CacheHost(limits=bounds, namespaces_per_uid=1000)
    ann, eve = host.connect(ANN), host.connect(EVE)
    for key in "abcdefgh":
        ann.set("v", key)
    for number in range(1000):
        eve.set("v", "k", f"n{number}")
    kept = [key for key in "abcdefgh" if ann.get(key, fill=False).status == "hit"]
    assert len(kept) >= 5
    stats = _stats(host.connect(ROOT))
    assert sum(each.used_bytes for each in stats.namespaces if each.uid == EVE.uid) <= 14 * entry
    assert stats.used_bytes <= 20 * entry
    host.close()


async def test_a_user_has_so_many_namespaces_in_use_and_no_more() -> None:
    host = CacheHost(namespaces_per_uid=2)
    ann = host.connect(ANN)
    ann.set("v", namespace="a", ttl_ms=1000)
    ann.lead(namespace="b")
    with pytest.raises(BusyError, match="has 2 namespaces of the cache in use") as refused:
        ann.get(namespace="c", fill=False)
    assert refused.value.data == {"limit": "namespaces_per_uid"}
    assert refused.value.retry_after_ms == 1000
    host.connect(BEN).set("v", namespace="c")
    ann.delete(key="k", namespace="a")
    host.pass_ms(400)
    with pytest.raises(BusyError) as refused:
        ann.set("v", namespace="c")
    assert refused.value.retry_after_ms == 600, "they are not looked through each time"
    host.pass_ms(600)
    assert ann.set("v", namespace="c").stored, "what is empty gives its place"
    assert {each.namespace for each in _stats(ann).namespaces} == {"b", "c"}
    assert ann.set("v", namespace="b").stored
    host.close()


async def test_so_many_requests_of_a_user_wait_and_no_more() -> None:
    host = CacheHost(waiters_per_uid=2, shared=COMMON)
    ann, other = host.connect(ANN), host.connect(ANN)
    token = ann.lead(namespace="common")
    first, second = other.join(namespace="common"), ann.join(namespace="common")
    with pytest.raises(BusyError, match="2 requests of uid 1000 wait") as refused:
        other.ask(namespace="common")
    assert refused.value.data == {"limit": "waiters_per_uid"}
    ben = host.connect(BEN).join(namespace="common")
    first.cancel()
    await _tick()
    third = other.join(namespace="common")
    ann.set("v", namespace="common", token=token)
    assert {(await each).text for each in (second, third, ben)} == {"v"}
    host.close()


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"key": ""}, "key has to be 1 to 512 characters"),
        ({"key": "k" * 513}, "key has to be 1 to 512 characters"),
        ({"ttl_ms": 0}, "ttl_ms has to be 1 or more"),
        ({"grace_ms": -1}, "grace_ms has to be 0 or more"),
        ({"stale_if_error_ms": -1}, "stale_if_error_ms has to be 0 or more"),
        ({"tags": ["t"] * 17}, "up to 16 tags, not 17"),
        ({"tags": [""]}, "a tag has to be 1 to 128 characters"),
        ({"tags": ["t" * 129]}, "a tag has to be 1 to 128 characters"),
        ({"data": b""}, "either text, or data"),
        ({"text": None}, "either text, or data"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_and_stores_nothing(
    host: CacheHost, params: dict[str, object], what: str
) -> None:
    ann = host.connect(ANN)
    with pytest.raises(InvalidParamsError, match=what):
        ann.set(**{"text": "v", **params})  # type: ignore[arg-type]
    assert _stats(ann).entries == 0


@pytest.mark.parametrize("params", [{"wait_ms": -1}, {"lead_ms": 0}])
async def test_times_that_make_no_sense_are_refused(
    host: CacheHost, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParamsError, match=f"{next(iter(params))} has to be"):
        host.connect(ANN).ask(**params)


async def test_no_time_is_longer_than_it_may_be() -> None:
    host = CacheHost(max_ttl_ns=10 * MS, max_wait_ns=20 * MS, max_lead_ns=30 * MS)
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.set("v", "old", ttl_ms=10**30, grace_ms=10**30)
    host.pass_ms(10)
    assert ann.get("old", fill=False).status == "stale"
    host.pass_ms(10)
    assert ann.get("old", fill=False).status == "miss"
    ann.lead(lead_ms=10**30)
    short = other.join(wait_ms=10**30)
    host.pass_ms(20)
    with pytest.raises(FillTimeoutError):
        await asyncio.wait_for(short, WITHIN_S)
    host.pass_ms(10)
    other.lead()
    host.close()


async def test_deleting_takes_a_key_or_a_tag(host: CacheHost) -> None:
    ann = host.connect(ANN)
    for params in ({}, {"key": "k", "tag": "t"}):
        with pytest.raises(InvalidParamsError, match="a key or a tag"):
            ann.delete(**params)
    for params in ({"key": ""}, {"tag": "t" * 129}):
        with pytest.raises(InvalidParamsError, match="characters"):
            ann.delete(**params)


async def test_a_request_that_has_to_wait_has_changed_nothing(host: CacheHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    ann.lead()
    before = _stats(ann)
    for _ in range(3):
        params = CacheGetParams(namespace="n", key="k", fill=True)
        assert host.caches.get(other.caller, params) is None
    assert _stats(ann) == before
