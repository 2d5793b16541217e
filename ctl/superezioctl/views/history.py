"""The past of one GPU as text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from superezio.quantities import format_duration
from superezio.wire import Gpu, GpuHistory, HistoryPoint
from superezioctl.output import Output
from superezioctl.views import plot
from superezioctl.views.gpus import short_name
from superezioctl.views.plot import Point, Scale
from superezioctl.views.text import place

_GIB, _MIB = 1 << 30, 1 << 20
#: Lines for one curve, by how many there are.
_ROWS = {1: 14, 2: 9}
_ROWS_OF_MANY = 6
#: A reading may come late, or be left out, without a gap in the curve.
_INTERVALS_TO_A_GAP = 3.5
#: Terminals whose fonts have no braille.
_WITHOUT_BRAILLE = frozenset({"linux", "dumb", "vt100", "vt220"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One curve: its name for people, its unit, and the points in that unit."""

    name: str
    unit: str
    points: Sequence[Point]

    def axis(self, rows: int) -> Scale:
        """Return the axis: of a share, all of it; of an amount, from nothing; else what is."""
        labels = rows // 2
        least = min(point.least for point in self.points)
        most = max(point.most for point in self.points)
        if self.unit == "%":
            return Scale(0, 100, 50 if rows < _ROWS[2] else 25)
        if self.unit != "°C" and most == 0:
            return Scale(0, 1, 1)  # nothing at all is no hundredth of a unit
        return plot.scale(least if self.unit == "°C" else 0.0, most, labels=labels)


def show(
    out: Output, raw: bytes, gpu: bytes, *, metrics: Sequence[str], now: datetime | None = None
) -> None:
    """Print a curve for each of `metrics`, with its least, mean and most, up to `now`."""
    history = msgspec.json.decode(raw, type=GpuHistory)
    whose = msgspec.json.decode(gpu, type=Gpu)
    known = _metrics(history)
    shown = [known[name] for name in metrics or known]
    span_s = max((point.age_s for metric in shown for point in metric.points), default=0.0)
    # The newest reading is a moment old, and the oldest is to be within the picture.
    span_s = max(span_s, history.resolution_s) + history.resolution_s / 2
    step = format_duration(history.resolution_s)
    out.paragraph(
        out.style(f"gpu {place(whose.index, whose.mig_index)}: {short_name(whose)}", "bold")
        + f", the last {format_duration(span_s)}, a value for each {step}"
    )
    rows = _ROWS.get(len(shown), _ROWS_OF_MANY)
    margin = max((metric.axis(rows).margin for metric in shown if metric.points), default=0)
    braille = out.unicode and os.environ.get("TERM", "") not in _WITHOUT_BRAILLE
    for metric in shown:
        out.line()
        if not metric.points:
            out.line(f"{metric.name}: nothing known")
            continue
        out.paragraph(_title(out, metric))
        for line in plot.plot(
            metric.points,
            metric.axis(rows),
            span_s=span_s,
            gap_s=_INTERVALS_TO_A_GAP * history.resolution_s,
            now=now or datetime.now().astimezone(),
            width=out.width,
            rows=rows,
            margin=margin,
            braille=braille,
        ):
            out.line(out.style(line, "note"))


def _title(out: Output, metric: Metric) -> str:
    points = metric.points
    mean = sum(point.mean for point in points) / len(points)
    least, most = min(point.least for point in points), max(point.most for point in points)
    figures = f"{_figure(least)} least, {_figure(mean)} mean, {_figure(most)} most"
    unit = metric.unit if out.unicode else metric.unit.removeprefix("°")
    return f"{out.style(f'{metric.name} in {unit}', 'bold')}: {figures}"


def _figure(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _metrics(history: GpuHistory) -> dict[str, Metric]:
    vram = history.vram_used_bytes
    small = max((point.max for point in vram), default=0.0) < _GIB
    unit, scale = ("MiB", _MIB) if small else ("GiB", _GIB)
    return {
        "temperature": Metric("temperature", "°C", _points(history.temperature_c)),
        "power": Metric("power", "W", _points(history.power_w)),
        "utilisation": Metric("utilisation", "%", _points(history.utilization_core_percent)),
        "vram": Metric("VRAM used", unit, _points(vram, scale)),
    }


def _points(points: Sequence[HistoryPoint], scale: int = 1) -> list[Point]:
    return [
        Point(point.age_s, point.min / scale, point.mean / scale, point.max / scale)
        for point in points
    ]
