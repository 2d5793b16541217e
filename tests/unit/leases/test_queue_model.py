"""The queue against the rules: nobody waits for one that came later, whatever ends first."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from queue_model import CAPACITY, GIB, MAX_PASSED, PER_UID, Asked, Gpu, Host
from superezio.errors import QueueFullError
from superezio.wire import Placement
from supereziod.leases.placement import place
from supereziod.leases.queue import LeaseQueue, Waiting

HOSTS = (
    (("GPU-a", 12, ""),),
    (("GPU-a", 12, ""), ("GPU-b", 6, "")),
    (("GPU-a", 12, ""), ("GPU-b", 6, "")),
    (("GPU-a", 12, ""), ("GPU-b", 6, ""), ("GPU-c", 8, "opaque")),
    (("GPU-a", 12, ""), ("GPU-b", 6, "single")),
)
UIDS = st.sampled_from((1, 2, 3))
#: Small ones are granted and leave little; then large ones wait, and small ones come behind them.
NEEDS = st.integers(1, 4) | st.integers(3, 12)
COUNTS = st.sampled_from((1, 1, 1, 2))
PRIORITIES = st.sampled_from((0, 0, 0, 1, 2))
KINDS = st.sampled_from(("plain",) * 7 + ("alone", "split", "sizes itself"))
AVOIDED = st.sampled_from(((), (), (), ("GPU-a",), ("GPU-b",)))
WAITS = st.sampled_from((0, 20, 100, 100, 100))
PICKS = st.integers(0, 9)
ENDS = st.sampled_from(("at once", "at once", "lingering"))
ASKS = st.tuples(UIDS, NEEDS, COUNTS, PRIORITIES, KINDS, AVOIDED, WAITS)
FULL = st.lists(st.integers(2, 6), min_size=1, max_size=5)
Ask = tuple[int, int, int, int, str, tuple[str, ...], int]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.build(HOSTS[1])

    @initialize(
        gpus=st.sampled_from(HOSTS), leases=FULL, waiting=st.lists(NEEDS, min_size=1, max_size=3)
    )
    def begin(
        self, gpus: tuple[tuple[str, int, str], ...], leases: list[int], waiting: list[int]
    ) -> None:
        self.build(gpus)
        for need in leases:
            self._arrive(1, need, 1, 0, "plain", (), 0)
        for need in waiting:
            self._arrive(2, need, 1, 0, "plain", (), 100)

    def build(self, gpus: tuple[tuple[str, int, str], ...]) -> None:
        self.host = Host(
            [
                Gpu(uuid, total * GIB, opaque=kind == "opaque", single=kind == "single")
                for uuid, total, kind in gpus
            ]
        )
        self.queue = LeaseQueue(capacity=CAPACITY, per_uid=PER_UID, max_passed=MAX_PASSED)
        self.now = 0
        self.arrived = 0

    # --- who comes ------------------------------------------------------------------------------

    @rule(asks=st.lists(ASKS, min_size=1, max_size=3))
    def some_arrive(self, asks: list[Ask]) -> None:
        for ask in asks:
            self._arrive(*ask)

    def _arrive(
        self,
        uid: int,
        need: int,
        count: int,
        priority: int,
        kind: str,
        avoid: tuple[str, ...],
        wait: int,
        own: dict[str, int] | None = None,
    ) -> None:
        self.arrived += 1
        asked = Asked(
            id=f"w{self.arrived}",
            uid=uid,
            need=need * GIB,
            count=count,
            priority=priority,
            deadline=self.now + wait,
            alone=kind == "alone",
            split=kind == "split",
            sizes_itself=kind == "sizes itself",
            avoid=avoid,
            own=own or {},
        )
        ahead = self.host.ahead_of_newcomer(priority)
        assert [one.id for one in self.queue.ahead(priority=priority)] == [a.id for a in ahead]
        placement = self.queue.place_behind(
            asked.request(),
            self.host.capacities(),
            priority=priority,
            sizes_itself=asked.sizes_itself,
            uid=uid,
        )
        self._judge(asked, placement, ahead)
        if placement.decision == "grant":
            self.queue.pass_over(priority)
            self.host.pass_over(priority)
            self.host.grant(asked, placement.reserved, ahead)
        elif wait:
            self._enter(asked, len(ahead))
        self._pump()

    def _enter(self, asked: Asked, place: int) -> None:
        mine = sum(other.uid == asked.uid for other in self.host.waiting)
        if mine >= PER_UID or len(self.host.waiting) >= CAPACITY:
            with pytest.raises(QueueFullError):
                self.queue.add(self._waiting(asked))
            return
        assert self.queue.add(self._waiting(asked)) == place + 1
        self.host.pass_over(asked.priority)
        self.host.waiting.insert(place, asked)

    def _waiting(self, asked: Asked) -> Waiting:
        return Waiting(
            id=asked.id,
            uid=asked.uid,
            request=asked.request(),
            priority=asked.priority,
            enqueued_ns=self.now,
            deadline_ns=asked.deadline,
            sizes_itself=asked.sizes_itself,
        )

    @rule(uid=UIDS, need=NEEDS, priority=PRIORITIES, pick=PICKS, part=st.sampled_from((1, 2, 5)))
    def a_server_asks_for_what_it_uses(
        self, uid: int, need: int, priority: int, pick: int, part: int
    ) -> None:
        gpu = self._gpu(pick)
        used = min(part * GIB, gpu.foreign)
        # One that another process has is told apart from its own by no figure of the model.
        if used and not gpu.single:
            self._arrive(uid, need, 1, priority, "plain", (), 0, own={gpu.uuid: used})

    # --- what happens ---------------------------------------------------------------------------

    @rule(pick=PICKS, how=ENDS)
    def a_lease_ends(self, pick: int, how: str) -> None:
        if not self.host.leases:
            return
        lease = self.host.leases[pick % len(self.host.leases)]
        self.host.end(lease)
        if how == "lingering":
            for uuid, size in lease.reserved.items():
                self.host.gpus[uuid].returning += size
        self._pump()

    @rule()
    def leases_have_grown_and_what_was_released_is_back(self) -> None:
        for lease in self.host.leases:
            lease.growing = False
        for gpu in self.host.gpus.values():
            gpu.returning = 0
        self._pump()

    @rule(pick=PICKS, used=st.sampled_from((0, 1, 2, 5)))
    def foreign_use_changes(self, pick: int, used: int) -> None:
        gpu, used = self._gpu(pick), used * GIB
        if used > gpu.foreign:
            for asked in self.host.waiting:
                asked.disturbed.add(gpu.uuid)
        gpu.foreign = used
        self._pump()

    @rule(pick=PICKS, over=st.sampled_from((0, 1, 3)))
    def a_lease_uses_more_than_it_reserved(self, pick: int, over: int) -> None:
        if not self.host.leases:
            return
        lease = self.host.leases[pick % len(self.host.leases)]
        if over * GIB > lease.over:
            for asked in self.host.waiting:
                asked.disturbed |= set(lease.reserved)
        lease.over = over * GIB
        self._pump()

    @rule(pick=PICKS)
    def a_gpu_is_blocked_or_no_more(self, pick: int) -> None:
        gpu = self._gpu(pick)
        gpu.blocked = not gpu.blocked
        self._pump()

    @rule(pick=PICKS, later=st.sampled_from((1, 5, 20)))
    def one_leaves_and_time_passes(self, pick: int, later: int) -> None:
        if self.host.waiting:
            self._leave(self.host.waiting[pick % len(self.host.waiting)])
        self.now += later
        due = [asked for asked in self.host.waiting if asked.deadline <= self.now]
        for asked in due:
            self._leave(asked)
        self._pump()

    def teardown(self) -> None:
        """All that came before one ends: it is served then, though those past it stay for ever."""
        if not self.host.waiting:
            return
        asked = self.host.waiting[self.arrived % len(self.host.waiting)]
        for other in self.host.waiting[: self.host.waiting.index(asked)]:
            self._leave(other)
        later = [lease for lease, _ in asked.later]
        for lease in [lease for lease in self.host.leases if lease not in later]:
            self.host.end(lease)
        for lease in self.host.leases:
            lease.over = 0
        for gpu in self.host.gpus.values():
            gpu.foreign = gpu.returning = 0
            gpu.blocked = False
        candidates = [gpu for gpu in self.host.gpus.values() if self.host.could_use(asked, gpu)]
        self._pump()
        assert not candidates or asked not in self.host.waiting

    def _gpu(self, pick: int) -> Gpu:
        gpus = list(self.host.gpus.values())
        return gpus[pick % len(gpus)]

    def _leave(self, asked: Asked) -> None:
        removed = self.queue.remove(asked.id)
        assert removed is not None
        assert removed.id == asked.id
        self.host.waiting.remove(asked)

    # --- who is served --------------------------------------------------------------------------

    def _pump(self) -> None:
        """Grant as the daemon does: record each grant, and ask again."""
        while True:
            found = self.queue.first_grant(self.host.capacities())
            waiting = list(self.host.waiting)
            if found is None:
                for place_, asked in enumerate(waiting):
                    if self.host.is_exact(waiting[:place_]) and not asked.split:
                        assert len(self.host.may_have(asked, waiting[:place_])) < asked.count
                return
            place_, asked = next(
                (place_, asked) for place_, asked in enumerate(waiting) if asked.id == found[0].id
            )
            for earlier in range(place_):
                if self.host.is_exact(waiting[:earlier]) and not waiting[earlier].split:
                    before = self.host.may_have(waiting[earlier], waiting[:earlier])
                    assert len(before) < waiting[earlier].count, "the first is served first"
            self._judge(asked, found[1], waiting[:place_])
            self._leave(asked)
            self.host.grant(asked, found[1].reserved, waiting[:place_])

    def _judge(self, asked: Asked, placement: Placement, ahead: Sequence[Asked]) -> None:
        for uuid, size in placement.reserved.items():
            gpu = self.host.gpus[uuid]
            assert not gpu.blocked
            assert self.host.free(gpu) >= asked.rest(uuid, size)
            assert self.host.may_pass(asked, gpu, ahead, need=size), "nobody ahead is delayed"
        if asked.split or not self.host.is_exact(ahead):
            return
        allowed = self.host.may_have(asked, ahead)
        assert set(placement.chosen) <= set(allowed)
        granted = placement.decision == "grant"
        assert granted == (len(allowed) >= asked.count), "nobody is held back for nothing"
        for reason in placement.gpus:
            gpu = self.host.gpus[reason.uuid]
            fits_empty = gpu.uuid not in asked.avoid and gpu.total >= asked.need
            kept = not gpu.blocked and not self.host.may_pass(asked, gpu, ahead)
            assert (reason.code == "queued") == (fits_empty and kept)

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def the_order_is_priority_then_first_come_but_for_the_bound(self) -> None:
        assert [waiting.id for waiting in self.queue] == [asked.id for asked in self.host.waiting]
        assert all(asked.passed <= MAX_PASSED for asked in self.host.waiting)
        for priority in range(3):
            numbers = [int(a.id[1:]) for a in self.host.waiting if a.priority == priority]
            assert numbers == sorted(numbers)

    @invariant()
    def the_queue_is_bounded_in_all_and_per_user(self) -> None:
        uids = [asked.uid for asked in self.host.waiting]
        assert len(uids) <= CAPACITY
        assert all(uids.count(uid) <= PER_UID for uid in uids)

    @invariant()
    def nobody_waits_for_one_that_came_later(self) -> None:
        for asked in self.host.waiting:
            for gpu in self.host.gpus.values():
                later = self.host.later_on(asked, gpu)
                if not later or not self.host.could_use(asked, gpu):
                    continue
                taken = sum(lease.reserved[gpu.uuid] for lease in later)
                assert not asked.alone
                assert not asked.split
                assert not gpu.single
                assert not any(lease.alone or lease.growing for lease in later)
                assert gpu.total - taken >= asked.need, "there is room once all before it has ended"
                free = self.host.free(gpu)
                if gpu.uuid not in asked.disturbed and free + taken >= asked.need:
                    assert free >= asked.need, "there is room now, were it not for later ones"

    @invariant()
    def a_newcomer_would_be_answered_by_the_rules(self) -> None:
        for need in (1, 2, 3, 5, 8):
            asked = Asked(id="", uid=0, need=need * GIB, count=1, priority=0, deadline=0)
            placement = self.queue.place_behind(asked.request(), self.host.capacities())
            self._judge(asked, placement, self.host.ahead_of_newcomer(0))

    @invariant()
    def each_is_told_why_it_waits(self) -> None:
        capacities = self.host.capacities()
        told = list(self.queue.reasons(capacities))
        assert [waiting.id for waiting, _ in told] == [asked.id for asked in self.host.waiting]
        for place_, (asked, (waiting, placement)) in enumerate(
            zip(self.host.waiting, told, strict=True)
        ):
            assert placement.decision != "grant"
            self._judge(asked, placement, self.host.waiting[:place_])
            alone = self.queue.place_behind(
                waiting.request,
                capacities,
                behind=waiting.id,
                sizes_itself=waiting.sizes_itself,
                uid=waiting.uid,
            )
            assert alone == placement
        if self.host.waiting:
            first = self.host.waiting[0]
            assert told[0][1] == place(first.request(), capacities), "the first waits for no one"


TestQueue = QueueMachine.TestCase
#: Against a seeded mutant only the verdict counts: one fixed run, and no smaller example sought.
MUTANT = "SUPEREZIO_MUTANT" in os.environ
TestQueue.settings = settings(
    max_examples=int(os.environ.get("SUPEREZIO_MODEL_EXAMPLES", "150")),
    stateful_step_count=40,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
