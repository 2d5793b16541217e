from __future__ import annotations

import concurrent.futures
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nvml_sim.driver_child import DriverChild
from nvml_sim.mig import NO_PERMISSION
from nvml_sim.plugin import MakeSimulator, built
from nvml_sim.profiles import GIB, H100, MIB, RTX_2060, RTX_3060
from nvml_sim.simulator import (
    DRIVER_NOT_LOADED,
    VERSION_MISMATCH,
    NvmlSimulator,
)
from supereziod.gpu.hardware import Fault, FaultError, GpuSample, ProcessUse, Xid

NOT_SUPPORTED = 3
INSUFFICIENT_SIZE = 7
RESET_REQUIRED = 16
UNKNOWN_ERROR = 999

OpenDriver = Callable[..., DriverChild]


@pytest.fixture
def open_driver() -> Iterator[OpenDriver]:
    """Start a process with the real NvmlDriver on a simulator, opened, its GPUs identified."""
    with contextlib.ExitStack() as stack:

        def start(
            simulator: NvmlSimulator, *, variant: str = "current", identified: bool = True
        ) -> DriverChild:
            child = stack.enter_context(DriverChild(simulator.env(built(variant))))
            if identified:
                for index in range(child.open().gpu_count):
                    child.identify(index)
            return child

        yield start


@pytest.fixture
def driver(open_driver: OpenDriver, nvml_sim: NvmlSimulator) -> DriverChild:
    return open_driver(nvml_sim)


def fault_of(call: Callable[[], Any]) -> Fault:
    with pytest.raises(FaultError) as raised:
        call()
    return raised.value.fault


def read(driver: DriverChild, simulator: NvmlSimulator, index: int = 0) -> GpuSample:
    return driver.sample(simulator.gpu(index).uuid)


def read_pass(driver: DriverChild, simulator: NvmlSimulator, index: int = 0) -> GpuSample:
    return driver.sample(simulator.gpu(index).uuid, with_processes=True)


def await_call(simulator: NvmlSimulator, function: str) -> None:
    """Return when some process has called the function: its counter is all that tells."""
    deadline_ns = time.monotonic_ns() + 10_000_000_000
    while simulator.calls(function) == 0:
        assert time.monotonic_ns() < deadline_ns, f"nobody called {function}"
        os.sched_yield()


# --- opening ------------------------------------------------------------------------------------


def test_open_tells_the_versions_and_the_number_of_gpus(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    info = open_driver(nvml_sim, identified=False).open()
    assert (info.driver, info.driver_version, info.cuda_version, info.gpu_count) == (
        "nvml",
        "580.95.05",
        "13.0",
        2,
    )


def test_nvml_is_initialised_once_however_often_gpus_are_read(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    for _ in range(5):
        read_pass(driver, nvml_sim)
    assert nvml_sim.calls("nvmlInitWithFlags") == 1


def test_a_host_without_the_library_is_no_library(nvml_sim: NvmlSimulator, tmp_path: Path) -> None:
    with DriverChild(nvml_sim.env(tmp_path)) as driver:
        fault = fault_of(driver.open)
    assert fault.kind == "no_library"
    assert "libnvidia-ml.so.1" in fault.message


@pytest.mark.parametrize(
    ("rc", "kind"),
    [
        (DRIVER_NOT_LOADED, "no_driver"),
        (VERSION_MISMATCH, "version_mismatch"),
        (NO_PERMISSION, "no_permission"),
        (UNKNOWN_ERROR, "unknown"),
    ],
)
def test_a_driver_that_refuses_to_start_is_named(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator, rc: int, kind: str
) -> None:
    nvml_sim.refuse_init(rc)
    driver = open_driver(nvml_sim, identified=False)
    fault = fault_of(driver.open)
    assert (fault.kind, fault.uuid) == (kind, None)


def test_open_works_once_the_driver_is_loaded(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.refuse_init(DRIVER_NOT_LOADED)
    driver = open_driver(nvml_sim, identified=False)
    fault_of(driver.open)
    nvml_sim.refuse_init(0)
    assert driver.open().gpu_count == 2


def test_a_driver_whose_gpus_are_all_gone_opens_with_none(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.state.gpu_count = 0
    assert open_driver(nvml_sim, identified=False).open().gpu_count == 0


def test_a_driver_that_cannot_count_its_gpus_is_shut_down_again(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlDeviceGetCount_v2", UNKNOWN_ERROR)
    driver = open_driver(nvml_sim, identified=False)
    assert fault_of(driver.open).kind == "unknown"
    assert nvml_sim.calls("nvmlShutdown") == 1


def test_close_shuts_nvml_down_and_frees_the_event_set(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    driver.close_driver()
    assert nvml_sim.calls("nvmlShutdown") == 1
    assert nvml_sim.calls("nvmlEventSetFree") == 1


def test_close_of_a_driver_that_never_opened_does_nothing(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    open_driver(nvml_sim, identified=False).close_driver()
    assert nvml_sim.calls("nvmlShutdown") == 0


# --- identity -----------------------------------------------------------------------------------


def test_identity_of_a_geforce(open_driver: OpenDriver, nvml_sim: NvmlSimulator) -> None:
    driver = open_driver(nvml_sim)
    identity = driver.identify(0)
    assert msgspec.to_builtins(identity) == {
        "uuid": nvml_sim.gpu(0).uuid,
        "index": 0,
        "pci_bus_id": "00000000:01:00.0",
        "name": "NVIDIA GeForce RTX 3060",
        "compute_capability": "8.6",
        "vram_total_bytes": 12 * GIB,
        "slowdown_temperature_c": 95,
        "shutdown_temperature_c": 98,
        "max_temperature_c": 93,
        "memory_max_temperature_c": None,
        "mig": None,
    }


def test_a_data_centre_card_has_no_absolute_thresholds(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    driver = open_driver(make_nvml_sim(H100))
    identity = driver.identify(0)
    assert identity.compute_capability == "9.0"
    assert identity.slowdown_temperature_c is None
    assert identity.shutdown_temperature_c is None
    assert identity.max_temperature_c is None


def test_gpus_keep_their_uuid_when_the_order_changes(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    first = open_driver(nvml_sim).identify(0)
    nvml_sim.swap(0, 1)
    driver = open_driver(nvml_sim)
    again = driver.identify(1)
    assert (again.uuid, again.name) == (first.uuid, first.name)
    assert driver.sample(first.uuid).vram_total_bytes == 12 * GIB


def test_sixteen_gpus_are_told_apart(open_driver: OpenDriver, make_nvml_sim: MakeSimulator) -> None:
    simulator = make_nvml_sim(*[RTX_3060] * 16)
    for gpu in simulator.gpus:
        gpu.set(temperature_c=40 + gpu.index)
    driver = open_driver(simulator)
    temperatures = [driver.sample(gpu.uuid).temperature_c for gpu in simulator.gpus]
    assert temperatures == list(range(40, 56))


def test_a_gpu_that_is_lost_at_start_is_a_fault_of_that_gpu(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(1).lose()
    driver = open_driver(nvml_sim, identified=False)
    assert driver.open().gpu_count == 2
    assert driver.identify(0).name == "NVIDIA GeForce RTX 3060"
    fault = fault_of(lambda: driver.identify(1))
    assert (fault.kind, fault.index) == ("gpu_lost", 1)
    assert "GPU 1" in fault.message


# --- samples ------------------------------------------------------------------------------------


def test_a_sample_of_a_geforce(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    nvml_sim.gpu(0).set(
        temperature_c=71,
        utilization_core_percent=93,
        utilization_memory_percent=40,
        power_mw=151_500,
        throttle_mask=0x24,
        memory_extra_bytes=3 * GIB,
    )
    before_ns = time.monotonic_ns()
    sample = read(driver, nvml_sim)
    assert before_ns <= sample.taken_ns <= time.monotonic_ns()
    assert msgspec.to_builtins(sample) | {"taken_ns": 0} == {
        "uuid": nvml_sim.gpu(0).uuid,
        "taken_ns": 0,
        "vram_total_bytes": 12 * GIB,
        "vram_used_bytes": 3 * GIB,
        "vram_free_bytes": 9 * GIB - 317 * MIB,
        "vram_driver_reserved_bytes": 317 * MIB,
        "utilization_core_percent": 93,
        "utilization_memory_percent": 40,
        "temperature_c": 71,
        "margin_c": 24,
        "margin_source": "threshold",
        "power_w": 151.5,
        "throttle_mask": 0x24,
        "details": None,
        "processes": None,
        "processes_listed": True,
    }


def test_a_fast_sample_asks_for_no_process_list(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    read(driver, nvml_sim)
    assert nvml_sim.calls("nvmlDeviceGetComputeRunningProcesses_v3") == 0
    assert nvml_sim.calls("nvmlDeviceGetFanSpeed") == 0


def test_details_of_a_geforce_leave_out_what_it_does_not_have(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    sample = read_pass(driver, nvml_sim, 1)
    assert msgspec.to_builtins(sample.details) == {
        "compute_mode": "default",
        "mig_mode": None,
        "memory_temperature_c": None,
        "power_limit_w": 160.0,
        "energy_j": 1222.333,
        "fan_percent": 34,
        "clock_core_mhz": 300,
        "clock_memory_mhz": 405,
        "ecc_enabled": None,
        "ecc_corrected": None,
        "ecc_uncorrected": None,
        "pcie_generation": 1,
        "pcie_generation_max": 3,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "drives_display": False,
    }


def test_details_of_a_data_centre_card(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    simulator.gpu(0).set(ecc_corrected=7, ecc_uncorrected=2, compute_mode=3)
    details = read_pass(open_driver(simulator), simulator).details
    assert details is not None
    assert (details.ecc_enabled, details.ecc_corrected, details.ecc_uncorrected) == (True, 7, 2)
    assert (details.compute_mode, details.mig_mode) == ("exclusive_process", "disabled")
    assert (details.memory_temperature_c, details.fan_percent) == (40, None)


@pytest.mark.parametrize(
    ("number", "mode"),
    [(0, "default"), (1, "exclusive_process"), (2, "prohibited"), (3, "exclusive_process")],
)
def test_compute_modes(
    driver: DriverChild, nvml_sim: NvmlSimulator, number: int, mode: str
) -> None:
    nvml_sim.gpu(0).set(compute_mode=number)
    details = read_pass(driver, nvml_sim).details
    assert details is not None
    assert details.compute_mode == mode


def test_a_card_that_supports_nothing_is_all_null_and_no_error(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("*", NOT_SUPPORTED)
    sample = msgspec.to_builtins(read_pass(driver, nvml_sim))
    details = sample.pop("details")
    kept = {name: sample.pop(name) for name in ("uuid", "taken_ns", "processes")}
    assert kept["processes"] == ()
    assert not sample.pop("processes_listed")
    assert set(sample.values()) == {None}
    assert set(details.values()) == {None}


@pytest.mark.parametrize(
    ("active", "mode", "drives"),
    [(0, 0, False), (1, 0, True), (0, 1, True), (1, None, True), (None, None, None)],
)
def test_a_desktop_or_a_screen_makes_a_display(
    driver: DriverChild,
    nvml_sim: NvmlSimulator,
    active: int | None,
    mode: int | None,
    *,
    drives: bool | None,
) -> None:
    """Newer drivers do not tell the display mode any more; then the other one counts."""
    nvml_sim.gpu(0).set(display_active=active, display_mode=mode)
    details = read_pass(driver, nvml_sim).details
    assert details is not None
    assert details.drives_display is drives


def test_unified_memory_has_no_vram_figures(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    nvml_sim.gpu(0).set(memory_total_bytes=None)
    sample = read_pass(driver, nvml_sim)
    assert sample.vram_total_bytes is None
    assert sample.vram_used_bytes is None
    assert sample.temperature_c == 38


def test_a_field_that_failed_is_null_not_the_garbage_in_its_value(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    simulator.gpu(0).set(memory_temperature_c=None, tlimit_slowdown_c=None)
    sample = read_pass(open_driver(simulator), simulator)
    assert sample.details is not None
    assert sample.details.memory_temperature_c is None
    assert (sample.margin_c, sample.margin_source) == (None, None)


# --- margins ------------------------------------------------------------------------------------


def test_margin_of_a_t_limit_card_counts_to_its_slowdown_offset(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    driver = open_driver(simulator)
    sample = read(driver, simulator)
    assert (sample.margin_c, sample.margin_source) == (58, "t_limit")
    simulator.gpu(0).set(temperature_c=90)
    assert read(driver, simulator).margin_c == -1


def test_margin_counts_to_the_threshold_where_the_driver_has_no_t_limit_yet(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    simulator.gpu(0).set(threshold_slowdown_c=89)
    sample = read(open_driver(simulator, variant="r535"), simulator)
    assert (sample.margin_c, sample.margin_source) == (58, "threshold")


def test_there_is_no_margin_without_a_temperature(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).set(temperature_c=None)
    sample = read(driver, nvml_sim)
    assert (sample.temperature_c, sample.margin_c, sample.margin_source) == (None, None, None)


def test_a_temperature_below_zero_is_one(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    nvml_sim.gpu(0).set(temperature_c=-4)
    sample = read(driver, nvml_sim)
    assert (sample.temperature_c, sample.margin_c) == (-4, 99)


# --- drivers of another age ---------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["r535", "r525"])
def test_an_old_driver_is_read_by_its_older_functions(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator, variant: str
) -> None:
    nvml_sim.gpu(0).set(throttle_mask=0x40)
    sample = read(open_driver(nvml_sim, variant=variant), nvml_sim)
    assert (sample.temperature_c, sample.throttle_mask) == (38, 0x40)
    assert sample.vram_driver_reserved_bytes == 317 * MIB


def test_a_driver_that_cannot_tell_its_reserve_counts_it_as_used(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).run_process(700, GIB)
    sample = read_pass(open_driver(nvml_sim, variant="r470"), nvml_sim)
    assert sample.vram_driver_reserved_bytes is None
    assert sample.vram_used_bytes == GIB + 317 * MIB
    assert sample.vram_free_bytes == 11 * GIB - 317 * MIB
    assert sample.processes == (ProcessUse(pid=700, type="C", vram_bytes=GIB),)


def test_a_function_that_the_library_lacks_is_looked_for_once(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    driver = open_driver(nvml_sim, variant="r470")
    for _ in range(3):
        read_pass(driver, nvml_sim, 0)
        read_pass(driver, nvml_sim, 1)
    missed = driver.missed_lookups()
    assert "nvmlDeviceGetTemperatureV" in missed
    assert "nvmlDeviceGetMemoryInfo_v2" in missed
    assert set(missed.values()) == {1}


# --- processes ----------------------------------------------------------------------------------


def test_processes_are_merged_by_pid_with_the_largest_figure(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    gpu = nvml_sim.gpu(0)
    gpu.run_process(10, 1 * GIB)
    gpu.run_process(20, 300 * MIB, lists="G")
    gpu.run_process(30, 2 * GIB, lists="CG")
    gpu.run_process(40, 500 * MIB, lists="C", counted=False)
    gpu.run_process(40, 700 * MIB, lists="G")
    gpu.run_process(50, GIB, lists="M")
    gpu.run_process(60, GIB, lists="CM")
    assert read_pass(driver, nvml_sim).processes == (
        ProcessUse(pid=10, type="C", vram_bytes=1 * GIB),
        ProcessUse(pid=20, type="G", vram_bytes=300 * MIB),
        ProcessUse(pid=30, type="C+G", vram_bytes=2 * GIB),
        ProcessUse(pid=40, type="C+G", vram_bytes=700 * MIB),
        ProcessUse(pid=50, type="M", vram_bytes=GIB),
        ProcessUse(pid=60, type="M+C", vram_bytes=GIB),
    )


def test_process_memory_that_is_not_available_is_null_never_zero(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    gpu = nvml_sim.gpu(0)
    gpu.run_process(10, None, hidden_bytes=2 * GIB)
    gpu.run_process(20, None)
    gpu.run_process(20, GIB, lists="G")
    sample = read_pass(driver, nvml_sim)
    assert sample.processes == (
        ProcessUse(pid=10, type="C", vram_bytes=None),
        ProcessUse(pid=20, type="C+G", vram_bytes=GIB),
    )
    assert sample.vram_used_bytes == 3 * GIB


def test_pids_that_cannot_be_are_dropped_and_impossible_memory_is_null(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    gpu = nvml_sim.gpu(0)
    gpu.run_process(0xFFFF_FFFF, 512, counted=False)
    gpu.run_process(5_000_000, 512, counted=False)
    gpu.run_process(77, 1 << 60, counted=False)
    assert read_pass(driver, nvml_sim).processes == (ProcessUse(pid=77, type="C", vram_bytes=None),)


def test_a_list_that_outgrows_its_room_is_read_again(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).run_process(10, GIB)
    # Each reading asks for the size first, which answers the same code.
    nvml_sim.fail("nvmlDeviceGetComputeRunningProcesses_v3", INSUFFICIENT_SIZE, times=4)
    assert read_pass(driver, nvml_sim).processes == (ProcessUse(pid=10, type="C", vram_bytes=GIB),)


def test_a_list_that_never_fits_is_a_fault(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    nvml_sim.fail("nvmlDeviceGetComputeRunningProcesses_v3", INSUFFICIENT_SIZE)
    assert fault_of(lambda: read_pass(driver, nvml_sim)).kind == "unknown"
    assert nvml_sim.calls("nvmlDeviceGetComputeRunningProcesses_v3") < 20


def test_a_process_list_that_fails_is_a_fault_not_an_empty_list(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlDeviceGetComputeRunningProcesses_v3", UNKNOWN_ERROR)
    fault = fault_of(lambda: read_pass(driver, nvml_sim))
    assert (fault.kind, fault.uuid, fault.index) == ("unknown", nvml_sim.gpu(0).uuid, 0)


@pytest.mark.parametrize(
    ("function", "listed"),
    [
        ("nvmlDeviceGetComputeRunningProcesses", False),
        ("nvmlDeviceGetMPSComputeRunningProcesses", True),
    ],
)
def test_a_driver_that_does_not_list_who_computes_says_so(
    driver: DriverChild, nvml_sim: NvmlSimulator, function: str, *, listed: bool
) -> None:
    """It lists nobody, and that is no sign that nobody is there."""
    for version in ("v2", "v3"):
        nvml_sim.fail(f"{function}_{version}", NOT_SUPPORTED)
    sample = read_pass(driver, nvml_sim)
    assert (sample.processes, sample.processes_listed) == ((), listed)


def test_sixty_processes_are_all_listed(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    for pid in range(1000, 1060):
        nvml_sim.gpu(0).run_process(pid, MIB)
    processes = read_pass(driver, nvml_sim).processes
    assert processes is not None
    assert [process.pid for process in processes] == list(range(1000, 1060))


# --- MIG ----------------------------------------------------------------------------------------


def test_mig_that_is_on_is_told_and_has_no_utilisation(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    driver = open_driver(simulator)
    simulator.gpu(0).mig.add(memory_bytes=10 * GIB)
    sample = read_pass(driver, simulator)
    assert sample.details is not None
    assert sample.details.mig_mode == "enabled"
    assert sample.utilization_core_percent is None


def test_mig_that_may_not_be_read_is_no_permission_never_absent(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(H100)
    driver = open_driver(simulator)
    simulator.fail("nvmlDeviceGetMigMode", NO_PERMISSION)
    details = read_pass(driver, simulator).details
    assert details is not None
    assert details.mig_mode == "no_permission"


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rc", [15, RESET_REQUIRED])
def test_a_gpu_off_the_bus_is_lost_and_the_other_is_not(
    driver: DriverChild, nvml_sim: NvmlSimulator, rc: int
) -> None:
    nvml_sim.gpu(0).lose(rc)
    fault = fault_of(lambda: read(driver, nvml_sim, 0))
    assert (fault.kind, fault.uuid, fault.index) == ("gpu_lost", nvml_sim.gpu(0).uuid, 0)
    assert read(driver, nvml_sim, 1).temperature_c == 41


@pytest.mark.parametrize(
    "call",
    [
        "nvmlDeviceGetFanSpeed",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    ],
)
def test_a_gpu_lost_between_two_readings_of_a_pass_is_never_a_null(
    driver: DriverChild, nvml_sim: NvmlSimulator, call: str
) -> None:
    nvml_sim.fail(call, 15)
    assert fault_of(lambda: read_pass(driver, nvml_sim)).kind == "gpu_lost"


def test_a_gpu_that_is_found_again_is_read_again(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).lose()
    fault_of(lambda: read(driver, nvml_sim))
    nvml_sim.gpu(0).find_again()
    driver.identify(0)
    assert read(driver, nvml_sim).temperature_c == 38


def test_a_driver_upgraded_under_the_process_is_a_version_mismatch(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.upgrade_driver()
    fault = fault_of(lambda: read(driver, nvml_sim))
    assert (fault.kind, fault.uuid) == ("version_mismatch", None)


@pytest.mark.parametrize("call", ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperatureV"])
def test_an_unknown_error_of_memory_or_temperature_is_a_fault(
    driver: DriverChild, nvml_sim: NvmlSimulator, call: str
) -> None:
    nvml_sim.fail(call, UNKNOWN_ERROR, gpu=0)
    fault = fault_of(lambda: read(driver, nvml_sim, 0))
    assert (fault.kind, fault.uuid) == ("unknown", nvml_sim.gpu(0).uuid)
    assert call.removesuffix("_v2") in fault.message or "memory" in fault.message
    assert read(driver, nvml_sim, 1).temperature_c == 41


def test_an_unknown_error_of_a_lesser_value_is_null(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlDeviceGetFanSpeed", UNKNOWN_ERROR)
    nvml_sim.fail("nvmlDeviceGetMigMode", UNKNOWN_ERROR)
    details = read_pass(driver, nvml_sim).details
    assert details is not None
    assert (details.fan_percent, details.mig_mode) == (None, None)


def test_a_gpu_that_hangs_does_not_hold_up_the_other(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    hung, healthy = nvml_sim.gpu(0), nvml_sim.gpu(1)
    hung.hang()
    stuck = driver.begin("sample", hung.uuid)
    for _ in range(20):
        assert driver.sample(healthy.uuid).temperature_c == 41
    assert not stuck.done()
    hung.unhang()
    assert msgspec.json.decode(stuck.result(5), type=GpuSample).temperature_c == 38


def test_a_call_that_hangs_for_a_while_answers_then(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.hang("nvmlDeviceGetPowerUsage", ms=300, gpu=0, times=1)
    started_ns = time.monotonic_ns()
    assert read(driver, nvml_sim).power_w == 14.2
    assert time.monotonic_ns() - started_ns >= 300_000_000


# --- XIDs ---------------------------------------------------------------------------------------


def test_an_xid_names_its_gpu(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    waiting = driver.begin("wait_xid", 10.0)
    nvml_sim.gpu(1).raise_xid(79)
    xid = msgspec.json.decode(waiting.result(5), type=Xid)
    assert (xid.uuid, xid.xid) == (nvml_sim.gpu(1).uuid, 79)


def test_xids_in_a_row_are_all_told_and_then_none(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    for number in (13, 31, 999):
        nvml_sim.gpu(0).raise_xid(number)
    seen = [driver.wait_xid(1.0) for _ in range(3)]
    assert [xid.xid for xid in seen if xid] == [13, 31, 999]
    assert driver.wait_xid(0.05) is None


def test_an_xid_from_before_the_gpu_was_identified_is_not_told(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).raise_xid(48)
    assert open_driver(nvml_sim).wait_xid(0.05) is None


def test_a_gpu_without_events_is_read_all_the_same(
    open_driver: OpenDriver, make_nvml_sim: MakeSimulator
) -> None:
    simulator = make_nvml_sim(RTX_2060)
    simulator.gpu(0).set(event_types=None)
    driver = open_driver(simulator)
    assert driver.wait_xid(0.05) is None
    assert simulator.calls("nvmlEventSetCreate") == 0
    assert read(driver, simulator).temperature_c == 41


def test_a_gpu_whose_events_are_refused_is_read_all_the_same(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlDeviceRegisterEvents", NO_PERMISSION)
    driver = open_driver(nvml_sim)
    assert driver.wait_xid(0.05) is None
    assert read(driver, nvml_sim).temperature_c == 38


def test_a_gpu_lost_while_its_events_are_asked_for_is_lost(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlDeviceRegisterEvents", 15, gpu=0)
    driver = open_driver(nvml_sim, identified=False)
    driver.open()
    fault = fault_of(lambda: driver.identify(0))
    assert (fault.kind, fault.uuid) == ("gpu_lost", nvml_sim.gpu(0).uuid)


def test_a_wait_in_which_a_gpu_is_lost_names_it_once_and_goes_on_for_the_others(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    waiting = driver.begin("wait_xid", 10.0)
    nvml_sim.gpu(0).lose()
    fault = fault_of(lambda: waiting.result(5))
    assert (fault.kind, fault.uuid) == ("gpu_lost", nvml_sim.gpu(0).uuid)
    assert driver.wait_xid(0.05) is None
    nvml_sim.gpu(1).raise_xid(48)
    xid = driver.wait_xid(5.0)
    assert xid is not None
    assert (xid.uuid, xid.xid) == (nvml_sim.gpu(1).uuid, 48)


def test_a_gpu_found_again_and_identified_has_its_xids_told_again(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.gpu(0).lose()
    fault_of(lambda: driver.wait_xid(5.0))
    nvml_sim.gpu(0).find_again()
    driver.identify(0)
    nvml_sim.gpu(0).raise_xid(62)
    xid = driver.wait_xid(5.0)
    assert xid is not None
    assert (xid.uuid, xid.xid) == (nvml_sim.gpu(0).uuid, 62)


def test_two_gpus_lost_are_both_named(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    for gpu in nvml_sim.gpus:
        gpu.lose()
    faults = [fault_of(lambda: driver.wait_xid(5.0)) for _ in range(2)]
    assert {fault.uuid for fault in faults} == {gpu.uuid for gpu in nvml_sim.gpus}
    assert driver.wait_xid(0.05) is None


def test_a_wait_that_says_lost_although_no_gpu_is_does_not_spin(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.fail("nvmlEventSetWait_v2", 15)
    assert driver.wait_xid(1.0) is None
    assert nvml_sim.calls("nvmlEventSetWait_v2") < 10
    nvml_sim.mend()
    nvml_sim.gpu(0).raise_xid(13)
    assert driver.wait_xid(5.0) is not None


def test_a_wait_that_fails_otherwise_is_a_fault_and_does_not_spin(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.upgrade_driver()
    started_ns = time.monotonic_ns()
    kinds = {fault_of(lambda: driver.wait_xid(1.0)).kind for _ in range(3)}
    assert kinds == {"version_mismatch"}
    assert time.monotonic_ns() - started_ns >= 600_000_000


def test_an_idle_wait_costs_next_to_nothing(driver: DriverChild) -> None:
    before_ns = driver.cpu_ns()
    assert driver.wait_xid(1.5) is None
    assert driver.cpu_ns() - before_ns < 150_000_000


def test_close_ends_a_wait(driver: DriverChild, nvml_sim: NvmlSimulator) -> None:
    waiting = driver.begin("wait_xid", 60.0)
    driver.close_driver()
    assert msgspec.json.decode(waiting.result(5)) is None
    assert nvml_sim.calls("nvmlShutdown") == 1


def test_close_leaves_a_wait_that_hangs_in_the_driver(
    driver: DriverChild, nvml_sim: NvmlSimulator
) -> None:
    nvml_sim.hang("nvmlEventSetWait_v2")
    waiting = driver.begin("wait_xid", 60.0)
    await_call(nvml_sim, "nvmlEventSetWait_v2")
    driver.close_driver()
    assert nvml_sim.calls("nvmlShutdown") == 0
    with pytest.raises(concurrent.futures.TimeoutError):
        waiting.result(0)


def test_a_hang_on_one_gpu_at_registering_does_not_hold_up_xids_of_others(
    open_driver: OpenDriver, nvml_sim: NvmlSimulator
) -> None:
    driver = open_driver(nvml_sim, identified=False)
    driver.open()
    driver.identify(1)
    nvml_sim.hang("nvmlDeviceRegisterEvents", gpu=0)
    stuck = driver.begin("identify", 0)
    nvml_sim.gpu(1).raise_xid(31)
    xid = driver.wait_xid(5.0)
    assert xid is not None
    assert xid.uuid == nvml_sim.gpu(1).uuid
    assert not stuck.done()
    nvml_sim.mend()
    stuck.result(5)


# --- a real process that holds VRAM ---------------------------------------------------------------


def test_vram_of_a_dead_process_leaves_the_list_at_once_and_use_later(
    driver: DriverChild, nvml_sim: NvmlSimulator, nvml_env: dict[str, str]
) -> None:
    nvml_sim.gpu(0).set(return_delay_ms=-1)
    command = [sys.executable, "-m", "nvml_sim.alloc", "--gpu", "0", "--size", "2GiB"]
    with subprocess.Popen(command, env=nvml_env, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"claimed\n"
        sample = read_pass(driver, nvml_sim)
        assert sample.processes == (ProcessUse(pid=holder.pid, type="C", vram_bytes=2 * GIB),)
        holder.kill()
    late = read_pass(driver, nvml_sim)
    assert (late.processes, late.vram_used_bytes) == ((), 2 * GIB)
    nvml_sim.gpu(0).set(return_delay_ms=0)
    assert read_pass(driver, nvml_sim).vram_used_bytes == 0
