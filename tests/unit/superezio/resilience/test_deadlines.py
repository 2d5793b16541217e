"""Deadlines: the earliest first, whatever was taken out before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superezio.resilience.deadlines import Deadlines


@given(
    times=st.lists(st.integers(0, 50), max_size=200),
    removed=st.sets(st.integers(0, 199)),
    now=st.integers(0, 50),
)
def test_what_is_due_comes_in_the_order_of_its_deadlines(
    times: list[int], removed: set[int], now: int
) -> None:
    deadlines: Deadlines[int] = Deadlines()
    numbers = [deadlines.add(at, place) for place, at in enumerate(times)]
    for place in removed & set(range(len(times))):
        deadlines.remove(numbers[place])
        assert deadlines.get(numbers[place]) is None
    left = sorted((at, place) for place, at in enumerate(times) if place not in removed)
    assert deadlines.next_ns() == min((at for at, _ in left), default=None)
    due = []
    while (item := deadlines.pop_due(now)) is not None:
        due.append((times[item], item))
    assert due == [each for each in left if each[0] <= now]
    assert len(deadlines) == len(left) - len(due)


def test_what_was_taken_out_is_not_kept() -> None:
    deadlines: Deadlines[str] = Deadlines()
    kept = [deadlines.add(10, "kept") for _ in range(10)]
    for _ in range(10_000):
        deadlines.remove(deadlines.add(5, "gone"))
    assert len(deadlines._heap) < 200
    assert [deadlines.get(each) for each in kept] == ["kept"] * 10
    assert deadlines.next_ns() == 10
