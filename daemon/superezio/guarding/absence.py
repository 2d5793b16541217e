"""Whether the daemon is there, and what a guarded call does where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    ReplyTimeoutError,
    ShuttingDownError,
)

T = TypeVar("T")

#: Who answered: what it handed out is given back to it, and to nobody else.
Side = Literal["daemon", "local", "nobody"]

#: How a daemon that is not there shows.
ABSENT: Final = (
    DaemonNotRunningError,
    ConnectionLostError,
    ShuttingDownError,
    ReplyTimeoutError,
)

#: How long a call that can do without the daemon lets it take for an answer, besides what it may
#: take on purpose.
FIND_OUT_S: Final = 2.0

_LOOK_AGAIN_NS: Final = 1_000_000_000


class Answer(NamedTuple, Generic[T]):
    """An answer, and who gave it. There is none from nobody."""

    result: T | None
    side: Side


class Absence:
    """Remembers for a second that the daemon was not there, so that not each call finds out."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._until_ns: int | None = None

    def known(self) -> bool:
        """Whether it was not there a moment ago."""
        return self._until_ns is not None and self._clock() < self._until_ns

    def note(self) -> None:
        """Take in that it is not there."""
        self._until_ns = self._clock() + _LOOK_AGAIN_NS
