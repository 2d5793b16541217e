"""A reload that does not come to its end is seen in the health until one does."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from superezio import wire
from superezio.errors import ConflictError, NotFoundError
from supereziod import reloading
from supereziod.config import Config, Loaded, Problem, Source, doubts
from supereziod.observability.events import EventLog
from supereziod.observability.logging_setup import LogLevel
from supereziod.observability.running_level import RunningLevel
from supereziod.reloading import Reloader


class Log:
    """A log with a level."""

    level: LogLevel = "info"

    def set_level(self, level: LogLevel) -> LogLevel:
        self.level, previous = level, self.level
        return previous


class Daemon:
    """What a configuration is applied to: fails as it is told."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "superezio.toml"
        self.file.write_text("")
        self.fault: BaseException | None = None
        self.events = EventLog()
        source = Source(file=self.file)
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.log = Log()
        self.level = RunningLevel(self.log, now=lambda: self.now)
        self.reloader = Reloader(
            source=source,
            loaded=source.load(),
            apply=self.apply,
            events=self.events,
            set_since=self.level.set_since,
            now=lambda: self.now,
            load=Source.load,
        )

    async def apply(self, config: Config) -> None:
        if self.fault is not None:
            raise self.fault
        self.level.configure(config.logging.level)

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


async def test_a_bad_file_is_told_with_file_line_and_key_and_what_is_in_force(
    daemon: Daemon,
) -> None:
    started = f"{daemon.now.astimezone():%Y-%m-%d %H:%M:%S}"
    daemon.now += timedelta(hours=1)
    daemon.file.write_text("[limits]\nconnections = 0\n[leases]\ngrce = 1\n")
    with pytest.raises(ConflictError) as refused:
        await daemon.reloader.reload()
    first = f"{daemon.file}:2: limits.connections: expected a whole number (int >= 1), got 0"
    second = f"{daemon.file}:4: leases.grce: no such key; did you mean grace?"
    assert daemon.reloader.fault == (
        f"the configuration was not reloaded: {first}; {second}; that of {started} is in force"
    )
    assert refused.value.message == (
        f"cannot reload, the old configuration stays:\n{first}\n{second}"
    )
    (event,) = daemon.events.recent(1)
    assert (event.message, event.severity) == (daemon.reloader.fault, "warning")
    assert event.data == {"keys": ["limits.connections", "leases.grce"]}


async def test_of_very_many_mistakes_a_few_are_told(daemon: Daemon) -> None:
    daemon.file.write_text("[leases]\n" + "".join(f"x{number} = 1\n" for number in range(50)))
    with pytest.raises(ConflictError) as refused:
        await daemon.reloader.reload()
    assert refused.value.message.endswith("and 40 more (superezioctl config check)")
    assert len(refused.value.message.splitlines()) == 12
    assert "\n" not in (daemon.reloader.fault or "")


async def test_one_mistake_is_told_in_the_sentence(daemon: Daemon) -> None:
    daemon.file.write_text("[leases]\ngrce = 1\n")
    mistake = f"{daemon.file}:2: leases.grce: no such key; did you mean grace?"
    with pytest.raises(ConflictError) as refused:
        await daemon.reloader.diff()
    assert refused.value.message == f"cannot compare, the files cannot be used: {mistake}"


async def test_what_is_in_force_is_what_was_read_last_and_found_good(daemon: Daemon) -> None:
    daemon.file.write_text('[leases]\ngrace = 9\n[logging]\nlevel = "debug"\n')
    daemon.now += timedelta(hours=1)
    good_at = daemon.now.isoformat(timespec="milliseconds")
    await daemon.reloader.reload()
    daemon.now += timedelta(hours=1)
    daemon.file.write_text("[leases]\ngrce = 1\n")
    with pytest.raises(ConflictError):
        await daemon.reloader.reload()
    found = await daemon.reloader.values(key=None, everything=False)
    told = {each.key: each.value for each in found.values}
    assert told == {"logging.level": "debug"}, "the grace waits for a restart"
    assert (found.read_at, found.restart_required) == (good_at, ["leases.grace"])
    assert found.config_files == [str(daemon.file)]
    assert found.fault == daemon.reloader.fault is not None
    with pytest.raises(NotFoundError, match=r"^leases\.grce: no such key; did you mean grace"):
        await daemon.reloader.values(key="leases.grce", everything=False)


async def test_what_could_not_be_applied_is_not_in_force(daemon: Daemon) -> None:
    daemon.file.write_text('[logging]\nlevel = "debug"\n')
    daemon.fault = ValueError("no such group")
    with pytest.raises(ValueError, match="no such group"):
        await daemon.reloader.reload()
    found = await daemon.reloader.values(key=None, everything=False)
    assert found.values == []
    assert [each.key for each in (await daemon.reloader.diff()).changes] == ["logging.level"]


async def test_what_was_set_in_the_running_daemon_is_told_until_a_reload(daemon: Daemon) -> None:
    """The files need not say otherwise than before: what is in force is not what they say."""
    daemon.level.set("debug", 7)
    (told,) = (await daemon.reloader.values(key=None, everything=False)).values
    assert (told.key, told.value, told.origin.place) == ("logging.level", "debug", "default")
    assert told.run_time == wire.ConfigRunTime(
        value="debug", configured="info", uid=7, at="2026-01-02T03:04:05.000+00:00"
    )
    (change,) = (await daemon.reloader.diff()).changes
    assert (change.key, change.old, change.new, change.live) == (
        *("logging.level", "debug", "info", True),
    )
    assert (await daemon.reloader.reload()).applied == ["logging.level"]
    assert (await daemon.reloader.values(key=None, everything=False)).values == []
    assert daemon.log.level == "info"
    assert (await daemon.reloader.reload()).applied == []


async def test_a_comparison_changes_nothing(daemon: Daemon) -> None:
    daemon.file.write_text('[leases]\ngrace = 9\n[logging]\nlevel = "debug"\n')
    for _ in range(2):
        found = await daemon.reloader.diff()
        assert [(each.key, each.new, each.live) for each in found.changes] == [
            ("leases.grace", "9s", False),
            ("logging.level", "debug", True),
        ]
    await daemon.reloader.reload()
    assert [each.key for each in (await daemon.reloader.diff()).changes] == ["leases.grace"]


async def test_a_comparison_with_a_bad_file_is_refused_and_no_fault(daemon: Daemon) -> None:
    daemon.file.write_text("[leases]\ngrce = 1\n")
    with pytest.raises(ConflictError, match=r"cannot be used: .*toml:2: leases\.grce: no such key"):
        await daemon.reloader.diff()
    assert (daemon.reloader.fault, daemon.types()) == (None, [])


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
