"""What users see of each other's, and what comes of touching it: written down from the manual.

All that is personal of the user it is about has the word `MARK` in it.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

MARK: Final = "quokka"
GIB: Final = 1 << 30

#: Members that only the owner and admins see, and what others see in their place.
LEASE_MASKED: Final[dict[str, Any]] = {
    "name": None,
    "holder": [],
    "environment": {},
    "placement": None,
    "correlation_id": None,
    "revocation": None,
    "model": None,
}
LEASE_PUBLIC: Final = {
    "id", "state", "mode", "uid", "policy", "priority", "gpus", "holder_confirmed", "granted_at",
    "age_s", "sizes_itself", "ttl_ms", "expires_in_s", "idle_s", "tensor_split",
}  # fmt: skip
WAITER_MASKED: Final[dict[str, Any]] = {"name": None, "correlation_id": None}
WAITER_PUBLIC: Final = {
    "id", "position", "uid", "vram_bytes", "count", "policy", "priority", "waited_s",
    "remaining_s", "reason", "split", "code", "ahead",
}  # fmt: skip
PROCESS_MASKED: Final[dict[str, Any]] = {
    "user": None,
    "uid": None,
    "command": None,
    "unit": None,
    "container": None,
}
PROCESS_PUBLIC: Final = {"gpu", "pid", "type", "vram_bytes", "lease"}
#: Members that say how long something has been so: no two looks find the same.
MOVES: Final = {"age_s", "waited_s", "remaining_s", "idle_s", "expires_in_s"}


class Look(Struct, frozen=True):
    """A call that shows things, and where in its result the entries are."""

    method: str
    entries: str
    params: dict[str, Any] = {}


#: Of others' nothing at all is among their entries.
OWN: Final = (
    Look("session.list", "sessions"),
    Look("trace.get", "records", {"id": f"{MARK}-lease"}),
    Look("trace.get", "spans", {"id": f"{MARK}-lease"}),
    Look("trace.find", "requests", {"last": 1000, "method": "lease.acquire"}),
    Look("breaker.list", "breakers"),
    Look("limit.list", "limits"),
    Look("cache.stats", "namespaces"),
    Look("events.subscribe", "replay", {"types": ["lease."], "replay": 4096}),
)

#: What shows nothing personal, or shows it masked: none of it may have the mark, for others.
LOOKS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    *((look.method, look.params) for look in OWN),
    ("system.ping", {}),
    ("system.info", {}),
    ("health.get", {}),
    ("gpu.list", {}),
    ("gpu.get", {"gpu": "0"}),
    ("gpu.history", {"gpu": "0"}),
    ("gpu.processes", {}),
    ("metrics.get", {}),
    ("rpc.discover", {}),
    ("lease.list", {}),
    ("lease.get", {"lease": "$lease"}),
    ("lease.quota", {}),
    ("placement.explain", {"vram_bytes": 64 * GIB}),
    ("events.subscribe", {"replay": 4096}),
)


class Touch(Struct, frozen=True):
    """A call on another user's things: how it ends for a user, and what its result says then.

    `$NAME` stands for what the owner has; `says`: a part of the sentence of a refusal.
    """

    method: str
    params: dict[str, Any]
    ends: str = "permission_denied"
    result: dict[str, Any] = {}
    says: str = ""


_LEASE: Final = "it is of uid $uid"
_BREAKER: Final = {"name": f"{MARK}-breaker"}
_THEIRS: Final = {"name": f"{MARK}-breaker", "uid": "$uid"}
_LIMIT: Final = {"name": f"{MARK}-limit"}
_ENTRY: Final = {"namespace": f"{MARK}-cache", "key": f"{MARK}-key"}

TOUCHES: Final = (
    Touch("lease.attach", {"lease": "$lease", "pid": "$pid"}, says=_LEASE),
    Touch("lease.resume", {"lease": "$bound"}, says=_LEASE),
    Touch("lease.renew", {"lease": "$timed"}, says=_LEASE),
    Touch("lease.ready", {"lease": "$lease"}, says=_LEASE),
    Touch("lease.revoke", {"lease": "$timed", "deadline_s": 0.0}, says=_LEASE),
    Touch("lease.acknowledge", {"lease": "$lease", "accept": False}, says=_LEASE),
    Touch("lease.release", {"lease": "$lease"}, says=_LEASE),
    Touch("lease.cancel", {"waiter": "$waiter"}, says=_LEASE),
    # Another's process is held for nobody.
    Touch("lease.acquire", {"vram_bytes": GIB, "holder_pid": "$holder"}),
    Touch("limit.peek", {**_LIMIT, "uid": "$uid"}),
    Touch("limit.reset", {**_LIMIT, "uid": "$uid"}),
    # By the same name everyone has a limit, a breaker and a namespace of one's own.
    Touch("limit.peek", _LIMIT, ends="not_found"),
    Touch("limit.reset", _LIMIT, ends="not_found"),
    Touch("limit.settle", {"reservation": "$reservation"}, "ok", {"settled": False}),
    Touch("breaker.get", _THEIRS),
    Touch("breaker.force_open", _THEIRS),
    Touch("breaker.disable", _THEIRS),
    Touch("breaker.reset", _THEIRS),
    Touch("breaker.get", _BREAKER, ends="not_found"),
    Touch("breaker.reset", _BREAKER, ends="not_found"),
    Touch(
        "breaker.settle",
        {**_BREAKER, "permit": "$permit", "outcome": "failure"},
        "ok",
        {"effect": "unknown"},
    ),
    Touch("cache.get", _ENTRY, "ok", {"status": "miss", "text": None}),
    Touch("cache.delete", _ENTRY, "ok", {"entries": 0}),
    Touch("cache.clear", {"namespace": f"{MARK}-cache"}, "ok", {"entries": 0}),
    Touch("cache.clear", {"namespace": f"{MARK}-cache", "uid": "$uid"}),
    Touch(
        "cache.set",
        {"namespace": f"{MARK}-cache", "key": "led", "text": "forged", "token": "$token"},
        "ok",
        {"accepted": False},
    ),
    Touch(
        "cache.fail",
        {"namespace": f"{MARK}-cache", "key": "led", "token": "$token", "error": "forged"},
        "ok",
        {"accepted": False},
    ),
    Touch("session.open", {"token": "$session_token"}, ends="not_found"),
    Touch("session.close", {"session_id": "$session"}, "ok", {"done": False}),
    Touch("events.unsubscribe", {"subscription": "$subscription"}, "ok", {"done": False}),
    Touch("rpc.cancel", {"id": 1}, "ok", {"done": False}),
)

#: What an admin may do to them, in an order in which all of it is there.
RULED: Final = (
    Touch("limit.peek", {**_LIMIT, "uid": "$uid"}, "ok", {"uid": "$uid"}),
    Touch("limit.reset", {**_LIMIT, "uid": "$uid"}, "ok", {"done": True}),
    Touch("breaker.get", _THEIRS, "ok", {"uid": "$uid"}),
    Touch("breaker.force_open", _THEIRS, "ok", {"state": "forced_open"}),
    Touch("breaker.disable", _THEIRS, "ok", {"state": "disabled"}),
    Touch("breaker.reset", _THEIRS, "ok", {"state": "closed"}),
    Touch("cache.clear", {"namespace": f"{MARK}-cache", "uid": "$uid"}, "ok", {"entries": 1}),
    Touch("lease.ready", {"lease": "$lease"}, "ok", {"uid": "$uid"}),
    Touch("lease.acknowledge", {"lease": "$lease"}, "ok", {"uid": "$uid"}),
    Touch("lease.renew", {"lease": "$timed"}, "ok", {"uid": "$uid"}),
    Touch("lease.revoke", {"lease": "$timed"}, "ok", {"uid": "$uid", "state": "draining"}),
    Touch("lease.attach", {"lease": "$lease", "pid": "$holder"}, "ok", {"uid": "$uid"}),
    Touch("lease.cancel", {"waiter": "$waiter"}, "ok", {"done": True}),
    Touch("lease.release", {"lease": "$lease"}, "ok", {"released": True}),
    Touch("session.close", {"session_id": "$session"}, "ok", {"done": True}),
)
