"""The circuit breakers of this host: one for each name, which all who may use the name share.

The state machine is `superezio.resilience.circuit_breaker`; `breaker_book` has what is there, and
who holds what of it, `breaker_register` what a name means. Here are the calls. A permit is settled
over the connection that it was given to, and over no other; what a user does changes that user's
own breakers, and shared ones as far as the configuration lets it. To ask without rules leaves the
breaker as it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, Protocol, get_args

import msgspec

from superezio import milliseconds, wire
from superezio.errors import (
    BreakerOpenError,
    InvalidParamsError,
)
from superezio.quantities import format_duration
from superezio.resilience.breaker_answers import (
    BreakerState,
    Effect,
    Outcome,
    Rejection,
    Transition,
)
from superezio.wire import CallOutcome
from supereziod.resilience.breaker_administration import BreakerAdministration
from supereziod.resilience.breaker_book import BreakerBook
from supereziod.resilience.breaker_events import BreakerEvents, Emitter
from supereziod.resilience.breaker_register import BreakerRegister
from supereziod.resilience.breaker_settings import BreakerSettings
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.kept_breaker import KeptBreaker
from supereziod.resilience.permit_holders import Holder
from supereziod.resilience.sharing import Asker

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
#: Those turned away come back a little apart: by up to a tenth of their wait, and at most this.
_SPREAD: Final = 0.1
_MOST_SPREAD_NS: Final = _SECOND
_OUTCOMES: Final[dict[CallOutcome, Outcome]] = {
    "success": "success",
    "failure": "failure",
    "ignore": "ignore",
    "throttled": "ignore",
}
#: What the flight record has of a settle.
_SETTLED: Final[dict[CallOutcome, str]] = {
    "success": "settled success",
    "failure": "settled failure",
    "ignore": "settled ignore",
    "throttled": "settled throttled",
}

_encode = msgspec.json.Encoder().encode
_join = b"".join
#: The answers to a settle, by its effect and the state of the breaker.
_SETTLEMENTS: Final[dict[Effect, dict[BreakerState, bytes]]] = {
    effect: {
        state: _encode(wire.BreakerSettlement(effect=effect, state=state))
        for state in get_args(BreakerState)
    }
    for effect in get_args(Effect)
}


class Connection(Protocol):
    """Where a call is asked for: it holds the permit."""

    @property
    def id(self) -> str: ...
    @property
    def peer(self) -> Asker: ...


class Session(Protocol):
    """What a request counts for."""

    #: Permits that were asked for in it.
    permits: int


class Request(Protocol):
    """What asks for leave to call, or tells how the call ended: read at once, and not kept.

    `came_to` is told what one that is answered at once has come to.
    """

    came_to: str | None

    @property
    def origin(self) -> Connection: ...
    @property
    def session(self) -> Session: ...
    @property
    def meta(self) -> wire.Meta | None: ...
    @property
    def number(self) -> int: ...
    @property
    def correlation_id(self) -> str: ...


class Breakers:
    """All breakers. Loop-owned; `clock` is monotonic, and `spread` random from 0 up to 1.

    Its methods raise, besides what they say: InvalidParamsError for what is no name, and
    PermissionDeniedError for one that is shared by others.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        *,
        events: Emitter,
        boot_id: str,
        clock: Callable[[], int] = time.monotonic_ns,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._spread = spread
        self._book = BreakerBook(
            settings.limits,
            events=BreakerEvents(events, rate=EventRate(clock=clock)),
            boot_id=boot_id,
            clock=clock,
        )
        self._holder = self._book.holders.get
        self._register = BreakerRegister(settings, self._book, clock=clock)
        self._find = self._register.names.find
        self.set_settings = self._register.set_settings
        administration = BreakerAdministration(self._register, self._book, clock=clock)
        self.get = administration.get
        self.list = administration.list
        self.seen = administration.seen
        self.force_open = administration.force_open
        self.disable = administration.disable
        self.reset = administration.reset

    def close(self) -> None:
        """Stop the timer."""
        self._book.close()

    # --- calls ----------------------------------------------------------------------------------

    def acquire(self, request: Request, params: wire.BreakerAcquireParams) -> bytes:
        """Ask for leave to call; return the answer that hands out a permit.

        `rules` are for a breaker of one's own: what they leave open is as configured. Raises
        BreakerOpenError, BusyError where the caller has as much as one may, and InvalidParamsError
        that names the rule at fault.
        """
        now_ns = self._clock()
        origin, rules = request.origin, params.rules
        holder = self._holder(origin.id)
        kept = None if holder is None else holder.ways.get(params.name)
        if (
            holder is None
            or kept is None
            or kept.is_gone
            or (rules is not None and _are_others(rules, kept))
        ):
            kept, holder = self._find_way(origin, params.name, rules, now_ns)
        book, breaker = self._book, kept.breaker
        if now_ns >= kept.due_ns:
            book.expire(kept, now_ns)
        limits = book.limits
        if (
            holder.permits >= limits.permits_per_connection
            or holder.user.permits >= limits.permits_per_uid
        ):
            raise book.too_many_permits(holder)
        # The id of most requests is made from this, for those few that cause something.
        cause = (origin.id, request.number) if request.meta is None else request.correlation_id
        answer = breaker.acquire(now_ns, holder, cause)
        book.touch(kept, now_ns)
        if isinstance(answer, Rejection):
            kept.rejected += 1
            if answer.transitions:
                book.moved(kept, answer.transitions, now_ns, by=holder.user.uid)
            raise self._rejection(kept, answer)
        holder.take(kept)
        request.came_to = "permit"
        request.session.permits += 1
        if answer.transitions or now_ns + breaker.rules.permit_ttl_ns < kept.due_ns:
            book.moved(kept, answer.transitions, now_ns, by=holder.user.uid)
        return _join((kept.answer_head, _encode(answer.id), kept.answer_tail()))

    def settle(self, request: Request, params: wire.BreakerSettleParams) -> bytes:
        """Tell how a call ended. A permit that this connection does not hold is unknown.

        throttled is no failure: it opens the breaker for `retry_after_ms`, capped by its rules,
        and never for less than it is open already.
        """
        outcome, retry_after_ms = params.outcome, params.retry_after_ms
        if retry_after_ms is not None and outcome != "throttled":
            raise InvalidParamsError("retry_after_ms goes with the outcome throttled alone")
        now_ns = self._clock()
        holder = self._holder(request.origin.id)
        kept = None if holder is None else holder.ways.get(params.name)
        if kept is None or kept.is_gone:
            kept = self._book.get(self._find(params.name, request.origin.peer))
            if kept is None:
                return _SETTLEMENTS["unknown"]["closed"]
        book, breaker = self._book, kept.breaker
        if now_ns >= kept.due_ns:
            book.expire(kept, now_ns)
        if holder is None:
            return _SETTLEMENTS["unknown"][breaker.state]
        if kept.reports is not None:
            kept.reports.take(holder, outcome, breaker, params.permit, now_ns)
        settlement = breaker.settle(params.permit, _OUTCOMES[outcome], now_ns, holder)
        if settlement.effect == "unknown":
            return _SETTLEMENTS["unknown"][breaker.state]
        holder.give_back(kept)
        request.came_to = _SETTLED[outcome]
        moved = settlement.transitions
        if outcome == "throttled":
            moved += self._block(kept, retry_after_ms, request.correlation_id, now_ns)
        book.touch(kept, now_ns)
        if moved:
            book.moved(kept, moved, now_ns, by=holder.user.uid)
        return _SETTLEMENTS[settlement.effect][breaker.state]

    def _block(
        self, kept: KeptBreaker, retry_after_ms: int | None, correlation_id: str, now_ns: int
    ) -> tuple[Transition, ...]:
        """Take in a 429, also of a call of an earlier generation.

        Of many calls that are told so, the first one opens the breaker, and another may have been
        told to wait for longer.
        """
        breaker = kept.breaker
        wait_ns = None if retry_after_ms is None else retry_after_ms * _MILLISECOND
        before_ns = breaker.retry_after_ns(now_ns)
        moved = breaker.block(now_ns, wait_ns, correlation_id=correlation_id)
        if not moved and breaker.state == "open":
            self._book.mark(kept)
            self._book.prolonged(breaker.retry_after_ns(now_ns) - before_ns)
        return moved

    def _find_way(
        self, origin: Connection, name: str, rules: wire.BreakerRules | None, now_ns: int
    ) -> tuple[KeptBreaker, Holder[KeptBreaker]]:
        """Return the breaker that is meant, made where there was none, and who asks for it."""
        owned = self._find(name, origin.peer)
        kept = self._book.get(owned)
        if kept is None:
            kept = self._register.make(owned, rules, now_ns)
        elif rules is not None and _are_others(rules, kept):
            self._register.give_rules(kept, rules, now_ns)
        kept.called = True
        holder = self._book.holders.of(origin.id, origin.peer.uid)
        holder.remember(name, kept)
        return kept, holder

    def connection_closed(self, connection: str) -> None:
        """Take back what a connection held: those calls say nothing of the service."""
        self._book.return_all(connection)

    # --- over a restart -------------------------------------------------------------------------

    def load(self, body: bytes | None) -> None:
        """Go on from what a `snapshot` says, before anything has been asked."""
        if body is not None:
            self._book.load(body, self._register.rules_of)

    def when_urgent(self, keep_soon: Callable[[], None]) -> None:
        """Have `keep_soon` called when a `snapshot` must not wait: before the cause is answered.

        That is for a breaker that opens for more than a moment, and for what somebody orders.
        """
        self._book.keep_soon = keep_soon

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return what is to be found again after a restart; None where nothing has changed."""
        return self._book.snapshot(final=final)

    def _rejection(self, kept: KeptBreaker, rejection: Rejection) -> BreakerOpenError:
        wait_ns = rejection.retry_after_ns
        # Told without the spread, which would make it jump from one answer to the next.
        told_s = -(-wait_ns // _SECOND)
        wait_ns += int(min(wait_ns * _SPREAD, _MOST_SPREAD_NS) * self._spread())
        wait_ms = milliseconds.rounded_up(wait_ns)
        name, state = kept.owned.name, rejection.state
        said = (
            f"is {state.replace('_', '-')} and lets no call through now: ask again in"
            f" {format_duration(told_s)}"
        )
        if state == "forced_open":
            said = (
                "is held open and lets no call through until somebody closes it"
                f" (superezioctl breaker close {name})"
            )
        return BreakerOpenError(
            f"the breaker {name} {said}",
            retry_after_ms=wait_ms,
            data={"name": name, "state": state},
        )


def _are_others(rules: wire.BreakerRules, kept: KeptBreaker) -> bool:
    """Whether a caller asks for other rules than before, of a breaker that is its own."""
    return rules != kept.given and kept.user is not None
