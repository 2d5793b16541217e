"""MIG through NVML: instances with passes of their own, cut anew under the driver, or forbidden."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import msgspec
import pytest

from nvml_sim.driver_child import REPLY_S, DriverChild
from nvml_sim.mig import NO_PERMISSION
from nvml_sim.plugin import MakeSimulator, built
from nvml_sim.profiles import GIB, H100, MIB, RTX_3060
from nvml_sim.simulator import NvmlSimulator
from supereziod.gpu.hardware import FaultError, InstanceReading, ProcessUse
from supereziod.gpu.nvml_mig import profile_in, profile_name

OpenDriver = Callable[..., DriverChild]
INVALID_ARGUMENT = 2
NOT_FOUND = 6
UNKNOWN_ERROR = 999


class Host:
    """A card with MIG, and the real NvmlDriver on it in a process of its own."""

    def __init__(self, simulator: NvmlSimulator, driver: DriverChild) -> None:
        self.simulator = simulator
        self.gpu = simulator.gpu(0)
        self.mig = self.gpu.mig
        self._driver = driver

    def read(self, *, full: bool = True) -> list[InstanceReading]:
        return self._driver.instances(self.gpu.uuid, with_processes=full)

    def begin_reading(self) -> Future[msgspec.Raw]:
        with_processes = True
        return self._driver.begin("instances", self.gpu.uuid, with_processes)

    def read_one(self) -> InstanceReading:
        (reading,) = self.read()
        return reading


def await_more_calls(simulator: NvmlSimulator, function: str, *, than: int) -> None:
    """Return when some process has called the function again: its counter is all that tells."""
    deadline_ns = time.monotonic_ns() + 10_000_000_000
    while simulator.calls(function) <= than:
        assert time.monotonic_ns() < deadline_ns, f"nobody called {function}"
        os.sched_yield()


@pytest.fixture
def host(make_nvml_sim: MakeSimulator) -> Iterator[Host]:
    simulator = make_nvml_sim(H100)
    with contextlib.ExitStack() as stack:
        driver = stack.enter_context(DriverChild(simulator.env(built())))
        driver.open()
        driver.identify(0)
        yield Host(simulator, driver)


def test_each_instance_has_a_pass_of_its_own(host: Host) -> None:
    small = host.mig.add(memory_bytes=10 * GIB, reserved_bytes=62 * MIB)
    big = host.mig.add(memory_bytes=40 * GIB, profile="3g.40gb")
    host.gpu.run_process(500, 3 * GIB, gpu_instance=1)
    host.gpu.run_process(600, 5 * GIB, lists="CG", gpu_instance=2)
    host.mig.find(big).memory_extra_bytes = GIB
    first, second = host.read()
    assert (first.uuid, second.uuid) == (small, big)
    assert first.name == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert [r.instance.profile for r in (first, second)] == ["1g.10gb", "3g.40gb"]
    assert [r.instance.index for r in (first, second)] == [0, 1]
    assert [(r.instance.gpu_instance, r.instance.compute_instance) for r in (first, second)] == [
        (1, 0),
        (2, 0),
    ]
    assert {r.instance.parent for r in (first, second)} == {host.gpu.uuid}
    assert first.sample is not None
    assert second.sample is not None
    assert first.sample.uuid == small
    assert first.sample.processes == (ProcessUse(pid=500, type="C", vram_bytes=3 * GIB),)
    assert first.sample.vram_total_bytes == 10 * GIB
    assert first.sample.vram_used_bytes == 3 * GIB
    assert first.sample.vram_driver_reserved_bytes == 62 * MIB
    assert second.sample.processes == (ProcessUse(pid=600, type="C+G", vram_bytes=5 * GIB),)
    assert second.sample.vram_used_bytes == 6 * GIB


def test_a_fast_reading_has_no_processes_but_of_what_is_new(host: Host) -> None:
    """What is cut out between two passes can be leased by the pass that finds it."""
    host.mig.add(memory_bytes=10 * GIB)
    host.gpu.run_process(500, 3 * GIB, gpu_instance=1)

    def seen() -> list[tuple[int | None, bool]]:
        samples = [reading.sample for reading in host.read(full=False)]
        return [(s.vram_used_bytes, s.processes is not None) for s in samples if s is not None]

    assert seen() == [(3 * GIB, True)]
    assert seen() == [(3 * GIB, False)]
    host.mig.add(memory_bytes=10 * GIB)
    assert seen() == [(3 * GIB, False), (0, True)]


def test_a_fast_reading_costs_three_calls_an_instance(host: Host) -> None:
    for _ in range(7):
        host.mig.add(memory_bytes=10 * GIB)
    host.read()
    before = sum(host.simulator.all_calls().values())
    host.read(full=False)
    assert sum(host.simulator.all_calls().values()) - before == 1 + 3 * 7


def test_what_is_of_the_whole_gpu_is_not_read_of_an_instance(host: Host) -> None:
    """Utilisation on MIG is not supported: None, never 0."""
    host.mig.add(memory_bytes=10 * GIB)
    sample = host.read_one().sample
    assert sample is not None
    assert sample.utilization_core_percent is None
    assert (sample.temperature_c, sample.power_w, sample.details) == (None, None, None)


def test_an_instance_that_is_destroyed_is_not_listed_and_leaves_a_gap(host: Host) -> None:
    first, second, third = (host.mig.add(memory_bytes=10 * GIB) for _ in range(3))
    assert [r.uuid for r in host.read()] == [first, second, third]
    host.mig.remove(second)
    assert [(r.uuid, r.instance.index) for r in host.read()] == [(first, 0), (third, 2)]


def test_a_handle_that_is_given_to_another_instance_reads_as_that_one(host: Host) -> None:
    """What is cut out anew takes the handle of what is gone: its figures are not the old one's."""
    first = host.mig.add(memory_bytes=10 * GIB)
    assert host.read_one().uuid == first
    host.mig.remove(first)
    second = host.mig.add(memory_bytes=20 * GIB, profile="2g.20gb", gpu_instance=5)
    reading = host.read_one()
    assert reading.uuid == second
    assert reading.instance.profile == "2g.20gb"
    assert reading.instance.gpu_instance == 5
    assert reading.sample is not None
    assert reading.sample.vram_total_bytes == 20 * GIB


def test_mig_that_is_turned_off_has_no_instances(host: Host) -> None:
    host.mig.add(memory_bytes=10 * GIB)
    host.mig.disable()
    assert host.read() == []


@pytest.mark.parametrize(
    "call",
    ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3", "*of the device*"],
)
def test_an_instance_that_may_not_be_read_is_no_permission_never_empty(
    host: Host, call: str
) -> None:
    uuid = host.mig.add(memory_bytes=10 * GIB)
    host.gpu.run_process(500, 3 * GIB, gpu_instance=1)
    assert host.read_one().sample is not None
    if call.startswith("*"):
        host.mig.forbid(uuid)
    else:
        host.simulator.fail(call, NO_PERMISSION)
    reading = host.read_one()
    assert reading.uuid == uuid
    assert reading.sample is None
    assert reading.fault is not None
    assert reading.fault.kind == "no_permission"
    assert "/dev/nvidia-caps" in reading.fault.message
    assert reading.instance.profile == "1g.10gb"
    host.simulator.mend()
    host.mig.forbid(uuid, rc=0)
    assert host.read_one().sample is not None


@pytest.mark.parametrize("call", ["nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetUUID"])
def test_instances_that_no_handle_is_given_for_are_listed_all_the_same(
    make_nvml_sim: MakeSimulator, host: Host, call: str
) -> None:
    """Those that were known keep their UUID; others are told as unreadable, by their index."""
    del make_nvml_sim
    known = host.mig.add(memory_bytes=10 * GIB)
    host.read()
    host.mig.add(memory_bytes=10 * GIB)
    host.simulator.fail(call, NO_PERMISSION)
    readings = host.read()[:2]
    assert [r.uuid for r in readings] == [known, "MIG-unreadable-0-1"]
    assert [r.fault.kind if r.fault else None for r in readings] == ["no_permission"] * 2
    assert [r.sample for r in readings] == [None, None]


def test_a_list_that_may_not_be_read_is_no_permission_too(host: Host) -> None:
    host.mig.add(memory_bytes=10 * GIB)
    host.simulator.fail("nvmlDeviceGetMaxMigDeviceCount", NO_PERMISSION)
    reading = host.read_one()
    assert reading.uuid == "MIG-unreadable-0"
    assert reading.fault is not None
    assert reading.fault.kind == "no_permission"


def test_an_instance_in_trouble_leaves_the_others_readable(host: Host) -> None:
    first, second = (host.mig.add(memory_bytes=10 * GIB) for _ in range(2))
    host.mig.forbid(first, rc=UNKNOWN_ERROR)
    one, other = host.read()
    assert one.uuid == first
    assert one.fault is not None
    assert one.fault.kind == "unknown"
    assert "MIG instance 0:0" in one.fault.message
    assert other.uuid == second
    assert other.sample is not None


def test_an_instance_that_goes_while_it_is_read_is_not_listed(host: Host) -> None:
    uuid = host.mig.add(memory_bytes=10 * GIB)
    host.read()
    host.simulator.hang("nvmlDeviceGetMemoryInfo_v2")
    before = host.simulator.calls("nvmlDeviceGetMemoryInfo_v2")
    reading = host.begin_reading()
    await_more_calls(host.simulator, "nvmlDeviceGetMemoryInfo_v2", than=before)
    host.mig.remove(uuid)
    host.simulator.mend()
    assert msgspec.json.decode(reading.result(REPLY_S)) == []


def test_an_instance_that_the_driver_does_not_know_any_more_is_not_listed(host: Host) -> None:
    uuid = host.mig.add(memory_bytes=10 * GIB)
    host.mig.forbid(uuid, rc=NOT_FOUND)
    assert host.read() == []


def test_an_instance_whose_memory_the_driver_does_not_give_is_listed_without(host: Host) -> None:
    """It refuses a stale handle in the same words: only asking for the handle again tells them."""
    uuid = host.mig.add(memory_bytes=10 * GIB)
    host.mig.forbid(uuid, rc=INVALID_ARGUMENT)
    reading = host.read_one()
    assert (reading.uuid, reading.fault) == (uuid, None)
    assert reading.sample is not None
    assert (reading.sample.vram_total_bytes, reading.sample.vram_used_bytes) == (None, None)


def test_a_list_that_an_instance_does_not_have_is_an_empty_one(host: Host) -> None:
    host.mig.add(memory_bytes=10 * GIB)
    host.gpu.run_process(500, GIB, gpu_instance=1)
    host.simulator.fail("nvmlDeviceGetGraphicsRunningProcesses_v3", INVALID_ARGUMENT)
    host.simulator.fail("nvmlDeviceGetGraphicsRunningProcesses_v2", INVALID_ARGUMENT)
    sample = host.read_one().sample
    assert sample is not None
    assert [process.pid for process in sample.processes or ()] == [500]


def test_an_instance_that_may_be_read_again_is_read_with_its_processes_at_once(
    host: Host,
) -> None:
    uuid = host.mig.add(memory_bytes=10 * GIB)
    host.read()
    host.mig.forbid(uuid)
    assert host.read_one().sample is None
    host.mig.forbid(uuid, rc=0)
    (reading,) = host.read(full=False)
    assert reading.sample is not None
    assert reading.sample.processes == ()


def test_a_gpu_that_is_lost_is_a_fault_of_the_gpu_not_of_its_instances(host: Host) -> None:
    host.mig.add(memory_bytes=10 * GIB)
    host.read()
    host.gpu.lose()
    with pytest.raises(FaultError) as raised:
        host.read()
    assert raised.value.fault.kind == "gpu_lost"
    assert raised.value.fault.uuid == host.gpu.uuid


def test_compute_instances_say_which_gpu_instance_they_share(host: Host) -> None:
    host.mig.add(memory_bytes=20 * GIB, profile="1c.2g.20gb", gpu_instance=3)
    host.mig.add(memory_bytes=20 * GIB, profile="1c.2g.20gb", gpu_instance=3, compute_instance=1)
    first, second = host.read()
    assert [r.instance.gpu_instance for r in (first, second)] == [3, 3]
    assert [r.instance.compute_instance for r in (first, second)] == [0, 1]
    assert first.instance.profile == "1c.2g.20gb"


def test_a_driver_that_names_no_profile_is_asked_for_the_size(host: Host) -> None:
    uuid = host.mig.add(memory_bytes=19968 * MIB, profile="2g.20gb")
    host.mig.find(uuid).name = b"NVIDIA H100 80GB HBM3"
    assert host.read_one().instance.profile == "2g.20gb"


def test_a_host_without_mig_is_asked_nothing_more(
    make_nvml_sim: MakeSimulator,
) -> None:
    """A pass of a card with no MIG makes no call that is about MIG, but for the mode."""
    simulator = make_nvml_sim(RTX_3060, name="plain.state")
    with DriverChild(simulator.env(built())) as driver:
        driver.open()
        driver.identify(0)
        driver.sample(simulator.gpu(0).uuid, with_processes=True)
    asked = {call for call in simulator.all_calls() if "Mig" in call or "Attributes" in call}
    assert asked == {"nvmlDeviceGetMigMode"}


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "1g.10gb"),
        ("NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb", "1c.3g.40gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "1g.10gb+me"),
        ("NVIDIA A100-SXM4-80GB", None),
    ],
)
def test_a_profile_stands_at_the_end_of_a_name(name: str, profile: str | None) -> None:
    assert profile_in(name) == profile


@pytest.mark.parametrize(
    ("gpu_mib", "mib", "slices", "name"),
    [
        (40536, 4864, (1, 1), "1g.5gb"),
        (40536, 19968, (3, 3), "3g.20gb"),
        (81251, 9728, (1, 1), "1g.10gb"),
        (81251, 40192, (3, 1), "1c.3g.40gb"),
        (81251, 81152, (7, 7), "7g.80gb"),
    ],
)
def test_sizes_are_named_after_eighths_of_the_card(
    gpu_mib: int, mib: int, slices: tuple[int, int], name: str
) -> None:
    assert (
        profile_name(
            gpu_slices=slices[0],
            compute_slices=slices[1],
            memory_bytes=mib * MIB,
            gpu_memory_bytes=gpu_mib * MIB,
        )
        == name
    )
