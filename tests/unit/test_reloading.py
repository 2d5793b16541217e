"""A reload that does not come to its end is seen in the health until one does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from superezio.errors import ConflictError
from supereziod.config import Config, Source
from supereziod.observability.events import EventLog
from supereziod.reloading import Reloader


class Daemon:
    """What a configuration is applied to: fails as it is told."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "superezio.toml"
        self.file.write_text("")
        self.fault: BaseException | None = None
        self.events = EventLog()
        source = Source(file=self.file)
        self.reloader = Reloader(
            source=source, loaded=source.load(), apply=self.apply, events=self.events
        )

    async def apply(self, config: Config) -> None:
        assert config
        if self.fault is not None:
            raise self.fault

    def types(self) -> list[str]:
        return [event.type for event in self.events.recent(100)]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


async def test_a_fault_of_our_own_is_told_until_a_reload_succeeds(daemon: Daemon) -> None:
    daemon.fault = ValueError("no such group")
    with pytest.raises(ValueError, match="no such group"):
        await daemon.reloader.reload()
    assert daemon.reloader.fault == (
        "the configuration was not reloaded, or not in full: ValueError: no such group"
    )
    assert daemon.types() == ["config.refused"]
    daemon.fault = None
    await daemon.reloader.reload()
    assert daemon.reloader.fault is None
    assert daemon.types() == ["config.refused", "config.reloaded"]


async def test_a_bad_file_is_told_until_a_reload_succeeds(daemon: Daemon) -> None:
    daemon.file.write_text("[limits]\nconnections = 0\n")
    with pytest.raises(ConflictError, match="the old configuration stays"):
        await daemon.reloader.reload()
    assert "limits.connections" in (daemon.reloader.fault or "")
    assert daemon.types() == ["config.refused"]
    daemon.file.write_text("[limits]\nconnections = 9\n")
    assert (await daemon.reloader.reload()).applied == ["limits.connections"]
    assert daemon.reloader.fault is None


async def test_a_reload_that_is_cancelled_is_no_fault(daemon: Daemon) -> None:
    daemon.fault = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await daemon.reloader.reload()
    assert (daemon.reloader.fault, daemon.types()) == (None, [])
