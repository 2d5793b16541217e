"""GPUs as a probe of the overheat unit reads them: CRITICAL, cool, cooling, or not to be read."""

from __future__ import annotations

import pytest

from probe_doubles import SECOND, Probes, uuid
from supereziod.gpu.frames import Failed, ProbeSpec
from supereziod.gpu.hardware import Fault
from supereziod.gpu.thermal import Thresholds
from supereziod.overheat.thermometer import Thermometer, longest_look_s, thresholds_of

SPEC = ProbeSpec(driver="nvml")


class Bench:
    """A thermometer whose probe and clock the test moves."""

    def __init__(self, *were_critical: str) -> None:
        self.now_ns = 100 * SECOND
        self.probes = Probes()
        self.thermometer = Thermometer(
            spec=SPEC,
            thresholds=thresholds_of(Thresholds(), {}),
            were_critical=were_critical,
            clock=lambda: self.now_ns,
            launch=self.probes.launch,
        )

    def read(self, seconds: int, *margins: int | None) -> None:
        """Read each GPU once a second, for so long."""
        for _ in range(seconds):
            self.now_ns += SECOND
            for index, margin in enumerate(margins):
                self.probes.last.reads(self.now_ns, index, margin=margin)
            self.thermometer.tick()

    @property
    def levels(self) -> list[str]:
        return [heat.level for heat in self.thermometer.heats()]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.probes.last.opens(0, 1)
    return bench


@pytest.fixture
async def hot() -> Bench:
    """The first of two GPUs was CRITICAL when the models were stopped."""
    bench = Bench(uuid(0))
    bench.probes.last.opens(0, 1)
    return bench


async def test_a_fresh_reading_says_which_gpu_is_critical(bench: Bench) -> None:
    assert not bench.thermometer.is_decided
    bench.read(2, 2, 50)
    assert not bench.thermometer.is_decided
    bench.read(3, 2, 50)
    assert bench.thermometer.is_decided
    assert bench.levels == ["critical", "normal"]
    assert bench.thermometer.heats()[0].words == "GPU 0 (Test GPU) reads CRITICAL at 91 C"


async def test_hot_is_not_critical(bench: Bench) -> None:
    bench.read(5, 3, 50)
    assert bench.thermometer.is_decided
    assert bench.levels == ["hot", "normal"]


async def test_what_is_not_read_is_neither_critical_nor_cool(hot: Bench) -> None:
    hot.read(1, 50, 50)
    hot.now_ns += 10 * SECOND
    hot.thermometer.tick()
    assert hot.levels == ["unknown", "unknown"]
    assert not hot.thermometer.are_cool([uuid(0)])
    assert not hot.thermometer.are_cooling([uuid(0)])


async def test_it_is_cool_once_it_has_left_critical_and_hot_by_the_rules(hot: Bench) -> None:
    hot.read(120, 12, 50)
    assert hot.levels == ["critical", "normal"]
    assert hot.thermometer.are_cooling([uuid(0)])
    hot.read(1, 12, 50)
    assert hot.levels == ["hot", "normal"]
    assert not hot.thermometer.are_cool([uuid(0)])
    hot.read(60, 12, 50)
    assert hot.levels == ["warm", "normal"]
    assert hot.thermometer.are_cool([uuid(0)])


async def test_what_stays_above_is_not_cooling(hot: Bench) -> None:
    hot.read(300, 9, 50)
    assert hot.levels == ["critical", "normal"]
    assert not hot.thermometer.are_cooling([uuid(0)])


async def test_another_gpu_that_gets_critical_is_waited_for_too(hot: Bench) -> None:
    hot.read(181, 50, 50)
    assert hot.thermometer.are_cool([uuid(0)])
    hot.read(3, 50, 1)
    assert not hot.thermometer.are_cool([uuid(0)])


async def test_a_gpu_that_hangs_is_told_of_and_is_not_waited_for_in_a_look(bench: Bench) -> None:
    bench.read(5, 50, 50)
    bench.probes.last.waits(bench.now_ns, 1)
    bench.now_ns += 4 * SECOND
    bench.probes.last.reads(bench.now_ns, 0)
    bench.thermometer.tick()
    assert bench.thermometer.is_decided
    words = [heat.words for heat in bench.thermometer.heats()]
    assert words[1] == (
        "GPU 1 (Test GPU) cannot be read (a call of the driver for it does not return)"
    )
    bench.probes.last.fails(1, "gpu_lost")
    assert "it is gpu_lost" in bench.thermometer.heats()[1].words


async def test_without_a_driver_it_says_so_at_once(bench: Bench) -> None:
    bench = Bench()
    bench.probes.last.says(Failed(fault=Fault(kind="no_driver", message="no driver is loaded")))
    assert bench.thermometer.is_decided
    assert bench.thermometer.fault == "no driver is loaded"
    assert bench.thermometer.heats() == []


async def test_a_probe_that_ends_is_followed_by_another_and_levels_stand(hot: Bench) -> None:
    hot.read(3, 1, 50)
    hot.probes.last.ends("signal 9")
    hot.thermometer.tick()
    assert len(hot.probes.launched) == 2
    hot.probes.last.opens(0, 1)
    hot.read(1, 1, 50)
    assert hot.levels == ["critical", "normal"]


async def test_a_probe_that_cannot_be_started_is_tried_again_after_a_pause() -> None:
    bench = Bench()
    bench.probes.last.ends("exit code 1")
    assert bench.thermometer.fault == "the probe ended before it had read a GPU (exit code 1)"
    bench.now_ns += SECOND
    bench.probes.refuse = OSError("no memory")
    bench.thermometer.tick()
    assert bench.thermometer.fault == "a probe cannot be started: no memory"
    bench.probes.refuse = None
    bench.thermometer.tick()
    assert len(bench.probes.launched) == 1
    bench.now_ns += SECOND
    bench.thermometer.tick()
    bench.probes.last.opens(0)
    assert len(bench.probes.launched) == 2
    bench.read(5, 50)
    assert bench.levels == ["normal"]


async def test_a_probe_is_told_to_end_with_the_thermometer(bench: Bench) -> None:
    bench.probes.last.obeys = True
    await bench.thermometer.aclose()
    await bench.thermometer.aclose()
    assert bench.probes.last.is_retired
    assert not bench.probes.last.is_abandoned


async def test_one_that_does_not_end_is_let_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supereziod.overheat.thermometer._END_WITHIN_S", 0.01)
    await bench.thermometer.aclose()
    assert bench.probes.last.is_abandoned


def test_a_look_lasts_until_brakes_of_the_hardware_would_count() -> None:
    assert longest_look_s(SPEC, Thresholds(), open_s=10) == 21
    assert longest_look_s(SPEC, Thresholds(critical_throttle_s=1), open_s=10) == 16
