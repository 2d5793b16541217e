"""The composition root: builds every part, wires it, and closes it. It decides nothing itself."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
import uvloop

from superezio import __version__
from superezio.aio import AsyncClient
from superezio.wire import ReloadResult
from supereziod import settings
from supereziod.config import Config
from supereziod.core_dumps import leave_no_core
from supereziod.gpu.metrics import GpuMetrics
from supereziod.gpu.monitor import GpuMonitor
from supereziod.gpu.notes import gpu_notes
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.suspend import SuspendWatch
from supereziod.health.checks import Observed, declared_checks
from supereziod.health.lag import LoopLag
from supereziod.health.losses import RecentLosses
from supereziod.health.manager import HealthManager
from supereziod.health.metrics import HealthMetrics
from supereziod.health.notifier import Notifier, WatchdogRequest
from supereziod.health.record import WatchdogRecord
from supereziod.health.run_record import RunRecord
from supereziod.health.self_check import SelfCheck
from supereziod.health.state_files import StateFiles
from supereziod.health.watchdog import Watchdog
from supereziod.instance import SecondInstanceError, only_instance, refuse_beside_system_daemon
from supereziod.leases.ledger import Ledger
from supereziod.leases.manager import LeaseManager
from supereziod.leases.metrics import LeaseMetrics
from supereziod.leases.processes import read_boot_id
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.store import LeaseStore
from supereziod.lifecycle import first_snapshot, hangup_signals, on_hangup, stop_signals
from supereziod.observability.daemon_metrics import DaemonMetrics
from supereziod.observability.event_counts import EventCounts
from supereziod.observability.events import EventLog
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.logging_setup import Logging
from supereziod.observability.metrics import MetricSource
from supereziod.observability.recorder_metrics import RecorderMetrics
from supereziod.observability.ring import Ring
from supereziod.observability.running_level import RunningLevel
from supereziod.open_files import allow_many_files, shortage_of_files
from supereziod.options import Options
from supereziod.reloading import Reloader
from supereziod.resilience.breakers import Breakers
from supereziod.resilience.caches import Caches
from supereziod.resilience.keeping import Keeper
from supereziod.resilience.limit_service import DOCUMENT as LIMIT_DOCUMENT
from supereziod.resilience.limit_service import LimitService
from supereziod.resilience.metrics import BreakerMetrics, CacheMetrics, LimitMetrics
from supereziod.resilience.sealing import Seal
from supereziod.resilience.spend import SpendBook
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.build import Parts as ServedParts
from supereziod.rpc.build import build_server
from supereziod.rpc.commands.system import DaemonFacts, LogLevel
from supereziod.rpc.listener import Listener, ListenError
from supereziod.rpc.server import RpcServer
from supereziod.rpc.vocabulary import EVENT_TYPES
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents

#: READY=1 goes out after this at the latest; GPUs that have not answered by then are UNKNOWN.
_READY_PATIENCE_S = 2.0
_SCHEMA = f"{Documents.SCHEMA}; {SpendBook.SCHEMA}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Core:
    """What watches and leases. Loop-owned."""

    events: EventLog
    database: Database
    monitor: GpuMonitor
    ledger: Ledger
    leases: LeaseManager
    limits: LimitService
    recorder: FlightRecorder
    breakers: Breakers
    keeper: Keeper
    run_keeper: Keeper
    caches: Caches
    watchdog_record: WatchdogRecord
    run_record: RunRecord
    state_files: StateFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """All that is started, and closed, by `_serve`."""

    core: _Core
    health: HealthManager
    watchdog: Watchdog
    server: RpcServer
    reload_by_signal: Callable[[], Awaitable[ReloadResult]]


def run(options: Options) -> int:
    """Run the daemon until SIGTERM. Returns its exit code."""
    leave_no_core()
    # It alone owns SIGABRT: the watchdog's abort puts the stacks of all threads into the journal.
    faulthandler.enable()
    chosen = options.loaded.config.logging
    allow_many_files()
    with Logging(log_format=chosen.format, level=chosen.level) as logging:
        try:
            listener = Listener.inherit(os.environ) or Listener.make(options.socket)
        except ListenError as error:
            sys.stderr.write(f"supereziod: {error}\n")
            return 1
        settings.make_directories(options.runtime_dir, options.state_dir)
        try:
            if options.loaded.config.gpu.driver == "nvml":
                refuse_beside_system_daemon(options.socket)
            with only_instance(options.runtime_dir, options.state_dir):
                uvloop.run(_serve(options, listener, logging))
            structlog.get_logger().info("daemon.stopped", message="supereziod has stopped")
        except SecondInstanceError as error:
            listener.close()
            sys.stderr.write(f"supereziod: {error}\n")
            return 1
    return 0


async def _serve(options: Options, listener: Listener, logging: Logging) -> None:
    async with AsyncExitStack() as stack:
        stopping = stack.enter_context(stop_signals())
        hangup = stack.enter_context(hangup_signals())
        core = _build_core(options, stack)
        # The listener's path, not the option's: systemd may have handed over another socket.
        client = await stack.enter_async_context(AsyncClient(str(listener.path)))
        self_check = SelfCheck(client.system_ping, out_of_reach=listener.out_of_reach)
        parts = _wire(options, core, logging, socket=listener.path, self_check=self_check)
        await _start(parts, listener, stack)
        core.events.emit("daemon.started", f"supereziod {__version__} is ready", pid=os.getpid())
        parts.watchdog.ready()
        hangups = asyncio.create_task(on_hangup(hangup, parts.reload_by_signal), name="hangup")
        stack.push_async_callback(_cancel, hangups)
        # What is there now lives as long as the daemon: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await stopping.wait()
        parts.watchdog.stopping()
        # What was taken away a moment ago would be gone with this process.
        core.state_files.look()
        core.run_record.stop()
        core.events.emit("daemon.stopping", "supereziod was told to stop; leases stand")
        core.leases.stop_granting()


async def _start(parts: _Parts, listener: Listener, stack: AsyncExitStack) -> None:
    """Start in the order of the arrows; the stack closes in the opposite one."""
    core = parts.core
    core.run_record.tell(core.events)
    watching = (core.monitor, core.leases, parts.health)
    for part in (*watching, core.limits, core.run_keeper, core.keeper, core.state_files):
        stack.push_async_callback(part.aclose)
        await part.start()
    stack.push_async_callback(parts.server.aclose)
    await parts.server.start(listener)
    await first_snapshot(core.monitor, patience_s=_READY_PATIENCE_S)
    core.leases.ready()
    stack.push_async_callback(parts.watchdog.aclose)
    await parts.watchdog.start()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _build_core(options: Options, stack: AsyncExitStack) -> _Core:
    config = options.loaded.config
    events = EventLog()
    boot_id = read_boot_id()
    database = Database.open(options.state_dir / "state.db", schema=_SCHEMA)
    stack.callback(database.close)
    stopgap = Stopgap(options.runtime_dir)
    kept = Documents(database, stopgap=stopgap)
    suspend = SuspendWatch(events=events)
    monitor = GpuMonitor(
        spec=settings.probe_spec(config.gpu, runtime_dir=options.runtime_dir),
        records=GpuRecords(kept),
        events=events,
        rules=settings.monitor_rules(config.gpu),
        patience=config.gpu.probe.patience(),
        leases_on=lambda uuid: leases.leases_on(uuid),  # noqa: PLW0108 - bound below
        resumed_ns=suspend.resumed_ns,
    )
    ledger = Ledger(
        reserve_bytes=config.gpu.reserve_bytes,
        reserve_by_gpu=config.gpu.reserve_by_gpu,
        return_timeout_s=config.leases.return_timeout_s,
        growing_timeout_s=config.leases.growing_timeout_s,
    )
    store = LeaseStore.open(options.runtime_dir / "leases.db", boot_id=boot_id)
    leases = LeaseManager(
        monitor=monitor,
        ledger=ledger,
        queue=LeaseQueue(
            capacity=config.leases.queue,
            per_uid=config.leases.queue_per_uid,
            max_passed=config.leases.max_passed,
        ),
        store=store,
        events=events,
        times=settings.lease_times(config.leases, drain_s=config.watchdog.grace_s),
        policies=settings.lease_policies(config.leases),
        max_leases=config.leases.max_leases,
        max_leases_per_uid=config.leases.max_leases_per_uid,
        peer_pidfds=config.leases.peer_pidfds,
        resumed_ns=suspend.resumed_ns,
        quotas=settings.quota_rules(config.leases.quota),
    )
    breakers = Breakers(settings.breaker_settings(config.breaker), events=events, boot_id=boot_id)
    stack.callback(breakers.close)
    seal = Seal(Documents(database), options.runtime_dir / "sealed")
    limits = LimitService(
        database,
        shared=settings.limit_rules(config.limit),
        audiences=settings.audiences(config.limit.shared),
        bounds=settings.limit_bounds(config.limit),
        currency=config.limit.currency,
        events=events,
        boot_id=boot_id,
        ended_in_order=seal.break_(),
        stopgap=stopgap,
    )
    watchdog_record = WatchdogRecord(kept)
    run_record = RunRecord(
        boot_id=boot_id, pid=os.getpid(), forget_after_s=config.watchdog.forget_after_s
    )
    # Apart from the rest: that it ended a run can say where the state directory takes nothing, too.
    run_keeper = Keeper(kept, {"run": run_record})
    keeper = Keeper(Documents(database), {"breakers": breakers, LIMIT_DOCUMENT: limits}, seal=seal)
    run_record.load(
        run_keeper.found("run"), explained=watchdog_record.ended_last_run, fault=database.fault
    )
    breakers.load(keeper.found("breakers"))
    breakers.when_urgent(partial(keeper.soon, "breakers"))
    caches = Caches(
        rules=settings.cache_rules(config.cache),
        events=events,
        shared=settings.shared_namespaces(config.cache),
    )
    stack.callback(caches.close)
    recorder = FlightRecorder(
        Ring.open(
            options.state_dir / "flight.ring",
            size=config.recorder.size_bytes,
            boot_id=boot_id,
        ),
        samples=gpu_notes(monitor.snapshot, time.monotonic_ns),
    )
    stack.callback(recorder.close)
    return _Core(
        events=events,
        database=database,
        monitor=monitor,
        ledger=ledger,
        leases=leases,
        breakers=breakers,
        keeper=keeper,
        run_keeper=run_keeper,
        caches=caches,
        limits=limits,
        recorder=recorder,
        watchdog_record=watchdog_record,
        run_record=run_record,
        state_files=StateFiles((database, store, recorder), events=events),
    )


def _wire(
    options: Options, core: _Core, logging: Logging, *, socket: Path, self_check: SelfCheck
) -> _Parts:
    config = options.loaded.config
    record = core.watchdog_record
    lag = LoopLag()
    level = RunningLevel(logging)
    reloader = Reloader(
        source=options.source,
        loaded=options.loaded,
        apply=lambda new: _apply(new, core, server=server, level=level),
        events=core.events,
        set_since=level.set_since,
    )
    observed = Observed(
        snapshot=core.monitor.snapshot,
        probe_faults=core.monitor.probe_faults,
        overcommitted=lambda: {each.uuid: each.message for each in core.ledger.overcommitted()},
        unreturned=core.leases.unreturned,
        state_faults=lambda: _faults_of(core.leases),
        unkept=lambda: _faults_of(core.database),
        log_waits=logging.waiting,
        log_drops=RecentLosses(lambda: logging.dropped, noun="log lines"),
        loop_lag_s=lag.worst_s,
        self_check=lambda: self_check.fault,
        connections=lambda: "the table of connections is full" if server.is_full else None,
        open_files=lambda: shortage_of_files(
            connections=server.limits.connections, leases=config.leases.max_leases
        ),
        configuration=lambda: reloader.fault,
        last_watchdog=lambda: record.last.of_earlier_run if record.last is not None else None,
        sudden_end=core.run_record.sudden_end,
        recorder=lambda: core.recorder.faults,
    )
    health = HealthManager(
        checks=declared_checks(
            observed, grace_s=config.watchdog.grace_s, lag_limit_s=config.health.lag_limit_s
        ),
        events=core.events,
        interval_s=config.health.interval_s,
        lag=lag,
    )
    core.monitor.on_change(health.touch)
    watchdog = _build_watchdog(config, core, health, self_check, record)

    async def reload() -> ReloadResult:
        watchdog.reloading()
        try:
            return await reloader.reload()
        finally:
            watchdog.ready()

    audit = AuditTrail(logging.notice)
    server = build_server(
        ServedParts(
            monitor=core.monitor,
            leases=core.leases,
            health=health,
            events=core.events,
            metrics=_metrics(core, health, logging),
            breakers=core.breakers,
            limits=core.limits.requests,
            limit_book=core.limits.administration,
            caches=core.caches,
        ),
        facts=_facts(options, socket),
        access=settings.access_policy(config),
        reload=reload,
        log_level=LogLevel(get=level.get, set=level.set),
        configuration=reloader,
        limits=settings.rpc_limits(config),
        recorder=core.recorder,
        audit=audit,
    )
    return _Parts(
        core=core,
        health=health,
        watchdog=watchdog,
        server=server,
        reload_by_signal=lambda: audit.by_signal("SIGHUP", "system.reload", reload),
    )


def _build_watchdog(
    config: Config,
    core: _Core,
    health: HealthManager,
    self_check: SelfCheck,
    record: WatchdogRecord,
) -> Watchdog:
    asked = WatchdogRequest.from_environment(os.environ, pid=os.getpid())
    return Watchdog(
        notifier=Notifier(environ=os.environ),
        health=health,
        record=record,
        events=core.events,
        snapshot=core.monitor.snapshot,
        timeout_s=asked.timeout_s if asked is not None else None,
        boot_id=read_boot_id(),
        on_overheat=config.watchdog.on_overheat,
        leases=lambda: core.leases.counts,
        forget_after_s=config.watchdog.forget_after_s,
        self_check=self_check,
    )


def _metrics(core: _Core, health: HealthManager, logging: Logging) -> tuple[MetricSource, ...]:
    return (
        DaemonMetrics(
            version=__version__,
            started_s=time.time(),
            log_lines_dropped=lambda: logging.dropped,
        ),
        GpuMetrics(core.monitor.snapshot, clock=time.monotonic_ns),
        LeaseMetrics(core.leases, snapshot=core.monitor.snapshot),
        HealthMetrics(health.evaluate, loop_lag_s=health.lag.worst_s),
        EventCounts(core.events, types=EVENT_TYPES),
        BreakerMetrics(core.breakers),
        LimitMetrics(core.limits.administration),
        CacheMetrics(core.caches),
        RecorderMetrics(core.recorder),
    )


def _facts(options: Options, socket: Path) -> DaemonFacts:
    return DaemonFacts(
        version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        started_ns=time.monotonic_ns(),
        gpu_driver=options.loaded.config.gpu.driver,
        socket=str(socket),
        runtime_dir=str(options.runtime_dir),
        state_dir=str(options.state_dir),
    )


def _faults_of(kept: Database | LeaseManager) -> list[str]:
    faults = [] if kept.fault is None else [kept.fault]
    if kept.moved_aside is not None:
        faults.append(f"a corrupt file was found and moved to {kept.moved_aside}")
    return faults


async def _apply(config: Config, core: _Core, *, server: RpcServer, level: RunningLevel) -> None:
    quotas = await asyncio.to_thread(settings.quota_rules, config.leases.quota)
    breakers = await asyncio.to_thread(settings.breaker_settings, config.breaker)
    audiences = await asyncio.to_thread(settings.audiences, config.limit.shared)
    namespaces = await asyncio.to_thread(settings.shared_namespaces, config.cache)
    access = await asyncio.to_thread(settings.access_policy, config)
    # First, as it may refuse: then nothing has changed.
    core.caches.set_shared(namespaces)
    server.set_access(access)
    core.leases.set_quotas(quotas)
    core.breakers.set_settings(breakers)
    core.limits.configure(
        settings.limit_rules(config.limit), audiences, settings.limit_bounds(config.limit)
    )
    server.set_limits(settings.rpc_limits(config))
    level.configure(config.logging.level)
