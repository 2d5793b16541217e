"""Which GPUs a lease gets: a pure, deterministic decision that gives a reason for every GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from superezio.errors import InvalidParamsError
from superezio.quantities import format_size
from superezio.wire import GpuReason, Placement, Policy
from supereziod.gpu.hardware import Block, ComputeMode
from supereziod.leases.presence import NOWHERE, Presence

#: No GPU and no sum of GPUs comes near: a larger number is a mistake of the caller.
MAX_VRAM_BYTES: Final = 1 << 50
MAX_COUNT: Final = 1024
#: A lease that is to be alone bears this much use of others: a display, or the driver's own.
EXCLUSIVE_TOLERANCE_BYTES: Final = 512 << 20
#: What keeps a GPU from admitting until somebody changes its mode: waiting does not help.
LASTING_BLOCKS: Final = frozenset({"compute_prohibited", "mig_enabled"})

_ELSEWHERE: Final = Block(
    code="elsewhere", message="the process that is to hold it uses another GPU, and cannot move"
)
_NO_MARGIN: Final = -1000
_NO_UTILIZATION: Final = 101


class Request(Struct, frozen=True, kw_only=True):
    """What is asked: `vram_bytes` on each of `count` GPUs.

    `prefer` ranks GPUs by UUID, best first; they are taken where they admit the lease. GPUs in
    `avoid` are never taken. `presence`: where its holder is already, which it counts on, and
    which binds it to those GPUs. Raises InvalidParamsError for a size or count nobody can mean.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    presence: Presence = NOWHERE

    def __post_init__(self) -> None:
        if not 0 < self.vram_bytes <= MAX_VRAM_BYTES:
            raise InvalidParamsError(
                f"cannot lease {self.vram_bytes} bytes: vram_bytes has to be"
                f" from 1 to {MAX_VRAM_BYTES}"
            )
        if not 0 < self.count <= MAX_COUNT:
            raise InvalidParamsError(
                f"cannot lease on {self.count} GPUs: count has to be from 1 to {MAX_COUNT}"
            )


class Capacity(Struct, frozen=True, kw_only=True):
    """What one GPU can admit now.

    `largest_bytes` is what it could admit empty. `free_bytes` is net of the driver's reserve, the
    configured reserve, foreign use, and `reserved_bytes`: the sum over holders of the larger of
    reserved and actual, and what released leases have not given back (`returning_bytes`).
    `exclusive`: a lease that is to be alone is there. `growing`: a lease is there that sizes
    itself by what it finds free, or whose use can only be told from the growth of the whole, so
    that nothing else may start. `warm`: it is taken where no cooler one admits the lease.
    `processes` use it, by its last pass; None where that could not be read.
    """

    uuid: str
    index: int
    name: str
    largest_bytes: int
    free_bytes: int
    foreign_bytes: int
    reserved_bytes: int
    returning_bytes: int = 0
    utilization_core_percent: int | None = None
    margin_c: int | None = None
    leases: int = 0
    exclusive: bool = False
    growing: bool = False
    warm: bool = False
    block: Block | None = None
    compute_mode: ComputeMode | None = None
    processes: int | None = 0


Refusal = tuple[str, str]
Rank = tuple[int, ...]


def place(request: Request, capacities: Sequence[Capacity]) -> Placement:
    """Decide: `grant` on the chosen GPUs, `wait`, or `never` if even the empty host is too small.

    The caller records a grant before anything else may decide: nothing may be awaited between.
    """
    request, capacities = _as_found(request, capacities)
    refusals = {capacity.uuid: _refusal(request, capacity) for capacity in capacities}
    admitted = [capacity for capacity in capacities if refusals[capacity.uuid] is None]
    chosen: list[Capacity] = []
    decision: Literal["grant", "wait", "never"]
    if len(admitted) >= request.count:
        decision = "grant"
        chosen = _choose(request, admitted)
    elif candidates(request, capacities):
        decision = "wait"
    else:
        decision = "never"
    uuids = [capacity.uuid for capacity in chosen]
    reasons = [
        _reason(request, capacity, refusal=refusals[capacity.uuid], chosen=uuids)
        for capacity in capacities
    ]
    return Placement(
        decision=decision,
        policy=request.policy,
        vram_bytes=request.vram_bytes,
        count=request.count,
        chosen=uuids,
        gpus=reasons,
        summary=_summary(request, decision, reasons, chosen),
    )


def candidates(request: Request, capacities: Sequence[Capacity]) -> frozenset[str]:
    """Return the GPUs that could serve the request some day; none if they are too few for it.

    Those are the GPUs that are not avoided, are large enough when empty, and have no block but
    such as passes with time.
    """
    found = frozenset(
        capacity.uuid
        for capacity in capacities
        if capacity.largest_bytes >= request.vram_bytes
        and capacity.uuid not in request.avoid
        and (capacity.block is None or capacity.block.code not in LASTING_BLOCKS)
    )
    bound = frozenset(request.presence.bound_to)
    if len(bound) >= request.count:
        found &= bound
    elif not bound <= found:
        return frozenset()
    return found if len(found) >= request.count else frozenset()


def hold(capacities: Sequence[Capacity], held: Mapping[str, str]) -> list[Capacity]:
    """Return `capacities` with the `held` GPUs (by UUID: why) blocked, with code `queued`."""
    return [
        replace(capacity, block=Block(code="queued", message=held[capacity.uuid]))
        if capacity.uuid in held and capacity.block is None
        else capacity
        for capacity in capacities
    ]


# --- what is there already ---------------------------------------------------------------------


def _as_found(
    request: Request, capacities: Sequence[Capacity]
) -> tuple[Request, Sequence[Capacity]]:
    """Return what the request and the GPUs come to for a holder that is on some already."""
    presence = request.presence
    if presence is NOWHERE:
        return request, capacities
    capacities = [_less_own_use(request, capacity) for capacity in capacities]
    bound = presence.bound_to
    if not bound:
        return request, capacities
    stuck = any(_refusal(request, each) for each in capacities if each.uuid in bound)
    if len(bound) < request.count and not stuck:
        return replace(request, prefer=bound), capacities
    return request, [
        replace(capacity, block=_ELSEWHERE)
        if capacity.uuid not in bound and capacity.block is None
        else capacity
        for capacity in capacities
    ]


def _less_own_use(request: Request, capacity: Capacity) -> Capacity:
    presence, uuid = request.presence, capacity.uuid
    own = min(presence.own_bytes(uuid), request.vram_bytes)
    if not own:
        return capacity
    return replace(
        capacity,
        free_bytes=capacity.free_bytes + own,
        foreign_bytes=capacity.foreign_bytes - presence.foreign_bytes.get(uuid, 0),
        reserved_bytes=capacity.reserved_bytes - presence.beyond_bytes.get(uuid, 0),
    )


# --- what refuses -------------------------------------------------------------------------------


def _refusal(request: Request, capacity: Capacity) -> Refusal | None:
    need = request.vram_bytes
    if capacity.uuid in request.avoid:
        return "avoided", "the request avoids it"
    if capacity.largest_bytes < need:
        return "too_small", (
            f"holds {_distinct(capacity.largest_bytes, need)} at most even when empty,"
            f" needs {_distinct(need, capacity.largest_bytes)}"
        )
    refusal = _closed(capacity)
    if refusal is None and request.policy == "exclusive":
        refusal = _company(capacity)
    if refusal is None and need > capacity.free_bytes:
        refusal = _shortage(need, capacity)
    return refusal


def _closed(capacity: Capacity) -> Refusal | None:
    if capacity.block is not None:
        return capacity.block.code, capacity.block.message
    if capacity.exclusive:
        return "exclusive_taken", "an exclusive lease is on it"
    if capacity.growing:
        return "growing", "a lease on it is still growing, and nothing else may start meanwhile"
    return taken(capacity)


def taken(capacity: Capacity) -> Refusal | None:
    """Refuse a GPU that CUDA gives to one process, unless it is certain that none has it.

    A lease takes it from its grant on: its process may not have opened the GPU yet.
    """
    if capacity.compute_mode != "exclusive_process":
        return None
    if capacity.leases:
        who = "a lease is on it"
    elif capacity.returning_bytes:
        who = "a released lease has not given it back yet"
    elif capacity.processes:
        who = "a process has it"
    elif capacity.processes is None:
        who = "whether a process has it cannot be read"
    else:
        return None
    return "compute_exclusive_taken", f"its compute mode is EXCLUSIVE_PROCESS, and {who}"


def _company(capacity: Capacity) -> Refusal | None:
    if capacity.leases:
        leases = "1 lease is" if capacity.leases == 1 else f"{capacity.leases} leases are"
        return "not_empty", f"{leases} on it, and an exclusive lease has to be alone"
    others = capacity.foreign_bytes + capacity.reserved_bytes
    if others >= EXCLUSIVE_TOLERANCE_BYTES:
        return (
            "foreign_use",
            f"{format_size(others)} are used by others, and an exclusive lease has to be alone",
        )
    return None


def _shortage(need: int, capacity: Capacity) -> Refusal:
    free = capacity.free_bytes
    if free < 0:
        stands = f"overcommitted by {format_size(-free)}"
    else:
        stands = f"{_distinct(free, need)} free"
    if capacity.foreign_bytes:
        stands += f" after {format_size(capacity.foreign_bytes)} foreign"
    needs = f"needs {_distinct(need, free)}"
    if free + capacity.returning_bytes >= need:
        back = format_size(capacity.returning_bytes)
        return "returning", f"{stands} until {back} of released leases are back, {needs}"
    return "insufficient_vram", f"{stands}, {needs}"


def _distinct(size: int, other: int) -> str:
    """Return `size` for people, exact where rounding would make it read like `other`."""
    text = format_size(size)
    return f"{size:,} bytes" if text == format_size(other) and size != other else text


# --- what is chosen -----------------------------------------------------------------------------


def _least_left(capacity: Capacity) -> Rank:
    return (capacity.free_bytes,)


def _most_room(capacity: Capacity) -> Rank:
    """Rank by most free, lower utilisation, larger margin, fewer leases; unknown is worst."""
    utilization = capacity.utilization_core_percent
    return (
        -capacity.free_bytes,
        _NO_UTILIZATION if utilization is None else utilization,
        -(_NO_MARGIN if capacity.margin_c is None else capacity.margin_c),
        capacity.leases,
    )


#: How each policy ranks the GPUs that admit a request; the lowest is taken, ties go by UUID.
_RANKS: Final[dict[Policy, Callable[[Capacity], Rank]]] = {
    "best_fit": _least_left,
    "spread": _most_room,
    "exclusive": _least_left,
}


def _choose(request: Request, admitted: list[Capacity]) -> list[Capacity]:
    rank = _RANKS[request.policy]
    prefer = {uuid: place for place, uuid in reversed(list(enumerate(request.prefer)))}

    def key(capacity: Capacity) -> tuple[int, bool, Rank, str]:
        place = prefer.get(capacity.uuid, len(prefer))
        return place, capacity.warm, rank(capacity), capacity.uuid

    ordered = sorted(admitted, key=key)
    best = ordered[: request.count]
    if request.count == 1:
        return best
    # Work split over several GPUs goes at the pace of the slowest: cards of one model first,
    # unless that costs a preferred GPU.
    options = [best]
    for name in dict.fromkeys(capacity.name for capacity in ordered):
        alike = [capacity for capacity in ordered if capacity.name == name]
        if len(alike) >= request.count:
            options.append(alike[: request.count])
    return min(
        options,
        key=lambda option: (
            -sum(capacity.uuid in prefer for capacity in option),
            len({capacity.name for capacity in option}) > 1,
            [key(capacity) for capacity in option],
        ),
    )


# --- what is said -------------------------------------------------------------------------------


def _reason(
    request: Request, capacity: Capacity, *, refusal: Refusal | None, chosen: list[str]
) -> GpuReason:
    is_chosen = capacity.uuid in chosen
    if refusal is not None:
        code, message = refusal
    else:
        left = format_size(capacity.free_bytes - request.vram_bytes)
        code = "chosen" if is_chosen else "fits"
        message = f"{request.policy}: {left} stay free"
        if not is_chosen:
            message = _unchosen(request, capacity, chosen)
    return GpuReason(
        uuid=capacity.uuid,
        index=capacity.index,
        name=capacity.name,
        admitted=refusal is None,
        chosen=is_chosen,
        code=code,
        message=message,
        free_bytes=capacity.free_bytes,
        needed_bytes=request.vram_bytes,
        foreign_bytes=capacity.foreign_bytes,
        reserved_bytes=capacity.reserved_bytes,
    )


def _unchosen(request: Request, capacity: Capacity, chosen: list[str]) -> str:
    if not chosen:
        return f"has room, but the lease needs {request.count} GPUs at once"
    if any(uuid in request.prefer for uuid in chosen):
        return "has room, but the request prefers another"
    if capacity.warm:
        return "has room, but is warm"
    return f"has room, but {request.policy} ranks another first"


def _summary(
    request: Request, decision: str, reasons: list[GpuReason], chosen: list[Capacity]
) -> str:
    need = format_size(request.vram_bytes)
    if decision == "grant":
        names = ", ".join(f"GPU {capacity.index} ({capacity.name})" for capacity in chosen)
        return f"{need} on {names}"
    if not reasons:
        return "this host has no GPUs"
    if request.count > 1:
        need = f"{need} on each of {request.count} GPUs"
    why = "; ".join(f"GPU {reason.index}: {reason.message}" for reason in reasons[:4])
    if len(reasons) > 4:  # noqa: PLR2004 - the sentence stays readable, the rest is in the reasons
        why += f"; and {len(reasons) - 4} more"
    return f"this host can never hold {need}: {why}" if decision == "never" else f"{need}: {why}"
