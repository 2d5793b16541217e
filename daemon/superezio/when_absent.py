"""What a guarded call does where the daemon is not there: a word that the caller chooses."""

from __future__ import annotations

from typing import Final, Literal, get_args

#: closed: it is not made, and the caller gets DaemonNotRunningError or the like. open: it is made,
#: unguarded. local: it is guarded by a breaker, a limit and a cache of this client alone.
WhenAbsent = Literal["closed", "open", "local"]

_WORDS: Final = get_args(WhenAbsent)


def checked(when_absent: WhenAbsent) -> WhenAbsent:
    """Return it, or raise ValueError: a typo must not choose for the caller."""
    if when_absent not in _WORDS:
        raise ValueError(f"when_absent is {when_absent!r}: it has to be one of {', '.join(_WORDS)}")
    return when_absent
