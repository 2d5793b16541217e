"""What a cache answers: to the caller at once, and to those that wait when there is something."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgspec import Struct

#: Whoever leads or waits, by a key that the cache only compares: a connection, a task.
Holder = Hashable


class Value(Struct, frozen=True, gc=False):
    """What is cached: bytes, or a text as UTF-8, so that it takes the bytes that it counts."""

    data: bytes
    is_text: bool = False

    @classmethod
    def of(cls, content: bytes | str) -> Value:
        """Return the content as a value.

        Raises UnicodeEncodeError (a ValueError) for a text that is no valid Unicode.
        """
        if isinstance(content, str):
            return cls(content.encode(), is_text=True)
        return cls(content)

    @property
    def content(self) -> bytes | str:
        """The bytes or the text that was stored."""
        return self.data.decode() if self.is_text else self.data


class Token(Struct, frozen=True):
    """The right and the duty to fill a key, once, before `deadline_ns`, for its holder alone."""

    namespace: str
    key: str
    generation: int
    deadline_ns: int


class Hit(Struct, frozen=True):
    """A fresh value, stored `age_ns` ago."""

    value: Value
    age_ns: int


class Stale(Struct, frozen=True):
    """A value past its time to live: the one caller that also gets a token refreshes it."""

    value: Value
    age_ns: int
    token: Token | None = None


class Lead(Struct, frozen=True):
    """There is no value: fetch it, and give it to those that wait with this token."""

    token: Token


class Join(Struct, frozen=True):
    """Another caller fetches the value: an outcome with this number comes by `deadline_ns`."""

    waiter: int
    deadline_ns: int


class Refused(Struct, frozen=True):
    """There is no value, and too many fills are under way: fetch it without the cache."""


class Filled(Struct, frozen=True):
    """The value that was waited for."""

    value: Value


class Failed(Struct, frozen=True):
    """The error that the leader reported, as it gave it."""

    error: object


class TimedOut(Struct, frozen=True):
    """The waiter's own deadline has come."""


Answer = Hit | Stale | Lead | Join | Refused


class Outcome(Struct, frozen=True):
    """How a wait ended: the only answer that this waiter gets."""

    waiter: int
    holder: Holder
    answer: Filled | Stale | Failed | Lead | TimedOut


class Settled(Struct, frozen=True):
    """What came of a leader's word, and of a value that is set.

    It is not `accepted` where the token is another's, was used before, or came too late.
    `stale` is for a leader that failed: the old value, where it may still be served. What is
    `outdated` was invalidated since the lead began, and what is else not `stored` is too large.
    """

    accepted: bool
    stored: bool = False
    stale: Stale | None = None
    outcomes: Sequence[Outcome] = ()
    outdated: bool = False
