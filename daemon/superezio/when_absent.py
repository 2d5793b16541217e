"""What a guarded call does where the daemon is not there: a word that the caller chooses."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from superezio.quantities import parse_duration
from superezio.traceparent import parse_traceparent

#: closed: it is not made, and the caller gets DaemonNotRunningError or the like. open: it is made,
#: unguarded. local: it is guarded by a breaker, a limit and a cache of this client alone.
WhenAbsent = Literal["closed", "open", "local"]

_WORDS: Final = get_args(WhenAbsent)


def checked(when_absent: WhenAbsent) -> WhenAbsent:
    """Return it, or raise ValueError: a typo must not choose for the caller."""
    if when_absent not in _WORDS:
        raise ValueError(f"when_absent is {when_absent!r}: it has to be one of {', '.join(_WORDS)}")
    return when_absent


class Manner(NamedTuple):
    """What one guarded call says of that, its time limit and the trace that it is a part of.

    None is as the client does.
    """

    when_absent: WhenAbsent | None
    timeout_s: float | None
    traceparent: str | None

    @classmethod
    def of(
        cls, when_absent: WhenAbsent | None, timeout_s: float | str | None, traceparent: str | None
    ) -> Manner:
        """Raises ValueError for a traceparent that is none: nobody would find the call by it."""
        if traceparent is not None and parse_traceparent(traceparent) is None:
            raise ValueError(
                f"{traceparent!r} is no traceparent: it is like"
                " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            )
        limit_s = parse_duration(timeout_s) if isinstance(timeout_s, str) else timeout_s
        return cls(when_absent, limit_s, traceparent)
