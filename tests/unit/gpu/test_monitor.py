"""The monitor: freshness, passes that are shared and bounded, cordons, events, the snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpu_views import FakeClock
from probe_doubles import (
    NO_DETAILS,
    Probes,
    ScriptedProbe,
    SilentLog,
    identity,
    info,
    uuid,
)
from superezio.errors import NotFoundError
from superezio.wire import Event
from supereziod.gpu.frames import Failed, Identified, Interval, Opened, Pass, ProbeSpec, XidSeen
from supereziod.gpu.hardware import Fault, GpuView, Xid
from supereziod.gpu.monitor import GpuMonitor, MonitorRules
from supereziod.gpu.patience import Patience
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.thermal import Thresholds
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

SECOND = 1_000_000_000
LONG_S = 60.0


class Bench:
    """A monitor over scripted probes, with a clock that the test turns."""

    def __init__(self, state: Path, **patience: float) -> None:
        self.clock = FakeClock()
        self.probes = Probes()
        self.resumed_ns = 0
        self.events: list[Event] = []
        self.changes = 0
        log = EventLog(logger=SilentLog())
        log.listen(self.events.append)
        self.documents = Documents(Database.open(state, schema=Documents.SCHEMA))
        self.monitor = GpuMonitor(
            spec=ProbeSpec(driver="nvml"),
            records=GpuRecords(self.documents, boot_id="boot", logger=SilentLog()),
            events=log,
            rules=MonitorRules(thresholds_by_gpu={uuid(1): Thresholds(slowdown_temperature_c=60)}),
            patience=Patience(**patience),  # type: ignore[arg-type]
            resumed_ns=lambda: self.resumed_ns,
            clock=self.clock,
            launch=self.probes.launch,
            logger=SilentLog(),
        )
        self.monitor.on_change(self._count)

    async def start(self, *indexes: int) -> ScriptedProbe:
        """Start, and have the probe read these GPUs."""
        await self.monitor.start()
        self.probe.opens(*indexes)
        self.read(*indexes)
        return self.probe

    @property
    def probe(self) -> ScriptedProbe:
        return self.probes.last

    def read(self, *indexes: int, pass_id: int | None = 0, **fields: Any) -> None:
        self.probe.reads(self.clock.now_ns, *indexes, pass_id=pass_id, **fields)

    def run(self, seconds: float, *indexes: int, **fields: Any) -> None:
        """Let time pass by half seconds in which these GPUs are read."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.read(*indexes, **fields)
            self.monitor.tick()

    def gpu(self, index: int = 0) -> GpuView:
        view = self.monitor.snapshot().find(uuid(index))
        assert view is not None
        return view

    def code(self, index: int = 0) -> str | None:
        block = self.gpu(index).block
        return block.code if block is not None else None

    def types(self) -> list[str]:
        return [event.type for event in self.events if event.type != "probe.started"]

    def _count(self) -> None:
        self.changes += 1


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
    bench = Bench(tmp_path / "state.db")
    yield bench
    for probe in bench.probes.launched:
        probe.obeys = True
        if probe.is_retired:
            probe.ends()
    await bench.monitor.aclose()


# --- the snapshot -------------------------------------------------------------------------------


async def test_the_snapshot_is_ready_once_every_gpu_has_answered(bench: Bench) -> None:
    await bench.monitor.start()
    assert not bench.monitor.snapshot().ready
    bench.probe.opens(0, 1)
    bench.read(0)
    assert not bench.monitor.snapshot().ready
    bench.read(1)
    snapshot = bench.monitor.snapshot()
    assert snapshot.ready
    assert [gpu.uuid for gpu in snapshot.gpus] == [uuid(0), uuid(1)]
    assert [gpu.block for gpu in snapshot.gpus] == [None, None]
    assert bench.types() == []


async def test_a_sample_from_before_a_sleep_counts_towards_no_dwell(bench: Bench) -> None:
    await bench.start(0, 1)
    bench.run(4, 0, 1, margin=5)
    bench.clock.advance(0.1)
    bench.resumed_ns = bench.clock()
    bench.run(4, 0, 1, margin=5)
    assert bench.gpu(0).level == "normal", "HOT takes 5 s, and nobody saw the night between"
    bench.run(2, 0, 1, margin=5)
    assert bench.gpu(0).level == "hot"


async def test_the_snapshot_is_the_same_object_until_something_changes(bench: Bench) -> None:
    await bench.start(0)
    first = bench.monitor.snapshot()
    assert bench.monitor.snapshot() is first
    changes = bench.changes
    bench.run(0.5, 0)
    assert bench.changes > changes
    assert bench.monitor.snapshot() is not first


async def test_an_empty_batch_and_a_quiet_tick_are_no_change(bench: Bench) -> None:
    await bench.start(0)
    changes = bench.changes
    bench.read()
    bench.monitor.tick()
    assert bench.changes == changes


async def test_a_listener_hears_nothing_after_it_left(bench: Bench) -> None:
    calls: list[None] = []
    leave = bench.monitor.on_change(lambda: calls.append(None))
    await bench.start(0)
    assert calls
    leave()
    calls.clear()
    bench.read(0)
    assert calls == []


async def test_a_fast_sample_keeps_the_last_pass_and_its_details(bench: Bench) -> None:
    await bench.start(0)
    passed = bench.gpu().last_pass
    bench.clock.advance(1)
    bench.read(0, pass_id=None)
    assert bench.gpu().last_pass is passed
    assert bench.gpu().details is NO_DETAILS
    assert bench.gpu().sample is not passed


async def test_a_reading_that_came_late_does_not_replace_a_newer_one(bench: Bench) -> None:
    await bench.start(0)
    newest = bench.gpu().sample
    bench.probe.reads(bench.clock.now_ns - 1, 0)
    assert bench.gpu().sample is newest


# --- freshness ----------------------------------------------------------------------------------


async def test_a_gpu_without_a_fresh_sample_for_three_periods_is_unknown(bench: Bench) -> None:
    await bench.start(0, 1)
    bench.run(2.5, 1)
    assert bench.gpu(0).status == "ok"
    bench.run(0.5, 1)
    assert (bench.gpu(0).status, bench.gpu(0).level) == ("unknown", "unknown")
    assert "no fresh sample" in (bench.gpu(0).status_reason or "")
    assert (bench.code(0), bench.code(1)) == ("unknown", None)
    assert bench.types() == ["gpu.status", "gpu.level"]
    bench.run(1.5, 0, 1)
    assert bench.code(0) is None
    assert bench.types()[2:] == ["gpu.status", "gpu.level"]


async def test_a_call_that_is_late_makes_its_gpu_unknown_at_once(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(1)
    probe.waits(bench.clock.now_ns - SECOND, 0)
    assert (bench.gpu(0).status, bench.gpu(1).status) == ("unknown", "ok")
    assert bench.gpu(0).fitness == "suspect"
    bench.run(0.5, 0, 1)
    assert bench.gpu(0).status == "ok"


async def test_a_hang_is_one_suspicion_however_long(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    since_ns = bench.clock.now_ns
    for _ in range(60):
        bench.clock.advance(1)
        probe.waits(since_ns, 0)
    assert bench.gpu(0).fitness == "suspect"


async def test_a_pass_that_is_not_answered_in_time_makes_its_gpu_unknown(bench: Bench) -> None:
    await bench.start(0)
    bench.clock.advance(0.1)
    await bench.monitor.fresh_pass(max_age_s=0, patience_s=0.01)
    bench.run(0.5, 0, pass_id=None)
    assert bench.gpu(0).status == "ok"
    bench.run(0.5, 0, pass_id=None)
    assert bench.gpu(0).status == "unknown"
    assert "pass" in (bench.gpu(0).status_reason or "")


async def test_a_gpu_that_hangs_before_it_is_identified_is_listed_by_its_index(
    bench: Bench,
) -> None:
    await bench.monitor.start()
    bench.probe.says(Opened(info=info(2), indexes=(0, 1)))
    bench.probe.says(Identified(identity=identity(1)))
    bench.read(1)
    bench.probe.waits(0, 0, identified=False)
    snapshot = bench.monitor.snapshot()
    assert snapshot.ready
    assert [gpu.uuid for gpu in snapshot.gpus] == ["unidentified-0", uuid(1)]
    assert [gpu.status for gpu in snapshot.gpus] == ["unknown", "ok"]
    bench.probe.says(Identified(identity=identity(0)))
    assert [gpu.uuid for gpu in bench.monitor.snapshot().gpus] == [uuid(0), uuid(1)]


async def test_after_a_pause_of_the_loop_nothing_is_judged_before_it_has_caught_up(
    bench: Bench,
) -> None:
    await bench.start(0)
    bench.clock.advance(300)
    bench.monitor.tick()
    assert bench.gpu().status == "ok"
    bench.read(0)
    bench.clock.advance(0.5)
    bench.monitor.tick()
    assert bench.gpu().status == "ok"


# --- passes -------------------------------------------------------------------------------------


async def test_a_young_pass_is_returned_at_once(bench: Bench) -> None:
    probe = await bench.start(0)
    snapshot = await bench.monitor.fresh_pass(max_age_s=1, patience_s=LONG_S)
    assert snapshot.ready
    assert probe.passes == []


async def test_an_old_pass_is_replaced_and_all_who_wait_share_the_new_one(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = [ask(bench) for _ in range(5)]
    await turn_loop()
    assert probe.passes == [1]
    bench.read(0, 1, pass_id=1)
    for snapshot in await asyncio.gather(*waiting):
        assert snapshot.gpus[0].last_pass.taken_ns == bench.clock.now_ns


async def test_a_pass_that_began_before_it_was_asked_for_does_not_count(bench: Bench) -> None:
    probe = await bench.start(0)
    bench.clock.advance(2)
    first = ask(bench, max_age_s=0)
    await turn_loop()
    bench.clock.advance(0.01)
    second = ask(bench, max_age_s=0)
    await turn_loop()
    assert probe.passes == [1, 2]
    bench.read(0, pass_id=1)
    await first
    assert not second.done()
    bench.clock.advance(0.01)
    bench.read(0, pass_id=2)
    await second


async def test_a_gpu_that_lags_is_waited_for_a_moment_and_then_admits_nothing(
    bench: Bench,
) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench)
    await turn_loop()
    bench.read(1, pass_id=1)
    await asyncio.wait_for(waiting, 5)
    assert (bench.code(0), bench.code(1)) == ("settling", None)
    assert bench.gpu(0).status == "ok"
    again = ask(bench, max_age_s=0)
    await turn_loop()
    bench.clock.advance(0.1)
    bench.read(1, pass_id=probe.passes[-1])
    assert again.done()
    bench.read(0, pass_id=probe.passes[-1])
    assert bench.code(0) is None


async def test_who_can_be_served_by_a_laggard_alone_may_wait_for_it(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    hurried = ask(bench)
    await turn_loop()
    bench.read(1, pass_id=probe.passes[-1])
    await asyncio.wait_for(hurried, 5)
    assert not waiting.done()
    again = ask(bench, for_all=True)
    await turn_loop()
    bench.clock.advance(0.1)
    bench.read(0, pass_id=probe.passes[-1])
    await asyncio.gather(waiting, again)
    assert (bench.code(0), bench.code(1)) == (None, None)


async def test_only_gpus_whose_pass_is_old_are_read_again(bench: Bench) -> None:
    """A slow one that has answered need not do so again before the others can be."""
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    bench.clock.advance(0.5)
    bench.read(0, pass_id=1)
    await turn_loop()
    hurried = ask(bench, for_all=True)
    await turn_loop()
    assert [frame for frame in probe.told if isinstance(frame, Pass)] == [
        Pass(id=1, uuids=frozenset({uuid(0), uuid(1)}))
    ]
    bench.clock.advance(0.4)
    bench.read(1, pass_id=1)
    await asyncio.gather(waiting, hurried)
    bench.clock.advance(0.7)
    again = ask(bench, for_all=True)
    await turn_loop()
    assert probe.told[-1] == Pass(id=2, uuids=frozenset({uuid(0)}))
    bench.read(0, pass_id=2)
    await again


async def test_who_needs_a_gpu_that_a_pass_in_flight_leaves_out_asks_for_it(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(0.8)
    bench.read(1, pass_id=0)
    bench.clock.advance(0.4)
    first = ask(bench)
    await turn_loop()
    assert probe.told[-1] == Pass(id=1, uuids=frozenset({uuid(0)}))
    second = ask(bench, max_age_s=0)
    await turn_loop()
    assert probe.told[-1] == Pass(id=2, uuids=frozenset({uuid(0), uuid(1)}))
    bench.read(0, 1, pass_id=2)
    await asyncio.gather(first, second)


async def test_a_pass_begins_when_the_reading_before_it_has_ended(bench: Bench) -> None:
    """A GPU each of whose readings keeps the deadline is not UNKNOWN for two in a row."""
    probe = await bench.start(0)
    bench.clock.advance(2)
    bench.read(0, pass_id=None)
    begun_ns = bench.clock.now_ns
    bench.clock.advance(0.1)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    bench.clock.advance(0.8)
    probe.reads(begun_ns + 1, 0, pass_id=None)
    bench.clock.advance(0.9)
    bench.monitor.tick()
    assert bench.gpu().status == "ok"
    bench.read(0, pass_id=None)  # what began after it was asked for should have been the pass
    bench.clock.advance(0.1)
    bench.monitor.tick()
    assert (await waiting).gpus[0].status_reason == "a pass was not answered within 1 s"


async def test_a_laggard_is_waited_for_only_until_it_is_unknown(bench: Bench) -> None:
    await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    bench.read(1, pass_id=1)
    bench.run(1.5, 1)
    assert (await waiting).gpus[0].status == "unknown"


async def test_a_gpu_that_nobody_waits_for_is_asked_too(bench: Bench) -> None:
    """It would never be known to answer again."""
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    bench.read(1, pass_id=1)
    bench.run(1.5, 1)
    assert (await waiting).gpus[0].status == "unknown"
    bench.clock.advance(0.5)
    hurried = ask(bench, max_age_s=0)
    await turn_loop()
    assert probe.told[-1] == Pass(id=2, uuids=frozenset({uuid(0), uuid(1)}))
    bench.read(0, 1, pass_id=2)
    assert (await hurried).gpus[0].status == "ok"


async def test_a_later_pass_of_its_own_answers_for_one_that_was_lost(bench: Bench) -> None:
    await bench.start(0)
    bench.clock.advance(2)
    waiting = ask(bench, for_all=True)
    await turn_loop()
    bench.run(1.5)
    assert (await waiting).gpus[0].status == "unknown"
    bench.read(0, pass_id=0)
    bench.monitor.tick()
    assert bench.gpu().status == "ok"


async def test_where_no_gpu_answers_the_patience_of_the_caller_decides(bench: Bench) -> None:
    await bench.start(0)
    bench.clock.advance(2)
    snapshot = await bench.monitor.fresh_pass(max_age_s=1, patience_s=0.01)
    assert snapshot.gpus[0].block is not None
    assert (await bench.monitor.fresh_pass(max_age_s=1, patience_s=LONG_S)).gpus


async def test_a_gpu_that_falls_ill_during_a_pass_is_not_waited_for(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    bench.clock.advance(2)
    waiting = ask(bench)
    await turn_loop()
    bench.read(1, pass_id=1)
    probe.fails(0, "gpu_lost")
    assert (await waiting).gpus[0].status == "lost"


async def test_one_caller_who_leaves_takes_the_pass_from_nobody(bench: Bench) -> None:
    await bench.start(0)
    bench.clock.advance(2)
    first, second = ask(bench), ask(bench)
    await turn_loop()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bench.read(0, pass_id=1)
    assert (await second).ready


async def test_who_waits_is_freed_when_the_probe_is_detached_or_the_driver_goes(
    bench: Bench,
) -> None:
    probe = await bench.start(0)
    bench.clock.advance(2)
    waiting = ask(bench)
    await turn_loop()
    probe.fails(0, "no_driver")
    assert (await waiting).driver_fault is not None


async def test_passes_come_more_often_while_leases_change(bench: Bench) -> None:
    probe = await bench.start(0)
    assert probe.spec.process_interval_s == 30
    bench.monitor.set_busy(True)
    bench.monitor.set_busy(True)
    bench.monitor.set_busy(False)
    assert probe.told == [Interval(process_s=5), Interval(process_s=30)]


# --- faults -------------------------------------------------------------------------------------


async def test_a_lost_gpu_stays_listed_and_is_quarantined(bench: Bench) -> None:
    probe = await bench.start(0, 1)
    probe.fails(0, "gpu_lost")
    assert (bench.gpu(0).status, bench.code(0)) == ("lost", "lost")
    assert bench.types() == ["gpu.fitness", "gpu.status"]
    bench.run(2, 0, 1)
    assert (bench.gpu(0).status, bench.code(0)) == ("ok", "quarantined")


async def test_another_fault_makes_a_gpu_unknown(bench: Bench) -> None:
    probe = await bench.start(0)
    probe.fails(0, "no_permission")
    assert (bench.gpu().status, bench.gpu().fitness) == ("unknown", "suspect")


async def test_a_gpu_that_a_new_probe_does_not_list_is_lost_and_the_others_move_up(
    bench: Bench,
) -> None:
    (await bench.start(0, 1)).ends("signal 9")
    bench.probe.says(Opened(info=info(2), indexes=(0,)))
    bench.probe.says(Identified(identity=identity(0, name=uuid(1))))
    bench.clock.advance(0.1)
    bench.read(1)
    assert bench.gpu(0).status == "lost"
    assert (bench.gpu(1).status, bench.gpu(1).identity.index) == ("ok", 0)


async def test_an_xid_is_told_and_judged(bench: Bench) -> None:
    probe = await bench.start(0)
    for number in (31, 79):
        probe.says(XidSeen(xid=Xid(uuid=uuid(0), xid=number, taken_ns=1)))
    probe.says(XidSeen(xid=Xid(uuid="GPU-x", xid=79, taken_ns=1)))
    assert bench.types() == ["gpu.xid", "gpu.xid", "gpu.fitness"]
    assert bench.code() == "quarantined"


async def test_new_ecc_errors_make_a_suspect(bench: Bench) -> None:
    await bench.start(0)
    for errors in (1, 2):
        bench.run(0.5, 0, details=replace(NO_DETAILS, ecc_uncorrected=errors))
    assert bench.gpu().fitness == "suspect"


async def test_fitness_outlives_the_daemon(bench: Bench, tmp_path: Path) -> None:
    (await bench.start(0)).fails(0, "gpu_lost")
    later = Bench(tmp_path / "state.db")
    await later.start(0)
    assert later.gpu().fitness == "quarantined"


async def test_a_gpu_that_gets_hot_is_told_and_admits_nothing(bench: Bench) -> None:
    await bench.start(0)
    bench.run(6, 0, margin=5)
    assert (bench.gpu().level, bench.code()) == ("hot", "hot")
    bench.run(3, 0, margin=1)
    assert (bench.gpu().level, bench.code()) == ("critical", "critical")
    levels = [event.data["level"] for event in bench.events if event.type == "gpu.level"]
    assert levels == ["hot", "critical"]


async def test_a_gpu_can_have_thresholds_of_its_own(bench: Bench) -> None:
    await bench.start(0, 1)
    bench.run(15, 0, 1, margin=35)
    assert (bench.gpu(0).level, bench.gpu(1).level) == ("normal", "critical")


async def test_a_card_that_tells_no_temperature_is_unknown_never_cool(bench: Bench) -> None:
    await bench.monitor.start()
    bench.probe.opens(0)
    bench.read(0, margin=None)
    assert (bench.gpu().level, bench.code()) == ("unknown", "unknown")


# --- the driver ---------------------------------------------------------------------------------


async def test_without_a_driver_the_snapshot_says_so_and_is_ready(bench: Bench) -> None:
    await bench.monitor.start()
    for _ in range(3):
        bench.probe.says(Failed(fault=Fault(kind="no_library", message="no libnvidia-ml.so.1")))
        bench.probe.ends()
        bench.clock.advance(60)
        bench.monitor.tick()
        bench.clock.advance(0.5)
        bench.monitor.tick()
    snapshot = bench.monitor.snapshot()
    assert (snapshot.ready, snapshot.gpus, snapshot.driver) == (True, (), None)
    assert snapshot.driver_fault is not None
    assert bench.types() == ["driver.lost"]
    bench.probe.opens(0)
    assert bench.types() == ["driver.lost", "driver.found"]
    assert bench.monitor.snapshot().driver_fault is None


async def test_gpus_of_a_driver_that_went_are_unknown_until_they_are_read_again(
    bench: Bench,
) -> None:
    (await bench.start(0)).fails(0, "version_mismatch")
    assert bench.gpu().status == "unknown"
    assert "driver" in (bench.gpu().status_reason or "")
    bench.run(1)
    bench.probe.opens(0)
    assert bench.gpu().status == "unknown"
    bench.run(0.5, 0)
    assert bench.gpu().status == "ok"


async def test_a_probe_that_dies_leaves_its_gpus_as_they_were_for_a_moment(bench: Bench) -> None:
    (await bench.start(0)).ends("signal 9")
    assert bench.gpu().status == "ok"
    assert bench.types() == ["probe.lost"]
    assert bench.monitor.probe_faults() == []
    bench.probe.ends("signal 9")
    assert bench.monitor.probe_faults() == ["no probe is at work"]


async def test_probes_that_die_again_and_again_are_a_fault_until_one_reads(bench: Bench) -> None:
    await bench.monitor.start()
    for _ in range(3):
        bench.probe.ends("signal 6")
        for _ in range(6):
            bench.clock.advance(0.5)
            bench.monitor.tick()
    assert bench.monitor.probe_pids, "the next one is at work, and as like to die"
    assert bench.monitor.probe_faults() == [
        "3 probes in a row ended by themselves before they had read a GPU"
    ]
    assert not bench.monitor.snapshot().ready
    bench.probe.opens(0)
    bench.read(0)
    assert bench.monitor.probe_faults() == []


# --- detach and attach --------------------------------------------------------------------------


async def test_detach_ends_the_probes_and_attach_brings_them_back(bench: Bench) -> None:
    probe = await bench.start(0)
    probe.obeys = True
    assert await bench.monitor.detach()
    assert probe.is_retired
    assert not bench.monitor.snapshot().attached
    assert (bench.gpu().status, bench.code()) == ("detached", "detached")
    assert bench.monitor.probe_faults() == []
    assert not await bench.monitor.detach()
    assert await bench.monitor.attach()
    assert not await bench.monitor.attach()
    assert bench.gpu().status == "unknown"
    bench.probe.opens(0)
    bench.clock.advance(0.5)
    bench.read(0)
    assert bench.gpu().status == "ok"
    assert bench.types() == [
        "probe.detached",
        "gpu.status",
        "probe.attached",
        "gpu.status",
        "gpu.status",
    ]


async def test_a_probe_that_does_not_end_is_a_fault_that_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state.db", stuck_s=1)
    probe = await bench.start(0)
    bench.run(0.5, 0)
    for _ in range(20):
        bench.clock.advance(1)
        bench.monitor.tick()
    assert probe.is_retired
    assert probe.pid in bench.monitor.stuck_probe_pids
    assert str(probe.pid) in bench.monitor.probe_faults()[0]
    assert bench.monitor.probe_pids == (bench.probe.pid,)


# --- cordons ------------------------------------------------------------------------------------


async def test_a_cordon_keeps_leases_away_and_outlives_the_daemon(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.start(0)
    assert bench.monitor.cordon(uuid(0), reason="fan is loud")
    assert not bench.monitor.cordon(uuid(0), reason="fan is loud")
    assert (bench.code(), bench.gpu().cordon_reason) == ("cordoned", "fan is loud")
    later = Bench(tmp_path / "state.db")
    await later.start(0)
    assert later.gpu().cordoned
    assert later.monitor.uncordon(uuid(0))
    assert not later.monitor.uncordon(uuid(0))
    assert later.code() is None
    assert [*bench.types(), *later.types()] == ["gpu.cordoned", "gpu.uncordoned"]


async def test_a_gpu_that_is_not_there_is_not_found(bench: Bench) -> None:
    await bench.start(0)
    for call in (
        lambda: bench.monitor.cordon("GPU-x", reason=""),
        lambda: bench.monitor.uncordon("GPU-x"),
        lambda: bench.monitor.history("GPU-x", since_s=60),
    ):
        with pytest.raises(NotFoundError):
            call()


async def test_history_has_what_was_read(bench: Bench) -> None:
    await bench.start(0)
    bench.run(10, 0)
    past = bench.monitor.history(uuid(0), since_s=60)
    assert len(past.temperature_c) == 11
    assert past.temperature_c[-1].max == 43


async def test_a_tick_that_fails_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "state.db")
    twice = asyncio.Event()
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        if len(calls) == 2:
            twice.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.monitor, "tick", fail)
    await bench.start(0)
    await asyncio.wait_for(twice.wait(), 5)
    bench.probe.obeys = True
    await bench.monitor.aclose()


def ask(bench: Bench, *, max_age_s: float = 1.0, for_all: bool = False) -> asyncio.Task[Any]:
    return asyncio.create_task(
        bench.monitor.fresh_pass(max_age_s=max_age_s, patience_s=LONG_S, for_all=for_all)
    )


async def turn_loop() -> None:
    """Let every task that is ready run once."""
    await asyncio.sleep(0)


async def test_a_cordon_that_could_not_be_written_is_with_a_later_tick(tmp_path: Path) -> None:
    state = tmp_path / "not there yet" / "state.db"
    bench = Bench(state)
    await bench.start(0, 1)
    bench.monitor.cordon(uuid(0), reason="fan")
    bench.monitor.tick()
    state.parent.mkdir()
    bench.clock.advance(1)
    bench.monitor.tick()
    found = GpuRecords(Documents(Database.open(state, schema=Documents.SCHEMA)), logger=SilentLog())
    assert found.cordons == {uuid(0): "fan"}
    await bench.monitor.aclose()


async def test_a_hot_gpu_is_still_cordoned_after_a_restart(tmp_path: Path) -> None:
    """What it reads is then no reason to be HOT, nor one to leave HOT."""
    first = Bench(tmp_path / "state.db")
    await first.start(0)
    first.run(10, 0, margin=5)
    assert first.gpu(0).level == "hot"
    await first.monitor.aclose()
    second = Bench(tmp_path / "state.db")
    await second.start(0)
    second.run(2, 0, margin=8)
    assert second.gpu(0).level == "hot"
    second.run(70, 0, margin=13)
    assert second.gpu(0).level != "hot"
    await second.monitor.aclose()
