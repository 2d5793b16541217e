"""From the parameters of an acquire, or an explain, to what is asked of the GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from superezio.errors import InvalidParamsError
from superezio.wire import AcquireParams, PlacementParams
from supereziod.leases.capacity import Capability, Capacity, Request, parse_capability

_MAX_GPUS_NAMED: Final = 64
_MAX_MODEL: Final = 128
#: Not itself: its MIG instances are.
_NEVER_LEASED: Final = frozenset({"mig_enabled"})


def request_of(
    params: AcquireParams | PlacementParams, *, uid: int, capacities: Sequence[Capacity]
) -> Request:
    """Return what the user asks of the GPUs. Raises InvalidParamsError for what nobody can mean."""
    if len(params.prefer) > _MAX_GPUS_NAMED or len(params.avoid) > _MAX_GPUS_NAMED:
        raise InvalidParamsError(f"prefer and avoid name at most {_MAX_GPUS_NAMED} GPUs")
    return Request(
        vram_bytes=params.vram_bytes,
        count=params.count,
        policy=params.policy,
        prefer=tuple(params.prefer),
        avoid=tuple(params.avoid),
        min_capability=_capability(params.min_compute_capability),
        compute_mode=params.compute_mode,
        no_display=params.no_display,
        # Whose model it is belongs to it: what others run, and where, is theirs to know.
        model=None if params.model is None else (uid, _checked_model(params.model)),
        split=params.split,
        alone_bytes=_largest(params, capacities) if params.policy == "exclusive" else 0,
    )


def _largest(params: AcquireParams | PlacementParams, capacities: Sequence[Capacity]) -> int:
    """Return how large a GPU may be that the request gets."""
    sizes = [
        capacity.largest_bytes
        for capacity in capacities
        if capacity.uuid not in params.avoid
        if capacity.block is None or capacity.block.code not in _NEVER_LEASED
    ]
    return max(sizes, default=0)


def _capability(text: str | None) -> Capability | None:
    try:
        return None if text is None else parse_capability(text)
    except ValueError as error:
        raise InvalidParamsError(f"min_compute_capability: {error}") from None


def _checked_model(model: str) -> str:
    if not 0 < len(model) <= _MAX_MODEL or not model.isprintable():
        raise InvalidParamsError(f"model has 1 to {_MAX_MODEL} printable characters")
    return model
