"""Puts the control plane together from the parts it serves and the values it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from supereziod.gpu.processes import ProcessDescriber
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.metrics import MetricSource
from supereziod.observability.ring import Ring
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.commands.breaker import BreakerCommands, BreakerService
from supereziod.rpc.commands.cache import CacheCommands, CacheService
from supereziod.rpc.commands.config import ConfigCommands, Configuration
from supereziod.rpc.commands.events import EventCommands
from supereziod.rpc.commands.gpu import GpuCommands, LeasedGpu, Monitor
from supereziod.rpc.commands.health import Doctor, HealthCommands
from supereziod.rpc.commands.lease import LeaseCommands, Leases
from supereziod.rpc.commands.limit import LimitBook, LimitCommands
from supereziod.rpc.commands.limit import Limits as RateLimits
from supereziod.rpc.commands.metrics import MetricsCommands
from supereziod.rpc.commands.quota import QuotaBook, QuotaCommands
from supereziod.rpc.commands.rpc import RpcCommands
from supereziod.rpc.commands.session import SessionCommands
from supereziod.rpc.commands.system import DaemonFacts, LogLevel, Reloader, SystemCommands
from supereziod.rpc.commands.trace import TraceCommands
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.limits import Limits, Traffic
from supereziod.rpc.methods import METHODS, bind
from supereziod.rpc.openrpc import openrpc_document
from supereziod.rpc.server import RpcServer
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.subscriptions import Events, Subscriptions
from supereziod.rpc.traffic_metrics import TrafficMetrics


class LeaseService(Leases, QuotaBook, Protocol):
    """The lease manager: what handlers ask, and what the server tells it."""

    def usage(self) -> Mapping[str, LeasedGpu]:
        """Return what is leased, by GPU."""

    def connection_closed(self, connection: str) -> None:
        """Hear that a connection ended."""


class Holding(Protocol):
    """What may be held over a connection, and returns with its end."""

    def connection_closed(self, connection: str) -> None:
        """Hear that a connection ended."""


class BreakerHolding(BreakerService, Holding, Protocol):
    """The breakers: what handlers ask, and what the server tells them."""


class CacheHolding(CacheService, Holding, Protocol):
    """The cache: what handlers ask, and what the server tells it."""


class Parts(Struct, frozen=True, kw_only=True):
    """What the control plane serves."""

    monitor: Monitor
    leases: LeaseService
    health: Doctor
    events: Events
    #: What is monitored besides the control plane itself.
    metrics: tuple[MetricSource, ...] = ()
    breakers: BreakerHolding
    caches: CacheHolding
    limits: RateLimits
    limit_book: LimitBook


def build_server(
    parts: Parts,
    *,
    facts: DaemonFacts,
    access: AccessPolicy,
    reload: Reloader,
    log_level: LogLevel,
    configuration: Configuration,
    limits: Limits | None = None,
    drain_s: float = 5.0,
    clock: Callable[[], int] = time.monotonic_ns,
    recorder: FlightRecorder | None = None,
    audit: AuditTrail | None = None,
    logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
) -> RpcServer:
    """Return a server that is ready to be started on a listener.

    Call it on the event loop. `limits.max_batch`, the subscriptions' and the sessions' bounds are
    taken once; the others may be changed with `RpcServer.set_limits`. Without a `recorder`, records
    are kept in memory.
    """
    limits = limits or Limits()
    recorder = recorder or FlightRecorder(Ring.in_memory(clock=clock), clock=clock)
    traffic = Traffic()
    sessions = Sessions(clock=clock)
    subscriptions = Subscriptions(
        parts.events,
        max_per_connection=limits.subscriptions_per_connection,
        max_per_uid=limits.subscriptions_per_uid,
        max_queued=limits.events_per_subscription,
    )
    commands = (
        SystemCommands(
            facts=facts,
            snapshot=parts.monitor.snapshot,
            config_files=configuration.files,
            log_level=log_level,
            reload=reload,
            traffic=traffic,
            clock=clock,
        ),
        ConfigCommands(configuration),
        HealthCommands(parts.health),
        GpuCommands(
            monitor=parts.monitor,
            usage=parts.leases.usage,
            describer=ProcessDescriber(),
            clock=clock,
        ),
        LeaseCommands(leases=parts.leases, snapshot=parts.monitor.snapshot),
        QuotaCommands(parts.leases),
        LimitCommands(parts.limits, parts.limit_book),
        EventCommands(subscriptions),
        SessionCommands(sessions),
        MetricsCommands((*parts.metrics, TrafficMetrics(traffic, sessions))),
        TraceCommands(recorder, clock=clock),
        RpcCommands(lambda: openrpc_document(METHODS, version=facts.version)),
        BreakerCommands(parts.breakers),
        CacheCommands(parts.caches),
    )
    dispatcher = CommandDispatcher(
        bind(METHODS, commands),
        access=access,
        sessions=sessions,
        max_batch=limits.max_batch,
        recorder=recorder,
        audit=audit,
        logger=logger,
    )
    return RpcServer(
        dispatcher=dispatcher,
        sessions=sessions,
        subscriptions=subscriptions,
        events=parts.events,
        limits=limits,
        traffic=traffic,
        on_closed=_each_of(parts.leases, parts.breakers, parts.caches, parts.limits),
        drain_s=drain_s,
        clock=clock,
        logger=logger,
    )


def _each_of(*holding: Holding) -> Callable[[str], None]:
    def closed(connection: str) -> None:
        for each in holding:
            each.connection_closed(connection)

    return closed
