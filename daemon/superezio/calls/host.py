"""The daemon, the host and its GPUs, sessions, events and the flight recorder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from superezio import wire
from superezio.calls.call import Call, duration_s


def system_ping() -> Call[wire.Pong]:
    return Call(method="system.ping", result=wire.Pong)


def system_info() -> Call[wire.SystemInfo]:
    return Call(method="system.info", result=wire.SystemInfo)


def system_reload() -> Call[wire.ReloadResult]:
    return Call(method="system.reload", result=wire.ReloadResult)


def config_get(key: str | None, *, everything: bool) -> Call[wire.ConfigValues]:
    params = wire.ConfigParams(key=key, all=everything)
    return Call(method="config.get", result=wire.ConfigValues, params=params)


def config_diff() -> Call[wire.ConfigDiff]:
    return Call(method="config.diff", result=wire.ConfigDiff)


def system_log_level(level: str | None) -> Call[wire.LogLevelResult]:
    return Call(
        method="system.log_level",
        result=wire.LogLevelResult,
        params=wire.LogLevelParams(level=level),
    )


def health_get() -> Call[wire.Health]:
    return Call(method="health.get", result=wire.Health)


def metrics_get() -> Call[wire.MetricsText]:
    return Call(method="metrics.get", result=wire.MetricsText)


def gpu_list() -> Call[wire.GpuList]:
    return Call(method="gpu.list", result=wire.GpuList)


def gpu_get(gpu: str) -> Call[wire.Gpu]:
    return Call(method="gpu.get", result=wire.Gpu, params=wire.GpuParams(gpu=gpu))


def gpu_history(gpu: str, since: float | str) -> Call[wire.GpuHistory]:
    params = wire.HistoryParams(gpu=gpu, since_s=duration_s(since))
    return Call(method="gpu.history", result=wire.GpuHistory, params=params)


def gpu_processes(gpu: str | None) -> Call[wire.GpuProcessList]:
    params = wire.OptionalGpuParams(gpu=gpu)
    return Call(method="gpu.processes", result=wire.GpuProcessList, params=params)


def gpu_cordon(gpu: str, reason: str) -> Call[wire.CordonChange]:
    params = wire.CordonParams(gpu=gpu, reason=reason)
    return Call(method="gpu.cordon", result=wire.CordonChange, params=params)


def gpu_uncordon(gpu: str) -> Call[wire.CordonChange]:
    params = wire.GpuParams(gpu=gpu)
    return Call(method="gpu.uncordon", result=wire.CordonChange, params=params)


def gpu_detach() -> Call[wire.ProbeState]:
    return Call(method="gpu.detach", result=wire.ProbeState)


def gpu_attach() -> Call[wire.ProbeState]:
    return Call(method="gpu.attach", result=wire.ProbeState)


def events_subscribe(types: Sequence[str], replay: int) -> Call[wire.SubscribeResult]:
    params = wire.SubscribeParams(types=list(types), replay=replay)
    return Call(
        method="events.subscribe", result=wire.SubscribeResult, params=params, idempotent=False
    )


def session_open(name: str | None, token: str | None) -> Call[wire.SessionOpened]:
    params = wire.SessionOpenParams(name=name, token=token)
    # Without a token each open makes another session.
    return Call(
        method="session.open",
        result=wire.SessionOpened,
        params=params,
        idempotent=token is not None,
    )


def session_close(session_id: str) -> Call[wire.Done]:
    params = wire.SessionCloseParams(session_id=session_id)
    return Call(method="session.close", result=wire.Done, params=params)


def session_list() -> Call[wire.SessionList]:
    return Call(method="session.list", result=wire.SessionList)


def trace_get(id_: str) -> Call[wire.Trace]:
    return Call(method="trace.get", result=wire.Trace, params=wire.TraceParams(id=id_))


def trace_find(
    *,
    last: int,
    slow: float | str | None,
    failed: bool,
    method: str | None,
    since: float | str | None,
) -> Call[wire.TraceList]:
    params = wire.TraceFindParams(
        last=last,
        slow_ms=None if slow is None else duration_s(slow) * 1000,
        failed=failed,
        method=method,
        since_s=None if since is None else duration_s(since),
    )
    return Call(method="trace.find", result=wire.TraceList, params=params)


def trace_annotate(
    correlation_id: str,
    name: str,
    *,
    started_ago: float | str | None,
    duration: float | str | None,
    attributes: Mapping[str, str | int | float | bool],
) -> Call[wire.Done]:
    params = wire.TraceAnnotateParams(
        correlation_id=correlation_id,
        name=name,
        started_ms_ago=None if started_ago is None else duration_s(started_ago) * 1000,
        duration_ms=None if duration is None else duration_s(duration) * 1000,
        attributes=dict(attributes),
    )
    # Sent again, it would be there twice.
    return Call(method="trace.annotate", result=wire.Done, params=params, idempotent=False)


def rpc_discover() -> Call[dict[str, Any]]:
    return Call(method="rpc.discover", result=dict[str, Any])
