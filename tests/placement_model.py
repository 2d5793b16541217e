"""A placement to judge the real one by: slow, plain, and written from the rules alone.

  Admit iff need <= free(g). Policies: best_fit (least free after the grant), spread (most free,
  then lower utilisation, then larger margin, then fewer leases), exclusive (no other lease, foreign
  < epsilon), coolest (largest margin, then as spread); prefer / avoid by UUID; same-model affinity
  first. Ties break on UUID. Several GPUs: `count` GPUs each with the VRAM, or one amount split.

Every set of GPUs there is gets looked at; the real one never does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

from supereziod.leases.capacity import Capacity, Request

LASTING = {"mig_enabled", "compute_prohibited"}
EPSILON = 512 << 20
MIB_512 = 512 << 20


def meets(request: Request, gpu: Capacity) -> bool:
    """Tell whether the GPU is of the kind that is asked for; what is not known is not."""
    if request.min_capability is not None and (
        gpu.capability is None or gpu.capability < request.min_capability
    ):
        return False
    if request.compute_mode is not None and gpu.compute_mode != request.compute_mode:
        return False
    return not request.no_display or gpu.drives_display is False


def is_open(request: Request, gpu: Capacity) -> bool:
    """Tell whether the GPU admits the request, were it small enough."""
    if gpu.uuid in request.avoid or gpu.block is not None or not meets(request, gpu):
        return False
    if gpu.exclusive or gpu.growing:
        return False
    if gpu.compute_mode == "exclusive_process":
        # CUDA gives it to one process: nobody may be there, or be about to come.
        in_use = gpu.leases > 0 or gpu.returning_bytes > 0 or gpu.processes != 0
        if in_use:
            return False
    if request.policy == "exclusive":
        return gpu.leases == 0 and gpu.foreign_bytes + gpu.reserved_bytes < EPSILON
    return True


def least(request: Request, parts: int) -> int:
    """Return what a GPU has to have for the request, if that many GPUs are taken."""
    if not request.split:
        return request.vram_bytes
    return max(1, min(MIB_512, request.vram_bytes // (2 * parts)))


def sizes_of_sets(request: Request, gpus: int) -> list[int]:
    """Return how many GPUs may be taken, the best number first."""
    if request.split and request.count == 1:
        return [n for n in range(1, gpus + 1) if n <= request.vram_bytes]
    return [request.count] if request.count <= gpus else []


def holds(request: Request, sizes: Sequence[int]) -> bool:
    """Tell whether GPUs with so many bytes hold the request."""
    need = least(request, len(sizes))
    if min(sizes) < need:
        return False
    return not request.split or sum(sizes) >= request.vram_bytes


def rank(request: Request, gpu: Capacity) -> tuple[Any, ...]:
    """Return how good a GPU is for the request; the lowest is the best."""
    order = list(dict.fromkeys(request.prefer))
    place = order.index(gpu.uuid) if gpu.uuid in order else len(order)
    apart = request.model is None or request.model not in gpu.models
    busy = 101 if gpu.utilization_core_percent is None else gpu.utilization_core_percent
    margin = (1, 0) if gpu.margin_c is None else (0, -gpu.margin_c)
    roomy = (-gpu.free_bytes, busy, margin, gpu.leases)
    policy: tuple[Any, ...] = {
        "best_fit": (gpu.free_bytes,),
        "exclusive": (gpu.free_bytes,),
        "spread": roomy,
        "coolest": (margin, *roomy),
    }[request.policy]
    return (place, apart, gpu.warm, *policy, gpu.uuid)


def chosen(request: Request, gpus: Sequence[Capacity]) -> list[str] | None:
    """Return the GPUs to grant on, the best first; None if there are none now."""
    usable = [gpu for gpu in gpus if is_open(request, gpu)]
    for number in sizes_of_sets(request, len(usable)):
        sets = [
            sorted(some, key=lambda gpu: rank(request, gpu))
            for some in combinations(usable, number)
            if holds(request, [gpu.free_bytes for gpu in some])
        ]
        if sets:
            return [gpu.uuid for gpu in _best(request, sets)]
    return None


def _best(request: Request, sets: list[list[Capacity]]) -> list[Capacity]:
    """Return the best set: by its best GPU, then its second, and so on; of one model if it can be.

    A set of one model comes first unless that costs a preferred GPU of the set that is best
    without looking at models.
    """
    ranked = sorted(sets, key=lambda some: [rank(request, gpu) for gpu in some])
    options = [ranked[0]]
    options += [some for some in ranked if len({gpu.name for gpu in some}) == 1]
    return min(
        options,
        key=lambda some: (
            -sum(gpu.uuid in request.prefer for gpu in some),
            len({gpu.name for gpu in some}) > 1,
            [rank(request, gpu) for gpu in some],
        ),
    )


def may_ever(request: Request, gpus: Sequence[Capacity]) -> set[str]:
    """Return the GPUs that could be among those the request is granted on some day."""
    able = [gpu for gpu in gpus if _able(request, gpu)]
    found: set[str] = set()
    for number in sizes_of_sets(request, len(able)):
        for some in combinations(able, number):
            if holds(request, [gpu.largest_bytes for gpu in some]):
                found |= {gpu.uuid for gpu in some}
    return found


def _able(request: Request, gpu: Capacity) -> bool:
    if gpu.uuid in request.avoid:
        return False
    if gpu.block is not None and gpu.block.code in LASTING:
        return False
    if meets(request, gpu):
        return True
    # Of a GPU that is blocked, what is not known yet may turn out well.
    return gpu.block is not None and not _known_to_fail(request, gpu)


def _known_to_fail(request: Request, gpu: Capacity) -> bool:
    """Tell whether the first thing that the GPU does not meet is known."""
    if request.min_capability is not None and (
        gpu.capability is None or gpu.capability < request.min_capability
    ):
        return gpu.capability is not None
    if request.compute_mode is not None and gpu.compute_mode != request.compute_mode:
        return gpu.compute_mode is not None
    return gpu.drives_display is not None


def orders(gpus: Sequence[Capacity]) -> list[tuple[Capacity, ...]]:
    """Return the same GPUs in some other orders."""
    return list(permutations(gpus))[:6]
