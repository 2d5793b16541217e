"""Curves over time as text: braille dots, or asterisks where a terminal has none of these.

Written here, for what there is draws with colours and screens of its own, and weighs more than the
hundred lines that this takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

#: Of a braille character, the bit of each dot, column by column from the top.
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800
_TICK_COLUMNS = 20
#: A curve that rises less is drawn as what it is.
_FLAT = 1e-6
_TO_THE_SECOND_S = 600.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured so many seconds ago: least, mean and most of an interval."""

    age_s: float
    least: float
    mean: float
    most: float


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of an axis, and where it has labels."""

    floor: float
    ceiling: float
    step: float

    @property
    def ticks(self) -> list[float]:
        """The values that have a label, from the floor up."""
        count = round((self.ceiling - self.floor) / self.step)
        return [self.floor + number * self.step for number in range(count + 1)]

    @property
    def names(self) -> list[str]:
        """The labels."""
        return [f"{tick:g}" for tick in self.ticks]

    @property
    def margin(self) -> int:
        """The columns that the labels need, and the axis beside them."""
        return max(map(len, self.names)) + 1


def scale(least: float, most: float, *, labels: int) -> Scale:
    """Return an axis that holds all from `least` to `most`, with steps of 1, 2 or 5 tens."""
    span = most - least if most - least > _FLAT else max(abs(most), 1.0) / 10
    raw = span / max(1, labels - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= raw * 0.999999)
    floor = math.floor(least / step + 1e-9) * step
    ceiling = math.ceil(most / step - 1e-9) * step
    return Scale(floor, ceiling if ceiling > floor else floor + step, step)


def plot(
    points: Sequence[Point],
    axis: Scale,
    *,
    span_s: float,
    gap_s: float,
    now: datetime,
    width: int,
    rows: int,
    margin: int,
    braille: bool,
) -> list[str]:
    """Return the lines of a drawing, `width` columns at most, with a time below.

    `span_s` is how far back the left edge is; points further apart than `gap_s` are not joined:
    nothing is known of the time in between. `margin` is what the axis and its labels have.
    """
    columns = max(1, width - margin - 1)
    grid = (columns * 2, rows * 4) if braille else (columns, rows)
    dots = set(_dots(points, axis, span_s=span_s, gap_s=gap_s, grid=grid))
    drawn = _braille(dots, columns, rows) if braille else _ascii(dots, columns, rows)
    labels = {
        (grid[1] - 1 - _height(tick, axis, grid[1])) // (4 if braille else 1): name
        for tick, name in zip(axis.ticks, axis.names, strict=True)
    }
    tick, wall, corner, dash = "┤│└─" if braille else "+|+-"
    lines = [
        f"{labels.get(row, ''):>{margin - 1}} {tick if row in labels else wall}{line.rstrip()}"
        for row, line in enumerate(drawn)
    ]
    marks, times = _times(columns, span_s=span_s, now=now, mark="┬" if braille else "+", dash=dash)
    return [*lines, f"{' ' * margin}{corner}{marks}", f"{' ' * margin} {times}".rstrip()]


def _dots(
    points: Sequence[Point], axis: Scale, *, span_s: float, gap_s: float, grid: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield the dots to set: the means joined, and a bar from least to most at each point."""
    places = [
        (
            min(grid[0] - 1, max(0, int((1 - point.age_s / span_s) * grid[0]))),
            _height(point.mean, axis, grid[1]),
            point,
        )
        for point in sorted(points, key=lambda point: -point.age_s)
    ]
    for x, _, point in places:
        least, most = (_height(value, axis, grid[1]) for value in (point.least, point.most))
        yield from ((x, y) for y in range(least, most + 1))
    for (x, y, point), (next_x, next_y, next_point) in pairwise(places):
        if point.age_s - next_point.age_s <= gap_s:
            yield from _line(x, y, next_x, next_y)


def _height(value: float, axis: Scale, dots: int) -> int:
    share = (value - axis.floor) / (axis.ceiling - axis.floor)
    return min(dots - 1, max(0, round(share * (dots - 1))))


def _line(x: int, y: int, next_x: int, next_y: int) -> Iterator[tuple[int, int]]:
    """Yield the dots between two, with none left out."""
    steps = max(next_x - x, abs(next_y - y), 1)
    for step in range(steps + 1):
        share = step / steps
        yield x + round((next_x - x) * share), y + round((next_y - y) * share)


def _braille(dots: Iterable[tuple[int, int]], columns: int, rows: int) -> list[str]:
    cells = [[_BLANK] * columns for _ in range(rows)]
    for x, y in dots:
        down = rows * 4 - 1 - y
        cells[down // 4][x // 2] |= _BITS[x % 2][down % 4]
    return ["".join(map(chr, line)).replace(chr(_BLANK), " ") for line in cells]


def _ascii(dots: Iterable[tuple[int, int]], columns: int, rows: int) -> list[str]:
    cells = [[" "] * columns for _ in range(rows)]
    for x, y in dots:
        cells[rows - 1 - y][x] = "*"
    return ["".join(line) for line in cells]


def _times(columns: int, *, span_s: float, now: datetime, mark: str, dash: str) -> tuple[str, str]:
    """Return the axis with its marks, and the times below these; the last is now."""
    began = now - timedelta(seconds=span_s)
    form = "%H:%M:%S" if span_s <= _TO_THE_SECOND_S else "%H:%M"
    if began.date() != now.date():
        form = f"%a {form}"
    marks, times = [dash] * columns, ""
    for place in range(0, columns, _TICK_COLUMNS):
        at = began + timedelta(seconds=span_s * place / columns)
        text = f"{at:{form}}"
        if place + len(text) + len(" now") > columns:
            break
        marks[place] = mark
        times = f"{times:<{place}}{text}"
    marks[-1] = mark
    return "".join(marks), f"{times:<{max(0, columns - len('now'))}}now"
