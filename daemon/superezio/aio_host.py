"""What is asked of the daemon, the host and its GPUs, as coroutines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from superezio import calls, wire
from superezio.calls import Call

T = TypeVar("T")


class AsyncHostMethods(Protocol):
    """A part of `AsyncClient`: each method is written at its twin in `client_host.HostMethods`."""

    async def _call(self, call: Call[T], timeout_s: float | str | None) -> T:
        """Make a call and return its result."""

    async def system_ping(self, *, timeout_s: float | str | None = None) -> wire.Pong:
        """Return at once, if the daemon's loop turns."""
        return await self._call(calls.system_ping(), timeout_s)

    async def system_info(self, *, timeout_s: float | str | None = None) -> wire.SystemInfo:
        """Return what runs, and the caller's role."""
        return await self._call(calls.system_info(), timeout_s)

    async def system_reload(self, *, timeout_s: float | str | None = None) -> wire.ReloadResult:
        """Read the configuration again (admins)."""
        return await self._call(calls.system_reload(), timeout_s)

    async def config_get(
        self,
        key: str | None = None,
        *,
        everything: bool = False,
        timeout_s: float | str | None = None,
    ) -> wire.ConfigValues:
        """Return the configuration in force: a key, a section or all of it (admins)."""
        return await self._call(calls.config_get(key, everything=everything), timeout_s)

    async def config_diff(self, *, timeout_s: float | str | None = None) -> wire.ConfigDiff:
        """Return what the files say that is not in force (admins)."""
        return await self._call(calls.config_diff(), timeout_s)

    async def system_log_level(
        self, level: str | None = None, *, timeout_s: float | str | None = None
    ) -> wire.LogLevelResult:
        """Return the log level, after setting it if one is given (admins)."""
        return await self._call(calls.system_log_level(level), timeout_s)

    async def health_get(self, *, timeout_s: float | str | None = None) -> wire.Health:
        """Return the verdict on the host, with reasons."""
        return await self._call(calls.health_get(), timeout_s)

    async def metrics_get(self, *, timeout_s: float | str | None = None) -> wire.MetricsText:
        """Return all metrics of the daemon in Prometheus' text format."""
        return await self._call(calls.metrics_get(), timeout_s)

    async def gpu_list(self, *, timeout_s: float | str | None = None) -> wire.GpuList:
        """Return every GPU with its latest sample."""
        return await self._call(calls.gpu_list(), timeout_s)

    async def gpu_get(self, gpu: str, *, timeout_s: float | str | None = None) -> wire.Gpu:
        """Return one GPU, by index, UUID or a unique beginning of that."""
        return await self._call(calls.gpu_get(gpu), timeout_s)

    async def gpu_history(
        self, gpu: str, *, since: float | str = 900.0, timeout_s: float | str | None = None
    ) -> wire.GpuHistory:
        """Return the past of one GPU."""
        return await self._call(calls.gpu_history(gpu, since), timeout_s)

    async def gpu_processes(
        self, gpu: str | None = None, *, timeout_s: float | str | None = None
    ) -> wire.GpuProcessList:
        """Return the processes on one GPU, or on all."""
        return await self._call(calls.gpu_processes(gpu), timeout_s)

    async def gpu_cordon(
        self, gpu: str, *, reason: str = "", timeout_s: float | str | None = None
    ) -> wire.CordonChange:
        """Let no new lease onto a GPU (admins)."""
        return await self._call(calls.gpu_cordon(gpu, reason), timeout_s)

    async def gpu_uncordon(
        self, gpu: str, *, timeout_s: float | str | None = None
    ) -> wire.CordonChange:
        """Undo `gpu_cordon` (admins)."""
        return await self._call(calls.gpu_uncordon(gpu), timeout_s)

    async def gpu_detach(self, *, timeout_s: float | str | None = None) -> wire.ProbeState:
        """Let go of the driver (admins)."""
        return await self._call(calls.gpu_detach(), timeout_s)

    async def gpu_attach(self, *, timeout_s: float | str | None = None) -> wire.ProbeState:
        """Take up the driver again (admins)."""
        return await self._call(calls.gpu_attach(), timeout_s)

    async def session_list(self, *, timeout_s: float | str | None = None) -> wire.SessionList:
        """Return the sessions that the caller may see."""
        return await self._call(calls.session_list(), timeout_s)

    async def trace_get(self, id_: str, *, timeout_s: float | str | None = None) -> wire.Trace:
        """Return what became of the requests of a correlation id, or trace-id, in time's order.

        One's own; for admins all.
        """
        return await self._call(calls.trace_get(id_), timeout_s)

    async def trace_find(
        self,
        *,
        last: int = 20,
        slow: float | str | None = None,
        failed: bool = False,
        method: str | None = None,
        since: float | str | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.TraceList:
        """Return the newest `last` requests, the newest first, that meet all that is given.

        `slow`: they took that long or longer; `failed`: they were answered with an error, or not at
        all; `method`: of one method, or, with a dot at its end, of a family; `since`: they are no
        older. Durations are seconds or text.
        """
        call = calls.trace_find(last=last, slow=slow, failed=failed, method=method, since=since)
        return await self._call(call, timeout_s)

    async def trace_annotate(
        self,
        correlation_id: str,
        name: str,
        *,
        started_ago: float | str | None = None,
        duration: float | str | None = None,
        attributes: Mapping[str, str | int | float | bool] | None = None,
        timeout_s: float | str | None = None,
    ) -> wire.Done:
        """Add a span of one's own to a correlation id: `trace_get` shows it beside the requests.

        It took `duration` up to now, or began `started_ago`; without a duration it is an instant.
        Raises BusyError where there are too many of them.
        """
        call = calls.trace_annotate(
            correlation_id,
            name,
            started_ago=started_ago,
            duration=duration,
            attributes=attributes or {},
        )
        return await self._call(call, timeout_s)

    async def rpc_discover(self, *, timeout_s: float | str | None = None) -> dict[str, Any]:
        """Return the OpenRPC document of the daemon that runs."""
        return await self._call(calls.rpc_discover(), timeout_s)
