"""The request path alone: the real control plane, over stand-ins for what it serves.

    python request_server.py SOCKET

It has the daemon's whole table of methods, of which system.ping works, limit.acquire of a limit
that is shared and has one scope, and the calls of breakers. Nothing runs on a timer while it is
measured, so that the instructions of two runs differ by their requests alone. Ends with SIGTERM.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop
from msgspec import structs

from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import ReloadResult
from supereziod.gpu.hardware import Snapshot
from supereziod.observability.events import EventLog
from supereziod.resilience.breaker_settings import BreakerSettings
from supereziod.resilience.breakers import Breakers
from supereziod.resilience.limit_rules import LimitBounds, LimitRules, ScopeRules
from supereziod.resilience.limit_service import LimitService
from supereziod.resilience.sharing import Audience
from supereziod.resilience.spend import SpendBook
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.commands.breaker import BreakerCommands
from supereziod.rpc.commands.limit import LimitCommands
from supereziod.rpc.commands.system import DaemonFacts, LogLevel, SystemCommands
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.limits import Limits, Traffic
from supereziod.rpc.listener import Listener
from supereziod.rpc.method import Method
from supereziod.rpc.methods import METHODS
from supereziod.rpc.server import RpcServer
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.subscriptions import Subscriptions
from supereziod.storage import Database, Documents

LIMITS = Limits(requests_per_second=10**9, requests_burst=10**9)


#: Of so much that no request of the bench is refused.
PLENTY: Final = Rate(limit=10**9, period_ns=10**9, burst=10**9)
RULES: Final = LimitRules(scopes={"host": ScopeRules(limit=Limit(requests=PLENTY))})


def limit_service(events: EventLog, directory: Path) -> LimitService:
    database = Database.open(
        directory / "state.db", schema=f"{Documents.SCHEMA}; {SpendBook.SCHEMA}"
    )
    return LimitService(
        database,
        shared={"openai": RULES},
        audiences={"openai": Audience(everyone=True)},
        bounds=LimitBounds(reservations_per_connection=10**6, reservations_per_uid=10**6),
        currency="USD",
        events=events,
        boot_id="",
    )


def methods(traffic: Traffic, limits: LimitService, breakers: Breakers) -> list[Method]:
    facts = DaemonFacts(
        version="1", started_at="", started_ns=time.monotonic_ns(), gpu_driver="none",
        socket="", runtime_dir="", state_dir="",
    )  # fmt: skip
    system = SystemCommands(
        facts=facts,
        snapshot=_nothing_to_show,
        config_files=list,
        log_level=LogLevel(get=str, set=lambda level, _uid: level),
        reload=_nothing_to_reload,
        traffic=traffic,
    )
    calls = BreakerCommands(breakers)
    limit = LimitCommands(limits.requests, limits.administration)
    real: dict[str, dict[str, Callable[..., object]]] = {
        "system.ping": {"handler": system.ping},
        "breaker.acquire": {"handler": calls.acquire},
        "breaker.settle": {"handler": calls.settle},
        "limit.acquire": {"handler": limit.acquire, "waiting": limit.acquire_later},
    }
    return [structs.replace(each, **real.get(each.name, {})) for each in METHODS]


def _nothing_to_show() -> Snapshot:
    raise NotImplementedError


def _nothing_to_reload() -> ReloadResult:
    raise NotImplementedError


async def serve(path: Path) -> None:
    traffic, sessions, events = Traffic(), Sessions(), EventLog()
    breakers = Breakers(BreakerSettings(), events=events, boot_id="bench")
    server = RpcServer(
        dispatcher=CommandDispatcher(
            methods(traffic, limit_service(events, path.parent), breakers),
            access=AccessPolicy(own_uid=0),
            sessions=sessions,
        ),
        sessions=sessions,
        subscriptions=Subscriptions(events),
        events=events,
        limits=LIMITS,
        traffic=traffic,
        on_closed=lambda _connection: None,
        own_pid=-1,
    )
    await server.start(Listener.make(path))
    gc.collect()
    gc.freeze()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.aclose()
    # The interpreter's own end would look at all that is kept of the requests, for none of them.
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
