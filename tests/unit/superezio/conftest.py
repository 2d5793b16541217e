"""A fake daemon on a socket of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import wire_samples
from fake_daemon import FakeDaemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    # Not tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        fake = FakeDaemon(Path(directory) / "control.sock")
        fake.answers = wire_samples.everything()
        fake.start()
        yield fake
        fake.close()
