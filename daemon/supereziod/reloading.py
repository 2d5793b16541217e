"""Puts a changed configuration in force in the running daemon, as far as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from msgspec import structs

from superezio.errors import ConflictError, NotFoundError
from superezio.toml_text import dotted
from superezio.wire import ConfigDiff, ConfigValues, ReloadResult
from supereziod.config import (
    Changes,
    Config,
    ConfigError,
    Loaded,
    Problem,
    Source,
    diff,
    doubts,
)
from supereziod.config.fields import NoSuchKeyError
from supereziod.config.in_force import SetSince, changes_on_disk, values_in_force
from supereziod.config.stillness import load_when_still
from supereziod.observability.events import EventLog

#: So many mistakes are told at once; `superezioctl config check` tells all.
_FEW: Final = 10


class Reloader:
    """Reads the files again and applies what can change live.

    A bad file leaves the old configuration in force. It, or a fault of the daemon's own, is in
    `fault` until a reload succeeds.
    `apply` gets the new configuration and must not fail half way: what may be refused is refused
    by the types of the configuration. It ends what was set in the running daemon, which `set_since`
    tells.
    """

    def __init__(
        self,
        *,
        source: Source,
        loaded: Loaded,
        apply: Callable[[Config], Awaitable[None]],
        events: EventLog,
        set_since: Callable[[], SetSince] = dict,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        load: Callable[[Source], Loaded] = load_when_still,
    ) -> None:
        self._source = source
        self._load = load
        self._started_with = loaded
        self._in_force = loaded
        self._apply = apply
        self._events = events
        self._set_since = set_since
        self._now = now
        self._read_at = now()
        self._one_at_a_time = asyncio.Lock()
        self.fault: str | None = None

    def files(self) -> list[str]:
        """Return the files that the configuration in force was read from."""
        return [str(file) for file in self._in_force.files]

    async def values(self, *, key: str | None, everything: bool) -> ConfigValues:
        """Return what is in force. Raises NotFoundError for a key that does not exist."""
        started, now = self._started_with, self._in_force
        find = partial(
            values_in_force,
            started,
            now,
            key=key,
            everything=everything,
            set_since=self._set_since(),
        )
        try:
            # Looking at all types takes milliseconds. What is looked at does not change.
            values = await asyncio.to_thread(find)
        except NoSuchKeyError as error:
            raise NotFoundError(f"{error.key}: {error}") from None
        return ConfigValues(
            values=values,
            config_files=self.files(),
            read_at=self._read_at.isoformat(timespec="milliseconds"),
            restart_required=self._pending(),
            fault=self.fault,
        )

    async def diff(self) -> ConfigDiff:
        """Read the files and compare. Raises ConflictError, with file, line and key, if bad."""
        try:
            disk, doubted = await asyncio.to_thread(self._read)
        except ConfigError as error:
            raise _conflict("cannot compare, the files cannot be used", error) from None
        return ConfigDiff(
            changes=changes_on_disk(
                self._started_with, self._in_force, disk, set_since=self._set_since()
            ),
            config_files=[str(file) for file in disk.files],
            warnings=[str(problem) for problem in doubted],
        )

    async def reload(self) -> ReloadResult:
        """Read and apply. Raises ConflictError, with file, line and key, for a bad file."""
        async with self._one_at_a_time:
            try:
                return await self._read_and_apply()
            except ConfigError as error:
                self._note_fault(
                    f"the configuration was not reloaded: {_told(error, '; ')}; that of"
                    f" {self._read_at.astimezone():%Y-%m-%d %H:%M:%S} is in force",
                    keys=[problem.key for problem in error.problems[:_FEW]],
                )
                raise _conflict("cannot reload, the old configuration stays", error) from None
            except Exception as error:  # whoever asked logs it: it must not end with the log
                self._note_fault(
                    "the configuration was not reloaded, or not in full:"
                    f" {type(error).__name__}: {error}",
                    keys=[],
                )
                raise

    async def _read_and_apply(self) -> ReloadResult:
        loaded, doubted = await asyncio.to_thread(self._read)
        changes = diff(self._in_force.config, loaded.config)
        # What was set in the running daemon ends with this, whether or not the files say otherwise.
        ended = {dotted(path) for path in self._set_since()}
        changes = structs.replace(changes, live=sorted({*changes.live, *ended}))
        await self._apply(loaded.config)
        self._in_force = loaded
        self._read_at = self._now()
        self.fault = None
        return self._tell(changes, doubted)

    def _read(self) -> tuple[Loaded, list[Problem]]:
        """Read the files, and ask the host whom they name: both may block."""
        loaded = self._load(self._source)
        return loaded, doubts(loaded)

    def _note_fault(self, fault: str, *, keys: list[str]) -> None:
        self.fault = fault
        self._events.emit("config.refused", fault, severity="warning", keys=keys)

    def _pending(self) -> list[str]:
        # A restart is pending for all that differs from what the parts were built with, not only
        # for what the last reload changed.
        return diff(self._started_with.config, self._in_force.config).restart

    def _tell(self, changes: Changes, doubted: list[Problem]) -> ReloadResult:
        pending = self._pending()
        result = ReloadResult(
            applied=changes.live,
            restart_required=pending,
            config_files=self.files(),
            warnings=[str(problem) for problem in doubted],
        )
        self._events.emit(
            "config.reloaded",
            f"the configuration was reloaded: {_listed(changes.live)} in force now,"
            f" {_listed(pending)} with the next restart",
            applied=result.applied,
            restart_required=result.restart_required,
        )
        return result


def _conflict(what: str, error: ConfigError) -> ConflictError:
    """Return what a caller is told of files that cannot be used."""
    between = " " if len(error.problems) == 1 else "\n"
    return ConflictError(f"{what}:{between}{_told(error, chr(10))}")


def _told(error: ConfigError, between: str) -> str:
    few = [str(problem) for problem in error.problems[:_FEW]]
    more = len(error.problems) - len(few)
    if more:
        few.append(f"and {more} more (superezioctl config check)")
    return between.join(few)


def _listed(keys: list[str]) -> str:
    return ", ".join(keys) or "nothing"
