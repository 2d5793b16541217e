"""Quotas with the queue, against a model: whatever comes and ends, and whichever are in force.

  All quotas that apply to an acquire have to hold: the user's own, or else the default, and those
  of the groups that it was in when it asked, each one for all members together. Admins are held to
  none, and take nothing of a group's. What is over a quota waits, if it waits at all; what could
  never be within one is refused. Whoever waits for a quota keeps its place, and no GPU from those
  behind it. Of a quota they get what those ahead do not wait for, for whatever they wait: nobody is
  over its quota because of one that came later. Who may have room is for `queue_model.py` to say.

Sums are made anew from the list of leases, whenever they are asked for.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lease_host import BIG, SMALL, LeaseHost, Silent, ask, caller_of, turn
from queue_model import CAPACITY, GIB, MAX_PASSED, PER_UID, Asked, Gpu, Granted, Host
from superezio.errors import (
    CancelledRequestError,
    NoCapacityError,
    QueueFullError,
    QuotaExceededError,
    ShuttingDownError,
    SuperezioError,
    WaitTimeoutError,
)
from superezio.wire import Lease
from supereziod.leases.handles import Caller
from supereziod.leases.queue import LeaseQueue
from supereziod.leases.quotas import GroupQuota, Quota, QuotaRules
from supereziod.observability.events import EventLog

STUDENTS, STAFF = 500, 501
ADMIN = caller_of(0, uid=9, role="admin", groups=frozenset({STUDENTS}), connection="admin")
RULES = (
    QuotaRules(),
    QuotaRules(default=Quota(vram_bytes=8 * GIB)),
    QuotaRules(default=Quota(leases=2), by_uid={2: Quota(vram_bytes=10 * GIB)}),
    QuotaRules(by_gid={STUDENTS: GroupQuota(name="students", vram_bytes=9 * GIB)}),
    QuotaRules(
        default=Quota(vram_bytes=12 * GIB, leases=3),
        by_gid={
            STUDENTS: GroupQuota(name="students", vram_bytes=7 * GIB, leases=3),
            STAFF: GroupQuota(name="staff", leases=1),
        },
    ),
)
GROUPS = st.sampled_from(((STUDENTS,), (STUDENTS,), (STUDENTS, STAFF), ()))
#: User 9 is an admin.
UIDS = st.sampled_from((1, 1, 2, 2, 3, 9))
NEEDS = st.sampled_from((2, 3, 3, 4, 6, 8, 10, 12))
PRIORITIES = st.sampled_from((0, 0, 0, 0, 1))
WAITS = st.sampled_from((0.0, 100.5, 400.5, 400.5))
AVOIDED = st.sampled_from(((), (), (SMALL,), (BIG,)))
ASKS = st.tuples(UIDS, GROUPS, NEEDS, PRIORITIES, WAITS, AVOIDED)
Ask = tuple[int, tuple[int, ...], int, int, float, tuple[str, ...]]
WHICH = st.integers(0, 7)


@dataclass(eq=False)
class Member(Asked):
    """An acquire, and what quotas see of it. `sooner`: those granted past it that came later."""

    groups: frozenset[int] = frozenset()
    exempt: bool = False
    task: asyncio.Task[Lease] | None = None
    sooner: list[Member] = field(default_factory=list)


class Limits:
    """The quotas in force, and who has what: every question sums all up again."""

    def __init__(self, rules: QuotaRules) -> None:
        self.rules = rules
        self.leased: list[Member] = []

    def is_over(self, asked: Member, besides: Sequence[Member] = ()) -> bool:
        """Tell whether a quota stands against it, if those besides had their leases, too."""
        return any(
            (quota.leases is not None and len(sizes) + 1 > quota.leases)
            or (quota.vram_bytes is not None and sum(sizes) + asked.need > quota.vram_bytes)
            for quota, sizes in self._applying(asked, [*self.leased, *besides])
        )

    def is_never_within(self, asked: Member) -> bool:
        return any(
            (quota.leases is not None and quota.leases < 1)
            or (quota.vram_bytes is not None and asked.need > quota.vram_bytes)
            for quota, _ in self._applying(asked, [])
        )

    def _applying(
        self, asked: Member, leased: Sequence[Member]
    ) -> Iterator[tuple[Quota, list[int]]]:
        if asked.exempt:
            return
        own = self.rules.by_uid.get(asked.uid, self.rules.default)
        yield own, [one.need for one in leased if one.uid == asked.uid]
        for gid, quota in self.rules.by_gid.items():
            if gid in asked.groups:
                members = [one for one in leased if gid in one.groups and not one.exempt]
                yield quota, [one.need for one in members]


class QuotaMachine(RuleBasedStateMachine):
    @initialize(rules=st.sampled_from(RULES[1:]), asks=st.lists(ASKS, min_size=3, max_size=6))
    def boot(self, rules: QuotaRules, asks: list[Ask]) -> None:
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory(prefix="quotas-")
        self.limits = Limits(rules)
        self.model = Host([Gpu(BIG, 12 * GIB), Gpu(SMALL, 6 * GIB)])
        self.leases: dict[str, tuple[Granted, Member]] = {}
        self.tasks: list[asyncio.Task[Lease]] = []
        self.host = self.runner.run(self.started(None))
        self.some_ask(asks)

    async def started(self, clock: Any) -> LeaseHost:
        queue = LeaseQueue(capacity=CAPACITY, per_uid=PER_UID, max_passed=MAX_PASSED)
        host = LeaseHost(
            Path(self.scratch.name),
            clock=clock,
            queue=queue,
            quotas=self.limits.rules,
            events=EventLog(logger=Silent()),
        )
        await host.leases.start()
        host.leases.ready()
        host.monitor.read()
        return host

    def teardown(self) -> None:
        if not hasattr(self, "host"):
            return
        self.runner.run(self.host.leases.aclose())
        self.runner.run(self.settled())
        self.runner.close()
        self.scratch.cleanup()

    async def settled(self) -> None:
        for task in self.tasks:
            task.cancel()  # the model may have failed because nothing will come of it
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # --- who comes ------------------------------------------------------------------------------

    @rule(asks=st.lists(ASKS, min_size=1, max_size=3))
    def some_ask(self, asks: list[Ask]) -> None:
        for one in asks:
            self.somebody_asks(*one)

    def somebody_asks(
        self,
        uid: int,
        groups: tuple[int, ...],
        need: int,
        priority: int,
        wait: float,
        avoid: tuple[str, ...],
    ) -> None:
        asked = Member(
            id=f"w{len(self.tasks) + 1}",
            uid=uid,
            need=need * GIB,
            count=1,
            priority=priority,
            deadline=self.now_ns + round(wait * 1e9),
            avoid=avoid if need <= 6 else (SMALL,),
            groups=frozenset(groups),
            exempt=uid == 9,
        )
        ahead: list[Member] = self.model.ahead_of_newcomer(priority)  # type: ignore[assignment]
        if not self.model.is_exact(ahead):
            return
        asked.task = self.runner.run(self.asks(asked, wait))
        over, for_room = self.walk(ahead)
        may_have = self.model.may_have(asked, for_room)
        if self.limits.is_never_within(asked):
            self.ended(asked, QuotaExceededError)
        elif self.limits.is_over(asked, over):
            self.enters(asked, len(ahead), wait, refusal=QuotaExceededError)
        elif may_have:
            self.model.pass_over(priority)
            self.granted(asked, may_have, ahead)
        else:
            self.enters(asked, len(ahead), wait, refusal=NoCapacityError)
        self.pump()

    async def asks(self, asked: Member, wait: float) -> asyncio.Task[Lease]:
        who = ADMIN if asked.exempt else caller(asked)
        params = ask(
            asked.need / GIB,
            mode="ttl",
            ttl_ms=86_000_000,
            priority=asked.priority,
            avoid=list(asked.avoid),
            wait_ms=round(wait * 1000),
        )

        async def request() -> Lease:
            answer = self.host.leases.acquire(who, params)
            return answer if isinstance(answer, Lease) else await answer

        task = asyncio.ensure_future(request())
        self.tasks.append(task)
        await turn()
        return task

    def enters(
        self, asked: Member, place: int, wait: float, *, refusal: type[SuperezioError]
    ) -> None:
        mine = sum(other.uid == asked.uid for other in self.waiting)
        if not wait:
            self.ended(asked, refusal)
        elif mine >= PER_UID or len(self.waiting) >= CAPACITY:
            self.ended(asked, QueueFullError)
        else:
            self.model.pass_over(asked.priority)
            self.model.waiting.insert(place, asked)

    # --- what happens ---------------------------------------------------------------------------

    @precondition(lambda self: self.leases)
    @rule(which=WHICH)
    def a_lease_is_released(self, which: int) -> None:
        lease = list(self.leases)[which % len(self.leases)]
        self.in_loop(lambda: self.host.leases.release(ADMIN, lease))
        granted, member = self.leases.pop(lease)
        self.limits.leased.remove(member)
        self.model.end(granted)
        self.in_loop(self.host.monitor.read)
        self.pump()

    @rule(rules=st.sampled_from(RULES))
    def other_quotas_are_in_force(self, rules: QuotaRules) -> None:
        self.in_loop(lambda: self.host.leases.set_quotas(rules))
        self.limits.rules = rules
        for asked in list(self.waiting):
            asked.sooner.clear()  # they came under other quotas
            if self.limits.is_never_within(asked):
                self.leaves(asked, QuotaExceededError)
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(which=WHICH)
    def a_wait_is_taken_out(self, which: int) -> None:
        place = which % len(self.waiting)
        waiter = self.host.leases.list(ADMIN).queue[place].id
        self.in_loop(lambda: self.host.leases.cancel(ADMIN, waiter))
        self.leaves(self.waiting[place], CancelledRequestError)
        self.pump()

    @rule(seconds=st.sampled_from((30, 75)))
    def time_passes(self, seconds: int) -> None:
        self.host.clock.advance(seconds)
        self.in_loop(self.host.monitor.read)
        due = [asked for asked in self.waiting if asked.deadline <= self.now_ns]
        for asked in sorted(due, key=lambda asked: (asked.deadline, int(asked.id[1:]))):
            if asked in self.waiting:  # the end of another's wait did not serve it
                self.leaves(asked, WaitTimeoutError)
                self.serve()
        self.pump()

    @precondition(lambda self: len(self.leases) > 1)
    @rule()
    def the_daemon_is_started_again(self) -> None:
        self.runner.run(self.host.leases.aclose())
        self.in_loop(lambda: None)
        for asked in list(self.waiting):
            self.leaves(asked, ShuttingDownError)
        self.host = self.runner.run(self.started(self.host.clock))

    # --- what follows by the model --------------------------------------------------------------

    def walk(self, ahead: Sequence[Member]) -> tuple[list[Member], list[Member]]:
        """Return those ahead whom a quota is kept for, and those for whom room is."""
        for_room: list[Member] = []
        for place, asked in enumerate(ahead):
            if not self.limits.is_over(asked, ahead[:place]):
                for_room.append(asked)
        return list(ahead), for_room

    def pump(self) -> None:
        """Grant to those who may be; whoever is left waits still."""
        self.serve()
        for asked in self.waiting:
            assert asked.task is not None
            assert not asked.task.done(), "nobody is granted before its time"

    def serve(self) -> None:
        """Grant to the first that may be, and ask again."""
        while (found := self.first()) is not None:
            asked, may_have, ahead = found
            self.model.waiting.remove(asked)
            self.granted(asked, may_have, ahead)

    def first(self) -> tuple[Member, list[str], list[Member]] | None:
        for place, asked in enumerate(self.waiting):
            ahead = self.waiting[:place]
            over, for_room = self.walk(ahead)
            if not self.limits.is_over(asked, over):
                may_have = self.model.may_have(asked, for_room)
                if may_have:
                    return asked, may_have, ahead
        return None

    def granted(self, asked: Member, may_have: list[str], ahead: list[Member]) -> None:
        assert asked.task is not None
        assert asked.task.done(), "nobody waits whom its quotas and the VRAM allow"
        lease = asked.task.result()
        assert not self.limits.is_over(asked), "no quota is exceeded"
        (gpu,) = lease.gpus
        assert gpu.uuid in may_have
        self.model.grant(asked, {gpu.uuid: asked.need}, self.walk(ahead)[1])
        self.leases[lease.id] = self.model.leases[-1], asked
        self.limits.leased.append(asked)
        for other in ahead:
            other.sooner.append(asked)

    def leaves(self, asked: Member, error: type[SuperezioError]) -> None:
        self.model.waiting.remove(asked)
        self.ended(asked, error)

    def ended(self, asked: Member, error: type[SuperezioError]) -> None:
        assert asked.task is not None
        assert asked.task.done()
        assert isinstance(asked.task.exception(), error)

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def leases_and_the_queue_are_those_of_the_model(self) -> None:
        shown = self.host.leases.list(ADMIN)
        assert {lease.id for lease in shown.leases} == set(self.leases)
        assert [one.vram_bytes for one in shown.queue] == [one.need for one in self.waiting]

    @invariant()
    def each_that_waits_for_a_quota_is_told_so(self) -> None:
        over_at = [
            self.limits.is_over(asked, self.walk(self.waiting[:place])[0])
            for place, asked in enumerate(self.waiting)
        ]
        shown = self.host.leases.list(ADMIN).queue
        assert [one.reason.startswith("the quota of") for one in shown] == over_at

    @invariant()
    def nobody_is_over_its_quota_because_of_one_that_came_later(self) -> None:
        for asked in self.waiting:
            if self.limits.is_over(asked):
                besides = Limits(self.limits.rules)
                besides.leased = [one for one in self.limits.leased if one not in asked.sooner]
                assert besides.is_over(asked)

    # --- the parts of it ------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Member]:
        return self.model.waiting  # type: ignore[return-value]

    @property
    def now_ns(self) -> int:
        now: int = self.host.clock()
        return now

    def in_loop(self, what: Callable[[], Any]) -> None:
        async def call() -> None:
            what()
            await turn()

        self.runner.run(call())


def caller(asked: Member) -> Caller:
    return caller_of(0, uid=asked.uid, groups=asked.groups, connection=asked.id)


def test_quotas_and_the_queue_are_as_the_rules_have_it() -> None:
    mutant = "SUPEREZIO_MUTANT" in os.environ
    run_state_machine_as_test(
        QuotaMachine,
        settings=settings(
            max_examples=int(os.environ.get("SUPEREZIO_QUOTA_EXAMPLES", "50")),
            # Longer against a seeded fault, which is then seen in more of the few examples.
            stateful_step_count=40 if mutant else 25,
            deadline=None,
            database=None,
            derandomize=mutant,
            phases=(Phase.generate,) if mutant else tuple(Phase),
        ),
    )
