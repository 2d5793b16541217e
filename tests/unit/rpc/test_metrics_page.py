"""docs/metrics.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from superezio import wire
from supereziod.health.checks import Observed, declared_checks
from supereziod.observability.metrics import Family
from supereziod.rpc.metrics_page import LABELS, SECTIONS, render_page
from supereziod.rpc.vocabulary import EVENT_TYPES
from unit.rpc.fakes import snapshot_of

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
FAMILIES: list[Family] = [family for families in SECTIONS.values() for family in families]


def test_the_shipped_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_page(), "`make docs` brings it up to date"


def test_every_family_is_declared_once() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    assert len(names) > 40


def test_every_label_is_explained_and_no_other() -> None:
    assert {label for family in FAMILIES for label in family.labels} == set(LABELS)


def test_alerts_are_on_what_there_is() -> None:
    alerts = re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert alerts is not None
    used = re.findall(r"superezio_\w+", alerts[1])
    assert len(used) == 10
    assert set(used) <= {family.name for family in FAMILIES}
    for label, given in re.findall(r'(\w+)="(.*?)"', alerts[1]):
        assert given in EVENT_TYPES if label == "type" else f"`{given}`" in LABELS[label]


def test_the_names_that_label_values_are_from_are_those_of_the_wire() -> None:
    checks = {each.code for each in declared_checks(Observed(snapshot=snapshot_of))}
    assert "gpu_critical" in checks
    assert "rpc.md#checks" in LABELS["check"]
    assert "rpc.md#events" in LABELS["type"]
    assert "`degraded`" in LABELS["verdict"]
    assert wire.MetricsText.__struct_fields__ == ("content_type", "text")
