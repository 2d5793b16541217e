"""SEMANTICS 4, hoarding: which leases are idle and for how long, against a model of what was seen.

The model keeps all that could be seen of each lease, and asks the whole past at each reading.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gpu_views import GIB
from lease_host import LeaseHost, Silent, ask, caller_of
from superezio.errors import NoCapacityError
from superezio.wire import Lease
from supereziod.observability.events import EventLog

TIMEOUT_S = 900.0
PROCESSES = 3
NIGHT_NS = 8 * 3600 * 1_000_000_000


@dataclass
class Watched:
    """A lease, and what each reading showed of it: (when, whether it may have been used)."""

    pid: int
    gpus: list[str]
    since_s: float
    seen: list[tuple[float, bool]] = field(default_factory=list)
    told_since_s: float | None = None

    @property
    def idle_since_s(self) -> float | None:
        """Since when it has used nothing, as far as is known; None while it may be in use."""
        if self.seen[-1][1]:
            return None
        return max([self.since_s, *(at_s for at_s, used in self.seen if used)])


class Hoarding(RuleBasedStateMachine):
    """Processes that use VRAM or do not, GPUs that cannot be read, restarts and sleeps."""

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory(prefix="hoarding-")
        self.processes = [subprocess.Popen(["sleep", "600"]) for _ in range(PROCESSES)]
        self.leases: dict[str, Watched] = {}
        self.events = EventLog(logger=Silent())
        self.host = self.runner.run(self.started(None))

    async def started(self, before: LeaseHost | None) -> LeaseHost:
        clock = before.clock if before is not None else None
        host = LeaseHost(Path(self.scratch.name), clock=clock, events=self.events)
        for old, new in zip(before.monitor.gpus if before else (), host.monitor.gpus, strict=False):
            new.processes, new.lost = old.processes, old.lost
        await host.leases.start()
        host.leases.ready()
        return host

    def teardown(self) -> None:
        if not hasattr(self, "host"):
            return
        self.runner.run(self.host.leases.aclose())
        self.runner.close()
        self.scratch.cleanup()
        for process in self.processes:
            process.kill()
            process.wait()

    @property
    def now_s(self) -> float:
        return float(round(self.host.clock() / 1e9, 2))

    # --- what happens ---------------------------------------------------------------------------

    @precondition(lambda self: len(self.leases) < 6)
    @rule(which=st.integers(0, PROCESSES - 1), count=st.sampled_from((1, 1, 2)))
    def acquire(self, which: int, count: int) -> None:
        self.read()
        pid = self.processes[which].pid

        async def grant() -> Lease:
            answer = self.host.leases.acquire(caller_of(pid), ask(0.5, count=count))
            return answer if isinstance(answer, Lease) else await answer

        try:
            lease = self.runner.run(grant())
        except NoCapacityError:  # nothing starts where the use of another is still estimated
            return
        gpus = [gpu.uuid for gpu in lease.gpus]
        self.leases[lease.id] = Watched(pid=pid, gpus=gpus, since_s=self.now_s)
        self.read()

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 5))
    def release(self, which: int) -> None:
        lease = list(self.leases)[which % len(self.leases)]
        del self.leases[lease]
        self.runner.run(self.call(lambda: self.host.leases.release(caller_of(), lease)))

    @rule(
        which=st.integers(0, PROCESSES - 1),
        gpu=st.integers(0, 1),
        used=st.sampled_from((0, None, GIB // 8, "gone", "gone", "gone")),
    )
    def a_process_uses(self, which: int, gpu: int, used: int | str | None) -> None:
        processes = self.host.monitor.gpus[gpu].processes
        processes.pop(self.processes[which].pid, None)
        if not isinstance(used, str):
            processes[self.processes[which].pid] = used
        self.read()

    @rule(gpu=st.integers(0, 1), lost=st.booleans())
    def a_gpu_can_be_read_or_not(self, gpu: int, *, lost: bool) -> None:
        self.host.monitor.gpus[gpu].lost = lost
        self.read()

    @rule(seconds=st.sampled_from((30, 300, 600, 870, 900)))
    def time_passes(self, seconds: float) -> None:
        self.host.clock.advance(seconds)
        self.read()

    @rule()
    def the_host_sleeps(self) -> None:
        self.host.slept_ns += NIGHT_NS

    @precondition(lambda self: len(self.leases) > 1)
    @rule(down_s=st.sampled_from((1, 600)))
    def the_daemon_is_restarted(self, down_s: float) -> None:
        self.runner.run(self.host.leases.aclose())
        self.host.clock.advance(down_s)
        self.host = self.runner.run(self.started(self.host))
        for watched in self.leases.values():
            watched.since_s = self.now_s
            watched.seen.clear()
        self.read()

    # --- what must hold -------------------------------------------------------------------------

    def read(self) -> None:
        """Have the GPUs read, and compare what is told and shown."""
        self.host.clock.advance(0.01)
        told = len(self.told())
        self.runner.run(self.call(self.host.monitor.read))
        due = []
        for lease, watched in self.leases.items():
            watched.seen.append((self.now_s, self.may_be_used(watched)))
            since_s = watched.idle_since_s
            is_long = since_s is not None and self.now_s - since_s >= TIMEOUT_S
            if is_long and since_s != watched.told_since_s:
                watched.told_since_s = since_s
                due.append(lease)
        assert sorted(self.told()[told:]) == sorted(due)
        self.compare()

    def compare(self) -> None:
        for lease, watched in self.leases.items():
            shown = self.host.leases.get(caller_of(), lease).idle_s
            since_s = watched.idle_since_s
            assert (shown is None) == (since_s is None)
            if shown is not None and since_s is not None:
                assert shown == pytest.approx(self.now_s - since_s, abs=0.1)

    def may_be_used(self, watched: Watched) -> bool:
        gpus = [gpu for gpu in self.host.monitor.gpus if gpu.uuid in watched.gpus]
        return any(gpu.lost or gpu.processes.get(watched.pid, 0) != 0 for gpu in gpus)

    def told(self) -> list[str]:
        events = self.events.recent(4096)
        return [event.lease for event in events if event.type == "lease.idle" and event.lease]

    async def call(self, what: Callable[[], object]) -> None:
        what()


#: With real processes a search for the smallest example would take minutes.
SETTINGS = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
)


def test_leases_are_idle_as_semantics_has_it() -> None:
    run_state_machine_as_test(Hoarding, settings=SETTINGS)
