"""Why one GPU does not admit a request: what it asks of a GPU, who is there, and how much is free.

A refusal is a stable code and a sentence. `lasting` ones do not pass by waiting.
"""

from __future__ import annotations

from typing import Final

from superezio.quantities import format_size
from supereziod.leases.capacity import Capability, Capacity, Request

Refusal = tuple[str, str]

#: A lease that is to be alone bears this much use of others: a display, or the driver's own.
EXCLUSIVE_TOLERANCE_BYTES: Final = 512 << 20
#: What keeps a GPU from admitting until somebody changes its mode: waiting does not help.
LASTING_BLOCKS: Final = frozenset(
    {"compute_prohibited", "mig_enabled", "mig_shared", "no_permission"}
)


def refusal_of(request: Request, capacity: Capacity, need: int) -> Refusal | None:
    """Return why the GPU does not admit `need` bytes of the request; None if it does."""
    if capacity.uuid in request.avoid:
        return "avoided", "the request avoids it"
    if _is_wasted_on(request, capacity):
        held = format_size(capacity.largest_bytes)
        return "beyond_quota", f"holds {held}: to have it alone within a quota, ask for all of it"
    if _is_one_of_several(request, capacity):
        return "mig_single", "a program can use one MIG instance, and no other GPU beside it"
    if capacity.block is not None and not capacity.largest_bytes:
        return capacity.block.code, capacity.block.message  # how large it is is not known
    if capacity.largest_bytes < need:
        return "too_small", (
            f"holds {_distinct(capacity.largest_bytes, need)} at most even when empty,"
            f" needs {_distinct(need, capacity.largest_bytes)}"
        )
    refusal = _unfit(request, capacity) or _closed(capacity)
    if refusal is None and request.policy == "exclusive":
        refusal = _company(capacity)
    if refusal is None and need > capacity.free_bytes:
        refusal = _shortage(need, capacity)
    return refusal


def may_serve(request: Request, capacity: Capacity) -> bool:
    """Tell whether the GPU could serve the request some day, as far as it is not about its size.

    What a GPU has to meet is its make, or a mode or a display that a person decides on: nothing
    that passes with time. What is not known of a GPU that has a block may be known later.
    """
    if capacity.uuid in request.avoid or _is_one_of_several(request, capacity):
        return False
    if _is_wasted_on(request, capacity):
        return False
    if capacity.block is not None and capacity.block.code in LASTING_BLOCKS:
        return False
    unfit = _unfit(request, capacity)
    if unfit is None:
        return True
    return capacity.block is not None and unfit[0] in _UNKNOWN


def _is_wasted_on(request: Request, capacity: Capacity) -> bool:
    """Tell whether all of a GPU would be lost to others, and less counted against a quota."""
    if request.policy != "exclusive" or not request.fills:
        return False
    return capacity.largest_bytes > request.vram_bytes + EXCLUSIVE_TOLERANCE_BYTES


def _is_one_of_several(request: Request, capacity: Capacity) -> bool:
    """Tell whether a MIG instance would serve with other GPUs: CUDA gives a program one alone."""
    return capacity.mig_index is not None and (request.count > 1 or request.split)


# --- what the request asks of a GPU -------------------------------------------------------------

_UNKNOWN: Final = frozenset({"capability_unknown", "compute_mode_unknown", "display_unknown"})


def _unfit(request: Request, capacity: Capacity) -> Refusal | None:
    """Refuse a GPU that does not meet a constraint, or of which that cannot be told.

    Who asks for a constraint has a program that fails without it, or a screen with somebody before
    it: a GPU that only may be the right one would break that promise without a word. Whoever knows
    better leaves the constraint out.
    """
    if request.min_capability is not None:
        refusal = _too_old(request.min_capability, capacity.capability)
        if refusal is not None:
            return refusal
    if request.compute_mode is not None and capacity.compute_mode != request.compute_mode:
        wanted = f"the request needs {_mode(request.compute_mode)}"
        if capacity.compute_mode is None:
            return "compute_mode_unknown", f"its compute mode is not known, and {wanted}"
        mode = _mode(capacity.compute_mode)
        return "compute_mode_differs", f"its compute mode is {mode}, and {wanted}"
    if request.no_display and capacity.drives_display is not False:
        if capacity.drives_display is None:
            return "display_unknown", (
                "whether it drives a display is not known, and the request wants one that does not"
            )
        return "drives_display", "it drives a display, and the request wants one that does not"
    return None


def _too_old(least: Capability, has: Capability | None) -> Refusal | None:
    wanted = f"the request needs {_dotted(least)}"
    if has is None:
        return "capability_unknown", f"its compute capability is not known, and {wanted}"
    if has < least:
        return "capability_too_low", f"its compute capability is {_dotted(has)}, and {wanted}"
    return None


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


def _mode(mode: str) -> str:
    return mode.upper()


# --- who is there -------------------------------------------------------------------------------


def _closed(capacity: Capacity) -> Refusal | None:
    if capacity.block is not None:
        return capacity.block.code, capacity.block.message
    if capacity.growing and not capacity.exclusive:
        return "growing", "a lease on it is still growing, and nothing else may start meanwhile"
    return taken(capacity)


def taken(capacity: Capacity) -> Refusal | None:
    """Return why no lease, however small, may come beside what is there, as long as it is there.

    A GPU that CUDA gives to one process is taken unless it is certain that none has it; a lease
    takes it from its grant on, for its process may not have opened the GPU yet.
    """
    if capacity.exclusive:
        return "exclusive_taken", "an exclusive lease is on it"
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


# --- how much is free ---------------------------------------------------------------------------


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
