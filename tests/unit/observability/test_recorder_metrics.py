"""What is told of the flight recorder to a monitoring system."""

from __future__ import annotations

from pathlib import Path

from metrics_lint import problems, value
from superezio.flight.layout import stamp
from superezio.flight.records import SpanNote
from supereziod.observability.exposition import Exposition
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.recorder_metrics import RecorderMetrics
from supereziod.observability.ring import Ring

WHO = stamp(1000, 1, b"c" * 8, b"s" * 8)


def told(recorder: FlightRecorder, what: str) -> float | None:
    text = Exposition([RecorderMetrics(recorder)]).text()
    assert problems(text) == []
    return value(text, f"superezio_recorder_{what}")


def write_three(recorder: FlightRecorder) -> None:
    marks = recorder.marks_of("system.ping")
    recorder.plain.write(marks.plain, WHO, 1, 5)
    recorder.named(marks, WHO, 1000, 2, 6, "job-1")
    span = SpanNote(
        correlation_id="job-1", uid=1000, pid=1, name="load", started_ns=5, duration_ns=None
    )
    assert recorder.span(span)


def test_records_are_counted_from_the_start_of_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    for _ in range(2):
        recorder = FlightRecorder(Ring.open(path, size=0, boot_id="b"))
        assert told(recorder, "records_total") == 0
        write_three(recorder)
        assert told(recorder, "records_total") == 3
        assert told(recorder, "bytes") == path.stat().st_size
        assert told(recorder, "faults") == 0
        recorder.close()


def test_a_ring_that_no_file_keeps_is_a_fault(tmp_path: Path) -> None:
    recorder = FlightRecorder(Ring.open(tmp_path / "none" / "flight.ring", size=0, boot_id="b"))
    assert told(recorder, "faults") == 1
    write_three(recorder)
    assert told(recorder, "records_total") == 3
    recorder.close()
