"""How long the supervision of the probes waits for what."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

_SECOND: Final = 1_000_000_000


class Patience(Struct, frozen=True, kw_only=True):
    """In seconds, but for `stuck_limit`: so many stuck probes and no more are started.

    A GPU whose call is out for `replace_after_s` gets a trial of its own; a successor must have
    settled within `settle_s`; a GPU goes back to the others `merge_after_s` after it answered.
    """

    replace_after_s: float = 5.0
    settle_s: float = 5.0
    merge_after_s: float = 2.0
    trial_s: float = 30.0
    lost_retry_s: float = 10.0
    silent_s: float = 5.0
    open_s: float = 10.0
    stuck_s: float = 5.0
    restart_s: float = 1.0
    restart_limit_s: float = 30.0
    driver_s: float = 1.0
    driver_limit_s: float = 60.0
    healthy_s: float = 60.0
    stuck_limit: int = 4


class Backoff:
    """Pauses that double from `first_s` to `most_s`."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_ns(self) -> int:
        """Return the pause to make now; the next one is longer."""
        pause_s = self._next_s
        self._next_s = min(self._most_s, pause_s * 2)
        return round(pause_s * _SECOND)

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._next_s = self._first_s
