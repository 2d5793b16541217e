"""What a namespace of the cache counts, and what it holds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: Why an entry went: its time was over, its namespace's quota or the total was full, it was
#: deleted, or its key got another value.
Cause = Literal["expired", "quota", "total", "deleted", "replaced"]


class Counters(Struct):
    """What happened in a namespace. Each get is a hit, a stale_served or a miss.

    `coalesced` are the misses that joined a fill. Of the fills, `stored` were kept, `too_large`
    and `outdated` ones reached who waited alone, `failed` ones were reported as errors, and
    `passed_on` says how often a waiter took over. `stale_on_error` counts the old values given
    in place of an error.
    """

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    refused: int = 0
    stale_served: int = 0
    stale_on_error: int = 0
    stored: int = 0
    too_large: int = 0
    outdated: int = 0
    failed: int = 0
    passed_on: int = 0
    timed_out: int = 0
    expired: int = 0
    quota: int = 0
    total: int = 0
    deleted: int = 0
    replaced: int = 0

    def add(self, other: Counters) -> None:
        """Count what another has counted."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Usage(Struct, frozen=True):
    """What a namespace, or all of them, hold at a moment, the expired not yet gone included.

    All together hold what was cleared and is not yet gone, too; its namespace does not.
    """

    used_bytes: int
    entries: int
    fills: int
    waiting: int
