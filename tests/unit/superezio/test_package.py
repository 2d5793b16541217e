from __future__ import annotations

import subprocess
import sys

import pytest

import superezio
from superezio.holder import start_time


def test_names_are_imported_when_they_are_asked_for() -> None:
    for name in superezio.__all__:
        assert getattr(superezio, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = superezio.nonsense  # type: ignore[attr-defined]


def test_importing_the_package_costs_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import superezio, superezio.connection; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    added = set(done.stdout.split())
    assert added <= {"__future__", "_socket", "errno", "superezio", "superezio.connection", "time"}


def test_who_guards_no_calls_does_not_pay_for_what_does() -> None:
    code = (
        "import sys, superezio.client, superezio.aio; "
        "print(*[each for each in sys.modules if each.startswith('superezio.')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    parts = {name.split(".")[1] for name in done.stdout.split()}
    assert not parts & {"guarding", "resilience", "adapters"}


def test_a_process_knows_when_it_started() -> None:
    assert start_time() == start_time("self")
    assert start_time(2**22 + 1) is None
