"""A simulated card warms with its load and cools without it."""

from __future__ import annotations

import pytest

from supereziod.gpu.physics import Heat, clocks_mhz, throttle_mask
from supereziod.gpu.profiles import PROFILES, find_profile, simulated_uuid

SECOND = 1_000_000_000
CARD = PROFILES["RTX 3060"]


def test_a_card_settles_where_its_load_takes_it() -> None:
    heat = Heat(CARD, ambient_c=25)
    heat.advance(0, load_percent=0, forced_c=None)
    warm = [heat.advance(s * SECOND, load_percent=100, forced_c=None) for s in range(1, 300)]
    assert warm == sorted(warm)
    assert warm[-1] == pytest.approx(CARD.full_load_c, abs=0.5)


def test_after_one_time_constant_two_thirds_of_the_way_are_done() -> None:
    heat = Heat(CARD, ambient_c=25)
    cold = heat.advance(0, load_percent=0, forced_c=None)
    at_ns = round(CARD.settling_s * SECOND)
    there = heat.advance(at_ns, load_percent=100, forced_c=None)
    assert (there - cold) / (CARD.full_load_c - cold) == pytest.approx(0.632, abs=0.01)


def test_a_forced_temperature_cools_off_slowly_once_it_is_let_go() -> None:
    heat = Heat(CARD, ambient_c=25)
    assert heat.advance(0, load_percent=0, forced_c=95) == 95
    later = heat.advance(SECOND, load_percent=0, forced_c=None)
    assert 90 < later < 95


def test_a_new_probe_finds_a_card_as_warm_as_its_load_keeps_it() -> None:
    assert Heat(CARD, ambient_c=25).advance(5, load_percent=100, forced_c=None) == pytest.approx(
        CARD.full_load_c
    )


def test_a_warmer_room_makes_a_warmer_card() -> None:
    cool, warm = (
        Heat(CARD, ambient_c=c).advance(0, load_percent=50, forced_c=None) for c in (20, 35)
    )
    assert warm - cool == pytest.approx(15)


def test_energy_is_power_over_time() -> None:
    heat = Heat(CARD, ambient_c=25)
    heat.advance(0, load_percent=100, forced_c=None)
    heat.advance(10 * SECOND, load_percent=100, forced_c=None)
    assert heat.energy_j == pytest.approx(CARD.power_limit_w * 10)


@pytest.mark.parametrize(
    ("celsius", "load", "mask"), [(30, 0, 0x1), (30, 50, 0), (86, 50, 0x20), (95, 50, 0x40)]
)
def test_a_hot_card_says_why_it_is_slow(celsius: float, load: int, mask: int) -> None:
    assert throttle_mask(CARD, celsius=celsius, load_percent=load) == mask


def test_clocks_follow_load_and_throttling() -> None:
    idle, full, soft, hard = (
        clocks_mhz(CARD, load_percent=load, mask=mask)[0]
        for load, mask in ((0, 0x1), (90, 0), (90, 0x20), (90, 0x40))
    )
    assert idle < hard < soft < full == CARD.clock_core_mhz


def test_profiles_are_found_however_they_are_written() -> None:
    assert find_profile("a100 80gb") is PROFILES["A100 80GB"]
    assert find_profile("RTX3060") is CARD
    assert find_profile("GTX 9999") is None


def test_every_profile_is_plausible() -> None:
    for profile in PROFILES.values():
        assert profile.idle_power_w < profile.power_limit_w
        assert profile.full_load_c < profile.slowdown_temperature_c < profile.shutdown_temperature_c
        assert 0 < profile.driver_reserved_bytes < profile.vram_bytes / 8


def test_uuids_are_stable_and_differ_by_slot() -> None:
    assert simulated_uuid(0, CARD) == simulated_uuid(0, CARD)
    assert simulated_uuid(0, CARD) != simulated_uuid(1, CARD)
    assert len(simulated_uuid(0, CARD)) == len("GPU-00000000-0000-0000-0000-000000000000")
