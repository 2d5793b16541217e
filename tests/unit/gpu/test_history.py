"""The recent past of a GPU: two resolutions, least, mean and most, bounded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from supereziod.gpu.hardware import GpuSample
from supereziod.gpu.history import FULL_BYTES, History, Series

SECOND = 1_000_000_000


def sample(at_s: float, *, temperature: int | None = 50, vram: int | None = 0) -> GpuSample:
    return GpuSample(
        uuid="GPU-a",
        taken_ns=round(at_s * SECOND),
        vram_total_bytes=None,
        vram_used_bytes=vram,
        vram_free_bytes=None,
        vram_driver_reserved_bytes=None,
        utilization_core_percent=None,
        utilization_memory_percent=None,
        temperature_c=temperature,
        margin_c=None,
        margin_source=None,
        power_w=30.5,
        throttle_mask=None,
    )


def test_the_last_15_minutes_are_kept_by_the_second() -> None:
    history = History()
    for second in range(1000):
        history.add(sample(second, temperature=second % 90))
    past = history.query("GPU-a", since_s=900, now_ns=1000 * SECOND)
    assert past.resolution_s == 1.0
    assert len(past.temperature_c) == 900
    newest = past.temperature_c[-1]
    assert (newest.age_s, newest.mean) == (0.5, 999 % 90)
    assert past.temperature_c[0].age_s == pytest.approx(899.5)


def test_readings_of_one_second_are_one_point_with_least_mean_and_most() -> None:
    history = History()
    for at_s, celsius in ((10.0, 40), (10.3, 46), (10.6, 43)):
        history.add(sample(at_s, temperature=celsius))
    (point,) = history.query("GPU-a", since_s=60, now_ns=11 * SECOND).temperature_c
    assert (point.min, point.mean, point.max) == (40, 43, 46)


def test_a_day_is_kept_by_15_seconds_and_no_longer() -> None:
    history = History()
    for step in range(25 * 240):
        history.add(sample(step * 15.0, temperature=step % 100))
        history.add(sample(step * 15.0 + 7, temperature=step % 100 + 2))
    past = history.query("GPU-a", since_s=86_400, now_ns=25 * 3600 * SECOND)
    assert past.resolution_s == 15.0
    assert len(past.power_w) == 5760
    point = past.temperature_c[-1]
    assert point.max - point.min == 2
    assert point.mean == (point.max + point.min) / 2
    ages = [point.age_s for point in past.temperature_c]
    assert ages == sorted(ages, reverse=True)


def test_what_a_card_does_not_report_leaves_no_points() -> None:
    history = History()
    history.add(sample(1))
    history.add(sample(2, temperature=None))
    past = history.query("GPU-a", since_s=60, now_ns=3 * SECOND)
    assert past.utilization_core_percent == []
    assert len(past.temperature_c) == 1
    assert len(past.power_w) == 2


def test_nothing_older_than_asked_for_is_returned() -> None:
    history = History()
    for second in range(100):
        history.add(sample(second))
    assert len(history.query("GPU-a", since_s=10, now_ns=100 * SECOND).power_w) == 10


def test_a_reading_of_an_interval_that_is_over_is_left_out() -> None:
    series = Series(interval_s=1, capacity=4)
    series.add((1.0, None, None, None), 5 * SECOND)
    series.add((9.0, None, None, None), 4 * SECOND)
    temperature, *_ = series.points(now_ns=6 * SECOND, since_ns=0)
    assert [point.max for point in temperature] == [1.0]


def test_vram_of_large_cards_is_exact_enough() -> None:
    history = History()
    history.add(sample(1, vram=80 << 30))
    (point,) = history.query("GPU-a", since_s=60, now_ns=2 * SECOND).vram_used_bytes
    assert point.max == 80 << 30


def test_eight_gpus_fit_in_a_few_megabytes() -> None:
    history = History()
    for second in range(90_000):
        history.add(sample(second))
    assert history.size_bytes == FULL_BYTES
    assert 8 * FULL_BYTES < 4_000_000


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls that `work` makes: its cost, whatever else the machine does."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_a_day_costs_the_loop_no_more_than_its_points() -> None:
    history = History()
    for step in range(5800):
        history.add(sample(step * 15.0))
    now_ns = 5800 * 15 * SECOND
    day = calls_of(lambda: history.query("GPU-a", since_s=86_400, now_ns=now_ns))
    assert day < 3 * 5760, "a few for each interval"
    hour = calls_of(lambda: history.query("GPU-a", since_s=3600, now_ns=now_ns))
    assert hour < day / 20, "what is older is not looked at"


def test_figures_have_three_decimals() -> None:
    history = History()
    for at_s, celsius in ((1.0, 40), (1.2, 40), (1.4, 41), (2.0, 1)):
        history.add(sample(at_s, temperature=celsius))
    past = history.query("GPU-a", since_s=60, now_ns=round(2.7186 * SECOND))
    point, now = past.temperature_c
    assert (point.mean, now.mean) == (40.333, 1)
    assert (point.age_s, now.age_s) == (1.219, 0.219)
    assert past.power_w[0].max == 30.5
