"""What happens to a request while it is worked on, noted where it happens.

    mark("queued")                             # a moment, for the request that the code works for
    mark("granted", lease=id, gpus=[uuid])     # with what it turned out to be about
    mark("limited", "tokens of host")          # and with more to be read
    count_use("leases")                        # one more that its session has used

Outside a request, and in one of a hot method that is answered at once, nobody keeps these: they do
nothing then. What such a one came to is said by `RequestContext.came_to`.
A mark in a loop is no good: a timeline has room for a few dozen.
"""

from __future__ import annotations

from collections.abc import Sequence

from supereziod.observability.correlation import current_scope
from supereziod.observability.timeline import MAX_GPUS


def mark(
    name: str, detail: str = "", *, lease: str | None = None, gpus: Sequence[str] = ()
) -> None:
    """Note that something happened now to the request that the running code works for.

    `name` is one word, and `detail` a few more. `lease` and `gpus` (UUIDs) are what the request
    turned out to be about.
    """
    scope = current_scope.get()
    timeline = scope.timeline if scope is not None else None
    if timeline is not None:
        timeline.mark(name, detail)
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
