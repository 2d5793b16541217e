"""The circuit breakers of this host: one for each name, which all who may use the name share.

The state machine is `superezio.resilience.circuit_breaker`; `breaker_book` has what is there, and
who holds what of it. Here is who may do what. A permit is settled over the connection that it was
given to, and over no other; what a user does changes that user's own breakers, and shared ones as
far as the configuration lets it.

Other rules for a breaker, from a caller or a reload, count at once and lose nothing; a half-open
one decides by those it began with (`CircuitBreaker.set_rules`). To ask without rules leaves the
breaker as it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol, get_args

import msgspec

from superezio import wire
from superezio.errors import (
    BreakerOpenError,
    InvalidParamsError,
    NotFoundError,
    PermissionDeniedError,
)
from superezio.resilience.breaker_answers import (
    BreakerState,
    Effect,
    Outcome,
    Rejection,
    Transition,
)
from superezio.resilience.breaker_rules import BreakerRules
from superezio.wire import CallOutcome
from supereziod.resilience.breaker_book import BreakerBook, KeptBreaker
from supereziod.resilience.breaker_events import BreakerEvents, Emitter
from supereziod.resilience.breaker_settings import BreakerSettings, on_wire, own_rules
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.metrics import SeenBreaker
from supereziod.resilience.permit_holders import Holder
from supereziod.resilience.sharing import Asker, Owned, SharedNames, is_name

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


class Who(NamedTuple):
    """Who asks what is no call: to look, or to decide over the breaker."""

    asker: Asker
    is_admin: bool


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
        self._settings = settings
        self._clock = clock
        self._spread = spread
        self._names = SharedNames("breaker", settings.audiences)
        self._book = BreakerBook(
            settings.limits,
            events=BreakerEvents(events, rate=EventRate(clock=clock)),
            boot_id=boot_id,
            clock=clock,
        )
        self._holder = self._book.holders.get
        self._make_shared(clock())

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
                book.moved(kept, answer.transitions, now_ns)
            raise self._rejection(kept, answer)
        holder.take(kept)
        request.came_to = "permit"
        request.session.permits += 1
        if answer.transitions or now_ns + breaker.rules.permit_ttl_ns < kept.due_ns:
            book.moved(kept, answer.transitions, now_ns)
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
            kept = self._book.get(self._names.find(params.name, request.origin.peer))
            if kept is None:
                return _SETTLEMENTS["unknown"]["closed"]
        book, breaker = self._book, kept.breaker
        if now_ns >= kept.due_ns:
            book.expire(kept, now_ns)
        if holder is None:
            return _SETTLEMENTS["unknown"][breaker.state]
        settlement = breaker.settle(params.permit, _OUTCOMES[outcome], now_ns, holder)
        if settlement.effect == "unknown":
            return _SETTLEMENTS["unknown"][breaker.state]
        holder.give_back(kept)
        request.came_to = _SETTLED[outcome]
        moved = settlement.transitions
        if outcome == "throttled":
            # Of an earlier generation, too: of many calls that are told so, the first one opens
            # the breaker, and another may have been told to wait for longer.
            wait_ns = None if retry_after_ms is None else retry_after_ms * _MILLISECOND
            before_ns = breaker.retry_after_ns(now_ns)
            moved += breaker.block(now_ns, wait_ns, correlation_id=request.correlation_id)
            if not moved and breaker.state == "open":
                book.mark(kept)
                book.prolonged(breaker.retry_after_ns(now_ns) - before_ns)
        book.touch(kept, now_ns)
        if moved:
            book.moved(kept, moved, now_ns)
        return _SETTLEMENTS[settlement.effect][breaker.state]

    def _find_way(
        self, origin: Connection, name: str, rules: wire.BreakerRules | None, now_ns: int
    ) -> tuple[KeptBreaker, Holder[KeptBreaker]]:
        """Return the breaker that is meant, made where there was none, and who asks for it."""
        owned = self._names.find(name, origin.peer)
        kept = self._book.get(owned)
        if kept is None or (rules is not None and _are_others(rules, kept)):
            kept = self._with_rules(owned, kept, rules, now_ns)
        holder = self._book.holders.of(origin.id, origin.peer.uid)
        holder.remember(name, kept)
        return kept, holder

    def connection_closed(self, connection: str) -> None:
        """Take back what a connection held: those calls say nothing of the service."""
        self._book.return_all(connection)

    # --- to look, and to decide -----------------------------------------------------------------

    def get(self, name: str, who: Who, *, uid: int | None = None) -> wire.Breaker:
        """Return a breaker as it is. Raises NotFoundError; for `uid`, see `reset`."""
        now_ns = self._clock()
        return _view(self._existing(self._owned(name, who, uid), now_ns), now_ns)

    def list(self, who: Who) -> wire.BreakerList:
        """Return the breakers that one may use, one's own and shared ones; for admins all."""
        now_ns = self._clock()
        seen = [
            kept
            for kept in self._book
            if who.is_admin or self._names.may_see(kept.owned, who.asker)
        ]
        for kept in seen:
            self._book.expire(kept, now_ns)
        seen.sort(key=lambda kept: (kept.owned.name, kept.owned.owner or -1))
        return wire.BreakerList(breakers=[_view(kept, now_ns) for kept in seen])

    def seen(self) -> Iterator[SeenBreaker]:
        """Yield all breakers as they are now, as far as they are counted."""
        now_ns = self._clock()
        for kept in self._book:
            if now_ns >= kept.due_ns:
                self._book.expire(kept, now_ns)
            yield SeenBreaker(kept.owned, kept.breaker.state, kept.rejected)

    def force_open(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Let a breaker reject every call until `reset` or `disable`; see `reset`."""
        kept, now_ns = self._to_decide(name, who, uid)
        moved = kept.breaker.force_open(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns)

    def disable(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Let every call through and record none until `reset` or `force_open`; see `reset`."""
        kept, now_ns = self._to_decide(name, who, uid)
        moved = kept.breaker.disable(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns)

    def reset(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Begin anew, closed, with nothing recorded.

        A shared breaker is an admin's to decide over, another one its owner's. `uid` is for
        admins: whose it is. Raises PermissionDeniedError, and NotFoundError where nothing is
        called so; but one may force one's own open, or disable it, before its first call.
        """
        kept, now_ns = self._to_decide(name, who, uid, make=False)
        moved = kept.breaker.reset(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns)

    def _owned(self, name: str, who: Who, uid: int | None) -> Owned:
        """Return which breaker is meant by one who looks or decides."""
        if who.is_admin and (uid is not None or self._names.is_shared(name)) and is_name(name):
            return Owned(uid, name)
        if uid is not None and uid != who.asker.uid and not who.is_admin:
            raise PermissionDeniedError(
                f"cannot look at breakers of uid {uid}: that is for admins", data={"name": name}
            )
        return self._names.find(name, who.asker)

    def _existing(self, owned: Owned, now_ns: int) -> KeptBreaker:
        kept = self._book.get(owned)
        if kept is None:
            raise NotFoundError(
                f"there is no breaker {owned.name} of uid {owned.owner}: one is there from its"
                " first call on, until nobody has used it for long",
                data={"name": owned.name},
            )
        self._book.expire(kept, now_ns)
        return kept

    def _to_decide(
        self, name: str, who: Who, uid: int | None, *, make: bool = True
    ) -> tuple[KeptBreaker, int]:
        """Return the breaker that `who` may decide over, and the time."""
        now_ns = self._clock()
        owned = self._owned(name, who, uid)
        if owned.owner is None and not who.is_admin:
            raise PermissionDeniedError(
                f"cannot decide over the breaker {name}: it is shared, so that only an admin may",
                data={"name": name},
            )
        own = owned.owner == who.asker.uid and not self._names.is_shared(name)
        if make and own and self._book.get(owned) is None:
            self._with_rules(owned, None, None, now_ns)
        return self._existing(owned, now_ns), now_ns

    def _decided(self, kept: KeptBreaker, moved: Iterable[Transition], now_ns: int) -> wire.Breaker:
        self._book.touch(kept, now_ns)
        self._book.moved(kept, moved, now_ns)
        return _view(kept, now_ns)

    # --- rules ----------------------------------------------------------------------------------

    def set_settings(self, settings: BreakerSettings) -> None:
        """Go by another configuration from now on. What is known of services stays.

        A breaker that is no longer shared is forgotten, and what is held of it returns.
        """
        now_ns = self._clock()
        self._settings = settings
        self._book.limits = settings.limits
        self._names.set_audiences(settings.audiences)
        self._book.holders.forget_ways()
        for kept in self._book:
            if kept.user is None and kept.owned.name not in settings.shared:
                self._book.forget(kept)
            else:
                self._book.set_rules(kept, self._rules_of(kept.owned, kept.given), now_ns)
        self._make_shared(now_ns)

    def _make_shared(self, now_ns: int) -> None:
        for name, rules in self._settings.shared.items():
            owned = Owned(None, name)
            if self._book.get(owned) is None:
                self._book.make(owned, rules, now_ns=now_ns)

    def _rules_of(self, owned: Owned, given: wire.BreakerRules | None) -> BreakerRules:
        """Return the rules for a breaker; what a caller wanted may not go with other defaults."""
        default = self._settings.default
        if owned.owner is None:
            return self._settings.shared[owned.name]
        try:
            return default if given is None else own_rules(given, default)
        except ValueError:
            return default

    def _with_rules(
        self,
        owned: Owned,
        kept: KeptBreaker | None,
        given: wire.BreakerRules | None,
        now_ns: int,
    ) -> KeptBreaker:
        """Return a user's own breaker, with the rules that a caller gave, if it gave any."""
        default = self._settings.default
        try:
            rules = default if given is None else own_rules(given, default)
        except ValueError as error:
            raise InvalidParamsError(f"rules.{error}") from None
        if kept is None:
            if owned.owner is not None:
                self._book.make_room(owned.owner, now_ns)
            return self._book.make(owned, rules, given=given, now_ns=now_ns)
        kept.given = given
        self._book.set_rules(kept, rules, now_ns)
        self._book.mark(kept)
        return kept

    # --- over a restart -------------------------------------------------------------------------

    def load(self, body: bytes | None) -> None:
        """Go on from what a `snapshot` says, before anything has been asked."""
        if body is not None:
            self._book.load(body, self._rules_of)

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
        wait_ns += int(min(wait_ns * _SPREAD, _MOST_SPREAD_NS) * self._spread())
        wait_ms = -(-wait_ns // _MILLISECOND)
        name, state = kept.owned.name, rejection.state
        said = "held open" if state == "forced_open" else state.replace("_", "-")
        return BreakerOpenError(
            f"the breaker {name} is {said} and lets no call through now: ask again in"
            f" {wait_ms / 1000:g} s",
            retry_after_ms=wait_ms,
            data={"name": name, "state": state},
        )


def _are_others(rules: wire.BreakerRules, kept: KeptBreaker) -> bool:
    """Whether a caller asks for other rules than before, of a breaker that is its own."""
    return rules != kept.given and kept.user is not None


def _view(kept: KeptBreaker, now_ns: int) -> wire.Breaker:
    breaker = kept.breaker
    counts = breaker.counts(now_ns)
    wait_ns = breaker.retry_after_ns(now_ns)
    return wire.Breaker(
        name=kept.owned.name,
        uid=kept.owned.owner,
        shared=kept.user is None,
        state=breaker.state,
        state_s=max(now_ns - breaker.changed_ns, 0) / _SECOND,
        retry_after_ms=-(-wait_ns // _MILLISECOND) if wait_ns else None,
        calls=counts.calls,
        failures=counts.failures,
        slow_calls=counts.slow_calls,
        failure_rate=counts.failure_rate,
        slow_call_rate=counts.slow_call_rate,
        permits=breaker.out,
        rejected=breaker.rejected,
        generation=breaker.generation,
        rules=on_wire(breaker.rules),
    )
