"""Metrics of the flight recorder: what it has written, how large it is, and what is wrong."""

from __future__ import annotations

from typing import Final

from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.metrics import Family, Metric, counter, gauge, single

_RECORDS: Final = counter(
    "superezio_recorder_records_total",
    "Records that were written; requests that came together and were answered at once share one",
)
_BYTES: Final = gauge("superezio_recorder_bytes", "What the ring of records takes")
_FAULTS: Final = gauge(
    "superezio_recorder_faults", "Reasons why records are lost, or would be with the daemon"
)


class RecorderMetrics:
    """The source of what concerns the flight recorder."""

    families: Final[tuple[Family, ...]] = (_RECORDS, _BYTES, _FAULTS)

    def __init__(self, recorder: FlightRecorder) -> None:
        self._recorder = recorder

    def collect(self) -> list[Metric]:
        """Return what holds now."""
        return [
            single(_RECORDS, self._recorder.written),
            single(_BYTES, self._recorder.size_bytes),
            single(_FAULTS, len(self._recorder.faults)),
        ]
