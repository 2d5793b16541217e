"""Those who wait are told where they stand and why, when that changes and not more often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lease_host import SMALL, LeaseHost, caller_of, lease_host, turn
from superezio.errors import (
    CancelledRequestError,
    PermissionDeniedError,
    QueueFullError,
    WaitTimeoutError,
)
from superezio.wire import Event, GpuReason, Lease, Placement
from supereziod.gpu.hardware import Block
from supereziod.leases.manager import LeaseTimes
from supereziod.leases.places import reason_code
from supereziod.leases.queue import LeaseQueue
from supereziod.observability.events import EventLog

ME = caller_of()
#: Its process is not one of this host's, as one in a container is not.
OTHER = caller_of(0, uid=4711)
ADMIN = caller_of(uid=0, role="admin")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as running:
        running.now(ME, vram=12, name="all of it")
        yield running


async def wait_for(host: LeaseHost, vram: float, **params: Any) -> asyncio.Task[Lease]:
    caller = params.pop("caller", ME)
    mode = "process" if caller is ME else "connection"
    waits = host.later(caller, vram=vram, wait_ms=60_000, mode=mode, **params)
    await turn()
    return waits


async def give_up(*waits: asyncio.Task[Lease]) -> None:
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def later(host: LeaseHost, seconds: float = 1.0) -> None:
    """Let time pass, and the GPUs be read."""
    host.clock.advance(seconds)
    host.monitor.read()
    await turn()


class Listener:
    """Hears what is pushed."""

    def __init__(self, events: EventLog) -> None:
        self.events: list[Event] = []
        events.listen(self._hear)

    def _hear(self, event: Event) -> None:
        if event.type == "lease.position":
            self.events.append(event)

    @property
    def places(self) -> list[tuple[int, int, str]]:
        """The place, the length of the queue and the code that were told."""
        data = (event.data for event in self.events)
        return [(each["position"], each["queue_length"], each["code"]) for each in data]


@pytest.fixture
def told(host: LeaseHost) -> Listener:
    return Listener(host.events)


async def test_who_begins_to_wait_is_told_its_place_and_the_reason(
    host: LeaseHost, told: Listener
) -> None:
    waits = await wait_for(host, 8, name="next")
    (event,) = host.only("lease.queued")
    place = {
        key: event.data[key] for key in ("position", "queue_length", "code", "name", "vram_bytes")
    }
    assert place == {
        "position": 1,
        "queue_length": 1,
        "code": "insufficient_vram",
        "name": "next",
        "vram_bytes": 8 << 30,
    }
    assert event.data["reason"] in event.message
    (waiter,) = host.leases.list(ME).queue
    assert (event.data["waiter"], event.uid) == (waiter.id, ME.uid)
    assert (waiter.code, waiter.ahead) == ("insufficient_vram", 0)
    await later(host)
    assert not told.places, "nothing has changed since"
    await give_up(waits)


async def test_who_begins_to_wait_is_told_how_long_it_may(tmp_path: Path) -> None:
    """The configured maximum is told, and not what was asked for."""
    async with lease_host(tmp_path, times=LeaseTimes(max_wait_s=90)) as host:
        host.now(ME, vram=12)
        for wait_ms in (60_000, 600_000):
            waits = host.later(ME, vram=8, wait_ms=wait_ms)
            await turn()
            await give_up(waits)
        told = [event.data["wait_ms"] for event in host.only("lease.queued")]
    assert told == [60_000, 90_000]


async def test_a_place_that_changes_is_told_to_its_owner(host: LeaseHost, told: Listener) -> None:
    first = await wait_for(host, 8)
    second = await wait_for(host, 9, caller=OTHER, name="mine")
    assert [waiter.ahead for waiter in host.leases.list(ME).queue] == [0, 1]
    await give_up(first)
    await later(host)
    (event,) = told.events
    assert (event.uid, event.data["position"], event.data["name"]) == (OTHER.uid, 1, "mine")
    assert event.message.startswith("an acquire waits at place 1 of 1: 9.0 GiB: GPU 0")
    await give_up(second)


async def test_a_reason_that_changes_is_told_and_new_figures_alone_are_not(
    host: LeaseHost, told: Listener
) -> None:
    waits = await wait_for(host, 8)
    host.big.foreign_bytes = 1 << 30
    await later(host)
    assert not told.places
    host.big.block = Block(code="cordoned", message="a new fan is put in")
    await later(host)
    assert told.places == [(1, 1, "cordoned")]
    await give_up(waits)


async def test_a_wait_in_vain_ends_with_the_reason_of_the_end(host: LeaseHost) -> None:
    waits = await wait_for(host, 8)
    host.big.block = Block(code="cordoned", message="a new fan is put in")
    await later(host)
    host.big.hung = True
    await later(host, 60)
    assert waits.done()
    with pytest.raises(WaitTimeoutError, match="a new fan is put in"):
        await waits


async def test_one_that_is_not_read_for_a_moment_is_no_news(
    host: LeaseHost, told: Listener
) -> None:
    waits = await wait_for(host, 8)
    host.big.hung = host.small.hung = True
    for _ in range(3):
        await later(host, 5)
    assert host.leases.list(ME).queue[0].code == "settling"
    assert not told.places
    await give_up(waits)


async def test_all_that_changes_in_one_step_is_told_once(host: LeaseHost, told: Listener) -> None:
    waits = [await wait_for(host, 8) for _ in range(4)]
    await later(host)
    await give_up(*waits[:3])
    await later(host)
    assert told.places == [(1, 1, "insufficient_vram")]
    await give_up(waits[3])


async def test_a_queue_that_moves_fast_is_told_of_once_a_second(
    host: LeaseHost, told: Listener
) -> None:
    last = await wait_for(host, 8)
    passing: list[asyncio.Task[Lease]] = []
    for _ in range(15):
        passing.append(await wait_for(host, 9, priority=1))
        await later(host, 0.1)
    assert 1 <= len(told.places) <= 2
    assert told.places[-1][0] > 8
    await give_up(last, *passing)


async def test_places_are_kept_for_no_replay(host: LeaseHost, told: Listener) -> None:
    """A thousand places that were left would drive the history of what happened out."""
    first, second = await wait_for(host, 8), await wait_for(host, 8)
    await give_up(first)
    await later(host)
    assert told.places
    assert "lease.queued" in host.types()
    assert "lease.position" not in host.types()
    await give_up(second)


async def test_nothing_is_told_once_nobody_waits(host: LeaseHost, told: Listener) -> None:
    waits = await wait_for(host, 8)
    host.big.block = Block(code="hot", message="it is hot")
    host.monitor.changed()
    await give_up(waits)
    await later(host)
    assert not told.places


def placement(*codes: str) -> Placement:
    return Placement(
        decision="wait",
        policy="best_fit",
        vram_bytes=1,
        count=1,
        chosen=[],
        gpus=[
            GpuReason(
                uuid=code,
                index=0,
                name="card",
                admitted=False,
                chosen=False,
                code=code,
                message=code,
                free_bytes=0,
                needed_bytes=1,
                foreign_bytes=0,
                reserved_bytes=0,
            )
            for code in codes
        ],
        summary="",
    )


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        (("too_small", "insufficient_vram"), "insufficient_vram"),
        (("insufficient_vram", "returning", "queued"), "returning"),
        (("fits", "hot"), "hot"),
        (("fits", "insufficient_vram"), "insufficient_vram"),
        (("settling", "cordoned"), "cordoned"),
        (("capability_too_low", "hot"), "hot"),
        (("mig_single", "elsewhere", "insufficient_vram"), "insufficient_vram"),
        (("avoided", "a_code_to_come"), "a_code_to_come"),
        (("avoided",), "avoided"),
        ((), ""),
    ],
)
def test_the_code_of_a_wait_is_that_of_the_gpu_nearest_to_admitting(
    codes: tuple[str, ...], code: str
) -> None:
    assert reason_code(placement(*codes)) == code


# --- leaving by order ---------------------------------------------------------------------------


async def test_a_wait_that_is_cancelled_ends_with_an_error_that_says_so(
    host: LeaseHost, told: Listener
) -> None:
    waits, behind = await wait_for(host, 8, name="mine"), await wait_for(host, 8)
    waiter = host.leases.list(ME).queue[0].id
    assert host.leases.cancel(ME, waiter).done
    await turn()
    assert waits.done(), "it is answered at once"
    with pytest.raises(CancelledRequestError, match="taken out of the queue by uid") as cancelled:
        await waits
    assert cancelled.value.data == {"waiter": waiter}
    (event,) = host.only("lease.cancelled")
    assert (event.uid, event.data) == (
        ME.uid,
        {"waiter": waiter, "name": "mine", "by_uid": ME.uid},
    )
    assert not host.leases.cancel(ME, waiter).done, "to do it again is no error"
    await later(host)
    assert told.places == [(1, 1, "insufficient_vram")]
    await give_up(behind)


async def test_whoever_stood_behind_a_cancelled_one_may_be_next(host: LeaseHost) -> None:
    """The small GPU was kept for one that needs all of it."""
    host.now(ME, vram=2)
    head, behind = await wait_for(host, 6), await wait_for(host, 3)
    assert not behind.done()
    host.leases.cancel(ME, host.leases.list(ME).queue[0].id)
    await turn()
    assert behind.done()
    assert (await behind).gpus[0].uuid == SMALL
    with pytest.raises(CancelledRequestError):
        await head


async def test_others_waiters_are_cancelled_by_admins_alone(host: LeaseHost) -> None:
    waits = await wait_for(host, 8, caller=OTHER)
    waiter = host.leases.list(ME).queue[0].id
    with pytest.raises(PermissionDeniedError, match="it is of uid 4711"):
        host.leases.cancel(ME, waiter)
    assert host.leases.cancel(ADMIN, waiter).done
    await turn()
    assert waits.done()
    with pytest.raises(CancelledRequestError, match="by uid 0"):
        await waits


async def test_one_user_s_place_is_bounded_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    async with lease_host(tmp_path, queue=LeaseQueue(per_uid=2)) as host:
        host.now(ME, vram=12)
        waits = [await wait_for(host, 8) for _ in range(2)]
        with pytest.raises(QueueFullError, match="superezioctl queue cancel") as full:
            await host.later(ME, vram=8, wait_ms=60_000)
        assert full.value.data == {"limit": "queue_per_uid", "waiting": 2}
        waits.append(await wait_for(host, 8, caller=OTHER))
        assert host.leases.list(ME).queue[0].uid == ME.uid
        await give_up(*waits)
