"""The request path alone: the real control plane, over stand-ins for what it serves.

    python request_server.py SOCKET

It has the daemon's whole table of methods, of which system.ping and the calls of breakers work, and
one method more that does what one decision of a rate limiter takes. Nothing runs on a timer while
it is measured, so that the instructions of two runs differ by their requests alone. Ends with
SIGTERM.
"""

import asyncio
import gc
import signal
import sys
import time
from pathlib import Path
from typing import Final

import uvloop
from msgspec import structs

from superezio.errors import BusyError
from superezio.resilience.rate_limiter import Gcra
from superezio.wire import Params, ReloadResult, Result
from supereziod.gpu.hardware import Snapshot
from supereziod.observability.events import EventLog
from supereziod.resilience.breaker_settings import BreakerSettings
from supereziod.resilience.breakers import Breakers
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.commands.breaker import BreakerCommands
from supereziod.rpc.commands.system import DaemonFacts, LogLevel, SystemCommands
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.limits import Limits, Traffic
from supereziod.rpc.listener import Listener
from supereziod.rpc.method import Method
from supereziod.rpc.methods import METHODS
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.server import RpcServer
from supereziod.rpc.sessions import Sessions
from supereziod.rpc.subscriptions import Subscriptions

LIMITS = Limits(requests_per_second=10**9, requests_burst=10**9)


class DecideParams(Params):
    key: str
    cost: int = 1


class Decision(Result):
    granted: bool
    remaining: int
    retry_after_ms: int | None


#: A `Decision`, as what is granted most often looks.
GRANTED: Final = b'{"granted":true,"remaining":%d,"retry_after_ms":null}'


class Decisions:
    """A rate limiter of many keys, as clients of AI services share one."""

    def __init__(self) -> None:
        self._keys: dict[str, Gcra] = {}

    def decide(self, request: RequestContext, params: DecideParams) -> bytes:
        key = self._keys.get(params.key)
        if key is None:
            key = self._keys[params.key] = Gcra(limit=10**9, period_ns=10**9, burst=10**9)
        now_ns = request.received_ns
        if wait_ns := key.acquire(now_ns, params.cost):
            raise BusyError("limited", retry_after_ms=-(-wait_ns // 1_000_000))
        return GRANTED % (now_ns & 1023)


def methods(traffic: Traffic, breakers: Breakers) -> list[Method]:
    facts = DaemonFacts(
        version="1", started_at="", started_ns=time.monotonic_ns(), gpu_driver="none",
        socket="", runtime_dir="", state_dir="",
    )  # fmt: skip
    system = SystemCommands(
        facts=facts,
        snapshot=_nothing_to_show,
        config_files=list,
        log_level=LogLevel(get=str, set=str),
        reload=_nothing_to_reload,
        traffic=traffic,
    )
    decide = structs.replace(
        METHODS[0],
        name="bench.decide",
        role="user",
        params=DecideParams,
        result=Decision,
        handler=Decisions().decide,
        hot=True,
    )
    ping = structs.replace(METHODS[0], handler=system.ping)
    calls = BreakerCommands(breakers)
    bound = {"breaker.acquire": calls.acquire, "breaker.settle": calls.settle}
    others = [
        structs.replace(each, handler=bound.get(each.name, each.handler)) for each in METHODS[1:]
    ]
    return [ping, *others, decide]


def _nothing_to_show() -> Snapshot:
    raise NotImplementedError


def _nothing_to_reload() -> ReloadResult:
    raise NotImplementedError


async def serve(path: Path) -> None:
    traffic, sessions, events = Traffic(), Sessions(), EventLog()
    breakers = Breakers(BreakerSettings(), events=events, boot_id="bench")
    server = RpcServer(
        dispatcher=CommandDispatcher(
            methods(traffic, breakers), access=AccessPolicy(own_uid=0), sessions=sessions
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


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
