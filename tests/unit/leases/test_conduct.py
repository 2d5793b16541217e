"""SEMANTICS 4: overrun is told, and the ledger raised to the truth; hoarding is shown and told."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host
from superezio.errors import QuotaExceededError
from superezio.wire import Lease
from supereziod.leases.manager import LeasePolicies
from supereziod.leases.quotas import Quota, QuotaRules
from supereziod.storage import StorageError

ME = caller_of()
PID = os.getpid()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


def use(host: LeaseHost, gib: float | None, *, passes: int = 3, apart_s: float = 1) -> None:
    """Let this process use so much on the large GPU, and have that read so often."""
    host.big.processes[PID] = None if gib is None else round(gib * GIB)
    for _ in range(passes):
        host.clock.advance(apart_s)
        host.monitor.read()


def reserved_gib(host: LeaseHost, lease: Lease) -> float:
    return host.leases.get(ME, lease.id).gpus[0].reserved_bytes / GIB


# --- overrun ------------------------------------------------------------------------------------


async def test_a_tenth_more_than_reserved_for_3_samples_is_an_overrun(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, prefer=[BIG])
    use(host, 4.5, passes=2)
    assert not host.only("lease.overrun")
    assert reserved_gib(host, lease) == 4
    use(host, 4.5, passes=1)
    (told,) = host.only("lease.overrun")
    assert (told.severity, told.gpu, told.lease) == ("warning", BIG, lease.id)
    assert told.data["reserved_bytes"] == 4 * GIB
    assert told.data["actual_bytes"] == round(4.5 * GIB)
    assert "4.5 GiB" in told.message


async def test_the_ledger_is_raised_to_the_truth_and_stays_there(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, prefer=[BIG])
    use(host, 6)
    assert reserved_gib(host, lease) == 6
    assert host.free(BIG) == 6 * GIB
    use(host, 1)
    assert host.free(BIG) == 6 * GIB, "what was raised is reserved, used or not"


async def test_up_to_a_tenth_more_is_borne(host: LeaseHost) -> None:
    lease = host.now(ME, vram=5, prefer=[BIG])
    use(host, 5.5, passes=9)
    assert not host.only("lease.overrun")
    assert reserved_gib(host, lease) == 5
    assert host.free(BIG) == 6.5 * GIB, "it counts as used nevertheless"


async def test_three_samples_in_a_row_and_not_in_a_moment(host: LeaseHost) -> None:
    host.now(ME, vram=4, prefer=[BIG])
    use(host, 5, passes=8, apart_s=0.1)
    use(host, 4, passes=1)
    for _ in range(3):
        use(host, 5, passes=2)
        use(host, 4, passes=1)
    assert not host.only("lease.overrun")


async def test_an_overrun_is_told_once_and_the_next_one_again(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, prefer=[BIG])
    use(host, 6, passes=9)
    assert len(host.only("lease.overrun")) == 1
    use(host, 8, passes=9)
    first, second = host.only("lease.overrun")
    assert (first.data["actual_bytes"], second.data["reserved_bytes"]) == (6 * GIB, 6 * GIB)
    assert reserved_gib(host, lease) == 8


async def test_a_holders_leases_are_added_up_and_its_newest_there_is_raised(
    host: LeaseHost,
) -> None:
    leases = [
        host.now(ME, vram=2, avoid=[SMALL]),
        host.now(ME, vram=2, avoid=[SMALL]),
        host.now(ME, vram=2, avoid=[BIG]),
    ]
    use(host, 4.2, passes=5)
    assert not host.only("lease.overrun")
    use(host, 7, passes=5)
    (told,) = host.only("lease.overrun")
    assert told.lease == leases[1].id
    assert [reserved_gib(host, lease) for lease in leases] == [2, 5, 2]


async def test_what_was_raised_is_raised_after_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=4, prefer=[BIG])
        use(before, 6)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert reserved_gib(after, lease) == 6
        assert after.free(BIG) == 6 * GIB


async def test_what_cannot_be_recorded_is_counted_as_used_and_tried_again(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME, vram=4, prefer=[BIG])

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(host.store, "put", full)
        use(host, 6, passes=5)
        assert reserved_gib(host, lease) == 4, "what is not on disk is not in memory"
        assert host.free(BIG) == 6 * GIB, "and nothing is promised to others that is in use"
        assert len(host.only("lease.overrun")) == 1
    use(host, 6, passes=1)
    assert reserved_gib(host, lease) == 6
    assert len(host.only("lease.overrun")) == 1


async def test_a_lease_that_is_growing_overruns_only_once_it_has_grown(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, prefer=[BIG], sizes_itself=True)
    for gib in (1, 5, 6, 8, 9):
        use(host, gib, passes=1)
    assert host.leases.get(ME, lease.id).state == "growing"
    assert not host.only("lease.overrun")
    use(host, 9, passes=5)
    assert host.only("lease.overrun")
    assert reserved_gib(host, lease) == 9


async def test_use_that_is_estimated_cannot_overrun(host: LeaseHost) -> None:
    lease = host.now(ME, vram=2, prefer=[BIG])
    host.big.foreign_bytes = 0
    use(host, None, passes=1)
    host.big.foreign_bytes = 6 * GIB
    use(host, None, passes=9)
    shown = host.leases.get(ME, lease.id).gpus[0]
    assert shown.actual_is_estimated
    assert shown.actual_bytes == shown.reserved_bytes == 2 * GIB
    assert not host.only("lease.overrun")


async def test_nothing_is_revoked_unless_policy_says_so(tmp_path: Path, host: LeaseHost) -> None:
    host.now(ME, vram=4, prefer=[BIG])
    use(host, 6, passes=5)
    assert not host.only("lease.draining")
    strict = LeasePolicies(on_overrun="revoke")
    (tmp_path / "strict").mkdir()
    async with lease_host(tmp_path / "strict", policies=strict) as other:
        lease = other.now(ME, vram=4, prefer=[BIG])
        use(other, 6, passes=9)
        (told,) = other.only("lease.draining")
        assert (told.lease, told.data["reason"]) == (lease.id, "overrun")
        assert "6.0 GiB" in told.message
        assert reserved_gib(other, lease) == 6


async def test_what_a_lease_is_raised_to_counts_for_the_quota(tmp_path: Path) -> None:
    rules = QuotaRules(default=Quota(vram_bytes=6 * GIB))
    async with lease_host(tmp_path, quotas=rules) as host:
        host.now(ME, vram=2, prefer=[BIG])
        use(host, 5, passes=5)
        with pytest.raises(QuotaExceededError):
            host.now(ME, vram=2, prefer=[BIG])
    async with lease_host(tmp_path, quotas=rules, clock=host.clock) as after:
        with pytest.raises(QuotaExceededError):
            after.now(ME, vram=2, prefer=[BIG])
        after.now(ME, vram=1, prefer=[SMALL])


async def test_a_raise_does_not_change_how_a_lease_was_split(host: LeaseHost) -> None:
    lease = host.now(ME, vram=14, split=True)
    shown = lease.tensor_split, lease.environment["SUPEREZIO_TENSOR_SPLIT"]
    use(host, 11, passes=5)
    after = host.leases.get(ME, lease.id)
    assert host.only("lease.overrun")
    assert (after.tensor_split, after.environment["SUPEREZIO_TENSOR_SPLIT"]) == shown
    assert [gpu.split_ratio for gpu in after.gpus] == [gpu.split_ratio for gpu in lease.gpus]


# --- hoarding -----------------------------------------------------------------------------------


def pause(host: LeaseHost, minutes: float) -> None:
    """Let time pass, with a reading every 30 s, as on a quiet host."""
    for _ in range(round(minutes * 2)):
        host.clock.advance(30)
        host.monitor.read()


def idle_s(host: LeaseHost, lease: Lease) -> float | None:
    return host.leases.get(ME, lease.id).idle_s


async def test_no_use_for_15_minutes_after_the_grant_is_idle(host: LeaseHost) -> None:
    lease = host.now(ME)
    assert lease.idle_s is None, "no reading has shown it yet"
    pause(host, 14.5)
    assert not host.only("lease.idle")
    assert idle_s(host, lease) == pytest.approx(14.5 * 60, abs=1)
    pause(host, 0.5)
    (told,) = host.only("lease.idle")
    assert (told.lease, told.severity) == (lease.id, "info")
    assert told.data["idle_s"] == pytest.approx(900, abs=1)
    assert "15m" in told.message


async def test_use_that_is_not_told_by_process_is_use(host: LeaseHost) -> None:
    host.now(ME, prefer=[BIG])
    use(host, None, passes=1)
    pause(host, 14)
    del host.big.processes[PID]
    pause(host, 2)
    assert not host.only("lease.idle")
    pause(host, 14)
    assert len(host.only("lease.idle")) == 1


async def test_an_idle_lease_that_is_to_end_may_stay_once_it_is_used(tmp_path: Path) -> None:
    strict = LeasePolicies(on_idle="revoke")
    async with lease_host(tmp_path, policies=strict) as host:
        lease = host.now(ME, prefer=[BIG])
        pause(host, 15)
        (order,) = host.only("lease.draining")
        assert (order.lease, order.data["reason"]) == (lease.id, "idle")
        use(host, 1, passes=1)
        assert host.leases.get(ME, lease.id).revocation is None
        assert [event.lease for event in host.only("lease.kept")] == [lease.id]
        pause(host, 2)
        assert host.leases.get(ME, lease.id).state == "active"


async def test_an_idle_lease_is_lost_where_policy_says_so(tmp_path: Path) -> None:
    strict = LeasePolicies(on_idle="revoke")
    async with lease_host(tmp_path, policies=strict) as host:
        lease = host.now(ME, prefer=[BIG])
        pause(host, 16)
        (lost,) = host.only("lease.lost")
        assert (lost.lease, lost.data["reason"]) == (lease.id, "revoked")


async def test_it_counts_from_the_last_use_and_is_told_once_each_time(host: LeaseHost) -> None:
    lease = host.now(ME, prefer=[BIG])
    pause(host, 14)
    use(host, 1, passes=1)
    assert idle_s(host, lease) is None
    del host.big.processes[PID]
    pause(host, 14.5)
    assert not host.only("lease.idle")
    pause(host, 20)
    assert len(host.only("lease.idle")) == 1
    use(host, 1, passes=1)
    host.big.processes[PID] = 0
    pause(host, 16)
    assert len(host.only("lease.idle")) == 2


async def test_a_lease_of_two_gpus_is_in_use_while_one_is(host: LeaseHost) -> None:
    lease = host.now(ME, vram=1, count=2)
    host.small.processes[PID] = GIB
    pause(host, 20)
    assert idle_s(host, lease) is None
    assert not host.only("lease.idle")


async def test_what_cannot_be_read_is_not_zero(host: LeaseHost) -> None:
    hidden, away = host.now(ME, vram=1, prefer=[BIG]), host.now(ME, vram=1, prefer=[SMALL])
    host.big.processes[PID] = None
    pause(host, 10)
    host.small.lost = True
    pause(host, 10)
    host.small.lost = False
    assert idle_s(host, hidden) is None
    pause(host, 10)
    assert not host.only("lease.idle")
    assert idle_s(host, away) == pytest.approx(600, abs=31), "nobody saw what was before"
    pause(host, 6)
    assert [told.lease for told in host.only("lease.idle")] == [away.id]


async def test_a_gpu_that_is_not_read_any_more_makes_no_lease_idle(host: LeaseHost) -> None:
    lease = host.now(ME, prefer=[BIG])
    pause(host, 14)
    host.big.hung = True
    pause(host, 5)
    assert not host.only("lease.idle")
    host.big.hung = False
    use(host, 1, passes=1)
    assert idle_s(host, lease) is None


async def test_a_lease_that_nobody_was_seen_to_hold_is_never_idle(host: LeaseHost) -> None:
    lease = host.now(caller_of(pid=0), mode="ttl", ttl_ms=86_400_000)
    pause(host, 20)
    assert idle_s(host, lease) is None
    assert not host.only("lease.idle")


async def test_after_a_restart_idleness_counts_from_there(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME)
        pause(before, 14)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert idle_s(after, lease) == pytest.approx(0, abs=1)
        pause(after, 14.5)
        assert not after.only("lease.idle")
        pause(after, 1)
        assert after.only("lease.idle")


async def test_gpus_that_were_read_before_the_leases_were_taken_up_say_nothing_of_use(
    tmp_path: Path,
) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME)
        pause(before, 14)
    after = LeaseHost(tmp_path, clock=before.clock)
    after.monitor.read()
    await after.leases.start()
    after.leases.ready()
    try:
        pause(after, 2)
        assert idle_s(after, lease) == pytest.approx(120, abs=1)
        assert not after.only("lease.idle")
    finally:
        await after.leases.aclose()


async def test_an_idle_lease_is_asked_for_only_where_policy_says_so(
    tmp_path: Path, host: LeaseHost
) -> None:
    host.now(ME)
    pause(host, 16)
    assert not host.only("lease.draining")
    strict = LeasePolicies(on_idle="revoke")
    (tmp_path / "strict").mkdir()
    async with lease_host(tmp_path / "strict", policies=strict) as other:
        lease = other.now(ME)
        pause(other, 30)
        (told,) = other.only("lease.draining")
        assert (told.lease, told.data["reason"]) == (lease.id, "idle")
