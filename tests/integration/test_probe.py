"""The real probe process over a real socketpair, and the monitor above it, on simulated GPUs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import pytest

from probe_doubles import SilentLog
from superezio.wire import Event
from supereziod.gpu.control import SimulatedControl
from supereziod.gpu.frames import Failed, FromProbe, Opened, ProbeSpec, SimulatedSpec
from supereziod.gpu.hardware import GpuView, Snapshot
from supereziod.gpu.monitor import GpuMonitor
from supereziod.gpu.patience import Patience
from supereziod.gpu.probe_process import ProbeHandle, ProbeProcess
from supereziod.gpu.records import GpuRecords
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

pytestmark = pytest.mark.installed

PERIOD_S = 0.1
WITHIN_S = 20.0
#: Everything that takes seconds in earnest, in tenths of them.
QUICK = Patience(
    replace_after_s=0.5,
    settle_s=3.0,
    merge_after_s=0.3,
    lost_retry_s=0.3,
    restart_s=0.1,
    driver_s=0.2,
    driver_limit_s=0.5,
    stuck_s=0.5,
    silent_s=1.0,
)


class Host:
    """A monitor with a real probe; the simulation is ruled through its control file."""

    def __init__(
        self,
        directory: Path,
        *,
        driver: Literal["nvml", "simulated"] = "simulated",
        scenario: str | None = None,
    ) -> None:
        self.events: list[Event] = []
        log = EventLog(logger=SilentLog())
        log.listen(self.events.append)
        self.control = SimulatedControl(directory / "simulated")
        path = None
        if scenario is not None:
            path = str(directory / "scenario.toml")
            Path(path).write_text(scenario)
        simulated = SimulatedSpec(
            directory=str(directory / "simulated"), scenario=path, epoch_ns=time.monotonic_ns()
        )
        database = Database.open(directory / "state.db", schema=Documents.SCHEMA)
        self.monitor = GpuMonitor(
            spec=ProbeSpec(
                driver=driver,
                simulated=simulated if driver == "simulated" else None,
                period_s=PERIOD_S,
                deadline_s=0.3,
            ),
            records=GpuRecords(Documents(database), logger=SilentLog()),
            events=log,
            patience=QUICK,
            logger=SilentLog(),
        )
        self._change = asyncio.Event()
        self.monitor.on_change(self._change.set)

    async def until(self, condition: Callable[[Snapshot], bool]) -> Snapshot:
        """Wait for a snapshot of which the condition holds."""
        async with asyncio.timeout(WITHIN_S):
            while not condition(self.monitor.snapshot()):
                self._change.clear()
                await self._change.wait()
        return self.monitor.snapshot()

    async def until_ok(self, *indexes: int) -> None:
        await self.until(lambda s: all(s.gpus[index].block is None for index in indexes))

    def gpu(self, slot: int) -> GpuView:
        return self.monitor.snapshot().gpus[slot]

    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    await host.monitor.start()
    await host.until(lambda snapshot: snapshot.ready)
    yield host
    await host.monitor.aclose()


class Listening:
    """Hears one probe, without a supervisor above it."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[FromProbe] = asyncio.Queue()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def probe_said(self, probe: ProbeHandle, frame: FromProbe) -> None:
        del probe
        self.frames.put_nowait(frame)

    def probe_ended(self, probe: ProbeHandle, how: str) -> None:
        del probe
        self.ended.set_result(how)


def launch(directory: Path, **spec: object) -> tuple[ProbeProcess, Listening]:
    listening = Listening()
    simulated = SimulatedSpec(directory=str(directory), epoch_ns=time.monotonic_ns())
    probe = ProbeProcess(
        ProbeSpec(driver="simulated", simulated=simulated, period_s=PERIOD_S, **spec),  # type: ignore[arg-type]
        listening,
        logger=SilentLog(),
    )
    return probe, listening


async def await_frame(listening: Listening, kind: type[FromProbe]) -> FromProbe:
    async with asyncio.timeout(WITHIN_S):
        while True:
            frame = await listening.frames.get()
            if isinstance(frame, kind):
                return frame


async def test_a_hang_on_one_gpu_of_two_leaves_the_other_as_it_was(host: Host) -> None:
    host.control.hang(0)
    await host.until(lambda s: s.gpus[0].status == "unknown")
    slowest_s = 0.0
    first_probe = host.monitor.probe_pids[0]
    while host.monitor.probe_pids[0] == first_probe or len(host.monitor.probe_pids) < 2:
        before = time.perf_counter()
        snapshot = await host.monitor.fresh_pass(max_age_s=0, patience_s=2)
        slowest_s = max(slowest_s, time.perf_counter() - before)
        assert snapshot.gpus[1].block is None
    assert slowest_s < 1.0
    assert host.gpu(0).status == "unknown"
    assert "probe.stuck" not in host.types()


async def test_a_pass_that_a_hang_begins_in_is_not_held_up_by_it(host: Host) -> None:
    host.control.hang(0)
    async with asyncio.timeout(WITHIN_S):
        snapshot = await host.monitor.fresh_pass(max_age_s=0, patience_s=WITHIN_S)
    assert snapshot.gpus[0].block is not None
    assert snapshot.gpus[1].block is None


async def test_a_hang_that_ends_needs_nobody(host: Host) -> None:
    host.control.hang(0)
    await host.until(lambda _: len(host.monitor.probe_pids) == 2 and host.gpu(0).status != "ok")
    await host.until(lambda _: host.types().count("probe.started") >= 2)
    host.control.restore(0)
    await host.until_ok(0, 1)
    await host.until(lambda _: len(host.monitor.probe_pids) == 1)
    assert host.gpu(0).fitness == "suspect"


async def test_a_hang_before_the_first_reading_is_listed_and_recovers(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.control.hang(0)
    await host.monitor.start()
    snapshot = await host.until(lambda s: s.ready and len(s.gpus) == 2)
    assert [gpu.status for gpu in snapshot.gpus] == ["unknown", "ok"]
    host.control.restore(0)
    await host.until(lambda s: [gpu.block for gpu in s.gpus] == [None, None])
    await host.monitor.aclose()


async def test_a_killed_probe_is_replaced_at_once(host: Host) -> None:
    os.kill(host.monitor.probe_pids[0], signal.SIGKILL)
    before = host.gpu(0).sample
    await host.until(lambda _: "probe.lost" in host.types())
    await host.until(lambda s: s.gpus[0].sample is not before and len(host.monitor.probe_pids) > 0)
    await host.until_ok(0, 1)


async def test_a_stopped_probe_is_given_up_reported_and_never_killed(host: Host) -> None:
    pid = host.monitor.probe_pids[0]
    os.kill(pid, signal.SIGSTOP)
    await host.until(lambda _: pid in host.monitor.stuck_probe_pids)
    assert any(str(pid) in fault for fault in host.monitor.probe_faults())
    await host.until_ok(0, 1)
    os.kill(pid, signal.SIGCONT)
    await host.until(lambda _: host.monitor.stuck_probe_pids == ())


async def test_a_lost_gpu_comes_back_and_the_order_may_change(host: Host) -> None:
    lost = host.gpu(0).uuid
    host.control.lose(0, vanish=True)
    await host.until(lambda s: s.find(lost).status == "lost")  # type: ignore[union-attr]
    os.kill(host.monitor.probe_pids[0], signal.SIGKILL)
    await host.until(lambda s: [g.identity.index for g in s.gpus if g.uuid != lost] == [0])
    assert host.monitor.snapshot().find(lost) is not None
    host.control.restore(0)
    await host.until(lambda s: all(gpu.status == "ok" for gpu in s.gpus))
    await host.until(lambda s: [gpu.identity.index for gpu in s.gpus] == [0, 1])


async def test_the_driver_goes_is_upgraded_and_comes_back(host: Host) -> None:
    host.control.driver_fault("version_mismatch")
    await host.until(lambda s: s.driver_fault is not None)
    assert [gpu.status for gpu in host.monitor.snapshot().gpus] == ["unknown", "unknown"]
    host.control.driver_fault(None)
    await host.until(lambda s: all(gpu.status == "ok" for gpu in s.gpus))
    assert host.types().count("driver.found") == 1


async def test_detach_leaves_no_process_at_the_driver_and_attach_brings_one_back(
    host: Host,
) -> None:
    pid = host.monitor.probe_pids[0]
    assert await host.monitor.detach()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [gpu.status for gpu in host.monitor.snapshot().gpus] == ["detached", "detached"]
    assert await host.monitor.attach()
    await host.until_ok(0, 1)


async def test_an_xid_reaches_the_events(host: Host) -> None:
    host.control.xid(1, 79)
    await host.until(lambda s: s.gpus[1].fitness == "quarantined")
    assert "gpu.xid" in host.types()


async def test_nothing_is_found_where_there_is_no_nvml_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    host = Host(tmp_path, driver="nvml")
    await host.monitor.start()
    snapshot = await host.until(lambda s: s.ready)
    if snapshot.driver_fault is None:
        await host.monitor.aclose()
        pytest.skip("this machine has an NVIDIA driver")
    assert snapshot.driver_fault.kind in {"no_library", "no_driver"}
    assert snapshot.gpus == ()
    assert host.types() == ["driver.lost"]
    assert (await host.monitor.fresh_pass(max_age_s=0, patience_s=WITHIN_S)).gpus == ()
    await host.monitor.aclose()


async def test_a_scenario_that_went_bad_is_told(tmp_path: Path) -> None:
    host = Host(tmp_path, scenario='[[gpu]]\nprofile = "Voodoo"\n')
    await host.monitor.start()
    snapshot = await host.until(lambda s: s.driver_fault is not None)
    assert snapshot.driver_fault is not None
    assert "line 2" in snapshot.driver_fault.message
    await host.monitor.aclose()


async def test_end_of_file_ends_a_probe(tmp_path: Path) -> None:
    probe, listening = launch(tmp_path)
    assert await await_frame(listening, Opened)
    probe.retire()
    async with asyncio.timeout(WITHIN_S):
        assert await listening.ended == "exit code 0"


async def test_end_of_file_ends_a_probe_whose_threads_hang(tmp_path: Path) -> None:
    SimulatedControl(tmp_path).hang(0)
    SimulatedControl(tmp_path).hang(1)
    probe, listening = launch(tmp_path, deadline_s=0.0)
    await await_frame(listening, Opened)
    probe.retire()
    async with asyncio.timeout(WITHIN_S):
        assert await listening.ended == "exit code 0"


async def test_a_probe_without_a_driver_says_so_and_ends(tmp_path: Path) -> None:
    SimulatedControl(tmp_path).driver_fault("no_driver")
    _, listening = launch(tmp_path)
    failed = await await_frame(listening, Failed)
    assert isinstance(failed, Failed)
    assert failed.fault.kind == "no_driver"
    async with asyncio.timeout(WITHIN_S):
        await listening.ended
