"""What a fault is, and what is said of one that was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from system.faults.host import FaultyHost
from system.faults.observation import Observation


@dataclass(frozen=True, slots=True)
class Sight:
    """That the fault was seen to happen, and what an administrator sees of it.

    Each is what was read, in the words of systemd, of the daemon or of the kernel.
    """

    seen: str
    status: str
    journal: str


class CannotBeTriedError(Exception):
    """Why this host cannot have the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault: `provoke` makes it, sees it, mends what an administrator has to mend.

    `away_s` is how long the daemon may answer nobody. `is_short`: whether the short run tries it;
    `each_systemd`: on every systemd, since it is systemd's to deal with.
    """

    name: str
    provoke: Callable[[FaultyHost], Sight]
    away_s: float
    each_systemd: bool = False
    is_short: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table. What is None was not there to be told."""

    fault: str
    systemd: str
    sight: Sight | None
    observation: Observation | None
    why: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """Fault, systemd, seen, lost, away, status, journal."""
        seen, status, journal = (
            (self.sight.seen, self.sight.status, self.sight.journal)
            if self.sight is not None
            else (f"NOT SEEN: {self.why}" if self.why else "NOT SEEN", "-", "-")
        )
        lost, away = (
            (self.observation.loss, f"{self.observation.away_s:.2f} s")
            if self.observation is not None
            else ("-", "-")
        )
        return (self.fault, self.systemd, seen, lost, away, status, journal)


_HEAD = ("fault", "systemd", "seen", "lost", "away", "status", "journal")
_WIDTHS = (34, 7, 54, 12, 8, 58, 70)


def table(outcomes: list[Outcome]) -> list[str]:
    """Return the lines of the table."""
    rows = [_HEAD, *(outcome.cells for outcome in outcomes)]
    widths = [
        min(widest, max(len(row[column]) for row in rows)) for column, widest in enumerate(_WIDTHS)
    ]
    return [
        " | ".join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _fit(cell: str, width: int) -> str:
    line = " ".join(cell.split())
    return line.ljust(width) if len(line) <= width else f"{line[: width - 3]}..."
