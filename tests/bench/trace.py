"""A seeded trace of jobs: when each comes, what it needs, how long it lasts, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

GIB = 1 << 30

#: What jobs ask for in GiB, and how often: small ones are many, a few need a large card.
SIZES = {1: 10, 2: 14, 3: 10, 4: 16, 5: 10, 6: 8, 7: 8, 8: 8, 10: 6, 11: 4, 16: 3, 20: 2, 23: 1}
MEAN_DURATION_S = 900.0
MEAN_PATIENCE_S = 3600.0
#: Of all jobs: on two GPUs each, one amount over as few as hold it, and ended by their death.
ON_TWO, SPLIT, DIE = 0.06, 0.06, 0.2


class Card(NamedTuple):
    """A GPU of the host."""

    name: str
    gib: int


@dataclass(frozen=True)
class Job:
    """One job. It uses `used_part` of what it reserves.

    One that dies has lived for `lasts_s` too, and the driver shows its VRAM as used for `late_s`
    after that.
    """

    number: int
    arrives_s: float
    vram_bytes: int
    count: int
    split: bool
    lasts_s: float
    patience_s: float
    used_part: float
    late_s: float


HOSTS: dict[str, tuple[Card, ...]] = {
    "two GPUs (12 + 6 GiB)": (Card("RTX 3060", 12), Card("RTX 2060", 6)),
    "eight GPUs (2 x 24, 3 x 12, 2 x 8, 6 GiB)": (
        *(Card("RTX 3060", 12), Card("RTX 3090", 24), Card("RTX 2060", 6), Card("RTX 3060", 12)),
        *(Card("RTX 2070", 8), Card("RTX 3090", 24), Card("RTX 2070", 8), Card("RTX 3060", 12)),
    ),
}


def trace(cards: Sequence[Card], *, jobs: int, load: float, seed: int) -> list[Job]:
    """Return jobs that offer the host `load` times the VRAM-seconds it has. The same each time.

    Nothing is asked that the largest card could never hold: that is refused whatever is chosen.
    """
    largest = max(card.gib for card in cards)
    sizes = {size: weight for size, weight in SIZES.items() if size < largest}
    mean_gib = sum(size * weight for size, weight in sizes.items()) / sum(sizes.values())
    mean_gib *= 1 + ON_TWO
    every_s = mean_gib * MEAN_DURATION_S / (load * sum(card.gib for card in cards))
    return list(_jobs(random.Random(seed), sizes, count=jobs, every_s=every_s))


def _jobs(
    random: random.Random, sizes: dict[int, int], *, count: int, every_s: float
) -> Iterator[Job]:
    now_s = 0.0
    for number in range(count):
        now_s += random.expovariate(1 / every_s)
        (gib,) = random.choices(list(sizes), weights=list(sizes.values()))
        kind = random.random()
        yield Job(
            number=number,
            arrives_s=now_s,
            # No two estimates are alike, and few are round.
            vram_bytes=round((gib - random.random() * 0.5) * GIB),
            count=2 if kind < ON_TWO else 1,
            split=ON_TWO <= kind < ON_TWO + SPLIT,
            lasts_s=random.lognormvariate(0, 1) * MEAN_DURATION_S / 1.6487,
            patience_s=random.expovariate(1 / MEAN_PATIENCE_S),
            used_part=random.uniform(0.6, 1.0),
            late_s=random.uniform(0.1, 4.0) if random.random() < DIE else 0.0,
        )
