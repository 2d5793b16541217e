"""Durations on the wire."""

from __future__ import annotations

import pytest

from superezio import milliseconds


@pytest.mark.parametrize(
    ("duration_ns", "ms"), [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)]
)
def test_who_waits_as_long_as_it_is_told_is_not_too_early(duration_ns: int, ms: int) -> None:
    assert milliseconds.rounded_up(duration_ns) == ms
