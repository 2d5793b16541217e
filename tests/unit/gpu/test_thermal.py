"""The thermal ladder against the table it promises, by example and against a naive model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superezio.wire import Level
from supereziod.gpu.hardware import GpuSample
from supereziod.gpu.thermal import LevelChange, ThermalLadder, Thresholds

SECOND = 1_000_000_000
SLOWDOWN_C = 93
SW, HW, POWER = 0x20, 0x40, 0x04
RANK: list[Level] = ["normal", "warm", "hot", "critical"]


def reading(
    at_s: float,
    margin: int | None,
    *,
    mask: int | None = 0,
    temperature: int | None = None,
    source: Literal["threshold", "t_limit"] = "threshold",
) -> GpuSample:
    if temperature is None and margin is not None:
        temperature = SLOWDOWN_C - margin
    return GpuSample(
        uuid="GPU-a",
        taken_ns=round(at_s * SECOND),
        vram_total_bytes=None,
        vram_used_bytes=None,
        vram_free_bytes=None,
        vram_driver_reserved_bytes=None,
        utilization_core_percent=None,
        utilization_memory_percent=None,
        temperature_c=temperature,
        margin_c=margin,
        margin_source=source if margin is not None else None,
        power_w=None,
        throttle_mask=mask,
    )


def blind(at_s: float, *, mask: int | None = 0) -> GpuSample:
    """A sample that came without a temperature."""
    return reading(at_s, None, mask=mask)


class Bench:
    """A ladder and a clock that the test turns; one sample a second."""

    def __init__(self, ladder: ThermalLadder | None = None, **limits: int) -> None:
        self.ladder = ladder or ThermalLadder(thresholds=Thresholds(**limits), period_s=1.0)
        self.now_s = 100
        self.changes: list[LevelChange] = []

    def feed(self, *margins: int | None, seconds: int = 1, mask: int | None = 0) -> Level:
        for margin in margins:
            for _ in range(seconds):
                self.now_s += 1
                self.take(reading(self.now_s, margin, mask=mask))
        return self.ladder.level

    def take(self, sample: GpuSample) -> LevelChange | None:
        return self._note(self.ladder.observe(sample, self.now_s * SECOND))

    def silence(self, seconds: int) -> Level:
        for _ in range(seconds):
            self.now_s += 1
            self._note(self.ladder.gap(self.now_s * SECOND))
        return self.ladder.level

    def _note(self, change: LevelChange | None) -> LevelChange | None:
        if change is not None:
            self.changes.append(change)
        return change

    @property
    def path(self) -> list[Level]:
        return [change.level for change in self.changes]


def at(level: Level) -> Bench:
    """A bench whose GPU has just come to `level`, by the rules."""
    bench = Bench()
    bench.feed(40)
    match level:
        case "warm":
            bench.feed(12, seconds=11)
        case "hot":
            bench.feed(6, seconds=6)
        case "critical":
            bench.feed(2, seconds=3)
    assert bench.ladder.level == level
    bench.changes.clear()
    return bench


def test_a_gpu_is_unknown_until_its_first_reading_and_normal_when_that_is_cool() -> None:
    bench = Bench()
    assert bench.ladder.level == "unknown"
    assert bench.feed(40) == "normal"
    assert bench.changes[0].previous == "unknown"


@pytest.mark.parametrize(
    ("margin", "level"), [(13, "normal"), (12, "warm"), (7, "warm"), (6, "hot"), (-3, "hot")]
)
def test_the_first_reading_places_a_gpu_by_its_margin(margin: int, level: Level) -> None:
    assert Bench().feed(margin) == level


@pytest.mark.parametrize(
    ("margin", "dwell_s", "level"), [(12, 10, "warm"), (6, 5, "hot"), (7, 10, "warm")]
)
def test_a_level_is_entered_at_its_margin_once_its_dwell_is_over(
    margin: int, dwell_s: int, level: Level
) -> None:
    bench = at("normal")
    bench.feed(margin, seconds=dwell_s)
    assert "critical" not in bench.path
    assert level not in bench.path
    assert bench.feed(margin) == level


def test_one_reading_above_the_margin_starts_the_dwell_again() -> None:
    bench = at("normal")
    bench.feed(12, seconds=10)
    bench.feed(13)
    assert bench.feed(12, seconds=10) == "normal"
    assert bench.feed(12) == "warm"


def test_critical_takes_three_samples() -> None:
    bench = at("normal")
    assert bench.feed(2, 2) == "normal"
    assert bench.feed(3, 2, 2) == "normal"
    assert bench.feed(2) == "critical"


def test_up_may_jump_from_normal_to_critical() -> None:
    bench = at("normal")
    bench.feed(-2, seconds=3)
    assert bench.path == ["critical"]


@pytest.mark.parametrize(
    ("level", "margin", "dwell_s"),
    [("warm", 17, 30), ("hot", 12, 60), ("critical", 10, 120)],
)
def test_a_level_is_left_for_the_one_below_once_its_dwell_is_over(
    level: Level, margin: int, dwell_s: int
) -> None:
    bench = at(level)
    bench.feed(margin, seconds=dwell_s)
    assert bench.path == []
    bench.feed(margin)
    assert bench.path == [RANK[RANK.index(level) - 1]]


@pytest.mark.parametrize(("level", "margin"), [("warm", 16), ("hot", 11), ("critical", 9)])
def test_a_level_is_not_left_below_its_margin_however_long(level: Level, margin: int) -> None:
    bench = at(level)
    assert bench.feed(margin, seconds=400) == level


def test_down_is_one_level_at_a_time_with_each_dwell_in_full() -> None:
    bench = at("critical")
    bench.feed(60, seconds=121)
    assert bench.path == ["hot"]
    bench.feed(60, seconds=59)
    assert bench.path == ["hot"]
    bench.feed(60, seconds=1)
    assert bench.path[-1] == "warm"
    bench.feed(60, seconds=29)
    assert bench.path[-1] == "warm"
    bench.feed(60, seconds=1)
    assert bench.path == ["hot", "warm", "normal"]


@pytest.mark.parametrize(("bit", "level"), [(SW, "warm"), (HW, "hot")])
def test_a_thermal_slowdown_in_three_of_five_samples_is_heat(bit: int, level: Level) -> None:
    bench = at("normal")
    for mask in (bit, 0, bit, 0, 0, bit, 0):  # never three in any five
        assert bench.feed(40, mask=mask) == "normal"
    bench.feed(40, mask=bit)
    assert bench.feed(40, mask=bit | POWER) == level


def test_a_hw_slowdown_for_ten_seconds_is_critical() -> None:
    bench = at("normal")
    bench.feed(40, seconds=10, mask=HW)
    assert bench.path == ["hot"]
    assert bench.feed(40, mask=HW) == "critical"


def test_a_hw_slowdown_that_pauses_is_not_yet_critical() -> None:
    bench = at("normal")
    bench.feed(40, seconds=10, mask=HW)
    bench.feed(40, mask=0)
    assert bench.feed(40, seconds=10, mask=HW) == "hot"


def test_a_card_that_stops_saying_whether_it_throttles_has_not_said_no() -> None:
    bench = at("normal")
    bench.feed(40, seconds=6, mask=HW)
    bench.feed(40, seconds=2, mask=None)
    bench.feed(40, seconds=2, mask=HW)
    assert bench.feed(40, mask=HW) == "critical"


def test_other_throttle_reasons_are_not_heat() -> None:
    bench = at("normal")
    assert bench.feed(40, seconds=30, mask=0x01 | POWER | 0x80) == "normal"


def test_a_level_is_not_left_while_the_card_still_throttles_for_it() -> None:
    bench = at("normal")
    bench.feed(40, seconds=3, mask=SW)
    assert bench.feed(40, seconds=60, mask=SW) == "warm"
    bench.feed(40, seconds=60)
    assert bench.path == ["warm", "normal"]


@pytest.mark.parametrize(
    ("level", "margin", "peak_c", "dwell_s", "closed_s"),
    [("warm", 17, 81, 30, 0), ("hot", 12, 87, 60, 60), ("critical", 10, 91, 120, 180)],
)
def test_a_gpu_that_is_cool_again_tells_for_how_long_its_level_stands(
    level: Level, margin: int, peak_c: int, dwell_s: int, closed_s: int
) -> None:
    """Its highest temperature is told as well, and when it admits leases: from WARM on."""
    bench = at(level)
    assert bench.ladder.cooling is None
    bench.feed(margin, seconds=11)
    cooling = bench.ladder.cooling
    assert cooling is not None
    assert (cooling.peak_c, cooling.cool_s, cooling.left_s) == (peak_c, 10, dwell_s - 10)
    assert cooling.closed_s == max(0, closed_s - 10)
    bench.feed(margin - 1)
    assert bench.ladder.cooling is None
    bench.feed(margin)
    assert bench.ladder.cooling is not None
    assert bench.ladder.cooling.cool_s == 0


def test_what_was_before_a_gpu_was_normal_is_no_peak() -> None:
    bench = at("critical")
    assert bench.feed(60, seconds=300) == "normal"
    assert bench.ladder.cooling is None
    bench.feed(12, seconds=11)
    bench.feed(60)
    assert bench.ladder.cooling is not None
    assert bench.ladder.cooling.peak_c == SLOWDOWN_C - 12


@pytest.mark.parametrize(("margin", "peak_c"), [(65, None), (7, None), (6, 87)])
def test_a_level_of_before_a_restart_has_no_peak_but_one_that_is_hot_enough(
    margin: int, peak_c: int | None
) -> None:
    """Else a GPU would be HOT as it was at 28 C."""
    resumed = ThermalLadder(thresholds=Thresholds(), period_s=1.0, resume="hot")
    bench = Bench(resumed)
    bench.feed(margin)
    assert bench.feed(65) == "hot"
    assert bench.ladder.cooling is not None
    assert bench.ladder.cooling.peak_c == peak_c


def test_nothing_is_cooling_that_is_unknown() -> None:
    bench = at("critical")
    bench.feed(60, seconds=10)
    bench.silence(3)
    assert bench.ladder.cooling is None


def test_three_periods_without_a_sample_are_unknown() -> None:
    bench = at("normal")
    assert bench.silence(2) == "normal"
    assert bench.silence(1) == "unknown"
    assert bench.changes[-1].previous == "normal"
    assert bench.silence(50) == "unknown"
    assert bench.path == ["unknown"]


def test_a_missing_temperature_is_unknown_and_never_cool() -> None:
    bench = at("normal")
    assert bench.feed(None, None) == "normal"
    assert bench.feed(None) == "unknown"
    assert bench.feed(None, seconds=60) == "unknown"


def test_a_card_that_never_gives_a_temperature_is_never_anything_but_unknown() -> None:
    bench = Bench()
    assert bench.feed(None, seconds=60, mask=None) == "unknown"
    assert bench.changes == []


def test_a_missing_margin_is_unknown_although_the_temperature_is_known() -> None:
    bench = Bench()
    sample = reading(101, None, temperature=40)
    bench.take(sample)
    assert bench.ladder.level == "unknown"


def test_a_threshold_that_is_set_serves_a_card_that_reports_none() -> None:
    bench = Bench(slowdown_temperature_c=90)
    change = bench.take(reading(100, None, temperature=80))
    assert change is not None
    assert (change.level, change.margin_c, change.temperature_c) == ("warm", 10, 80)


def test_missing_samples_break_the_dwell_of_leaving() -> None:
    bench = at("hot")
    bench.feed(40, seconds=59)
    bench.feed(None)
    assert bench.feed(40, seconds=60) == "hot"
    assert bench.feed(40) == "warm"


def test_missing_samples_do_not_delay_entering() -> None:
    bench = at("normal")
    bench.feed(6, 6, None, 6, None)
    assert bench.feed(6) == "hot"


def test_unknown_is_left_after_three_good_samples_in_a_row() -> None:
    bench = at("normal")
    bench.silence(3)
    assert bench.feed(40, 40, None, 40, 40) == "unknown"
    assert bench.feed(40) == "normal"


@pytest.mark.parametrize("level", ["warm", "hot", "critical"])
def test_a_gpu_comes_back_from_unknown_no_cooler_than_it_was(level: Level) -> None:
    bench = at(level)
    bench.silence(3)
    bench.feed(60, seconds=3)
    assert bench.path == ["unknown", level]


def test_a_gpu_comes_back_from_unknown_as_hot_as_it_reads() -> None:
    bench = at("normal")
    bench.silence(3)
    assert bench.feed(5, seconds=3) == "hot"
    bench.silence(3)
    assert bench.feed(2, seconds=3) == "critical"


def test_a_gpu_comes_back_from_unknown_hot_when_it_throttles() -> None:
    bench = at("normal")
    bench.silence(3)
    assert bench.feed(40, seconds=3, mask=HW) == "hot"


def test_evidence_from_before_a_gap_does_not_count() -> None:
    bench = at("normal")
    bench.feed(40, 40, mask=HW)
    bench.silence(3)
    bench.feed(40, mask=HW)
    assert bench.feed(40, 40) == "normal"


def test_a_sample_after_a_long_gap_is_the_first_of_three() -> None:
    bench = at("normal")
    bench.now_s += 60
    assert bench.feed(40) == "unknown"
    assert bench.feed(40) == "unknown"
    assert bench.feed(40) == "normal"
    assert bench.path == ["unknown", "normal"]


def test_the_same_sample_twice_is_one_sample() -> None:
    bench = at("normal")
    bench.now_s += 1
    sample = reading(bench.now_s, 2)
    for _ in range(5):
        bench.take(sample)
    assert bench.ladder.level == "normal"


def test_a_sample_that_arrives_too_late_is_not_fresh() -> None:
    bench = at("normal")
    bench.now_s += 10
    bench.take(reading(bench.now_s - 5, 40))
    assert bench.ladder.level == "unknown"


@pytest.mark.parametrize("margin", [0, -2])
def test_a_t_limit_margin_of_zero_or_less_is_not_trusted_alone(margin: int) -> None:
    bench = at("normal")
    for _ in range(3):
        bench.now_s += 1
        bench.take(reading(bench.now_s, margin, temperature=45, source="t_limit"))
    assert bench.path == ["unknown"]


@pytest.mark.parametrize(("mask", "temperature"), [(SW, 45), (HW, 45), (0, 76), (None, 80)])
def test_a_t_limit_margin_is_trusted_with_a_second_signal(
    mask: int | None, temperature: int
) -> None:
    ladder = ThermalLadder(thresholds=Thresholds(), period_s=1.0, max_temperature_c=88)
    bench = Bench(ladder)
    bench.feed(40)
    for _ in range(3):
        bench.now_s += 1
        bench.take(reading(bench.now_s, -2, temperature=temperature, mask=mask, source="t_limit"))
    assert bench.ladder.level == "critical"


def test_a_power_brake_is_no_second_signal() -> None:
    bench = Bench()
    bench.take(reading(100, -1, temperature=45, mask=0x80, source="t_limit"))
    assert bench.ladder.level == "unknown"


def test_a_t_limit_margin_above_zero_is_trusted() -> None:
    bench = Bench()
    bench.take(reading(100, 1, temperature=45, source="t_limit"))
    assert bench.ladder.level == "hot"


def test_a_level_known_from_before_a_restart_stands_until_it_is_left_by_the_rules() -> None:
    ladder = ThermalLadder(thresholds=Thresholds(), period_s=1.0, resume="hot")
    bench = Bench(ladder)
    assert bench.feed(40) == "hot"
    assert bench.feed(40, seconds=61) == "warm"


def test_a_change_tells_the_reading_that_caused_it() -> None:
    bench = at("normal")
    bench.feed(1, seconds=3, mask=SW)
    change = bench.changes[-1]
    assert change.previous == "normal"
    assert change.level == "critical"
    assert (change.temperature_c, change.margin_c, change.throttle_mask) == (92, 1, SW)
    assert "margin" in change.reason


def test_every_change_has_a_reason_for_people() -> None:
    bench = at("normal")
    bench.feed(40, seconds=11, mask=HW)
    bench.feed(60, seconds=125)
    bench.silence(3)
    reasons = [change.reason for change in bench.changes]
    assert reasons == [
        "HW thermal slowdown in 3 of 4 samples",
        "HW thermal slowdown for 10 s",
        "margin 60 C, cool enough for 120 s",
        "no good sample for 3.0 s",
    ]


def test_no_sample_from_before_a_sleep_counts_towards_a_dwell() -> None:
    """A night may lie between two samples that are a second apart by their clock."""
    entering = at("normal")
    entering.feed(6, seconds=4)
    entering.ladder.interrupt(entering.now_s * SECOND)
    assert entering.feed(6, seconds=5) == "normal"
    assert entering.feed(6, seconds=1) == "hot"
    leaving = at("hot")
    leaving.feed(12, seconds=59)
    leaving.ladder.interrupt(leaving.now_s * SECOND)
    assert leaving.feed(12, seconds=60) == "hot"
    assert leaving.feed(12, seconds=1) == "warm"


def test_a_sample_from_before_a_sleep_that_comes_after_it_is_not_taken() -> None:
    bench = at("normal")
    late = reading(bench.now_s, 2)
    bench.now_s += 1
    bench.ladder.interrupt(bench.now_s * SECOND)
    bench.take(late)
    assert bench.feed(2, 2) == "normal", "two of three samples"
    assert bench.feed(2) == "critical"


@pytest.mark.parametrize(
    "limits",
    [
        {"warm_enter_c": 6},
        {"hot_leave_c": 6},
        {"critical_leave_c": 1},
        {"throttle_samples": 6},
        {"throttle_samples": 0},
        {"critical_enter_samples": 0},
        {"unknown_good_samples": 0},
    ],
)
def test_thresholds_that_make_no_ladder_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Thresholds(**limits)


def test_thresholds_scale_in_time_and_in_nothing_else() -> None:
    scaled = Thresholds().scaled(0.1)
    assert (scaled.warm_enter_s, scaled.critical_leave_s) == (1.0, 12.0)
    assert (scaled.warm_enter_c, scaled.critical_enter_samples) == (12, 3)


@given(
    threshold=st.sampled_from([2, 6, 10, 12, 17]),
    start=st.sampled_from(RANK),
    swings=st.lists(st.integers(-1, 1), min_size=1, max_size=200),
)
@settings(max_examples=60, deadline=None)
def test_a_swing_of_one_degree_round_a_threshold_never_flaps(
    threshold: int, start: Level, swings: list[int]
) -> None:
    """The level may move once towards where it belongs, and never turns back."""
    bench = at(start)
    for swing in swings:
        bench.feed(threshold + swing, seconds=3)
    steps = [RANK.index(change.level) - RANK.index(change.previous) for change in bench.changes]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


# --- against a model ----------------------------------------------------------------------------

LIMITS = Thresholds().scaled(0.1)
ENTER: dict[Level, tuple[int, float]] = {"warm": (12, 1.0), "hot": (6, 0.5)}
LEAVE: dict[Level, tuple[int, float]] = {
    "warm": (17, 3.0),
    "hot": (12, 6.0),
    "critical": (10, 12.0),
}


class Model:
    """The table read aloud: it keeps every sample, and asks the whole past at each step."""

    def __init__(self) -> None:
        self.level: Level = "unknown"
        self.before: Level = "normal"
        self.past: list[tuple[float, int, int] | None] = []  # None: a sample without a value
        self.since = 0  # from which entry of the past this level may be left
        self.last_good_s: float | None = None
        self.met = False

    def step(self, at_s: float, margin: int | None, mask: int) -> None:
        self.silence(at_s)
        if margin is None:
            self.past.append(None)
            return
        self.last_good_s = at_s
        self.past.append((at_s, margin, mask))
        if self.level == "unknown":
            self.come_back(margin)
            return
        heated: list[Level] = [level for level in RANK if self.heated(level, self.good())]
        top = heated[-1] if heated else RANK[0]
        if RANK.index(top) > RANK.index(self.level):
            self.enter(top)
        elif self.level != "normal" and self.cooled():
            self.enter(RANK[RANK.index(self.level) - 1])

    def sleep(self) -> None:
        self.past.clear()
        self.since = 0

    def silence(self, at_s: float) -> None:
        if (
            self.level != "unknown"
            and self.last_good_s is not None
            and at_s - self.last_good_s >= 3
        ):
            self.before = self.level
            self.level = "unknown"
            self.past.clear()

    def come_back(self, margin: int) -> None:
        needed = 3 if self.met else 1
        if len(self.past) < needed or None in self.past[-needed:]:
            return
        self.met = True
        levels: list[Level] = [self.before]
        levels += ["hot"] if margin <= 6 else ["warm"] if margin <= 12 else []
        levels += [level for level in RANK if self.heated(level, self.good())]
        self.enter(max(levels, key=RANK.index))

    def enter(self, level: Level) -> None:
        self.level = level
        self.since = len(self.past) - 1

    def good(self) -> list[tuple[float, int, int]]:
        return [each for each in self.past if each is not None]

    def heated(self, level: Level, past: list[tuple[float, int, int]]) -> bool:
        margins = [(at_s, margin) for at_s, margin, _ in past]
        recent = [mask for _, _, mask in past[-5:]]
        if level == "warm":
            return self.held(margins, "warm") or sum(bool(mask & SW) for mask in recent) >= 3
        if level == "hot":
            return self.held(margins, "hot") or sum(bool(mask & HW) for mask in recent) >= 3
        if level == "critical":
            three = [margin for _, margin in margins[-3:]]
            braking = [at_s for at_s, _ in tail((at_s, bool(mask & HW)) for at_s, _, mask in past)]
            long = bool(braking) and braking[-1] - braking[0] >= 1.0
            return (len(three) == 3 and max(three) <= 2) or long
        return False

    def held(self, margins: list[tuple[float, int]], level: Level) -> bool:
        limit, dwell_s = ENTER[level]
        run = tail((at_s, margin <= limit) for at_s, margin in margins)
        return bool(run) and run[-1][0] - run[0][0] >= dwell_s

    def cooled(self) -> bool:
        limit, dwell_s = LEAVE[self.level]
        cool: list[tuple[float, bool]] = []
        for index in range(self.since, len(self.past)):
            each = self.past[index]
            if each is None:
                cool.append((0.0, False))
                continue
            so_far = [known for known in self.past[: index + 1] if known is not None]
            cool.append((each[0], each[1] >= limit and not self.heated(self.level, so_far)))
        run = tail(cool)
        return bool(run) and run[-1][0] - run[0][0] >= dwell_s


def tail(flags: Iterable[tuple[float, bool]]) -> list[tuple[float, bool]]:
    """The unbroken run of true flags at the end."""
    run: list[tuple[float, bool]] = []
    for at_s, flag in flags:
        run = [*run, (at_s, True)] if flag else []
    return run


STRETCHES = st.lists(
    st.tuples(
        st.sampled_from([None, -1, 2, 3, 6, 7, 9, 10, 11, 12, 13, 16, 17, 40]),
        st.sampled_from([0, 0, 0, SW, HW, SW | HW, POWER]),
        st.sampled_from([0.5, 0.5, 0.5, 1.0, 2.5, 3.0, 4.0]),
        st.sampled_from([1, 2, 3, 4, 8, 26]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=12,
)


@given(stretches=STRETCHES)
@settings(max_examples=150, deadline=None)
def test_the_ladder_is_the_table(
    stretches: list[tuple[int | None, int, float, int, bool]],
) -> None:
    """Whatever comes, the level is what a naive reading of the table says."""
    ladder = ThermalLadder(thresholds=LIMITS, period_s=1.0)
    model = Model()
    now_s = 10.0
    for margin, mask, pause_s, count, slept in stretches:
        if slept:
            ladder.interrupt(round(now_s * SECOND))
            model.sleep()
        for _ in range(count):
            now_s += pause_s
            before = ladder.level
            change = ladder.observe(reading(now_s, margin, mask=mask), round(now_s * SECOND))
            model.step(now_s, margin, mask)
            assert ladder.level == model.level
            assert (change is not None) == (before != ladder.level)
