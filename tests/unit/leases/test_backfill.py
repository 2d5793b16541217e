"""Going past those ahead in the queue: only where none of them has room any later for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lease_host import BIG, SMALL, LeaseHost, caller_of, child, lease_host, turn
from superezio.errors import NoCapacityError
from superezio.wire import Lease
from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.presence import Presence
from supereziod.leases.queue import LeaseQueue, Waiting

GIB = 1 << 30
ME = caller_of()
#: Its process is not one of this host's, as one in a container is not.
STRANGER = caller_of(0, uid=4711, connection="stranger")


def waiting(name: str, gib: float, *, uid: int = 1000, **fields: Any) -> Waiting:
    return Waiting(
        id=name,
        uid=uid,
        request=Request(vram_bytes=round(gib * GIB), **fields),
        priority=0,
        enqueued_ns=0,
        deadline_ns=10,
    )


def gpu(
    *claims: float, uuid: str = "x", total: float = 12, foreign: float = 0, uid: int = 1001
) -> Capacity:
    """Return a GPU with leases of so many GiB on it, all of one user."""
    reserved = sum(claims)
    return Capacity(
        uuid=uuid,
        index=0,
        name="card",
        largest_bytes=round(total * GIB),
        free_bytes=round((total - foreign - reserved) * GIB),
        foreign_bytes=round(foreign * GIB),
        reserved_bytes=round(reserved * GIB),
        leases=len(claims),
        claims_bytes=tuple(round(claim * GIB) for claim in claims),
        claim_uids=(uid,) * len(claims),
    )


def queue_of(*ahead: Waiting) -> LeaseQueue:
    queue = LeaseQueue()
    for one in ahead:
        queue.add(one)
    return queue


def most(queue: LeaseQueue, *gpus: Capacity, uid: int = 1002) -> float:
    """Return how many GiB a newcomer of that user can have at most."""
    step = GIB // 4
    sizes = range(step, 100 * GIB, step)
    granted = [
        size
        for size in sizes
        if queue.place_behind(Request(vram_bytes=size), gpus, uid=uid).decision == "grant"
    ]
    assert granted == list(sizes[: len(granted)]), "what is smaller is granted, too"
    return len(granted) / 4


def test_what_is_left_beside_the_head_once_it_has_room_may_be_had_now() -> None:
    queue = queue_of(waiting("head", 8))
    assert most(queue, gpu(6)) == 4


def test_the_head_has_room_when_the_first_of_several_leases_ends() -> None:
    """Were 4 GiB given away, it would wait for both: for the one, if the other never ends."""
    queue = queue_of(waiting("head", 8))
    assert most(queue, gpu(3, 3)) == 1


def test_leases_that_are_too_small_alone_count_together() -> None:
    queue = queue_of(waiting("head", 11))
    assert most(queue, gpu(3, 3, 3)) == 1


def test_a_lease_that_never_ends_is_not_counted_on() -> None:
    """A server keeps 6 GiB for ever; short jobs come again and again, and the head needs 5 GiB."""
    queue = queue_of(waiting("head", 5))
    server, jobs = 6, [2, 2, 2]
    assert most(queue, gpu(server, *jobs)) == 0
    jobs.pop()
    assert queue.place_behind(Request(vram_bytes=2 * GIB), [gpu(server, *jobs)]).decision == "wait"
    jobs.clear()
    assert queue.first_grant([gpu(server, *jobs)]) is not None


def test_what_was_granted_past_the_head_leaves_less_for_the_next() -> None:
    queue = queue_of(waiting("head", 8))
    assert most(queue, gpu(6, 3)) == 1
    assert most(queue, gpu(6, 4)) == 0


def test_it_holds_on_every_gpu_that_one_ahead_could_use() -> None:
    """Another GPU that may do as well is no comfort: nobody knows which lease ends first."""
    queue = queue_of(waiting("head", 5))
    big, small = gpu(6, 4, uuid="big"), gpu(4, uuid="small", total=6)
    assert most(queue, big, small) == 1


def test_a_gpu_that_nobody_ahead_could_use_is_free_for_all() -> None:
    queue = queue_of(waiting("head", 8), waiting("next", 6, avoid=("small",)))
    assert most(queue, gpu(12, uuid="big"), gpu(uuid="small", total=6)) == 6


def test_those_ahead_are_counted_with_one_behind_the_other() -> None:
    """When the lease ends there is room for both, and for 1 GiB more."""
    one = queue_of(waiting("first", 6))
    two = queue_of(waiting("first", 6), waiting("second", 6))
    assert most(one, gpu(10, total=13)) == 3
    assert most(two, gpu(10, total=13)) == 1


def test_a_waiter_goes_past_those_ahead_as_a_newcomer_does() -> None:
    queue = queue_of(waiting("head", 8), waiting("large", 5), waiting("small", 1))
    found = queue.first_grant([gpu(6)])
    assert found is not None
    assert found[0].id == "small"


def test_one_that_wants_a_gpu_alone_is_passed_by_nobody() -> None:
    queue = queue_of(waiting("head", 1, policy="exclusive"))
    assert most(queue, gpu(6)) == 0
    reason = queue.place_behind(Request(vram_bytes=GIB), [gpu(6)]).gpus[0]
    assert (reason.code, reason.message) == (
        "queued",
        "kept for an acquire ahead that wants it alone",
    )


def test_one_that_would_keep_others_off_goes_past_nobody() -> None:
    queue = queue_of(waiting("head", 8))
    gpus = [gpu(6), gpu(uuid="empty", total=6)]
    small = Request(vram_bytes=GIB)
    assert queue.place_behind(small, gpus[:1], sizes_itself=True).decision == "wait"
    alone = Request(vram_bytes=GIB, policy="exclusive")
    assert queue.place_behind(alone, gpus).chosen == ["empty"]
    assert queue.place_behind(small, gpus, sizes_itself=True).chosen == ["empty"]


def test_use_without_a_lease_may_shrink_to_any_size() -> None:
    """The head has room as soon as 1 GiB of it is back, and then nothing is left over."""
    queue = queue_of(waiting("head", 8))
    assert most(queue, gpu(foreign=5)) == 0
    assert most(queue, gpu(3, foreign=3)) == 0
    assert most(queue, gpu(6, foreign=1)) == 3


def test_one_that_needs_several_gpus_keeps_them_while_it_waits_for_the_last() -> None:
    queue = queue_of(waiting("head", 8, count=2))
    full, idle = gpu(10, uuid="full"), gpu(uuid="idle")
    assert queue.first_grant([full, idle]) is None
    assert most(queue, full, idle) == 4


def test_one_that_is_split_has_use_for_any_part_of_what_is_free() -> None:
    queue = queue_of(waiting("head", 14, split=True, count=2))
    full, idle = gpu(10, uuid="full"), gpu(uuid="idle")
    assert queue.first_grant([full, idle]) is not None
    assert most(queue_of(waiting("head", 15, split=True, count=2)), full, idle) == 0
    other = gpu(10, uuid="other")
    assert most(queue_of(waiting("head", 8, split=True, count=2)), full, other) == 0, (
        "though one GPU had room for all of it, and for more, once its lease has ended"
    )


def test_a_gpu_for_one_process_is_passed_to_nobody_while_it_is_waited_for() -> None:
    queue = queue_of(waiting("head", 8, count=2))
    full, idle = gpu(10, uuid="full"), gpu(uuid="idle")
    assert most(queue, full, idle) == 4
    assert most(queue, full, replace(idle, compute_mode="exclusive_process")) == 2


# --- a waiter that nothing that ends could serve ------------------------------------------------

OWNER, OTHER = 1000, 1002


def test_a_gpu_is_kept_from_nobody_for_one_whose_own_lease_keeps_it_from_being_alone_there() -> (
    None
):
    """Or a user with a sliver on each GPU could close the host to all, for as long as it likes."""
    queue = queue_of(waiting("head", 1, uid=OWNER, policy="exclusive"))
    mine, others = gpu(0.25, uid=OWNER), gpu(0.25, uid=1001)
    assert most(queue, mine, uid=OTHER) == 11.75
    assert most(queue, others, uid=OTHER) == 0
    assert most(queue, gpu(), uid=OTHER) == 0, "its own lease has ended, and it is next"


def test_nor_for_one_that_its_own_leases_leave_too_little() -> None:
    queue = queue_of(waiting("head", 12, uid=OWNER))
    assert most(queue, gpu(0.25, uid=OWNER), uid=OTHER) == 11.75
    assert most(queue, gpu(0.25, uid=1001), uid=OTHER) == 0
    fits_beside = queue_of(waiting("head", 8, uid=OWNER))
    assert most(fits_beside, gpu(4, 5, uid=OWNER), uid=OTHER) == 3
    assert most(fits_beside, replace(gpu(4, 5), claim_uids=(OWNER, 1001)), uid=OTHER) == 0


def test_a_user_does_not_hold_off_its_own_with_later_ones() -> None:
    """Else small ones that come again and again would keep a large one of the same user out."""
    queue = queue_of(waiting("head", 12, uid=OWNER))
    assert most(queue, gpu(0.25, uid=OWNER), uid=OWNER) == 0
    alone = queue_of(waiting("head", 1, uid=OWNER, policy="exclusive"))
    assert most(alone, gpu(0.25, uid=OWNER), uid=OWNER) == 0


def test_one_that_needs_several_gpus_keeps_none_while_its_own_lease_takes_the_others() -> None:
    queue = queue_of(waiting("head", 12, uid=OWNER, count=2))
    idle = gpu(uuid="idle")
    assert most(queue, gpu(12, uuid="full", uid=OWNER), idle, uid=OTHER) == 12
    assert most(queue, gpu(12, uuid="full", uid=1001), idle, uid=OTHER) == 0
    alone = replace(gpu(1, uuid="alone", uid=OWNER), exclusive=True)
    assert most(queue_of(waiting("head", 8, count=2)), alone, idle, uid=OTHER) == 12


@pytest.mark.parametrize(
    "ahead",
    [
        waiting("head", 8, count=2),
        waiting("head", 16, count=2, split=True),
        waiting("head", 16, split=True),
        waiting("head", 1, count=2, policy="exclusive"),
    ],
)
@pytest.mark.parametrize("code", ["quarantined", "cordoned", "lost", "hot"])
def test_a_healthy_gpu_is_kept_for_nobody_who_also_needs_one_that_is_closed(
    ahead: Waiting, code: str
) -> None:
    queue = queue_of(ahead)
    healthy, other = gpu(uuid="healthy"), gpu(3, uuid="other")
    closed = replace(other, block=Block(code=code, message="it is closed"))
    assert most(queue, healthy, closed, uid=OTHER) == 12
    assert most(queue, healthy, other, uid=OTHER) < 12, "it is kept for again once both are open"


def test_a_moment_without_a_reading_lets_nobody_past() -> None:
    queue = queue_of(waiting("head", 12, count=2))
    settling = replace(gpu(uuid="other"), block=Block(code="settling", message="not read yet"))
    assert most(queue, gpu(uuid="healthy"), settling, uid=OTHER) == 0


# --- a server that uses it already --------------------------------------------------------------


def uses(gib: float, uuid: str = "x", *, vram: float | None = None, **fields: Any) -> Request:
    """Return what leases a server that uses so much: for as much, or for `vram`."""
    used = round(gib * GIB)
    size = used if vram is None else round(vram * GIB)
    presence = Presence(foreign_bytes={uuid: used}, used=(uuid,))
    return Request(vram_bytes=size, presence=presence, **fields)


def answer(queue: LeaseQueue, request: Request, *gpus: Capacity, **fields: Any) -> str:
    return queue.place_behind(request, gpus, uid=OTHER, **fields).decision


def test_a_lease_for_what_is_used_already_goes_past() -> None:
    """The head waits until that use is gone, and would without the lease."""
    queue = queue_of(waiting("head", 12))
    assert answer(queue, uses(8), gpu(foreign=8)) == "grant"
    assert answer(queue, uses(8, vram=4), gpu(foreign=8)) == "grant"
    assert answer(queue, uses(8, vram=9), gpu(foreign=8)) == "wait"
    assert answer(queue, Request(vram_bytes=GIB), gpu(foreign=8)) == "wait"


def test_what_it_takes_beyond_that_has_to_delay_nobody() -> None:
    queue = queue_of(waiting("head", 7))
    assert answer(queue, uses(4, vram=5), gpu(6, foreign=4)) == "grant"
    assert answer(queue, uses(4, vram=5.25), gpu(6, foreign=4)) == "wait"


@pytest.mark.parametrize("kind", ["one_at_a_time", "exclusive"])
def test_it_does_not_go_past_where_a_lease_counts_by_being_there(kind: str) -> None:
    """A little use without a lease is nothing to one that is to be alone; a lease would be."""
    used = gpu(6, foreign=0.25)
    if kind == "exclusive":
        queue = queue_of(waiting("head", 12), waiting("next", 1, policy="exclusive"))
    else:
        queue, used = queue_of(waiting("head", 12)), replace(used, one_at_a_time=True)
    assert answer(queue, uses(0.25), used) == "wait"


def test_one_that_keeps_others_off_does_not_go_past_by_what_it_uses() -> None:
    queue = queue_of(waiting("head", 12))
    assert answer(queue, uses(8), gpu(foreign=8), sizes_itself=True) == "wait"
    assert answer(queue, uses(8, policy="exclusive"), gpu(foreign=8)) == "wait"


def test_a_waiter_goes_past_by_what_it_uses_as_a_newcomer_does() -> None:
    queue = queue_of(waiting("head", 12), waiting("next", 11), waiting("server", 8))
    assert queue.first_grant([gpu(foreign=8)]) is None
    server = next(one for one in queue if one.id == "server")
    queue.replace(replace(server, request=uses(8)))
    found = queue.first_grant([gpu(foreign=8)])
    assert found is not None
    assert found[0].id == "server"
    queue.replace(replace(server, request=uses(8, policy="exclusive")))
    assert queue.first_grant([gpu(foreign=8)]) is None


def test_the_reason_says_for_whom_it_is_kept_and_what_is_left() -> None:
    queue = queue_of(waiting("head", 8))
    reason = queue.place_behind(Request(vram_bytes=2 * GIB), [gpu(3, 3)]).gpus[0]
    assert reason.message == (
        "kept for an acquire ahead that needs 8.0 GiB: 1.0 GiB may go to others now"
    )


def test_many_small_leases_keep_more_for_the_head_and_never_less() -> None:
    """Combining thousands would take for ever: the smallest count as if each part could end."""
    queue = queue_of(waiting("head", 7))
    assert most(queue, gpu(6, *[0.125] * 16)) == 3
    assert most(queue, gpu(6, *[0.125] * 32)) == 1
    assert most(queue_of(waiting("head", 5)), gpu(6, *[0.125] * 32)) == 0


def test_a_decision_behind_a_full_queue_takes_a_moment() -> None:
    queue = LeaseQueue(per_uid=256)
    for number in range(256):
        queue.add(waiting(str(number), 20 + number % 7, avoid=(f"{number % 8}",)))
    gpus = [gpu(*range(3, 13), uuid=f"{number}", total=80, foreign=0.5) for number in range(8)]
    started = time.process_time()
    queue.first_grant(gpus)
    queue.place_behind(Request(vram_bytes=GIB), gpus)
    assert len(list(queue.reasons(gpus))) == 256
    assert time.process_time() - started < 1.0


# --- on a host ----------------------------------------------------------------------------------


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as running:
        yield running


async def wait_for(host: LeaseHost, vram: float, **params: Any) -> asyncio.Task[Lease]:
    """Let an acquire wait on the big GPU."""
    waits = host.later(ME, vram=vram, wait_ms=60_000, avoid=[SMALL], **params)
    await turn()
    return waits


async def give_up(*waits: asyncio.Task[Lease]) -> None:
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_a_newcomer_is_granted_past_one_that_waits_and_does_not_delay_it(
    host: LeaseHost,
) -> None:
    before = host.now(ME, vram=6, avoid=[SMALL])
    head = await wait_for(host, 8)
    with pytest.raises(NoCapacityError, match=r"kept for .* that needs 8\.0 GiB"):
        host.now(ME, vram=5, avoid=[SMALL])
    past = host.now(ME, vram=4, avoid=[SMALL])
    host.leases.release(ME, before.id)
    host.monitor.read()
    await turn()
    assert head.done()
    assert (await head).gpus[0].uuid == BIG
    assert past.id in {lease.id for lease in host.leases.list(ME).leases}


async def test_one_user_s_acquire_does_not_close_the_host_to_the_others(host: LeaseHost) -> None:
    """SEMANTICS: a user who fills every limit leaves the others served."""
    slivers = [host.now(ME, vram=0.01, prefer=[uuid]) for uuid in (BIG, SMALL)]
    waits = host.later(ME, vram=0.01, wait_ms=600_000, policy="exclusive")
    await turn()
    served = host.now(STRANGER, mode="connection", vram=8)
    with pytest.raises(NoCapacityError, match="wants it alone"):
        host.now(ME, vram=0.01)
    for lease in slivers:
        host.leases.release(ME, lease.id)
    host.monitor.read()
    await turn()
    assert waits.done()
    assert (await waits).gpus[0].uuid == SMALL
    assert served.gpus[0].uuid == BIG


async def test_a_gpu_that_is_quarantined_keeps_the_healthy_one_from_nobody(
    host: LeaseHost,
) -> None:
    host.small.block = Block(code="quarantined", message="it is quarantined")
    host.monitor.read()
    waits = host.later(ME, vram=4, wait_ms=600_000, count=2)
    await turn()
    lease = host.now(STRANGER, mode="connection", vram=10)
    host.small.block = None
    host.monitor.read()
    with pytest.raises(NoCapacityError, match="kept for an acquire ahead"):
        host.now(STRANGER, mode="connection", vram=4)
    host.leases.release(STRANGER, lease.id)
    host.monitor.read()
    await turn()
    assert waits.done()
    assert len((await waits).gpus) == 2


async def test_a_server_is_leased_for_where_it_runs_though_others_wait(host: LeaseHost) -> None:
    with child() as server:
        host.big.processes = {server.pid: 8 * GIB}
        host.monitor.read()
        head = host.later(STRANGER, mode="connection", vram=12, wait_ms=60_000, avoid=[SMALL])
        await turn()
        lease = host.now(ME, vram=8, holder_pid=server.pid)
        assert lease.gpus[0].uuid == BIG
        assert host.free(BIG) == 4 * GIB, "as before"
        with pytest.raises(NoCapacityError, match="kept for an acquire ahead"):
            host.now(STRANGER, mode="connection", vram=1, avoid=[SMALL])
        assert not head.done()
        host.big.processes = {}
        host.leases.release(ME, lease.id)
        host.monitor.read()
        host.monitor.read()
        await turn()
        assert head.done()


async def test_one_behind_is_granted_as_soon_as_it_delays_nobody(host: LeaseHost) -> None:
    leases = [host.now(ME, vram=vram, avoid=[SMALL]) for vram in (3, 3)]
    head = await wait_for(host, 8)
    behind = await wait_for(host, 3)
    assert not behind.done()
    await give_up(head)
    await turn()
    assert behind.done()
    assert (await behind).gpus[0].uuid == BIG
    assert len(host.leases.list(ME).leases) == len(leases) + 1


async def test_a_released_lease_that_is_not_back_yet_lets_nobody_past(host: LeaseHost) -> None:
    before = host.now(ME, vram=6, avoid=[SMALL])
    host.big.processes = {os.getpid(): 6 * GIB}
    host.monitor.read()
    host.big.processes = {}
    host.big.foreign_bytes = 6 * GIB
    host.leases.release(ME, before.id)
    host.monitor.read()
    head = await wait_for(host, 8)
    with pytest.raises(NoCapacityError):
        await host.later(ME, vram=1, avoid=[SMALL])
    await give_up(head)


async def test_a_lease_that_uses_more_than_it_reserved_may_shrink_to_any_size(
    host: LeaseHost,
) -> None:
    host.now(ME, vram=4, avoid=[SMALL])
    head = host.later(STRANGER, mode="connection", vram=9, wait_ms=60_000, avoid=[SMALL])
    await turn()
    host.now(ME, vram=1, avoid=[SMALL])
    host.big.processes = {os.getpid(): 8 * GIB}
    host.monitor.read()
    with pytest.raises(NoCapacityError, match="kept for an acquire ahead"):
        await host.later(STRANGER, mode="connection", vram=1, avoid=[SMALL])
    host.now(ME, vram=1, avoid=[SMALL])  # what it uses above its leases is its own
    await give_up(head)


async def test_where_use_is_not_told_by_process_nobody_goes_past(host: LeaseHost) -> None:
    """Whoever is granted there grows at first, and nothing else may start meanwhile."""
    before = host.now(ME, vram=6, avoid=[SMALL])
    host.big.processes = {os.getpid(): None}
    host.monitor.read()
    host.leases.mark_ready(ME, before.id)
    head = await wait_for(host, 8)
    with pytest.raises(NoCapacityError, match="kept for an acquire ahead"):
        host.now(ME, vram=1, avoid=[SMALL])
    await give_up(head)


async def test_a_lease_that_sizes_itself_goes_past_nobody(host: LeaseHost) -> None:
    host.now(ME, vram=6, avoid=[SMALL])
    head = await wait_for(host, 8)
    behind = await wait_for(host, 1, sizes_itself=True)
    with pytest.raises(NoCapacityError):
        host.now(ME, vram=1, avoid=[SMALL], sizes_itself=True)
    assert not behind.done()
    host.now(ME, vram=1, avoid=[SMALL])
    await give_up(head, behind)


async def test_a_priority_is_capped_by_the_caller_s_role(host: LeaseHost) -> None:
    host.now(ME, vram=12)
    waits = [await wait_for(host, 8, priority=priority) for priority in (10, 5_000)]
    assert [waiter.priority for waiter in host.leases.list(ME).queue] == [10, 10]
    await give_up(*waits)
