"""All who are timed."""

from __future__ import annotations

from typing import Final

from bench.resilience import breakers, caches, limiters
from bench.resilience.contest import Caller, Contestant

_FAMILIES: Final = (breakers, limiters, caches)

IN_PROCESS: Final[tuple[Contestant, ...]] = tuple(
    each for family in _FAMILIES for each in family.IN_PROCESS
)
OVER_SOCKETS: Final[tuple[Caller, ...]] = tuple(
    each for family in _FAMILIES for each in family.OVER_SOCKETS
)
