"""The recent past of one GPU, in bounded memory: 1 s for 15 minutes, 15 s for 24 h.

Each interval keeps least, mean and most. Four metrics of 4-byte floats, three figures each, cost
56 bytes an interval: about 370 kB for a GPU that was watched for a day.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from superezio.wire import GpuHistory, HistoryPoint
from supereziod.gpu.hardware import GpuSample

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
METRICS: Final = ("temperature_c", "power_w", "utilization_core_percent", "vram_used_bytes")
#: Kept are whole thousandths, and whole bytes: the ring's floats hold these exactly to 24 bits,
#: and what is divided again has no digits behind the third, without being rounded at each query.
_SCALES: Final = (1000, 1000, 1000, 1)
FINE_S: Final = 1.0
FINE_INTERVALS: Final = 900
COARSE_S: Final = 15.0
COARSE_INTERVALS: Final = 5760
_NOTHING: Final = math.nan
#: Figures of one interval.
_WIDTH: Final = 3 * len(METRICS)
#: What the rings of one GPU take when they are full.
FULL_BYTES: Final = (FINE_INTERVALS + COARSE_INTERVALS) * (8 + 12 * len(METRICS))


class _Gather:
    """The figures of one metric in the interval that is not over yet."""

    __slots__ = ("_scale", "count", "highest", "lowest", "total")

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.total = 0.0
        self.lowest = math.inf
        self.highest = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def figures(self) -> tuple[float, float, float]:
        """Return least, mean and most, scaled."""
        if not self.count:
            return _NOTHING, _NOTHING, _NOTHING
        mean = self.total / self.count
        return (
            round(self.lowest * self._scale),
            round(mean * self._scale),
            round(self.highest * self._scale),
        )


class Series:
    """A ring of intervals of one length. An interval without a sample takes no room."""

    def __init__(self, *, interval_s: float, capacity: int) -> None:
        self._interval_ns = round(interval_s * _SECOND)
        self._capacity = capacity
        self._numbers = array("q")
        self._figures = array("f")
        self._next = 0
        self._number: int | None = None
        self._gathers = tuple(_Gather(scale) for scale in _SCALES)

    def add(self, values: tuple[float | None, ...], at_ns: int) -> None:
        """Take in one value of each metric. A reading older than the present interval is late."""
        number = at_ns // self._interval_ns
        if self._number is None:
            self._number = number
        if number < self._number:
            return
        if number > self._number:
            self._close_interval()
            self._number = number
        for gather, value in zip(self._gathers, values, strict=True):
            if value is not None:
                gather.add(value)

    def points(self, *, now_ns: int, since_ns: int) -> list[list[HistoryPoint]]:
        """Return the intervals whose middle is not before `since_ns`, in order, of each metric."""
        numbers, figures = self._since(since_ns)
        # From the middle, and half a millisecond more: it is rounded.
        newest_ns = now_ns - self._interval_ns // 2 + _MILLISECOND // 2
        ages = [
            max(0, newest_ns - number * self._interval_ns) // _MILLISECOND / 1000
            for number in numbers
        ]
        columns = [figures[start::_WIDTH] for start in range(_WIDTH)]
        return [
            _points(ages, columns[3 * metric : 3 * metric + 3], scale)
            for metric, scale in enumerate(_SCALES)
        ]

    @property
    def size_bytes(self) -> int:
        """The memory that the ring takes now."""
        return self._numbers.itemsize * len(self._numbers) + self._figures.itemsize * len(
            self._figures
        )

    def _since(self, since_ns: int) -> tuple[array[int], array[float]]:
        """Return the numbers and the figures of intervals, oldest first, with the present one."""
        oldest = self._next if len(self._numbers) == self._capacity else 0
        numbers = self._numbers[oldest:] + self._numbers[:oldest]
        figures = self._figures[oldest * _WIDTH :] + self._figures[: oldest * _WIDTH]
        if self._number is not None:
            numbers.append(self._number)
            figures.extend(self._figures_now())
        # The first whose middle is not before.
        first = -((self._interval_ns // 2 - since_ns) // self._interval_ns)
        start = bisect_left(numbers, first)
        return numbers[start:], figures[start * _WIDTH :]

    def _figures_now(self) -> array[float]:
        return array("f", [f for gather in self._gathers for f in gather.figures()])

    def _close_interval(self) -> None:
        number = self._number or 0
        figures = self._figures_now()
        if len(self._numbers) < self._capacity:
            self._numbers.append(number)
            self._figures.extend(figures)
        else:
            self._numbers[self._next] = number
            self._figures[self._next * _WIDTH : (self._next + 1) * _WIDTH] = figures
            self._next = (self._next + 1) % self._capacity
        for gather in self._gathers:
            gather.clear()


class History:
    """What one GPU did, at both resolutions."""

    def __init__(self) -> None:
        self._fine = Series(interval_s=FINE_S, capacity=FINE_INTERVALS)
        self._coarse = Series(interval_s=COARSE_S, capacity=COARSE_INTERVALS)

    def add(self, sample: GpuSample) -> None:
        """Take in a sample; what the card does not report leaves no point."""
        values = (
            sample.temperature_c,
            sample.power_w,
            sample.utilization_core_percent,
            sample.vram_used_bytes,
        )
        self._fine.add(values, sample.taken_ns)
        self._coarse.add(values, sample.taken_ns)

    def query(self, uuid: str, *, since_s: float, now_ns: int) -> GpuHistory:
        """Return the last `since_s` seconds: finely up to 15 minutes, else coarsely."""
        fine = since_s <= FINE_S * FINE_INTERVALS
        series = self._fine if fine else self._coarse
        since_ns = now_ns - round(since_s * _SECOND)
        temperature, power, utilization, vram = series.points(now_ns=now_ns, since_ns=since_ns)
        return GpuHistory(
            gpu=uuid,
            resolution_s=FINE_S if fine else COARSE_S,
            temperature_c=temperature,
            power_w=power,
            utilization_core_percent=utilization,
            vram_used_bytes=vram,
        )

    @property
    def size_bytes(self) -> int:
        """The memory that the rings take now."""
        return self._fine.size_bytes + self._coarse.size_bytes


def _points(
    ages: Sequence[float], columns: Sequence[Sequence[float]], scale: int
) -> list[HistoryPoint]:
    least, mean, most = columns
    return [
        HistoryPoint(age_s=age_s, min=low / scale, mean=middle / scale, max=high / scale)
        for age_s, low, middle, high in zip(ages, least, mean, most, strict=True)
        if middle == middle  # noqa: PLR0124 - not for _NOTHING, and cheaper than a call
    ]
