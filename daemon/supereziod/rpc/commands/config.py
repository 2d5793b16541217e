"""config.*: what the daemon goes by, and what the files say."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from superezio.wire import ConfigDiff, ConfigParams, ConfigValues, NoParams
from supereziod.rpc.requests import RequestContext


class Configuration(Protocol):
    """The configuration in force, and the files it came from."""

    def files(self) -> list[str]:
        """Return the files that were read."""

    def values(self, *, key: str | None, everything: bool) -> Awaitable[ConfigValues]:
        """Return what is in force. Raises NotFoundError for a key that does not exist."""

    def diff(self) -> Awaitable[ConfigDiff]:
        """Read the files and compare. Raises ConflictError, with file, line and key, if bad."""


class ConfigCommands:
    """Handlers of config.*."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def get(self, _request: RequestContext, params: ConfigParams) -> ConfigValues:
        """Tell what is in force, and where each value was set."""
        # For admins: it names users and groups, and what each may use.
        return await self._configuration.values(key=params.key, everything=params.all)

    async def diff(self, _request: RequestContext, _params: NoParams) -> ConfigDiff:
        """Read the files, put nothing in force, and tell what would change."""
        return await self._configuration.diff()
