"""A circuit breaker: it stops calls to a service that fails, and finds out when it works again.

CLOSED lets calls through and counts how they end. Where too many fail, or are slow, it is OPEN and
rejects them; then HALF_OPEN, in which a few calls decide. FORCED_OPEN and DISABLED are an
administrator's. Everything that moves it from one state to another is in this module.

A call asks for a permit (`acquire`), runs, and gives it back (`settle`), once. What is never given
back returns by itself, as ignored: when its holder goes (`drop`), or at the end of its time. Each
state has a generation, and a permit counts in its own alone, so that a call which began before the
breaker opened cannot close it. And HALF_OPEN ends in any case, when its longest wait is over: so
no permit that is lost can keep a breaker half-open.

Pure: the clock is the caller's, monotonic, in nanoseconds, and never goes back from one call to
the next. What time alone brings is made up for at the start of each call, as of when it was due:
`expire` at `next_deadline_ns` tells of it in time, and decides nothing. OPEN does not end by
itself, but with the first call that asks after it is over: where nobody calls, nothing happens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Literal

from superezio.resilience.breaker_answers import (
    BreakerRecord,
    BreakerState,
    Cause,
    Outcome,
    Permit,
    Rejection,
    Returned,
    Settlement,
    Transition,
    TransitionReason,
)
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import FAILED, SLOW, CallRing, Counts, empty_window

_MOST_OPENINGS: Final = 64
_NEVER: Final = 1 << 63
_SETTLED: Final = Settlement("settled")


class CircuitBreaker:
    """The breaker of one service.

    Permits are numbered from `first_permit_id`: give each life of a process another range, so that
    a settle which was meant for a permit of an earlier life finds none. How many permits one
    holder may have out is the caller's to bound, by `held`.
    """

    def __init__(self, rules: BreakerRules, *, now_ns: int, first_permit_id: int = 1) -> None:
        self.rules = rules
        self.state: BreakerState = "closed"
        self.changed_ns = now_ns
        self._generation = 1
        self._next_id = first_permit_id
        self._permits: OrderedDict[int, Permit] = OrderedDict()
        self._held: dict[Hashable, dict[int, Permit]] = {}
        self._out = 0  # permits of this HALF_OPEN
        self._rejected = 0
        self._window = empty_window(rules.window)
        self._judged = Counts()
        self._openings = 0  # that are not forgiven: each doubles the next
        self._open_wait_ns = rules.open_duration_ns
        self._until_ns = now_ns  # when OPEN, or HALF_OPEN, is over
        self._healthy_since_ns = now_ns
        self._next_rules: BreakerRules | None = None  # HALF_OPEN decides by those it began with
        self._quiet_until_ns = 0  # time brings nothing before: most calls need not look further

    # --- calls ----------------------------------------------------------------------------------

    def acquire(
        self, now_ns: int, holder: Hashable = None, correlation_id: Cause = None
    ) -> Permit | Rejection:
        """Ask for leave to call. `holder` is whoever's going returns the permit (see `drop`)."""
        moved = self._catch_up(now_ns) if now_ns >= self._quiet_until_ns else ()
        if self.state == "open" and now_ns >= self._until_ns:
            moved += (self._half_open(now_ns, correlation_id),)
        if self.state != "closed":
            retry_after_ns = self._rejected_for_ns(now_ns)
            if retry_after_ns:
                self._rejected += 1
                return Rejection(state=self.state, retry_after_ns=retry_after_ns, transitions=moved)
        self._next_id = (number := self._next_id) + 1
        permit = Permit(number, self._generation, now_ns, holder, correlation_id, moved)
        self._permits[number] = permit
        if holder is not None:
            held = self._held.get(holder)
            if held is None:
                self._held[holder] = {number: permit}
            else:
                held[number] = permit
        if self.state == "half_open":
            self._out += 1
        ends_ns = now_ns + self.rules.permit_ttl_ns
        if ends_ns < self._quiet_until_ns:  # noqa: PLR1730 - min() is slow here
            self._quiet_until_ns = ends_ns
        return permit

    def settle(
        self, permit_id: int, outcome: Outcome, now_ns: int, holder: Hashable = None
    ) -> Settlement:
        """Tell how the call of a permit ended; it is slow by the time since its acquire.

        With `holder`, the permit of any other one is unknown.

        ignore is for what says nothing of the service: a call that was cancelled, that a limiter
        or a breaker turned away, or that was answered with 429 (which is for `block`).
        """
        moved = self._catch_up(now_ns) if now_ns >= self._quiet_until_ns else ()
        permit = self._permits.get(permit_id)
        if permit is None or (holder is not None and permit.holder is not holder):
            return Settlement("unknown", moved)
        self._take_back(permit)
        if permit.generation != self._generation:
            return Settlement("stale", moved)
        if outcome != "ignore" and self.state != "disabled":
            moved += self._record(permit, now_ns, outcome)
        return Settlement("settled", moved) if moved else _SETTLED

    def block(
        self, now_ns: int, retry_after_ns: int | None = None, *, correlation_id: Cause = None
    ) -> tuple[Transition, ...]:
        """Take in that the service said 429: open until then, which is no failure.

        It never shortens what is; without a Retry-After (None) it is `open_duration_ns`. A time
        that is over, and any where an administrator has decided, changes nothing.
        """
        moved = self._catch_up(now_ns)
        wait_ns = self.rules.open_duration_ns if retry_after_ns is None else retry_after_ns
        wait_ns = min(wait_ns, self.rules.max_block_ns)
        if wait_ns <= 0 or self.state in {"forced_open", "disabled"}:
            return moved
        if self.state == "open":
            self._until_ns = max(self._until_ns, now_ns + wait_ns)
            return moved
        if self.state == "closed":
            self._open_wait_ns = self.rules.open_duration_ns
        self._until_ns = now_ns + wait_ns
        return (*moved, self._move("open", "retry_after", now_ns, correlation_id))

    # --- permits that nobody settles ------------------------------------------------------------

    def drop(self, holder: Hashable, now_ns: int) -> Returned:
        """Take back, as ignored, what a holder that is gone has out."""
        moved = self._catch_up(now_ns)
        permits = tuple(self._held.get(holder, {}).values())
        for permit in permits:
            self._take_back(permit)
        return Returned(permits=permits, transitions=moved)

    def expire(self, now_ns: int) -> Returned:
        """Do what is due: permits that are too old are ignored, HALF_OPEN re-opens in the end."""
        permits = []
        while (permit := self._outlived(now_ns)) is not None:
            self._take_back(permit)
            permits.append(permit)
        return Returned(permits=tuple(permits), transitions=self._catch_up(now_ns))

    def next_deadline_ns(self) -> int | None:
        """Return when `expire` has something to do, if there is anything."""
        deadlines = [self._until_ns] if self.state == "half_open" else []
        for permit in self._permits.values():
            deadlines.append(permit.started_ns + self.rules.permit_ttl_ns)
            break
        return min(deadlines, default=None)

    def permit(self, permit_id: int) -> Permit | None:
        """Return a permit that is out, or None: to see whose it is before it is settled."""
        return self._permits.get(permit_id)

    def held(self, holder: Hashable) -> int:
        """Return how many permits a holder has out."""
        return len(self._held.get(holder, ()))

    # --- an administrator -----------------------------------------------------------------------

    def force_open(self, now_ns: int, *, correlation_id: Cause = None) -> tuple[Transition, ...]:
        """Reject every call, until `reset` or `disable`."""
        return self._order("forced_open", now_ns, correlation_id)

    def disable(self, now_ns: int, *, correlation_id: Cause = None) -> tuple[Transition, ...]:
        """Let every call through and record none, until `reset` or `force_open`."""
        return self._order("disabled", now_ns, correlation_id)

    def reset(self, now_ns: int, *, correlation_id: Cause = None) -> tuple[Transition, ...]:
        """Begin anew: CLOSED, with nothing recorded and every opening forgiven."""
        moved = self._catch_up(now_ns)
        moved += (self._move("closed", "reset", now_ns, correlation_id),)
        self._openings = 0
        self._open_wait_ns = self.rules.open_duration_ns
        return moved

    def set_rules(self, rules: BreakerRules, now_ns: int) -> tuple[Transition, ...]:
        """Go by other rules from now on, with all that is known of the service kept.

        HALF_OPEN decides by those it began with, and then they change. OPEN stays for as long as
        was told. A window of another kind or size begins with the counts of the one before, the
        calls that went badly as the newest; it decides with the next call that is recorded.
        What other times make due is told by `expire`.
        """
        moved = self._catch_up(now_ns)
        if self.state == "half_open":
            self._next_rules = rules
            return moved
        if self.state == "closed":
            self._forgive(now_ns)
            if rules.window != self.rules.window:
                counts = self.counts(now_ns)
                self._window = empty_window(rules.window)
                self._window.fill(now_ns, counts)
        self.rules = rules
        self._quiet_until_ns = 0
        self._open_wait_ns = min(
            max(self._open_wait_ns, rules.open_duration_ns), rules.max_open_duration_ns
        )
        return moved

    # --- to look at -----------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """How often the state has changed, from 1 on."""
        return self._generation

    @property
    def out(self) -> int:
        """How many permits are out, those of earlier generations included."""
        return len(self._permits)

    @property
    def rejected(self) -> int:
        """How many calls this state has turned away."""
        return self._rejected

    def counts(self, now_ns: int) -> Counts:
        """Return what is recorded; in OPEN and where an administrator decided, what was before."""
        if self.state not in {"closed", "half_open"}:
            return self._judged
        window = self._window
        window.forget(now_ns)
        return Counts(window.calls, window.failures, window.slow_calls)

    def retry_after_ns(self, now_ns: int) -> int:
        """Return what a call that asks is told, 0 if it is let through; to be asked after `expire`.

        At 0 in OPEN its time is over, and the call that asks makes it HALF_OPEN.
        """
        return self._rejected_for_ns(now_ns)

    # --- over a restart -------------------------------------------------------------------------

    def dump(self, now_ns: int, *, boot_id: str) -> BreakerRecord:
        """Return what has to outlive a restart; to be asked after `expire`."""
        self._forgive(now_ns)
        return BreakerRecord(
            state=self.state,
            generation=self._generation,
            openings=self._openings,
            open_wait_ns=self._open_wait_ns,
            open_until_ns=self._until_ns,
            healthy_since_ns=self._healthy_since_ns,
            changed_ns=self.changed_ns,
            counts=self.counts(now_ns),
            boot_id=boot_id,
            at_ns=now_ns,
        )

    def load(self, record: BreakerRecord, now_ns: int, *, boot_id: str) -> tuple[Transition, ...]:
        """Go on from a `dump`, in a breaker that has not been used, and spare the service.

        OPEN stays for what is left of it; after a reboot, over which the clock tells nothing, for
        what was left at the dump, at most `open_duration_ns`. HALF_OPEN comes back as an OPEN that
        is over: the next call begins it anew, with all its permits and its whole wait, whatever
        became of those that were out. What an administrator decided stays. In CLOSED the counts
        come back within one boot, the calls that went badly as the newest, for an outage that
        was almost noticed is to be noticed; which call was when is not kept.
        """
        same_boot = record.boot_id == boot_id and record.at_ns <= now_ns
        counts = _plausible(record.counts)
        self._generation = record.generation + 1
        self._openings = min(max(record.openings, 0), _MOST_OPENINGS)
        self._open_wait_ns = min(
            max(record.open_wait_ns, self.rules.open_duration_ns), self.rules.max_open_duration_ns
        )
        self._judged = counts
        self.state = record.state
        self.changed_ns = min(record.changed_ns, now_ns) if same_boot else now_ns
        self._healthy_since_ns = now_ns
        if record.state == "closed" and same_boot:
            self._healthy_since_ns = min(record.healthy_since_ns, now_ns)
            self._window.fill(record.at_ns, counts)
        elif record.state == "open":
            self._until_ns = now_ns + self._left_ns(record, now_ns, same_boot=same_boot)
        elif record.state == "half_open":
            self._window = CallRing(self.rules.half_open_calls)
            self._window.fill(now_ns, counts)
            self._until_ns = now_ns
            return (self._move("open", "restored", now_ns, None),)
        return ()

    def _left_ns(self, record: BreakerRecord, now_ns: int, *, same_boot: bool) -> int:
        left_ns = record.open_until_ns - (now_ns if same_boot else record.at_ns)
        longest_ns = self.rules.open_duration_ns
        if same_boot:
            longest_ns = max(self.rules.max_open_duration_ns, self.rules.max_block_ns)
        return min(max(left_ns, 0), longest_ns)

    # --- the states -----------------------------------------------------------------------------

    def _catch_up(self, now_ns: int) -> tuple[Transition, ...]:
        """Bring about what time alone does, as of when it was due."""
        if now_ns < self._quiet_until_ns:
            return ()
        moved: tuple[Transition, ...] = ()
        while (permit := self._outlived(now_ns)) is not None:
            self._take_back(permit)
        if self.state == "half_open" and now_ns >= self._until_ns:
            moved = (self._trip("half_open_wait", self._until_ns, None),)
        due_ns = self.next_deadline_ns()
        self._quiet_until_ns = _NEVER if due_ns is None else due_ns
        return moved

    def _outlived(self, now_ns: int) -> Permit | None:
        """Return the oldest permit if its time is over: all live equally long."""
        for permit in self._permits.values():
            if permit.started_ns + self.rules.permit_ttl_ns <= now_ns:
                return permit
            break
        return None

    def _take_back(self, permit: Permit) -> None:
        del self._permits[permit.id]
        if permit.holder is not None:
            held = self._held[permit.holder]
            del held[permit.id]
            if not held:
                del self._held[permit.holder]
        if self.state == "half_open" and permit.generation == self._generation:
            self._out -= 1

    def _rejected_for_ns(self, now_ns: int) -> int:
        if self.state in {"closed", "disabled"}:
            return 0
        if self.state == "forced_open":
            return self.rules.open_duration_ns
        if (
            self.state == "half_open"
            and self._out + self._window.calls < self.rules.half_open_calls
        ):
            return 0
        return max(self._until_ns - now_ns, 0)

    def _record(self, permit: Permit, now_ns: int, outcome: Outcome) -> tuple[Transition, ...]:
        rules, window = self.rules, self._window
        kind = FAILED if outcome == "failure" else 0
        if now_ns - permit.started_ns > rules.slow_call_duration_ns:
            kind += SLOW
        window.record(now_ns, kind)
        calls = window.calls
        # A window of COUNT that is smaller than the minimum decides when it is full.
        if calls >= rules.minimum_calls or calls == window.size:
            # A quotient is rounded as a threshold was when it was read: 3 of 5 is 0.6 exactly.
            # No threshold is 0, and most calls go well.
            failures, slow_calls = window.failures, window.slow_calls
            if failures and failures / calls >= rules.failure_rate_threshold:
                return (self._trip("failure_rate", now_ns, permit.correlation_id),)
            if slow_calls and slow_calls / calls >= rules.slow_call_rate_threshold:
                return (self._trip("slow_call_rate", now_ns, permit.correlation_id),)
        if self.state == "half_open" and calls == rules.half_open_calls:
            return (self._move("closed", "recovered", now_ns, permit.correlation_id),)
        return ()

    def _trip(self, reason: TransitionReason, at_ns: int, correlation_id: Cause) -> Transition:
        self._forgive(at_ns)
        self._open_wait_ns = self.rules.open_wait_ns(self._openings)
        if self._open_wait_ns < self.rules.max_open_duration_ns:
            self._openings += 1
        self._until_ns = at_ns + self._open_wait_ns
        return self._move("open", reason, at_ns, correlation_id)

    def _half_open(self, now_ns: int, correlation_id: Cause) -> Transition:
        wait_ns = self.rules.half_open_wait_ns
        self._until_ns = now_ns + (self._open_wait_ns if wait_ns is None else wait_ns)
        return self._move("half_open", "open_over", now_ns, correlation_id)

    def _order(
        self,
        state: Literal["forced_open", "disabled"],
        now_ns: int,
        correlation_id: Cause,
    ) -> tuple[Transition, ...]:
        moved = self._catch_up(now_ns)
        if self.state != state:
            moved += (self._move(state, state, now_ns, correlation_id),)
        return moved

    def _forgive(self, now_ns: int) -> None:
        """Forgive an opening for each whole interval that it has been CLOSED."""
        if self.state == "closed":
            intervals = (now_ns - self._healthy_since_ns) // self.rules.healthy_interval_ns
            self._openings = max(self._openings - intervals, 0)
            self._healthy_since_ns += intervals * self.rules.healthy_interval_ns

    def _move(
        self,
        state: BreakerState,
        reason: TransitionReason,
        at_ns: int,
        correlation_id: Cause,
    ) -> Transition:
        self._forgive(at_ns)
        self._judged = counts = self.counts(at_ns)
        previous, self.state = self.state, state
        rejected, self._rejected = self._rejected, 0
        self._generation += 1
        self._out = 0
        self._quiet_until_ns = 0
        self.changed_ns = at_ns
        if self._next_rules is not None:
            self.rules, self._next_rules = self._next_rules, None
        if state == "half_open":
            self._window = CallRing(self.rules.half_open_calls)
        elif state == "closed":
            self._window = empty_window(self.rules.window)
            self._healthy_since_ns = at_ns
        return Transition(
            previous=previous,
            state=state,
            reason=reason,
            at_ns=at_ns,
            generation=self._generation,
            calls=counts.calls,
            failures=counts.failures,
            slow_calls=counts.slow_calls,
            failure_rate=counts.failure_rate,
            slow_call_rate=counts.slow_call_rate,
            rejected=rejected,
            correlation_id=correlation_id,
            open_ns=self._until_ns - at_ns if state == "open" else None,
        )


def _plausible(counts: Counts) -> Counts:
    """Return counts that a file claims, made such as can be."""
    calls = max(counts.calls, 0)
    return Counts(calls, min(max(counts.failures, 0), calls), min(max(counts.slow_calls, 0), calls))
