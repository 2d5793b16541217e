"""Which row is selected. It stays on its lease or GPU however rows come and go around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from superezioctl.top.board import SECTIONS


class Cursor:
    """The section with the focus, and in each section the selected row."""

    def __init__(self) -> None:
        self.section = SECTIONS[0]
        self._keys: Mapping[str, Sequence[str]] = dict.fromkeys(SECTIONS, ())
        self._places = dict.fromkeys(SECTIONS, 0)

    def settle(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Take in what is there now; where the selected row is gone, its place is selected."""
        for section in SECTIONS:
            selected, now = self.selected(section), keys[section]
            if selected in now:
                self._places[section] = now.index(selected)
            else:
                self._places[section] = max(0, min(self._places[section], len(now) - 1))
        self._keys = keys

    def place(self, section: str) -> int:
        """Return the number of the selected row, from 0."""
        return self._places[section]

    def selected(self, section: str) -> str | None:
        """Return the key of the selected row, or None where there are no rows."""
        keys = self._keys[section]
        return keys[self._places[section]] if keys else None

    def move(self, rows: int) -> None:
        """Go down (or with a negative number up) within the section, to its ends at most."""
        last = len(self._keys[self.section]) - 1
        self._places[self.section] = max(0, min(self._places[self.section] + rows, last))

    def turn(self, sections: int) -> None:
        """Go to the next section, or with -1 to the one before."""
        number = SECTIONS.index(self.section) + sections
        self.section = SECTIONS[number % len(SECTIONS)]
