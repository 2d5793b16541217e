"""Caps on money per calendar window: a day, a month.

A window is the caller's: it has the wall clock, and names the window that is now with a key that
sorts by time ("2031-04-30", "2031-04"). It has the disk, too: what a grant spends is to be written
down before the grant is told, from `state`, and given back after a restart. Amounts are millionths
of one currency.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Window(Struct, frozen=True):
    """What was spent in the window `key`."""

    key: str
    spent_micros: int


class Spend(Struct, frozen=True):
    """What was taken at once, and in which window of each kind."""

    micros: int
    keys: dict[str, str]


class OverCapError(ValueError):
    """More than a whole window's cap: no window would ever do."""


class SpendCap:
    """What one scope may spend in each window of each kind that has a cap.

    `caps_micros` is by kind of window ("day", "month"); `state` is what `state` returned before.
    """

    __slots__ = ("_caps_micros", "_windows")

    def __init__(
        self, caps_micros: Mapping[str, int], state: Mapping[str, Window] | None = None
    ) -> None:
        for kind, cap in caps_micros.items():
            if cap < 1:
                raise ValueError(f"the cap per {kind} has to be positive, not {cap}")
        self._caps_micros = dict(caps_micros)
        # What a kind without a cap spent is kept: it may get one again.
        self._windows = dict(state or {})

    def may_spend(self, keys: Mapping[str, str], micros: int) -> str | None:
        """Return None where `micros` may be spent now, else the kind of window that is short.

        `keys` names the window that is now, by kind. What names no cost may have one that is known
        afterwards: it needs a window with something left. Raises OverCapError where none would do.
        """
        if micros < 0:
            raise ValueError(f"what is spent is not negative: {micros}")
        for kind, cap in self._caps_micros.items():
            if micros > cap:
                raise OverCapError(f"{micros} is more than the {cap} of a whole {kind}")
        for kind, cap in self._caps_micros.items():
            if self._current(kind, keys[kind]).spent_micros + (micros or 1) > cap:
                return kind
        return None

    def spend(self, keys: Mapping[str, str], micros: int) -> Spend:
        """Take `micros` out of every window that is now, asked for or not."""
        taken = {}
        for kind, key in keys.items():
            window = self._current(kind, key)
            self._windows[kind] = Window(window.key, window.spent_micros + micros)
            taken[kind] = window.key
        return Spend(micros, taken)

    def settle(
        self, spend: Spend, actual_micros: int, *, more_counts: Mapping[str, int] | None = None
    ) -> None:
        """Correct what was taken to what was spent, which may be more than the cap.

        What was taken in a window that is over is not given back to the one that is now; what
        was spent beyond it counts in the one that is now; no more of that than `more_counts` says
        for a kind of window, if it is given. To be called once for each spend.
        """
        delta = actual_micros - spend.micros
        for kind, key in spend.keys.items():
            window = self._windows[kind]
            if delta > 0 or window.key == key:
                counts = delta if more_counts is None else min(delta, more_counts[kind])
                self._windows[kind] = Window(window.key, window.spent_micros + counts)

    def spent(self, kind: str, key: str) -> int:
        """Return what was spent in the window of `kind` that is now."""
        return self._current(kind, key).spent_micros

    def state(self) -> dict[str, Window]:
        """Return what is to be kept over a restart."""
        return dict(self._windows)

    def _current(self, kind: str, key: str) -> Window:
        """Return the window that is now: no earlier one than there was, if a clock goes back."""
        window = self._windows.get(kind)
        return window if window is not None and window.key >= key else Window(key, 0)
