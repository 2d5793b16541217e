"""Every method of the daemon as a typed value: what is sent, what comes back, what may be retried.

Both clients send these; there is no second list of methods on the client's side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from superezio import wire
from superezio.quantities import parse_duration, parse_size

T = TypeVar("T")


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """One request to make.

    `idempotent`: doing it twice is doing it once, so that it may be sent again when a connection
    ends before the answer. `wait_s` is how long the daemon may take on purpose; it adds to the
    call's time limit.
    """

    method: str
    result: type[T]
    params: wire.Params | None = None
    idempotent: bool = True
    wait_s: float = 0.0
    idempotency_key: str | None = None
    #: What gives a result back that comes when nobody waits for it any more, where that is needed.
    undo: Callable[[T], Call[Any] | None] | None = None

    def made_again(self, after_s: float) -> Call[T]:
        """Return what to send that long after the call began: it waits no longer than was asked."""
        if (
            not isinstance(self.params, wire.AcquireParams | wire.CacheGetParams)
            or self.params.wait_ms <= 0
        ):
            return self
        # Not 0, which is not to wait at all, and is answered otherwise.
        left_ms = max(1, self.params.wait_ms - round(after_s * 1000))
        return replace(self, params=replace(self.params, wait_ms=left_ms))


class PlacementOptions(TypedDict, total=False):
    """What may be said besides the VRAM.

    `count` GPUs, each with the VRAM; with `split` it is one amount over them, or, without a
    `count`, over as few as hold it. `policy` best_fit (the default), spread, exclusive or coolest;
    `prefer` and `avoid` name GPUs by UUID. `min_compute_capability` (as in `8.6`), `compute_mode`
    and `no_display` are what a GPU has to meet. `model` is a name: GPUs where a lease of the same
    user with that name lies go before others.
    """

    count: int
    policy: wire.Policy
    prefer: Sequence[str]
    avoid: Sequence[str]
    min_compute_capability: str | None
    compute_mode: wire.LeasableComputeMode | None
    no_display: bool
    model: str | None
    split: bool


class LeaseOptions(PlacementOptions, total=False):
    """What may be said of a lease besides the VRAM and the placement.

    `mode` process (the default) ends the lease with its holder: `holder_pid`, or this process.
    `mode` connection ends it, after a grace of seconds, with the client's connection. `mode` ttl
    ends it `ttl` after the last renewal (seconds, or text; a minute if it is not given).
    `sizes_itself` is for a program that takes a share of what it finds free: nothing else starts on
    its GPUs until it has grown.
    `name` is shown to people. `wait` is how long to stand in the queue: seconds, or text such as
    `1m30s`; 0, the default, does not. `priority` above 0 goes before others, as far as the caller's
    role allows. `idempotency_key` is made up where it is not given; the same key again is the same
    lease again.
    """

    mode: wire.LeaseMode
    ttl: float | str
    sizes_itself: bool
    holder_pid: int | None
    name: str | None
    wait: float | str
    priority: int
    idempotency_key: str | None


class LimitCost(TypedDict, total=False):
    """What may be said of a request for room in a limit.

    What it takes: `requests` (1), `tokens`, `money_micros` and slots (`concurrency`). `key` is
    whose request it is, where the limit has a budget for each; `wait` is how long to wait for room;
    `rates` are those of a limit of one's own.
    """

    requests: int
    tokens: int
    money_micros: int
    concurrency: int
    key: str | None
    wait: float | str
    rates: wire.LimitRates | None


class LimitUse(TypedDict, total=False):
    """What a request has used, and what the far side said (Retry-After, what is left)."""

    requests: int | None
    tokens: int | None
    money_micros: int | None
    retry_after: float | str | None
    remaining: wire.LimitRemaining | None


def size_bytes(size: int | str) -> int:
    """Return bytes for bytes or for text such as `8GiB`. Raises ValueError."""
    return parse_size(size) if isinstance(size, str) else size


def duration_s(duration: float | str) -> float:
    """Return seconds for seconds or for text such as `1m30s`. Raises ValueError."""
    return parse_duration(duration) if isinstance(duration, str) else float(duration)


def _refuse_unknown(
    options: PlacementOptions | CacheOptions | LimitCost | LimitUse, names: frozenset[str]
) -> None:
    """Raise TypeError for a name that is no option: a typo must not pass for the default."""
    unknown = sorted(options.keys() - names)
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}: the options are {', '.join(sorted(names))}"
        )


def system_ping() -> Call[wire.Pong]:
    return Call(method="system.ping", result=wire.Pong)


def system_info() -> Call[wire.SystemInfo]:
    return Call(method="system.info", result=wire.SystemInfo)


def system_reload() -> Call[wire.ReloadResult]:
    return Call(method="system.reload", result=wire.ReloadResult)


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


def gpu_cordon(gpu: str, reason: str) -> Call[wire.Done]:
    params = wire.CordonParams(gpu=gpu, reason=reason)
    return Call(method="gpu.cordon", result=wire.Done, params=params)


def gpu_uncordon(gpu: str) -> Call[wire.Done]:
    return Call(method="gpu.uncordon", result=wire.Done, params=wire.GpuParams(gpu=gpu))


def gpu_detach() -> Call[wire.ProbeState]:
    return Call(method="gpu.detach", result=wire.ProbeState)


def gpu_attach() -> Call[wire.ProbeState]:
    return Call(method="gpu.attach", result=wire.ProbeState)


def lease_acquire(vram: int | str, options: LeaseOptions) -> Call[wire.Lease]:
    _refuse_unknown(options, LeaseOptions.__optional_keys__)
    wait_s = duration_s(options.get("wait", 0.0))
    params = wire.AcquireParams(
        vram_bytes=size_bytes(vram),
        count=options.get("count", 1),
        policy=options.get("policy", "best_fit"),
        prefer=list(options.get("prefer", ())),
        avoid=list(options.get("avoid", ())),
        mode=options.get("mode", "process"),
        holder_pid=options.get("holder_pid"),
        name=options.get("name"),
        wait_ms=round(wait_s * 1000),
        priority=options.get("priority", 0),
        ttl_ms=round(duration_s(options["ttl"]) * 1000) if "ttl" in options else None,
        sizes_itself=options.get("sizes_itself", False),
        min_compute_capability=options.get("min_compute_capability"),
        compute_mode=options.get("compute_mode"),
        no_display=options.get("no_display", False),
        model=options.get("model"),
        split=options.get("split", False),
    )
    return Call(
        method="lease.acquire",
        result=wire.Lease,
        params=params,
        wait_s=wait_s,
        idempotency_key=options.get("idempotency_key") or os.urandom(16).hex(),
    )


def lease_attach(lease: str, pid: int, start_time: int | None) -> Call[wire.Lease]:
    params = wire.LeaseAttachParams(lease=lease, pid=pid, start_time=start_time)
    return Call(method="lease.attach", result=wire.Lease, params=params)


def lease_resume(lease: str) -> Call[wire.Lease]:
    return Call(method="lease.resume", result=wire.Lease, params=wire.LeaseParams(lease=lease))


def lease_renew(lease: str, ttl: float | str | None) -> Call[wire.Lease]:
    ttl_ms = None if ttl is None else round(duration_s(ttl) * 1000)
    params = wire.LeaseRenewParams(lease=lease, ttl_ms=ttl_ms)
    return Call(method="lease.renew", result=wire.Lease, params=params)


def lease_ready(lease: str) -> Call[wire.Lease]:
    return Call(method="lease.ready", result=wire.Lease, params=wire.LeaseParams(lease=lease))


def lease_revoke(lease: str, deadline: float | str | None, reason: str) -> Call[wire.Lease]:
    deadline_s = None if deadline is None else duration_s(deadline)
    params = wire.LeaseRevokeParams(lease=lease, deadline_s=deadline_s, reason=reason)
    return Call(method="lease.revoke", result=wire.Lease, params=params)


def lease_acknowledge(lease: str, *, accept: bool, message: str | None) -> Call[wire.Lease]:
    params = wire.LeaseAcknowledgeParams(lease=lease, accept=accept, message=message)
    return Call(method="lease.acknowledge", result=wire.Lease, params=params)


def lease_release(lease: str) -> Call[wire.ReleaseResult]:
    params = wire.LeaseParams(lease=lease)
    return Call(method="lease.release", result=wire.ReleaseResult, params=params)


def lease_cancel(waiter: str) -> Call[wire.Done]:
    return Call(method="lease.cancel", result=wire.Done, params=wire.WaiterParams(waiter=waiter))


def lease_list() -> Call[wire.LeaseList]:
    return Call(method="lease.list", result=wire.LeaseList)


def lease_get(lease: str) -> Call[wire.Lease]:
    return Call(method="lease.get", result=wire.Lease, params=wire.LeaseParams(lease=lease))


def lease_quota() -> Call[wire.QuotaList]:
    return Call(method="lease.quota", result=wire.QuotaList)


def placement_explain(vram: int | str, options: PlacementOptions) -> Call[wire.Placement]:
    _refuse_unknown(options, PlacementOptions.__optional_keys__)
    params = wire.PlacementParams(
        vram_bytes=size_bytes(vram),
        count=options.get("count", 1),
        policy=options.get("policy", "best_fit"),
        prefer=list(options.get("prefer", ())),
        avoid=list(options.get("avoid", ())),
        min_compute_capability=options.get("min_compute_capability"),
        compute_mode=options.get("compute_mode"),
        no_display=options.get("no_display", False),
        model=options.get("model"),
        split=options.get("split", False),
    )
    return Call(method="placement.explain", result=wire.Placement, params=params)


def limit_acquire(name: str, options: LimitCost) -> Call[wire.LimitReservation]:
    _refuse_unknown(options, LimitCost.__optional_keys__)
    wait_s = duration_s(options.get("wait", 0.0))
    params = wire.LimitAcquireParams(
        name=name,
        requests=options.get("requests", 1),
        tokens=options.get("tokens", 0),
        money_micros=options.get("money_micros", 0),
        concurrency=options.get("concurrency", 0),
        key=options.get("key"),
        wait_ms=round(wait_s * 1000),
        rates=options.get("rates"),
    )
    # A grant that nobody heard of counts as used: asked again, it would be used twice.
    return Call(
        method="limit.acquire",
        result=wire.LimitReservation,
        params=params,
        idempotent=False,
        wait_s=wait_s,
    )


def limit_settle(reservation: int, used: LimitUse) -> Call[wire.LimitSettlement]:
    _refuse_unknown(used, LimitUse.__optional_keys__)
    retry_after = used.get("retry_after")
    params = wire.LimitSettleParams(
        reservation=reservation,
        requests=used.get("requests"),
        tokens=used.get("tokens"),
        money_micros=used.get("money_micros"),
        retry_after_ms=None if retry_after is None else round(duration_s(retry_after) * 1000),
        remaining=used.get("remaining"),
    )
    return Call(method="limit.settle", result=wire.LimitSettlement, params=params)


def limit_peek(name: str, key: str | None, uid: int | None) -> Call[wire.LimitState]:
    params = wire.LimitParams(name=name, key=key, uid=uid)
    return Call(method="limit.peek", result=wire.LimitState, params=params)


def limit_list() -> Call[wire.LimitList]:
    return Call(method="limit.list", result=wire.LimitList)


def limit_reset(name: str, key: str | None, uid: int | None, *, spend: bool) -> Call[wire.Done]:
    params = wire.LimitResetParams(name=name, key=key, uid=uid, spend=spend)
    return Call(method="limit.reset", result=wire.Done, params=params)


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


def cache_get(
    namespace: str, key: str, *, fill: bool, wait: float | str, lead: float | str
) -> Call[wire.CacheAnswer]:
    wait_s = duration_s(wait)
    params = wire.CacheGetParams(
        namespace=namespace,
        key=key,
        fill=fill,
        wait_ms=round(wait_s * 1000),
        lead_ms=round(duration_s(lead) * 1000),
    )
    # Sent again over another connection it is another caller's: what the first led has passed on.
    return Call(
        method="cache.get",
        result=wire.CacheAnswer,
        params=params,
        wait_s=wait_s if fill else 0.0,
    )


class CacheOptions(TypedDict, total=False):
    """What may be said of a value besides the key.

    It is fresh for `ttl` (seconds, or text such as `1h`; an hour if it is not given), then served
    for `grace` while one caller refreshes it, and for `stale_if_error` where that fails. `tags` are
    names to delete it by. `token` is that of a lead.
    """

    ttl: float | str
    grace: float | str
    stale_if_error: float | str
    tags: Sequence[str]
    token: str | None


def cache_set(
    namespace: str, key: str, value: str | bytes, options: CacheOptions
) -> Call[wire.CacheStored]:
    _refuse_unknown(options, CacheOptions.__optional_keys__)
    params = wire.CacheSetParams(
        namespace=namespace,
        key=key,
        text=value if isinstance(value, str) else None,
        data=None if isinstance(value, str) else value,
        ttl_ms=_milliseconds(options.get("ttl", 3600.0)),
        grace_ms=_milliseconds(options.get("grace", 0.0)),
        stale_if_error_ms=_milliseconds(options.get("stale_if_error", 0.0)),
        tags=list(options.get("tags", ())),
        token=options.get("token"),
    )
    return Call(method="cache.set", result=wire.CacheStored, params=params)


def cache_fail(namespace: str, key: str, token: str, error: str | None) -> Call[wire.CacheFailed]:
    params = wire.CacheFailParams(namespace=namespace, key=key, token=token, error=error)
    return Call(method="cache.fail", result=wire.CacheFailed, params=params)


def cache_delete(namespace: str, key: str | None, tag: str | None) -> Call[wire.CacheDeleted]:
    params = wire.CacheDeleteParams(namespace=namespace, key=key, tag=tag)
    return Call(method="cache.delete", result=wire.CacheDeleted, params=params)


def cache_clear(namespace: str, uid: int | None) -> Call[wire.CacheDeleted]:
    params = wire.CacheNamespaceParams(namespace=namespace, uid=uid)
    return Call(method="cache.clear", result=wire.CacheDeleted, params=params)


def cache_stats() -> Call[wire.CacheStats]:
    return Call(method="cache.stats", result=wire.CacheStats)


def _milliseconds(duration: float | str) -> int:
    return round(duration_s(duration) * 1000)


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


def breaker_acquire(name: str, rules: wire.BreakerRules | None) -> Call[wire.BreakerPermit]:
    # Again is safe: what the connection that ended was given has returned with it.
    params = wire.BreakerAcquireParams(name=name, rules=rules)
    return Call(method="breaker.acquire", result=wire.BreakerPermit, params=params)


def breaker_settle(
    name: str, permit: int, outcome: wire.CallOutcome, retry_after: float | str | None
) -> Call[wire.BreakerSettlement]:
    retry_after_ms = None if retry_after is None else round(duration_s(retry_after) * 1000)
    params = wire.BreakerSettleParams(
        name=name, permit=permit, outcome=outcome, retry_after_ms=retry_after_ms
    )
    return Call(method="breaker.settle", result=wire.BreakerSettlement, params=params)


def breaker_get(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.get", result=wire.Breaker, params=params)


def breaker_list() -> Call[wire.BreakerList]:
    return Call(method="breaker.list", result=wire.BreakerList)


def breaker_force_open(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.force_open", result=wire.Breaker, params=params)


def breaker_disable(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.disable", result=wire.Breaker, params=params)


def breaker_reset(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.reset", result=wire.Breaker, params=params)
