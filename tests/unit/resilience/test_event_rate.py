"""A user's own names do not fill the journal: what is too fast is counted, and told as a number."""

from __future__ import annotations

from gpu_views import FakeClock
from supereziod.resilience.event_rate import BURST, PER_SECOND, EventRate


def taken(rate: EventRate, owner: int | None, times: int) -> int:
    """Return how many of `times` events were let through."""
    return sum(rate.take(owner) is not None for _ in range(times))


def test_a_burst_and_then_so_many_a_second() -> None:
    clock = FakeClock()
    rate = EventRate(clock=clock)
    assert taken(rate, 1000, 1000) == BURST == 200
    clock.advance(1)
    assert taken(rate, 1000, 1000) == PER_SECOND == 20


def test_what_was_left_out_is_told_once_as_a_count_with_the_next_event() -> None:
    clock = FakeClock()
    rate = EventRate(clock=clock)
    taken(rate, 1000, BURST + 7)
    clock.advance(1)
    assert rate.take(1000) == {"left_out": 7}
    assert rate.take(1000) == {}


def test_a_user_who_is_too_fast_takes_nothing_from_others() -> None:
    rate = EventRate(clock=FakeClock())
    taken(rate, 1000, 1000)
    assert taken(rate, 1001, BURST) == BURST


def test_what_is_shared_is_never_cut() -> None:
    rate = EventRate(clock=FakeClock())
    assert taken(rate, None, 10_000) == 10_000
    assert rate.take(None) == {}


def test_users_who_have_been_quiet_are_forgotten_and_a_count_never_is() -> None:
    clock = FakeClock()
    rate = EventRate(clock=clock)
    taken(rate, 0, BURST + 1)
    for uid in range(1, 1000):
        clock.advance(1)
        rate.take(uid)
    assert len(rate._by_uid) <= 256
    assert rate.take(0) == {"left_out": 1}
