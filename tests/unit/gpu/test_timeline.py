"""What a scenario has in force at a moment."""

from __future__ import annotations

from supereziod.gpu.scenario import parse_scenario
from supereziod.gpu.timeline import Timeline

SECOND = 1_000_000_000


def timeline(*events: str, slot: int | None = 0) -> Timeline:
    text = "".join(f"[[event]]\n{event}\n" for event in events)
    return Timeline(parse_scenario(text.replace(";", "\n")).events, slot=slot)


def test_a_hang_ends_after_its_time() -> None:
    card = timeline('at="2s";for="3s";gpu=0;kind="hang"')
    assert [card.presence(s * SECOND) for s in (0, 2, 4, 5)] == ["there", "hang", "hang", "there"]


def test_a_lost_gpu_stays_lost_until_it_is_back() -> None:
    card = timeline('at="1s";gpu=0;kind="lost"', 'at="4s";gpu=0;kind="back"')
    assert [card.presence(s * SECOND) for s in (0, 3, 4)] == ["there", "lost", "there"]


def test_a_gpu_can_vanish() -> None:
    assert timeline('at="0s";gpu=0;kind="vanish"').presence(0) == "vanished"


def test_events_of_another_gpu_do_not_matter() -> None:
    assert timeline('at="0s";gpu=1;kind="hang"').presence(SECOND) == "there"


def test_a_temperature_holds_from_its_moment_on() -> None:
    card = timeline('at="1s";gpu=0;kind="temperature";celsius=95')
    assert card.temperature_c(0, cool_c=30) is None
    assert card.temperature_c(9 * SECOND, cool_c=30) == 95


def test_heat_is_a_ramp_from_cool_that_stays_up() -> None:
    card = timeline('at="0s";gpu=0;kind="heat";celsius=90;over="10s"')
    assert [card.temperature_c(s * SECOND, cool_c=30) for s in (0, 5, 10, 99)] == [30, 60, 90, 90]


def test_heat_over_no_time_is_there_at_once() -> None:
    card = timeline('at="0s";gpu=0;kind="heat";celsius=90;over="0s"')
    assert card.temperature_c(0, cool_c=30) == 90


def test_foreign_vram_adds_up_while_it_lasts() -> None:
    card = timeline(
        'at="0s";gpu=0;kind="foreign";vram="1GiB"',
        'at="1s";for="1s";gpu=0;kind="foreign";vram="2GiB"',
    )
    assert [card.foreign_bytes(s * SECOND) >> 30 for s in (0, 1, 2)] == [1, 3, 1]


def test_load_and_ecc_errors() -> None:
    card = timeline('at="1s";gpu=0;kind="load";percent=80', 'at="1s";gpu=0;kind="ecc";count=2')
    assert (card.load_percent(0), card.load_percent(SECOND)) == (0, 80)
    assert (card.ecc_uncorrected(0), card.ecc_uncorrected(SECOND)) == (0, 2)


def test_an_xid_is_there_once() -> None:
    card = timeline('at="1s";gpu=0;kind="xid";xid=79')
    assert card.xids(after_ns=0, until_ns=SECOND) == [(SECOND, 79)]
    assert card.xids(after_ns=SECOND, until_ns=9 * SECOND) == []


def test_the_driver_goes_is_upgraded_and_comes_back() -> None:
    driver = timeline(
        'at="1s";kind="no_driver"',
        'at="2s";kind="version_mismatch"',
        'at="3s";kind="driver_back"',
        slot=None,
    )
    faults = [driver.driver_fault(s * SECOND) for s in range(4)]
    assert faults == [None, "no_driver", "version_mismatch", None]
