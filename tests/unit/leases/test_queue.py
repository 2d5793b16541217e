"""The queue: priority, then first come first served, bounded, and nobody starves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.errors import QueueFullError
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.queue import LeaseQueue, Waiting

GIB = 1 << 30


def waiting(
    name: str, *, gib: float = 1, priority: int = 0, uid: int = 1000, **fields: Any
) -> Waiting:
    return Waiting(
        id=name,
        uid=uid,
        request=Request(vram_bytes=round(gib * GIB), **fields),
        priority=priority,
        enqueued_ns=0,
        deadline_ns=10,
    )


def gpu(uuid: str, *, free: float, largest: float = 12) -> Capacity:
    return Capacity(
        uuid=uuid,
        index=0,
        name="card",
        largest_bytes=round(largest * GIB),
        free_bytes=round(free * GIB),
        foreign_bytes=0,
        reserved_bytes=0,
    )


def order(queue: LeaseQueue) -> list[str]:
    return [one.id for one in queue]


def test_equals_are_served_first_come_first_served() -> None:
    queue = LeaseQueue()
    assert [queue.add(waiting(name)) for name in "abc"] == [1, 2, 3]
    assert order(queue) == ["a", "b", "c"]


def test_a_higher_priority_goes_ahead_of_lower_ones_and_behind_its_like() -> None:
    queue = LeaseQueue()
    for name, priority in (("a", 0), ("b", 5), ("c", 5), ("d", 9), ("e", 0)):
        queue.add(waiting(name, priority=priority))
    assert order(queue) == ["d", "b", "c", "a", "e"]


def test_nobody_is_passed_over_without_bound() -> None:
    queue = LeaseQueue(max_passed=3)
    queue.add(waiting("low"))
    for index in range(5):
        queue.add(waiting(f"high-{index}", priority=9))
    assert order(queue) == ["high-0", "high-1", "high-2", "low", "high-3", "high-4"]
    for name in order(queue)[:3]:
        queue.remove(name)
    queue.add(waiting("late", priority=99))
    assert order(queue)[0] == "low"


def test_a_newcomer_that_is_granted_at_once_passes_over_too() -> None:
    queue = LeaseQueue(max_passed=2)
    queue.add(waiting("low"))
    gpus = [gpu("a", free=12)]
    large = Request(vram_bytes=12 * GIB)
    for _ in range(2):
        assert queue.place_behind(large, gpus, priority=1).decision == "grant"
        queue.pass_over(1)
    assert queue.place_behind(large, gpus, priority=1).decision == "wait"


def test_a_full_queue_refuses() -> None:
    queue = LeaseQueue(capacity=2)
    queue.add(waiting("a"))
    queue.add(waiting("b"))
    with pytest.raises(QueueFullError, match="2 acquires wait already"):
        queue.add(waiting("c"))
    assert len(queue) == 2


def test_one_user_cannot_fill_the_queue() -> None:
    queue = LeaseQueue(per_uid=2)
    queue.add(waiting("a", uid=1))
    queue.add(waiting("b", uid=1))
    with pytest.raises(QueueFullError, match="uid 1 has 2"):
        queue.add(waiting("c", uid=1))
    queue.add(waiting("d", uid=2))
    queue.remove("a")
    queue.add(waiting("c", uid=1))
    assert order(queue) == ["b", "d", "c"]


def test_a_refused_newcomer_has_passed_over_nobody() -> None:
    queue = LeaseQueue(per_uid=1, max_passed=1)
    queue.add(waiting("low", uid=1))
    with pytest.raises(QueueFullError):
        queue.add(waiting("other", uid=1, priority=9))
    queue.add(waiting("high", uid=2, priority=9))
    assert order(queue) == ["high", "low"]


def test_an_id_is_queued_once() -> None:
    queue = LeaseQueue()
    queue.add(waiting("a"))
    with pytest.raises(ValueError, match="twice"):
        queue.add(waiting("a"))


def test_removing_is_idempotent() -> None:
    queue = LeaseQueue()
    queue.add(waiting("a"))
    removed = queue.remove("a")
    assert removed is not None
    assert removed.id == "a"
    assert queue.remove("a") is None
    assert len(queue) == 0


def test_the_head_is_granted_first() -> None:
    queue = LeaseQueue()
    queue.add(waiting("a", gib=8))
    queue.add(waiting("b", gib=1))
    found = queue.first_grant([gpu("x", free=12)])
    assert found is not None
    assert found[0].id == "a"
    assert found[1].chosen == ["x"]


def test_a_small_one_does_not_starve_a_large_one_ahead_of_it() -> None:
    queue = LeaseQueue()
    queue.add(waiting("large", gib=8))
    queue.add(waiting("small", gib=1))
    gpus = [gpu("x", free=7), gpu("y", free=7)]
    assert queue.first_grant(gpus) is None
    reason = queue.place_behind(Request(vram_bytes=GIB), gpus).gpus[0]
    message = "kept for an acquire ahead that needs 8.0 GiB"
    assert (reason.code, reason.message) == ("queued", message)


def test_one_that_cannot_delay_the_head_is_granted() -> None:
    queue = LeaseQueue()
    queue.add(waiting("large", gib=8))
    queue.add(waiting("also large", gib=9))
    queue.add(waiting("small", gib=1))
    found = queue.first_grant([gpu("x", free=7), gpu("y", free=5, largest=5.5)])
    assert found is not None
    assert found[0].id == "small"
    assert found[1].chosen == ["y"]


def test_one_that_can_never_be_served_holds_up_nobody() -> None:
    queue = LeaseQueue()
    queue.add(waiting("impossible", gib=20))
    queue.add(waiting("two", gib=8, count=2))
    queue.add(waiting("small", gib=1))
    found = queue.first_grant([gpu("x", free=7), gpu("y", free=5, largest=5.5)])
    assert found is not None
    assert found[0].id == "small"


def test_a_waiter_is_told_why_it_waits_behind_those_ahead() -> None:
    queue = LeaseQueue()
    queue.add(waiting("large", gib=8))
    queue.add(waiting("small", gib=1))
    gpus = [gpu("x", free=7)]
    large = queue.place_behind(Request(vram_bytes=8 * GIB), gpus, behind="large")
    small = queue.place_behind(Request(vram_bytes=GIB), gpus, behind="small")
    assert [large.gpus[0].code, small.gpus[0].code] == ["insufficient_vram", "queued"]


def test_an_empty_queue_is_in_nobodys_way() -> None:
    queue = LeaseQueue()
    assert queue.first_grant([gpu("x", free=7)]) is None
    assert queue.place_behind(Request(vram_bytes=GIB), [gpu("x", free=7)]).chosen == ["x"]


ARRIVALS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40)


@given(ARRIVALS, st.integers(0, 4))
def test_the_bound_on_passing_over_holds_for_any_arrivals(
    arrivals: list[tuple[int, bool]], max_passed: int
) -> None:
    queue = LeaseQueue(max_passed=max_passed)
    arrived: list[Waiting] = []
    passed: dict[str, int] = {}
    for number, (priority, serve_one) in enumerate(arrivals):
        newcomer = waiting(str(number), priority=priority)
        ahead = [one.id for one in queue.ahead(priority=priority)]
        place_ = queue.add(newcomer)
        assert ahead == order(queue)[: place_ - 1]
        assert ahead == [one.id for one in queue.ahead(of=newcomer.id)]
        arrived.append(newcomer)
        passed[newcomer.id] = 0
        for behind in order(queue)[order(queue).index(newcomer.id) + 1 :]:
            passed[behind] += 1
        if serve_one:
            queue.remove(order(queue)[0])
        left = list(queue)
        assert max(passed.values()) <= max_passed
        for priority_here in range(4):
            ids = [int(one.id) for one in left if one.priority == priority_here]
            assert ids == sorted(ids), "equals keep their order"
