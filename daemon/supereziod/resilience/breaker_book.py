"""The breakers that there are: who holds their permits, what comes by itself, what is written down.

A permit is held by a connection, and returns, as ignored, when that one ends or its time is over.
What is due without anyone asking comes about on one timer, for the earliest of all. A user's own
breaker that nobody has used for long is forgotten with it, so that names take no memory for ever.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from superezio import wire
from superezio.errors import BusyError
from superezio.resilience.breaker_answers import Returned, Transition
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.circuit_breaker import CircuitBreaker
from supereziod.deadlines import Deadlines
from supereziod.resilience.breaker_events import BreakerEvents
from supereziod.resilience.breaker_records import SavedBreaker, decode, encode_one, join
from supereziod.resilience.breaker_settings import BreakerLimits
from supereziod.resilience.kept_breaker import NEVER, KeptBreaker
from supereziod.resilience.permit_holders import Holder, Holders
from supereziod.resilience.sharing import Owned

_SECOND: Final = 1_000_000_000
#: Each breaker that is made hands out permits of a range of its own, so that none is ever taken
#: for one of another life of the daemon, or of a breaker of that name that was forgotten. Together
#: they are numbers that JSON carries everywhere: less than 2 to the 53.
_RANGES: Final = 1 << 21
_RANGE_BITS: Final = 32
#: With all that one may have in use, so many are looked at for one that can be forgotten.
_LOOKED_AT: Final = 8
_BUSY_MS: Final = 1000
#: What is shorter is over before it would be missed after a restart.
_SHORT_NS: Final = _SECOND


class BreakerBook:
    """All breakers. Loop-owned."""

    def __init__(
        self,
        limits: BreakerLimits,
        *,
        events: BreakerEvents,
        boot_id: str,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.limits = limits
        self._events = events
        self._boot_id = boot_id
        self._clock = clock
        self._range = secrets.randbelow(_RANGES)
        self._kept: dict[Owned, KeptBreaker] = {}
        self.holders: Holders[KeptBreaker] = Holders()
        self._deadlines: Deadlines[KeptBreaker] = Deadlines(clock=clock, on_due=self._on_due)
        self._changed = True
        #: Has what is new written at once, where it would be missed after a kill.
        self.keep_soon: Callable[[], None] = _keep_later
        #: Return the breaker that is there by a name, or None.
        self.get = self._kept.get

    def close(self) -> None:
        """Stop the timer."""
        self._deadlines.close()

    def __iter__(self) -> Iterator[KeptBreaker]:
        """Return all breakers, as they are now."""
        return iter(tuple(self._kept.values()))

    # --- breakers that come and go --------------------------------------------------------------

    def make(
        self,
        owned: Owned,
        rules: BreakerRules,
        *,
        given: wire.BreakerRules | None = None,
        now_ns: int,
    ) -> KeptBreaker:
        """Begin a breaker."""
        self._range = (self._range + 1) % _RANGES
        first = (self._range << _RANGE_BITS) + 1
        breaker = CircuitBreaker(rules, now_ns=now_ns, first_permit_id=first)
        user = None if owned.owner is None else self.holders.user(owned.owner)
        kept = KeptBreaker(owned, breaker, given=given, user=user, now_ns=now_ns)
        self._kept[owned] = kept
        if user is not None:
            user.own[kept] = None
        self._changed = True
        self.arm(kept, now_ns)
        return kept

    def make_room(self, uid: int, now_ns: int) -> None:
        """See that a user may have one breaker more. Raises BusyError.

        Where one has as many as one may, one that knows of nothing bad makes room.
        """
        user = self.holders.user(uid)
        if len(user.own) < self.limits.breakers_per_uid:
            return
        for kept in tuple(islice(user.own, _LOOKED_AT)):
            self.expire(kept, now_ns)
            if self._knows_nothing(kept, now_ns):
                self.forget(kept)
                return
            user.own.move_to_end(kept)
        raise BusyError(
            f"uid {uid} has {len(user.own)} breakers, which is as many as one may have: use fewer"
            " names",
            retry_after_ms=_BUSY_MS,
            data={"limit": "breakers_per_uid"},
        )

    def forget(self, kept: KeptBreaker) -> None:
        """End a breaker; what is held of it returns."""
        if kept.breaker.out:
            now_ns = self._clock()
            self.expire(kept, now_ns)
            for holder in self.holders.holding(kept):
                self._take_back(kept, kept.breaker.drop(holder, now_ns))
        del self._kept[kept.owned]
        kept.is_gone = True
        self._deadlines.drop(kept)
        self._changed = True
        if kept.user is not None:
            del kept.user.own[kept]
            self.holders.tidy(kept.user)

    def set_rules(self, kept: KeptBreaker, rules: BreakerRules, now_ns: int) -> None:
        """Have a breaker go by other rules: nothing happens where they are the same."""
        if rules == kept.rules:
            return
        self.expire(kept, now_ns)
        kept.rules = rules
        self.moved(kept, kept.breaker.set_rules(rules, now_ns), now_ns)
        self.expire(kept, now_ns)
        self.mark(kept)

    def _knows_nothing(self, kept: KeptBreaker, now_ns: int) -> bool:
        """Whether a breaker knows nothing that its owner could miss."""
        breaker = kept.breaker
        if breaker.state != "closed" or breaker.out:
            return False
        record = breaker.dump(now_ns, boot_id=self._boot_id)
        counts = record.counts
        return not (record.openings or counts.failures or counts.slow_calls)

    def _is_idle(self, kept: KeptBreaker, now_ns: int) -> bool:
        """Whether a user's own has been left alone for so long that it is not missed."""
        breaker = kept.breaker
        return (
            kept.user is not None
            and now_ns - kept.used_ns >= self._idle_ns
            and breaker.out == 0
            and breaker.state in {"closed", "open"}
            and breaker.retry_after_ns(now_ns) == 0
        )

    @property
    def _idle_ns(self) -> int:
        return round(self.limits.idle_s * _SECOND)

    # --- permits --------------------------------------------------------------------------------

    def too_many_permits(self, holder: Holder[KeptBreaker]) -> BusyError:
        """Return the refusal of a permit more, where a connection or its user has all it may."""
        limit, whose = "permits_per_uid", f"uid {holder.user.uid}"
        if holder.permits >= self.limits.permits_per_connection:
            limit, whose = "permits_per_connection", "this connection"
        return BusyError(
            f"{whose} has as many permits of breakers out as one may: settle some",
            retry_after_ms=_BUSY_MS,
            data={"limit": limit},
        )

    def return_all(self, connection: str) -> None:
        """Take back, as ignored, what was held over a connection that ended."""
        holder = self.holders.close(connection)
        if holder is None:
            return
        now_ns = self._clock()
        for kept in tuple(holder.of):
            self.expire(kept, now_ns)
            self._take_back(kept, kept.breaker.drop(holder, now_ns))
            self.arm(kept, now_ns)
        self.holders.tidy(holder.user)

    def _take_back(self, kept: KeptBreaker, returned: Returned) -> None:
        for permit in returned.permits:
            if isinstance(permit.holder, Holder):
                permit.holder.give_back(kept)
        if returned.permits or returned.transitions:
            self.mark(kept)
        self._tell(kept, returned.transitions)

    # --- what has happened to one ---------------------------------------------------------------

    def touch(self, kept: KeptBreaker, now_ns: int) -> None:
        """Note that a breaker was used."""
        kept.used_ns = now_ns
        if kept.user is not None:
            kept.user.own.move_to_end(kept)
        self.mark(kept)

    def mark(self, kept: KeptBreaker) -> None:
        """Note that there is something new to be written down."""
        kept.record = None
        self._changed = True

    def moved(
        self,
        kept: KeptBreaker,
        transitions: Iterable[Transition],
        now_ns: int,
        *,
        by: int | None = None,
    ) -> None:
        """Tell of transitions, and see to what follows from them.

        `by` is the user whose request it was, where it was one.
        """
        self.arm(kept, now_ns)
        self._tell(kept, transitions, by)

    def prolonged(self, by_ns: int) -> None:
        """Note that a breaker stays open for longer than it was to."""
        if by_ns > _SHORT_NS:
            self.keep_soon()

    def _tell(
        self, kept: KeptBreaker, transitions: Iterable[Transition], by: int | None = None
    ) -> None:
        transitions = tuple(transitions)
        for step in transitions:
            reported_by = () if kept.reports is None else kept.reports.by_uid()
            self._events.tell(kept.owned, step, by=by, reported_by=reported_by)
            kept.remember(step, by)
        if any(_has_to_last(each) for each in transitions):
            self.mark(kept)
            self.keep_soon()

    # --- what comes by itself -------------------------------------------------------------------

    def expire(self, kept: KeptBreaker, now_ns: int) -> None:
        """Do what is due."""
        self._take_back(kept, kept.breaker.expire(now_ns))
        self.arm(kept, now_ns)

    def arm(self, kept: KeptBreaker, now_ns: int) -> None:
        """Have the timer come when the breaker has something to do, or may be idle."""
        due_ns = kept.breaker.next_deadline_ns()
        if kept.user is not None:
            idle_ns = kept.used_ns + self._idle_ns
            if idle_ns <= now_ns:  # it was not, for what it is or what it has out: look again
                idle_ns = now_ns + self._idle_ns
            due_ns = idle_ns if due_ns is None else min(due_ns, idle_ns)
        if due_ns is None:
            kept.due_ns = NEVER
            self._deadlines.drop(kept)
        else:
            kept.due_ns = due_ns
            self._deadlines.set(kept, due_ns)

    def _on_due(self, kept: KeptBreaker) -> None:
        now_ns = self._clock()
        self.expire(kept, now_ns)
        if self._is_idle(kept, now_ns):
            self.forget(kept)

    # --- over a restart -------------------------------------------------------------------------

    def load(
        self, body: bytes, rules_of: Callable[[Owned, wire.BreakerRules | None], BreakerRules]
    ) -> None:
        """Go on from a `snapshot`, before anything was asked. Shared ones have to be there.

        `rules_of` says by which rules a breaker goes, of which a caller asked for some.
        """
        now_ns = self._clock()
        for saved in decode(body):
            kept = self._kept.get(saved.owned)
            if kept is None:
                if saved.owner is None:  # it is not shared any more
                    continue
                rules = rules_of(saved.owned, saved.rules)
                kept = self.make(saved.owned, rules, given=saved.rules, now_ns=now_ns)
            moved = kept.breaker.load(saved.record, now_ns, boot_id=self._boot_id)
            kept.opened_by = saved.opened_by
            kept.opened_for = saved.opened_for
            kept.called = saved.called
            self.moved(kept, moved, now_ns)

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return what is to be found again after a restart; None where nothing has changed."""
        if not (self._changed or final):
            return None
        now_ns = self._clock()
        for kept in self:
            if kept.record is None or final:
                self.expire(kept, now_ns)
                kept.record = self._recorded(kept, now_ns)
        self._changed = False
        return join(kept.record for kept in self if kept.record is not None)

    def _recorded(self, kept: KeptBreaker, now_ns: int) -> bytes:
        record = kept.breaker.dump(now_ns, boot_id=self._boot_id)
        owner, name = kept.owned
        return encode_one(
            SavedBreaker(
                owner=owner,
                name=name,
                rules=kept.given,
                record=record,
                opened_by=kept.opened_by,
                opened_for=kept.opened_for,
                called=kept.called,
            )
        )


def _has_to_last(step: Transition) -> bool:
    """Whether a transition is missed after a kill: it protects a service, or somebody ordered it.

    Closed again by itself is not: what was written keeps calls back for a while, and no more.
    """
    if step.state == "open":
        return step.open_ns is not None and step.open_ns > _SHORT_NS
    return step.state in {"forced_open", "disabled"} or step.reason == "reset"


def _keep_later() -> None:
    """Leave what is new to those who ask for it now and then."""
