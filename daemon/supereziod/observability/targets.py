"""What a request decides over, and whose that is: noted where it is found, for the audit record."""

from __future__ import annotations

from msgspec import Struct

from supereziod.observability.correlation import current_scope


class Target(Struct, frozen=True):
    """A thing in words, as in `lease 3f2a`, and the user it belongs to; None: it is shared."""

    what: str
    owner: int | None


def decides_over(what: str, *, owner: int | None) -> None:
    """Note what the request that the running code works for is about to change, or is refused.

    Outside a request nobody keeps it.
    """
    scope = current_scope.get()
    timeline = scope.timeline if scope is not None else None
    if timeline is not None:
        timeline.target = Target(what, owner)
