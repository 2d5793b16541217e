"""How the faults that were tried are shown: a table, and below it what an administrator sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from system.faults.fault import Outcome

_HEAD = ("fault", "systemd", "lost", "away", "seen to happen")
_LINE = 156


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines."""
    yield from table(outcomes)
    yield ""
    yield "what an administrator sees of each, in `systemctl status` and in the journal:"
    shown: set[str] = set()
    for outcome in outcomes:
        sight = outcome.sight
        if sight is None or outcome.fault in shown:
            continue
        shown.add(outcome.fault)
        yield ""
        yield outcome.fault
        yield _fit(f"    status   {sight.status}", _LINE)
        yield _fit(f"    journal  {sight.journal}", _LINE)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines of the table."""
    rows = [_HEAD, *(outcome.cells for outcome in outcomes)]
    *widths, _ = (max(len(cell) for cell in column) for column in zip(*rows, strict=True))
    lines = []
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append(_fit(" | ".join([*padded, last]), _LINE))
    return lines


def _fit(text: str, width: int) -> str:
    line = text.replace("\n", " ").rstrip()
    return line if len(line) <= width else f"{line[: width - 3]}..."
