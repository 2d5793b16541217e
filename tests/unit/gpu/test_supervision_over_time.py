"""Whatever GPUs and probes do, once they behave every GPU is read again, by one probe."""

from __future__ import annotations

import asyncio
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpu_views import FakeClock
from probe_doubles import Probes, ScriptedProbe, SilentLog, identity, info, sample, uuid
from supereziod.gpu.frames import (
    Batch,
    Excluded,
    GpuFault,
    Identified,
    Opened,
    ProbeSpec,
    Reading,
    Waiting,
)
from supereziod.gpu.hardware import DriverInfo, Fault, GpuIdentity, Xid
from supereziod.gpu.patience import Patience
from supereziod.gpu.supervisor import ProbeSupervisor
from supereziod.gpu.worker import is_wanted, wanted_indexes
from supereziod.observability.events import EventLog

GPUS = (0, 1, 2)
SECOND = 1_000_000_000
Manner = Literal["good", "hang", "lost"]
#: Longer than any trial and any pause between two, with all that may follow.
TIME_TO_RECOVER_S = 240
#: So slow that much can happen while a probe starts.
STARTS_WITHIN_S = 3

Act = tuple[str, int, Manner]
ACTS = st.tuples(
    st.sampled_from(["gpu", "gpu", "gpu", "kill", "stop", "wait"]),
    st.integers(0, 2),
    st.sampled_from(["good", "hang", "lost"]),
)


class World:
    """GPUs that behave as told, and probes that say each second what they would."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.probes = Probes()
        self.manner: dict[int, Manner] = dict.fromkeys(GPUS, "good")
        self.stopped: set[int] = set()
        self.since_ns: dict[tuple[int, int], int] = {}
        self.opened: set[int] = set()
        self.identified: set[tuple[int, int]] = set()
        self.read_ns = dict.fromkeys(GPUS, 0)
        self.supervisor = ProbeSupervisor(
            spec=ProbeSpec(driver="nvml"),
            launch=self.probes.launch,
            sink=self,
            events=EventLog(logger=SilentLog()),
            clock=self.clock,
            patience=Patience(),
        )

    def second(self) -> None:
        """Let a second pass."""
        for _ in range(2):
            self.clock.advance(0.5)
            for probe in tuple(self.probes.launched):
                if probe.is_retired and probe.pid not in self.stopped:
                    self._end(probe)
                elif probe.pid not in self.stopped:
                    self._speak(probe)
            self.supervisor.tick()

    def act(self, act: Act) -> None:
        what, number, manner = act
        if what == "gpu":
            self.manner[number] = manner
        elif what in {"kill", "stop"} and self.supervisor.pids:
            pid = self.supervisor.pids[number % len(self.supervisor.pids)]
            if what == "stop":
                self.stopped.add(pid)
            else:
                self._end(next(probe for probe in self.probes.launched if probe.pid == pid))
        for _ in range(number * 4 + 1):
            self.second()

    def behave(self) -> None:
        self.manner = dict.fromkeys(GPUS, "good")
        self.stopped.clear()

    def _end(self, probe: ScriptedProbe) -> None:
        self.probes.launched.remove(probe)
        probe.ends()

    def _speak(self, probe: ScriptedProbe) -> None:
        if self.clock.now_ns - probe.spec.since_ns < STARTS_WITHIN_S * SECOND:
            return
        if probe.pid not in self.opened:
            self.opened.add(probe.pid)
            probe.says(Opened(info=info(len(GPUS)), indexes=wanted_indexes(probe.spec, len(GPUS))))
        readings, faults, waiting = [], [], []
        for index in wanted_indexes(probe.spec, len(GPUS)):
            known = (probe.pid, index) in self.identified
            if self.manner[index] != "hang":
                self.since_ns.pop((probe.pid, index), None)
            if self.manner[index] == "hang":
                since_ns = self.since_ns.setdefault((probe.pid, index), self.clock.now_ns)
                if self.clock.now_ns - since_ns >= SECOND:
                    name = uuid(index) if known else None
                    waiting.append(Waiting(index=index, uuid=name, since_ns=since_ns))
            elif self.manner[index] == "lost":
                fault = Fault(kind="gpu_lost", message="lost")
                name = uuid(index) if known else None
                faults.append(GpuFault(index=index, uuid=name, fault=fault))
            elif not is_wanted(probe.spec, uuid(index)):
                probe.says(Excluded(index=index))
            else:
                if not known:
                    self.identified.add((probe.pid, index))
                    probe.says(Identified(identity=identity(index)))
                reading = sample(uuid(index), self.clock.now_ns)
                readings.append(Reading(sample=reading, pass_id=0))
        probe.says(Batch(readings=tuple(readings), faults=tuple(faults), waiting=tuple(waiting)))

    # The sink.

    def driver_opened(self, info: DriverInfo) -> None:
        del info

    def driver_failed(self, fault: Fault) -> None:
        raise AssertionError(f"the driver was there all the time: {fault}")

    def gpu_identified(self, identity: GpuIdentity) -> None:
        del identity

    def gpus_listed(self, uuids: frozenset[str]) -> None:
        del uuids

    def batch_received(self, batch: Batch) -> None:
        for reading in batch.readings:
            self.read_ns[int(reading.sample.uuid.removeprefix("GPU-"))] = self.clock.now_ns

    def xid_received(self, xid: Xid) -> None:
        del xid


async def live(acts: list[Act]) -> None:
    world = World()
    world.supervisor.start()
    world.second()
    for act in acts:
        world.act(act)
        # A GPU that hung before it said which one it is may be tried by its place, and by its UUID.
        assert len(world.supervisor.pids) <= 1 + 2 * len(GPUS)
    world.behave()
    for _ in range(TIME_TO_RECOVER_S):
        world.second()
    assert len(world.supervisor.pids) == 1
    assert not world.supervisor.stuck_pids
    (main,) = (p for p in world.probes.launched if p.pid == world.supervisor.pids[0])
    assert main.spec.skip == ()
    assert main.spec.only is None
    newest_ns = world.clock.now_ns
    assert world.read_ns == dict.fromkeys(GPUS, newest_ns)


@settings(max_examples=80, deadline=None)
@given(st.lists(ACTS, max_size=12))
@example([("gpu", 1, "hang"), ("wait", 0, "good"), ("gpu", 1, "good")])
@example(
    [
        ("gpu", 2, "hang"),
        ("kill", 0, "good"),
        ("gpu", 0, "hang"),
        ("gpu", 1, "hang"),
        ("gpu", 2, "good"),
    ]
)
@example([("gpu", 1, "hang"), ("wait", 0, "good"), ("kill", 0, "good"), ("gpu", 1, "good")])
def test_all_gpus_are_read_by_one_probe_once_all_behave(acts: list[Act]) -> None:
    asyncio.run(live(acts))


async def test_a_gpu_that_answers_is_read_all_the_time_while_others_are_in_trouble() -> None:
    world = World()
    world.supervisor.start()
    for _ in range(6):
        world.second()
    world.manner[0], world.manner[2] = "hang", "lost"
    for _ in range(200):
        world.second()
        assert world.clock.now_ns - world.read_ns[1] <= SECOND
