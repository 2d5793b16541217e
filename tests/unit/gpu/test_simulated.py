"""The simulated driver: VRAM by the claims of real processes, faults by scenario and control."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_views import FakeClock
from supereziod.gpu.claims import Claim, ClaimsDirectory, OutOfVramError, read_stat
from supereziod.gpu.control import DriverFault, SimulatedControl
from supereziod.gpu.hardware import FaultError, GpuDetails, GpuIdentity
from supereziod.gpu.scenario import parse_scenario
from supereziod.gpu.simulated import SimulatedDriver

GIB = 1 << 30
SECOND = 1_000_000_000


class Host:
    """A simulation with a clock of its own; `sleeping` is what a call that hangs does meanwhile."""

    def __init__(self, directory: Path, scenario: str = "") -> None:
        self.clock = FakeClock(1000 * SECOND)
        self.epoch_ns = self.clock.now_ns
        self.directory = directory
        self.scenario = parse_scenario(scenario)
        self.control = SimulatedControl(directory)
        self.claims = ClaimsDirectory(directory)
        self.sleeping: Callable[[], None] = lambda: None
        self.driver = self.driver_anew()
        self.info = self.driver.open()
        self.gpus = [self.driver.identify(index) for index in range(self.info.gpu_count)]

    def driver_anew(self) -> SimulatedDriver:
        return SimulatedDriver(
            directory=self.directory,
            scenario=self.scenario,
            epoch_ns=self.epoch_ns,
            since_ns=self.clock.now_ns,
            clock=self.clock,
            wait=self._wait,
        )

    def used(self, gpu: int = 0) -> int | None:
        return self.driver.sample(self.gpus[gpu].uuid, with_processes=False).vram_used_bytes

    def claim(self, pid: int, vram: int, *, gpu: int = 0, load: int = 0) -> Claim:
        claim = Claim(pid, read_stat(pid) or 0, self.gpus[gpu].uuid, vram, load)
        self.claims.add(claim)
        return claim

    def _wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.sleeping()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        yield sleeper
        sleeper.kill()


def test_the_default_is_a_host_with_two_geforces(host: Host) -> None:
    assert host.info.gpu_count == 2
    assert [gpu.name for gpu in host.gpus] == ["NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 2060"]
    assert [gpu.index for gpu in host.gpus] == [0, 1]
    assert host.gpus[0].vram_total_bytes == 12 * GIB


def test_vram_is_reserved_used_and_free(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.claim(process.pid, 8 * GIB)
    sample = host.driver.sample(host.gpus[0].uuid, with_processes=True)
    parts = (sample.vram_used_bytes, sample.vram_free_bytes, sample.vram_driver_reserved_bytes)
    assert parts[0] == 8 * GIB
    assert sum(part or 0 for part in parts) == sample.vram_total_bytes
    assert sample.processes is not None
    assert [(p.pid, p.vram_bytes) for p in sample.processes] == [(process.pid, 8 * GIB)]
    assert host.used(gpu=1) == 0


def test_a_fast_sample_has_no_processes(host: Host) -> None:
    sample = host.driver.sample(host.gpus[0].uuid, with_processes=False)
    assert sample.processes is None
    assert sample.details is None


def test_vram_of_a_dead_process_comes_back(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.claim(process.pid, 8 * GIB)
    process.kill()
    process.wait()
    assert host.used() == 0
    assert host.control.claims() == []


def test_vram_of_a_zombie_is_free_as_well(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.claim(process.pid, 8 * GIB)
    process.kill()
    await_zombie(process.pid)
    assert host.used() == 0


def test_vram_comes_back_late_if_told_so(host: Host, process: subprocess.Popen[bytes]) -> None:
    host.control.vram_return_delay(3)
    host.claim(process.pid, 8 * GIB)
    process.kill()
    process.wait()
    sample = host.driver.sample(host.gpus[0].uuid, with_processes=True)
    assert sample.vram_used_bytes == 8 * GIB
    assert sample.processes == ()
    host.clock.advance(2.9)
    assert host.used() == 8 * GIB
    host.clock.advance(0.2)
    assert host.used() == 0


def test_a_reused_pid_is_another_process(host: Host, process: subprocess.Popen[bytes]) -> None:
    earlier = (read_stat(process.pid) or 0) - 1
    host.claims.add(Claim(process.pid, earlier, host.gpus[0].uuid, GIB, 0))
    assert host.used() == 0


def test_a_claim_that_does_not_fit_is_out_of_memory(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    host.claim(process.pid, 10 * GIB)
    with pytest.raises(OutOfVramError, match="out of memory"):
        host.claims.add(Claim(1, read_stat(1) or 0, host.gpus[0].uuid, 2 * GIB, 0))
    with pytest.raises(OutOfVramError, match="no simulated GPU"):
        host.claims.add(Claim(1, read_stat(1) or 0, "GPU-x", 2 * GIB, 0))


def test_a_claim_that_is_written_again_counts_anew(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    host.claim(process.pid, GIB)
    assert host.used() == GIB
    host.claim(process.pid, 3 * GIB)
    assert host.used() == 3 * GIB


def test_load_follows_the_processes_and_heats_the_card(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    cold = host.driver.sample(host.gpus[0].uuid, with_processes=False)
    host.claim(process.pid, GIB, load=90)
    host.clock.advance(60)
    warm = host.driver.sample(host.gpus[0].uuid, with_processes=True)
    assert warm.utilization_core_percent == 90
    assert (warm.temperature_c or 0) > (cold.temperature_c or 99) + 20
    assert (warm.power_w or 0) > 100
    assert warm.details is not None
    assert warm.details.energy_j == pytest.approx((warm.power_w or 0) * 60, rel=0.01)


def test_a_forced_temperature_is_seen_on_the_next_call(host: Host) -> None:
    host.driver.sample(host.gpus[0].uuid, with_processes=False)
    host.control.temperature(0, 95)
    sample = host.driver.sample(host.gpus[0].uuid, with_processes=False)
    assert (sample.temperature_c, sample.margin_c, sample.throttle_mask) == (95, 0, 0x41)
    host.control.temperature(0, None)
    host.clock.advance(1)
    assert (host.driver.sample(host.gpus[0].uuid, with_processes=False).temperature_c or 0) < 95


def test_foreign_vram_has_no_process(host: Host) -> None:
    host.control.foreign(0, 10 * GIB)
    sample = host.driver.sample(host.gpus[0].uuid, with_processes=True)
    assert (sample.vram_used_bytes, sample.processes) == (10 * GIB, ())
    host.control.foreign(0, 99 * GIB)
    assert host.driver.sample(host.gpus[0].uuid, with_processes=False).vram_free_bytes == 0


def test_a_hang_lasts_until_it_is_ended_and_holds_up_no_other_gpu(host: Host) -> None:
    host.control.hang(0)
    waits: list[int | None] = []

    def sleeping() -> None:
        waits.append(host.used(gpu=1))
        if len(waits) == 5:
            host.control.restore(0)

    host.sleeping = sleeping
    assert host.used(gpu=0) == 0
    assert waits == [0] * 5


def test_a_hang_of_the_scenario_ends_by_itself(tmp_path: Path) -> None:
    host = Host(tmp_path, '[[event]]\nat = "1s"\ngpu = 0\nkind = "hang"\nfor = "60s"\n')
    host.clock.advance(1)
    host.used()
    assert 61 <= (host.clock.now_ns - host.epoch_ns) / SECOND < 62


def test_a_lost_gpu_raises_until_it_is_back(host: Host) -> None:
    host.control.lose(1)
    with pytest.raises(FaultError) as caught:
        host.used(gpu=1)
    assert (caught.value.fault.kind, caught.value.fault.uuid) == ("gpu_lost", host.gpus[1].uuid)
    assert host.driver_anew().open().gpu_count == 2
    host.control.restore(1)
    assert host.used(gpu=1) == 0


def test_a_vanished_gpu_is_not_listed_anew_and_the_order_changes(host: Host) -> None:
    host.control.lose(0, vanish=True)
    anew = host.driver_anew()
    assert anew.open().gpu_count == 1
    assert anew.identify(0).uuid == host.gpus[1].uuid


@pytest.mark.parametrize("kind", ["no_driver", "version_mismatch"])
def test_the_driver_can_go_and_come_back(host: Host, kind: DriverFault) -> None:
    host.control.driver_fault(kind)
    for call in (host.used, host.driver_anew().open):
        with pytest.raises(FaultError) as caught:
            call()
        assert caught.value.fault.kind == kind
    host.control.driver_fault(None)
    assert host.used() == 0


def test_an_xid_is_reported_once(host: Host) -> None:
    assert host.driver.wait_xid(1.0) is None
    inject_xid(host, gpu=1, xid=79)
    xid = host.driver.wait_xid(1.0)
    assert xid is not None
    assert (xid.uuid, xid.xid) == (host.gpus[1].uuid, 79)
    assert host.driver.wait_xid(1.0) is None


def test_xids_of_the_scenario_and_of_before_the_probe(tmp_path: Path) -> None:
    host = Host(tmp_path, '[[event]]\nat = "5s"\ngpu = 0\nkind = "xid"\nxid = 31\n')
    host.clock.advance(5)
    xid = host.driver.wait_xid(1.0)
    assert xid is not None
    assert xid.xid == 31
    host.clock.advance(1)
    later = host.driver_anew()
    later.open()
    later.identify(0)
    assert later.wait_xid(1.0) is None


def test_what_cards_do_not_report_is_none(host: Host, tmp_path: Path) -> None:
    geforce = details(host, host.gpus[0])
    assert geforce.ecc_enabled is None
    assert geforce.ecc_uncorrected is None
    assert geforce.memory_temperature_c is None
    assert geforce.mig_mode is None
    assert geforce.fan_percent is not None
    server = Host(tmp_path / "server", '[[gpu]]\nprofile = "A100 80GB"\n')
    server.control.set(0, ecc_uncorrected=3)
    a100 = details(server, server.gpus[0])
    assert (a100.ecc_enabled, a100.ecc_uncorrected, a100.mig_mode) == (True, 3, "disabled")
    assert a100.fan_percent is None
    assert a100.memory_temperature_c is not None


def test_modes_of_a_card(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    host = Host(
        tmp_path,
        """
        [[gpu]]
        profile = "H100 80GB"
        mig = true
        [[gpu]]
        profile = "RTX 3090"
        compute_mode = "exclusive_process"
        display = true
        process_memory = false
        """,
    )
    assert details(host, host.gpus[0]).mig_mode == "enabled"
    assert details(host, host.gpus[1]).compute_mode == "exclusive_process"
    assert [details(host, gpu).drives_display for gpu in host.gpus] == [False, True]
    h100 = host.driver.sample(host.gpus[0].uuid, with_processes=False)
    assert (h100.utilization_core_percent, h100.margin_source) == (None, "t_limit")
    host.claim(process.pid, GIB, gpu=1)
    sample = host.driver.sample(host.gpus[1].uuid, with_processes=True)
    assert sample.processes is not None
    assert sample.processes[0].vram_bytes is None
    assert sample.vram_used_bytes == GIB


def test_a_closed_driver_knows_no_gpu(host: Host) -> None:
    host.driver.close()
    inject_xid(host, gpu=0, xid=79)
    assert host.driver.wait_xid(0.1) is None


def inject_xid(host: Host, *, gpu: int, xid: int) -> None:
    """Report an XID by the simulation's clock instead of the real one."""
    host.control.xid(gpu, xid, at_ns=host.clock.now_ns)


def details(host: Host, gpu: GpuIdentity) -> GpuDetails:
    found = host.driver.sample(gpu.uuid, with_processes=True).details
    assert found is not None
    return found


def await_zombie(pid: int) -> None:
    """Wait until the kernel has ended the process, without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
