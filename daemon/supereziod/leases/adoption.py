"""What a request and the GPUs come to for a holder that uses some of them already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from supereziod.gpu.hardware import Block
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.presence import NOWHERE
from supereziod.leases.refusals import refusal_of

_ELSEWHERE: Final = Block(
    code="elsewhere", message="the process that is to hold it uses another GPU, and cannot move"
)


def as_found(
    request: Request, capacities: Sequence[Capacity]
) -> tuple[Request, Sequence[Capacity]]:
    """Return both with what is there of the holder counted as its own, and bound to where it is."""
    presence = request.presence
    if presence is NOWHERE:
        return request, capacities
    capacities = [_less_own_use(request, capacity) for capacity in capacities]
    bound = presence.bound_to
    if not bound:
        # It may move, and need not: a program that has opened a GPU works on there.
        return replace(request, prefer=request.prefer or presence.used), capacities
    need = 1 if request.split else request.vram_bytes
    stuck = any(refusal_of(request, each, need) for each in capacities if each.uuid in bound)
    request = replace(request, prefer=bound)
    if len(bound) < request.count and not stuck:
        return request, capacities
    return request, [
        replace(capacity, block=_ELSEWHERE)
        if capacity.uuid not in bound and _may_be_said_of(capacity)
        else capacity
        for capacity in capacities
    ]


def _may_be_said_of(capacity: Capacity) -> bool:
    # That it is kept for others is no reason where it would be of no use.
    return capacity.block is None or capacity.block.code == "queued"


def within_reach(request: Request, able: Sequence[Capacity]) -> list[Capacity]:
    """Return those of `able` that the holder's presence leaves to choose from."""
    bound = frozenset(request.presence.bound_to)
    if len(bound) >= request.count:
        return [capacity for capacity in able if capacity.uuid in bound] if bound else list(able)
    return list(able) if bound <= {capacity.uuid for capacity in able} else []


def _less_own_use(request: Request, capacity: Capacity) -> Capacity:
    presence, uuid = request.presence, capacity.uuid
    own = min(presence.own_bytes(uuid), request.vram_bytes)
    if request.split and capacity.free_bytes < 0:
        own = 0  # what is used beyond a part makes no room for it
    if not own and uuid not in presence.used:
        return capacity
    return replace(
        capacity,
        free_bytes=capacity.free_bytes + own,
        foreign_bytes=capacity.foreign_bytes - presence.foreign_bytes.get(uuid, 0),
        reserved_bytes=capacity.reserved_bytes - presence.beyond_bytes.get(uuid, 0),
        # Where CUDA lets one process in, it is this one.
        processes=0 if uuid in presence.used else capacity.processes,
    )
