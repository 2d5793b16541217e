"""Leases from acquire to release, as the rules of their lifetime have it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, ask, caller_of, child, lease_host, turn, until
from superezio.errors import (
    BusyError,
    CancelledRequestError,
    ConflictError,
    GpusUnavailableError,
    HolderGoneError,
    HolderNotVisibleError,
    InvalidParamsError,
    NeverFitsError,
    NoCapacityError,
    PermissionDeniedError,
    QueueFullError,
    ShuttingDownError,
    StaleLeaseError,
    StateNotWritableError,
    WaitTimeoutError,
)
from superezio.wire import Lease, LeaseAttachParams, Placement, PlacementParams
from supereziod.gpu.hardware import Block, Fault
from supereziod.leases.queue import LeaseQueue
from supereziod.observability.correlation import RequestScope, in_scope


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


ME = caller_of()


# --- granting -----------------------------------------------------------------------------------


async def test_a_lease_is_answered_at_once_where_everything_is_fresh(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, name="llama")
    assert lease.gpus[0].uuid == SMALL  # best fit
    assert lease.gpus[0].reserved_bytes == 4 * GIB
    assert lease.state == "granted"
    assert lease.holder[0].pid == os.getpid()
    assert host.monitor.asked == []


async def test_the_environment_names_gpus_by_uuid(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, count=2)
    both = ",".join(gpu.uuid for gpu in lease.gpus)
    assert lease.environment == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": both,
        "NVIDIA_VISIBLE_DEVICES": both,
        "SUPEREZIO_CDI_DEVICES": ",".join(f"nvidia.com/gpu={gpu.uuid}" for gpu in lease.gpus),
        "SUPEREZIO_LEASE": lease.id,
    }


async def test_two_acquires_in_one_tick_fit_alone_and_not_together(host: LeaseHost) -> None:
    host.now(ME, vram=10)
    with pytest.raises(NoCapacityError) as refused:
        host.now(ME, vram=10)
    assert refused.value.data["placement"]["decision"] == "wait"
    assert len(refused.value.data["placement"]["gpus"]) == 2


async def test_a_granted_lease_counts_before_its_model_is_loaded(host: LeaseHost) -> None:
    host.now(ME, vram=10)
    host.monitor.read()
    assert host.free(BIG) == 2 * GIB


async def test_what_can_never_fit_is_not_queued(host: LeaseHost) -> None:
    with pytest.raises(NeverFitsError) as refused:
        host.now(ME, vram=13, wait_ms=60_000)
    assert refused.value.data["placement"]["decision"] == "never"
    assert refused.value.message.startswith("cannot lease: this host can never hold 13.0 GiB: GPU")


async def test_ids_are_random(host: LeaseHost) -> None:
    one, other = host.now(ME, vram=1), host.now(ME, vram=1)
    assert one.id != other.id
    assert len(one.id) == 24


async def test_the_priority_is_capped_by_what_the_caller_may(host: LeaseHost) -> None:
    assert host.now(ME, vram=1, priority=99).priority == 10


@pytest.mark.parametrize(
    "params",
    [
        {"wait_ms": -1},
        {"name": ""},
        {"name": "x" * 129},
        {"vram": 0},
        {"count": 0},
        {"prefer": ["GPU"] * 65},
        {"mode": "connection", "holder_pid": 1},
        {"key": ""},
    ],
)
async def test_parameters_nobody_can_mean_are_refused(
    host: LeaseHost, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParamsError):
        host.now(ME, **params)


async def test_a_user_has_so_many_leases_and_others_are_served(tmp_path: Path) -> None:
    async with lease_host(tmp_path, max_leases_per_uid=2, max_leases=3) as host:
        for _ in range(2):
            host.now(ME, vram=1)
        with pytest.raises(BusyError):
            host.now(ME, vram=1)
        other = caller_of(uid=4711, pid=0)
        host.now(other, vram=1, mode="connection")
        with pytest.raises(BusyError, match="in all"):
            host.now(other, vram=1, mode="connection")


async def test_a_driver_that_is_not_there_is_named(host: LeaseHost) -> None:
    host.monitor.gpus.clear()
    host.monitor.driver_fault = Fault(kind="no_driver", message="the driver is not loaded")
    host.monitor.changed()
    with pytest.raises(
        GpusUnavailableError, match=r"the driver is not loaded\. Load the NVIDIA kernel module"
    ) as refusal:
        host.now(ME)
    assert refusal.value.retry_after_ms is None, "somebody has to load it first"


# --- who holds it -------------------------------------------------------------------------------


async def test_a_pidfd_of_the_peer_confirms_the_holder(host: LeaseHost) -> None:
    with child() as process:
        assert host.now(process.caller()).holder_confirmed


async def test_without_a_pidfd_the_reply_names_pid_and_start_time(tmp_path: Path) -> None:
    async with lease_host(tmp_path, peer_pidfds=False) as host:
        with child() as process:
            lease = host.now(process.caller())
            assert not lease.holder_confirmed
            stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
            assert lease.holder[0].start_time == int(stat.rpartition(")")[2].split()[19])
            confirmed = host.leases.attach(
                process.caller(),
                LeaseAttachParams(
                    lease=lease.id, pid=process.pid, start_time=lease.holder[0].start_time
                ),
            )
            assert confirmed.holder_confirmed
            assert len(confirmed.holder) == 1


async def test_without_a_pidfd_another_users_process_is_no_peer(tmp_path: Path) -> None:
    async with lease_host(tmp_path, peer_pidfds=False) as host:
        with pytest.raises(HolderGoneError, match="another user"):
            host.now(caller_of(uid=4711))


async def test_a_peer_that_is_not_visible_is_offered_a_connection_lease(host: LeaseHost) -> None:
    hidden = caller_of(pid=0)
    with pytest.raises(HolderNotVisibleError, match="connection lease"):
        host.now(hidden)
    assert host.now(hidden, mode="connection").holder == []


async def test_a_holder_that_is_gone_is_refused_and_nothing_is_granted(host: LeaseHost) -> None:
    with child() as process:
        process.kill()
        with pytest.raises(HolderGoneError):
            host.now(process.caller())
        with pytest.raises(HolderGoneError):
            host.now(ME, holder_pid=process.pid)
    assert host.leases.list(ME).leases == []
    assert host.store.load() == ([], [])


@pytest.mark.parametrize("mode", ["connection", "ttl"])
async def test_a_lease_that_lives_by_something_else_needs_no_process(
    host: LeaseHost, mode: str
) -> None:
    """A connection outlives the process that made it, where another one has it too."""
    with child() as process:
        caller = process.caller()
        process.kill()
        lease = host.now(caller, mode=mode)
        assert lease.holder == []
        assert host.leases.get(caller, lease.id).mode == mode
        with pytest.raises(HolderGoneError):
            host.now(caller, mode="ttl", holder_pid=process.pid)


async def test_a_pidfd_that_became_another_file_binds_nothing(host: LeaseHost) -> None:
    with child() as process, Path("/dev/null").open("rb") as another:
        for pidfd in (another.fileno(), os.pidfd_open(os.getpid()), 10_000):
            with pytest.raises(HolderGoneError):
                host.now(process.caller(pidfd=pidfd))
            if pidfd not in (another.fileno(), 10_000):
                os.close(pidfd)


async def test_a_process_of_ones_own_can_be_named_as_holder(host: LeaseHost) -> None:
    with child() as process:
        lease = host.now(ME, holder_pid=process.pid)
        assert [each.pid for each in lease.holder] == [process.pid]
        assert not lease.holder_confirmed


async def test_a_process_of_somebody_else_can_not(host: LeaseHost) -> None:
    with child() as process:
        with pytest.raises(PermissionDeniedError):
            host.now(caller_of(uid=4711), holder_pid=process.pid)
        assert host.now(caller_of(uid=4711, role="admin"), holder_pid=process.pid)


@pytest.mark.parametrize("pid", [-1, 0, 1 << 31, 1 << 32, 10**20])
async def test_what_can_be_no_pid_is_no_process(host: LeaseHost, pid: int) -> None:
    lease = host.now(ME, vram=1)
    with pytest.raises(HolderGoneError, match="there is no such process"):
        host.now(ME, vram=1, holder_pid=pid)
    with pytest.raises(HolderGoneError, match="there is no such process"):
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=pid))


async def test_the_lease_ends_with_the_last_attached_process(host: LeaseHost) -> None:
    with child() as one, child() as other:
        lease = host.now(one.caller())
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=other.pid))
        one.kill()
        await until(lambda: len(host.leases.get(ME, lease.id).holder) == 1)
        assert "lease.released" not in host.types()
        other.kill()
        await until(lambda: "lease.released" in host.types())
        with pytest.raises(StaleLeaseError):
            host.leases.get(ME, lease.id)


async def test_a_start_time_that_is_another_is_another_process(host: LeaseHost) -> None:
    lease = host.now(ME)
    with child() as process, pytest.raises(HolderGoneError, match="start time"):
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=process.pid, start_time=1))


async def test_a_foreign_process_or_lease_is_not_attached(host: LeaseHost) -> None:
    lease = host.now(ME)
    theirs = host.now(caller_of(uid=4711, pid=0, connection="c2"), vram=1, mode="connection")
    with child() as process:
        with pytest.raises(PermissionDeniedError):
            host.leases.attach(ME, LeaseAttachParams(lease=theirs.id, pid=process.pid))
        with pytest.raises(StaleLeaseError):
            host.leases.attach(ME, LeaseAttachParams(lease="gone", pid=process.pid))
    with pytest.raises(HolderGoneError):
        host.leases.attach(ME, LeaseAttachParams(lease=lease.id, pid=-1))


async def test_two_leases_of_one_process_count_its_vram_once(host: LeaseHost) -> None:
    for _ in range(2):
        host.now(ME, vram=2, prefer=[BIG], avoid=[SMALL])
    host.big.processes[os.getpid()] = 4 * GIB
    host.monitor.read()
    assert host.free(BIG) == 8 * GIB
    assert host.leases.usage()[BIG].foreign_bytes == 0


async def test_attaching_a_shared_process_makes_one_holder_of_two(host: LeaseHost) -> None:
    with child() as one, child() as other:
        first = host.now(one.caller(), vram=2, avoid=[SMALL])
        host.now(other.caller(), vram=2, avoid=[SMALL])
        host.big.processes = {one.pid: 4 * GIB, other.pid: 0}
        host.monitor.read()
        assert host.free(BIG) == 6 * GIB
        host.leases.attach(ME, LeaseAttachParams(lease=first.id, pid=other.pid))
        host.monitor.read()
        assert host.free(BIG) == 8 * GIB


# --- releasing ----------------------------------------------------------------------------------


async def test_release_is_idempotent(host: LeaseHost) -> None:
    lease = host.now(ME)
    assert host.leases.release(ME, lease.id).released
    assert not host.leases.release(ME, lease.id).released
    with pytest.raises(StaleLeaseError):
        host.leases.get(ME, lease.id)


async def test_only_its_owner_or_an_admin_releases_a_lease(host: LeaseHost) -> None:
    lease = host.now(ME)
    with pytest.raises(PermissionDeniedError):
        host.leases.release(caller_of(uid=4711), lease.id)
    assert host.leases.release(caller_of(uid=4711, role="admin"), lease.id).released


async def test_released_vram_is_offered_again_when_the_driver_shows_it_free(
    host: LeaseHost,
) -> None:
    with child() as process:
        host.now(process.caller(), vram=10)
        host.big.processes[process.pid] = 10 * GIB
        host.monitor.read()
        process.kill()
        await until(lambda: "lease.released" in host.types())
        waiting = host.later(ME, vram=10)
        await turn()
        assert waiting.done()
        with pytest.raises(NoCapacityError):
            await waiting
        host.big.processes.clear()
        host.monitor.read()
        host.now(ME, vram=10)


async def test_vram_that_does_not_come_back_is_an_alarm(host: LeaseHost) -> None:
    lease = host.now(ME, vram=10)
    host.big.processes[os.getpid()] = 10 * GIB
    host.monitor.read()
    host.leases.release(ME, lease.id)
    host.clock.advance(6)
    host.monitor.read()
    assert "lease.unreturned" in host.types()


async def test_an_acquire_after_a_release_has_the_gpus_read_again(host: LeaseHost) -> None:
    host.leases.release(ME, host.now(ME, vram=10).id)
    lease = await host.later(ME, vram=10)
    assert lease.gpus[0].uuid == BIG


# --- fresh readings -----------------------------------------------------------------------------


async def test_readings_older_than_a_second_are_taken_again(host: LeaseHost) -> None:
    host.clock.advance(2)
    lease = await host.later(ME)
    assert lease.state == "granted"
    assert host.monitor.asked == [(1.0, 0.025)]


async def test_a_gpu_that_hangs_does_not_hold_up_the_other(host: LeaseHost) -> None:
    host.clock.advance(2)
    host.small.hung = True
    lease = await host.later(ME)
    assert lease.gpus[0].uuid == BIG
    assert len(host.monitor.asked) == 1


async def test_a_slow_gpu_is_waited_for_where_no_other_admits(host: LeaseHost) -> None:
    host.clock.advance(2)
    host.big.hung = True
    asking = host.later(ME, vram=10)
    await turn()
    with pytest.raises(NoCapacityError) as refused:
        await asking
    assert [patience for _, patience in host.monitor.asked] == [0.025, 2.0, 0.025]
    reasons = {gpu["uuid"]: gpu["code"] for gpu in refused.value.data["placement"]["gpus"]}
    assert reasons[BIG] == "settling"


async def test_the_others_are_read_again_after_a_slow_gpu_was_waited_for(host: LeaseHost) -> None:
    """Their passes are too old by then, and what is said of them would be that alone."""
    host.now(ME, vram=4, prefer=[SMALL])
    host.clock.advance(2)
    host.big.hung = True
    with pytest.raises(NoCapacityError) as refused:
        await host.later(ME, vram=5)
    reasons = {gpu["uuid"]: gpu["code"] for gpu in refused.value.data["placement"]["gpus"]}
    assert reasons == {BIG: "settling", SMALL: "insufficient_vram"}


async def test_explain_reads_the_gpus_and_gives_a_reason_for_every_one(host: LeaseHost) -> None:
    now = host.leases.explain(ME, PlacementParams(vram_bytes=10 * GIB))
    assert isinstance(now, Placement)
    host.clock.advance(2)
    later = host.leases.explain(ME, PlacementParams(vram_bytes=10 * GIB))
    assert not isinstance(later, Placement)
    assert (await later).chosen == now.chosen == [BIG]
    assert len(now.gpus) == 2


# --- the queue ----------------------------------------------------------------------------------


async def full(host: LeaseHost) -> Lease:
    """Take all of the big GPU."""
    return host.now(ME, vram=12)


async def test_a_waiter_is_granted_when_there_is_room(host: LeaseHost) -> None:
    lease = await full(host)
    waiting = host.later(ME, vram=8, wait_ms=60_000, name="next")
    await turn()
    (waiter,) = host.leases.list(ME).queue
    assert (waiter.position, waiter.name) == (1, "next")
    assert waiter.remaining_s == pytest.approx(60, abs=0.1)
    assert waiter.reason
    host.leases.release(ME, lease.id)
    host.monitor.read()
    assert (await waiting).gpus[0].uuid == BIG
    assert host.leases.list(ME).queue == []


async def test_a_release_has_the_gpus_read_for_those_who_wait(host: LeaseHost) -> None:
    lease = await full(host)
    waiting = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    host.leases.release(ME, lease.id)
    assert await waiting


async def test_waiters_are_served_in_order(host: LeaseHost) -> None:
    lease = await full(host)
    first = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    second = host.later(ME, vram=7, wait_ms=60_000)
    urgent = host.later(ME, vram=8, wait_ms=60_000, priority=5)
    await turn()
    assert [waiter.vram_bytes // GIB for waiter in host.leases.list(ME).queue] == [8, 8, 7]
    host.leases.release(ME, lease.id)
    host.monitor.read()
    await turn()
    assert (urgent.done(), first.done(), second.done()) == (True, False, False)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_newcomer_does_not_pass_those_who_wait(host: LeaseHost) -> None:
    await full(host)
    host.small.block = Block(code="hot", message="it is hot")
    host.monitor.changed()
    waiting = host.later(ME, vram=4, wait_ms=60_000)
    await turn()
    host.small.block = None
    host.monitor.changed()
    assert (await waiting).gpus[0].uuid == SMALL
    another = host.later(ME, vram=5, wait_ms=60_000)
    await turn()
    with pytest.raises(NoCapacityError):
        host.now(ME, vram=2)
    another.cancel()
    await turn()
    host.now(ME, vram=2)


async def test_a_waiter_is_not_passed_over_for_ever_by_grants_at_once(tmp_path: Path) -> None:
    async with lease_host(tmp_path, queue=LeaseQueue(max_passed=3)) as host:
        host.now(ME, vram=7)
        waiting = host.later(ME, vram=10, wait_ms=60_000)
        await turn()
        for _ in range(3):
            newcomer = host.now(ME, vram=4, priority=9, avoid=[SMALL])
            host.leases.release(ME, newcomer.id)
            host.monitor.read()
        with pytest.raises(NoCapacityError, match="kept for an acquire ahead"):
            host.now(ME, vram=4, priority=9, avoid=[SMALL])
        waiting.cancel()
        await turn()


async def test_a_wait_ends_with_its_reasons(host: LeaseHost) -> None:
    await full(host)
    waiting = host.later(ME, vram=8, wait_ms=5_000)
    await turn()
    host.clock.advance(5.001)
    host.monitor.changed()
    with pytest.raises(WaitTimeoutError) as late:
        await waiting
    assert late.value.data["placement"]["decision"] == "wait"
    assert "lease.expired" in host.types()


async def test_one_timer_ends_waits_without_any_change_of_the_gpus(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        await full(host)
        waits = [host.later(ME, vram=8, wait_ms=wait) for wait in (30, 10, 20)]
        await turn()
        host.clock.advance(1)
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(result) for result in results] == [WaitTimeoutError] * 3


async def test_a_cancelled_acquire_leaves_the_queue(host: LeaseHost) -> None:
    lease = await full(host)
    waiting = host.later(ME, vram=8, wait_ms=60_000)
    behind = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    waiting.cancel()
    await turn()
    assert len(host.leases.list(ME).queue) == 1
    host.leases.release(ME, lease.id)
    host.monitor.read()
    assert await behind


async def test_a_caller_that_vanishes_in_the_moment_of_its_grant_leaks_nothing(
    host: LeaseHost,
) -> None:
    lease = await full(host)
    waiting = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    host.leases.release(ME, lease.id)
    host.monitor.read()  # grants; the task has not been told yet
    assert len(host.leases.list(ME).leases) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert host.leases.list(ME).leases == []
    host.monitor.read()
    assert host.free(BIG) == 12 * GIB


async def test_a_connection_that_closes_takes_its_waiters_along(host: LeaseHost) -> None:
    await full(host)
    waiting = host.later(caller_of(connection="c7"), vram=8, wait_ms=60_000)
    await turn()
    host.leases.connection_closed("c7")
    with pytest.raises(CancelledRequestError):
        await waiting
    assert host.leases.list(ME).queue == []


async def test_a_holder_that_dies_while_it_waits_leaves_the_queue(host: LeaseHost) -> None:
    await full(host)
    with child() as process:
        waiting = host.later(process.caller(), vram=8, wait_ms=60_000)
        await turn()
        process.kill()
        with pytest.raises(HolderGoneError):
            await waiting
    assert host.leases.list(ME).queue == []


async def test_a_holder_that_dies_with_its_grant_leaks_nothing(host: LeaseHost) -> None:
    with child() as process:
        lease = host.now(process.caller(), vram=10)
        process.kill()
        await until(lambda: "lease.released" in host.types())
    assert host.store.load()[0] == []
    assert host.only("lease.released")[0].lease == lease.id


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async with lease_host(tmp_path, queue=LeaseQueue(capacity=1)) as host:
        await full(host)
        waiting = host.later(ME, vram=8, wait_ms=60_000)
        with pytest.raises(QueueFullError):
            await host.later(ME, vram=8, wait_ms=60_000)
        waiting.cancel()
        await turn()


async def test_those_who_wait_are_told_that_the_daemon_stops(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        await full(host)
        waiting = host.later(ME, vram=8, wait_ms=60_000)
        await turn()
    with pytest.raises(ShuttingDownError):
        await waiting
    with pytest.raises(ShuttingDownError):
        host.now(ME)


async def test_the_monitor_reads_more_often_while_leases_change(host: LeaseHost) -> None:
    host.now(ME)
    assert host.monitor.busy[-1] is True
    host.monitor.read()
    assert host.monitor.busy[-1] is True, "whoever has a lease is about to use it"
    host.clock.advance(31)
    host.monitor.read()
    assert host.monitor.busy[-1] is False


async def test_a_gpu_that_is_lost_is_not_waited_for(host: LeaseHost) -> None:
    """What was released on it is free, or not, once it answers again: nobody asks until then."""
    lease = host.now(ME, prefer=[BIG])
    host.big.processes[os.getpid()] = GIB
    host.monitor.read()
    host.big.hung = host.big.lost = True
    host.monitor.changed()
    host.leases.release(ME, lease.id)
    host.clock.advance(31)
    host.monitor.read(host.small)
    await turn()
    assert host.monitor.busy[-1] is False
    asked = len(host.monitor.asked)
    for _ in range(20):
        host.clock.advance(1)
        host.monitor.read(host.small)
        await turn()
    assert len(host.monitor.asked) == asked
    host.big.hung = host.big.lost = False
    host.big.processes.clear()
    host.monitor.read()
    assert host.free(BIG) == 12 * GIB


# --- idempotency --------------------------------------------------------------------------------


async def test_a_retried_acquire_returns_the_same_lease(host: LeaseHost) -> None:
    lease = host.now(ME, key="k", wait_ms=10)
    again = host.now(ME, key="k", wait_ms=20)
    assert again.id == lease.id
    assert len(host.leases.list(ME).leases) == 1
    assert host.now(ME, key="other", vram=1).id != lease.id


async def test_the_same_key_with_other_parameters_is_a_conflict(host: LeaseHost) -> None:
    host.now(ME, key="k")
    with pytest.raises(ConflictError):
        host.now(ME, key="k", vram=5)


async def test_keys_are_each_users_own(host: LeaseHost) -> None:
    lease = host.now(ME, key="k", vram=1)
    other = host.now(caller_of(uid=4711, pid=0), key="k", vram=2, mode="connection")
    assert other.id != lease.id


async def test_a_retry_while_the_first_waits_gets_the_same_lease(host: LeaseHost) -> None:
    lease = await full(host)
    first = host.later(ME, vram=8, wait_ms=60_000, key="k")
    await turn()
    again = host.later(caller_of(connection="c2"), vram=8, wait_ms=60_000, key="k")
    await turn()
    assert len(host.leases.list(ME).queue) == 1
    first.cancel()  # its connection is gone
    host.leases.connection_closed("c1")
    await turn()
    host.leases.release(ME, lease.id)
    host.monitor.read()
    assert (await again).gpus[0].uuid == BIG


async def test_a_retry_during_the_reading_is_not_granted_twice(host: LeaseHost) -> None:
    host.clock.advance(2)
    host.monitor.held = asyncio.Event()
    both = [host.later(ME, vram=2, key="k") for _ in range(2)]
    await turn()
    host.monitor.held.set()
    one, other = await asyncio.gather(*both)
    assert one.id == other.id


# --- connection leases --------------------------------------------------------------------------


async def test_a_connection_lease_has_a_grace_in_which_it_is_resumed(host: LeaseHost) -> None:
    lease = host.now(ME, mode="connection")
    with pytest.raises(ConflictError):
        host.leases.resume(caller_of(connection="c2"), lease.id)
    host.leases.connection_closed("c1")
    assert host.leases.get(ME, lease.id).state == "orphaned"
    resumed = host.leases.resume(caller_of(connection="c2"), lease.id)
    assert resumed.state == "granted"
    host.clock.advance(6)
    host.monitor.read()
    assert host.leases.get(ME, lease.id).state == "granted"


async def test_after_the_grace_the_lease_is_lost(host: LeaseHost) -> None:
    lease = host.now(ME, mode="connection")
    host.leases.connection_closed("c1")
    host.clock.advance(5.001)
    host.monitor.changed()
    assert "lease.lost" in host.types()
    with pytest.raises(StaleLeaseError):
        host.leases.resume(caller_of(connection="c2"), lease.id)


async def test_only_connection_leases_are_resumed_and_only_by_their_user(host: LeaseHost) -> None:
    lease = host.now(ME, vram=1)
    with pytest.raises(InvalidParamsError):
        host.leases.resume(ME, lease.id)
    mine = host.now(ME, vram=1, mode="connection")
    host.leases.connection_closed("c1")
    with pytest.raises(PermissionDeniedError):
        host.leases.resume(caller_of(uid=4711), mine.id)


async def test_a_retry_on_a_new_connection_takes_the_lease_there(host: LeaseHost) -> None:
    lease = host.now(ME, mode="connection", key="k")
    again = host.now(caller_of(connection="c2"), mode="connection", key="k")
    assert again.id == lease.id
    host.leases.connection_closed("c1")
    assert host.leases.get(ME, lease.id).state == "granted"
    host.leases.connection_closed("c2")
    assert host.leases.get(ME, lease.id).state == "orphaned"


async def test_what_the_peer_of_a_connection_lease_uses_counts_for_it(host: LeaseHost) -> None:
    host.now(ME, vram=10, mode="connection")
    host.big.processes[os.getpid()] = 10 * GIB
    host.monitor.read()
    assert host.free(BIG) == 2 * GIB


# --- states and what is shown -------------------------------------------------------------------


async def test_a_lease_is_active_once_its_processes_use_vram(host: LeaseHost) -> None:
    lease = host.now(ME)
    host.monitor.read()
    assert host.leases.get(ME, lease.id).state == "granted"
    host.small.processes[os.getpid()] = GIB
    host.monitor.read()
    shown = host.leases.get(ME, lease.id)
    assert shown.state == "active"
    assert shown.gpus[0].actual_bytes == GIB
    assert host.leases.usage()[SMALL].lease_of_pid == {os.getpid(): lease.id}
    assert host.types().count("lease.active") == 1


async def test_what_is_personal_is_shown_to_its_owner_and_admins(host: LeaseHost) -> None:
    with in_scope(RequestScope(correlation_id="corr-1")):
        lease = host.now(ME, name="secret")
    assert lease.correlation_id == "corr-1"
    other = caller_of(uid=4711)
    for shown in (host.leases.get(other, lease.id), host.leases.list(other).leases[0]):
        assert (shown.name, shown.holder, shown.environment) == (None, [], {})
        assert shown.correlation_id is None
        assert shown.uid == os.getuid()
    admin = host.leases.get(caller_of(uid=4711, role="admin"), lease.id)
    assert (admin.name, admin.correlation_id) == ("secret", "corr-1")


async def test_what_happens_to_a_lease_is_told_under_the_request_that_asked(
    host: LeaseHost,
) -> None:
    lease = await full(host)
    with in_scope(RequestScope(correlation_id="corr-2")):
        waiting = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    assert host.leases.list(ME).queue[0].correlation_id == "corr-2"
    with in_scope(RequestScope(correlation_id="corr-3")):
        host.leases.release(ME, lease.id)
        host.monitor.read()
    granted = await waiting
    assert granted.correlation_id == "corr-2"
    assert host.only("lease.granted")[-1].correlation_id == "corr-2"
    assert host.only("lease.released")[-1].correlation_id == "corr-3"
    host.big.processes[os.getpid()] = GIB
    host.monitor.read()
    assert host.only("lease.active")[-1].correlation_id == "corr-2"


async def test_overcommitment_names_who_grew(host: LeaseHost) -> None:
    host.now(ME, vram=10)
    host.big.processes[1] = 4 * GIB
    host.monitor.read()
    (event,) = host.only("gpu.overcommitted")
    assert event.data["pids"] == [1]
    host.big.processes.clear()
    host.monitor.read()
    assert host.only("gpu.overcommitted")[-1].data["over"] is True


# --- after a restart ----------------------------------------------------------------------------


async def test_live_leases_stand_after_a_restart(tmp_path: Path) -> None:
    with child() as process:
        async with lease_host(tmp_path) as host:
            lease = host.now(process.caller(), vram=10, name="model", key="k")
        async with lease_host(tmp_path) as host:
            shown = host.leases.get(ME, lease.id)
            assert (shown.name, shown.holder, shown.granted_at) == (
                "model",
                lease.holder,
                lease.granted_at,
            )
            assert host.free(BIG) == 2 * GIB
            assert host.now(process.caller(), vram=10, name="model", key="k").id == lease.id
            process.kill()
            await until(lambda: "lease.released" in host.types())


async def test_nothing_is_granted_before_one_pass_came_in(tmp_path: Path) -> None:
    async with lease_host(tmp_path, read=False) as host:
        host.monitor.held = asyncio.Event()
        asking = host.later(ME)
        await turn()
        assert not asking.done()
        host.monitor.held.set()
        assert await asking


async def test_a_pass_from_before_the_start_does_not_count(tmp_path: Path) -> None:
    host = LeaseHost(tmp_path)
    host.monitor.read()
    host.clock.advance(0.1)
    host = LeaseHost(tmp_path, store=host.store, clock=host.clock)
    host.monitor.gpus[0].read(host.clock() - 1)
    await host.leases.start()
    host.leases.ready()
    try:
        assert host.leases.usage()[BIG].leasable_bytes == 0
        assert await host.later(ME)
    finally:
        await host.leases.aclose()


async def test_leases_whose_processes_ended_meanwhile_are_over(tmp_path: Path) -> None:
    with child() as process:
        async with lease_host(tmp_path) as host:
            lease = host.now(process.caller(), vram=10)
    async with lease_host(tmp_path) as host:
        assert host.leases.list(ME).leases == []
        assert host.only("lease.lost")[0].lease == lease.id
        assert host.store.load()[0] == []


async def test_another_boot_voids_all(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        lease = host.now(ME)
    async with lease_host(tmp_path, boot_id="boot-two") as host:
        assert host.leases.list(ME).leases == []
        assert host.only("lease.lost")[0].lease == lease.id
    async with lease_host(tmp_path) as host:
        assert host.leases.list(ME).leases == []


async def test_connection_leases_have_a_longer_grace_after_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        lease = host.now(ME, mode="connection", vram=1)
        other = host.now(ME, mode="connection", vram=1)
    async with lease_host(tmp_path) as host:
        assert host.leases.get(ME, lease.id).state == "orphaned"
        host.clock.advance(20)
        host.leases.ready()
        host.clock.advance(29)
        host.leases.resume(caller_of(connection="new"), lease.id)
        host.clock.advance(2)
        host.monitor.read()
        assert [each.id for each in host.leases.list(ME).leases] == [lease.id]
        assert host.only("lease.lost")[0].lease == other.id


async def test_a_connection_lost_before_the_daemon_is_ready_has_the_grace_of_a_start(
    tmp_path: Path,
) -> None:
    async with lease_host(tmp_path) as host:
        lease = host.now(ME, mode="connection", vram=1)
    async with lease_host(tmp_path, ready=False) as host:
        host.leases.resume(caller_of(connection="new"), lease.id)
        host.leases.connection_closed("new")
        assert host.only("lease.orphaned")[-1].data["grace_s"] == 30
        host.clock.advance(1)
        host.leases.ready()
        host.clock.advance(29)
        host.monitor.read()
        assert host.leases.get(ME, lease.id).state == "orphaned"
        host.leases.resume(caller_of(connection="newer"), lease.id)
        host.leases.connection_closed("newer")
        assert host.only("lease.orphaned")[-1].data["grace_s"] == 5


async def test_a_corrupt_file_of_leases_is_said_and_replaced(tmp_path: Path) -> None:
    (tmp_path / "leases.db").write_bytes(b"garbage" * 1000)
    async with lease_host(tmp_path) as host:
        assert host.leases.moved_aside is not None
        assert host.only("lease.lost")[0].severity == "critical"
        assert host.leases.writable
        host.now(ME)


async def test_a_killed_holders_use_is_seen_as_the_leases_until_it_is_told(host: LeaseHost) -> None:
    with child() as process:
        host.now(process.caller(), vram=10)
        host.big.processes[process.pid] = 10 * GIB
        process.kill()  # the loop has not turned since
        host.monitor.read()
        assert host.leases.usage()[BIG].foreign_bytes == 0


# --- state that cannot be written ---------------------------------------------------------------


async def test_a_grant_that_cannot_be_recorded_is_no_grant(host: LeaseHost) -> None:
    standing = host.now(ME, vram=1)
    host.store._database.close()
    with pytest.raises(StateNotWritableError):
        host.now(ME, vram=1)
    assert not host.leases.writable
    assert host.leases.fault is not None
    assert [lease.id for lease in host.leases.list(ME).leases] == [standing.id]
    with pytest.raises(StateNotWritableError):
        host.leases.release(ME, standing.id)
    assert host.leases.get(ME, standing.id)
    with child() as process, pytest.raises(StateNotWritableError):
        host.leases.attach(ME, LeaseAttachParams(lease=standing.id, pid=process.pid))


async def test_those_who_wait_go_on_waiting_while_nothing_can_be_recorded(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = host.store._database
    lease = host.now(ME, vram=12)
    waiting = [host.later(ME, vram=4, wait_ms=60_000, avoid=[SMALL]) for _ in range(2)]
    await turn()
    monkeypatch.setattr(database, "recheck", lambda: False)
    host.leases.release(ME, lease.id)
    database._write_fault = "the disk is full"
    for _ in range(3):
        host.clock.advance(1)
        host.monitor.read()
        await turn()
    assert not any(each.done() for each in waiting)
    monkeypatch.undo()
    host.monitor.read()
    async with asyncio.timeout(5):
        assert {each.gpus[0].uuid for each in await asyncio.gather(*waiting)} == {BIG}


# --- several who ask for one ---------------------------------------------------------------------


async def test_a_retry_whose_connection_closes_does_not_end_the_wait_of_another(
    host: LeaseHost,
) -> None:
    lease = await full(host)
    params = {"vram": 8, "wait_ms": 60_000, "key": "k", "mode": "connection"}
    first = host.later(caller_of(connection="a"), **params)
    await turn()
    second = host.later(caller_of(connection="b"), **params)
    await turn()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    host.leases.connection_closed("b")
    await turn()
    assert not first.done()
    host.leases.release(ME, lease.id)
    host.monitor.read()
    granted = await first
    assert host.leases.get(ME, granted.id).state == "granted", "it hangs on the one that is open"
    host.leases.connection_closed("a")
    assert host.leases.get(ME, granted.id).state == "orphaned"


async def test_a_wait_ends_with_the_last_connection_that_listens(host: LeaseHost) -> None:
    await full(host)
    params = {"vram": 8, "wait_ms": 60_000, "key": "k"}
    waits = []
    for connection in ("a", "b"):
        waits.append(host.later(caller_of(connection=connection), **params))
        await turn()
    host.leases.connection_closed("a")
    assert len(host.leases.list(ME).queue) == 1
    host.leases.connection_closed("b")
    assert not host.leases.list(ME).queue
    await asyncio.gather(*waits, return_exceptions=True)


async def test_who_takes_a_connection_lease_over_holds_it(host: LeaseHost) -> None:
    with child() as first, child() as second:
        lease = host.now(first.caller(), vram=4, mode="connection", prefer=[BIG])
        host.leases.connection_closed(first.caller().connection)
        first.kill()
        shown = host.leases.resume(second.caller(), lease.id)
        assert second.pid in {process.pid for process in shown.holder}
        host.big.processes = {second.pid: 4 * GIB}
        host.clock.advance(1)
        host.monitor.read()
        assert host.leases.usage()[BIG].foreign_bytes == 0
        assert host.free(BIG) == 8 * GIB


async def test_numbers_of_any_length_do_no_harm(host: LeaseHost) -> None:
    assert host.now(ME, wait_ms=10**400, priority=10**400).priority == 10
    with pytest.raises(InvalidParamsError, match="priority"):
        host.now(ME, priority=-(10**400))


def test_parameters_are_written_in_gib() -> None:
    assert ask(vram=0.5).vram_bytes == GIB // 2


# --- right after a start ------------------------------------------------------------------------


async def test_an_acquire_that_may_wait_is_queued_until_the_first_gpu_is_known(
    host: LeaseHost,
) -> None:
    gpus, host.monitor.gpus, host.monitor.ready = host.monitor.gpus, [], False
    host.monitor.changed()
    fits = host.later(ME, vram=8, wait_ms=60_000)
    never = host.later(ME, vram=100, wait_ms=60_000)
    await turn()
    assert len(host.leases.list(ME).queue) == 2
    with pytest.raises(GpusUnavailableError) as refusal:
        await host.later(ME, vram=8)
    assert refusal.value.retry_after_ms == 1000
    host.monitor.gpus, host.monitor.ready = gpus, True
    host.monitor.read()
    assert (await fits).gpus[0].uuid == BIG
    with pytest.raises(NeverFitsError):
        await never


async def test_no_waiter_is_granted_once_the_daemon_stops(host: LeaseHost) -> None:
    lease = await full(host)
    waiting = host.later(ME, vram=8, wait_ms=60_000)
    await turn()
    host.leases.stop_granting()
    host.leases.release(ME, lease.id)
    host.monitor.read()
    with pytest.raises(ShuttingDownError):
        await waiting


async def test_explain_asks_for_a_reading_after_a_release_as_an_acquire_does(
    host: LeaseHost,
) -> None:
    lease = await full(host)
    host.leases.release(ME, lease.id)
    answer = host.leases.explain(ME, PlacementParams(vram_bytes=8 * GIB))
    assert isinstance(answer, Awaitable)
    assert (await answer).decision == "grant"


async def test_a_release_has_the_gpus_read_when_nobody_waits_either(host: LeaseHost) -> None:
    lease = await full(host)
    host.leases.release(ME, lease.id)
    taken = host.free(BIG)
    host.clock.advance(1)
    host.leases._refresher._deadlines.run_due()
    await turn()
    assert host.free(BIG) > taken


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "bell\a"])
async def test_a_name_holds_no_control_characters(host: LeaseHost, name: str) -> None:
    with pytest.raises(InvalidParamsError, match="control characters"):
        host.now(ME, name=name)


async def test_use_that_the_driver_does_not_give_by_process_is_estimated_and_marked(
    host: LeaseHost,
) -> None:
    lease = host.now(ME, vram=4)
    (gpu,) = lease.gpus
    assert not gpu.actual_is_estimated
    host.small.processes[os.getpid()] = None
    host.small.foreign_bytes = 2 * GIB
    host.monitor.read()
    (gpu,) = host.leases.get(ME, lease.id).gpus
    assert gpu.actual_is_estimated
    assert gpu.actual_bytes == 2 * GIB
