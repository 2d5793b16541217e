"""The whole surface of the daemon on one page: every method, who may call it, and what it is for.

This is the matrix of access: `role` is the least role that may call a method, `visibility` what it
shows of others (see `access.py`). rpc.discover and the reference are generated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from superezio import wire
from supereziod.rpc.access import Visibility
from supereziod.rpc.commands.breaker import BreakerCommands
from supereziod.rpc.commands.cache import CacheCommands
from supereziod.rpc.commands.config import ConfigCommands
from supereziod.rpc.commands.events import EventCommands
from supereziod.rpc.commands.gpu import GpuCommands
from supereziod.rpc.commands.health import HealthCommands
from supereziod.rpc.commands.lease import LeaseCommands
from supereziod.rpc.commands.limit import LimitCommands
from supereziod.rpc.commands.metrics import MetricsCommands
from supereziod.rpc.commands.quota import QuotaCommands
from supereziod.rpc.commands.rpc import RpcCommands
from supereziod.rpc.commands.session import SessionCommands
from supereziod.rpc.commands.system import SystemCommands
from supereziod.rpc.commands.trace import TraceCommands
from supereziod.rpc.method import Audit, Method


def _method(
    name: str,
    role: wire.Role,
    visibility: Visibility,
    handler: Callable[..., Any],
    params: type[wire.Params],
    result: object,
    summary: str,
    *,
    may_wait: bool = False,
    hot: bool = False,
    waiting: Callable[..., Any] | None = None,
    errors: tuple[str, ...] = (),
    hands_out: Callable[[Any], bool] | None = None,
    audit: Audit | None = None,
    only_reads: Callable[[Any], bool] | None = None,
) -> Method:
    if audit is None:
        # Nobody can forget it: what is for admins is audited unless the table says otherwise.
        audit = "always" if role == "admin" else "never"
    return Method(
        name=name,
        role=role,
        visibility=visibility,
        handler=handler,
        params=params,
        result=result,
        summary=summary,
        may_wait=may_wait or waiting is not None,
        hot=hot,
        waiting=waiting,
        errors=errors,
        hands_out=hands_out,
        audit=audit,
        only_reads=only_reads,
    )


def _always(_params: wire.Params) -> bool:
    return True


def _no_level(params: wire.LogLevelParams) -> bool:
    return params.level is None


def _to_be_filled(params: wire.CacheGetParams) -> bool:
    """Whether a lookup may come with the duty to fetch the value."""
    return params.fill


#: Where a GPU is named.
_GPU_ERRORS: Final = ("not_found", "gpus_unavailable")
#: Where a lease is asked for.
_ACQUIRE_ERRORS: Final = (
    "no_capacity",
    "never_fits",
    "wait_timeout",
    "queue_full",
    "gpus_unavailable",
    "holder_not_visible",
    "holder_gone",
    "state_not_writable",
    "conflict",
    "not_found",
    "quota_exceeded",
)

#: Where room in a limit is asked for.
_LIMIT_ERRORS: Final = (
    "rate_limited",
    "never_passes",
    "state_not_writable",
)


# fmt: off
#: In the order of the families. Handlers are functions of the classes; `bind` ties them to objects.
METHODS: Final[tuple[Method, ...]] = (
    _method("system.ping", "observer", "public", SystemCommands.ping,
            wire.NoParams, wire.Pong, "Answer at once", hot=True),
    _method("system.info", "observer", "public", SystemCommands.info,
            wire.NoParams, wire.SystemInfo, "What runs here, and whom it takes the caller for"),
    _method("system.reload", "admin", "public", SystemCommands.reload,
            wire.NoParams, wire.ReloadResult, "Apply the configuration anew",
            may_wait=True, errors=("conflict",)),
    _method("system.log_level", "admin", "public", SystemCommands.log_level,
            wire.LogLevelParams, wire.LogLevelResult, "Read or set the level of the log",
            only_reads=_no_level),

    _method("config.get", "admin", "public", ConfigCommands.get,
            wire.ConfigParams, wire.ConfigValues, "The configuration in force, and where each"
            " value was set", may_wait=True, errors=("not_found",), audit="refusals"),
    _method("config.diff", "admin", "public", ConfigCommands.diff,
            wire.NoParams, wire.ConfigDiff, "What the files say that is not in force",
            may_wait=True, errors=("conflict",), audit="refusals"),

    _method("health.get", "observer", "public", HealthCommands.get,
            wire.NoParams, wire.Health, "The verdict on the host, with reasons and actions"),

    _method("gpu.list", "observer", "public", GpuCommands.list,
            wire.NoParams, wire.GpuList, "Every GPU, and what may be leased on it"),
    _method("gpu.get", "observer", "public", GpuCommands.get,
            wire.GpuParams, wire.Gpu, "One GPU",
            errors=_GPU_ERRORS),
    _method("gpu.history", "observer", "public", GpuCommands.history,
            wire.HistoryParams, wire.GpuHistory, "Metrics of one GPU over time",
            errors=_GPU_ERRORS),
    _method("gpu.processes", "observer", "masked", GpuCommands.processes,
            wire.OptionalGpuParams, wire.GpuProcessList, "The processes on the GPUs",
            may_wait=True, errors=_GPU_ERRORS),
    _method("gpu.cordon", "admin", "public", GpuCommands.cordon,
            wire.CordonParams, wire.CordonChange, "Keep new leases off a GPU",
            errors=_GPU_ERRORS),
    _method("gpu.uncordon", "admin", "public", GpuCommands.uncordon,
            wire.GpuParams, wire.CordonChange, "Let new leases onto a cordoned GPU again",
            errors=_GPU_ERRORS),
    _method("gpu.detach", "admin", "public", GpuCommands.detach,
            wire.NoParams, wire.ProbeState, "Let go of the driver", may_wait=True),
    _method("gpu.attach", "admin", "public", GpuCommands.attach,
            wire.NoParams, wire.ProbeState, "Take hold of the driver again", may_wait=True),

    _method("lease.acquire", "user", "own", LeaseCommands.acquire,
            wire.AcquireParams, wire.Lease, "Ask for VRAM on one GPU or several",
            may_wait=True, errors=_ACQUIRE_ERRORS),
    _method("lease.attach", "user", "own", LeaseCommands.attach,
            wire.LeaseAttachParams, wire.Lease, "Bind a further process to a lease",
            errors=("stale_lease", "holder_gone", "state_not_writable"), audit="others"),
    _method("lease.resume", "user", "own", LeaseCommands.resume,
            wire.LeaseParams, wire.Lease, "Take a connection lease over after a reconnect",
            errors=("stale_lease", "conflict"), audit="others"),
    _method("lease.renew", "user", "own", LeaseCommands.renew,
            wire.LeaseRenewParams, wire.Lease, "Let a ttl lease last its TTL from now",
            errors=("stale_lease",), audit="others"),
    _method("lease.ready", "user", "own", LeaseCommands.ready,
            wire.LeaseParams, wire.Lease, "Say that the lease's program has grown to its size",
            errors=("stale_lease", "state_not_writable"), audit="others"),
    _method("lease.revoke", "user", "own", LeaseCommands.revoke,
            wire.LeaseRevokeParams, wire.Lease, "Order a lease to end by a deadline",
            errors=("stale_lease", "state_not_writable"), audit="others"),
    _method("lease.acknowledge", "user", "own", LeaseCommands.acknowledge,
            wire.LeaseAcknowledgeParams, wire.Lease, "Answer an order to end a lease",
            errors=("stale_lease", "conflict", "state_not_writable"), audit="others"),
    _method("lease.release", "user", "own", LeaseCommands.release,
            wire.LeaseParams, wire.ReleaseResult, "End a lease",
            errors=("stale_lease", "state_not_writable"), audit="others"),
    _method("lease.cancel", "user", "own", LeaseCommands.cancel,
            wire.WaiterParams, wire.Done, "Take an acquire out of the queue",
            audit="others"),
    _method("lease.list", "observer", "masked", LeaseCommands.list,
            wire.NoParams, wire.LeaseList, "The leases and the queue"),
    _method("lease.get", "observer", "masked", LeaseCommands.get,
            wire.LeaseParams, wire.Lease, "One lease",
            errors=("stale_lease",)),
    _method("lease.quota", "observer", "own", QuotaCommands.quota,
            wire.NoParams, wire.QuotaList, "What the caller may have leased, and has"),
    _method("placement.explain", "user", "public", LeaseCommands.explain,
            wire.PlacementParams, wire.Placement, "What an acquire would get, and why",
            may_wait=True, errors=_GPU_ERRORS),

    _method("limit.acquire", "user", "own", LimitCommands.acquire,
            wire.LimitAcquireParams, wire.LimitReservation, "Reserve room for a request in a limit",
            hot=True, waiting=LimitCommands.acquire_later,
            errors=(*_LIMIT_ERRORS, "not_found"), hands_out=_always),
    _method("limit.settle", "user", "own", LimitCommands.settle,
            wire.LimitSettleParams, wire.LimitSettlement, "Say what a request used", hot=True),
    _method("limit.peek", "user", "own", LimitCommands.peek,
            wire.LimitParams, wire.LimitState, "What is left of a limit", errors=("not_found",)),
    _method("limit.list", "user", "own", LimitCommands.list,
            wire.NoParams, wire.LimitList, "The limits, and what is left of each"),
    _method("limit.reset", "user", "own", LimitCommands.reset,
            wire.LimitResetParams, wire.Done, "Have all of a limit there again",
            errors=("not_found",), audit="others"),

    _method("events.subscribe", "observer", "own", EventCommands.subscribe,
            wire.SubscribeParams, wire.SubscribeResult, "Be told of what changes"),
    _method("events.unsubscribe", "observer", "own", EventCommands.unsubscribe,
            wire.UnsubscribeParams, wire.Done, "End a subscription"),

    _method("session.open", "observer", "own", SessionCommands.open,
            wire.SessionOpenParams, wire.SessionOpened, "Open a session, or resume one",
            errors=("not_found",)),
    _method("session.close", "observer", "own", SessionCommands.close,
            wire.SessionCloseParams, wire.Done, "End a session",
            audit="others"),
    _method("session.list", "observer", "own", SessionCommands.list,
            wire.NoParams, wire.SessionList, "The sessions"),

    _method("metrics.get", "observer", "public", MetricsCommands.get,
            wire.NoParams, wire.MetricsText, "Figures for a monitoring system, as Prometheus"
            " reads them", may_wait=True),
    _method("cache.get", "user", "own", CacheCommands.get,
            wire.CacheGetParams, wire.CacheAnswer, "Look a key up, or be the one who fetches it",
            hot=True, waiting=CacheCommands.wait, errors=("fill_failed", "fill_timeout"),
            hands_out=_to_be_filled),
    _method("cache.set", "user", "own", CacheCommands.set,
            wire.CacheSetParams, wire.CacheStored, "Set a value, and give it to all who wait"),
    _method("cache.fail", "user", "own", CacheCommands.fail,
            wire.CacheFailParams, wire.CacheFailed, "Give the fetching of a value up"),
    _method("cache.delete", "user", "own", CacheCommands.delete,
            wire.CacheDeleteParams, wire.CacheDeleted, "Delete a key, or all with a tag"),
    _method("cache.clear", "user", "own", CacheCommands.clear,
            wire.CacheNamespaceParams, wire.CacheDeleted, "Delete all of a namespace",
            audit="others"),
    _method("cache.stats", "user", "own", CacheCommands.stats,
            wire.NoParams, wire.CacheStats, "What the caller's namespaces hold, and how they do"),

    _method("trace.get", "observer", "own", TraceCommands.get,
            wire.TraceParams, wire.Trace, "What became of the requests of an id", may_wait=True),
    _method("trace.find", "observer", "own", TraceCommands.find,
            wire.TraceFindParams, wire.TraceList, "The newest requests, slow or failed ones alone",
            may_wait=True),
    _method("trace.annotate", "observer", "own", TraceCommands.annotate,
            wire.TraceAnnotateParams, wire.Done, "Add a span of one's own to an id"),

    _method("rpc.discover", "observer", "public", RpcCommands.discover,
            wire.NoParams, dict[str, Any], "The OpenRPC document of these methods"),
    _method("rpc.cancel", "observer", "own", RpcCommands.cancel,
            wire.CancelParams, wire.Done, "Cancel a request in flight on this connection"),

    _method("breaker.acquire", "user", "own", BreakerCommands.acquire,
            wire.BreakerAcquireParams, wire.BreakerPermit, "Ask for leave to call a service",
            hot=True, errors=("breaker_open",), hands_out=_always),
    _method("breaker.settle", "user", "own", BreakerCommands.settle,
            wire.BreakerSettleParams, wire.BreakerSettlement, "Tell how a call ended", hot=True),
    _method("breaker.get", "user", "own", BreakerCommands.get,
            wire.BreakerParams, wire.Breaker, "One breaker",
            errors=("not_found",)),
    _method("breaker.list", "user", "own", BreakerCommands.list,
            wire.NoParams, wire.BreakerList, "One's own breakers, and the shared ones"),
    _method("breaker.force_open", "user", "own", BreakerCommands.force_open,
            wire.BreakerParams, wire.Breaker, "Have a breaker reject every call",
            errors=("not_found",), audit="others"),
    _method("breaker.disable", "user", "own", BreakerCommands.disable,
            wire.BreakerParams, wire.Breaker, "Have a breaker let every call through",
            errors=("not_found",), audit="others"),
    _method("breaker.reset", "user", "own", BreakerCommands.reset,
            wire.BreakerParams, wire.Breaker, "Have a breaker begin anew, closed",
            errors=("not_found",), audit="others"),
)
# fmt: on


def bind(methods: Sequence[Method], commands: Sequence[object]) -> list[Method]:
    """Tie each method to the object among `commands` whose class has its handler."""
    return [
        structs.replace(
            method,
            handler=_bound(method, method.handler, commands),
            waiting=None if method.waiting is None else _bound(method, method.waiting, commands),
        )
        for method in methods
    ]


def _bound(
    method: Method, handler: Callable[..., Any], commands: Sequence[object]
) -> Callable[..., Any]:
    name = handler.__name__
    for each in commands:
        if getattr(type(each), name, None) is handler:
            bound: Callable[..., Any] = getattr(each, name)
            return bound
    raise ValueError(f"nothing handles {method.name}")
