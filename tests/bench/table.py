"""One row a figure: what was measured, beside what, and whether it is inside its budget."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Budget(NamedTuple):
    """What a figure must not exceed, what it should not, and what is written behind both."""

    must: float
    stretch: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        stretch = "" if self.stretch is None else f" / {self.stretch:,g}"
        return f"{self.must:,g}{stretch} {self.unit}".rstrip()

    def verdict(self, value: float) -> str:
        """Return how `value` stands to it."""
        if value > self.must:
            return "OVER"
        if self.stretch is None:
            return "ok"
        return "stretch" if value <= self.stretch else "must"


class Row(NamedTuple):
    """A line of the table. `verdict` is OVER, must, stretch (which the figure reaches), or ok."""

    figure: str
    measured: str
    ratio: str = ""
    budget: str = ""
    verdict: str = ""


def judged(figure: str, measured: str, value: float, budget: Budget, *, ratio: bool = False) -> Row:
    """Return the row of a figure that has a budget; `ratio` where `value` is one to a baseline."""
    return Row(
        figure, measured, f"{value:.2f} x" if ratio else "", str(budget), budget.verdict(value)
    )


def print_table(rows: Iterable[Row]) -> None:
    print_columns(Row._fields, rows)


def print_columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())
