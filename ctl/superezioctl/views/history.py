"""The past of one GPU as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from superezio.quantities import format_duration, format_size
from superezio.wire import GpuHistory, HistoryPoint
from superezioctl.output import Output

_STEPS = "▁▂▃▄▅▆▇█"
_STEPS_ASCII = "_.-=+*%#"


def show(out: Output, raw: bytes) -> None:
    """Print a curve for each metric, with its least, mean and most."""
    history = msgspec.json.decode(raw, type=GpuHistory)
    metrics: list[tuple[str, list[HistoryPoint], str]] = [
        ("temperature", history.temperature_c, "°C"),
        ("power", history.power_w, "W"),
        ("utilisation", history.utilization_core_percent, "%"),
        ("VRAM used", history.vram_used_bytes, ""),
    ]
    oldest = max((point.age_s for _, points, _ in metrics for point in points), default=0.0)
    out.line(
        out.style(history.gpu, "bold")
        + f", the last {format_duration(oldest)}, each {format_duration(history.resolution_s)}"
    )
    for name, points, unit in metrics:
        if not points:
            out.line(f"  {name:<12} nothing known")
            continue
        least = min(point.min for point in points)
        most = max(point.max for point in points)
        mean = sum(point.mean for point in points) / len(points)
        figures = " / ".join(_figure(value, unit) for value in (least, mean, most))
        out.line(f"  {name:<12} {figures} {unit} (least / mean / most)".replace("  (", " ("))
        oldest_first = sorted(points, key=lambda point: -point.age_s)
        drawn = curve([point.mean for point in oldest_first], out.width - 4, unicode=out.unicode)
        out.line(f"    {out.style(drawn, 'note')}")


def curve(values: Sequence[float], width: int, *, unicode: bool) -> str:
    """Draw values, oldest first, in at most `width` columns."""
    steps = _STEPS if unicode else _STEPS_ASCII
    columns = min(width, len(values))
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(steps[round((mean - low) / span * (len(steps) - 1))] for mean in means)


def _figure(value: float, unit: str) -> str:
    return f"{value:.0f}" if unit else format_size(value)
