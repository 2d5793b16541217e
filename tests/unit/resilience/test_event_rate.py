"""No user fills the journal: what is too fast is counted, and told as a number."""

from __future__ import annotations

import pytest

from gpu_views import FakeClock
from superezio.resilience.gcra import Gcra
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


def test_of_what_is_shared_the_rate_is_that_of_the_user_who_brings_it_about() -> None:
    rate = EventRate(clock=FakeClock())
    told = [rate.take(None, by=1000) for _ in range(10_000)]
    assert sum(each is not None for each in told) == BURST
    assert rate.take(1000) is None, "a user's own and what is shared are one account"
    assert rate.take(None, by=1001) == {}


def test_what_time_brings_about_of_what_is_shared_has_a_rate_of_its_own() -> None:
    rate = EventRate(clock=FakeClock())
    assert taken(rate, None, 10_000) == BURST
    assert rate.take(None, by=1000) == {}


def test_a_crowd_of_users_gives_nobody_their_burst_again() -> None:
    rate = EventRate(clock=FakeClock())
    taken(rate, 0, BURST)
    for uid in range(1, 1000):
        rate.take(uid)
    assert rate.take(0) is None


def test_users_who_have_been_quiet_are_forgotten_and_a_count_never_is() -> None:
    clock = FakeClock()
    rate = EventRate(clock=clock)
    taken(rate, 0, BURST + 1)
    for uid in range(1, 1000):
        clock.advance(1)
        rate.take(uid)
    assert len(rate._by_uid) <= 256
    assert rate.take(0) == {"left_out": 1}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When it was looked at a user, to see whether that one can be forgotten."""
    taken: list[int] = []
    is_full = Gcra.is_full

    def counted(rate: Gcra, now_ns: int) -> bool:
        taken.append(now_ns)
        return is_full(rate, now_ns)

    monkeypatch.setattr(Gcra, "is_full", counted)
    return taken


def test_of_a_crowd_that_has_to_be_kept_each_is_looked_at_twice_at_most(looks: list[int]) -> None:
    """Not all of them for each that comes, while the loop serves nobody else."""
    rate = EventRate(clock=FakeClock())
    for uid in range(2000):
        rate.take(uid)
    assert 0 < len(looks) <= 2 * 2000
    assert len(rate._by_uid) == 2000


def test_after_a_crowd_few_are_kept_again(looks: list[int]) -> None:
    clock = FakeClock()
    rate = EventRate(clock=clock)
    for uid in range(2000):
        rate.take(uid)
    looks.clear()
    for uid in range(2000, 6000):
        clock.advance(1)
        rate.take(uid)
    assert len(rate._by_uid) <= 256
    assert len(looks) <= 2 * 6000
