"""Which GPUs a lease gets: a pure, deterministic decision that gives a reason for every GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from superezio.wire import Placement, Policy
from supereziod.gpu.hardware import Block


class Request(Struct, frozen=True, kw_only=True):
    """What is asked: `vram_bytes` on each of `count` GPUs.

    `prefer` ranks GPUs by UUID, best first; they are taken where they admit the lease. GPUs in
    `avoid` are never taken. Raises InvalidParamsError for a size or count nobody can mean.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()


class Capacity(Struct, frozen=True, kw_only=True):
    """What one GPU can admit now.

    `largest_bytes` is what it could admit empty. `free_bytes` is net of the driver's reserve, the
    configured reserve, foreign use, and `reserved_bytes`: the sum over holders of the larger of
    reserved and actual, and what released leases have not given back (`returning_bytes`).
    `exclusive`: a lease that is to be alone is there. `growing`: a lease is there whose use can
    only be told from the growth of the whole, so that nothing else may start.
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
    block: Block | None = None


def place(request: Request, capacities: Sequence[Capacity]) -> Placement:
    """Decide: `grant` on the chosen GPUs, `wait`, or `never` if even the empty host is too small.

    The caller records a grant before anything else may decide: nothing may be awaited between.
    """
    raise NotImplementedError


def candidates(request: Request, capacities: Sequence[Capacity]) -> frozenset[str]:
    """Return the GPUs that could serve the request some day: not avoided, and large enough."""
    raise NotImplementedError


def hold(capacities: Sequence[Capacity], held: Mapping[str, str]) -> list[Capacity]:
    """Return `capacities` with the `held` GPUs (by UUID: why) blocked, with code `queued`."""
    raise NotImplementedError
