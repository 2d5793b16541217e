"""What a request asks of a GPU: its kind, its mode, no display; coolest; its like beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, ask, caller_of, lease_host
from probe_doubles import NO_DETAILS
from superezio.errors import InvalidParamsError, NeverFitsError
from superezio.wire import Placement
from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request, parse_capability
from supereziod.leases.placement import candidates, place

ME = caller_of()
SETTLING = Block(code="settling", message="not read yet")


def gpu(uuid: str, *, free: float = 12, **fields: Any) -> Capacity:
    defaults: dict[str, Any] = {
        "index": ord(uuid[-1]) - ord("a"),
        "name": "card",
        "largest_bytes": 12 * GIB,
        "foreign_bytes": 0,
        "reserved_bytes": 0,
    }
    return Capacity(uuid=uuid, free_bytes=round(free * GIB), **(defaults | fields))


def request(gib: float = 4, **fields: Any) -> Request:
    return Request(vram_bytes=round(gib * GIB), **fields)


def reason(placement: Placement, uuid: str) -> tuple[str, str]:
    return next((each.code, each.message) for each in placement.gpus if each.uuid == uuid)


# --- constraints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "is_so", "code", "message"),
    [
        (
            {"min_capability": (8, 6)},
            {"capability": (7, 5)},
            "capability_too_low",
            "its compute capability is 7.5, and the request needs 8.6",
        ),
        (
            {"min_capability": (8, 6)},
            {"capability": None},
            "capability_unknown",
            "its compute capability is not known, and the request needs 8.6",
        ),
        (
            {"compute_mode": "exclusive_process"},
            {"compute_mode": "default"},
            "compute_mode_differs",
            "its compute mode is DEFAULT, and the request needs EXCLUSIVE_PROCESS",
        ),
        (
            {"compute_mode": "default"},
            {"compute_mode": None},
            "compute_mode_unknown",
            "its compute mode is not known, and the request needs DEFAULT",
        ),
        (
            {"no_display": True},
            {"drives_display": True},
            "drives_display",
            "it drives a display, and the request wants one that does not",
        ),
        (
            {"no_display": True},
            {"drives_display": None},
            "display_unknown",
            "whether it drives a display is not known, and the request wants one that does not",
        ),
    ],
)
def test_a_gpu_that_does_not_meet_a_constraint_says_which(
    asked: dict[str, Any], is_so: dict[str, Any], code: str, message: str
) -> None:
    placement = place(request(**asked), [gpu("a", **is_so)])
    assert reason(placement, "a") == (code, message)
    # No GPU of the host can ever meet it, so that waiting would be for nothing.
    assert placement.decision == "never"
    assert place(request(), [gpu("a", **is_so)]).decision == "grant"


@pytest.mark.parametrize(
    ("least", "has"), [((8, 6), (8, 6)), ((8, 6), (8, 9)), ((8, 9), (12, 0)), ((9, 0), (10, 0))]
)
def test_a_compute_capability_is_compared_by_its_numbers(
    least: tuple[int, int], has: tuple[int, int]
) -> None:
    assert place(request(min_capability=least), [gpu("a", capability=has)]).chosen == ["a"]


def test_a_gpu_that_meets_all_of_them_is_taken() -> None:
    fit = gpu("b", capability=(8, 9), compute_mode="default", drives_display=False)
    asked = request(min_capability=(8, 0), compute_mode="default", no_display=True)
    assert place(asked, [gpu("a", free=5), fit]).chosen == ["b"]


def test_what_is_not_known_yet_of_a_gpu_is_waited_for() -> None:
    """Its mode and display come with its first pass: until then it may be the right one."""
    for asked in ({"compute_mode": "default"}, {"no_display": True}):
        unread = gpu("a", block=SETTLING)
        assert place(request(**asked), [unread]).decision == "wait"
        assert candidates(request(**asked), [unread]) == {"a"}
        assert place(request(**asked), [gpu("a")]).decision == "never"
    known = gpu("a", block=SETTLING, drives_display=True)
    assert place(request(no_display=True), [known]).decision == "never"


def test_a_gpu_that_cannot_serve_is_not_kept_for_a_waiter() -> None:
    old, new = gpu("a", capability=(7, 5)), gpu("b", free=1, capability=(8, 6))
    asked = request(min_capability=(8, 6))
    assert place(asked, [old, new]).decision == "wait"
    assert candidates(asked, [old, new]) == {"b"}


@pytest.mark.parametrize("text", ["8.6", "12.0", "9"])
def test_a_compute_capability_is_written_with_a_dot(text: str) -> None:
    major, minor = parse_capability(text)
    assert (major, minor) == tuple(int(part) for part in f"{text}.0".split(".")[:2])


@pytest.mark.parametrize(
    "text", ["", ".", "8.", ".6", "8.6.1", "sm_86", "-8.6", "8.6 ", "٨.٦", "9999.0"]
)
async def test_a_compute_capability_that_is_none_is_refused(host: LeaseHost, text: str) -> None:
    with pytest.raises(InvalidParamsError, match="min_compute_capability: cannot read"):
        host.leases.acquire(ME, ask(min_compute_capability=text))


# --- coolest ------------------------------------------------------------------------------------


def test_coolest_takes_the_gpu_with_the_largest_margin() -> None:
    gpus = [gpu("a", free=12, margin_c=20), gpu("b", free=5, margin_c=31), gpu("c", margin_c=30)]
    placement = place(request(policy="coolest"), gpus)
    assert placement.chosen == ["b"]
    assert reason(placement, "b")[1] == "coolest: 1.0 GiB stay free"


def test_coolest_takes_an_unknown_margin_for_the_worst() -> None:
    gpus = [gpu("a", free=12, margin_c=None), gpu("b", free=5, margin_c=-10)]
    assert place(request(policy="coolest"), gpus).chosen == ["b"]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"free": 6}, {"free": 7}),
        ({"utilization_core_percent": 9}, {"utilization_core_percent": 8}),
        ({"leases": 2}, {"leases": 1}),
    ],
)
def test_coolest_goes_on_as_spread_does(worse: dict[str, Any], better: dict[str, Any]) -> None:
    gpus = [gpu("a", margin_c=30, **worse), gpu("b", margin_c=30, **better)]
    assert place(request(policy="coolest"), gpus).chosen == ["b"]
    twins = [gpu("b", margin_c=30, index=0), gpu("a", margin_c=30, index=1)]
    assert place(request(policy="coolest"), twins).chosen == ["a"]


# --- the same model -----------------------------------------------------------------------------


def test_a_gpu_with_the_same_model_comes_before_others() -> None:
    mine = (1000, "llama-3-8b")
    gpus = [gpu("a", free=5), gpu("b", free=9, models=frozenset({mine}))]
    placement = place(request(model=mine), gpus)
    assert placement.chosen == ["b"]
    assert reason(placement, "b")[1] == (
        "best_fit: beside your lease with the same model, 5.0 GiB stay free"
    )
    assert place(request(), gpus).chosen == ["a"]


def test_a_preferred_gpu_comes_before_one_with_the_same_model() -> None:
    mine = (1000, "llama-3-8b")
    gpus = [gpu("a", free=5), gpu("b", free=9, models=frozenset({mine}))]
    assert place(request(model=mine, prefer=("a",)), gpus).chosen == ["a"]


def test_the_model_of_another_user_is_another_model() -> None:
    theirs = frozenset({(1001, "llama-3-8b")})
    gpus = [gpu("a", free=5), gpu("b", free=9, models=theirs)]
    placement = place(request(model=(1000, "llama-3-8b")), gpus)
    assert placement.chosen == ["a"]
    assert "model" not in reason(placement, "b")[1]


# --- as a lease ---------------------------------------------------------------------------------


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


async def test_a_second_lease_goes_to_the_gpu_that_has_its_model(host: LeaseHost) -> None:
    assert host.now(ME, vram=7, model="llama").gpus[0].uuid == BIG
    assert host.now(ME, vram=1, model="llama").gpus[0].uuid == BIG
    assert host.now(ME, vram=5, model="whisper").gpus[0].uuid == SMALL


async def test_a_model_draws_nobody_once_its_leases_are_over(host: LeaseHost) -> None:
    lease = host.now(ME, vram=7, model="llama")
    host.leases.release(ME, lease.id)
    host.monitor.read()
    assert host.now(ME, vram=2, model="llama").gpus[0].uuid == SMALL


async def test_the_name_of_a_model_is_for_its_owner(host: LeaseHost) -> None:
    lease = host.now(ME, vram=2, model="secret-model")
    other = caller_of(uid=4242, connection="c9")
    assert host.leases.get(ME, lease.id).model == "secret-model"
    assert host.leases.get(other, lease.id).model is None


async def test_a_model_draws_its_like_after_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        host.now(ME, vram=7, model="llama")
    async with lease_host(tmp_path) as host:
        assert host.now(ME, vram=2, model="llama").gpus[0].uuid == BIG


@pytest.mark.parametrize("model", ["", "x" * 129, "two\nlines", "\x1b[31m"])
async def test_a_name_of_a_model_that_is_none_is_refused(host: LeaseHost, model: str) -> None:
    with pytest.raises(InvalidParamsError, match="model has 1 to 128 printable characters"):
        host.leases.acquire(ME, ask(model=model))


async def test_an_acquire_that_no_gpu_can_ever_serve_is_refused_at_once(host: LeaseHost) -> None:
    with pytest.raises(NeverFitsError, match=r"compute capability is 8\.6"):
        host.leases.acquire(ME, ask(min_compute_capability="9.0", wait_ms=60_000))
    host.big.details = host.small.details = replace(NO_DETAILS, drives_display=True)
    host.monitor.read()
    with pytest.raises(NeverFitsError, match="it drives a display"):
        host.leases.acquire(ME, ask(no_display=True, wait_ms=60_000))
    host.small.details = replace(NO_DETAILS, drives_display=False)
    host.monitor.read()
    assert host.now(ME, vram=2, no_display=True).gpus[0].uuid == SMALL
