"""What a simulated card's load does to its power, its temperature and its clocks."""

from __future__ import annotations

import math

from supereziod.gpu.hardware import HW_THERMAL_SLOWDOWN, SW_THERMAL_SLOWDOWN
from supereziod.gpu.profiles import Profile

_GPU_IDLE = 0x1
_ROOM_C = 25.0
#: A GeForce holds itself this far under its slowdown threshold, and says "SW thermal slowdown".
_TARGET_BELOW_SLOWDOWN_C = 10


class Heat:
    """A body that warms to where its power takes it: first order, one time constant.

    It starts as warm as its load keeps it, as if it had run like this for long: a probe that is
    replaced does not find a cold card.
    """

    def __init__(self, profile: Profile, *, ambient_c: float) -> None:
        self._profile = profile
        self._ambient_c = ambient_c
        self._celsius: float | None = None
        self._at_ns = 0
        self.energy_j = 0.0

    def power_w(self, load_percent: int) -> float:
        """Return what the card draws at this load."""
        profile = self._profile
        span_w = profile.power_limit_w - profile.idle_power_w
        return profile.idle_power_w + span_w * load_percent / 100

    def advance(self, now_ns: int, *, load_percent: int, forced_c: float | None) -> float:
        """Go on to `now_ns` under this load and return the temperature in degrees Celsius."""
        power_w = self.power_w(load_percent)
        elapsed_s = max(0, now_ns - self._at_ns) / 1e9 if self._celsius is not None else 0.0
        self.energy_j += power_w * elapsed_s
        settled_c = self._settled_c(power_w)
        if forced_c is not None:
            self._celsius = forced_c
        elif self._celsius is None:
            self._celsius = settled_c
        else:
            remains = math.exp(-elapsed_s / self._profile.settling_s)
            self._celsius = settled_c + (self._celsius - settled_c) * remains
        self._at_ns = now_ns
        return self._celsius

    def _settled_c(self, power_w: float) -> float:
        per_watt = (self._profile.full_load_c - _ROOM_C) / self._profile.power_limit_w
        return self._ambient_c + power_w * per_watt


def throttle_mask(profile: Profile, *, celsius: float, load_percent: int) -> int:
    """Return the throttle reasons of a card that is this warm."""
    mask = 0 if load_percent else _GPU_IDLE
    if celsius >= profile.slowdown_temperature_c:
        mask |= HW_THERMAL_SLOWDOWN
    elif celsius >= profile.slowdown_temperature_c - _TARGET_BELOW_SLOWDOWN_C:
        mask |= SW_THERMAL_SLOWDOWN
    return mask


def clocks_mhz(profile: Profile, *, load_percent: int, mask: int) -> tuple[int, int]:
    """Return the clocks of core and memory."""
    if not load_percent:
        return 210, 405
    if mask & HW_THERMAL_SLOWDOWN:
        return profile.clock_core_mhz // 2, profile.clock_memory_mhz
    if mask & SW_THERMAL_SLOWDOWN:
        return profile.clock_core_mhz * 4 // 5, profile.clock_memory_mhz
    return profile.clock_core_mhz, profile.clock_memory_mhz
