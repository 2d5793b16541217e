"""How large the MIG instances of a simulated card are, by what the driver calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from supereziod.gpu.profiles import GIB, MIB, Profile

#: What CUDA finds taken on an empty instance.
RESERVED_BYTES: Final = 64 * MIB
_SLICES: Final = 7


class MigSize(Struct, frozen=True):
    """An instance such as `1g.10gb`: slices of the GPU, and its VRAM with the driver's part."""

    profile: str
    slices: int
    vram_bytes: int


def mig_size(profile: str) -> MigSize:
    """Return the size that `profile` names. Raises ValueError."""
    found = re.fullmatch(r"([1-7])g\.([1-9]\d{0,2})gb", profile)
    if found is None:
        raise ValueError(f"{profile!r} is no size of an instance: write it like 1g.10gb")
    return MigSize(profile, int(found[1]), int(found[2]) * GIB)


def check_mig_sizes(profiles: Sequence[str], card: Profile, vram_bytes: int) -> None:
    """Raise ValueError unless the card can be cut into these."""
    if not card.has_mig:
        raise ValueError(f"{card.name} has no MIG")
    sizes = [mig_size(profile) for profile in profiles]
    if sum(size.slices for size in sizes) > _SLICES:
        raise ValueError(f"a card has {_SLICES} slices")
    if sum(size.vram_bytes for size in sizes) > vram_bytes:
        raise ValueError("they have more VRAM than the card")
