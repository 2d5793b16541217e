"""A reload that does not come to its end is seen in the health until one does."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from superezio.errors import ConflictError
from supereziod import reloading
from supereziod.config import Config, Loaded, Problem, Source, doubts
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


async def test_a_name_that_the_host_does_not_know_is_told_with_file_line_and_key(
    daemon: Daemon,
) -> None:
    daemon.file.write_text('[access]\nusers = ["nobody-of-that-name"]\n')
    result = await daemon.reloader.reload()
    assert result.applied == ["access.users"], "it is no mistake in the file"
    assert result.warnings == [
        f"{daemon.file}:2: access.users: this host has no user nobody-of-that-name"
    ]
    daemon.file.write_text("")
    assert (await daemon.reloader.reload()).warnings == []


async def test_the_host_is_not_asked_for_names_on_the_loop(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_on: list[int] = []

    def asked(loaded: Loaded) -> list[Problem]:
        asked_on.append(threading.get_ident())
        return doubts(loaded)

    monkeypatch.setattr(reloading, "doubts", asked)
    await daemon.reloader.reload()
    assert len(asked_on) == 1
    assert threading.get_ident() not in asked_on
