"""What happens to a request while it is worked on, noted where it happens.

    mark("queued")                             # a moment, for the request that the code works for
    mark("granted", lease=id, gpus=[uuid])     # with what it turned out to be about
    count_use("leases")                        # one more that its session has used

Outside a request, and in one that is answered at once, nobody keeps these: they do nothing then.
A mark in a loop is no good: a timeline has room for a few dozen.
"""

from __future__ import annotations

from collections.abc import Sequence

from supereziod.observability.correlation import current_scope
from supereziod.observability.timeline import MAX_GPUS


def mark(name: str, *, lease: str | None = None, gpus: Sequence[str] = ()) -> None:
    """Note that something happened now to the request that the running code works for.

    `lease` and `gpus` (UUIDs) are what it turned out to be about.
    """
    scope = current_scope.get()
    timeline = scope.timeline if scope is not None else None
    if timeline is not None:
        timeline.mark(name)
        if lease is not None:
            timeline.lease = lease
        if gpus:
            timeline.gpus = tuple(gpus)[:MAX_GPUS]


def count_use(what: str, count: int = 1) -> None:
    """Count what the session of the request has used, as in `leases` or `permits`."""
    scope = current_scope.get()
    timeline = scope.timeline if scope is not None else None
    if timeline is not None:
        timeline.use(what, count)
