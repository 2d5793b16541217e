"""Limits as they are shown and reset: everything but the requests themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from superezio import milliseconds
from superezio.errors import PermissionDeniedError
from superezio.resilience.rate_limiter import Budget, Dimension, Limit, Rate, Scope
from superezio.wire import LimitBudget, LimitList, LimitResetParams, LimitState, SpendWindow
from superezio.wire import LimitParams as NamedParams
from supereziod.observability.events import EventLog
from supereziod.observability.targets import decides_over
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.limit_answers import nothing_of
from supereziod.resilience.limit_beginnings import WHY, beginning
from supereziod.resilience.limit_memory import Remembered
from supereziod.resilience.limit_registry import LimitRegistry, check_key
from supereziod.resilience.limits import RateLimits
from supereziod.resilience.metrics import SeenLimits
from supereziod.resilience.named_limit import NamedLimit
from supereziod.resilience.sharing import Asker
from supereziod.resilience.spend import Calendar, SpendBook

_MS: Final = 1_000_000
#: Of one limit, of which there may be as many as keys.
_SHOWN: Final = 200


class LimitAdministration:
    """What is asked about limits. Loop-owned."""

    def __init__(
        self,
        limits: RateLimits,
        registry: LimitRegistry,
        *,
        book: SpendBook,
        remembered: Remembered,
        events: EventLog,
        event_rate: EventRate,
        currency: str,
        clock: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._registry = registry
        self._book = book
        self._remembered = remembered
        self._events = events
        self._event_rate = event_rate
        self._currency = currency
        self._clock = clock

    def tell_what_is_lost(self) -> None:
        """Say that what limits owed cannot be read, where that is so."""
        if self._remembered.is_lost:
            self._events.emit(
                "limit.state_lost",
                "what the limits had granted cannot be read: each has nothing to begin with, and"
                " caps on money count as reached (`superezioctl limit reset NAME --spend`)",
                severity="warning",
            )
        elif (reason := self._remembered.unknown) is not None:
            sudden = reason == "sudden_end"
            self._events.emit(
                "limit.restarted",
                f"{WHY[reason]}: what was left of the limits is not known. Each begins with"
                " nothing, and grows at its own rate; money that was spent is known.",
                severity="warning" if sudden else "info",
                reason=reason,
            )

    # --- asked ----------------------------------------------------------------------------------

    def peek(
        self, asker: Asker, params: NamedParams, *, session: str, is_admin: bool
    ) -> LimitState:
        """Return one limit, as far as it concerns `asker`; to an admin, all of it.

        With a `uid`, of a shared one what is that user's.
        Raises NotFoundError, PermissionDeniedError or InvalidParamsError.
        """
        check_key(params.key)
        named = self._registry.resolve(asker, params.name, params.uid, is_admin=is_admin)
        apart = _apart(named, params.uid)
        if apart is not None:
            return self._state_of(named, apart, skip=params.skip)
        return self._state(
            named, asker, session=session, key=params.key, is_admin=is_admin, skip=params.skip
        )

    def list(self, asker: Asker, *, session: str, is_admin: bool) -> LimitList:
        """Return the limits that `asker` may see."""
        return LimitList(
            limits=[
                self._state(named, asker, session=session, key=None, is_admin=is_admin)
                for named in self._registry.visible_to(asker, is_admin=is_admin)
            ]
        )

    def of_the_host(self) -> Iterator[LimitState]:
        """Yield the shared limits, as far as they are the whole host's."""
        host = Scope("host")
        for named in self._registry.shared():
            yield self._shown(named, [host] if host.kind in named.rules.scopes else [])

    def seen(self) -> SeenLimits:
        """Return what all limits have together."""
        return SeenLimits(
            self._limits.reservations.granted, self._registry.reservations, self._limits.waiters
        )

    def reset(self, asker: Asker, params: LimitResetParams, *, is_admin: bool) -> bool:
        """Have all of a limit's rates there again, and no block; return whether any was used.

        With `key`, of that key alone; with `uid`, of a shared one what is that user's. With
        `spend`, nothing counts as spent in this day and month either. Raises InvalidParamsError,
        NotFoundError, PermissionDeniedError.
        """
        check_key(params.key)
        named = self._registry.resolve(asker, params.name, params.uid, is_admin=is_admin)
        name, owner = named.owned.name, named.owned.owner
        decides_over(f"limit {name}", owner=owner)
        if owner is None and not is_admin:
            raise PermissionDeniedError(
                f"cannot reset the limit {name}: it is shared, and only an admin can",
                data={"needs": "admin"},
            )
        scopes = _apart(named, params.uid)
        of_uid = None if scopes is None else params.uid
        if params.key is not None:
            scopes = [Scope("key", params.key)]
        count = named.limiter.clear(self._clock(), scopes)
        if params.spend:
            named.forget_spend(scopes, uid=of_uid)
        self._limits.look_again(named)
        besides = {} if owner is None else self._event_rate.take(owner)
        if besides is not None:
            self._events.emit(
                "limit.reset",
                f"the limit {name} was reset",
                uid=owner,
                name=name,
                key=params.key,
                spend=params.spend,
                of_uid=params.uid,
                by_uid=asker.uid,
                **besides,
            )
        return count > 0

    def _state(
        self,
        named: NamedLimit,
        asker: Asker,
        *,
        session: str,
        key: str | None,
        is_admin: bool,
        skip: int = 0,
    ) -> LimitState:
        owner = named.owned.owner
        uid = asker.uid if owner is None else owner
        scopes = dict.fromkeys(named.fixed_scopes(uid, named.groups_of(asker.groups)))
        claimed = {*named.varying_scopes(session, key)}
        scopes |= dict.fromkeys(each for each in named.claimed if is_admin or each in claimed)
        if is_admin:
            scopes |= dict.fromkeys(each.scope for each in named.limiter.budgets())
        return self._state_of(named, list(scopes), skip=skip)

    def _state_of(self, named: NamedLimit, scopes: Sequence[Scope], *, skip: int) -> LimitState:
        limited = [each for each in scopes if each.kind in named.rules.scopes][max(0, skip) :]
        state = self._shown(named, limited[:_SHOWN])
        left_out = max(0, len(limited) - _SHOWN)
        return replace(state, left_out=left_out) if left_out else state

    def _shown(self, named: NamedLimit, shown: Sequence[Scope]) -> LimitState:
        now_ns, owner = self._clock(), named.owned.owner
        budgets = [named.budget(now_ns, scope) for scope in shown]
        return LimitState(
            name=named.owned.name,
            uid=owner,
            shared=owner is None,
            currency=self._currency,
            budgets=[line for budget in budgets for line in _budget_lines(budget, now_ns)],
            spend=[
                line for scope in shown for line in _spend_lines(named, scope, self._book.calendar)
            ],
            reservations=named.reservations(),
            waiters=named.limiter.waiters,
            note=beginning(named, budgets, now_ns),
        )


def _apart(named: NamedLimit, uid: int | None) -> list[Scope] | None:
    """Return what of a shared limit is a user's, None where it is about all of it."""
    if uid is None or named.owned.owner is not None:
        return None
    scopes = named.scopes_of(uid)
    if not scopes and not named.spend_overshoots.has(uid):
        raise nothing_of(named.owned.name, uid)
    return scopes


def _budget_lines(budget: Budget, now_ns: int) -> Iterator[LimitBudget]:
    limit, rates, blocks = budget.limit, budget.rates(), budget.blocks()
    for dimension, rate in _rates_of(limit):
        blocked_ns = max(blocks.get(None, 0), blocks.get(dimension, 0)) - now_ns
        left = max(0, rates[dimension].available(now_ns))
        yield LimitBudget(
            scope=budget.scope.kind,
            scope_name=budget.scope.name,
            dimension=dimension.value,
            available=0 if blocked_ns > 0 else left,
            burst=rate.at_once,
            limit=rate.limit,
            period_ms=rate.period_ns // _MS,
            in_use=None,
            blocked_ms=milliseconds.rounded_up(blocked_ns) if blocked_ns > 0 else None,
        )
    if limit.concurrency is not None:
        blocked_ns = blocks.get(None, 0) - now_ns
        yield LimitBudget(
            scope=budget.scope.kind,
            scope_name=budget.scope.name,
            dimension="concurrency",
            available=0 if blocked_ns > 0 else max(0, limit.concurrency - budget.in_use),
            burst=limit.concurrency,
            limit=None,
            period_ms=None,
            in_use=budget.in_use,
            blocked_ms=milliseconds.rounded_up(blocked_ns) if blocked_ns > 0 else None,
        )


def _rates_of(limit: Limit) -> Iterator[tuple[Dimension, Rate]]:
    for dimension, rate in (
        (Dimension.REQUESTS, limit.requests),
        (Dimension.TOKENS, limit.tokens),
        (Dimension.MONEY, limit.money),
    ):
        if rate is not None:
            yield dimension, rate


def _spend_lines(named: NamedLimit, scope: Scope, calendar: Calendar) -> Iterator[SpendWindow]:
    cap = named.cap(scope)
    if cap is None:
        return
    keys = calendar.keys()
    for kind, most in named.rules.scopes[scope.kind].caps_micros.items():
        window = cap.state().get(kind)
        yield SpendWindow(
            scope=scope.kind,
            scope_name=scope.name,
            window="day" if kind == "day" else "month",
            key=max(keys[kind], window.key) if window is not None else keys[kind],
            spent_micros=cap.spent(kind, keys[kind]),
            cap_micros=most,
        )
