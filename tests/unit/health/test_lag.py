"""How late the loop was at its worst, in the window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supereziod.health.lag import LoopLag
from unit.health.host import SECOND, Clock


def test_a_loop_that_nobody_measured_is_not_late(clock: Clock) -> None:
    assert LoopLag(clock=clock).worst_s() == 0.0


def test_a_loop_that_is_early_is_not_late(clock: Clock) -> None:
    lag = LoopLag(clock=clock)
    lag.observe(-5)
    assert lag.worst_s() == 0.0


@given(steps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1))
def test_the_worst_of_the_window_is_remembered_and_then_forgotten(
    steps: list[tuple[int, int]],
) -> None:
    clock = Clock()
    lag = LoopLag(clock=clock, window_s=60)
    seen: list[tuple[int, int]] = []
    for pause_s, late_s in steps:
        clock.advance(pause_s)
        lag.observe(late_s * SECOND)
        seen.append((clock.now_ns, late_s))
        recent = [late for at_ns, late in seen if clock.now_ns - at_ns <= 60 * SECOND]
        assert lag.worst_s() == max(recent)
    clock.advance(61)
    assert lag.worst_s() == 0.0
