"""SEMANTICS 5: how long a lease of each mode lives, by examples and against a model."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
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

from lease_host import BIG, SMALL, LeaseHost, ask, caller_of, child, lease_host, until
from superezio.errors import (
    InvalidParamsError,
    PermissionDeniedError,
    StaleLeaseError,
)
from superezio.wire import Lease, LeaseAttachParams, LeaseRenewParams
from supereziod.leases import store
from supereziod.storage import StorageError

ME = caller_of()
GRACE_S, RESTART_GRACE_S = 5, 30
#: Leases are chosen by number: most often one that stands.
WHICH, STANDING = st.integers(0, 5), 4


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


# --- ttl ----------------------------------------------------------------------------------------


async def test_a_ttl_lease_ends_when_it_is_not_renewed_in_time(host: LeaseHost) -> None:
    lease = host.now(ME, mode="ttl", ttl_ms=9_000)
    assert (lease.ttl_ms, lease.expires_in_s) == (9_000, 9.0)
    host.clock.advance(8.9)
    assert host.leases.renew(ME, LeaseRenewParams(lease=lease.id)).expires_in_s == 9.0
    host.clock.advance(8.9)
    host.monitor.changed()
    assert host.leases.get(ME, lease.id).state == "granted"
    host.clock.advance(0.2)
    host.monitor.changed()
    (lost,) = host.only("lease.lost")
    assert lost.data["reason"] == "ttl_expired"
    with pytest.raises(StaleLeaseError):
        host.leases.renew(ME, LeaseRenewParams(lease=lease.id))


async def test_a_ttl_lease_has_a_minute_where_nothing_is_said(host: LeaseHost) -> None:
    assert host.now(ME, mode="ttl").expires_in_s == 60.0


async def test_a_renewal_may_set_another_ttl_from_now_on(host: LeaseHost) -> None:
    lease = host.now(ME, mode="ttl", ttl_ms=5_000)
    host.leases.renew(ME, LeaseRenewParams(lease=lease.id, ttl_ms=50_000))
    host.clock.advance(49)
    assert host.leases.renew(ME, LeaseRenewParams(lease=lease.id)).expires_in_s == 50.0


async def test_a_ttl_lease_outlives_the_process_that_asked(host: LeaseHost) -> None:
    with child() as process:
        lease = host.now(process.caller(), mode="ttl")
        process.kill()
        await until(lambda: not host.leases.get(ME, lease.id).holder)
    assert "lease.released" not in host.types()


async def test_one_timer_ends_a_ttl_lease_without_any_change_of_the_gpus(tmp_path: Path) -> None:
    async with lease_host(tmp_path, clock=time.monotonic_ns) as host:
        host.now(ME, mode="ttl", ttl_ms=1_000)
        await until(lambda: "lease.lost" in host.types())


async def test_a_process_lease_ends_when_its_last_attached_process_ends(host: LeaseHost) -> None:
    with child() as first, child() as last:
        lease = host.now(first.caller(), vram=1)
        host.leases.attach(first.caller(), LeaseAttachParams(lease=lease.id, pid=last.pid))
        first.kill()
        await until(lambda: len(host.leases.get(ME, lease.id).holder) == 1)
        assert "lease.released" not in host.types()
        last.kill()
        await until(lambda: "lease.released" in host.types())


@contextmanager
def a_full_disk(host: LeaseHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be written of leases, except that they end."""
    database = host.store._database
    execute = database.execute

    def full(statement: str, parameters: tuple[object, ...] = ()) -> None:
        if statement.startswith("INSERT"):
            raise StorageError("the disk is full")
        execute(statement, parameters)

    with monkeypatch.context() as broken:
        broken.setattr(database, "execute", full)
        yield


def recorded_end_ns(host: LeaseHost, lease: str) -> int:
    """When the ttl lease ends by its record (CLOCK_MONOTONIC)."""
    ((record,), _) = host.store.load()
    assert record.id == lease
    assert record.expires_ns is not None
    return record.expires_ns


async def test_a_restart_takes_nothing_of_a_ttl_and_leaves_time_to_renew(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        long = before.now(ME, vram=1, mode="ttl", ttl_ms=50_000)
        short = before.now(ME, vram=1, mode="ttl", ttl_ms=9_000)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert after.leases.get(ME, long.id).expires_in_s == pytest.approx(50, abs=0.1)
        assert after.leases.get(ME, short.id).expires_in_s == pytest.approx(30, abs=0.1)


async def test_only_a_ttl_lease_is_renewed_and_only_by_its_user(host: LeaseHost) -> None:
    bound, timed = host.now(ME, vram=1), host.now(ME, vram=1, mode="ttl")
    with pytest.raises(InvalidParamsError, match="process"):
        host.leases.renew(ME, LeaseRenewParams(lease=bound.id))
    with pytest.raises(PermissionDeniedError):
        host.leases.renew(caller_of(uid=4711), LeaseRenewParams(lease=timed.id))


@pytest.mark.parametrize(
    "params", [{"mode": "ttl", "ttl_ms": 999}, {"mode": "ttl", "ttl_ms": 86_400_001}, {"ttl_ms": 1}]
)
async def test_a_ttl_nobody_can_mean_is_refused(host: LeaseHost, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParamsError, match="ttl"):
        host.leases.acquire(ME, ask(**params))
    lease = host.now(ME, mode="ttl")
    with pytest.raises(InvalidParamsError, match="ttl_ms"):
        host.leases.renew(ME, LeaseRenewParams(lease=lease.id, ttl_ms=1))


async def test_existing_leases_stand_and_are_renewed_while_state_is_not_writable(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME, vram=1, mode="ttl", ttl_ms=9_000)
    with a_full_disk(host, monkeypatch):
        for _ in range(3):
            host.clock.advance(5)
            assert host.leases.renew(ME, LeaseRenewParams(lease=lease.id)).expires_in_s == 9.0
    assert recorded_end_ns(host, lease.id) < host.clock()
    host.store.recheck()
    assert recorded_end_ns(host, lease.id) == host.clock() + 9_000_000_000


async def test_a_renewal_that_was_not_recorded_brings_back_no_lease_that_was_released(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = host.now(ME, vram=1, mode="ttl", ttl_ms=9_000)
    with a_full_disk(host, monkeypatch):
        host.leases.renew(ME, LeaseRenewParams(lease=lease.id))
    host.leases.release(ME, lease.id)
    host.store.recheck()
    assert host.store.load() == ([], [])


async def test_a_restart_leaves_time_to_renew_where_renewals_were_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=1, mode="ttl", ttl_ms=600_000)
        with a_full_disk(before, monkeypatch):
            for _ in range(4):
                before.clock.advance(200)
                before.leases.renew(ME, LeaseRenewParams(lease=lease.id))
    async with lease_host(tmp_path, clock=before.clock) as after:
        left_s = after.leases.get(ME, lease.id).expires_in_s
        assert left_s == pytest.approx(300, abs=0.1), "three renewals per TTL: one comes in time"


async def test_a_holder_that_is_not_visible_can_have_a_ttl_lease(host: LeaseHost) -> None:
    assert host.now(caller_of(pid=0), mode="ttl").holder == []


# --- leases that size themselves ----------------------------------------------------------------


async def test_nothing_starts_on_a_gpu_while_a_lease_there_sizes_itself(host: LeaseHost) -> None:
    first = host.now(ME, vram=4, avoid=[SMALL], sizes_itself=True)
    assert host.leases.get(ME, first.id).state == "growing"
    for used in (0, 1, 3, 4, 4):
        host.clock.advance(1)
        host.big.processes[os.getpid()] = used << 30
        host.monitor.read()
        assert host.leases.get(ME, first.id).state == "growing"
        assert host.now(ME, vram=1, prefer=[BIG]).gpus[0].uuid == SMALL
        host.leases.release(ME, host.leases.list(ME).leases[-1].id)
    host.clock.advance(1)
    host.monitor.read()
    assert host.leases.get(ME, first.id).state == "active"
    assert host.now(ME, vram=1, prefer=[BIG]).gpus[0].uuid == BIG
    (grown,) = host.only("lease.grown")
    assert grown.lease == first.id


async def test_a_lease_that_says_ready_lets_the_next_start(host: LeaseHost) -> None:
    first = host.now(ME, vram=4, avoid=[SMALL], sizes_itself=True)
    waiting = host.later(ME, vram=4, avoid=[SMALL], wait_ms=60_000)
    await until(lambda: "lease.queued" in host.types())
    with pytest.raises(PermissionDeniedError):
        host.leases.mark_ready(caller_of(uid=4711), first.id)
    assert host.leases.mark_ready(ME, first.id).state == "granted"
    async with asyncio.timeout(5):
        assert (await waiting).gpus[0].uuid == BIG


async def test_passes_in_quick_succession_do_not_make_a_use_stable(host: LeaseHost) -> None:
    lease = host.now(ME, vram=4, sizes_itself=True, prefer=[BIG])
    host.big.processes[os.getpid()] = 2 << 30
    for _ in range(8):
        host.clock.advance(0.1)
        host.monitor.read()
    assert host.leases.get(ME, lease.id).state == "growing"


async def test_a_lease_sizes_itself_for_five_minutes_at_most_over_restarts(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=4, prefer=[BIG], sizes_itself=True)
        before.clock.advance(200)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert after.leases.get(ME, lease.id).state == "growing"
        after.clock.advance(101)
        after.monitor.read()
        assert after.leases.get(ME, lease.id).state == "granted"


async def test_what_was_ready_before_a_restart_is_ready_after(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME, vram=4, prefer=[BIG], sizes_itself=True)
        before.leases.mark_ready(ME, lease.id)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert after.leases.get(ME, lease.id).state == "granted"


# --- an end is told once ------------------------------------------------------------------------


async def test_release_of_a_lease_that_ended_otherwise_is_stale(host: LeaseHost) -> None:
    lease = host.now(ME, mode="ttl", ttl_ms=1_000)
    host.clock.advance(2)
    host.monitor.changed()
    with pytest.raises(StaleLeaseError):
        host.leases.release(ME, lease.id)
    with pytest.raises(StaleLeaseError):
        host.leases.release(ME, "never")


async def test_only_its_owner_hears_that_a_lease_was_released(host: LeaseHost) -> None:
    lease = host.now(ME)
    host.leases.release(ME, lease.id)
    with pytest.raises(StaleLeaseError):
        host.leases.release(caller_of(uid=4711), lease.id)


async def test_a_release_can_be_repeated_after_a_restart(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME)
        before.leases.release(ME, lease.id)
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert not after.leases.release(ME, lease.id).released


async def test_of_released_leases_the_latest_are_remembered_over_a_restart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_RELEASED_REMEMBERED", 3)
    async with lease_host(tmp_path) as before:
        leases = [before.now(ME, vram=1).id for _ in range(5)]
        for lease in leases:
            before.leases.release(ME, lease)
        assert list(before.store.released) == leases[2:]
    async with lease_host(tmp_path, clock=before.clock) as after:
        assert set(after.store.released) == set(leases[2:])


async def test_releases_of_others_do_not_make_ones_own_forgotten(
    host: LeaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_RELEASED_REMEMBERED", 3)
    mine = host.now(ME, vram=1).id
    host.leases.release(ME, mine)
    for _ in range(5):
        other = caller_of(0, uid=4711)
        host.leases.release(other, host.now(other, vram=0.1, mode="connection").id)
    assert not host.leases.release(ME, mine).released


async def test_a_reboot_does_not_say_that_a_released_lease_is_lost(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as before:
        lease = before.now(ME)
        before.leases.release(ME, lease.id)
    async with lease_host(tmp_path, clock=before.clock, boot_id="boot-two") as after:
        assert "lease.lost" not in after.types()
        with pytest.raises(StaleLeaseError):
            after.leases.release(ME, lease.id)


# --- the model ----------------------------------------------------------------------------------


class Held:
    """A lease as SEMANTICS 5 has it."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.processes: set[int] = set()
        self.connection: str | None = None
        self.ends_s: float | None = None
        self.ttl_s = 20.0


class Lifetimes(RuleBasedStateMachine):
    """Any order of grants, ends, losses, renewals, restarts and reboots.

    The clock is CLOCK_MONOTONIC as the machine makes it run: a suspend is time in which it stands
    still, and the wall clock does not come into it.
    """

    @initialize()
    def boot(self) -> None:
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory(prefix="lifetimes-")
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.held: dict[str, Held] = {}
        self.known: list[str] = []
        self.released: set[str] = set()
        self.now_s = 0.0
        self.boots = 0
        self.connections = 0
        self.host = self.runner.run(self.started(None))

    async def started(self, clock: Any) -> LeaseHost:
        host = LeaseHost(Path(self.scratch.name), clock=clock, boot_id=f"boot-{self.boots}")
        await host.leases.start()
        host.leases.ready()
        host.monitor.read()
        return host

    def teardown(self) -> None:
        if not hasattr(self, "host"):
            return
        self.runner.run(self.host.leases.aclose())
        self.runner.close()
        self.scratch.cleanup()
        for process in self.children.values():
            process.kill()
            process.wait()

    # --- what happens ---------------------------------------------------------------------------

    @rule(which=st.integers(0, 3), mode=st.sampled_from(["process", "connection", "ttl"]))
    def acquire(self, which: int, mode: str) -> None:
        pid = self.process(which)
        self.connections += 1
        connection = f"c{self.connections}"
        timed = {"ttl_ms": 20_000} if mode == "ttl" else {}
        params = ask(vram=0.01, mode=mode, wait_ms=1000, **timed)

        async def grant() -> str:
            answer = self.host.leases.acquire(caller_of(pid, connection=connection), params)
            lease = answer if isinstance(answer, Lease) else await answer
            return lease.id

        lease = self.runner.run(grant())
        self.follow_clock()
        held = self.held[lease] = Held(mode)
        held.processes = {pid}
        held.connection = connection if mode == "connection" else None
        held.ends_s = self.now_s + held.ttl_s if mode == "ttl" else None
        self.known.append(lease)

    @precondition(lambda self: self.known)
    @rule(which=WHICH, process=st.integers(0, 3))
    def attach(self, which: int, process: int) -> None:
        lease, pid = self.lease(which), self.process(process)
        params = LeaseAttachParams(lease=lease, pid=pid)
        if self.answers(lambda: self.host.leases.attach(ME, params), lease):
            self.held[lease].processes.add(pid)

    @precondition(lambda self: self.children)
    @rule(which=st.integers(0, 3))
    def a_process_ends(self, which: int) -> None:
        pid = sorted(self.children)[which % len(self.children)]
        process = self.children.pop(pid)
        process.kill()
        process.wait()
        for lease, held in list(self.held.items()):
            if held.mode == "process" and held.processes <= {pid}:
                del self.held[lease]
            held.processes.discard(pid)
        self.runner.run(until(lambda: self.shown() == self.expected()))

    @precondition(lambda self: any(held.connection for held in self.held.values()))
    @rule(which=WHICH)
    def a_connection_closes(self, which: int) -> None:
        connected = [held for held in self.held.values() if held.connection]
        held = connected[which % len(connected)]
        connection, held.connection = str(held.connection), None
        self.in_loop(lambda: self.host.leases.connection_closed(connection))
        held.ends_s = self.now_s + GRACE_S

    @precondition(lambda self: self.known)
    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        lease = self.lease(which)
        held = self.held.get(lease)
        if held is not None and held.connection is not None:
            return
        self.connections += 1
        caller = caller_of(connection=f"c{self.connections}")
        if self.answers(lambda: self.host.leases.resume(caller, lease), lease, mode="connection"):
            self.held[lease].connection = caller.connection
            self.held[lease].ends_s = None
            self.held[lease].processes.add(os.getpid())  # who takes it over holds it

    @precondition(lambda self: self.known)
    @rule(which=WHICH, ttl_s=st.sampled_from([None, 3, 40]))
    def renew(self, which: int, ttl_s: int | None) -> None:
        lease = self.lease(which)
        params = LeaseRenewParams(lease=lease, ttl_ms=None if ttl_s is None else ttl_s * 1000)
        if self.answers(lambda: self.host.leases.renew(ME, params), lease, mode="ttl"):
            held = self.held[lease]
            held.ttl_s = held.ttl_s if ttl_s is None else ttl_s
            held.ends_s = self.now_s + held.ttl_s

    @rule(seconds=st.sampled_from([0.5, 2, 4.5, 6, 19, 31]))
    def time_passes(self, seconds: float) -> None:
        self.host.clock.advance(seconds)
        self.in_loop(self.host.monitor.changed)
        self.follow_clock()

    @precondition(lambda self: self.known)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        lease = self.lease(which)
        if lease in self.released:
            assert not self.in_loop(lambda: self.host.leases.release(ME, lease)).released
        elif self.answers(lambda: self.host.leases.release(ME, lease), lease):
            del self.held[lease]
            self.released.add(lease)

    @precondition(lambda self: len(self.held) > 1)
    @rule(down_s=st.sampled_from([0, 3, 25]))
    def the_daemon_is_killed_and_started(self, down_s: float) -> None:
        self.runner.run(self.host.leases.aclose())
        self.host.clock.advance(down_s)
        self.host = self.runner.run(self.started(self.host.clock))
        self.now_s = self.host.clock() / 1e9
        for held in self.held.values():
            if held.mode == "connection":
                held.connection, held.ends_s = None, self.now_s + RESTART_GRACE_S
            elif held.ends_s is not None:
                held.ends_s = max(held.ends_s, self.now_s + max(RESTART_GRACE_S, held.ttl_s / 2))

    @precondition(lambda self: len(self.held) > 4)
    @rule()
    def the_machine_is_rebooted(self) -> None:
        self.runner.run(self.host.leases.aclose())
        self.boots += 1
        self.held.clear()
        self.released.clear()
        self.host = self.runner.run(self.started(self.host.clock))

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def the_leases_that_stand_are_those_of_the_model(self) -> None:
        assert self.shown() == self.expected()
        for lease, held in self.held.items():
            left = self.host.leases.get(ME, lease).expires_in_s
            assert (left is None) == (held.ends_s is None)
            if left is not None and held.ends_s is not None:
                assert left == pytest.approx(held.ends_s - self.now_s, abs=0.1)

    def expected(self) -> dict[str, tuple[bool, set[int]]]:
        return {
            lease: (held.mode == "connection" and held.connection is None, held.processes)
            for lease, held in self.held.items()
        }

    def shown(self) -> dict[str, tuple[bool, set[int]]]:
        return {
            lease.id: (lease.state == "orphaned", {process.pid for process in lease.holder})
            for lease in self.host.leases.list(ME).leases
        }

    # --- the parts of it ------------------------------------------------------------------------

    def process(self, which: int) -> int:
        """Return one of at most four processes that live."""
        if which >= len(self.children):
            process = subprocess.Popen(["sleep", "600"])
            self.children[process.pid] = process
            return process.pid
        return sorted(self.children)[which]

    def lease(self, which: int) -> str:
        """Return a lease that stands, where there is one; sometimes one that may have ended."""
        standing = list(self.held)
        if which < STANDING and standing:
            return standing[-1 - which % len(standing)]
        return self.known[-1 - which % len(self.known)]

    def answers(self, what: Callable[[], Any], lease: str, *, mode: str | None = None) -> bool:
        """Make a call about a lease, and tell whether it has to have been done."""
        if lease not in self.held:
            with pytest.raises(StaleLeaseError):
                self.in_loop(what)
        elif mode not in (None, self.held[lease].mode):
            with pytest.raises(InvalidParamsError):
                self.in_loop(what)
        else:
            self.in_loop(what)
            return True
        return False

    def in_loop(self, what: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return what()

        return self.runner.run(call())

    def follow_clock(self) -> None:
        """End what time has ended."""
        self.now_s = self.host.clock() / 1e9
        for lease, held in list(self.held.items()):
            if held.ends_s is not None and held.ends_s <= self.now_s:
                del self.held[lease]


def test_leases_live_as_long_as_semantics_has_it() -> None:
    run_state_machine_as_test(
        Lifetimes,
        settings=settings(max_examples=40, stateful_step_count=40, deadline=None, database=None),
    )
