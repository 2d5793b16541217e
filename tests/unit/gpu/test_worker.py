"""A thread for each GPU: what it is asked while it works becomes one more reading."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from probe_doubles import NO_DETAILS, identity, info, instance, sample, uuid
from supereziod.gpu.frames import (
    Excluded,
    GpuFault,
    Identified,
    ProbeSpec,
    Reading,
    Target,
    XidSeen,
)
from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    FaultError,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    Xid,
)
from supereziod.gpu.worker import GpuWorker, Outbox, Outcome, XidWorker, is_wanted, wanted_indexes

WITHIN_S = 10.0


class SteppedDriver:
    """A driver whose calls wait until the test lets each of them go on."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.fault: Exception | None = None
        self.full: list[bool] = []
        self.mig_mode: str | None = None
        self.used_bytes: int | None = 0
        self.xids: list[Xid | FaultError] = []

    def open(self) -> DriverInfo:
        return info(1)

    def identify(self, index: int) -> GpuIdentity:
        self._step()
        return identity(index)

    def sample(self, uuid: str, *, with_processes: bool) -> GpuSample:
        self._step()
        self.full.append(with_processes)
        details = replace(NO_DETAILS, mig_mode=self.mig_mode)
        found = sample(uuid, len(self.full), full=with_processes, details=details)
        return replace(found, vram_used_bytes=self.used_bytes)

    def instances(self, uuid: str, *, with_processes: bool) -> tuple[InstanceReading, ...]:
        self._step()
        return (instance(uuid, 0 if with_processes else 1),)

    def wait_xid(self, timeout_s: float) -> Xid | None:
        del timeout_s
        if not self.xids:
            self._step()
            return None
        xid = self.xids.pop(0)
        if isinstance(xid, FaultError):
            raise xid
        return xid

    def close(self) -> None:
        return

    def _step(self) -> None:
        self.entered.release()
        self.gate.acquire()
        if self.fault is not None:
            raise self.fault


class Bench:
    def __init__(self, **spec: Target) -> None:
        self.driver = SteppedDriver()
        self.outbox = Outbox()
        self.worker = GpuWorker(
            index=0,
            spec=ProbeSpec(driver="nvml", **spec),  # type: ignore[arg-type]
            driver=self.driver,
            outbox=self.outbox,
        )
        self.worker.thread.start()
        self.await_call()

    def await_call(self) -> None:
        """Wait until the thread is in a call of the driver."""
        assert self.driver.entered.acquire(timeout=WITHIN_S)

    def read(self, *, used_mib: int | None, full: bool = False) -> Reading:
        """Have the GPU read by one call, with so much VRAM in use."""
        self.driver.used_bytes = None if used_mib is None else used_mib << 20
        self.worker.ask(full=full)
        self.await_call()
        (reading,) = self.let_go()
        assert isinstance(reading, Reading)
        return reading

    def let_go(self) -> list[Outcome]:
        """Let the call return, and return what the thread made of it."""
        self.driver.gate.release()
        return await_outcomes(self.outbox)


def await_outcomes(outbox: Outbox) -> list[Outcome]:
    """Wait until the outbox wakes its reader."""
    ready, _, _ = select.select([outbox.fd], [], [], WITHIN_S)
    assert ready
    outbox.acknowledge()
    return outbox.take()


def lost() -> FaultError:
    return FaultError(Fault(kind="gpu_lost", message="lost"))


def test_a_gpu_is_identified_and_then_read_when_it_is_asked_for() -> None:
    bench = Bench()
    assert bench.worker.calling_since_ns is not None
    assert bench.let_go() == [Identified(identity=identity(0))]
    bench.worker.ask(full=True, pass_id=4)
    bench.await_call()
    (reading,) = bench.let_go()
    assert isinstance(reading, Reading)
    assert reading.pass_id == 4
    assert reading.sample.processes is not None
    assert bench.worker.calling_since_ns is None


def test_a_pass_of_a_gpu_that_mig_cuts_up_has_its_instances() -> None:
    """They are read by the thread of their GPU, within its deadline: one call after the other."""
    bench = Bench()
    bench.let_go()
    bench.driver.mig_mode = "enabled"
    bench.worker.ask(full=True, pass_id=4)
    bench.await_call()
    bench.driver.gate.release()
    bench.await_call()
    assert bench.worker.calling_since_ns is not None
    (reading,) = bench.let_go()
    assert isinstance(reading, Reading)
    assert reading.instances == (instance(uuid(0), 0),)
    bench.worker.ask()
    bench.await_call()
    bench.driver.gate.release()
    bench.await_call()
    (fast,) = bench.let_go()
    assert isinstance(fast, Reading)
    assert fast.instances == (instance(uuid(0), 1),)


@pytest.mark.parametrize(
    ("mode", "instances"), [("disabled", ()), (None, None), ("no_permission", None)]
)
def test_instances_are_asked_for_only_where_mig_is_on(
    mode: str | None, instances: tuple[InstanceReading, ...] | None
) -> None:
    bench = Bench()
    bench.let_go()
    bench.driver.mig_mode = mode
    for full in (True, False):
        bench.worker.ask(full=full)
        bench.await_call()
        (reading,) = bench.let_go()
        assert isinstance(reading, Reading)
        assert reading.instances == instances


def test_a_fast_sample_answers_no_pass() -> None:
    bench = Bench()
    bench.let_go()
    bench.worker.ask()
    bench.await_call()
    (reading,) = bench.let_go()
    assert isinstance(reading, Reading)
    assert (reading.pass_id, reading.sample.processes) == (0, None)


@pytest.mark.parametrize("moved_mib", [64, -64])
def test_where_vram_in_use_has_moved_the_processes_are_read_with_it(moved_mib: int) -> None:
    """What can be leased goes by passes: an old one would contradict the fresh reading."""
    bench = Bench()
    bench.let_go()
    bench.read(used_mib=1024, full=True)
    fast = bench.read(used_mib=1024 + moved_mib - moved_mib // 64)
    assert fast.sample.processes is None
    bench.driver.used_bytes = (1024 + moved_mib) << 20
    bench.worker.ask()
    bench.await_call()
    bench.driver.gate.release()
    bench.await_call()
    (moved,) = bench.let_go()
    assert isinstance(moved, Reading)
    assert moved.sample.processes is not None
    assert moved.pass_id == 0  # whoever asked for a pass asked for a later one
    assert bench.read(used_mib=1024 + moved_mib).sample.processes is None
    assert bench.driver.full == [True, False, False, True, False]


def test_vram_whose_use_is_not_known_has_not_moved() -> None:
    bench = Bench()
    bench.let_go()
    assert bench.read(used_mib=1024).sample.processes is None
    bench.read(used_mib=None, full=True)
    assert bench.read(used_mib=1024).sample.processes is None
    bench.read(used_mib=1024, full=True)
    assert bench.read(used_mib=None).sample.processes is None


def test_all_that_is_asked_during_a_reading_becomes_one_more() -> None:
    bench = Bench()
    bench.let_go()
    bench.worker.ask(full=True, pass_id=1)
    bench.await_call()
    for pass_id in (2, 3):
        bench.worker.ask(full=True, pass_id=pass_id)
    bench.worker.ask()
    (first,) = bench.let_go()
    bench.await_call()
    (second,) = bench.let_go()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert (first.pass_id, second.pass_id) == (1, 3)
    assert bench.driver.full == [True, True]


def test_a_fault_names_its_gpu_and_the_gpu_is_given_rest() -> None:
    bench = Bench()
    bench.let_go()
    bench.driver.fault = lost()
    rests = []
    for _ in range(3):
        bench.worker.ask(pass_id=1)
        bench.await_call()
        (fault,) = bench.let_go()
        assert isinstance(fault, GpuFault)
        assert (fault.uuid, fault.fault.kind, fault.fault.index) == (uuid(0), "gpu_lost", 0)
        rests.append(count_rests(bench.worker.ask))
        bench.await_call()
        bench.let_go()
    assert rests == [0, 3, 7]


def test_a_gpu_that_cannot_be_identified_is_asked_again() -> None:
    bench = Bench()
    bench.driver.fault = lost()
    (fault,) = bench.let_go()
    assert isinstance(fault, GpuFault)
    assert fault.uuid is None
    bench.driver.fault = None
    bench.worker.ask()
    bench.await_call()
    assert bench.let_go() == [Identified(identity=identity(0))]


def test_a_bug_in_a_driver_is_a_fault_and_not_the_end_of_the_thread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Bench()
    bench.driver.fault = RuntimeError("a bug")
    (fault,) = bench.let_go()
    assert isinstance(fault, GpuFault)
    assert fault.fault.message == "RuntimeError: a bug"
    assert "Traceback" in capsys.readouterr().err
    assert bench.worker.thread.is_alive()


def test_a_gpu_that_is_not_wanted_is_left_alone() -> None:
    bench = Bench(only=Target(index=0, uuid="GPU-other"))
    assert bench.let_go() == [Excluded(index=0)]
    bench.worker.thread.join(WITHIN_S)
    assert not bench.worker.thread.is_alive()


def test_the_outbox_waits_for_those_who_are_expected() -> None:
    outbox = Outbox()
    outbox.expect((0, 1, 2))
    outbox.post(Excluded(index=0), index=0)
    outbox.forgo(2)
    assert select.select([outbox.fd], [], [], 0)[0] == []
    outbox.post(Excluded(index=1), index=1)
    assert len(await_outcomes(outbox)) == 2
    outbox.expect((0,))
    outbox.stop_waiting()
    outbox.post(Excluded(index=5))
    assert len(await_outcomes(outbox)) == 1
    outbox.acknowledge()


def test_xids_are_reported_as_they_come() -> None:
    driver, outbox = SteppedDriver(), Outbox()
    driver.xids = [Xid(uuid=uuid(0), xid=79, taken_ns=1)]
    XidWorker(driver=driver, outbox=outbox).thread.start()
    assert await_outcomes(outbox) == [XidSeen(xid=Xid(uuid=uuid(0), xid=79, taken_ns=1))]


def test_which_gpus_a_probe_looks_after() -> None:
    everything = ProbeSpec(driver="nvml")
    assert wanted_indexes(everything, 3) == (0, 1, 2)
    assert is_wanted(everything, "GPU-a")
    skipping = ProbeSpec(driver="nvml", skip=(Target(index=1, uuid="GPU-b"),))
    assert wanted_indexes(skipping, 3) == (0, 2)
    assert (is_wanted(skipping, "GPU-a"), is_wanted(skipping, "GPU-b")) == (True, False)
    one = ProbeSpec(driver="nvml", only=Target(index=1, uuid="GPU-b"))
    assert wanted_indexes(one, 3) == (0, 1, 2)
    assert (is_wanted(one, "GPU-a"), is_wanted(one, "GPU-b")) == (False, True)
    nameless = ProbeSpec(driver="nvml", only=Target(index=1))
    assert wanted_indexes(nameless, 3) == (1,)
    assert wanted_indexes(nameless, 1) == ()
    assert is_wanted(nameless, "GPU-a")


def count_rests(ask: Callable[[], bool]) -> int:
    """Count the ticks on which a GPU may rest before it is asked again."""
    rests = 0
    while not ask():
        rests += 1
    return rests
