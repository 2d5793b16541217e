"""The lint that the metrics pass finds what it is to find."""

from __future__ import annotations

import pytest

from metrics_lint import problems

GOOD = """\
# HELP superezio_a_bytes Some.
# TYPE superezio_a_bytes gauge
superezio_a_bytes{gpu="0"} 1.0
superezio_a_bytes{gpu="1"} 2.0
# HELP superezio_runs_total Others.
# TYPE superezio_runs_total counter
superezio_runs_total 3.0
"""


def test_what_is_right_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{gpu="1"}', '{gpu="0"}'),
        ("# TYPE superezio_runs_total counter\n", ""),
        ("# HELP superezio_runs_total Others.\n", ""),
        ("Others.", "Others"),
        ("runs_total", "runs"),
        ("a_bytes", "a_total"),
        ("a_bytes", "a_mib"),
        ("a_bytes", "a_percent"),
        ("a_bytes", "a_count"),
        ("a_bytes", "aBytes"),
        ("superezio_a_bytes", "other_a_bytes"),
        ('gpu="1"', 'uid="1"'),
        ('gpu="', 'pid="'),
        ('gpu="', 'le="'),
        ("gauge", "histogram"),
        ("3.0\n", "NaN\n"),
        ("3.0\n", "3.0"),
        ('superezio_a_bytes{gpu="1"} 2.0\n', ""),
    ],
)
def test_what_is_wrong_is_found(old: str, new: str) -> None:
    changed = GOOD.replace(old, new)
    if old.startswith("superezio_a_bytes{"):
        changed += old
    assert changed != GOOD
    assert problems(changed) != []
