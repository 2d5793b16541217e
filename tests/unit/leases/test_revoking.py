"""SEMANTICS 5, the revoke ladder, and 6, the drain of a critical GPU: by examples and a model."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host
from superezio.errors import (
    ConflictError,
    InvalidParamsError,
    PermissionDeniedError,
    StaleLeaseError,
    StateNotWritableError,
)
from superezio.wire import (
    Lease,
    LeaseAcknowledgeParams,
    LeaseRevokeParams,
    Level,
    Revocation,
    RevokeReason,
)
from supereziod.leases.manager import LeaseTimes
from supereziod.storage import StorageError

ME = caller_of()
ADMIN = caller_of(uid=4712, role="admin")
STRANGER = caller_of(uid=4711)
RESTART_GRACE_S = 30
DRAIN_S, STEP_S, LEAST_S = 30, 5, 5


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


def revoke(host: LeaseHost, lease: Lease, **params: Any) -> Revocation:
    caller = params.pop("caller", ADMIN)
    shown = host.leases.revoke(caller, LeaseRevokeParams(lease=lease.id, **params))
    assert shown.revocation is not None
    return shown.revocation


def answer(host: LeaseHost, lease: Lease, **params: Any) -> Lease:
    caller = params.pop("caller", ME)
    return host.leases.acknowledge(caller, LeaseAcknowledgeParams(lease=lease.id, **params))


def is_there(host: LeaseHost, lease: Lease) -> bool:
    return lease.id in {each.id for each in host.leases.list(ADMIN).leases}


def pass_time(host: LeaseHost, seconds: float) -> None:
    host.clock.advance(seconds)
    host.monitor.changed()


# --- notice, answer, deadline, LOST -------------------------------------------------------------


async def test_the_holder_gets_notice_with_a_deadline_and_then_has_lost_it(
    host: LeaseHost,
) -> None:
    lease = host.now(ME, name="llm")
    order = revoke(host, lease, deadline_s=60, reason="a new driver")
    assert (order.reason, order.message, order.remaining_s) == ("admin", "a new driver", 60.0)
    (notice,) = host.only("lease.draining")
    assert (notice.lease, notice.uid, notice.severity) == (lease.id, ME.uid, "warning")
    assert notice.data["deadline_s"] == 60.0
    assert notice.data["reason"] == "admin"
    assert notice.data["by_uid"] == ADMIN.uid
    assert "a new driver" in notice.message
    pass_time(host, 59.9)
    assert host.leases.get(ME, lease.id).state == "draining"
    pass_time(host, 0.1)
    with pytest.raises(StaleLeaseError):
        host.leases.get(ME, lease.id)
    (lost,) = host.only("lease.lost")
    assert (lost.lease, lost.data["reason"]) == (lease.id, "revoked")
    assert lost.data["revoked_for"] == "admin"


async def test_a_holder_that_ends_in_time_has_released_and_not_lost(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease)
    assert answer(host, lease, message="saving").revocation is not None
    assert host.leases.release(ME, lease.id).released
    pass_time(host, 60)
    assert "lease.lost" not in host.types()
    (told,) = host.only("lease.acknowledged")
    assert "saving" in told.message


async def test_without_a_deadline_it_is_the_configured_one(host: LeaseHost) -> None:
    assert revoke(host, host.now(ME)).remaining_s == 30.0


async def test_a_deadline_of_nothing_is_over_at_once(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease, deadline_s=0)
    pass_time(host, 0)
    assert not is_there(host, lease)
    assert host.types()[-2:] == ["lease.draining", "lease.lost"]


async def test_a_refusal_is_told_and_the_deadline_stands(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease, deadline_s=10)
    order = answer(host, lease, accept=False, message="two hours left").revocation
    assert order is not None
    assert (order.answer, order.answer_message) == ("refused", "two hours left")
    (told,) = host.only("lease.refused")
    assert (told.severity, told.lease) == ("warning", lease.id)
    assert "two hours left" in told.message
    pass_time(host, 10)
    assert not is_there(host, lease)


async def test_an_acknowledgement_does_not_lengthen_the_deadline(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease, deadline_s=10)
    answer(host, lease)
    pass_time(host, 10)
    assert not is_there(host, lease)


async def test_to_revoke_again_only_brings_the_deadline_forward(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease, deadline_s=20, reason="first")
    order = revoke(host, lease, deadline_s=200, reason="second")
    assert (order.remaining_s, order.message) == (20.0, "first")
    assert revoke(host, lease, deadline_s=5, reason="third").remaining_s == 5.0
    assert len(host.only("lease.draining")) == 2


async def test_its_owner_may_revoke_a_lease_and_others_may_not(host: LeaseHost) -> None:
    lease = host.now(ME)
    with pytest.raises(PermissionDeniedError):
        revoke(host, lease, caller=STRANGER)
    assert revoke(host, lease, caller=ME).reason == "owner"
    with pytest.raises(PermissionDeniedError):
        answer(host, lease, caller=STRANGER)


async def test_why_a_lease_is_revoked_is_not_shown_to_others(host: LeaseHost) -> None:
    lease = host.now(ME)
    revoke(host, lease, reason="unpaid bills")
    shown = host.leases.get(STRANGER, lease.id)
    assert (shown.state, shown.revocation) == ("draining", None)


async def test_there_is_nothing_to_acknowledge_where_nothing_was_ordered(host: LeaseHost) -> None:
    with pytest.raises(ConflictError):
        answer(host, host.now(ME))


@pytest.mark.parametrize(
    "params", [{"deadline_s": -1}, {"deadline_s": 86_401}, {"reason": "x" * 257}, {"reason": "\a"}]
)
async def test_an_order_nobody_can_mean_is_refused(host: LeaseHost, params: dict[str, Any]) -> None:
    lease = host.now(ME)
    with pytest.raises(InvalidParamsError):
        revoke(host, lease, **params)
    assert host.leases.get(ME, lease.id).revocation is None


async def test_an_order_that_cannot_be_recorded_is_refused_and_changes_nothing(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME)

    def full(_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(host.store, "put", full)
    with pytest.raises(StateNotWritableError):
        revoke(host, lease)
    assert host.leases.get(ME, lease.id).revocation is None
    assert "lease.draining" not in host.types()


async def test_what_a_lost_holder_still_uses_counts_as_foreign(host: LeaseHost) -> None:
    """It is never free: the next lease has to fit beside it."""
    lease = host.now(ME, vram=8)
    host.big.processes[os.getpid()] = 7 * GIB
    host.clock.advance(1)
    host.monitor.read()
    assert host.leases.get(ME, lease.id).gpus[0].actual_bytes == 7 * GIB
    revoke(host, lease, deadline_s=1)
    pass_time(host, 1)
    assert not is_there(host, lease)
    assert host.free(BIG) <= 5 * GIB
    for _ in range(8):
        host.clock.advance(1)
        host.monitor.read()
        assert host.free(BIG) <= 5 * GIB
    usage = host.leases.usage()[BIG]
    assert (usage.foreign_bytes, usage.reserved_bytes, usage.leases) == (7 * GIB, 0, 0)


# --- over a restart -----------------------------------------------------------------------------


async def test_an_order_stands_over_a_restart_and_can_be_heard_after_it(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        soon, late = before.now(ME, vram=1), before.now(ME, vram=1)
        revoke(before, soon, deadline_s=5, reason="soon")
        revoke(before, late, deadline_s=100, reason="late")
        answer(before, late, accept=False, message="no")
        before.clock.advance(20)
    async with lease_host(tmp_path, clock=before.clock) as after:
        first = after.leases.get(ME, soon.id).revocation
        assert first is not None
        assert first.remaining_s == pytest.approx(RESTART_GRACE_S, abs=0.01)
        second = after.leases.get(ME, late.id).revocation
        assert second is not None
        assert second.remaining_s == pytest.approx(80, abs=0.01)
        assert (second.answer, second.answer_message) == ("refused", "no")
        assert {event.lease for event in after.only("lease.draining")} == {soon.id, late.id}
        after.leases.ready()
        assert len(after.only("lease.draining")) == 2
        pass_time(after, RESTART_GRACE_S + 0.1)
        assert not is_there(after, soon)
        assert is_there(after, late)


# --- a critical GPU -----------------------------------------------------------------------------


def heat(host: LeaseHost, level: Level) -> None:
    host.small.level = level
    host.monitor.changed()


async def test_leases_on_a_critical_gpu_are_drained_by_priority(host: LeaseHost) -> None:
    """The lowest at once, the newest of it first; the next while it is still critical."""
    for name, priority in (("old", 1), ("high", 5), ("new", 1), ("low", 0)):
        host.now(ME, vram=1, name=name, priority=priority, prefer=[SMALL])
    names = {lease.id: lease.name for lease in host.leases.list(ME).leases}

    def told() -> list[str | None]:
        return [names[event.lease] for event in host.only("lease.draining")]

    heat(host, "critical")
    assert told() == ["low"]
    pass_time(host, STEP_S)
    assert told() == ["low", "new", "old"]
    pass_time(host, STEP_S)
    assert told() == ["low", "new", "old", "high"]
    assert host.only("lease.draining")[-1].data["deadline_s"] == pytest.approx(20)


async def test_all_leases_of_a_critical_gpu_are_told_within_the_time_it_has(
    host: LeaseHost,
) -> None:
    for priority in range(10):
        host.now(ME, vram=0.1, priority=priority, prefer=[SMALL])
    heat(host, "critical")
    for _ in range(30):
        pass_time(host, 1)
    assert len(host.only("lease.draining")) == 10
    pass_time(host, LEAST_S)
    assert not host.leases.list(ME).leases


async def test_whoever_is_told_last_has_time_all_the_same(host: LeaseHost) -> None:
    host.now(ME, vram=1, prefer=[SMALL])
    last = host.now(ME, vram=1, priority=5, prefer=[SMALL])
    heat(host, "critical")
    pass_time(host, DRAIN_S)
    order = host.leases.get(ME, last.id).revocation
    assert order is not None
    assert order.remaining_s == LEAST_S


async def test_who_was_not_told_yet_stays_when_the_gpu_has_cooled(host: LeaseHost) -> None:
    low = host.now(ME, vram=1, prefer=[SMALL])
    high = host.now(ME, vram=1, priority=5, prefer=[SMALL])
    heat(host, "critical")
    heat(host, "unknown")
    assert host.leases.get(ME, low.id).state == "draining"
    heat(host, "hot")
    assert host.leases.get(ME, low.id).state == "granted"
    (kept,) = host.only("lease.kept")
    assert kept.lease == low.id
    pass_time(host, 60)
    assert is_there(host, low)
    assert [event.lease for event in host.only("lease.draining")] == [low.id]
    assert is_there(host, high)


async def test_a_gpu_that_cannot_be_read_for_a_moment_is_not_given_more_time(
    host: LeaseHost,
) -> None:
    host.now(ME, vram=1, prefer=[SMALL])
    high = host.now(ME, vram=1, priority=5, prefer=[SMALL])
    heat(host, "critical")
    pass_time(host, STEP_S - 1)
    heat(host, "unknown")
    pass_time(host, 6)
    heat(host, "critical")
    order = host.leases.get(ME, high.id).revocation
    assert order is not None, "it is told when it would have been"
    assert order.remaining_s == pytest.approx(DRAIN_S - STEP_S - 5)


async def test_a_drained_lease_is_lost_at_the_end_of_the_grace(host: LeaseHost) -> None:
    lease = host.now(ME, vram=1, prefer=[SMALL])
    heat(host, "critical")
    pass_time(host, DRAIN_S - 0.1)
    assert is_there(host, lease)
    pass_time(host, 0.1)
    assert not is_there(host, lease)


async def test_heat_is_no_reason_any_more_once_all_of_a_leases_gpus_are_cool(
    tmp_path: Path,
) -> None:
    async with lease_host(tmp_path, times=LeaseTimes(drain_s=600)) as host:
        lease = host.now(ME, vram=1, count=2)
        heat(host, "critical")
        pass_time(host, 1)
        host.big.level = "unknown"
        heat(host, "normal")
        assert host.leases.get(ME, lease.id).state == "draining", "nobody knows of the other"
        host.big.level = "normal"
        host.monitor.changed()
        assert host.leases.get(ME, lease.id).state != "draining"
        pass_time(host, 700)
        assert is_there(host, lease)


async def test_heat_is_drained_where_nothing_can_be_recorded(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME, vram=1, prefer=[SMALL])

    def full(_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(host.store, "put", full)
    heat(host, "critical")
    assert host.leases.get(ME, lease.id).state == "draining"


async def test_what_the_daemon_orders_by_itself_stands_where_nothing_can_be_recorded(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME)

    def full(_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(host.store, "put", full)
    (live,) = host.leases._book
    host.leases._revoker.order(live, "idle", "unused for an hour")
    pass_time(host, 30)
    assert not is_there(host, lease)


async def test_an_order_for_heat_is_given_anew_after_a_restart(tmp_path: Path) -> None:
    """The hot GPU is found hot again, or it has cooled meanwhile."""
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=1, prefer=[SMALL])
        revoke(before, lease, deadline_s=300)
        heat(before, "critical")
        order = before.leases.get(ME, lease.id).revocation
        assert order is not None
        assert order.reason == "gpu_critical"
        assert order.message.startswith("GPU 1 (")
        # An order that is recorded while the GPU is hot takes none for heat along.
        revoke(before, lease, deadline_s=200)
    async with lease_host(tmp_path, clock=before.clock) as after:
        order = after.leases.get(ME, lease.id).revocation
        assert order is not None
        assert order.reason == "admin"


async def test_a_gpu_that_cools_does_not_take_back_what_an_admin_ordered(host: LeaseHost) -> None:
    lease = host.now(ME, vram=1, prefer=[SMALL])
    revoke(host, lease, deadline_s=100, reason="maintenance")
    heat(host, "critical")
    order = host.leases.get(ME, lease.id).revocation
    assert order is not None
    assert order.reason == "gpu_critical"
    heat(host, "normal")
    order = host.leases.get(ME, lease.id).revocation
    assert order is not None
    assert (order.reason, order.message) == ("admin", "maintenance")
    assert "lease.kept" not in host.types()
    assert host.only("lease.draining")[-1].data["reason"] == "admin"


# --- the model ----------------------------------------------------------------------------------


class Ordered:
    """A lease as the ladder has it: deadlines by reason, and what the holder said to each."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.deadline_s: dict[RevokeReason, Fraction] = {}
        self.answers: dict[RevokeReason, str] = {}

    @property
    def counting(self) -> RevokeReason | None:
        return min(self.deadline_s, key=lambda reason: self.deadline_s[reason], default=None)


class Ladder(RuleBasedStateMachine):
    """Orders, answers, heat, time and restarts in any order. All leases lie on one GPU."""

    @initialize()
    def boot(self) -> None:
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory(prefix="ladder-")
        self.level: Level = "normal"
        self.leases: dict[str, Ordered] = {}
        self.since_s: Fraction | None = None
        self.next_s = Fraction(0)
        self.host = self.runner.run(self.started(None))
        self.now_s = Fraction(self.host.clock(), 10**9)

    async def started(self, clock: Any) -> LeaseHost:
        host = LeaseHost(Path(self.scratch.name), clock=clock)
        host.small.level = self.level
        await host.leases.start()
        host.leases.ready()
        host.monitor.read()
        return host

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.runner.run(self.host.leases.aclose())
            self.runner.close()
            self.scratch.cleanup()

    # --- what happens ---------------------------------------------------------------------------

    @precondition(lambda self: len(self.leases) < 6)
    @rule(priority=st.integers(0, 2))
    def acquire(self, priority: int) -> None:
        params = {"mode": "ttl", "ttl_ms": 86_000_000, "prefer": [SMALL], "priority": priority}
        self.in_loop(self.host.monitor.read)
        self.follow()
        lease = self.in_loop(lambda: self.host.now(ME, vram=0.1, **params).id)
        self.leases[lease] = Ordered(priority)

    @precondition(lambda self: self.leases)
    @rule(
        which=st.integers(0, 5),
        reason=st.sampled_from(["admin", "owner"]),
        within_s=st.sampled_from([1, 7, 29, 45, 300]),
    )
    def revoke(self, which: int, reason: RevokeReason, within_s: int) -> None:
        lease, ordered = self.pick(which)
        caller = ME if reason == "owner" else ADMIN
        params = LeaseRevokeParams(lease=lease, deadline_s=within_s)
        self.in_loop(lambda: self.host.leases.revoke(caller, params))
        new_s = self.now_s + within_s
        if new_s < ordered.deadline_s.get(reason, float("inf")):
            ordered.deadline_s[reason] = new_s
            ordered.answers.pop(reason, None)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 5), accept=st.booleans())
    def answer(self, which: int, accept: bool) -> None:  # noqa: FBT001 - drawn
        lease, ordered = self.pick(which)
        params = LeaseAcknowledgeParams(lease=lease, accept=accept)
        if ordered.counting is None:
            with pytest.raises(ConflictError):
                self.in_loop(lambda: self.host.leases.acknowledge(ME, params))
            return
        self.in_loop(lambda: self.host.leases.acknowledge(ME, params))
        ordered.answers[ordered.counting] = "accepted" if accept else "refused"

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 5))
    def release(self, which: int) -> None:
        lease, _ = self.pick(which)
        self.in_loop(lambda: self.host.leases.release(ME, lease))
        del self.leases[lease]

    @rule(level=st.sampled_from(["normal", "hot", "critical", "critical", "unknown"]))
    def the_gpu_is(self, level: Level) -> None:
        self.level = self.host.small.level = level
        self.in_loop(self.host.monitor.changed)
        self.follow()

    @rule(seconds=st.sampled_from([0.5, 1, 4.9, 5, 11, 30]))
    def time_passes(self, seconds: float) -> None:
        self.host.clock.advance(seconds)
        self.in_loop(self.host.monitor.changed)
        self.follow()

    @precondition(lambda self: any(each.deadline_s for each in self.leases.values()))
    @rule(down_s=st.sampled_from([0, 8, 40]))
    def the_daemon_is_killed_and_started(self, down_s: float) -> None:
        self.runner.run(self.host.leases.aclose())
        self.host.clock.advance(down_s)
        for ordered in self.leases.values():
            ordered.deadline_s.pop("gpu_critical", None)
            ordered.answers.pop("gpu_critical", None)
            # From READY on there is time to hear of it.
            for reason, deadline_s in ordered.deadline_s.items():
                ready_s = Fraction(self.host.clock(), 10**9) + RESTART_GRACE_S
                ordered.deadline_s[reason] = max(deadline_s, ready_s)
        self.since_s = None
        self.host = self.runner.run(self.started(self.host.clock))
        self.follow()

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def every_lease_is_where_the_ladder_has_it(self) -> None:
        shown = {lease.id: lease for lease in self.host.leases.list(ME).leases}
        assert set(shown) == set(self.leases)
        for lease, ordered in self.leases.items():
            order = shown[lease].revocation
            reason = ordered.counting
            assert (shown[lease].state == "draining") == (reason is not None)
            if reason is None:
                assert order is None
                continue
            assert order is not None
            left_s = float(ordered.deadline_s[reason] - self.now_s)
            assert order.remaining_s == pytest.approx(left_s, abs=0.01)
            ties = [r for r, s in ordered.deadline_s.items() if s - self.now_s - left_s < 0.02]
            if len(ties) == 1:
                assert order.reason == reason
                assert order.answer == ordered.answers.get(reason)

    # --- the parts of it ------------------------------------------------------------------------

    def follow(self) -> None:
        """Do what the clock and the level have done: the ends first, then the drain."""
        self.now_s = Fraction(self.host.clock(), 10**9)
        if self.level in ("normal", "hot"):
            self.since_s = None
            for ordered in self.leases.values():
                ordered.deadline_s.pop("gpu_critical", None)
                ordered.answers.pop("gpu_critical", None)
        elif self.level == "critical":
            self.drain()
        for lease, ordered in list(self.leases.items()):
            if ordered.counting and ordered.deadline_s[ordered.counting] <= self.now_s:
                del self.leases[lease]

    def drain(self) -> None:
        if self.since_s is None:
            self.since_s = self.next_s = self.now_s
        left = [each for each in self.leases.values() if "gpu_critical" not in each.deadline_s]
        if not left or self.now_s < self.next_s:
            return
        self.next_s = self.now_s + STEP_S
        end_s = self.since_s + DRAIN_S
        lowest = min(each.priority for each in left)
        for ordered in left:
            if ordered.priority == lowest or self.now_s + STEP_S >= end_s:
                ordered.deadline_s["gpu_critical"] = max(end_s, self.now_s + LEAST_S)

    def pick(self, which: int) -> tuple[str, Ordered]:
        return list(self.leases.items())[which % len(self.leases)]

    def in_loop(self, what: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return what()

        return self.runner.run(call())


def test_leases_are_revoked_as_semantics_has_it() -> None:
    run_state_machine_as_test(
        Ladder,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, database=None),
    )
