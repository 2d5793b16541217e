"""The level of the log: as the configuration has it, or as an admin has set it since.

What was set holds until the configuration is read again, or the daemon restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from superezio.wire import ConfigRunTime
from supereziod.observability.logging_setup import LogLevel, parse_level

#: Where the configuration has it.
KEY: Final = ("logging", "level")


class Adjustable(Protocol):
    """The log."""

    level: LogLevel

    def set_level(self, level: LogLevel) -> LogLevel:
        """Log from that level on."""


class RunningLevel:
    """Who has set the level of a log, and when. `log` has the level of the configuration first."""

    def __init__(
        self, log: Adjustable, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._log = log
        self._now = now
        self._configured = log.level
        self._set: ConfigRunTime | None = None

    def get(self) -> str:
        """Return the level that the log has."""
        return self._log.level

    def set(self, text: str, uid: int) -> None:
        """Have the level set by that user. Raises ValueError for one that there is none of."""
        level = parse_level(text)
        self._log.set_level(level)
        self._set = None
        if level != self._configured:
            at = self._now().isoformat(timespec="milliseconds")
            self._set = ConfigRunTime(value=level, configured=self._configured, uid=uid, at=at)

    def configure(self, level: LogLevel) -> None:
        """Go by the configuration, which was read again."""
        self._log.set_level(level)
        self._configured, self._set = level, None

    def set_since(self) -> dict[tuple[str, ...], ConfigRunTime]:
        """Return what was set since the configuration was read, by its key there."""
        return {} if self._set is None else {KEY: self._set}
