"""A story to judge the breaker by: what happened to it, and how all stands by that.

Written from the rules and from no line of the breaker:

  The window is the last n calls, or those of the last s whole seconds. No decision below
  `minimum_calls`, which COUNT clamps to n. Trip when the failure rate or the slow-call rate is at
  its threshold, after every recorded call. Slow is longer than `slow_call_duration`, and a slow
  error counts in both.
  OPEN lasts `open_duration`, twice that with each opening that follows, up to a cap, and one
  doubling less for each healthy interval.
  HALF_OPEN admits `half_open_calls`, and re-opens after its maximum wait.
  Exactly one of success, failure, ignore per permit; what is double or of an earlier generation
  does nothing. A permit is ignored when its holder goes or it is as old as `permit_ttl`.
  429 opens for Retry-After, capped, until max(old, new), and is no failure.

It keeps every call, permit and state there ever was, and answers by going through them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Call:
    """A call that was recorded."""

    at: int
    failed: bool
    slow: bool


@dataclass
class Ticket:
    """A permit, and whether it is still out."""

    id: int
    period: int
    started: int
    holder: str | None
    cause: str
    out: bool = True


@dataclass
class Period:
    """A stay in one state. `until` is its last instant, where it has one."""

    state: str
    since: int
    reason: str
    cause: str | None = None
    until: int = 0
    calls: list[Call] = field(default_factory=list)
    rejected: int = 0
    #: From when on a healthy interval counts: later than `since` after a reboot.
    healthy_since: int = 0


@dataclass(frozen=True)
class Answer:
    """What the caller is told: a permit's id or how long to wait, and what a settle did."""

    permit: int | None = None
    retry_after: int = 0
    effect: str = ""


class Story:
    """What happened to one breaker. It may be told of the time as often as one likes."""

    def __init__(self, rules: BreakerRules) -> None:
        self.rules = rules
        self.periods = [Period("closed", 0, "")]
        self.tickets: list[Ticket] = []
        #: How often it opened and was not forgiven, and how long the last of it was to be.
        self.openings = 0
        self.open_wait = rules.open_duration_ns

    @property
    def now(self) -> Period:
        return self.periods[-1]

    def steps(self) -> list[tuple[str, str, str, int, str | None]]:
        """Return every transition: from, to, why, when, and whose call caused it."""
        return [
            (one.state, other.state, other.reason, other.since, other.cause)
            for one, other in pairwise(self.periods)
        ]

    # --- what happens ---------------------------------------------------------------------------

    def time(self, at: int) -> Answer:
        for ticket in self.tickets:
            if ticket.started + self.rules.permit_ttl_ns <= at:
                ticket.out = False
        if self.now.state == "half_open" and at >= self.now.until:
            self._trip(self.now.until, "half_open_wait", None)
        return Answer()

    def acquire(self, at: int, holder: str | None, cause: str) -> Answer:
        self.time(at)
        if self.now.state == "open" and at >= self.now.until:
            wait = self.rules.half_open_wait_ns or self.open_wait
            self._enter(Period("half_open", at, "open_over", cause, until=at + wait))
        wait = self.to_wait(at)
        if wait:
            self.now.rejected += 1
            return Answer(retry_after=wait)
        ticket = Ticket(len(self.tickets) + 1, len(self.periods), at, holder, cause)
        self.tickets.append(ticket)
        return Answer(permit=ticket.id)

    def to_wait(self, at: int) -> int:
        """Return what a call that asks is told; less than 0 where OPEN is over."""
        if self.now.state == "forced_open":
            return self.rules.open_duration_ns
        if self.now.state == "open":
            return self.now.until - at
        if self.now.state == "half_open":
            admitted = len(self.now.calls) + len(self.out_now())
            return self.now.until - at if admitted == self.rules.half_open_calls else 0
        return 0

    def out_now(self) -> list[Ticket]:
        """Return the permits that are out and of this generation."""
        return [one for one in self.tickets if one.out and one.period == len(self.periods)]

    def settle(self, at: int, permit: int, outcome: str) -> Answer:
        self.time(at)
        ticket = self.tickets[permit - 1]
        if not ticket.out:
            return Answer(effect="unknown")
        ticket.out = False
        if ticket.period != len(self.periods):
            return Answer(effect="stale")
        if outcome != "ignore" and self.now.state in {"closed", "half_open"}:
            slow = at - ticket.started > self.rules.slow_call_duration_ns
            self.now.calls.append(Call(at, outcome == "failure", slow))
            self._judge(at, ticket.cause)
        return Answer(effect="settled")

    def _judge(self, at: int, cause: str) -> None:
        calls = self.window(at)
        failures, slow = sum(one.failed for one in calls), sum(one.slow for one in calls)
        if len(calls) >= self._minimum():
            if failures / len(calls) >= self.rules.failure_rate_threshold:
                return self._trip(at, "failure_rate", cause)
            if slow / len(calls) >= self.rules.slow_call_rate_threshold:
                return self._trip(at, "slow_call_rate", cause)
        if self.now.state == "half_open" and len(calls) == self.rules.half_open_calls:
            self._enter(Period("closed", at, "recovered", cause, healthy_since=at))
        return None

    def _minimum(self) -> int:
        if self.now.state == "half_open":
            return min(self.rules.minimum_calls, self.rules.half_open_calls)
        if isinstance(self.rules.window, CountWindow):
            return min(self.rules.minimum_calls, self.rules.window.calls)
        return self.rules.minimum_calls

    def window(self, at: int) -> list[Call]:
        """Return the calls that count; where none is recorded, those that counted before."""
        if self.now.state == "half_open":
            return self.now.calls
        if self.now.state != "closed":
            before = replace_last(self)
            return before.window(self.now.since) if before.periods else []
        window = self.rules.window
        if isinstance(window, CountWindow):
            return self.now.calls[-window.calls :]
        first = at // SECOND - window.seconds + 1
        return [one for one in self.now.calls if one.at // SECOND >= first]

    def block(self, at: int, retry_after: int | None, cause: str) -> Answer:
        self.time(at)
        wait = self.rules.open_duration_ns if retry_after is None else retry_after
        wait = min(wait, self.rules.max_block_ns)
        if wait > 0 and self.now.state == "open":
            self.now.until = max(self.now.until, at + wait)
        elif wait > 0 and self.now.state in {"closed", "half_open"}:
            if self.now.state == "closed":
                self._forgive(at)
                self.open_wait = self.rules.open_duration_ns
            self._enter(Period("open", at, "retry_after", cause, until=at + wait))
        return Answer()

    def drop(self, at: int, holder: str) -> Answer:
        self.time(at)
        for ticket in self.tickets:
            if ticket.holder == holder:
                ticket.out = False
        return Answer()

    def order(self, at: int, state: str, cause: str) -> Answer:
        self.time(at)
        if self.now.state != state:
            self._forgive(at)
            self._enter(Period(state, at, state, cause))
        return Answer()

    def reset(self, at: int, cause: str) -> Answer:
        self.time(at)
        self._enter(Period("closed", at, "reset", cause, healthy_since=at))
        self.openings, self.open_wait = 0, self.rules.open_duration_ns
        return Answer()

    def restart(self, dumped: int, at: int, *, reboot: bool) -> Answer:
        """Go down and come back: permits are gone, OPEN stays, HALF_OPEN is an OPEN that is due."""
        for ticket in self.tickets:
            ticket.out = False
        last = self.now
        calls = self.window(dumped)
        last.rejected = 0
        if last.state == "half_open":
            self._enter(Period("open", at, "restored", None, until=at))
        elif last.state == "open" and reboot:
            left = max(last.until - dumped, 0)
            last.until = at + min(left, self.rules.open_duration_ns)
        elif last.state == "closed":
            self._forgive(dumped)
            last.calls = [] if reboot else the_bad_ones_last(calls, dumped)
            if reboot:
                last.healthy_since = at
        return Answer()

    # --- how it opens ---------------------------------------------------------------------------

    def _trip(self, at: int, reason: str, cause: str | None) -> None:
        self._forgive(at)
        waits = [self.rules.open_duration_ns]
        for _ in range(self.openings):
            waits.append(2 * waits[-1])
        self.open_wait = min(waits[-1], self.rules.max_open_duration_ns)
        if waits[-1] < self.rules.max_open_duration_ns:
            self.openings += 1
        self._enter(Period("open", at, reason, cause, until=at + self.open_wait))

    def _forgive(self, at: int) -> None:
        if self.now.state != "closed":
            return
        while self.now.healthy_since + self.rules.healthy_interval_ns <= at:
            self.now.healthy_since += self.rules.healthy_interval_ns
            self.openings = max(self.openings - 1, 0)

    def _enter(self, period: Period) -> None:
        self.periods.append(period)


def replace_last(story: Story) -> Story:
    """Return the story as it was before the last period began."""
    before = Story(story.rules)
    before.periods = [replace(one) for one in story.periods[:-1]]
    return before


def the_bad_ones_last(calls: list[Call], at: int) -> list[Call]:
    """Return as many calls, failures and slow calls, the bad ones the newest."""
    failures, slow = sum(one.failed for one in calls), sum(one.slow for one in calls)
    left = range(len(calls), 0, -1)
    return [Call(at, failed=place <= failures, slow=place <= slow) for place in left]
