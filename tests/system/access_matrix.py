"""What the matrix of access has to be, written down from the manual and not from the code.

A method whose role or visibility changes fails against it, and so does one that has no row.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

Role = Literal["observer", "user", "admin"]
Params = dict[str, Any]
ROLES: Final = ("observer", "user", "admin")

#: The least role that may call a method, and what it shows of others.
MATRIX: Final = {
    "system.ping": ("observer", "public"),
    "system.info": ("observer", "public"),
    "system.reload": ("admin", "public"),
    "system.log_level": ("admin", "public"),
    "config.get": ("admin", "public"),
    "config.diff": ("admin", "public"),
    "health.get": ("observer", "public"),
    "gpu.list": ("observer", "public"),
    "gpu.get": ("observer", "public"),
    "gpu.history": ("observer", "public"),
    "gpu.processes": ("observer", "masked"),
    "gpu.cordon": ("admin", "public"),
    "gpu.uncordon": ("admin", "public"),
    "gpu.detach": ("admin", "public"),
    "gpu.attach": ("admin", "public"),
    "lease.acquire": ("user", "own"),
    "lease.attach": ("user", "own"),
    "lease.resume": ("user", "own"),
    "lease.renew": ("user", "own"),
    "lease.ready": ("user", "own"),
    "lease.revoke": ("user", "own"),
    "lease.acknowledge": ("user", "own"),
    "lease.release": ("user", "own"),
    "lease.cancel": ("user", "own"),
    "lease.list": ("observer", "masked"),
    "lease.get": ("observer", "masked"),
    "lease.quota": ("observer", "own"),
    "placement.explain": ("user", "public"),
    "limit.acquire": ("user", "own"),
    "limit.settle": ("user", "own"),
    "limit.peek": ("user", "own"),
    "limit.list": ("user", "own"),
    "limit.reset": ("user", "own"),
    "events.subscribe": ("observer", "own"),
    "events.unsubscribe": ("observer", "own"),
    "session.open": ("observer", "own"),
    "session.close": ("observer", "own"),
    "session.list": ("observer", "own"),
    "metrics.get": ("observer", "public"),
    "cache.get": ("user", "own"),
    "cache.set": ("user", "own"),
    "cache.fail": ("user", "own"),
    "cache.delete": ("user", "own"),
    "cache.clear": ("user", "own"),
    "cache.stats": ("user", "own"),
    "trace.get": ("observer", "own"),
    "trace.find": ("observer", "own"),
    "trace.annotate": ("observer", "own"),
    "rpc.discover": ("observer", "public"),
    "rpc.cancel": ("observer", "own"),
    "breaker.acquire": ("user", "own"),
    "breaker.settle": ("user", "own"),
    "breaker.get": ("user", "own"),
    "breaker.list": ("user", "own"),
    "breaker.force_open": ("user", "own"),
    "breaker.disable": ("user", "own"),
    "breaker.reset": ("user", "own"),
}


def may_call(role: Role, method: str) -> bool:
    """Whether the matrix lets `role` call it."""
    return ROLES.index(role) >= ROLES.index(MATRIX[method][0])


class Step(Struct, frozen=True):
    """One call, and how it ends for those who may make it.

    A text `$NAME` stands for what an earlier step has left under that name, which is the member
    `NAME` of its result where the step says `keeps`.
    """

    method: str
    params: Params = {}
    keeps: tuple[tuple[str, str], ...] = ()
    ends: str = "ok"


_GIB: Final = 1 << 30
_RATES: Final = {"requests": {"limit": 100}}
_ENTRY: Final = {"namespace": "mine", "key": "k"}

#: Calls that every one of the matrix's roles makes, on things of its own, each method at least
#: once. `$pid` is the caller's; `$standing` is a lease of root's.
STEPS: Final = (
    Step("system.ping"),
    Step("system.info"),
    Step("health.get"),
    Step("gpu.list"),
    Step("gpu.get", {"gpu": "0"}),
    Step("gpu.history", {"gpu": "0"}),
    Step("gpu.processes"),
    Step("metrics.get"),
    Step("rpc.discover"),
    Step("rpc.cancel", {"id": 99}),
    Step("session.open", {"name": "mine"}, keeps=(("session", "session_id"),)),
    Step("session.list"),
    Step("session.close", {"session_id": "$session"}),
    Step("events.subscribe", {"types": ["none."]}, keeps=(("subscription", "subscription"),)),
    Step("events.unsubscribe", {"subscription": "$subscription"}),
    Step("trace.annotate", {"correlation_id": "step", "name": "step"}),
    Step("trace.get", {"id": "step"}),
    Step("trace.find"),
    Step("lease.list"),
    Step("lease.get", {"lease": "$standing"}),
    Step("lease.quota"),
    Step("placement.explain", {"vram_bytes": _GIB}),
    Step("lease.acquire", {"vram_bytes": _GIB, "wait_ms": 20_000}, keeps=(("lease", "id"),)),
    Step("lease.attach", {"lease": "$lease", "pid": "$pid"}),
    Step("lease.ready", {"lease": "$lease"}),
    Step("lease.revoke", {"lease": "$lease", "deadline_s": 600.0}),
    Step("lease.acknowledge", {"lease": "$lease", "message": "soon"}),
    Step("lease.release", {"lease": "$lease"}),
    Step("lease.acquire", {"vram_bytes": _GIB, "mode": "ttl"}, keeps=(("timed", "id"),)),
    Step("lease.renew", {"lease": "$timed"}),
    Step("lease.release", {"lease": "$timed"}),
    Step("lease.acquire", {"vram_bytes": _GIB, "mode": "connection"}, keeps=(("bound", "id"),)),
    Step("lease.resume", {"lease": "$bound"}),
    Step("lease.release", {"lease": "$bound"}),
    Step("lease.get", {"lease": "$lease"}, ends="stale_lease"),
    Step("lease.cancel", {"waiter": "none"}),
    Step(
        "limit.acquire",
        {"name": "mine", "concurrency": 0, "rates": _RATES},
        keeps=(("reservation", "reservation"),),
    ),
    Step("limit.settle", {"reservation": "$reservation"}),
    Step("limit.peek", {"name": "mine"}),
    Step("limit.list"),
    Step("limit.reset", {"name": "mine"}),
    Step("cache.get", {**_ENTRY, "fill": True}, keeps=(("token", "token"),)),
    Step("cache.fail", {**_ENTRY, "token": "$token"}),
    Step("cache.set", {**_ENTRY, "text": "v"}),
    Step("cache.get", _ENTRY),
    Step("cache.delete", _ENTRY),
    Step("cache.clear", {"namespace": "mine"}),
    Step("cache.stats"),
    Step("breaker.acquire", {"name": "mine"}, keeps=(("permit", "permit"),)),
    Step("breaker.settle", {"name": "mine", "permit": "$permit", "outcome": "success"}),
    Step("breaker.get", {"name": "mine"}),
    Step("breaker.list"),
    Step("breaker.force_open", {"name": "mine"}),
    Step("breaker.acquire", {"name": "mine"}, ends="breaker_open"),
    Step("breaker.disable", {"name": "mine"}),
    Step("breaker.reset", {"name": "mine"}),
    Step("system.log_level"),
    Step("config.get"),
    Step("config.diff"),
    Step("system.reload"),
    Step("gpu.cordon", {"gpu": "1", "reason": "fan"}),
    Step("gpu.uncordon", {"gpu": "1"}),
    Step("gpu.detach"),
    Step("gpu.attach"),
)
