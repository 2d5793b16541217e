"""The recent past of one GPU, in bounded memory: 1 s for 15 minutes, 15 s for 24 h.

Each interval keeps least, mean and most. Four metrics of 4-byte floats, three figures each, cost
56 bytes an interval: about 370 kB for a GPU that was watched for a day.
"""

from __future__ import annotations

import math
from array import array
from typing import Final

from superezio.wire import GpuHistory, HistoryPoint
from supereziod.gpu.hardware import GpuSample

_SECOND: Final = 1_000_000_000
METRICS: Final = ("temperature_c", "power_w", "utilization_core_percent", "vram_used_bytes")
FINE_S: Final = 1.0
FINE_INTERVALS: Final = 900
COARSE_S: Final = 15.0
COARSE_INTERVALS: Final = 5760
_NOTHING: Final = math.nan
#: What the rings of one GPU take when they are full.
FULL_BYTES: Final = (FINE_INTERVALS + COARSE_INTERVALS) * (8 + 12 * len(METRICS))


class _Gather:
    """The figures of one metric in the interval that is not over yet."""

    __slots__ = ("count", "highest", "lowest", "total")

    def __init__(self) -> None:
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
        if not self.count:
            return _NOTHING, _NOTHING, _NOTHING
        return self.lowest, self.total / self.count, self.highest


class Series:
    """A ring of intervals of one length. An interval without a sample takes no room."""

    def __init__(self, *, interval_s: float, capacity: int) -> None:
        self._interval_ns = round(interval_s * _SECOND)
        self._capacity = capacity
        self._numbers = array("q")
        self._figures = array("f")
        self._next = 0
        self._number: int | None = None
        self._gathers = tuple(_Gather() for _ in METRICS)

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

    def points(self, metric: int, *, now_ns: int, since_ns: int) -> list[HistoryPoint]:
        """Return the intervals of a metric that ended after `since_ns`, oldest first."""
        points: list[HistoryPoint] = []
        stored = len(self._numbers)
        width = 3 * len(METRICS)
        oldest = self._next if stored == self._capacity else 0
        for offset in range(stored):
            slot = (oldest + offset) % stored
            start = slot * width + 3 * metric
            figures = self._figures[start : start + 3]
            self._append(points, self._numbers[slot], tuple(figures), now_ns, since_ns)
        if self._number is not None:
            figures_now = self._gathers[metric].figures()
            self._append(points, self._number, figures_now, now_ns, since_ns)
        return points

    @property
    def size_bytes(self) -> int:
        """The memory that the ring takes now."""
        return self._numbers.itemsize * len(self._numbers) + self._figures.itemsize * len(
            self._figures
        )

    def _append(
        self,
        points: list[HistoryPoint],
        number: int,
        figures: tuple[float, ...],
        now_ns: int,
        since_ns: int,
    ) -> None:
        middle_ns = number * self._interval_ns + self._interval_ns // 2
        # The ring's floats have seven digits; what follows is noise.
        lowest, mean, highest = (round(figure, 3) for figure in figures)
        if middle_ns < since_ns or math.isnan(mean):
            return
        age_s = max(0.0, round((now_ns - middle_ns) / _SECOND, 3))
        points.append(HistoryPoint(age_s=age_s, min=lowest, mean=mean, max=highest))

    def _close_interval(self) -> None:
        number = self._number or 0
        figures = array("f", [f for gather in self._gathers for f in gather.figures()])
        if len(self._numbers) < self._capacity:
            self._numbers.append(number)
            self._figures.extend(figures)
        else:
            width = len(figures)
            self._numbers[self._next] = number
            self._figures[self._next * width : (self._next + 1) * width] = figures
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
        temperature, power, utilization, vram = (
            series.points(metric, now_ns=now_ns, since_ns=since_ns)
            for metric in range(len(METRICS))
        )
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
