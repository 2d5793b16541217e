"""Metrics as text: what the parts say, in the words of the official library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from metrics_lint import labelled, problems, value
from superezio.wire import Event
from supereziod.observability.daemon_metrics import DaemonMetrics
from supereziod.observability.event_counts import EventCounts
from supereziod.observability.events import EventLog
from supereziod.observability.exposition import CONTENT_TYPE, Exposition
from supereziod.observability.metrics import Family, Metric, counter, gauge, single, state_samples

HEAT = gauge("superezio_heat_celsius", "How hot it is", "name")
RUNS = counter("superezio_runs_total", "How often it ran")


class Said:
    """A source that says what it is given."""

    def __init__(self, *metrics: Metric) -> None:
        self.metrics: Sequence[Metric] = metrics

    @property
    def families(self) -> list[Family]:
        return [each.family for each in self.metrics]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def test_what_sources_say_is_written_in_the_text_format() -> None:
    text = Exposition([Said(Metric(HEAT, [(("a",), 61)])), Said(single(RUNS, 3))]).text()
    assert text == (
        "# HELP superezio_heat_celsius How hot it is.\n"
        "# TYPE superezio_heat_celsius gauge\n"
        'superezio_heat_celsius{name="a"} 61.0\n'
        "# HELP superezio_runs_total How often it ran.\n"
        "# TYPE superezio_runs_total counter\n"
        "superezio_runs_total 3.0\n"
    )
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_a_source_is_asked_each_time() -> None:
    source = Said(single(RUNS, 1))
    exposition = Exposition([source])
    assert value(exposition.text(), "superezio_runs_total") == 1
    source.metrics = [single(RUNS, 2)]
    assert value(exposition.text(), "superezio_runs_total") == 2


def test_what_is_not_known_has_no_sample() -> None:
    (family,) = text_string_to_metric_families(Exposition([Said(single(RUNS, None))]).text())
    assert (family.name, family.samples) == ("superezio_runs", [])


@pytest.mark.parametrize("name", ['a "card"', "back\\slash", "two\nlines", "Grafikkarte ü", ""])
def test_whatever_a_label_holds_comes_through_the_text(name: str) -> None:
    text = Exposition([Said(Metric(HEAT, [((name,), 1)]))]).text()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"name": name}


def test_two_sources_cannot_say_the_same() -> None:
    with pytest.raises(ValueError, match="superezio_heat_celsius"):
        Exposition([Said(Metric(HEAT, [])), Said(Metric(HEAT, []))])


def test_the_registry_of_the_process_is_left_alone() -> None:
    before = {family.name for family in REGISTRY.collect()}
    Exposition([Said(single(RUNS, 1))]).text()
    assert {family.name for family in REGISTRY.collect()} == before
    assert "superezio_runs" not in before


def test_of_states_the_current_one_is_1() -> None:
    assert state_samples(("0",), ("a", "b"), "b") == [(("0", "a"), 0.0), (("0", "b"), 1.0)]


def test_events_are_counted_by_type_from_the_start() -> None:
    events = EventLog()
    events.emit("lease.lost", "before")
    counts = EventCounts(events, types=["lease.granted", "lease.lost"])
    exposition = Exposition([counts])
    for _ in range(2):
        events.emit("lease.granted", "a lease was granted", uid=1000)
    events.emit("made.up", "it is in no table")
    assert labelled(exposition.text(), "superezio_events_total", "type") == {
        "lease.granted": 2,
        "lease.lost": 0,
        "other": 1,
    }


def test_types_that_nobody_knows_make_no_more_series() -> None:
    events = EventLog()
    exposition = Exposition([EventCounts(events, types=["lease.granted"])])
    before = exposition.text().count("\n")
    told: list[Event] = [events.emit(f"made.up{number}", "new") for number in range(100)]
    assert len(told) == 100
    assert exposition.text().count("\n") == before


def test_the_daemon_says_that_it_runs_and_what_it_costs() -> None:
    source = DaemonMetrics(version="1.2.3", started_s=1_700_000_000, log_lines_dropped=lambda: 7)
    text = Exposition([source]).text()
    assert problems(text) == []
    assert value(text, "superezio_up") == 1
    assert labelled(text, "superezio_build_info", "version") == {"1.2.3": 1}
    assert value(text, "superezio_process_start_time_seconds") == 1_700_000_000
    assert value(text, "superezio_log_lines_dropped_total") == 7
    assert (value(text, "superezio_process_cpu_seconds_total") or 0) > 0
    assert (value(text, "superezio_process_resident_memory_bytes") or 0) > 1 << 20


def test_the_daemon_starts_without_the_library() -> None:
    code = "import sys, supereziod.app; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
