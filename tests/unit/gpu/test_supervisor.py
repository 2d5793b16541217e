"""Probes come and go: succession where a GPU hangs, trials, restarts, what cannot be ended."""

from __future__ import annotations

import pytest

from gpu_views import FakeClock
from probe_doubles import Probes, ScriptedProbe, SilentLog, identity, info, uuid
from superezio.wire import Event
from supereziod.gpu.frames import (
    Batch,
    Excluded,
    Failed,
    Identified,
    Interval,
    Opened,
    Pass,
    ProbeSpec,
    Target,
    XidSeen,
)
from supereziod.gpu.hardware import DriverInfo, Fault, GpuIdentity, Xid
from supereziod.gpu.patience import Patience
from supereziod.gpu.supervisor import ProbeSupervisor
from supereziod.observability.events import EventLog


class Heard:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.opened: list[DriverInfo] = []
        self.failed: list[Fault] = []
        self.identified: list[str] = []
        self.listed: list[frozenset[str]] = []
        self.batches: list[Batch] = []
        self.xids: list[int] = []

    def driver_opened(self, info: DriverInfo) -> None:
        self.opened.append(info)

    def driver_failed(self, fault: Fault) -> None:
        self.failed.append(fault)

    def gpu_identified(self, identity: GpuIdentity) -> None:
        self.identified.append(identity.uuid)

    def gpus_listed(self, uuids: frozenset[str]) -> None:
        self.listed.append(uuids)

    def batch_received(self, batch: Batch) -> None:
        self.batches.append(batch)

    def xid_received(self, xid: Xid) -> None:
        self.xids.append(xid.xid)


class Bench:
    """A supervisor, scripted probes and a clock that the test turns."""

    def __init__(self, **patience: float) -> None:
        self.clock = FakeClock()
        self.probes = Probes()
        self.heard = Heard()
        self.events: list[Event] = []
        log = EventLog(logger=SilentLog())
        log.listen(self.events.append)
        self.supervisor = ProbeSupervisor(
            spec=ProbeSpec(driver="nvml"),
            launch=self.probes.launch,
            sink=self.heard,
            events=log,
            clock=self.clock,
            patience=Patience(**patience),  # type: ignore[arg-type]
        )

    def start(self, *indexes: int) -> ScriptedProbe:
        """Start, and have the main probe read these GPUs."""
        self.supervisor.start()
        main = self.probes.last
        main.opens(*indexes)
        main.reads(self.clock.now_ns, *indexes)
        return main

    def run(self, seconds: float, *alive: ScriptedProbe, reads: tuple[int, ...] = ()) -> None:
        """Let time pass by half seconds; the probes named give a sign of life."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            for probe in alive:
                probe.reads(self.clock.now_ns, *reads)
            self.supervisor.tick()

    def hang(self, main: ScriptedProbe, index: int, *others: int, seconds: float = 6) -> None:
        """Have a call for a GPU stay out while the others answer."""
        since_ns = self.clock.now_ns
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            main.reads(self.clock.now_ns, *others)
            main.waits(since_ns, index)
            self.supervisor.tick()

    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_start_launches_one_probe_for_all_gpus(bench: Bench) -> None:
    main = bench.start(0, 1)
    assert [probe.pid for probe in bench.probes.launched] == [main.pid]
    assert main.spec.since_ns == bench.clock.now_ns
    assert bench.supervisor.pids == (main.pid,)
    assert bench.heard.opened == [info(2)]
    assert bench.heard.identified == [uuid(0), uuid(1)]
    assert bench.types() == ["probe.started"]


async def test_the_gpus_are_listed_once_all_have_answered(bench: Bench) -> None:
    bench.supervisor.start()
    main = bench.probes.last
    main.opens(0, 1)
    main.reads(1, 0)
    assert bench.heard.listed == []
    main.waits(1, 1)
    assert bench.heard.listed == [frozenset({uuid(0), uuid(1)})]
    main.reads(2, 0, 1)
    assert len(bench.heard.listed) == 1


async def test_a_host_without_gpus_is_listed_as_such(bench: Bench) -> None:
    bench.start()
    assert bench.heard.listed == [frozenset()]


async def test_passes_and_intervals_go_to_all_probes_at_work(bench: Bench) -> None:
    main = bench.start(0)
    bench.supervisor.ask_pass(7, [uuid(0)])
    bench.supervisor.set_process_interval(5)
    assert Pass(id=7, uuids=frozenset({uuid(0)})) in main.told
    assert Interval(process_s=5) in main.told
    main.ends("signal 9")
    assert bench.probes.last.spec.process_interval_s == 5


async def test_a_hung_gpu_is_left_to_a_trial_by_a_successor(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1, seconds=4.5)
    assert bench.probes.last is main
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    assert successor.spec.skip == (Target(index=0, uuid=uuid(0)),)
    assert not main.is_retired
    successor.opens(1)
    successor.reads(bench.clock.now_ns, 1)
    bench.run(0.5, successor, reads=(1,))
    assert main.is_retired
    assert not successor.is_retired
    trial = bench.probes.launched[2]
    assert trial.spec.only == Target(index=0, uuid=uuid(0))
    assert bench.supervisor.pids == (successor.pid, trial.pid)
    assert bench.heard.listed[-1] == frozenset({uuid(0), uuid(1)})


async def test_a_gpu_that_answers_its_trial_goes_back_to_the_others(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    successor.opens(1)
    bench.run(0.5, successor, reads=(1,))
    trial = bench.probes.launched[2]
    trial.says(Opened(info=info(2), indexes=(0, 1)))
    trial.says(Identified(identity=identity(0)))
    trial.says(Excluded(index=1))
    bench.run(1, successor, reads=(1,))
    trial.reads(bench.clock.now_ns, 0)
    bench.run(2, successor, reads=(1,))
    whole = bench.probes.launched[3]
    assert whole.spec.skip == ()
    assert whole.spec.only is None
    whole.opens(0, 1)
    whole.reads(bench.clock.now_ns, 0, 1)
    bench.run(0.5, whole, reads=(0, 1))
    assert (successor.is_retired, trial.is_retired, whole.is_retired) == (True, True, False)
    assert bench.supervisor.pids == (whole.pid,)


async def test_a_hang_that_ends_before_the_succession_changes_nothing(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1, seconds=3)
    bench.run(20, main, reads=(0, 1))
    assert bench.probes.launched == [main]


async def test_a_successor_is_dropped_when_the_hang_ends_before_it_takes_over(
    bench: Bench,
) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    main.reads(bench.clock.now_ns, 0, 1)
    successor.opens(1)
    successor.reads(bench.clock.now_ns, 1)
    bench.run(10, main, reads=(0, 1))
    assert successor.is_retired
    assert bench.supervisor.pids == (main.pid,)


async def test_no_gpu_is_skipped_that_no_trial_looks_after(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    main.reads(bench.clock.now_ns, 0, 1)
    main.ends("signal 9")
    successor.opens(1)
    bench.run(0.5, successor, reads=(1,))
    bench.run(6, successor, reads=(1,))
    whole = bench.probes.last
    assert whole.spec.skip == ()
    assert whole.spec.only is None


async def test_a_successor_that_does_not_settle_is_given_up(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    successor.opens(1)
    bench.hang(main, 0, 1, seconds=5)
    assert successor.is_retired
    assert not main.is_retired
    assert bench.probes.last.spec.skip == (Target(index=0, uuid=uuid(0)),)


async def test_a_trial_that_does_not_answer_is_tried_again_later(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    successor.opens(1)
    bench.run(0.5, successor, reads=(1,))
    first = bench.probes.launched[2]
    first.says(Opened(info=info(2), indexes=(0, 1)))
    bench.run(30, successor, reads=(1,))
    assert first.is_retired
    bench.run(4.5, successor, reads=(1,))
    assert bench.probes.last is first
    bench.run(1, successor, reads=(1,))
    assert bench.probes.last.spec.only == first.spec.only


async def test_a_gpu_that_hangs_again_after_it_answered_is_tried_again(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    successor.opens(1)
    bench.run(0.5, successor, reads=(1,))
    trial = bench.probes.launched[2]
    trial.says(Opened(info=info(2), indexes=(0,)))
    trial.says(Identified(identity=identity(0)))
    trial.reads(bench.clock.now_ns, 0)
    bench.clock.advance(1.5)
    trial.waits(bench.clock.now_ns, 0)
    bench.run(0.5, successor, reads=(1,))
    assert trial.is_retired
    assert bench.supervisor.pids == (successor.pid,)


async def test_the_successor_takes_over_at_once_when_the_main_probe_dies(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    successor = bench.probes.launched[1]
    main.ends("signal 11")
    assert bench.supervisor.pids == (successor.pid,)
    assert len(bench.probes.launched) == 2


async def test_a_successor_that_dies_is_tried_again(bench: Bench) -> None:
    main = bench.start(0, 1)
    bench.hang(main, 0, 1)
    bench.probes.launched[1].ends("signal 11")
    bench.hang(main, 0, 1, seconds=6)
    assert len(bench.probes.launched) >= 3
    assert not main.is_retired


async def test_a_gpu_that_hangs_before_it_is_identified_is_tried_by_its_index(
    bench: Bench,
) -> None:
    bench.supervisor.start()
    main = bench.probes.last
    main.says(Opened(info=info(2), indexes=(0, 1)))
    main.says(Identified(identity=identity(1)))
    since_ns = bench.clock.now_ns
    for _ in range(12):
        bench.clock.advance(0.5)
        main.reads(bench.clock.now_ns, 1)
        main.waits(since_ns, 0, identified=False)
        bench.supervisor.tick()
    successor = bench.probes.launched[1]
    assert successor.spec.skip == (Target(index=0),)
    successor.says(Opened(info=info(2), indexes=(1,)))
    successor.says(Identified(identity=identity(1)))
    bench.run(0.5, successor, reads=(1,))
    trial = bench.probes.launched[2]
    assert trial.spec.only == Target(index=0)
    trial.opens(0)
    trial.reads(bench.clock.now_ns, 0)
    bench.run(2, successor, reads=(1,))
    assert bench.probes.launched[3].spec.skip == ()
    waiting = [w.uuid for batch in bench.heard.batches for w in batch.waiting]
    assert set(waiting) == {None}


async def test_a_lost_gpu_is_tried_after_a_while_and_comes_back(bench: Bench) -> None:
    main = bench.start(0, 1)
    main.fails(1, "gpu_lost")
    bench.run(9.5, main, reads=(0,))
    assert bench.probes.last is main
    bench.run(1, main, reads=(0,))
    trial = bench.probes.last
    assert trial.spec.only == Target(index=1, uuid=uuid(1))
    trial.opens(1)
    trial.fails(1, "gpu_lost")
    assert trial.is_retired
    bench.run(6, main, reads=(0,))
    again = bench.probes.last
    assert again is not trial
    again.opens(1)
    again.reads(bench.clock.now_ns, 1)
    main.fails(1, "gpu_lost")
    faults = [fault.index for batch in bench.heard.batches for fault in batch.faults]
    assert faults == [1, 1]
    bench.run(2.5, main, reads=(0,))
    whole = bench.probes.last
    whole.opens(0, 1)
    bench.run(0.5, whole, reads=(0, 1))
    assert bench.supervisor.pids == (whole.pid,)


async def test_a_lost_gpu_that_the_main_probe_reads_again_needs_no_trial(bench: Bench) -> None:
    main = bench.start(0, 1)
    main.fails(1, "gpu_lost")
    bench.run(30, main, reads=(0, 1))
    assert bench.probes.launched == [main]


async def test_a_gpu_that_a_new_probe_does_not_list_is_looked_for(bench: Bench) -> None:
    bench.start(0, 1).ends("signal 9")
    main = bench.probes.last
    main.says(Opened(info=info(1), indexes=(0,)))
    main.says(Identified(identity=identity(0, name=uuid(1))))
    main.reads(bench.clock.now_ns, 1)
    assert bench.heard.listed[-1] == frozenset({uuid(1)})
    bench.run(11, main, reads=(1,))
    trial = bench.probes.last
    assert trial.spec.only is not None
    assert trial.spec.only.uuid == uuid(0)
    trial.says(Opened(info=info(1), indexes=(0,)))
    trial.says(Excluded(index=0))
    bench.run(0.5, main, reads=(1,))
    assert trial.is_retired


async def test_a_probe_that_dies_is_replaced_at_once_and_then_with_growing_pauses(
    bench: Bench,
) -> None:
    bench.start(0).ends("signal 9")
    assert bench.types() == ["probe.started", "probe.lost"]
    second = bench.probes.last
    assert second.pid == 101
    second.ends("signal 9")
    bench.run(0.5)
    assert bench.probes.last is second
    bench.run(0.5)
    third = bench.probes.last
    assert third.pid == 102
    third.ends("exit code 1")
    bench.run(1.5)
    assert bench.probes.last is third
    bench.run(0.5)
    assert bench.probes.last.pid == 103


async def test_a_probe_that_lived_for_long_is_replaced_at_once_again(bench: Bench) -> None:
    bench.start(0).ends()
    second = bench.probes.last
    second.opens(0)
    bench.run(61, second, reads=(0,))
    second.ends()
    assert bench.probes.last.pid == 102


async def test_a_silent_probe_is_given_up_and_said_to_be_stuck_but_not_killed(
    bench: Bench,
) -> None:
    main = bench.start(0)
    bench.run(5)
    assert main.is_retired
    assert bench.probes.last is not main
    assert not bench.supervisor.stuck_pids
    bench.probes.last.opens(0)
    bench.run(5, bench.probes.last, reads=(0,))
    assert bench.supervisor.stuck_pids == (main.pid,)
    assert bench.types().count("probe.stuck") == 1
    main.ends()
    assert not bench.supervisor.stuck_pids


async def test_with_many_stuck_probes_no_more_are_started() -> None:
    bench = Bench(stuck_limit=2, silent_s=1, stuck_s=1, restart_limit_s=1)
    bench.start(0)
    bench.run(40)
    assert len(bench.supervisor.stuck_pids) == 2
    assert len(bench.probes.launched) <= 3
    bench.probes.launched[0].ends()
    bench.run(5)
    assert len(bench.probes.launched) > 2


async def test_no_driver_is_told_and_tried_again_with_growing_pauses(bench: Bench) -> None:
    bench.supervisor.start()
    for expected in (1, 2, 3):
        assert len(bench.probes.launched) == expected
        bench.probes.last.says(Failed(fault=Fault(kind="no_library", message="no library")))
        assert len(bench.heard.failed) == expected
        bench.probes.last.ends("exit code 0")
        bench.run(2 ** (expected - 1))
    assert "probe.lost" not in bench.types()
    assert list(bench.supervisor.pids) == [103]
    bench.probes.last.opens(0)
    assert len(bench.heard.opened) == 1


@pytest.mark.parametrize("kind", ["no_driver", "version_mismatch"])
async def test_a_driver_that_goes_takes_all_probes_with_it(bench: Bench, kind: str) -> None:
    main = bench.start(0, 1)
    main.fails(0, kind)  # type: ignore[arg-type]
    assert main.is_retired
    assert [fault.kind for fault in bench.heard.failed] == [kind]
    bench.run(1)
    assert bench.probes.last is not main


async def test_a_trial_that_finds_no_driver_is_no_news(bench: Bench) -> None:
    main = bench.start(0, 1)
    main.fails(1, "gpu_lost")
    bench.run(11, main, reads=(0,))
    trial = bench.probes.last
    trial.says(Failed(fault=Fault(kind="no_driver", message="gone")))
    assert trial.is_retired
    assert bench.heard.failed == []


async def test_a_driver_that_does_not_open_is_a_hang(bench: Bench) -> None:
    bench.supervisor.start()
    main = bench.probes.last
    bench.run(10, main)
    assert main.is_retired
    assert [fault.kind for fault in bench.heard.failed] == ["hang"]


async def test_a_probe_that_cannot_be_started_is_tried_again(bench: Bench) -> None:
    bench.probes.refuse = OSError("no more processes")
    bench.supervisor.start()
    assert bench.types() == ["probe.lost"]
    bench.probes.refuse = None
    bench.run(1)
    assert len(bench.probes.launched) == 1


async def test_stopping_ends_all_probes_and_waits_for_no_stuck_one(bench: Bench) -> None:
    main = bench.start(0)
    await bench.supervisor.stop(within_s=0.01)
    assert main.is_retired
    assert bench.supervisor.stuck_pids == (main.pid,)
    bench.run(5)
    assert bench.probes.launched == [main]
    bench.supervisor.abandon()
    assert main.is_abandoned


async def test_a_stopped_supervisor_starts_again(bench: Bench) -> None:
    main = bench.start(0)
    main.obeys = True
    await bench.supervisor.stop(within_s=5)
    bench.supervisor.start()
    assert bench.probes.last is not main


async def test_xids_are_passed_on(bench: Bench) -> None:
    bench.start(0).says(XidSeen(xid=Xid(uuid=uuid(0), xid=79, taken_ns=1)))
    assert bench.heard.xids == [79]


async def test_a_retired_probe_is_not_listened_to(bench: Bench) -> None:
    main = bench.start(0)
    bench.run(5)
    before = len(bench.heard.batches)
    main.is_retired = False
    main.reads(bench.clock.now_ns, 0)
    assert len(bench.heard.batches) == before
