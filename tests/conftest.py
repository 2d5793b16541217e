"""Fixtures for every suite."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

pytest_plugins = ["nvml_sim.plugin"]


@pytest.fixture(scope="session", autouse=True)
def _signals_as_at_a_prompt() -> Iterator[None]:
    """Undo what a shell does to what it starts in the background, and children inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
