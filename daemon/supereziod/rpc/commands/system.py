"""system.*: the daemon itself."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from superezio import PROTOCOL
from superezio.errors import InvalidParamsError
from superezio.wire import (
    LogLevelParams,
    LogLevelResult,
    NoParams,
    Pong,
    ReloadResult,
    SystemInfo,
)
from supereziod.gpu.hardware import Snapshot
from supereziod.rpc.limits import Traffic
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext

_SECOND_NS: Final = 1_000_000_000

#: Applies the configuration anew. Raises ConflictError with a sentence where the files are bad.
Reloader = Callable[[], ReloadResult | Awaitable[ReloadResult]]


class DaemonFacts(Struct, frozen=True, kw_only=True):
    """What does not change while the daemon runs. `started_ns` is on the injected clock."""

    version: str
    started_at: str
    started_ns: int
    gpu_driver: str
    socket: str
    runtime_dir: str
    state_dir: str


class LogLevel(Struct, frozen=True):
    """The journal's threshold: how to read it and how to set it (ValueError: no such level).

    Who sets it is told by uid.
    """

    get: Callable[[], str]
    set: Callable[[str, int], object]


class SystemCommands:
    """Handlers of system.*."""

    def __init__(
        self,
        *,
        facts: DaemonFacts,
        snapshot: Callable[[], Snapshot],
        config_files: Callable[[], list[str]],
        log_level: LogLevel,
        reload: Reloader,
        traffic: Traffic,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._facts = facts
        self._snapshot = snapshot
        self._config_files = config_files
        self._log_level = log_level
        self._reload = reload
        self._traffic = traffic
        self._clock = clock
        self._pid = os.getpid()

    def ping(self, request: RequestContext, _params: NoParams) -> bytes:
        """Answer, which shows that the loop turns."""
        uptime_s = (request.received_ns - self._facts.started_ns) / _SECOND_NS
        return encode(Pong(pid=self._pid, uptime_s=uptime_s))

    def info(self, request: RequestContext, _params: NoParams) -> SystemInfo:
        """Tell what runs here, and who it takes the caller for."""
        facts = self._facts
        driver = self._snapshot().driver
        return SystemInfo(
            version=facts.version,
            protocol=PROTOCOL,
            pid=self._pid,
            started_at=facts.started_at,
            uptime_s=(self._clock() - facts.started_ns) / _SECOND_NS,
            gpu_driver=facts.gpu_driver,
            driver_version=driver.driver_version if driver else None,
            cuda_version=driver.cuda_version if driver else None,
            socket=facts.socket,
            runtime_dir=facts.runtime_dir,
            state_dir=facts.state_dir,
            config_files=self._config_files(),
            log_level=self._log_level.get(),
            uid=request.peer.uid,
            role=request.role,
            connections=self._traffic.connections,
            requests=self._traffic.requests,
        )

    def reload(
        self, _request: RequestContext, _params: NoParams
    ) -> ReloadResult | Awaitable[ReloadResult]:
        """Read the configuration again and apply what can change live."""
        return self._reload()

    def log_level(self, request: RequestContext, params: LogLevelParams) -> LogLevelResult:
        """Ask for the level of the log, or set it."""
        previous = self._log_level.get()
        if params.level is not None:
            try:
                self._log_level.set(params.level, request.peer.uid)
            except ValueError as error:
                raise InvalidParamsError(str(error)) from error
        return LogLevelResult(level=self._log_level.get(), previous=previous)
