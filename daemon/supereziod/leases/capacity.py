"""The two sides of a placement: what is asked, and for whom, and what a GPU can admit."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from superezio.errors import InvalidParamsError
from superezio.wire import Policy
from supereziod.gpu.hardware import Block, ComputeMode
from supereziod.leases.presence import NOWHERE, Presence

#: No GPU and no sum of GPUs comes near: a larger number is a mistake of the caller.
MAX_VRAM_BYTES: Final = 1 << 50
MAX_COUNT: Final = 1024

#: As in "8.6": major and minor.
Capability = tuple[int, int]
#: A model of a user, by the name that the user gave it: another user's is another model.
Model = tuple[int, str]

_MAX_CAPABILITY_PART: Final = 3


class Request(Struct, frozen=True, kw_only=True):
    """What is asked: `vram_bytes` on each of `count` GPUs.

    With `split` they are one amount: over exactly `count` GPUs if that is more than 1, else over
    as few as hold it. `prefer` ranks GPUs by UUID, best first; they are taken where they admit the
    lease. GPUs in `avoid` are never taken. `min_capability`, `compute_mode` and `no_display` are
    what a GPU has to meet; one of which it is not known does not. GPUs that a lease with the same
    `model` is on go before others. `presence`: where its holder is already, which it counts on, and
    which binds it to those GPUs. `fills`: it may have a GPU alone only if it asks for all of it,
    as whoever is held to a quota. Raises InvalidParamsError for a size or count nobody can mean.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    min_capability: Capability | None = None
    compute_mode: ComputeMode | None = None
    no_display: bool = False
    model: Model | None = None
    split: bool = False
    presence: Presence = NOWHERE
    fills: bool = False

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
        if self.split and self.vram_bytes < self.count:
            raise InvalidParamsError(
                f"cannot split {self.vram_bytes} bytes over {self.count} GPUs: each needs a part"
            )

    @property
    def total_bytes(self) -> int:
        """What a grant takes from the host."""
        return self.vram_bytes if self.split else self.vram_bytes * self.count


class Subject(Struct, frozen=True, kw_only=True):
    """Who asks, as quotas see it: the user, and the groups that it shares quotas with."""

    uid: int
    groups: frozenset[int] = frozenset()
    exempt: bool = False

    @property
    def shares(self) -> frozenset[int]:
        """The groups that a lease of it counts for."""
        return frozenset() if self.exempt else self.groups


class Capacity(Struct, frozen=True, kw_only=True):
    """What one GPU can admit now.

    `largest_bytes` is what it could admit empty. `free_bytes` is net of the driver's reserve, the
    configured reserve, foreign use, and `reserved_bytes`: the sum over holders of the larger of
    reserved and actual, and what released leases have not given back (`returning_bytes`).
    `exclusive`: a lease that is to be alone is there. `growing`: a lease is there that sizes
    itself by what it finds free, or whose use can only be told from the growth of the whole, so
    that nothing else may start. `warm`: it is taken where no cooler one admits the lease.
    `processes` use it, by its last pass; None where that could not be read. `models` are those of
    the leases on it. `mig_index` is the place of a MIG instance on the GPU at `index`.
    `claims_bytes` has what each lease on it reserves, and `claim_uids` whose it is, in the same
    order. `one_at_a_time`: whoever is granted next
    will be `growing`.
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
    capability: Capability | None = None
    drives_display: bool | None = None
    models: frozenset[Model] = frozenset()
    mig_index: int | None = None
    claims_bytes: tuple[int, ...] = ()
    one_at_a_time: bool = False
    claim_uids: tuple[int | None, ...] = ()

    @property
    def place(self) -> str:
        """The index, as `0`; of the MIG instance at `mig_index` there as `0:1`."""
        return str(self.index) if self.mig_index is None else f"{self.index}:{self.mig_index}"


def parse_capability(text: str) -> Capability:
    """Return a compute capability. Raises ValueError for what is not one, with an example."""
    major, dot, minor = text.partition(".")
    parts = (major, minor) if dot else (major, "0")
    if not all(
        part.isascii() and part.isdecimal() and len(part) <= _MAX_CAPABILITY_PART for part in parts
    ):
        raise ValueError(f"cannot read {text[:16]!r} as a compute capability: write it like 8.6")
    return int(parts[0]), int(parts[1])


def capability_of(text: str | None) -> Capability | None:
    """Return what the driver says of a GPU; None if it says nothing that can be understood."""
    try:
        return None if text is None else parse_capability(text)
    except ValueError:
        return None
