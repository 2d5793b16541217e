"""Metrics of the process: that it runs, which version it is, and what it costs the host."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supereziod.observability.metrics import Family, Metric, counter, gauge, single

_UP: Final = gauge(
    "superezio_up", "1: the daemon answered; 0 is written by superezioctl where none did"
)
_BUILD: Final = gauge(
    "superezio_build_info", "Always 1; the labels say what runs", "version", "python_version"
)
# Not `process_...`: where all of a host's metrics meet, node_exporter has those of its own.
_STARTED: Final = gauge(
    "superezio_process_start_time_seconds", "When the daemon started, in seconds since 1970"
)
_CPU: Final = counter(
    "superezio_process_cpu_seconds_total", "CPU time of the daemon, without its probes"
)
_RESIDENT: Final = gauge(
    "superezio_process_resident_memory_bytes", "Resident memory of the daemon, without its probes"
)
_DROPPED: Final = counter(
    "superezio_log_lines_dropped_total", "Log lines lost because their reader did not keep up"
)

_STATM: Final = Path("/proc/self/statm")


class DaemonMetrics:
    """The source of what concerns the daemon as a whole. `started_s` is in seconds since 1970."""

    families: Final[tuple[Family, ...]] = (_UP, _BUILD, _STARTED, _CPU, _RESIDENT, _DROPPED)

    def __init__(
        self, *, version: str, started_s: float, log_lines_dropped: Callable[[], int]
    ) -> None:
        self._build = (version, platform.python_version())
        self._started_s = started_s
        self._log_lines_dropped = log_lines_dropped

    def collect(self) -> list[Metric]:
        """Return what holds now."""
        return [
            single(_UP, 1),
            Metric(_BUILD, [(self._build, 1)]),
            single(_STARTED, self._started_s),
            single(_CPU, time.process_time()),
            single(_RESIDENT, _resident_bytes()),
            single(_DROPPED, self._log_lines_dropped()),
        ]


def _resident_bytes() -> int | None:
    """Return the memory in use; None where /proc is hidden."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
