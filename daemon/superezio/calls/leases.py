"""lease.* and placement.*: VRAM for a program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict

from superezio import wire
from superezio.calls.call import Call, duration_s, refuse_unknown, size_bytes


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


def lease_acquire(vram: int | str, options: LeaseOptions) -> Call[wire.Lease]:
    refuse_unknown(options, LeaseOptions.__optional_keys__)
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
    refuse_unknown(options, PlacementOptions.__optional_keys__)
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
