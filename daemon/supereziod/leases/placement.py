"""Which GPUs a lease gets: a pure, deterministic decision that gives a reason for every GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from msgspec.structs import replace

from superezio.quantities import format_size
from superezio.wire import GpuReason, Placement, Policy
from supereziod.gpu.hardware import Block
from supereziod.leases import split
from supereziod.leases.adoption import as_found, within_reach
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.refusals import (
    Refusal,
    may_serve,
    refusal_of,
)

_NO_MARGIN: Final = -1000
_NO_UTILIZATION: Final = 101

#: So much is said in one sentence: reasons, and GPUs of which the same is said.
_MOST_REASONS: Final = 4
_MOST_PLACES: Final = 8

Rank = tuple[int, ...]


def place(request: Request, capacities: Sequence[Capacity]) -> Placement:
    """Decide: `grant` on the chosen GPUs, `wait`, or `never` if even the empty host is too small.

    The caller records a grant before anything else may decide: nothing may be awaited between.
    """
    request, capacities = as_found(request, capacities)
    parts = _parts(request, capacities)
    need = split.least_part(request.vram_bytes, parts) if request.split else request.vram_bytes
    refusals = {capacity.uuid: refusal_of(request, capacity, need) for capacity in capacities}
    admitted = [capacity for capacity in capacities if refusals[capacity.uuid] is None]
    chosen = _choose(request, admitted, parts)
    decision: Literal["grant", "wait", "never"]
    if chosen:
        decision = "grant"
    elif candidates(request, capacities):
        decision = "wait"
    else:
        decision = "never"
    shares = _shares(request, chosen)
    reserved = {capacity.uuid: share for capacity, share in zip(chosen, shares, strict=True)}
    reasons = [
        _reason(request, capacity, refusals[capacity.uuid], reserved=reserved, need=need)
        for capacity in capacities
    ]
    return Placement(
        decision=decision,
        policy=request.policy,
        vram_bytes=request.vram_bytes,
        count=request.count,
        chosen=list(reserved),
        gpus=reasons,
        summary=_summary(request, decision, reasons, chosen, shares),
        split=request.split,
        reserved=reserved,
        split_ratio=split.ratios(shares) if request.split and chosen else [],
        tensor_split=split.tensor_split(shares) if request.split and chosen else None,
    )


def candidates(request: Request, capacities: Sequence[Capacity]) -> frozenset[str]:
    """Return the GPUs that could serve the request some day; none if they are too few for it.

    Those are the GPUs that are not avoided, meet what is asked of a GPU, have no block but such as
    passes with time, and are large enough when empty: for all of it, or with others for a part.
    """
    able = [capacity for capacity in capacities if may_serve(request, capacity)]
    able = within_reach(request, able)
    if request.split:
        sizes = [capacity.largest_bytes for capacity in able]
        takes_part = split.could_take_part(sizes, request.vram_bytes, request.count)
        return frozenset(
            capacity.uuid for capacity, takes in zip(able, takes_part, strict=True) if takes
        )
    found = frozenset(
        capacity.uuid for capacity in able if capacity.largest_bytes >= request.vram_bytes
    )
    return found if len(found) >= request.count else frozenset()


def hold(capacities: Sequence[Capacity], held: Mapping[str, str]) -> list[Capacity]:
    """Return `capacities` with the `held` GPUs (by UUID: why) blocked, with code `queued`."""
    return [
        replace(capacity, block=Block(code="queued", message=held[capacity.uuid]))
        if capacity.uuid in held and capacity.block is None
        else capacity
        for capacity in capacities
    ]


def has_room(request: Request, free: Sequence[int]) -> bool:
    """Tell cheaply whether a placement may succeed on GPUs with so many bytes free.

    False is certain; True only says that it is worth a placement.
    """
    if request.split:
        roomy = [size for size in free if size > 0]
        return len(roomy) >= request.count and sum(roomy) >= request.vram_bytes
    return sum(size >= request.vram_bytes for size in free) >= request.count


def _parts(request: Request, capacities: Sequence[Capacity]) -> int:
    """Return on how many GPUs the lease is to be: of a split, as few as hold it now.

    Where none hold it, it is told as for one part on each GPU that could have had one.
    """
    if not request.split or request.count > 1:
        return request.count
    free = [
        capacity.free_bytes for capacity in capacities if refusal_of(request, capacity, 1) is None
    ]
    return split.fewest(free, request.vram_bytes) or min(max(1, len(free)), request.vram_bytes)


# --- what is chosen -----------------------------------------------------------------------------


def _least_left(capacity: Capacity) -> Rank:
    return (capacity.free_bytes,)


def _most_room(capacity: Capacity) -> Rank:
    """Rank by most free, lower utilisation, larger margin, fewer leases; unknown is worst."""
    utilization = capacity.utilization_core_percent
    return (
        -capacity.free_bytes,
        _NO_UTILIZATION if utilization is None else utilization,
        -_margin_c(capacity),
        capacity.leases,
    )


def _coolest(capacity: Capacity) -> Rank:
    """Rank by the larger margin, then as spread does; an unknown one is worst."""
    return (-_margin_c(capacity), *_most_room(capacity))


def _margin_c(capacity: Capacity) -> int:
    return _NO_MARGIN if capacity.margin_c is None else capacity.margin_c


#: How each policy ranks the GPUs that admit a request; the lowest is taken, ties go by UUID.
_RANKS: Final[dict[Policy, Callable[[Capacity], Rank]]] = {
    "best_fit": _least_left,
    "spread": _most_room,
    "exclusive": _least_left,
    "coolest": _coolest,
}


def _choose(request: Request, admitted: list[Capacity], parts: int) -> list[Capacity]:
    """Return the GPUs to take, the best first; none if those that admit are too few."""
    rank = _RANKS[request.policy]
    prefer = {uuid: place for place, uuid in reversed(list(enumerate(request.prefer)))}

    def key(capacity: Capacity) -> tuple[int, bool, bool, Rank, str]:
        place = prefer.get(capacity.uuid, len(prefer))
        apart = not _has_model(request, capacity)
        return place, apart, capacity.warm, rank(capacity), capacity.uuid

    ordered = sorted(admitted, key=key)
    best = _first(request, ordered, parts)
    if parts == 1 or not best:
        return best
    # Work split over several GPUs goes at the pace of the slowest: cards of one model first,
    # unless that costs a preferred GPU.
    options = [best]
    for name in dict.fromkeys(capacity.name for capacity in ordered):
        alike = _first(request, [one for one in ordered if one.name == name], parts)
        if alike:
            options.append(alike)
    return min(
        options,
        key=lambda option: (
            -sum(capacity.uuid in prefer for capacity in option),
            len({capacity.name for capacity in option}) > 1,
            [key(capacity) for capacity in option],
        ),
    )


def _first(request: Request, ordered: list[Capacity], parts: int) -> list[Capacity]:
    """Return the first `parts` of them that do; none if they are too few, or hold too little."""
    if len(ordered) < parts:
        return []
    if not request.split:
        return ordered[:parts]
    free = [capacity.free_bytes for capacity in ordered]
    places = split.first_that_hold(free, request.vram_bytes, parts)
    return [ordered[place] for place in places or ()]


def _has_model(request: Request, capacity: Capacity) -> bool:
    return request.model is not None and request.model in capacity.models


def _shares(request: Request, chosen: list[Capacity]) -> list[int]:
    if not request.split or not chosen:
        return [request.vram_bytes] * len(chosen)
    return split.divide([capacity.free_bytes for capacity in chosen], request.vram_bytes)


# --- what is said -------------------------------------------------------------------------------


def _reason(
    request: Request,
    capacity: Capacity,
    refusal: Refusal | None,
    *,
    reserved: Mapping[str, int],
    need: int,
) -> GpuReason:
    needed = reserved.get(capacity.uuid, need)
    if refusal is not None:
        code, message = refusal
    elif capacity.uuid in reserved:
        left = format_size(capacity.free_bytes - needed)
        beside = "beside your lease with the same model, " if _has_model(request, capacity) else ""
        code, message = "chosen", f"{request.policy}: {beside}{left} stay free"
    else:
        code, message = "fits", _unchosen(request, capacity, reserved)
    return GpuReason(
        uuid=capacity.uuid,
        index=capacity.index,
        name=capacity.name,
        admitted=refusal is None,
        chosen=capacity.uuid in reserved,
        code=code,
        message=message,
        free_bytes=capacity.free_bytes,
        needed_bytes=needed,
        foreign_bytes=capacity.foreign_bytes,
        reserved_bytes=capacity.reserved_bytes,
        mig_index=capacity.mig_index,
    )


def _unchosen(request: Request, capacity: Capacity, chosen: Mapping[str, int]) -> str:
    if not chosen and request.split:
        part = f"has {format_size(capacity.free_bytes)} for a part of it"
        if request.count > 1:
            return f"{part}, but it does not fit on {request.count} GPUs at once"
        return f"{part}, and all together too little"
    if not chosen:
        return f"has room, but the lease needs {request.count} GPUs at once"
    if any(uuid in request.prefer for uuid in chosen):
        return "has room, but the request prefers another"
    if capacity.warm:
        return "has room, but is warm"
    return f"has room, but {request.policy} ranks another first"


def _place(reason: GpuReason) -> str:
    return str(reason.index) if reason.mig_index is None else f"{reason.index}:{reason.mig_index}"


def _summary(
    request: Request,
    decision: str,
    reasons: list[GpuReason],
    chosen: list[Capacity],
    shares: list[int],
) -> str:
    need = format_size(request.vram_bytes)
    if decision == "grant":
        names = [f"GPU {capacity.place} ({capacity.name})" for capacity in chosen]
        if not request.split or len(chosen) == 1:
            return f"{need} on {', '.join(names)}"
        each = zip(shares, names, strict=True)
        return f"{need}: {', '.join(f'{format_size(share)} on {name}' for share, name in each)}"
    if not reasons:
        return "no GPU is known to the daemon now"
    if request.split:
        need += " split over " + (f"{request.count} GPUs" if request.count > 1 else "several GPUs")
    elif request.count > 1:
        need = f"{need} on each of {request.count} GPUs"
    why = _why(reasons)
    return f"this host can never hold {need}: {why}" if decision == "never" else f"{need}: {why}"


def _why(reasons: list[GpuReason]) -> str:
    """Return what stands against each GPU, those of which the same is said together.

    The sentence stays readable where there are many: the rest is in the reasons.
    """
    places: dict[str, list[str]] = {}
    for reason in reasons:
        places.setdefault(reason.message, []).append(_place(reason))
    told = list(places.items())[:_MOST_REASONS]
    why = "; ".join(f"GPU {_listed(where)}: {message}" for message, where in told)
    left = len(reasons) - sum(len(where) for _, where in told)
    return f"{why}; and {left} more" if left else why


def _listed(places: list[str]) -> str:
    left = len(places) - _MOST_PLACES
    if left <= 0:
        return ", ".join(places)
    return f"{', '.join(places[:_MOST_PLACES])} and {left} more"
