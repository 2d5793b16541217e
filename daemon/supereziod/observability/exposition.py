"""Metrics as text, by the official client library of Prometheus.

Nothing imports this module at start: the library brings an HTTP server and more along, and is of
use only where somebody asks for metrics. The library's own registry of the process is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as LibraryMetric

from supereziod.observability.metrics import Family, MetricSource

#: What Prometheus, node_exporter and all that reads the text format take.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Exposition:
    """Asks all sources at a time, and writes down what they say.

    Raises ValueError where two sources declare the same family.
    """

    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._registry = CollectorRegistry()
        for source in sources:
            self._registry.register(_Collector(source))

    def text(self) -> str:
        """Return all metrics as they stand, in the text format."""
        return generate_latest(self._registry).decode()


class _Collector:
    """A source as the library sees one."""

    def __init__(self, source: MetricSource) -> None:
        self._source = source

    def describe(self) -> Iterable[LibraryMetric]:
        """Name the families, by which the registry finds out duplicates."""
        return [_empty(family) for family in self._source.families]

    def collect(self) -> Iterator[LibraryMetric]:
        """Return the families with their samples."""
        for metric in self._source.collect():
            written = _empty(metric.family)
            for labels, value in metric.samples:
                written.add_metric(labels, value)
            yield written


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return kind(family.name, f"{family.help}.", labels=family.labels)
