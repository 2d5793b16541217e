"""Placement: policies, reasons, and the difference between not now and never."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.errors import InvalidParamsError
from superezio.wire import Placement, Policy
from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.placement import candidates, hold, place
from supereziod.leases.refusals import EXCLUSIVE_TOLERANCE_BYTES

GIB = 1 << 30


def gpu(uuid: str, *, free: float, largest: float = 12.0, **fields: Any) -> Capacity:
    defaults: dict[str, Any] = {
        "index": ord(uuid[-1]) - ord("a"),
        "name": "RTX 3060",
        "foreign_bytes": 0,
        "reserved_bytes": 0,
    }
    return Capacity(
        uuid=uuid,
        free_bytes=round(free * GIB),
        largest_bytes=round(largest * GIB),
        **(defaults | fields),
    )


def ask(gib: float, **fields: Any) -> Request:
    return Request(vram_bytes=round(gib * GIB), **fields)


def code(placement: Placement, uuid: str) -> str:
    return next(reason.code for reason in placement.gpus if reason.uuid == uuid)


def message(placement: Placement, uuid: str) -> str:
    return next(reason.message for reason in placement.gpus if reason.uuid == uuid)


# --- the size ---------------------------------------------------------------------------------


def test_a_lease_that_needs_exactly_what_is_free_is_granted() -> None:
    assert place(ask(8), [gpu("a", free=8)]).decision == "grant"


def test_a_lease_that_needs_a_byte_more_than_is_free_waits() -> None:
    placement = place(Request(vram_bytes=8 * GIB + 1), [gpu("a", free=8)])
    assert placement.decision == "wait"
    assert placement.chosen == []


def test_a_shortage_of_less_than_rounding_shows_is_told_in_bytes() -> None:
    placement = place(Request(vram_bytes=8 * GIB + 1), [gpu("a", free=8)])
    assert message(placement, "a") == "8,589,934,592 bytes free, needs 8,589,934,593 bytes"


def test_the_reason_names_what_is_free_what_is_foreign_and_what_is_needed() -> None:
    placement = place(ask(8), [gpu("a", free=5.1, foreign_bytes=round(1.9 * GIB))])
    assert code(placement, "a") == "insufficient_vram"
    assert message(placement, "a") == "5.1 GiB free after 1.9 GiB foreign, needs 8.0 GiB"


def test_an_overcommitted_gpu_says_by_how_much() -> None:
    placement = place(ask(1), [gpu("a", free=-2)])
    assert message(placement, "a") == "overcommitted by 2.0 GiB, needs 1.0 GiB"


def test_vram_that_released_leases_have_not_given_back_is_the_reason_to_wait() -> None:
    placement = place(ask(8), [gpu("a", free=3, returning_bytes=6 * GIB)])
    assert placement.decision == "wait"
    assert code(placement, "a") == "returning"
    assert message(placement, "a") == (
        "3.0 GiB free until 6.0 GiB of released leases are back, needs 8.0 GiB"
    )


@pytest.mark.parametrize("size", [0, -1, -(1 << 63), (1 << 50) + 1, 1 << 63, 1 << 200])
def test_a_size_that_nobody_can_mean_is_refused(size: int) -> None:
    with pytest.raises(InvalidParamsError, match="vram_bytes has to be"):
        Request(vram_bytes=size)


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_a_count_that_nobody_can_mean_is_refused(count: int) -> None:
    with pytest.raises(InvalidParamsError, match="count has to be"):
        Request(vram_bytes=1, count=count)


# --- never, or not now ------------------------------------------------------------------------


def test_what_even_the_empty_host_could_not_hold_is_never_granted() -> None:
    placement = place(ask(20), [gpu("a", free=11), gpu("b", free=5, largest=5.5)])
    assert placement.decision == "never"
    assert code(placement, "b") == "too_small"
    assert placement.summary == (
        "this host can never hold 20.0 GiB: GPU 0: holds 12.0 GiB at most even when empty,"
        " needs 20.0 GiB; GPU 1: holds 5.5 GiB at most even when empty, needs 20.0 GiB"
    )


def test_what_the_empty_host_holds_exactly_waits() -> None:
    assert place(ask(12), [gpu("a", free=0)]).decision == "wait"


def test_more_gpus_than_are_large_enough_is_never() -> None:
    placement = place(ask(8, count=2), [gpu("a", free=12), gpu("b", free=5, largest=5.5)])
    assert placement.decision == "never"
    assert message(placement, "a") == "has room, but the lease needs 2 GPUs at once"


@pytest.mark.parametrize("block", ["hot", "cordoned", "quarantined", "unknown", "lost", "settling"])
def test_a_block_that_passes_means_wait(block: str) -> None:
    blocked = gpu("a", free=12, block=Block(code=block, message="it is so"))
    placement = place(ask(8), [blocked])
    assert placement.decision == "wait"
    assert (code(placement, "a"), message(placement, "a")) == (block, "it is so")
    assert not placement.gpus[0].admitted


@pytest.mark.parametrize("block", ["mig_enabled", "compute_prohibited"])
def test_a_mode_that_only_a_person_changes_means_never(block: str) -> None:
    blocked = gpu("a", free=12, block=Block(code=block, message="it is so"))
    assert place(ask(8), [blocked]).decision == "never"


def test_a_host_without_gpus_can_never() -> None:
    placement = place(ask(1), [])
    assert (placement.decision, placement.summary) == ("never", "no GPU is known to the daemon now")


def test_a_gpu_where_a_lease_is_growing_admits_none() -> None:
    placement = place(ask(1), [gpu("a", free=12, growing=True)])
    assert (placement.decision, code(placement, "a")) == ("wait", "growing")


# --- avoid and prefer -------------------------------------------------------------------------


def test_an_avoided_gpu_is_not_taken_even_when_it_is_the_only_one() -> None:
    placement = place(ask(1, avoid=("a",)), [gpu("a", free=12), gpu("b", free=0)])
    assert (placement.decision, code(placement, "a")) == ("wait", "avoided")
    assert place(ask(1, avoid=("a",)), [gpu("a", free=12)]).decision == "never"


def test_preferred_gpus_come_first_in_the_order_given() -> None:
    gpus = [gpu(uuid, free=12) for uuid in "abc"]
    placement = place(ask(1, prefer=("c", "b")), gpus)
    assert placement.chosen == ["c"]
    assert message(placement, "a") == "has room, but the request prefers another"


def test_a_preferred_gpu_without_room_is_passed_over() -> None:
    placement = place(ask(8, prefer=("b",)), [gpu("a", free=12), gpu("b", free=1)])
    assert placement.chosen == ["a"]


def test_a_gpu_named_twice_in_prefer_keeps_its_first_rank() -> None:
    gpus = [gpu(uuid, free=12) for uuid in "abc"]
    assert place(ask(1, prefer=("b", "c", "b")), gpus).chosen == ["b"]


# --- policies ---------------------------------------------------------------------------------


def test_best_fit_takes_the_gpu_with_least_free_after_the_grant() -> None:
    placement = place(ask(4), [gpu("a", free=11), gpu("b", free=5), gpu("c", free=3)])
    assert placement.chosen == ["b"]
    assert message(placement, "b") == "best_fit: 1.0 GiB stay free"
    assert (code(placement, "a"), message(placement, "a")) == (
        "fits",
        "has room, but best_fit ranks another first",
    )
    assert placement.summary == "4.0 GiB on GPU 1 (RTX 3060)"


def test_spread_takes_the_gpu_with_most_free() -> None:
    placement = place(ask(4, policy="spread"), [gpu("a", free=5), gpu("b", free=11)])
    assert placement.chosen == ["b"]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"utilization_core_percent": 80}, {"utilization_core_percent": 20}),
        ({"utilization_core_percent": None}, {"utilization_core_percent": 100}),
        (
            {"utilization_core_percent": 5, "margin_c": 10},
            {"utilization_core_percent": 5, "margin_c": 20},
        ),
        ({"margin_c": None}, {"margin_c": -5}),
        ({"margin_c": 9, "leases": 3}, {"margin_c": 9, "leases": 1}),
    ],
)
def test_spread_goes_on_to_utilisation_then_margin_then_leases(
    worse: dict[str, Any], better: dict[str, Any]
) -> None:
    gpus = [gpu("a", free=8, **worse), gpu("b", free=8, **better)]
    assert place(ask(4, policy="spread"), gpus).chosen == ["b"]


@pytest.mark.parametrize("policy", ["best_fit", "spread", "exclusive"])
def test_a_warm_gpu_is_taken_where_no_cooler_one_admits_the_lease(policy: Policy) -> None:
    fits_best, roomiest = gpu("a", free=4, warm=True), gpu("c", free=12, warm=True)
    placement = place(ask(3, policy=policy), [fits_best, gpu("b", free=6), roomiest])
    assert placement.chosen == ["b"]
    assert message(placement, "a") == "has room, but is warm"
    assert place(ask(8, policy=policy), [fits_best, gpu("b", free=6), roomiest]).chosen == ["c"]
    wished = place(ask(3, policy=policy, prefer=("a",)), [fits_best, gpu("b", free=6)])
    assert wished.chosen == ["a"]


def test_exclusive_takes_only_a_gpu_without_other_leases() -> None:
    gpus = [gpu("a", free=8, leases=1), gpu("b", free=9, leases=2), gpu("c", free=10)]
    placement = place(ask(4, policy="exclusive"), gpus)
    assert placement.chosen == ["c"]
    assert code(placement, "a") == "not_empty"
    assert message(placement, "b") == "2 leases are on it, and an exclusive lease has to be alone"
    assert message(placement, "a").startswith("1 lease is on it")


def test_exclusive_refuses_foreign_use_but_for_a_small_rest() -> None:
    limit = EXCLUSIVE_TOLERANCE_BYTES
    gpus = [gpu("a", free=8, foreign_bytes=limit), gpu("b", free=9, foreign_bytes=limit - 1)]
    placement = place(ask(4, policy="exclusive"), gpus)
    assert placement.chosen == ["b"]
    assert code(placement, "a") == "foreign_use"


def test_exclusive_refuses_a_gpu_where_a_holder_without_a_lease_there_is_at_work() -> None:
    busy = gpu("a", free=8, reserved_bytes=2 * GIB)
    assert code(place(ask(4, policy="exclusive"), [busy]), "a") == "foreign_use"


def test_a_gpu_with_an_exclusive_lease_admits_nobody_else() -> None:
    placement = place(ask(1), [gpu("a", free=8, leases=1, exclusive=True)])
    assert (placement.decision, code(placement, "a")) == ("wait", "exclusive_taken")


@pytest.mark.parametrize("policy", ["best_fit", "spread", "exclusive"])
def test_ties_break_on_uuid_and_not_on_index(policy: Policy) -> None:
    gpus = [gpu("b", free=8, index=0), gpu("a", free=8, index=1)]
    assert place(ask(4, policy=policy), gpus).chosen == ["a"]
    assert place(ask(4, policy=policy), gpus[::-1]).chosen == ["a"]


# --- several GPUs -----------------------------------------------------------------------------


def test_a_lease_of_two_gpus_is_granted_on_both_or_on_none() -> None:
    short = place(ask(8, count=2), [gpu("a", free=9), gpu("b", free=7)])
    assert (short.decision, short.chosen) == ("wait", [])
    both = place(ask(8, count=2), [gpu("a", free=9), gpu("b", free=8)])
    assert (both.decision, both.chosen) == ("grant", ["b", "a"])


def test_several_gpus_of_one_model_come_before_a_better_fit_of_two_models() -> None:
    gpus = [
        gpu("a", free=5, name="RTX 2060"),
        gpu("b", free=8, name="RTX 3060"),
        gpu("c", free=9, name="RTX 3060"),
    ]
    assert place(ask(4, count=2), gpus).chosen == ["b", "c"]
    assert place(ask(4, count=3), gpus).chosen == ["a", "b", "c"]


def test_a_preferred_gpu_comes_before_cards_of_one_model() -> None:
    gpus = [
        gpu("a", free=5, name="RTX 2060"),
        gpu("b", free=8, name="RTX 3060"),
        gpu("c", free=9, name="RTX 3060"),
    ]
    assert place(ask(4, count=2, prefer=("a",)), gpus).chosen == ["a", "b"]


def test_the_summary_of_many_gpus_stays_readable() -> None:
    gpus = [gpu(f"GPU-{letter}", free=place) for place, letter in enumerate("abcdef")]
    placement = place(ask(8, count=2), gpus)
    assert placement.summary.startswith("8.0 GiB on each of 2 GPUs: GPU 0: 0 free, needs 8.0 GiB;")
    assert placement.summary.endswith("; GPU 3: 3.0 GiB free, needs 8.0 GiB; and 2 more")
    assert len(placement.gpus) == 6


def test_what_stands_against_several_gpus_alike_is_said_once_and_names_each() -> None:
    """A MIG instance goes by its place on its GPU, as everywhere."""
    parts = [gpu(f"MIG-{mig}", free=1, largest=10, index=0, mig_index=mig) for mig in range(5)]
    placement = place(ask(8), [*parts, gpu("GPU-b", free=2)])
    assert placement.summary == (
        "8.0 GiB: GPU 0:0, 0:1, 0:2, 0:3, 0:4: 1.0 GiB free, needs 8.0 GiB;"
        " GPU 1: 2.0 GiB free, needs 8.0 GiB"
    )
    many = [gpu(f"MIG-{mig}", free=1, index=0, mig_index=mig) for mig in range(14)]
    assert place(ask(8), many).summary == (
        "8.0 GiB: GPU 0:0, 0:1, 0:2, 0:3, 0:4, 0:5, 0:6, 0:7 and 6 more:"
        " 1.0 GiB free, needs 8.0 GiB"
    )


# --- what the queue builds on -----------------------------------------------------------------


def test_candidates_are_the_gpus_that_could_serve_some_day() -> None:
    hot = Block(code="hot", message="")
    mig = Block(code="mig_enabled", message="")
    gpus = [
        gpu("a", free=0, block=hot),
        gpu("b", free=12, block=mig),
        gpu("c", free=4, largest=5),
        gpu("d", free=12),
    ]
    assert candidates(ask(8), gpus) == {"a", "d"}
    assert candidates(ask(8, avoid=("a",)), gpus) == {"d"}
    assert candidates(ask(8, count=3), gpus) == frozenset()


def test_a_held_gpu_is_passed_over_as_queued_unless_it_is_blocked_already() -> None:
    hot = Block(code="hot", message="")
    gpus = hold(
        [gpu("a", free=9), gpu("b", free=9, block=hot), gpu("c", free=9)], {"a": "x", "b": "y"}
    )
    placement = place(ask(4), gpus)
    assert [reason.code for reason in placement.gpus] == ["queued", "hot", "chosen"]


CAPACITIES = st.builds(
    Capacity,
    uuid=st.sampled_from([f"GPU-{letter}" for letter in "abcdef"]),
    index=st.integers(0, 7),
    name=st.sampled_from(["RTX 3060", "RTX 2060"]),
    largest_bytes=st.integers(0, 12 * GIB),
    free_bytes=st.integers(-GIB, 12 * GIB),
    foreign_bytes=st.integers(0, GIB),
    reserved_bytes=st.integers(0, GIB),
    returning_bytes=st.integers(0, GIB),
    utilization_core_percent=st.none() | st.integers(0, 100),
    margin_c=st.none() | st.integers(-5, 60),
    leases=st.integers(0, 3),
    exclusive=st.booleans(),
    growing=st.booleans(),
    block=st.none() | st.just(Block(code="hot", message="too hot")),
)
REQUESTS = st.builds(
    Request,
    vram_bytes=st.integers(1, 12 * GIB),
    count=st.integers(1, 3),
    policy=st.sampled_from(["best_fit", "spread", "exclusive"]),
    prefer=st.lists(st.sampled_from(["GPU-a", "GPU-b"])).map(tuple),
    avoid=st.lists(st.sampled_from(["GPU-b", "GPU-c"])).map(tuple),
)


@given(REQUESTS, st.lists(CAPACITIES, unique_by=lambda one: one.uuid), st.randoms())
def test_every_gpu_gets_a_reason_and_the_order_of_gpus_decides_nothing(
    request: Request, gpus: list[Capacity], random: Any
) -> None:
    placement = place(request, gpus)
    shuffled = list(gpus)
    random.shuffle(shuffled)
    assert place(request, shuffled).chosen == placement.chosen
    assert [reason.uuid for reason in placement.gpus] == [one.uuid for one in gpus]
    assert all(reason.code and reason.message for reason in placement.gpus)
    assert (placement.decision == "grant") == (len(placement.chosen) == request.count)
    for reason, one in zip(placement.gpus, gpus, strict=True):
        assert reason.chosen == (one.uuid in placement.chosen)
        assert reason.admitted or not reason.chosen
        if reason.admitted:
            assert request.vram_bytes <= one.free_bytes
            assert one.block is None
            assert (one.exclusive, one.growing) == (False, False)
            assert one.uuid not in request.avoid
