"""A fake daemon, and superezioctl called in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    # Not tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory() as directory:
        fake = FakeDaemon(Path(directory) / "control.sock")
        fake.answers = wire_samples.everything()
        fake.start()
        monkeypatch.setenv("SUPEREZIO_SOCKET", str(fake.path))
        yield fake
        fake.close()


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys)


@pytest.fixture
def no_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with no journalctl and no systemctl in it; a test may put its own there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path
