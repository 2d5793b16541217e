"""Sets logging up, once, for the whole process: structlog, and the standard library's through it.

Parts log with `structlog.get_logger()`: an event name, a `message` sentence for people, and fields.
The level can be changed at any time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, Self

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from supereziod.observability.journal_space import JournalSpace
from supereziod.observability.journald import (
    JOURNAL_SOCKET,
    JournaldSink,
    is_journal,
    render_entry,
)
from supereziod.observability.log_fields import Stamp, add_scope, cut_long
from supereziod.observability.log_formats import ConsoleRenderer, render_json
from supereziod.observability.log_writer import (
    CRITICAL,
    IMPORTANT,
    ORDINARY,
    LogWriter,
    StreamSink,
)

LogFormat = Literal["auto", "journald", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error", "critical")
STDERR: Final = 2


def choose_format(
    wanted: LogFormat, *, fd: int = STDERR, environ: Mapping[str, str] = os.environ
) -> Literal["journald", "json", "console"]:
    """Resolve `auto`: the journal if `fd` leads there, text on a terminal, else JSON."""
    if wanted != "auto":
        return wanted
    if is_journal(fd, environ):
        return "journald"
    return "console" if os.isatty(fd) else "json"


class Logging:
    """Logging as it is set up now. Close it last: it sends what is still queued."""

    def __init__(
        self,
        *,
        log_format: LogFormat = "auto",
        level: LogLevel = "info",
        fd: int = STDERR,
        journal_socket: str = JOURNAL_SOCKET,
        environ: Mapping[str, str] = os.environ,
        capacity: int = 10_000,
    ) -> None:
        self.log_format = choose_format(log_format, fd=fd, environ=environ)
        self._leading: list[Processor] = [
            add_scope,
            Stamp(),
            structlog.processors.format_exc_info,
            cut_long,
        ]
        self._render: Callable[[Any, str, EventDict], Any]
        sink: Any
        if self.log_format == "journald":
            stream = fd if is_journal(fd, environ) else None
            space = JournalSpace() if journal_socket == JOURNAL_SOCKET else None
            self._render = render_entry
            sink = JournaldSink(journal_socket, stream=stream, space=space)
        elif self.log_format == "console":
            colour = os.isatty(fd) and not environ.get("NO_COLOR")
            self._render, sink = ConsoleRenderer(colour=colour), StreamSink(fd)
        else:
            self._render, sink = render_json, StreamSink(fd)
        self._writer: LogWriter[Any] = LogWriter(sink, notice=self._drop_notice, capacity=capacity)
        self._bridge = _StandardLibraryBridge()
        self.level: LogLevel = level
        self._install()

    @property
    def dropped(self) -> int:
        """Lines lost so far because the reader did not keep up."""
        return self._writer.dropped

    def waiting(self) -> tuple[int, float]:
        """Return how many lines their reader has not taken, and for how many seconds."""
        return self._writer.waiting()

    def notice(self, event: str, **fields: Any) -> None:  # noqa: ANN401 - as structlog's own
        """Write a line of the level `notice`, whatever the level is: it is for the record."""
        self._writer.put(self._rendered("notice", {"event": event, **fields}), IMPORTANT)

    def set_level(self, level: LogLevel) -> LogLevel:
        """Log from `level` on, at once and everywhere. Return what it was."""
        previous, self.level = self.level, level
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        logging.getLogger().setLevel(level.upper())
        return previous

    def close(self, *, timeout_s: float = 2.0) -> bool:
        """Send what is queued and stop. False: the reader did not take it all in time."""
        logging.getLogger().removeHandler(self._bridge)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
        return self._writer.close(timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _install(self) -> None:
        structlog.configure(
            processors=[*self._leading, self._as_argument],
            logger_factory=lambda *_: _Outlet(self._writer.put),
            # Not cached, so that a change of level reaches loggers that parts hold on to.
            cache_logger_on_first_use=False,
        )
        self.set_level(self.level)
        logging.getLogger().addHandler(self._bridge)
        logging.captureWarnings(capture=True)

    def _as_argument(
        self,
        logger: WrappedLogger,
        method: str,
        fields: EventDict,
    ) -> tuple[tuple[Any], dict[str, Any]]:
        return (self._render(logger, method, fields),), {}

    def _drop_notice(self, dropped: int) -> Any:  # noqa: ANN401 - as the format has it
        fields: EventDict = {
            "event": "logging.dropped",
            "message": f"dropped {dropped} log lines: their reader did not keep up",
            "dropped": dropped,
        }
        return self._rendered("warning", fields)

    def _rendered(self, level: str, fields: EventDict) -> Any:  # noqa: ANN401 - as the format has it
        for processor in self._leading:
            fields = processor(None, level, fields)  # type: ignore[assignment]
        return self._render(None, level, fields)


class _Outlet:
    """What structlog takes for a logger: every level goes the same way, with its rank."""

    def __init__(self, put: Callable[..., None]) -> None:
        self.debug = self.info = partial(put, rank=ORDINARY)
        self.warning = partial(put, rank=IMPORTANT)
        self.error = self.critical = self.exception = partial(put, rank=CRITICAL)


class _StandardLibraryBridge(logging.Handler):
    """Sends asyncio's, warnings' and libraries' records the way of all others."""

    def emit(self, record: logging.LogRecord) -> None:
        log = getattr(structlog.get_logger(), level_name(record.levelno))
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = f"{record.msg} {record.args}"  # arguments that do not fit their message
        log(
            "python",
            message=message,
            logger=record.name,
            exc_info=record.exc_info or None,
        )


def parse_level(text: str) -> LogLevel:
    """Return the level of that name. Raises ValueError with those there are."""
    for level in LEVELS:
        if text == level:
            return level
    raise ValueError(f"no log level {text!r}: there are {', '.join(LEVELS)}")


def level_name(number: int) -> LogLevel:
    """Return our name of a standard library level, the one below where it lies between two."""
    for name in reversed(LEVELS):
        if number >= logging.getLevelNamesMapping()[name.upper()]:
            return name
    return "debug"
