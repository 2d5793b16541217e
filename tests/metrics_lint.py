"""What `promtool check metrics` looks for, and some more, over the official parser of the text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

_NAME = re.compile(r"superezio_[a-z0-9]+(_[a-z0-9]+)*")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
#: A word of a name that measures in something else than the base unit, or says it in short.
_NOT_BASE_UNITS = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "ms", "us", "ns"),
    *("kilobytes", "megabytes", "gigabytes", "mib", "gib", "mb", "gb", "kb", "bits"),
    *("percent", "percents", "fahrenheit", "kelvin", "milliwatts", "kilowatts", "mhz", "megahertz"),
    *("c", "s", "b", "w", "j", "hz"),
}
_TYPES_IN_NAMES = {"gauge", "counter", "histogram", "summary"}
_KEPT_FOR_LIBRARIES = ("_count", "_sum", "_bucket", "_created")
#: A label with these would have a value for each person, process or request.
_UNBOUNDED = {"uid", "user", "pid", "lease", "correlation_id", "session", "session_id", "name"}
_MAY_HAVE_A_NAME = {"superezio_gpu_info"}

#: The name of a series, with its labels in their order.
Series = tuple[str, tuple[tuple[str, str], ...]]


def problems(text: str) -> list[str]:
    """Return what is wrong with a page of metrics: nothing, if it is as it should be."""
    return list(_problems(text))


def series(text: str) -> dict[Series, float]:
    """Return all samples by their series."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """Return the sample of one series; None if it is not there."""
    return series(text).get((name, tuple(sorted(labels.items()))))


def labelled(text: str, name: str, label: str) -> dict[str, float]:
    """Return the samples of a family by the value of one of its labels."""
    return {
        dict(labels)[label]: each for (found, labels), each in series(text).items() if found == name
    }


def _problems(text: str) -> Iterator[str]:
    families = list(text_string_to_metric_families(text))
    yield from _heads(text)
    counted = Counter(
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
    )
    yield from (f"{each} is there {times} times" for each, times in counted.items() if times > 1)
    for family in families:
        yield from _family(family)


def _heads(text: str) -> Iterator[str]:
    """Each family has one HELP and then one TYPE, and its samples come after these, together."""
    current, seen = "", set()
    lines = text.splitlines()
    if not text.endswith("\n"):
        yield "the last line does not end"
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("# HELP "):
            current = line.split()[2]
            if current in seen:
                yield f"{current} has HELP twice"
            seen.add(current)
        elif line.startswith("# TYPE "):
            if not before.startswith(f"# HELP {line.split()[2]} "):
                yield f"{line} does not follow its HELP"
            if line.endswith(" counter") != current.endswith("_total"):
                yield f"{line}: counters, and these alone, end in _total"
        elif re.split(r"[{ ]", line, maxsplit=1)[0] != current:
            yield f"{line} does not stand with its family"


def _family(family: Metric) -> Iterator[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    words = set(name.split("_"))
    if not _NAME.fullmatch(name):
        yield f"{name} is no name as they are written"
    if not family.documentation.endswith("."):
        yield f"{name} has no sentence of help"
    if family.type not in {"gauge", "counter"}:
        yield f"{name} is a {family.type}"
    if words & _NOT_BASE_UNITS:
        yield f"{name} is in no base unit: {words & _NOT_BASE_UNITS}"
    if words & _TYPES_IN_NAMES or name.endswith(_KEPT_FOR_LIBRARIES):
        yield f"{name} has a type in its name"
    yield from _samples(name, family)


def _samples(name: str, family: Metric) -> Iterator[str]:
    for sample in family.samples:
        if sample.name != name:
            yield f"{sample.name} is a sample of {name}"
        if math.isnan(sample.value):
            yield f"{sample} has no value"
        yield from _labels(name, sample.labels)
    if len({frozenset(sample.labels) for sample in family.samples}) > 1:
        yield f"{name} has different labels"


def _labels(name: str, labels: dict[str, str]) -> Iterator[str]:
    for label in labels:
        if not _LABEL.fullmatch(label) or label in {"le", "quantile", "job", "instance"}:
            yield f"{name} has a label {label}"
        if label in _UNBOUNDED and name not in _MAY_HAVE_A_NAME:
            yield f"{name} has a label without bounds: {label}"
