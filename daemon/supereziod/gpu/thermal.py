"""The thermal ladder of one GPU: a pure state machine over its samples.

Everything that moves a GPU between NORMAL, WARM, HOT, CRITICAL and UNKNOWN is in this file. It
works on the margin: degrees Celsius from the temperature to the slowdown threshold. Three
decisions that the ladder's table leaves open:

- A sample without a temperature or without a margin that can be trusted is not a good sample. It
  never counts as cool: it breaks the dwell of leaving, and leaves that of entering standing.
- A GPU that comes back from UNKNOWN is no cooler than it was before, and where its margin says
  WARM or HOT it is placed there at once: nobody saw how long that has lasted.
- The very first good sample places a GPU, so that a daemon that starts does not refuse leases on
  a cool GPU for three periods.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from superezio.wire import Level
from supereziod.gpu.hardware import HW_THERMAL_SLOWDOWN, SW_THERMAL_SLOWDOWN, Cooling, GpuSample

_RUNGS: Final[tuple[Level, ...]] = ("normal", "warm", "hot", "critical")
_THERMAL_BITS: Final = SW_THERMAL_SLOWDOWN | HW_THERMAL_SLOWDOWN


class Thresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a GPU enters and leaves each level: margins in degrees Celsius, dwells in seconds.

    `slowdown_temperature_c` takes the place of the card's own threshold, and is the way to use a
    card that reports none. Raises ValueError where a level would be left before it is entered.
    """

    warm_enter_c: int = 12
    warm_enter_s: float = 10.0
    warm_leave_c: int = 17
    warm_leave_s: float = 30.0
    hot_enter_c: int = 6
    hot_enter_s: float = 5.0
    hot_leave_c: int = 12
    hot_leave_s: float = 60.0
    critical_enter_c: int = 2
    critical_enter_samples: int = 3
    critical_throttle_s: float = 10.0
    critical_leave_c: int = 10
    critical_leave_s: float = 120.0
    throttle_samples: int = 3
    throttle_window: int = 5
    unknown_after_periods: int = 3
    unknown_good_samples: int = 3
    slowdown_temperature_c: int | None = None

    def __post_init__(self) -> None:
        if not self.critical_enter_c < self.hot_enter_c < self.warm_enter_c:
            raise ValueError("margins to enter must grow from critical to hot to warm")
        for level in _RUNGS[1:]:
            if getattr(self, f"{level}_leave_c") <= getattr(self, f"{level}_enter_c"):
                raise ValueError(f"{level}_leave_c must be more than {level}_enter_c")
        if not 1 <= self.throttle_samples <= self.throttle_window:
            raise ValueError("throttle_samples must be from 1 to throttle_window")
        counts = (self.critical_enter_samples, self.unknown_after_periods)
        if min(*counts, self.unknown_good_samples) < 1:
            raise ValueError("numbers of samples and of periods must be at least 1")

    def scaled(self, factor: float) -> Thresholds:
        """Return the same ladder with every dwell multiplied, for a rehearsal in short time."""
        names = [name for name in self.__struct_fields__ if name.endswith("_s")]
        return replace(self, **{name: getattr(self, name) * factor for name in names})


class LevelChange(Struct, frozen=True, kw_only=True):
    """One step of the ladder, with the reading that caused it (the last one for UNKNOWN)."""

    previous: Level
    level: Level
    reason: str
    temperature_c: int | None
    margin_c: int | None
    throttle_mask: int | None


class ThermalLadder:
    """The level of one GPU.

    `resume` is a level known from before a restart: the GPU is at least there until it has left
    it by the rules. `max_temperature_c`, the card's own highest temperature, serves as the second
    signal that a T.Limit margin at or below zero needs.
    """

    def __init__(
        self,
        *,
        thresholds: Thresholds,
        period_s: float,
        max_temperature_c: int | None = None,
        resume: Level = "unknown",
    ) -> None:
        self.level: Level = "unknown"
        self._thresholds = thresholds
        self._patience_ns = round(thresholds.unknown_after_periods * period_s * 1e9)
        self._max_temperature_c = max_temperature_c
        self._before: Level = "normal" if resume == "unknown" else resume
        self._good_needed = 1
        self._good = 0
        self._heat = _Heat(thresholds)
        self._cool = _Run()
        self._newest_ns: int | None = None
        self._good_ns: int | None = None
        self._reading: tuple[GpuSample, int] | None = None
        #: The highest temperature since it was NORMAL, with its margin.
        self._peak: tuple[int, int] | None = None

    @property
    def cooling(self) -> Cooling | None:
        """How far the GPU is from the level below; None where it is not on its way there."""
        if self.level in ("normal", "unknown") or not self._cool.count:
            return None
        dwell_s: float = getattr(self._thresholds, f"{self.level}_leave_s")
        left_s = max(0.0, dwell_s - self._cool.seconds)
        after_s = {"warm": -left_s, "hot": 0.0, "critical": self._thresholds.hot_leave_s}
        return Cooling(
            peak_c=self._peak_c,
            cool_s=self._cool.seconds,
            left_s=left_s,
            closed_s=left_s + after_s[self.level],
        )

    def observe(self, sample: GpuSample, now_ns: int) -> LevelChange | None:
        """Take one sample in; return the change it makes, if any."""
        taken_ns = sample.taken_ns
        repeated = self._newest_ns is not None and taken_ns <= self._newest_ns
        if repeated or now_ns - taken_ns >= self._patience_ns:
            return self.gap(now_ns)
        self._newest_ns = taken_ns
        margin = self._margin(sample)
        if margin is None:
            self._good = 0
            self._cool.clear()
            return self.gap(now_ns)
        lost = self.gap(taken_ns)
        self._good_ns = taken_ns
        self._good += 1
        self._reading = (sample, margin)
        self._note_peak(sample, margin)
        self._heat.feed(margin, sample.throttle_mask, taken_ns)
        if self.level == "unknown":
            return lost or self._recover()
        return self._climb() or self._descend(margin, taken_ns)

    def gap(self, now_ns: int) -> LevelChange | None:
        """Notice that no good sample came for too long; return the change to UNKNOWN, if any."""
        if self.level == "unknown" or self._good_ns is None:
            return None
        silent_ns = now_ns - self._good_ns
        if silent_ns < self._patience_ns:
            return None
        self._before = self.level
        self._good = 0
        self._good_needed = self._thresholds.unknown_good_samples
        self._heat = _Heat(self._thresholds)
        return self._move("unknown", f"no good sample for {silent_ns / 1e9:.1f} s")

    def interrupt(self, now_ns: int) -> None:
        """Let no sample from before `now_ns` count towards a dwell: the host slept since.

        The level stands, until samples from now on have changed it.
        """
        self._newest_ns = now_ns
        self._good = 0
        self._heat = _Heat(self._thresholds)
        self._cool.clear()

    def _margin(self, sample: GpuSample) -> int | None:
        temperature = sample.temperature_c
        if temperature is None:
            return None
        if self._thresholds.slowdown_temperature_c is not None:
            return self._thresholds.slowdown_temperature_c - temperature
        margin = sample.margin_c
        if margin is None or sample.margin_source != "t_limit" or margin > 0:
            return margin
        throttled = (sample.throttle_mask or 0) & _THERMAL_BITS
        limit = self._max_temperature_c
        near = limit is not None and temperature >= limit - self._thresholds.warm_enter_c
        return margin if throttled or near else None

    def _note_peak(self, sample: GpuSample, margin: int) -> None:
        if sample.temperature_c is None:
            return
        seen = (sample.temperature_c, margin)
        if self.level == "normal" or self._peak is None or seen[0] > self._peak[0]:
            self._peak = seen

    @property
    def _peak_c(self) -> int | None:
        """The peak, where it is what the level is for: one that was resumed may not have been."""
        if self._peak is None:
            return None
        temperature_c, margin = self._peak
        enter_c: int = getattr(self._thresholds, f"{self.level}_enter_c")
        return temperature_c if margin <= enter_c else None

    def _recover(self) -> LevelChange | None:
        if self._good < self._good_needed or self._reading is None:
            return None
        margin = self._reading[1]
        placed: Level = "normal"
        if margin <= self._thresholds.hot_enter_c:
            placed = "hot"
        elif margin <= self._thresholds.warm_enter_c:
            placed = "warm"
        heated: list[Level] = [level for level in _RUNGS if self._heat.reason(level)]
        level = max(placed, self._before, *heated, key=_RUNGS.index)
        change = self._move(level, f"readings are good again, margin {margin} C")
        self._feed_cool(margin, self._reading[0].taken_ns)
        return change

    def _climb(self) -> LevelChange | None:
        for level in reversed(_RUNGS[_RUNGS.index(self.level) + 1 :]):
            reason = self._heat.reason(level)
            if reason is not None:
                return self._move(level, reason)
        return None

    def _descend(self, margin: int, taken_ns: int) -> LevelChange | None:
        if self.level == "normal":
            return None
        dwell_s: float = getattr(self._thresholds, f"{self.level}_leave_s")
        self._feed_cool(margin, taken_ns)
        if not self._cool.lasted(dwell_s):
            return None
        below = _RUNGS[_RUNGS.index(self.level) - 1]
        change = self._move(below, f"margin {margin} C, cool enough for {dwell_s:g} s")
        self._feed_cool(margin, taken_ns)
        return change

    def _feed_cool(self, margin: int, taken_ns: int) -> None:
        if self.level == "normal":
            return
        leave_c: int = getattr(self._thresholds, f"{self.level}_leave_c")
        cool = margin >= leave_c and self._heat.reason(self.level) is None
        self._cool.feed(holds=cool, at_ns=taken_ns)

    def _move(self, level: Level, reason: str) -> LevelChange:
        sample, margin = self._reading if self._reading is not None else (None, None)
        change = LevelChange(
            previous=self.level,
            level=level,
            reason=reason,
            temperature_c=sample.temperature_c if sample is not None else None,
            margin_c=margin,
            throttle_mask=sample.throttle_mask if sample is not None else None,
        )
        self.level = level
        self._cool.clear()
        return change


class _Run:
    """For how long, and for how many samples, something has held without a break."""

    def __init__(self) -> None:
        self.count = 0
        self._first_ns = 0
        self._last_ns = 0

    def feed(self, *, holds: bool, at_ns: int) -> None:
        if not holds:
            self.clear()
            return
        if self.count == 0:
            self._first_ns = at_ns
        self.count += 1
        self._last_ns = at_ns

    def clear(self) -> None:
        self.count = 0

    @property
    def seconds(self) -> float:
        return (self._last_ns - self._first_ns) / 1e9 if self.count else 0.0

    def lasted(self, seconds: float) -> bool:
        return self.count > 0 and self._last_ns - self._first_ns >= round(seconds * 1e9)


class _Heat:
    """The evidence for each level, from the good samples since the last gap."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._warm = _Run()
        self._hot = _Run()
        self._critical = _Run()
        self._braking = _Run()
        self._braking_now = False
        self._software: deque[bool] = deque(maxlen=thresholds.throttle_window)
        self._hardware: deque[bool] = deque(maxlen=thresholds.throttle_window)

    def feed(self, margin: int, throttle_mask: int | None, at_ns: int) -> None:
        limits = self._thresholds
        self._warm.feed(holds=margin <= limits.warm_enter_c, at_ns=at_ns)
        self._hot.feed(holds=margin <= limits.hot_enter_c, at_ns=at_ns)
        self._critical.feed(holds=margin <= limits.critical_enter_c, at_ns=at_ns)
        mask = throttle_mask or 0
        self._software.append(bool(mask & SW_THERMAL_SLOWDOWN))
        self._braking_now = bool(mask & HW_THERMAL_SLOWDOWN)
        self._hardware.append(self._braking_now)
        if throttle_mask is not None:  # a card that does not say has not said no
            self._braking.feed(holds=self._braking_now, at_ns=at_ns)

    def reason(self, level: Level) -> str | None:
        """Return why the GPU belongs at `level`, or None if nothing says that."""
        if level == "critical":
            return self._critical_reason()
        if level == "hot":
            return self._hot_reason()
        if level == "warm":
            return self._warm_reason()
        return None

    def _critical_reason(self) -> str | None:
        limits = self._thresholds
        if self._critical.count >= limits.critical_enter_samples:
            return f"margin at most {limits.critical_enter_c} C in {self._critical.count} samples"
        if self._braking_now and self._braking.lasted(limits.critical_throttle_s):
            return f"HW thermal slowdown for {limits.critical_throttle_s:g} s"
        return None

    def _hot_reason(self) -> str | None:
        limits = self._thresholds
        if self._hot.lasted(limits.hot_enter_s):
            return f"margin at most {limits.hot_enter_c} C for {limits.hot_enter_s:g} s"
        return self._throttled("HW", self._hardware)

    def _warm_reason(self) -> str | None:
        limits = self._thresholds
        if self._warm.lasted(limits.warm_enter_s):
            return f"margin at most {limits.warm_enter_c} C for {limits.warm_enter_s:g} s"
        return self._throttled("SW", self._software)

    def _throttled(self, origin: str, window: deque[bool]) -> str | None:
        count = sum(window)
        if count < self._thresholds.throttle_samples:
            return None
        return f"{origin} thermal slowdown in {count} of {len(window)} samples"
