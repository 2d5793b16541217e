"""One amount over several GPUs: as few as hold it, each a fair part, and never more than it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host
from superezio.errors import InvalidParamsError, NeverFitsError
from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.placement import candidates, place
from supereziod.leases.queue import LeaseQueue, Waiting
from supereziod.leases.split import (
    LEAST_PART_BYTES,
    divide,
    fewest,
    least_part,
    ratios,
    tensor_split,
)

ME = caller_of()


def gpu(uuid: str, *, free: float, largest: float = 12, name: str = "card") -> Capacity:
    return Capacity(
        uuid=uuid,
        index=ord(uuid[-1]) - ord("a"),
        name=name,
        largest_bytes=round(largest * GIB),
        free_bytes=round(free * GIB),
        foreign_bytes=0,
        reserved_bytes=0,
    )


def ask(gib: float, *, count: int = 1) -> Request:
    return Request(vram_bytes=round(gib * GIB), count=count, split=True)


# --- over which GPUs ----------------------------------------------------------------------------


def test_what_one_gpu_holds_is_not_split() -> None:
    placement = place(ask(8), [gpu("a", free=9), gpu("b", free=12)])
    assert placement.reserved == {"a": 8 * GIB}
    assert (placement.split_ratio, placement.tensor_split) == ([1.0], "1")
    assert placement.summary == "8.0 GiB on GPU 0 (card)"


def test_it_goes_over_as_few_gpus_as_hold_it() -> None:
    gpus = [gpu("a", free=2), gpu("b", free=6), gpu("c", free=7)]
    assert set(place(ask(12), gpus).chosen) == {"b", "c"}
    assert set(place(ask(14), gpus).chosen) == {"a", "b", "c"}


def test_with_a_count_it_goes_over_exactly_so_many() -> None:
    placement = place(ask(8, count=2), [gpu("a", free=12), gpu("b", free=12)])
    assert placement.reserved == {"a": 4 * GIB, "b": 4 * GIB}
    assert placement.tensor_split == "1,1"


def test_a_count_that_all_together_do_not_hold_waits_or_never_fits() -> None:
    waits = place(ask(20, count=2), [gpu("a", free=12), gpu("b", free=7)])
    assert (waits.decision, waits.chosen) == ("wait", [])
    assert (
        waits.gpus[0].message
        == "has 12.0 GiB for a part of it, but it does not fit on 2 GPUs at once"
    )
    never = place(ask(25), [gpu("a", free=12), gpu("b", free=12)])
    assert never.decision == "never"
    assert never.summary.startswith("this host can never hold 25.0 GiB split over several GPUs: ")


def test_cards_of_one_model_come_before_a_better_fit_of_two() -> None:
    gpus = [gpu("a", free=5, name="x"), gpu("b", free=6, name="y"), gpu("c", free=9, name="x")]
    assert set(place(ask(10), gpus).chosen) == {"a", "c"}


def test_a_gpu_with_less_than_a_process_takes_by_itself_gets_no_part() -> None:
    """Less than 512 MiB serve nobody: a CUDA context alone takes some hundred."""
    placement = place(ask(12.25), [gpu("a", free=12), gpu("b", free=0.4)])
    assert placement.decision == "wait"
    assert placement.gpus[1].code == "insufficient_vram"
    assert place(ask(12.25), [gpu("a", free=12), gpu("b", free=0.5)]).decision == "grant"


def test_an_amount_that_has_no_byte_for_each_gpu_is_refused() -> None:
    with pytest.raises(InvalidParamsError, match="each needs a part"):
        Request(vram_bytes=2, count=3, split=True)


# --- how much on each ---------------------------------------------------------------------------


def test_each_gpu_takes_part_as_it_has_room() -> None:
    placement = place(ask(12, count=2), [gpu("a", free=12), gpu("b", free=6)])
    big, small = placement.reserved["a"], placement.reserved["b"]
    assert big + small == 12 * GIB
    # The same part of what each has beyond the least is taken.
    taken = (big - LEAST_PART_BYTES) / (12 * GIB - LEAST_PART_BYTES)
    assert taken == pytest.approx((small - LEAST_PART_BYTES) / (6 * GIB - LEAST_PART_BYTES))
    assert placement.split_ratio == pytest.approx([small / (12 * GIB), big / (12 * GIB)])
    assert placement.chosen == ["b", "a"]


def test_the_summary_says_how_much_goes_where() -> None:
    placement = place(ask(16, count=2), [gpu("a", free=8), gpu("b", free=8)])
    assert placement.summary == "16.0 GiB: 8.0 GiB on GPU 0 (card), 8.0 GiB on GPU 1 (card)"


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([6 * GIB], "1"),
        ([9 * GIB, 3 * GIB], "3,1"),
        ([4 * GIB, 4 * GIB, 4 * GIB], "334,333,333"),
        ([1000 * GIB, 1], "1000,1"),
    ],
)
def test_proportions_are_told_as_llama_cpp_takes_them(shares: list[int], text: str) -> None:
    assert tensor_split(shares) == text


def test_what_does_not_fit_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="cannot divide"):
        divide([5, 5], 11)
    with pytest.raises(ValueError, match="cannot divide"):
        divide([100, 1], 20)


@given(st.lists(st.integers(1, 80 * GIB), min_size=1, max_size=8), st.data())
def test_a_division_is_exact_and_fits(sizes: list[int], data: st.DataObject) -> None:
    """Sums exactly to the amount, exceeds no GPU's room, and gives none less than the least."""
    most = sum(sizes)
    if min(sizes) < LEAST_PART_BYTES:
        most = min(most, 2 * len(sizes) * min(sizes))
    need = data.draw(st.integers(len(sizes), max(len(sizes), most)))
    shares = divide(sizes, need)
    assert sum(shares) == need
    assert all(
        least_part(need, len(sizes)) <= share <= size
        for share, size in zip(shares, sizes, strict=True)
    )
    assert shares == divide(sizes, need)
    assert sum(ratios(shares)) == pytest.approx(1)


@given(
    st.lists(st.integers(LEAST_PART_BYTES, 80 * GIB), min_size=1, max_size=8),
    st.integers(1, 300 * GIB),
)
def test_no_fewer_gpus_would_hold_it(sizes: list[int], need: int) -> None:
    """Where each has room for the least part, the largest alone say how few do."""
    largest = sorted(sizes, reverse=True)
    enough = [n for n in range(1, len(sizes) + 1) if sum(largest[:n]) >= need and n <= need]
    assert fewest(sizes, need) == (enough[0] if enough else None)


# --- what the queue builds on -------------------------------------------------------------------


def test_candidates_are_the_gpus_that_could_take_part_some_day() -> None:
    mig = Block(code="mig_enabled", message="")
    gpus = [gpu("a", free=0), gpu("b", free=0, largest=6), gpu("c", free=0, largest=0.3)]
    assert candidates(ask(14), gpus) == {"a", "b"}
    assert candidates(ask(14, count=3), gpus) == frozenset()
    blocked = [*gpus, replace(gpu("d", free=12), block=mig)]
    assert candidates(ask(18.5), blocked) == frozenset()


def test_a_queued_split_is_granted_when_all_together_hold_it() -> None:
    """No GPU alone has the room: a look at the largest alone would pass it over for ever."""
    queue = LeaseQueue()
    queue.add(_waiting("model", ask(14)))
    assert queue.first_grant([gpu("a", free=9), gpu("b", free=4)]) is None
    found = queue.first_grant([gpu("a", free=9), gpu("b", free=6)])
    assert found is not None
    assert sum(found[1].reserved.values()) == 14 * GIB


def test_a_queued_split_keeps_the_gpus_it_could_take_part_of() -> None:
    queue = LeaseQueue()
    queue.add(_waiting("model", ask(14)))
    queue.add(_waiting("small", Request(vram_bytes=GIB // 4)))
    assert queue.first_grant([gpu("a", free=9), gpu("b", free=4)]) is None
    # A third one that is too small for a part is not kept for it.
    found = queue.first_grant([gpu("a", free=9), gpu("b", free=4), gpu("c", free=0.4, largest=0.4)])
    assert found is not None
    assert (found[0].id, found[1].chosen) == ("small", ["c"])


def _waiting(name: str, request: Request) -> Waiting:
    return Waiting(id=name, uid=1, request=request, priority=0, enqueued_ns=0, deadline_ns=1 << 60)


# --- as a lease ---------------------------------------------------------------------------------


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


async def test_a_split_lease_reserves_its_part_on_each_gpu(host: LeaseHost) -> None:
    lease = host.now(ME, vram=15, split=True)
    reserved = {each.uuid: each.reserved_bytes for each in lease.gpus}
    assert sum(reserved.values()) == 15 * GIB
    assert host.free(BIG) == 12 * GIB - reserved[BIG]
    assert host.free(SMALL) == 6 * GIB - reserved[SMALL]
    assert sum(each.split_ratio or 0 for each in lease.gpus) == pytest.approx(1)
    host.leases.release(ME, lease.id)


async def test_the_proportions_are_in_the_order_in_which_the_program_sees_its_gpus(
    host: LeaseHost,
) -> None:
    lease = host.now(ME, vram=15, split=True)
    visible = lease.environment["CUDA_VISIBLE_DEVICES"].split(",")
    assert visible == [each.uuid for each in lease.gpus] == [SMALL, BIG]
    assert lease.tensor_split is not None
    small, big = map(int, lease.tensor_split.split(","))
    assert small < big
    assert lease.environment["SUPEREZIO_TENSOR_SPLIT"] == lease.tensor_split


async def test_a_lease_that_is_not_split_has_no_proportions(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, count=2)
    assert lease.tensor_split is None
    assert "SUPEREZIO_TENSOR_SPLIT" not in lease.environment
    assert [each.split_ratio for each in lease.gpus] == [None, None]


async def test_a_split_lease_stands_as_it_was_after_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        before = host.now(ME, vram=15, split=True)
    async with lease_host(tmp_path) as host:
        after = host.leases.get(ME, before.id)
        assert [each.reserved_bytes for each in after.gpus] == [
            each.reserved_bytes for each in before.gpus
        ]
        assert after.tensor_split == before.tensor_split


async def test_more_than_all_gpus_hold_together_never_fits(host: LeaseHost) -> None:
    with pytest.raises(NeverFitsError, match="split over several GPUs"):
        host.now(ME, vram=19, split=True)
