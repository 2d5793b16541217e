"""One amount over several GPUs: over how many, over which, and how much on each. Plain numbers.

Each GPU takes part in proportion to what it has free. So the chosen ones keep the same part of
their room for what a program's estimate left out, none is filled to the brim while another stays
half empty, and layers lie where the room for them is, which is what llama.cpp does by itself.
Filling one GPU after the other would need fewer bytes on the last, and leave none on the others.

A process takes some hundred MiB on each GPU that it opens before the first layer is there. A
smaller part would serve nobody: no part is less than that, or than half of an equal one where
that is less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import nlargest
from itertools import accumulate
from typing import Final

LEAST_PART_BYTES: Final = 512 << 20
#: A ratio is told in so many parts: finer than any layer is.
_RATIO_PARTS: Final = 1000


def least_part(need: int, parts: int) -> int:
    """Return the least that one of `parts` GPUs has to hold of `need` bytes."""
    return max(1, min(LEAST_PART_BYTES, need // (2 * parts)))


def fewest(sizes: Sequence[int], need: int) -> int | None:
    """Return how many GPUs with so many bytes each it takes to hold `need`; None: all do not."""
    largest = sorted(sizes, reverse=True)
    for parts, (size, held) in enumerate(zip(largest, accumulate(largest), strict=True), start=1):
        if parts <= need <= held and size >= least_part(need, parts):
            return parts
    return None


def first_that_hold(sizes: Sequence[int], need: int, parts: int) -> list[int] | None:
    """Return which `parts` of `sizes`, by their places, hold `need`: the first in their order.

    That is the first combination, as one compares words by their letters. All of `sizes` are to
    be as large as a part has to be.
    """
    chosen: list[int] = []
    held = 0
    for place, size in enumerate(sizes):
        missing = parts - len(chosen) - 1
        later = sizes[place + 1 :]
        if missing <= len(later) and held + size + sum(nlargest(missing, later)) >= need:
            chosen.append(place)
            held += size
            if not missing:
                return chosen
    return None


def could_take_part(sizes: Sequence[int], need: int, count: int) -> list[bool]:
    """Tell of each GPU whether it is one of some that hold `need`, by what they hold when empty.

    `count` above 1 is how many they are; otherwise any number will do.
    """
    largest = sorted(sizes, reverse=True)
    held = [0, *accumulate(largest)]
    numbers = [count] if count > 1 else range(1, min(len(sizes), need) + 1)
    return [
        any(_takes_part(size, largest, held, need=need, parts=parts) for parts in numbers)
        for size in sizes
    ]


def divide(sizes: Sequence[int], need: int) -> list[int]:
    """Return what to put on GPUs that have `sizes` free: the sum is `need`, and each fits.

    Each gets the least part, and the rest is divided in proportion to what is free beyond that;
    bytes that do not come out even go where the fractions are largest. Raises ValueError where
    they do not hold it.
    """
    least = least_part(need, len(sizes))
    beyond = [size - least for size in sizes]
    rest, room = need - least * len(sizes), sum(beyond)
    if min(beyond) < 0 or rest > room:
        raise ValueError(f"cannot divide {need} bytes over {list(sizes)}")
    shares = [rest * size // room if room else 0 for size in beyond]
    uneven = rest - sum(shares)
    by_fraction = sorted(
        range(len(sizes)), key=lambda place: (-(rest * beyond[place] % room) if room else 0, place)
    )
    for place in by_fraction[:uneven]:
        shares[place] += 1
    return [least + share for share in shares]


def ratios(shares: Sequence[int]) -> list[float]:
    """Return each share as a part of 1."""
    total = sum(shares)
    return [share / total for share in shares]


def tensor_split(shares: Sequence[int]) -> str:
    """Return the proportions as llama.cpp's --tensor-split takes them, as in `3,1`."""
    total = sum(shares)
    parts = [share * _RATIO_PARTS // total for share in shares]
    by_fraction = sorted(
        range(len(shares)),
        key=lambda place: (-(shares[place] * _RATIO_PARTS % total), place),
    )
    for place in by_fraction[: _RATIO_PARTS - sum(parts)]:
        parts[place] += 1
    # A GPU with a part of 0 would get no layer at all.
    parts = [max(1, part) for part in parts]
    common = math.gcd(*parts)
    return ",".join(str(part // common) for part in parts)


def _takes_part(
    size: int, largest: Sequence[int], held: Sequence[int], *, need: int, parts: int
) -> bool:
    """Tell whether one with `size` and the largest others are so many, and hold `need`.

    `held` is what the largest hold together, by how many they are.
    """
    if parts > len(largest) or min(size, largest[parts - 1]) < least_part(need, parts):
        return False
    if size >= largest[parts - 1]:
        return held[parts] >= need
    return held[parts - 1] + size >= need
