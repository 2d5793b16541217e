"""Breakers of several users against the rules, whatever is asked, lost, killed and restarted.

Each breaker is judged by a story of its own (`breaker_model`), so that what a user does to that of
another is seen at once, at every step.
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from breaker_model import SECOND, Period, Story
from superezio import wire
from superezio.errors import NotFoundError, PermissionDeniedError
from superezio.resilience.breaker_rules import BreakerRules
from superezio.wire import CallOutcome, Event
from supereziod.resilience.breaker_settings import BreakerLimits, own_rules
from supereziod.resilience.kept_breaker import KeptBreaker
from supereziod.resilience.sharing import Audience, Owned
from unit.resilience.breaker_host import ANNA, BEN, CARL, ROOT, RULES, SETTINGS, BreakerHost, User

PLAIN = msgspec.structs.replace(
    RULES,
    minimum_calls=3,
    open_duration_ns=2 * SECOND,
    max_open_duration_ns=12 * SECOND,
    healthy_interval_ns=5 * SECOND,
    permit_ttl_ns=6 * SECOND,
    max_block_ns=7 * SECOND,
)
#: What is asked for with each call of `timed`, a name of one's own.
TIMED = wire.BreakerRules(window_s=3, minimum_calls=2, half_open_calls=3, half_open_wait_s=4.0)
HOST = msgspec.structs.replace(
    SETTINGS,
    default=PLAIN,
    shared={"openai": PLAIN},
    limits=BreakerLimits(
        permits_per_connection=10**6, permits_per_uid=10**6, breakers_per_uid=9, idle_s=1e6
    ),
)
ALONE = msgspec.structs.replace(HOST, audiences={"openai": Audience(uids=frozenset({ANNA.uid}))})

USERS = st.sampled_from((ANNA, ANNA, BEN, CARL))
NAMES = st.sampled_from(("openai", "openai", "mine", "timed"))
OUTCOMES: st.SearchStrategy[CallOutcome] = st.sampled_from(
    ("success", "success", "failure", "failure", "ignore", "throttled")
)
TIMES = st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 7.0))
CONNECTIONS = st.integers(0, 1)
PICKS = st.integers(0, 20)


class Out(NamedTuple):
    """A permit that was given to somebody, and how its story knows it."""

    owned: Owned
    user: User
    connection: str
    permit: int
    ticket: int


class BreakersMachine(RuleBasedStateMachine):
    """Whose a name is, is written down here once more."""

    def __init__(self) -> None:
        super().__init__()
        self.host = BreakerHost(HOST)
        self.stories: dict[Owned, Story] = {}
        self.told: dict[Owned, list[tuple[str, str, str, str | None]]] = defaultdict(list)
        self.outs: list[Out] = []
        self.life = 0
        self.connections: dict[tuple[int, int], str] = {}
        self.serial = 0
        self.asked = 0
        self.shared_by = {ANNA.uid, BEN.uid}
        self.dumped: dict[Owned, int] = {}
        self.host.log.listen(self._hear)
        self._begin(Owned(None, "openai"))
        self.the_keeper_writes()

    def teardown(self) -> None:
        """A service that is well again is found out, whatever came before."""
        try:
            for owned in list(self.stories):
                self._is_found_well(owned)
        finally:
            self.host.close()

    # --- calls ----------------------------------------------------------------------------------

    @rule(user=USERS, name=NAMES, which=CONNECTIONS, count=st.integers(1, 4))
    def calls_ask(self, user: User, name: str, which: int, count: int) -> None:
        for _ in range(count):
            self._acquire(user, name, which)

    @rule(pick=PICKS, outcome=OUTCOMES, retry=st.sampled_from((None, 0.5, 3.0, 1e6)))
    def a_call_ends(self, pick: int, outcome: CallOutcome, retry: float | None) -> None:
        if self.outs:
            self._settle(self.outs[-1 - pick % len(self.outs)], outcome, retry)

    @rule(pick=PICKS, outcome=OUTCOMES, user=USERS, which=CONNECTIONS)
    def somebody_settles_what_is_not_theirs(
        self, pick: int, outcome: CallOutcome, user: User, which: int
    ) -> None:
        """Over another connection: of the same user, or of one who guessed the number."""
        if not self.outs:
            return
        out = self.outs[-1 - pick % len(self.outs)]
        over = self._connection(user, which)
        if over == out.connection:
            return
        if out.owned.owner is None and user.uid not in self.shared_by:
            with pytest.raises(PermissionDeniedError):
                self.host.settle(user, out.permit, outcome, out.owned.name, over=over)
            return
        assert self.host.settle(user, out.permit, outcome, out.owned.name, over=over) == "unknown"

    @rule(
        user=USERS,
        name=NAMES,
        calls=st.lists(st.tuples(OUTCOMES, TIMES), min_size=1, max_size=4),
        busy=st.booleans(),
    )
    def calls_run_one_after_another(
        self, user: User, name: str, calls: list[tuple[CallOutcome, float]], *, busy: bool
    ) -> None:
        """With `busy`, the timer is late: what is due comes about with the next call."""
        for outcome, took in calls:
            out = self._acquire(user, name, 0)
            if busy:
                self.host.clock.advance(took)
            else:
                self.host.advance(took)
            if out is not None:
                self._settle(out, outcome, None)

    @rule(user=USERS, name=NAMES, outcome=OUTCOMES)
    def an_outage_goes_on(self, user: User, name: str, outcome: CallOutcome) -> None:
        for _ in range(3):
            out = self._acquire(user, name, 1)
            if out is not None:
                self._settle(out, outcome, None)

    @rule(user=USERS, name=NAMES, probes=st.integers(1, 3), slow=st.booleans(), which=CONNECTIONS)
    def an_outage_leaves_probes_out(
        self, user: User, name: str, probes: int, which: int, *, slow: bool
    ) -> None:
        """Calls fail, or take too long, until no more are let through; then a few may call."""
        for _ in range(4):
            out = self._acquire(user, name, which)
            self.host.advance(1.1 if slow else 0)
            if out is not None:
                self._settle(out, "success" if slow else "failure", None)
        owned = self._meant(user, name, None)
        if owned is None or self.stories[owned].now.state != "open":
            return
        self._wait_until(self.stories[owned].now.until)
        for _ in range(probes):
            self._acquire(user, name, which)

    @rule(user=USERS, name=NAMES, seconds=TIMES)
    def a_call_asks_after_the_daemon_was_busy(self, user: User, name: str, seconds: float) -> None:
        """The timer had no turn yet."""
        self.host.clock.advance(seconds)
        self._acquire(user, name, 0)

    @rule(pick=PICKS)
    def one_waits_as_it_was_told(self, pick: int) -> None:
        story = list(self.stories.values())[pick % len(self.stories)]
        if story.now.state == "open":
            self._wait_until(story.now.until)

    # --- what is lost ---------------------------------------------------------------------------

    @rule(user=USERS, which=CONNECTIONS)
    def a_connection_ends(self, user: User, which: int) -> None:
        over = self.connections.pop((user.uid, which), None)
        if over is None:
            return
        self.host.breakers.connection_closed(over)
        for story in self.stories.values():
            story.drop(self.host.clock.now_ns, over)

    @rule()
    def the_keeper_writes(self) -> None:
        now = self.host.clock.now_ns
        for kept in self.host.breakers._book:
            if kept.record is None:
                self.dumped[kept.owned] = now
        body = self.host.breakers.snapshot(final=False)
        if body is not None:
            self.body = body
        self._all_to(now)
        self.written = copy.deepcopy((self.stories, self.told, self.dumped))

    @rule(reboot=st.booleans(), away=TIMES, kill=st.booleans())
    def the_daemon_restarts(self, *, reboot: bool, away: float, kill: bool) -> None:
        """It is stopped, or killed with what was written last, which may be a while ago."""
        now = self.host.clock.now_ns
        if kill:
            self.stories, self.told, self.dumped = copy.deepcopy(self.written)
        else:
            self.body = self.host.breakers.snapshot(final=True) or b""
            self.dumped = dict.fromkeys(self.stories, now)
            self._all_to(now)
        self.host.breakers.close()
        self.host.clock.advance(away)
        if reboot:
            self.host.boot = f"{self.host.boot}+"
            self.host.clock.now_ns = round((5 + 200 * away) * SECOND)
        for owned, story in self.stories.items():
            story.restart(self.dumped[owned], self.host.clock.now_ns, reboot=reboot)
        self.host.breakers = self.host._new()
        self.connections.clear()
        self.shared_by = {ANNA.uid, BEN.uid}
        self.host.breakers.load(self.body)
        self.the_keeper_writes()

    # --- those who decide, or would like to -----------------------------------------------------

    @rule(
        user=st.sampled_from((ANNA, BEN, CARL, ROOT)),
        name=NAMES,
        uid=st.sampled_from((None, None, ANNA.uid, BEN.uid)),
        what=st.sampled_from(("force_open", "disable", *["reset"] * 4)),
    )
    def somebody_decides(self, user: User, name: str, uid: int | None, what: str) -> None:
        """A shared one is an admin's to decide over, another one its owner's and an admin's."""
        self.asked += 1
        cause = f"d{self.asked}"
        decide = getattr(self.host.breakers, what)
        owned = self._meant(user, name, uid)
        if owned is None or (owned.owner is None and user != ROOT):
            with pytest.raises(PermissionDeniedError):
                decide(name, user.who, uid=uid)
            return
        if owned not in self.stories:
            if what == "reset" or owned.owner != user.uid:
                with pytest.raises(NotFoundError):
                    decide(name, user.who, uid=uid)
                return
            return
        decide(name, user.who, uid=uid, correlation_id=cause)
        story, now = self.stories[owned], self.host.clock.now_ns
        if what == "reset":
            story.reset(now, cause)
        else:
            story.order(now, "forced_open" if what == "force_open" else "disabled", cause)

    @rule(alone=st.booleans())
    def the_configuration_is_read_again(self, *, alone: bool) -> None:
        """Ben may use the shared one no more, or again: that changes nothing about it."""
        self.host.breakers.set_settings(ALONE if alone else HOST)
        self.shared_by = {ANNA.uid} if alone else {ANNA.uid, BEN.uid}

    @rule(seconds=TIMES)
    def time_passes(self, seconds: float) -> None:
        self.host.advance(seconds)

    @rule(pick=PICKS)
    def all_who_hold_permits_go_and_others_call(self, pick: int) -> None:
        """A half-open breaker is able to decide, whatever became of its permits."""
        owned = list(self.stories)[pick % len(self.stories)]
        if self.stories[owned].now.state != "half_open":
            return
        for user in (ANNA, BEN, CARL):
            for which in (0, 1):
                self.a_connection_ends(user, which)
        user = ANNA if owned.owner is None else next(u for u in _USERS if u.uid == owned.owner)
        for _ in range(self.stories[owned].rules.half_open_calls):
            if self.host.breakers._book.get(owned).breaker.state == "half_open":  # type: ignore[union-attr]
                out = self._acquire(user, owned.name, 0)
                assert out is not None, "what was given back is there again"
                self._settle(out, "success", None)
        assert self.stories[owned].now.state != "half_open"

    # --- what holds -----------------------------------------------------------------------------

    @invariant()
    def all_breakers_stand_as_the_rules_say(self) -> None:
        self.host.advance(0)
        now = self.host.clock.now_ns
        self._all_to(now)
        found = {kept.owned: kept for kept in self.host.breakers._book}
        assert found.keys() == self.stories.keys()
        for owned, story in self.stories.items():
            self._stands(found[owned], story, now)

    def _stands(self, kept: KeptBreaker, story: Story, now: int) -> None:
        breaker, calls = kept.breaker, story.window(now)
        assert breaker.state == story.now.state
        counts = breaker.counts(now)
        assert (counts.calls, counts.failures, counts.slow_calls) == (
            len(calls),
            sum(one.failed for one in calls),
            sum(one.slow for one in calls),
        )
        assert breaker.out == sum(one.out for one in story.tickets)
        assert breaker.rejected == story.now.rejected
        assert breaker.retry_after_ns(now) == max(story.to_wait(now), 0)
        told = [(one, other, why, cause) for one, other, why, _, cause in story.steps()]
        assert self.told[kept.owned] == told, "an event for every transition, by what caused it"

    @invariant()
    def who_holds_what_is_known(self) -> None:
        """For the bounds, and so that all of it returns with the connection."""
        book = self.host.breakers._book
        holders = book.holders._by_connection
        assert set(holders) <= set(self.connections.values())
        for connection, holder in holders.items():
            held = {kept: n for kept in book if (n := kept.breaker.held(holder))}
            assert holder.of == held
            assert holder.permits == sum(held.values())
            assert holder.permits == sum(
                one.out and one.holder == connection
                for story in self.stories.values()
                for one in story.tickets
            )
        for user in book.holders._by_uid.values():
            assert user.permits == sum(h.permits for h in holders.values() if h.user is user)
            assert set(user.own) == {kept for kept in book if kept.user is user}

    @invariant()
    def what_time_brings_is_on_the_timer(self) -> None:
        book = self.host.breakers._book
        for kept in book:
            due = kept.breaker.next_deadline_ns()
            if due is not None:
                armed = book._deadlines.get(kept)
                assert armed is not None
                assert armed <= due
                assert kept.due_ns == armed

    # --- told ahead -----------------------------------------------------------------------------

    def _wait_until(self, at_ns: int) -> None:
        """Come to a time; one that is over, as calls took longer than that, is no time to wait."""
        self.host.advance(max(at_ns - self.host.clock.now_ns, 0) / SECOND)

    def _acquire(self, user: User, name: str, which: int) -> Out | None:
        self.asked += 1
        cause = f"c{self.asked}"
        owned = self._meant(user, name, None)
        over = self._connection(user, which)
        rules = TIMED if name == "timed" else None
        if owned is None:
            with pytest.raises(PermissionDeniedError):
                self.host.acquire(user, name, over=over, rules=rules)
            return None
        if owned not in self.stories:
            self._begin(owned)
        now = self.host.clock.now_ns
        expected = self.stories[owned].acquire(now, over, cause)
        if expected.permit is None:
            error = self.host.refused(user, name, over=over, rules=rules, cause=cause)
            assert error.retry_after_ms == -(-expected.retry_after // 1_000_000) > 0
            return None
        permit = self.host.acquire(user, name, over=over, rules=rules, cause=cause)
        out = Out(owned, user, over, permit, expected.permit)
        self.outs.append(out)
        return out

    def _settle(self, out: Out, outcome: CallOutcome, retry_s: float | None) -> None:
        if out.owned.owner is None and out.user.uid not in self.shared_by:
            return
        retry_s = retry_s if outcome == "throttled" else None
        story, now = self.stories.get(out.owned), self.host.clock.now_ns
        effect = "unknown"
        if story is not None and out.connection in self.connections.values():
            as_ = "ignore" if outcome == "throttled" else outcome
            effect = story.settle(now, out.ticket, as_).effect
            if outcome == "throttled" and effect != "unknown":
                story.block(now, None if retry_s is None else round(retry_s * SECOND), "429")
        told = self.host.settle(
            out.user,
            out.permit,
            outcome,
            out.owned.name,
            over=out.connection,
            retry_after_s=retry_s,
            cause="429",
        )
        assert told == effect

    def _meant(self, user: User, name: str, uid: int | None) -> Owned | None:
        """Return what `name` is to a user, None where it is not for that one."""
        if user == ROOT:
            return Owned(uid, name) if uid is not None or name == "openai" else Owned(0, name)
        if uid is not None and uid != user.uid:
            return None
        if name != "openai":
            return Owned(user.uid, name)
        return Owned(None, name) if user.uid in self.shared_by else None

    def _connection(self, user: User, which: int) -> str:
        key = (user.uid, which)
        if key not in self.connections:
            self.serial += 1
            self.connections[key] = f"conn-{self.serial}"
        return self.connections[key]

    def _begin(self, owned: Owned) -> None:
        rules: BreakerRules = own_rules(TIMED, PLAIN) if owned.name == "timed" else PLAIN
        now = self.host.clock.now_ns
        story = self.stories[owned] = Story(rules)
        story.periods = [Period("closed", now, "", healthy_since=now)]
        self.told[owned] = []

    def _all_to(self, now: int) -> None:
        for story in self.stories.values():
            story.time(now)

    def _hear(self, event: Event) -> None:
        data = event.data
        owned = Owned(event.uid, data["name"])
        step = (data["previous"], data["state"], data["reason"], event.correlation_id)
        self.told[owned].append(step)

    def _is_found_well(self, owned: Owned) -> None:
        if self.stories[owned].now.state in {"forced_open", "disabled"}:
            return
        user = ANNA if owned.owner is None else next(u for u in _USERS if u.uid == owned.owner)
        calls = max(self.stories[owned].rules.half_open_calls, 3)
        for permitted in (0, self.stories[owned].rules.half_open_calls):
            self.host.advance(60)
            well = 0
            for _ in range(calls):
                out = self._acquire(user, owned.name, 0)
                if out is not None:
                    well += 1
                    self._settle(out, "success", None)
            assert well >= permitted
        assert self.stories[owned].now.state == "closed"
        self.all_breakers_stand_as_the_rules_say()


_USERS = (ANNA, BEN, CARL, ROOT)
#: Outages in turn, slow ones among them, that outlast the time for which a breaker was open: whose,
#: of what, how many probes are left out, over which connection, and whether its calls are slow.
OUTAGES = (
    (
        (ANNA, "timed", 3, 1, True),
        (CARL, "timed", 1, 1, False),
        (BEN, "timed", 1, 1, True),
        (CARL, "timed", 2, 0, True),
    ),
    (
        (BEN, "mine", 1, 0, True),
        (BEN, "mine", 3, 0, False),
        (ANNA, "timed", 3, 0, False),
        (BEN, "openai", 2, 0, True),
        (CARL, "mine", 1, 0, True),
        (ANNA, "timed", 2, 0, False),
        (ANNA, "openai", 1, 0, True),
        (CARL, "timed", 2, 0, False),
        (ANNA, "timed", 3, 1, True),
    ),
)


@pytest.mark.parametrize("outages", OUTAGES)
def test_outages_that_outlast_the_time_of_open(
    outages: tuple[tuple[User, str, int, int, bool], ...],
) -> None:
    """What the clock brings to one breaker is no less for what another user's calls take."""
    machine = BreakersMachine()
    for user, name, probes, which, slow in outages:
        machine.an_outage_leaves_probes_out(user, name, probes, which, slow=slow)
        machine.all_breakers_stand_as_the_rules_say()
        machine.who_holds_what_is_known()
        machine.what_time_brings_is_on_the_timer()
    machine.teardown()


def test_429_of_calls_that_began_before_it_opened() -> None:
    """The later of two pauses holds, though the breaker is open by the first one already."""
    machine = BreakersMachine()
    machine.calls_ask(ANNA, "mine", 0, 2)
    machine.a_call_ends(0, "throttled", 0.5)
    machine.a_call_ends(1, "throttled", 3.0)
    machine.all_breakers_stand_as_the_rules_say()
    machine.teardown()


TestBreakers = BreakersMachine.TestCase
#: Against a seeded mutant only the verdict counts: one fixed run, and no smaller example sought.
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestBreakers.settings = settings(
    max_examples=int(os.environ.get("SUPEREZIO_MODEL_EXAMPLES", "300")),
    stateful_step_count=50,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
