"""Puts a changed configuration in force in the running daemon, as far as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from superezio.errors import ConflictError
from superezio.wire import ReloadResult
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
from supereziod.observability.events import EventLog


class Reloader:
    """Reads the files again and applies what can change live.

    A bad file leaves the old configuration in force. It, or a fault of the daemon's own, is in
    `fault` until a reload succeeds.
    `apply` gets the new configuration and must not fail half way: what may be refused is refused
    by the types of the configuration.
    """

    def __init__(
        self,
        *,
        source: Source,
        loaded: Loaded,
        apply: Callable[[Config], Awaitable[None]],
        events: EventLog,
    ) -> None:
        self._source = source
        self._started_with = loaded.config
        self._in_force = loaded
        self._apply = apply
        self._events = events
        self._one_at_a_time = asyncio.Lock()
        self.fault: str | None = None

    def files(self) -> list[str]:
        """Return the files that the configuration in force was read from."""
        return [str(file) for file in self._in_force.files]

    async def reload(self) -> ReloadResult:
        """Read and apply. Raises ConflictError, with file, line and key, for a bad file."""
        async with self._one_at_a_time:
            try:
                return await self._read_and_apply()
            except ConfigError as error:
                self._note_fault(f"the configuration was not reloaded: {error}")
                raise ConflictError(
                    f"cannot reload, the old configuration stays: {error}"
                ) from None
            except Exception as error:  # whoever asked logs it: it must not end with the log
                self._note_fault(
                    "the configuration was not reloaded, or not in full:"
                    f" {type(error).__name__}: {error}"
                )
                raise

    async def _read_and_apply(self) -> ReloadResult:
        loaded, doubted = await asyncio.to_thread(self._read)
        changes = diff(self._in_force.config, loaded.config)
        await self._apply(loaded.config)
        self._in_force = loaded
        self.fault = None
        return self._tell(changes, doubted)

    def _read(self) -> tuple[Loaded, list[Problem]]:
        """Read the files, and ask the host whom they name: both may block."""
        loaded = self._source.load()
        return loaded, doubts(loaded)

    def _note_fault(self, fault: str) -> None:
        self.fault = fault
        self._events.emit("config.refused", fault, severity="warning")

    def _tell(self, changes: Changes, doubted: list[Problem]) -> ReloadResult:
        # A restart is pending for all that differs from what the parts were built with, not only
        # for what this reload changed.
        pending = diff(self._started_with, self._in_force.config).restart
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


def _listed(keys: list[str]) -> str:
    return ", ".join(keys) or "nothing"
