"""What a limit is: its dimensions, its scope, its rates, and how a refusal is told.

Amounts are whole numbers: requests, tokens, slots, and money in millionths of a currency. Times
are nanoseconds of the caller's monotonic clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from superezio.quantities import format_money

SECOND_NS: Final = 1_000_000_000
_LONGEST_PERIOD_NS: Final = 366 * 86_400 * SECOND_NS
#: The most of anything that a JSON reader everywhere reads as it was written.
_MOST: Final = 2**53


class Dimension(StrEnum):
    """What of a request is limited."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    MONEY = "money"
    CONCURRENCY = "concurrency"


#: In the order of the members of `Cost`.
DIMENSIONS: Final = tuple(Dimension)
CONCURRENCY: Final = DIMENSIONS.index(Dimension.CONCURRENCY)


class Cost(NamedTuple):
    """What a request takes of each dimension. One that it does not name is 0."""

    requests: int = 1
    tokens: int = 0
    money_micros: int = 0
    concurrency: int = 0


class Scope(Struct, frozen=True):
    """To whom a limit applies: all of the host, or the one of a kind with that name."""

    kind: Literal["host", "group", "user", "session", "key"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


class Rate(Struct, frozen=True, kw_only=True):
    """`limit` units a `period_ns`, of which `burst` may come at once: all of them unless said."""

    limit: int
    period_ns: int = SECOND_NS
    burst: int = 0

    def __post_init__(self) -> None:
        _within("limit", self.limit, _MOST)
        _within("period_ns", self.period_ns, _LONGEST_PERIOD_NS)
        if self.burst:
            _within("burst", self.burst, _MOST)

    @property
    def at_once(self) -> int:
        """The burst that applies."""
        return self.burst or self.limit


class Limit(Struct, frozen=True, kw_only=True):
    """The limit of one scope. A dimension that is None is not limited there.

    `concurrency` is a number of slots. When one will be free is not known, so who finds none is
    told to ask again after `slot_retry_ns`. What the far side reports blocks no longer than
    `longest_block_ns` from when it is heard.
    """

    requests: Rate | None = None
    tokens: Rate | None = None
    money: Rate | None = None
    concurrency: int | None = None
    slot_retry_ns: int = SECOND_NS
    longest_block_ns: int = 600 * SECOND_NS

    def __post_init__(self) -> None:
        if self.concurrency is not None:
            _within("concurrency", self.concurrency, _MOST)
        _within("slot_retry_ns", self.slot_retry_ns, _LONGEST_PERIOD_NS)
        _within("longest_block_ns", self.longest_block_ns, _LONGEST_PERIOD_NS)


class Rejection(Struct, frozen=True, kw_only=True):
    """Nothing was taken: what is short, for whom, and after how long to ask again.

    `blocked` says that the far side asked for it. Of several shortages it is the longest, so that
    who waits for `retry_after_ns`, and is passed by nobody, is not refused for another one.
    """

    dimension: Dimension
    scope: Scope
    retry_after_ns: int
    blocked: bool = False


def whom(scope: Scope) -> str:
    """Return for people to whom a limit applies; users by `uid`, for which others put a name."""
    if scope.kind == "host":
        return "the whole host"
    return f"uid {scope.name}" if scope.kind == "user" and scope.name.isdecimal() else str(scope)


def never_words(
    dimension: Dimension, scope: Scope, *, cost: int, burst: int, currency: str = ""
) -> str:
    """Return for people what is too much, for whom, and what helps."""
    who = whom(scope)
    if dimension is Dimension.MONEY:
        costs, most = format_money(cost, currency), format_money(burst, currency)
        return (
            f"it may cost {costs}, and {who} may spend {most} at once: reserve less, or raise the"
            " burst of money"
        )
    noun = "slots" if dimension is Dimension.CONCURRENCY else str(dimension)
    asked = f"it asks for {cost} {noun}, and {who}"
    if dimension is Dimension.CONCURRENCY:
        return f"{asked} has {burst} in all: ask for fewer, or raise concurrency"
    return f"{asked} may take {burst} at once: ask for fewer, or raise the burst of {noun}"


class NeverPassesError(ValueError):
    """More than the burst, or than there are slots: waiting is pointless."""

    def __init__(self, dimension: Dimension, scope: Scope, *, cost: int, burst: int) -> None:
        super().__init__(never_words(dimension, scope, cost=cost, burst=burst))
        self.dimension = dimension
        self.scope = scope
        self.cost = cost
        self.burst = burst


class LimiterFullError(Exception):
    """There are too many open reservations, or waiters: settle some first."""


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{name} has to be from 1 to {most}, not {value}")
