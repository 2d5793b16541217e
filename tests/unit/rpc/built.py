"""The control plane as the daemon builds it, over parts that are data."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from superezio.errors import ConflictError
from superezio.wire import ReloadResult, Role
from supereziod.observability.events import EventLog
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.build import Parts, build_server
from supereziod.rpc.commands.system import DaemonFacts, LogLevel
from supereziod.rpc.limits import Limits
from supereziod.rpc.listener import Listener
from supereziod.rpc.peers import Peer
from unit.rpc.fakes import (
    FakeBreakers,
    FakeCaches,
    FakeConfiguration,
    FakeDoctor,
    FakeLeases,
    FakeLimits,
    FakeMonitor,
    gpu_view,
)
from unit.rpc.serving import Client

GPU_A = "GPU-aaaa1111-0000-0000-0000-000000000000"
GPU_B = "GPU-aaaa2222-0000-0000-0000-000000000000"
FACTS = DaemonFacts(
    version="1.2.3",
    started_at="2026-01-01T00:00:00Z",
    started_ns=0,
    gpu_driver="simulated",
    socket="/run/superezio/control.sock",
    runtime_dir="/run/superezio",
    state_dir="/var/lib/superezio",
)


class OneRole(AccessPolicy, frozen=True, kw_only=True):
    """Takes everyone for the same, so that a test by one user can be any of them."""

    role: Role

    def role_of(self, peer: Peer) -> Role:
        del peer
        return self.role


class Daemon:
    """A built server and the parts behind it."""

    def __init__(self, path: Path, *, access: AccessPolicy, limits: Limits | None) -> None:
        self.path = path
        self.monitor = FakeMonitor(gpu_view(0, GPU_A), gpu_view(1, GPU_B))
        self.leases = FakeLeases()
        self.breakers = FakeBreakers()
        self.caches = FakeCaches()
        self.limits = FakeLimits()
        self.events = EventLog()
        self.level = "info"
        self.bad_config = False
        self.clients: list[Client] = []
        self.server = build_server(
            Parts(
                monitor=self.monitor,
                leases=self.leases,
                health=FakeDoctor(),
                events=self.events,
                breakers=self.breakers,
                caches=self.caches,
                limits=self.limits,
                limit_book=self.limits,
            ),
            facts=FACTS,
            access=access,
            reload=self.reload,
            log_level=LogLevel(get=lambda: self.level, set=self.set_level),
            configuration=FakeConfiguration(),
            limits=limits,
        )

    def reload(self) -> ReloadResult:
        if self.bad_config:
            raise ConflictError("superezio.toml line 3: no key `lmits`")
        return ReloadResult(applied=["log.level"], restart_required=[], config_files=["x"])

    def set_level(self, level: str, uid: int) -> None:
        assert uid == os.getuid()
        if level not in ("debug", "info"):
            raise ValueError(f"no level {level!r}")
        self.level = level

    def become(self, role: Role) -> None:
        self.server.set_access(OneRole(own_uid=-1, role=role))

    async def client(self) -> Client:
        client = await Client.connect(self.path)
        self.clients.append(client)
        return client


@asynccontextmanager
async def daemon(
    directory: Path,
    *,
    role: Role = "admin",
    access: AccessPolicy | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Daemon]:
    access = access or OneRole(own_uid=-1, role=role)
    built = Daemon(directory / "control.sock", access=access, limits=limits)
    await built.server.start(Listener.make(built.path))
    try:
        yield built
    finally:
        for client in built.clients:
            await client.aclose()
        await built.server.aclose()
