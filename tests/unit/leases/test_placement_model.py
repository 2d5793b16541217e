"""Placement against a model that is written from the rules: whatever is asked, of whatever host."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import placement_model as model
from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.placement import candidates, has_room, place

EXAMPLES = int(os.environ.get("SUPEREZIO_PLACEMENT_EXAMPLES", "300"))
GIB = 1 << 30
UUIDS = [f"GPU-{letter}" for letter in "abcde"]
#: So few sizes that what is asked, what is free and what is left are often the same.
SIZES = st.sampled_from([0, 1, 2, 3, 5, GIB // 2, GIB, 3 * GIB, 4 * GIB, 7 * GIB, 12 * GIB])
MODELS = [(1000, "llama"), (1001, "llama"), (1000, "whisper")]

CAPACITIES = st.builds(
    Capacity,
    uuid=st.sampled_from(UUIDS),
    index=st.integers(0, 7),
    name=st.sampled_from(["RTX 3060", "RTX 2060"]),
    largest_bytes=SIZES,
    free_bytes=SIZES | st.just(-GIB),
    foreign_bytes=st.sampled_from([0, 1, 600 << 20]),
    reserved_bytes=st.sampled_from([0, 0, 600 << 20]),
    returning_bytes=st.sampled_from([0, 0, GIB]),
    utilization_core_percent=st.none() | st.sampled_from([0, 50]),
    margin_c=st.none() | st.sampled_from([-5, 10, 30]),
    leases=st.sampled_from([0, 0, 1, 2]),
    exclusive=st.sampled_from([False, False, False, True]),
    growing=st.sampled_from([False, False, False, True]),
    warm=st.sampled_from([False, False, True]),
    block=st.sampled_from(
        [None, None, None, Block(code="hot", message="h"), Block(code="mig_enabled", message="m")]
    ),
    compute_mode=st.sampled_from([None, "default", "default", "exclusive_process"]),
    processes=st.sampled_from([0, 0, 2, None]),
    capability=st.sampled_from([None, (7, 5), (8, 6), (12, 0)]),
    drives_display=st.sampled_from([None, False, False, True]),
    models=st.frozensets(st.sampled_from(MODELS), max_size=2),
).map(lambda gpu: replace(gpu, free_bytes=min(gpu.free_bytes, gpu.largest_bytes)))
#: Admits whatever fits: where much refuses, little is chosen.
PLAIN = st.builds(
    Capacity,
    uuid=st.sampled_from(UUIDS),
    index=st.integers(0, 7),
    name=st.sampled_from(["RTX 3060", "RTX 2060"]),
    largest_bytes=st.just(12 * GIB),
    free_bytes=st.sampled_from([1, 2, GIB // 4, GIB, 4 * GIB, 7 * GIB, 12 * GIB]),
    foreign_bytes=st.just(0),
    reserved_bytes=st.just(0),
    margin_c=st.none() | st.sampled_from([10, 30]),
    utilization_core_percent=st.none() | st.sampled_from([0, 50]),
    leases=st.sampled_from([0, 1]),
    warm=st.sampled_from([False, False, True]),
    compute_mode=st.just("default"),
    capability=st.sampled_from([(8, 6), (8, 6), (7, 5)]),
    drives_display=st.sampled_from([False]),
    models=st.frozensets(st.sampled_from(MODELS), max_size=1),
)


def host_of(one: st.SearchStrategy[Capacity], least: int) -> st.SearchStrategy[list[Capacity]]:
    return st.lists(one, min_size=least, max_size=5, unique_by=lambda gpu: gpu.uuid)


#: One thing that closes a GPU, or may: among many of them, none would be missed.
ODDITIES: list[dict[str, Any]] = [
    {},
    {"exclusive": True, "leases": 1},
    {"growing": True, "leases": 1},
    {"block": Block(code="hot", message="h")},
    {"block": Block(code="mig_enabled", message="m")},
    {"compute_mode": "exclusive_process", "leases": 0},
    {"compute_mode": "exclusive_process", "leases": 1},
    {"compute_mode": "exclusive_process", "leases": 0, "returning_bytes": GIB},
    {"compute_mode": "exclusive_process", "leases": 0, "processes": 2},
    {"compute_mode": "exclusive_process", "leases": 0, "processes": None},
    {"compute_mode": None},
    {"capability": None},
    {"drives_display": True},
    {"drives_display": None},
    {"leases": 0, "foreign_bytes": 600 << 20},
    {"leases": 0, "reserved_bytes": 600 << 20},
]
ODD = st.builds(lambda gpu, odd: replace(gpu, **odd), PLAIN, st.sampled_from(ODDITIES))
HOSTS = st.one_of(
    host_of(CAPACITIES, 0), host_of(PLAIN, 1), host_of(PLAIN, 3), host_of(ODD, 1), host_of(ODD, 2)
)
REQUESTS = st.builds(
    Request,
    vram_bytes=st.sampled_from([3, 4, 6, GIB // 2, GIB, 3 * GIB, 6 * GIB, 8 * GIB, 20 * GIB]),
    count=st.sampled_from([1, 1, 2, 3]),
    policy=st.sampled_from(["best_fit", "spread", "exclusive", "coolest"]),
    prefer=st.lists(st.sampled_from(UUIDS), max_size=2).map(tuple),
    avoid=st.just(()) | st.just(()) | st.lists(st.sampled_from(UUIDS), max_size=2).map(tuple),
    min_capability=st.sampled_from([None, None, (8, 0), (8, 6)]),
    compute_mode=st.sampled_from([None, None, None, "default", "exclusive_process"]),
    no_display=st.sampled_from([False, False, True]),
    model=st.sampled_from([None, *MODELS]),
    split=st.booleans(),
)
MIXED = [
    Capacity(
        uuid=uuid,
        index=0,
        name=name,
        largest_bytes=12 * GIB,
        free_bytes=free * GIB,
        foreign_bytes=0,
        reserved_bytes=0,
    )
    for uuid, name, free in (("GPU-a", "x", 3), ("GPU-b", "y", 4), ("GPU-c", "x", 5))
]
#: Nothing but their names tells them apart, and the order is not that of the names.
ALIKE = [replace(MIXED[0], uuid=uuid, index=index) for index, uuid in enumerate(("GPU-b", "GPU-a"))]


@settings(max_examples=EXAMPLES)
@given(REQUESTS, HOSTS)
@example(Request(vram_bytes=GIB), ALIKE)
@example(Request(vram_bytes=8 * GIB, split=True), MIXED)
@example(Request(vram_bytes=7 * GIB, split=True, count=2), MIXED)
def test_a_decision_is_what_the_rules_make_of_it(request: Request, gpus: list[Capacity]) -> None:
    placement = place(request, gpus)
    wanted = model.chosen(request, gpus)
    event(f"{placement.decision}, split={request.split}, count={request.count}")
    assert placement.chosen == (wanted or [])
    if wanted is None:
        assert placement.decision == ("wait" if model.may_ever(request, gpus) else "never")
    else:
        assert placement.decision == "grant"


@settings(max_examples=EXAMPLES)
@given(REQUESTS, HOSTS)
def test_candidates_are_the_gpus_it_could_be_granted_on_some_day(
    request: Request, gpus: list[Capacity]
) -> None:
    assert candidates(request, gpus) == model.may_ever(request, gpus)


@settings(max_examples=EXAMPLES)
@given(REQUESTS, HOSTS)
@example(Request(vram_bytes=7 * GIB + 1, split=True, count=2), MIXED)
def test_what_is_granted_sums_to_the_amount_and_fits_each_gpu(
    request: Request, gpus: list[Capacity]
) -> None:
    placement = place(request, gpus)
    free = {one.uuid: one.free_bytes for one in gpus}
    assert list(placement.reserved) == placement.chosen
    for uuid, size in placement.reserved.items():
        assert 0 < size <= free[uuid]
        assert request.split or size == request.vram_bytes
    if placement.chosen:
        assert sum(placement.reserved.values()) == request.total_bytes
        assert has_room(request, list(free.values())), "the cheap look may not say no to a grant"
    if placement.chosen and request.split:
        assert abs(sum(placement.split_ratio) - 1) < 1e-9
        assert len(placement.split_ratio) == len(placement.chosen)
        assert placement.tensor_split is not None
        parts = [int(part) for part in placement.tensor_split.split(",")]
        assert len(parts) == len(placement.chosen)
        assert min(parts) > 0
        for part, ratio in zip(parts, placement.split_ratio, strict=True):
            assert abs(part / sum(parts) - ratio) < 0.005
    else:
        assert (placement.split_ratio, placement.tensor_split) == ([], None)


@settings(max_examples=EXAMPLES // 3)
@given(REQUESTS, HOSTS)
def test_the_order_of_gpus_decides_nothing_and_each_gets_a_reason(
    request: Request, gpus: list[Capacity]
) -> None:
    placement = place(request, gpus)
    reasons: dict[str, Any] = {reason.uuid: reason for reason in placement.gpus}
    for order in model.orders(gpus):
        again = place(request, order)
        assert (again.chosen, again.reserved) == (placement.chosen, placement.reserved)
        assert {reason.uuid: reason for reason in again.gpus} == reasons
    for one in gpus:
        reason = reasons[one.uuid]
        assert reason.code
        assert reason.message
        assert reason.chosen == (one.uuid in placement.chosen)
        assert reason.admitted or not reason.chosen
        assert not reason.admitted or model.is_open(request, one)
