"""From the parameters of an acquire, or an explain, to what is asked of the GPUs."""

from __future__ import annotations

from typing import Final

from superezio.errors import InvalidParamsError
from superezio.wire import AcquireParams, PlacementParams
from supereziod.leases.capacity import Capability, Request, parse_capability

_MAX_GPUS_NAMED: Final = 64
_MAX_MODEL: Final = 128


def request_of(params: AcquireParams | PlacementParams, *, uid: int) -> Request:
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
    )


def _capability(text: str | None) -> Capability | None:
    try:
        return None if text is None else parse_capability(text)
    except ValueError as error:
        raise InvalidParamsError(f"min_compute_capability: {error}") from None


def _checked_model(model: str) -> str:
    if not 0 < len(model) <= _MAX_MODEL or not model.isprintable():
        raise InvalidParamsError(f"model has 1 to {_MAX_MODEL} printable characters")
    return model
