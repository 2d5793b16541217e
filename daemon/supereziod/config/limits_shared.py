"""[limit]: rate limits that programs name, and those that several users share.

A rate is text: so many in so long ("500/1m"). Money is decimal text of the configured currency, and
is counted in millionths of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, field

from superezio.in_short import in_short
from superezio.quantities import parse_duration, parse_money
from superezio.resilience.rate_limiter import Limit as PureLimit
from superezio.resilience.rate_limiter import Rate
from supereziod.config.section import Section, Shared

_AMOUNT: Final = re.compile(r"\d[\d_]*", re.ASCII)
#: For editors: what is surely none is refused, and the rest read by the functions below.
_RATE_TEXT: Final = r"^\s*[0-9][0-9_]*\s*/\s*[0-9]"
_MONEY_TEXT: Final = r"^\s*[0-9.][0-9_.eE+-]*\s*$"
_MONEY_RATE_TEXT: Final = r"^\s*[0-9.][0-9_.eE+-]*\s*/\s*[0-9]"


class LimitScope(Section, frozen=True):
    """The budget of each scope of one kind: what is not set is not limited."""

    requests: Annotated[
        str | None,
        Meta(
            description='Requests, as in "500/1m" ...',
            examples=["500/1m"],
            extra_json_schema={"pattern": _RATE_TEXT},
        ),
    ] = None
    requests_burst: Annotated[
        int | None, Meta(description="... of which so many at once (all of them, if not set).")
    ] = None
    tokens: Annotated[
        str | None,
        Meta(
            description='Tokens, as in "90000/1m" ...',
            examples=["90000/1m"],
            extra_json_schema={"pattern": _RATE_TEXT},
        ),
    ] = None
    tokens_burst: Annotated[int | None, Meta(description="... of which so many at once.")] = None
    money: Annotated[
        str | None,
        Meta(
            description='Money, as in "10.00/1h" ...',
            examples=["10.00/1h"],
            extra_json_schema={"pattern": _MONEY_RATE_TEXT},
        ),
    ] = None
    money_burst: Annotated[
        str | None,
        Meta(
            description='... of which so much at once, as in "2.50".',
            examples=["2.50"],
            extra_json_schema={"pattern": _MONEY_TEXT},
        ),
    ] = None
    concurrency: Annotated[int | None, Meta(description="Requests at a time.")] = None
    money_per_day: Annotated[
        str | None,
        Meta(
            description='Money of a day (UTC), as in "5.00" ...',
            examples=["5.00"],
            extra_json_schema={"pattern": _MONEY_TEXT},
        ),
    ] = None
    money_per_month: Annotated[
        str | None,
        Meta(
            description="... and of a month; it counts over restarts and reboots.",
            examples=["200.00"],
            extra_json_schema={"pattern": _MONEY_TEXT},
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        self.limit(longest_block_ns=1)
        self.caps_micros()

    def limit(self, *, longest_block_ns: int) -> PureLimit:
        """Return it as the limiter takes it."""
        return PureLimit(
            requests=_rate("requests", self.requests, self.requests_burst, _whole),
            tokens=_rate("tokens", self.tokens, self.tokens_burst, _whole),
            money=_rate("money", self.money, _optional_money(self.money_burst), parse_money),
            concurrency=self.concurrency,
            longest_block_ns=longest_block_ns,
        )

    def caps_micros(self) -> dict[str, int]:
        """Return what may be spent in each window that has a cap."""
        caps = {"day": self.money_per_day, "month": self.money_per_month}
        return {
            kind: _positive(f"money_per_{kind}", parse_money(text))
            for kind, text in caps.items()
            if text is not None
        }


class SharedLimit(Shared, frozen=True):
    """A limit of several users: all the budgets that apply to a request have to have room."""

    host: LimitScope | None = None
    group: LimitScope | None = None
    user: LimitScope | None = None
    session: LimitScope | None = None
    key: LimitScope | None = None
    overshoot_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="What one user says it used beyond what it had reserved counts in the"
            " budgets of the host, a group and a key up to this part of a cap (or of a rate's"
            " burst). Who overshoots a cap by more gets nothing of the limit until the day or month"
            " is over. In its own budgets all of it counts.",
        ),
    ] = 0.5


class Limit(Section, frozen=True):
    currency: Annotated[
        str, Meta(description="What amounts of money are counted in, as it is shown.")
    ] = "USD"
    longest_wait_s: Annotated[
        float, Meta(gt=0, description="The longest that a request may wait for a limit.")
    ] = field(default=3600.0, name="wait_maximum")
    longest_block_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400 * 366,
            description="The longest that what a caller reports of the far side (Retry-After, more"
            " used than reserved) keeps others out.",
        ),
    ] = field(default=600.0, name="block_maximum")
    names: Annotated[int, Meta(ge=1, description="Limits that are remembered, in all ...")] = 4096
    names_per_uid: Annotated[int, Meta(ge=1, description="... and of one user.")] = 256
    forget_after_s: Annotated[
        float,
        Meta(
            gt=0,
            description="After so long without use a limit of one user's own is forgotten, once it"
            " owes nothing: its rates are to be given anew.",
        ),
    ] = field(default=86_400.0, name="forget_after")
    reservations_per_uid: Annotated[
        int,
        Meta(
            ge=1,
            description="Reservations of one user that are not settled and keep no slot ...",
        ),
    ] = 20_000
    reservations_per_connection: Annotated[
        int,
        Meta(
            ge=1,
            description="... and of one connection. With more, the oldest is settled as it was"
            " reserved (of those with money under a cap, only where there is no other): what it"
            " took stays taken.",
        ),
    ] = 4096
    slot_reservations_per_uid: Annotated[
        int, Meta(ge=1, description="Reservations of one user that keep slots ...")
    ] = 20_000
    slot_reservations_per_connection: Annotated[
        int,
        Meta(
            ge=1,
            description="... and of one connection. With more, a further one is refused (busy):"
            " each is to be settled when its request has ended.",
        ),
    ] = 4096
    waiters: Annotated[int, Meta(ge=1, description="Requests that wait, in all ...")] = 20_000
    waiters_per_uid: Annotated[int, Meta(ge=1, description="... and of one user.")] = 1000
    keys: Annotated[
        int, Meta(ge=1, description="Keys and sessions with a budget of their own, in all ...")
    ] = 20_000
    keys_per_uid: Annotated[int, Meta(ge=1, description="... and of one user.")] = 2000
    shared: dict[str, SharedLimit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what would stand nowhere."""
        if not (self.currency.isalnum() and len(self.currency) <= 12):  # noqa: PLR2004 - a name
            raise ValueError("currency has to be up to 12 letters, such as USD")


def _rate(
    key: str, text: str | None, burst: int | None, amount: Callable[[str], int]
) -> Rate | None:
    if text is None:
        if burst is not None:
            raise ValueError(f"{key}_burst needs {key}")
        return None
    many, slash, long = text.partition("/")
    if not slash:
        raise ValueError(
            f'{key} has to be so many in so long, as in "500/1m", not {in_short(text)}'
        )
    try:
        return Rate(
            limit=amount(many.strip()),
            period_ns=round(parse_duration(long) * 1e9),
            burst=0 if burst is None else _positive("burst", burst),
        )
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _whole(text: str) -> int:
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"cannot read {in_short(text)} as a whole number")
    return int(text)


def _optional_money(text: str | None) -> int | None:
    return None if text is None else parse_money(text)


def _positive(key: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{key} has to be more than nothing")
    return value
