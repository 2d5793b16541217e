"""The examples of docs/rpc.md are what a daemon answers today."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpc_examples import record

pytestmark = pytest.mark.installed

KEPT = Path(__file__).parents[2] / "docs" / "rpc-examples.json"


def test_the_kept_examples_have_the_shape_of_new_ones(tmp_path: Path) -> None:
    kept = json.loads(KEPT.read_text())
    new = record(tmp_path / "daemon")
    assert list(new) == list(kept)
    for name, exchange in new.items():
        assert set(members(exchange)) == set(members(kept[name])), (
            f"{name}: record the examples anew (tests/rpc_examples.py)"
        )


def members(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all members of objects, whatever their values."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{path}.{name}"
            yield from members(each, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from members(each, f"{path}[]")
