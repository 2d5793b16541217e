"""The timeline of one request: what happened to it when, and what it turned out to be about."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from superezio.flight.marking import mark_text

if TYPE_CHECKING:
    from supereziod.observability.targets import Target

#: Marks of one request, and GPUs it is about. What comes after them is not kept.
MAX_MARKS: Final = 48
MAX_GPUS: Final = 16


class Timeline:
    """The marks of one request, by the clock, and what it is about."""

    __slots__ = ("_clock", "about", "begun", "gpus", "lease", "marks", "target", "uses")

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        #: Whether it waits, and a full record says so: then one says how it ended, too.
        self.begun = False
        #: The name of the breaker, limit or namespace, where there is one.
        self.about: str | None = None
        self.marks: list[tuple[str, int]] = []
        self.lease: str | None = None
        self.gpus: Sequence[str] = ()
        self.uses: dict[str, int] | None = None
        #: What it decides over, where that was noted.
        self.target: Target | None = None

    def mark(self, name: str, detail: str = "") -> None:
        """Note that something happened now, and what it was about."""
        if len(self.marks) < MAX_MARKS:
            self.marks.append((mark_text(name, detail), self._clock()))

    def use(self, what: str, count: int) -> None:
        """Count what the request's session has used."""
        if self.uses is None:
            self.uses = {}
        self.uses[what] = self.uses.get(what, 0) + count
