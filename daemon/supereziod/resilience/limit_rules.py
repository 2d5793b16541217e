"""What a named limit consists of, as the service is given it: budgets by scope, and bounds."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from superezio.errors import InvalidParamsError
from superezio.limit_rates import limit_of
from superezio.resilience.rate_limiter import Limit
from superezio.wire import LimitRates

ScopeKind = Literal["host", "group", "user", "session", "key"]
#: From the widest to the narrowest: the order of the budgets of a request.
SCOPE_KINDS: Final[tuple[ScopeKind, ...]] = ("host", "group", "user", "session", "key")


class ScopeRules(Struct, frozen=True, kw_only=True):
    """What each scope of one kind has: its limit, and its caps on money by kind of window."""

    limit: Limit
    caps_micros: dict[str, int] = {}


class LimitRules(Struct, frozen=True, kw_only=True):
    """The budgets of one limit. `group_names` are the groups that have one each, by their id.

    `overshoot_share` is what counts, in budgets that several users have, of what one of them says
    it used beyond what it had reserved: so many millionths of a cap, or of a burst.
    """

    scopes: dict[ScopeKind, ScopeRules]
    group_names: dict[int, str] = {}
    overshoot_share: int = 500_000


class LimitBounds(Struct, frozen=True, kw_only=True):
    """How much may be remembered: in all, of one user, of one connection.

    `longest_block_ns` is how long a caller's word may keep others out. A limit of one's own is
    forgotten that nobody has used for `forget_after_ns`.
    """

    names: int = 4096
    names_per_uid: int = 256
    reservations_per_uid: int = 20_000
    reservations_per_connection: int = 4096
    slot_reservations_per_uid: int = 20_000
    slot_reservations_per_connection: int = 4096
    waiters: int = 20_000
    waiters_per_uid: int = 1000
    keys: int = 20_000
    keys_per_uid: int = 2000
    longest_wait_ns: int = 3600 * 10**9
    longest_block_ns: int = 600 * 10**9
    forget_after_ns: int = 86_400 * 10**9


def private_rules(rates: LimitRates, *, longest_block_ns: int) -> LimitRules:
    """Return the rules of a limit of one user's own. Raises InvalidParamsError."""
    try:
        limit = limit_of(rates, longest_block_ns=longest_block_ns)
    except ValueError as error:
        raise InvalidParamsError(str(error)) from None
    return LimitRules(scopes={"user": ScopeRules(limit=limit)})
