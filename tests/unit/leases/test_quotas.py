"""Quotas: of a user, and of all members of a group together; in the step of the grant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host, turn
from superezio.errors import NeverFitsError, QuotaExceededError, WaitTimeoutError
from superezio.wire import Lease, Placement, PlacementParams
from supereziod.leases.capacity import Request, Subject
from supereziod.leases.handles import Caller
from supereziod.leases.queue import LeaseQueue, Waiting
from supereziod.leases.quotas import GroupQuota, Quota, QuotaRules, Quotas

STUDENTS = 500
STAFF = 501
RULES = QuotaRules(
    default=Quota(vram_bytes=6 * GIB, leases=3),
    by_uid={7: Quota(vram_bytes=12 * GIB)},
    by_gid={STUDENTS: GroupQuota(name="students", vram_bytes=8 * GIB)},
)


def user(uid: int, *groups: int, **fields: Any) -> Caller:
    """Return a user with a connection of its own, whose processes are not visible."""
    return caller_of(0, uid=uid, groups=frozenset(groups), connection=f"c{uid}", **fields)


def now(host: LeaseHost, who: Caller, **params: Any) -> Lease:
    """Acquire for ten minutes, and insist on an answer at once."""
    return host.now(who, mode="ttl", ttl_ms=600_000, **params)


def later(host: LeaseHost, who: Caller, **params: Any) -> asyncio.Task[Lease]:
    """Acquire for ten minutes, and insist on an answer that has to be awaited."""
    return host.later(who, mode="ttl", ttl_ms=600_000, **params)


async def soon(lease: asyncio.Task[Lease]) -> Lease:
    """Return what is due: nothing else is to happen first."""
    async with asyncio.timeout(5):
        return await lease


async def explain(host: LeaseHost, who: Caller, gib: int) -> Placement:
    answer = host.leases.explain(who, PlacementParams(vram_bytes=gib * GIB))
    return answer if isinstance(answer, Placement) else await answer


ANNA, BEN, CLEO, SEVEN = user(1001, STUDENTS), user(1002, STUDENTS), user(1003), user(7)
BOSS = user(1004, STUDENTS, role="admin")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path, quotas=RULES) as host:
        yield host


# --- one user -----------------------------------------------------------------------------------


async def test_a_user_may_lease_up_to_its_quota_and_not_a_byte_more(host: LeaseHost) -> None:
    now(host, CLEO, vram=4)
    with pytest.raises(QuotaExceededError) as caught:
        now(host, CLEO, vram=2.001)
    assert caught.value.message == (
        "cannot lease: the quota of uid 1003 is 6.0 GiB, of which 4.0 GiB are leased,"
        " and this needs 2.0 GiB"
    )
    assert caught.value.data["scope"] == "user"
    assert caught.value.data["limit"] == 6 * GIB
    now(host, CLEO, vram=2)


async def test_the_amount_counts_over_all_gpus_of_a_lease(host: LeaseHost) -> None:
    with pytest.raises(QuotaExceededError):
        now(host, CLEO, vram=4, count=2)
    now(host, CLEO, vram=3, count=2)


async def test_a_split_lease_counts_once(host: LeaseHost) -> None:
    now(host, CLEO, vram=6, count=2, split=True)


async def test_so_many_leases_and_no_more(host: LeaseHost) -> None:
    for _ in range(3):
        now(host, CLEO, vram=1)
    with pytest.raises(QuotaExceededError, match="is 3 leases, of which 3 leases are leased"):
        now(host, CLEO, vram=1)


async def test_a_user_with_a_quota_of_its_own_is_not_held_to_the_default(host: LeaseHost) -> None:
    for _ in range(4):
        now(host, SEVEN, vram=3)
    with pytest.raises(QuotaExceededError, match="the quota of uid 7 is 12"):
        now(host, SEVEN, vram=1)


async def test_a_release_gives_the_quota_back(host: LeaseHost) -> None:
    lease = now(host, CLEO, vram=6)
    host.leases.release(CLEO, lease.id)
    host.monitor.read()
    now(host, CLEO, vram=6)


async def test_an_admin_is_held_to_no_quota_and_takes_none_from_a_group(host: LeaseHost) -> None:
    now(host, BOSS, vram=12)
    now(host, ANNA, vram=6)


# --- a group ------------------------------------------------------------------------------------


async def test_the_members_of_a_group_share_its_quota(host: LeaseHost) -> None:
    now(host, ANNA, vram=6)
    with pytest.raises(QuotaExceededError, match="the quota of group students is 8") as caught:
        now(host, BEN, vram=3)
    assert (caught.value.data["scope"], caught.value.data["name"]) == ("group", "students")
    now(host, BEN, vram=2)
    now(host, CLEO, vram=3)  # is no member


async def test_a_lease_counts_for_the_groups_its_user_was_in_when_it_was_granted(
    host: LeaseHost,
) -> None:
    """Whoever leaves a group, or connects without it, still has leased what it leased."""
    lease = now(host, ANNA, vram=6)
    outside = user(1001)
    with pytest.raises(QuotaExceededError, match="group students"):
        now(host, BEN, vram=3)
    host.leases.release(outside, lease.id)
    host.monitor.read()
    now(host, BEN, vram=3)


async def test_every_quota_that_applies_has_to_hold(tmp_path: Path) -> None:
    rules = QuotaRules(
        by_gid={
            STUDENTS: GroupQuota(name="students", vram_bytes=8 * GIB),
            STAFF: GroupQuota(name="staff", leases=1),
        }
    )
    both = user(1, STUDENTS, STAFF)
    async with lease_host(tmp_path, quotas=rules) as host:
        now(host, both, vram=1)
        with pytest.raises(QuotaExceededError, match="group staff is 1 lease, of which"):
            now(host, both, vram=1)
        now(host, user(2, STUDENTS), vram=7)
        with pytest.raises(QuotaExceededError, match="group students"):
            now(host, user(3, STUDENTS), vram=1)


async def test_quotas_hold_over_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path, quotas=RULES) as host:
        now(host, ANNA, vram=6)
    async with lease_host(tmp_path, quotas=RULES) as host:
        with pytest.raises(QuotaExceededError, match="uid 1001"):
            now(host, ANNA, vram=1)
        with pytest.raises(QuotaExceededError, match="group students"):
            now(host, BEN, vram=3)


async def test_a_group_that_gets_a_quota_has_leased_what_its_members_had(host: LeaseHost) -> None:
    now(host, user(1005, STAFF), vram=5)
    staff = {STAFF: GroupQuota(name="staff", vram_bytes=6 * GIB)}
    host.leases.set_quotas(QuotaRules(by_gid=staff))
    with pytest.raises(QuotaExceededError, match="group staff"):
        now(host, user(1006, STAFF), vram=2)


# --- who waits ----------------------------------------------------------------------------------


async def test_what_could_never_be_within_the_quota_is_refused_at_once(host: LeaseHost) -> None:
    with pytest.raises(QuotaExceededError, match=r"7\.0 GiB can never be had within it"):
        now(host, CLEO, vram=7, wait_ms=60_000)


async def test_what_one_quota_can_never_give_is_refused_whatever_another_says(
    tmp_path: Path,
) -> None:
    students = GroupQuota(name="students", vram_bytes=8 * GIB)
    rules = QuotaRules(default=Quota(vram_bytes=10 * GIB), by_gid={STUDENTS: students})
    async with lease_host(tmp_path, quotas=rules) as host:
        now(host, ANNA, vram=2)
        with pytest.raises(QuotaExceededError, match=r"group students is 8.* can never be had"):
            now(host, ANNA, vram=9, wait_ms=60_000)


async def test_one_that_is_over_its_quota_waits_with_that_reason_until_it_is_not(
    host: LeaseHost,
) -> None:
    first = now(host, CLEO, vram=5)
    waits = later(host, CLEO, vram=4, wait_ms=60_000)
    await turn()
    (waiter,) = host.leases.list(CLEO).queue
    assert waiter.reason == (
        "the quota of uid 1003 is 6.0 GiB, of which 5.0 GiB are leased, and this needs 4.0 GiB"
    )
    host.leases.release(CLEO, first.id)
    await turn()
    host.monitor.read()
    assert (await soon(waits)).gpus[0].reserved_bytes == 4 * GIB


async def test_one_that_is_over_its_quota_holds_no_gpu_from_those_behind_it(
    host: LeaseHost,
) -> None:
    now(host, CLEO, vram=5)
    waits = later(host, CLEO, vram=4, wait_ms=60_000, priority=5)
    await turn()
    other = now(host, SEVEN, vram=10)
    assert other.gpus[0].uuid == BIG
    behind = later(host, user(1010), vram=5, wait_ms=60_000)
    await turn()
    host.leases.release(SEVEN, other.id)
    await turn()
    host.monitor.read()
    assert (await soon(behind)).gpus[0].uuid == BIG
    assert not waits.done()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_a_small_one_does_not_take_the_quota_from_a_large_one_ahead_of_it(
    host: LeaseHost,
) -> None:
    """Else a user's, or a group's, large acquire would starve behind the small ones."""
    first = now(host, ANNA, vram=6)
    large = later(host, BEN, vram=5, wait_ms=60_000)
    await turn()
    # 2 of the 8 GiB of the group are left, and they are for the one that came first.
    with pytest.raises(QuotaExceededError, match=r"5\.0 GiB asked for before these 1\.0 GiB"):
        now(host, ANNA_TOO, vram=1)
    small = later(host, ANNA_TOO, vram=1, wait_ms=60_000)
    await turn()
    assert [waiter.uid for waiter in host.leases.list(BOSS).queue] == [1002, 1009]
    host.leases.release(ANNA, first.id)
    await turn()
    host.monitor.read()
    assert (await soon(large)).gpus[0].reserved_bytes == 5 * GIB
    assert await soon(small)


ANNA_TOO = user(1009, STUDENTS)


async def test_one_that_waits_for_room_is_not_put_over_its_quota_by_one_that_came_later(
    host: LeaseHost,
) -> None:
    """Else it had room at last, and not the quota that it had when it asked."""
    large = now(host, SEVEN, vram=10)
    waits = later(host, BEN, vram=6, wait_ms=60_000, avoid=[SMALL])
    await turn()
    with pytest.raises(QuotaExceededError, match=r"6\.0 GiB asked for before these 3\.0 GiB"):
        now(host, ANNA, vram=3)
    now(host, ANNA, vram=2, avoid=[BIG])
    host.leases.release(SEVEN, large.id)
    await turn()
    host.monitor.read()
    assert (await soon(waits)).gpus[0].uuid == BIG


async def test_one_that_waits_for_a_quota_is_passed_over_so_often_and_no_more(
    tmp_path: Path,
) -> None:
    """A group's member may not keep another out of the quota by asking with a higher priority."""
    rules = QuotaRules(by_gid={STUDENTS: GroupQuota(name="students", vram_bytes=8 * GIB)})
    async with lease_host(tmp_path, quotas=rules, queue=LeaseQueue(max_passed=3)) as host:
        leases = [now(host, ANNA, vram=2) for _ in range(4)]
        waits = later(host, BEN, vram=4, wait_ms=600_000)
        await turn()
        for _ in range(3):
            host.leases.release(ANNA, leases.pop(0).id)
            host.monitor.read()
            leases.append(now(host, ANNA, vram=2, priority=10))
        host.leases.release(ANNA, leases.pop(0).id)
        host.monitor.read()
        with pytest.raises(QuotaExceededError, match=r"4\.0 GiB asked for before these"):
            now(host, ANNA, vram=2, priority=10)
        host.leases.release(ANNA, leases.pop(0).id)
        host.monitor.read()
        assert (await soon(waits)).gpus[0].reserved_bytes == 4 * GIB


async def test_a_wait_for_a_quota_ends_at_its_deadline(host: LeaseHost) -> None:
    now(host, CLEO, vram=5)
    waits = later(host, CLEO, vram=4, wait_ms=1000)
    await turn()
    host.clock.advance(2)
    host.monitor.read()
    with pytest.raises(WaitTimeoutError, match="the quota of uid 1003"):
        await soon(waits)


async def test_other_quotas_are_in_force_at_once(host: LeaseHost) -> None:
    now(host, CLEO, vram=5)
    waits = later(host, CLEO, vram=4, wait_ms=60_000)
    await turn()
    host.leases.set_quotas(QuotaRules(default=Quota(vram_bytes=9 * GIB)))
    assert (await soon(waits)).gpus[0].reserved_bytes == 4 * GIB
    hopeless = later(host, CLEO, vram=8, wait_ms=60_000)
    await turn()
    host.leases.set_quotas(QuotaRules(default=Quota(vram_bytes=7 * GIB)))
    with pytest.raises(QuotaExceededError, match="can never be had"):
        await soon(hopeless)
    assert len(host.leases.list(CLEO).leases) == 2, "what was leased stands"


async def test_explain_says_which_quota_stands_against_it(host: LeaseHost) -> None:
    now(host, CLEO, vram=5)
    placement = await explain(host, CLEO, 4)
    assert (placement.decision, placement.chosen, placement.reserved) == ("wait", [], {})
    assert placement.quota == placement.summary
    assert {gpu.code for gpu in placement.gpus} == {"fits", "insufficient_vram"}
    assert (await explain(host, CLEO, 7)).decision == "never"
    assert (await explain(host, SEVEN, 4)).decision == "grant"


# --- against a plain account --------------------------------------------------------------------


def waiting(name: str, uid: int, groups: frozenset[int], gib: int) -> Waiting:
    return Waiting(
        id=name,
        uid=uid,
        request=Request(vram_bytes=gib * GIB),
        priority=0,
        enqueued_ns=0,
        deadline_ns=1,
        subject=Subject(uid=uid, groups=groups),
    )


STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.frozensets(st.sampled_from([STUDENTS, STAFF]), max_size=2),
        st.integers(1, 7),
        st.booleans(),
        st.integers(0, 9),
    ),
    max_size=30,
)


@given(STEPS)
def test_no_sequence_of_grants_and_ends_breaks_a_quota_or_refuses_within_all(
    steps: list[tuple[int, frozenset[int], int, bool, int]],
) -> None:
    rules = QuotaRules(
        default=Quota(vram_bytes=9 * GIB, leases=3),
        by_uid={3: Quota(leases=2)},
        by_gid={
            STUDENTS: GroupQuota(name="students", vram_bytes=12 * GIB),
            STAFF: GroupQuota(name="staff", leases=4),
        },
    )
    quotas = Quotas(rules)
    held: dict[str, tuple[Subject, int]] = {}
    for number, (uid, groups, gib, exempt, end) in enumerate(steps):
        if end < len(held) and end % 2:
            quotas.remove(lease := list(held)[end])
            del held[lease]
        subject = Subject(uid=uid, groups=groups, exempt=exempt)
        fits = exempt or _within(rules, [*held.values(), (subject, gib * GIB)], subject)
        assert (quotas.breach(subject, gib * GIB) is None) == fits
        if fits:
            held[str(number)] = subject, gib * GIB
            quotas.add(str(number), subject, gib * GIB)


def _within(rules: QuotaRules, leases: list[tuple[Subject, int]], asks: Subject) -> bool:
    """Sum all leases again, for each quota that applies to the one that asks."""
    own = rules.by_uid.get(asks.uid, rules.default)
    checks: list[tuple[Quota, list[int]]] = [
        (own, [size for subject, size in leases if subject.uid == asks.uid])
    ]
    for gid, group in rules.by_gid.items():
        if gid in asks.groups:
            sizes = [size for s, size in leases if gid in s.groups and not s.exempt]
            checks.append((group, sizes))
    return all(
        (quota.vram_bytes is None or sum(sizes) <= quota.vram_bytes)
        and (quota.leases is None or len(sizes) <= quota.leases)
        for quota, sizes in checks
    )


def test_without_any_quota_nobody_is_kept_back() -> None:
    quotas = Quotas()
    queue = LeaseQueue()
    first = waiting("a", 1, frozenset({STUDENTS}), 900)
    queue.add(first)
    assert quotas.line().look(first) is None
    subject = Subject(uid=1, groups=frozenset({STUDENTS}))
    assert quotas.newcomer(subject, 900 * GIB, queue=queue, priority=0) is None


def test_one_of_lower_priority_does_not_wait_in_front_of_a_newcomer() -> None:
    quotas = Quotas(QuotaRules(default=Quota(vram_bytes=8 * GIB)))
    subject = Subject(uid=1)
    quotas.add("lease", subject, 5 * GIB)
    queue = LeaseQueue()
    queue.add(waiting("a", 1, frozenset(), 6))
    assert quotas.newcomer(subject, 3 * GIB, queue=queue, priority=0) is not None
    assert quotas.newcomer(subject, 3 * GIB, queue=queue, priority=1) is None


# --- what nobody else can use -------------------------------------------------------------------


async def test_whoever_is_held_to_a_quota_has_a_gpu_alone_by_asking_for_all_of_it(
    host: LeaseHost,
) -> None:
    """A byte would keep everybody else off it, as all of it does, and count as a byte."""
    with pytest.raises(NeverFitsError, match="to have it alone within a quota, ask for all of it"):
        now(host, CLEO, vram=1, policy="exclusive")
    lease = now(host, CLEO, vram=6, policy="exclusive", prefer=[BIG])
    assert [gpu.uuid for gpu in lease.gpus] == [SMALL]
    assert lease.placement is not None
    assert lease.placement.gpus[0].code == "beyond_quota"
    assert host.leases.quotas_of(CLEO).quotas[0].vram_used_bytes == 6 * GIB
    now(host, BOSS, vram=1, policy="exclusive")


async def test_who_waits_for_a_gpu_alone_is_held_to_the_quotas_of_a_reload(host: LeaseHost) -> None:
    small = now(host, BOSS, vram=6, prefer=[SMALL])
    waiting = later(host, CLEO, vram=6, policy="exclusive", wait_ms=60_000)
    await turn()
    assert not waiting.done(), "the big one is not for it, within a quota"
    host.leases.set_quotas(QuotaRules())
    lease = await soon(waiting)
    assert lease.gpus[0].uuid == BIG
    hopeless = later(host, CLEO, vram=1, policy="exclusive", wait_ms=60_000)
    await turn()
    host.leases.set_quotas(RULES)
    with pytest.raises(NeverFitsError):
        await soon(hopeless)
    host.leases.release(CLEO, lease.id)
    host.leases.release(BOSS, small.id)


async def test_what_somebody_may_have_is_not_shown_to_others(host: LeaseHost) -> None:
    now(host, CLEO, vram=6)
    waiting = later(host, CLEO, vram=2, wait_ms=60_000)
    await turn()
    (shown,) = host.leases.list(ANNA).queue
    assert shown.reason == "a quota of its user stands against it"
    (own,) = host.leases.list(CLEO).queue
    assert "the quota of uid 1003 is 6.0 GiB" in own.reason
    waiting.cancel()
    await turn()
