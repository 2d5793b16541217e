"""A whole daemon but its processes: every real part, on a clock that jumps, for one input.

What stands in for the kernel is the host of the soak (its processes are what connects), and for the
probe `gpus.py`. The connections are real socket pairs; nothing sleeps, and no thread is started.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from unittest.mock import patch

import supereziod.leases.handles
import supereziod.rpc.connection
import supereziod.rpc.dispatcher
from fuzz.gpus import launching
from lease_host import Silent
from limit_host import TestDisk
from soak.host import Host as ProcessHost
from soak.processes import Process
from soak.virtual_time import VirtualClock, VirtualLoop
from supereziod import settings
from supereziod.config import Config
from supereziod.config.loader import Loaded, Source
from supereziod.gpu.frames import ProbeSpec, SimulatedSpec
from supereziod.gpu.metrics import GpuMetrics
from supereziod.gpu.monitor import GpuMonitor
from supereziod.gpu.records import GpuRecords
from supereziod.health.manager import HealthManager
from supereziod.health.metrics import HealthMetrics
from supereziod.leases.ledger import Ledger
from supereziod.leases.manager import LeaseManager
from supereziod.leases.metrics import LeaseMetrics
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.store import LeaseStore
from supereziod.observability.event_counts import EventCounts
from supereziod.observability.events import EventLog
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.recorder_metrics import RecorderMetrics
from supereziod.observability.ring import Ring
from supereziod.reloading import Reloader
from supereziod.resilience.breakers import Breakers
from supereziod.resilience.caches import Caches
from supereziod.resilience.limit_service import LimitService
from supereziod.resilience.metrics import BreakerMetrics, CacheMetrics, LimitMetrics
from supereziod.resilience.spend import SpendBook
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.build import Parts, build_server
from supereziod.rpc.commands.system import DaemonFacts, LogLevel
from supereziod.rpc.connection import Connection
from supereziod.rpc.decoding import RequestDecoder, Signature
from supereziod.rpc.peers import Peer, PeerSocket
from supereziod.rpc.server import RpcServer
from supereziod.rpc.vocabulary import EVENT_TYPES
from supereziod.storage import Database, Documents

#: Small, so that an input of some kilobytes meets all of them, and no wait is long.
CONFIG: Final = """
[limits]
frame_size = 16384
max_batch = 20
connections_per_uid = 3
in_flight_per_connection = 6
in_flight_per_uid = 8
subscriptions_per_connection = 3
events_per_subscription = 16
requests_per_second = 200
requests_burst = 200
[leases]
wait_maximum = "4s"
queue = 8
queue_per_uid = 5
maximum = 20
maximum_per_uid = 10
[leases.quota.user.1001]
vram = "9GiB"
[cache]
size = "12KiB"
value_size = "2KiB"
namespace_size = "6KiB"
size_per_uid = "8KiB"
guaranteed_per_uid = "1KiB"
namespaces_per_uid = 4
fills_per_connection = 3
waiters_per_uid = 5
wait_maximum = "4s"
lead_maximum = "4s"
[cache.shared.common]
everyone = true
[breaker.shared.service]
everyone = true
[limit]
names_per_uid = 6
reservations_per_connection = 8
wait_maximum = "4s"
[limit.shared.openai]
everyone = true
[limit.shared.openai.host]
requests = "20/1m"
tokens = "90000/1m"
concurrency = 3
money_per_month = "200.00"
"""
UIDS: Final = {"guest": 1003, "user": 1000, "other": 1001, "admin": 0}
_ACCESS: Final = AccessPolicy(own_uid=0, user_uids=frozenset({1000, 1001}))
_LIMITS_SCHEMA: Final = f"{Documents.SCHEMA}; {SpendBook.SCHEMA}"
_BOOT: Final = "boot"
_FACTS: Final = DaemonFacts(
    version="1.2.3",
    started_at="2026-01-01T00:00:00Z",
    started_ns=0,
    gpu_driver="simulated",
    socket="/run/superezio/control.sock",
    runtime_dir="/run/superezio",
    state_dir="/var/lib/superezio",
)


T = TypeVar("T")


class Loop(VirtualLoop):
    """What would be done in a thread is done at once."""

    def run_in_executor(  # type: ignore[override] # what it is called with, and no more
        self, executor: None, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        assert executor is None
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the edge of what a thread would do
            done.set_exception(error)
        return done


class Wire:
    """One connection, seen from outside: what was sent, and what came."""

    def __init__(self, process: Process, ours: socket.socket) -> None:
        self.process = process
        self.sent: list[bytes] = []
        self.received = b""
        #: It has closed without waiting for answers.
        self.left = False
        #: Nothing more is sent.
        self.ended = False
        #: Nothing more comes.
        self.is_over = False
        self._socket = ours

    def send(self, data: bytes) -> None:
        """Hand over as much as the kernel takes; one that was refused still has a line to read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.read()
            self.is_over = True

    def read(self) -> None:
        """Take what has come."""
        while not self.is_over:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.received += data
            self.is_over = not data

    def end(self) -> None:
        """Send nothing more."""
        self.ended = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.is_over = True

    def close(self) -> None:
        """Read nothing more either."""
        self.is_over = self.ended = True
        self._socket.close()


class Host:
    """A daemon, from its start to its end, and who connects to it."""

    def __init__(self, directory: Path, clock: VirtualClock, loop: VirtualLoop) -> None:
        self.clock = clock
        self.loop = loop
        #: What went wrong without anybody being told.
        self.faults: list[str] = []
        self.processes = ProcessHost(seed=1, clock=clock, later=loop.call_later)
        self.config = _loaded().config
        self._peers: dict[int, Process] = {}
        self._pidfds: dict[int, int] = {}
        self._build(directory)

    async def start(self) -> None:
        """Start as the daemon does, but for the listener."""
        for part in (self.monitor, self.leases, self.limits):
            await part.start()
        await asyncio.sleep(0.1)
        self.leases.ready()

    async def aclose(self) -> None:
        """End as the daemon does."""
        await self.server.aclose()
        self.caches.close()
        self.breakers.close()
        await self.limits.aclose()
        await self.leases.aclose()
        await self.monitor.aclose()
        self.recorder.close()
        self.database.close()

    async def connect(self, user: str) -> Wire:
        """Return a new connection of a new process."""
        process = self.processes.spawn(UIDS[user])
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)  # noqa: FBT003 - positional in socket
        self._peers[theirs.fileno()] = process
        await self.loop.connect_accepted_socket(lambda: Connection(self.server), sock=theirs)
        return Wire(process, ours)

    def end(self, process: Process) -> None:
        """Let a process end."""
        self.processes.end(process, "fuzz")

    @contextmanager
    def as_the_kernel_has_it(self) -> Iterator[None]:
        """Have its processes be those that the daemon sees."""
        with ExitStack() as stack:
            connection, handles = supereziod.rpc.connection, supereziod.leases.handles
            for place, name, stand_in in (
                (connection, "read_peer", self._peer),
                (connection, "open_peer_pidfd", self._pidfd),
                (os, "pidfd_open", self.processes.pidfd_open),
                (handles, "pid_of", self._pidfds.get),
            ):
                stack.enter_context(patch.object(place, name, stand_in))
            yield

    def note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note what the loop says of an exception that nobody caught."""
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.faults.append(f"{context.get('message')}\n{text}")

    def _peer(self, sock: PeerSocket) -> Peer:
        process = self._peers[sock.fileno()]
        gid = 100 + process.uid
        return Peer(uid=process.uid, gid=gid, pid=process.pid, groups=frozenset({gid}))

    def _pidfd(self, sock: PeerSocket) -> int | None:
        process = self._peers[sock.fileno()]
        if process.ended:
            return None
        pidfd = os.dup(process.fd)
        self._pidfds[pidfd] = process.pid
        return pidfd

    def _build(self, directory: Path) -> None:
        config, clock = self.config, self.clock
        log = _Faults(self.faults)
        self.events = events = EventLog(logger=log, now=clock.wall)
        self.database = Database.open(directory / "state.db", schema=_LIMITS_SCHEMA)
        simulated = SimulatedSpec(directory=str(directory / "simulated"), epoch_ns=clock.now_ns)
        self.monitor = GpuMonitor(
            spec=ProbeSpec(driver="simulated", simulated=simulated),
            records=GpuRecords(Documents(self.database), boot_id=_BOOT, logger=log),
            events=events,
            leases_on=lambda uuid: self.leases.leases_on(uuid),  # noqa: PLW0108 - made below
            clock=clock,
            launch=launching(clock),
            logger=log,
        )
        self.ledger = Ledger(reserve_bytes=config.gpu.reserve_bytes, clock=clock)
        self.leases = LeaseManager(
            monitor=self.monitor,
            ledger=self.ledger,
            queue=LeaseQueue(capacity=config.leases.queue, per_uid=config.leases.queue_per_uid),
            store=LeaseStore.open(directory / "leases.db", boot_id=_BOOT),
            events=events,
            processes=self.processes,  # type: ignore[arg-type] # it answers as one does
            times=settings.lease_times(config.leases, drain_s=30.0),
            max_leases=config.leases.max_leases,
            max_leases_per_uid=config.leases.max_leases_per_uid,
            quotas=settings.quota_rules(config.leases.quota),
            clock=clock,
        )
        self.breakers = Breakers(
            settings.breaker_settings(config.breaker), events=events, boot_id=_BOOT, clock=clock
        )
        self.caches = Caches(
            rules=settings.cache_rules(config.cache),
            events=events,
            shared=settings.shared_namespaces(config.cache),
            clock=clock,
        )
        self.limits = LimitService(
            self.database,
            shared=settings.limit_rules(config.limit),
            audiences=settings.audiences(config.limit.shared),
            bounds=settings.limit_bounds(config.limit),
            currency="USD",
            events=events,
            boot_id=_BOOT,
            disk=TestDisk(),
            clock=clock,
            wall=lambda: clock.wall().timestamp(),
        )
        self.recorder = FlightRecorder(Ring.in_memory(clock=clock), clock=clock)
        (directory / "superezio.toml").write_text(CONFIG)
        self._reloader = Reloader(
            source=Source(file=directory / "superezio.toml"),
            loaded=_loaded(),
            apply=self._apply,
            events=events,
            now=clock.wall,
            load=Source.load,
        )
        self.level = "info"
        with patch.object(supereziod.rpc.dispatcher, "RequestDecoder", _decoder):
            self.server = self._server()

    def _server(self) -> RpcServer:
        events, clock = self.events, self.clock
        health = HealthManager(checks=(), events=events, clock=clock)
        return build_server(
            Parts(
                monitor=self.monitor,
                leases=self.leases,
                health=health,
                events=events,
                metrics=(
                    GpuMetrics(self.monitor.snapshot, clock=clock),
                    LeaseMetrics(self.leases, snapshot=self.monitor.snapshot),
                    HealthMetrics(health.evaluate, loop_lag_s=lambda: 0.0),
                    EventCounts(events, types=EVENT_TYPES),
                    BreakerMetrics(self.breakers),
                    LimitMetrics(self.limits.administration),
                    CacheMetrics(self.caches),
                    RecorderMetrics(self.recorder),
                ),
                breakers=self.breakers,
                limits=self.limits.requests,
                limit_book=self.limits.administration,
                caches=self.caches,
            ),
            facts=_FACTS,
            access=_ACCESS,
            reload=self._reloader.reload,
            log_level=LogLevel(get=lambda: self.level, set=self._set_level),
            configuration=self._reloader,
            limits=settings.rpc_limits(self.config),
            clock=clock,
            recorder=self.recorder,
            logger=_Faults(self.faults),
        )

    async def _apply(self, config: Config) -> None:
        self.caches.set_shared(settings.shared_namespaces(config.cache))
        self.server.set_access(_ACCESS)
        self.leases.set_quotas(settings.quota_rules(config.leases.quota))
        self.breakers.set_settings(settings.breaker_settings(config.breaker))
        self.limits.configure(
            settings.limit_rules(config.limit),
            settings.audiences(config.limit.shared),
            settings.limit_bounds(config.limit),
        )
        self.server.set_limits(settings.rpc_limits(config))

    def _set_level(self, level: str, _uid: int) -> None:
        if level not in ("debug", "info", "warning", "error", "critical"):
            raise ValueError(f"no level {level!r}")
        self.level = level


class _Faults(Silent):
    """A logger that keeps what is an error of the daemon's own."""

    def __init__(self, faults: list[str]) -> None:
        self._faults = faults

    def error(self, event: str, *, message: str = "", exc_info: Any = None, **_: Any) -> None:
        text = "".join(traceback.format_exception(*exc_info)) if exc_info else ""
        self._faults.append(f"{event}: {message}\n{text}")

    exception = error


_decoders: dict[int, RequestDecoder] = {}


def _decoder(signatures: Iterable[Signature], *, max_batch: int) -> RequestDecoder:
    """Return one decoder for all inputs: it remembers nothing, and is half the cost of a start."""
    if max_batch not in _decoders:
        _decoders[max_batch] = RequestDecoder(signatures, max_batch=max_batch)
    return _decoders[max_batch]


@cache
def _loaded() -> Loaded:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "superezio.toml"
        file.write_text(CONFIG)
        return Source(file=file).load()
