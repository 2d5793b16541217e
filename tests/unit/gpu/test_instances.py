"""MIG instances as units: each with its own pass and cordon, the rest from its GPU."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpu_views import FakeClock
from probe_doubles import (
    GIB,
    NO_DETAILS,
    Probes,
    ScriptedProbe,
    SilentLog,
    instance,
    sample,
    uuid,
)
from superezio.errors import NotFoundError
from superezio.wire import Event
from supereziod.gpu.frames import Batch, ProbeSpec, Reading, XidSeen
from supereziod.gpu.hardware import GpuView, InstanceReading, ProcessUse, Xid
from supereziod.gpu.monitor import GpuMonitor
from supereziod.gpu.records import GpuRecords
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

MIG_ON = replace(NO_DETAILS, mig_mode="enabled")
FIRST, SECOND, THIRD = (f"MIG-{uuid(0)}-{index}" for index in range(3))


class Bench:
    """A monitor of GPU 0, which MIG cuts up, and GPU 1, which it does not."""

    def __init__(self, state: Path) -> None:
        self.clock = FakeClock()
        self.probes = Probes()
        self.events: list[Event] = []
        self.leases: dict[str, list[str]] = {}
        self.documents = Documents(Database.open(state, schema=Documents.SCHEMA))
        self.log = EventLog(logger=SilentLog())
        self.log.listen(self.events.append)
        self.monitor = self.monitor_anew()

    def monitor_anew(self) -> GpuMonitor:
        return GpuMonitor(
            spec=ProbeSpec(driver="nvml"),
            records=GpuRecords(self.documents, boot_id="boot", logger=SilentLog()),
            events=self.log,
            clock=self.clock,
            launch=self.probes.launch,
            leases_on=lambda name: self.leases.get(name, []),
            logger=SilentLog(),
        )

    @property
    def probe(self) -> ScriptedProbe:
        return self.probes.last

    def read(
        self,
        *found: InstanceReading,
        mode: str = "enabled",
        display: bool | None = None,
        told: bool = True,
        full: bool = True,
        **fields: Any,
    ) -> None:
        """Say a pass of both GPUs a second later, with what MIG has cut GPU 0 into then."""
        self.clock.advance(1)
        at_ns = self.clock.now_ns
        details = replace(NO_DETAILS, mig_mode=mode, drives_display=display)
        cut = Reading(
            sample=sample(uuid(0), at_ns, full=full, details=details, **fields),
            pass_id=0,
            instances=tuple(_at(each, at_ns, full=full) for each in found) if told else None,
        )
        whole = Reading(sample=sample(uuid(1), at_ns, full=full), pass_id=0)
        self.probe.says(Batch(readings=(cut, whole)))

    def run(self, seconds: float, *found: InstanceReading, **fields: Any) -> None:
        for _ in range(round(seconds)):
            self.read(*found, **fields)
            self.monitor.tick()

    def names(self) -> list[str]:
        return [gpu.uuid for gpu in self.monitor.snapshot().gpus]

    def view(self, name: str) -> GpuView:
        found = self.monitor.snapshot().find(name)
        assert found is not None
        return found

    def code(self, name: str) -> str | None:
        block = self.view(name).block
        return None if block is None else block.code

    def told(self, type_: str) -> list[Event]:
        return [event for event in self.events if event.type == type_]


def _at(reading: InstanceReading, at_ns: int, *, full: bool) -> InstanceReading:
    if reading.sample is None:
        return reading
    processes = reading.sample.processes if full else None
    return replace(reading, sample=replace(reading.sample, taken_ns=at_ns, processes=processes))


def part(index: int, **fields: Any) -> InstanceReading:
    return instance(uuid(0), index, **fields)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "state.db")
    await bench.monitor.start()
    bench.probe.opens(0, 1)
    yield bench
    for probe in bench.probes.launched:
        probe.obeys = True
        if probe.is_retired:
            probe.ends()
    await bench.monitor.aclose()


# --- what they are ------------------------------------------------------------------------------


async def test_instances_are_listed_after_their_gpu_by_their_index(bench: Bench) -> None:
    bench.read(part(1), part(0))
    assert bench.names() == [uuid(0), FIRST, SECOND, uuid(1)]
    identity = bench.view(SECOND).identity
    assert identity.mig is not None
    assert (identity.mig.parent, identity.mig.profile) == (uuid(0), "1g.10gb")
    assert (identity.index, identity.place) == (0, "0:1")
    assert identity.label == "GPU 0:1 (Test GPU MIG 1g.10gb)"
    assert identity.vram_total_bytes == 10 * GIB
    assert identity.slowdown_temperature_c == 93


async def test_each_admits_by_its_own_pass_and_the_whole_gpu_never(bench: Bench) -> None:
    """MIG on: whole-GPU placement is refused."""
    use = ProcessUse(pid=7, type="C", vram_bytes=4 * GIB)
    bench.read(part(0, used=4 * GIB, processes=(use,)), part(1))
    assert [bench.code(name) for name in bench.names()] == ["mig_enabled", None, None, None]
    first, second = bench.view(FIRST).last_pass, bench.view(SECOND).last_pass
    assert first is not None
    assert second is not None
    assert (first.uuid, first.vram_used_bytes, first.processes) == (FIRST, 4 * GIB, (use,))
    assert (second.vram_used_bytes, second.processes) == (0, ())


async def test_heat_is_that_of_the_gpu_and_load_is_not_known(bench: Bench) -> None:
    bench.read(part(0), margin=40)
    sample_ = bench.view(FIRST).sample
    assert sample_ is not None
    assert (sample_.temperature_c, sample_.margin_c) == (53, 40)
    assert (sample_.utilization_core_percent, sample_.power_w) == (None, None)
    assert bench.view(FIRST).level == bench.view(uuid(0)).level == "normal"


async def test_a_fast_sample_of_the_gpu_keeps_their_passes(bench: Bench) -> None:
    bench.read(part(0))
    passed = bench.view(FIRST).last_pass
    bench.read(part(0, used=2 * GIB), full=False)
    assert bench.view(FIRST).last_pass is passed
    assert bench.code(FIRST) is None
    sample_ = bench.view(FIRST).sample
    assert sample_ is not None
    assert sample_.vram_used_bytes == 2 * GIB


async def test_an_instance_that_vanishes_between_passes_is_noticed_then(bench: Bench) -> None:
    bench.leases = {FIRST: ["lease-1"]}
    bench.read(part(0))
    bench.read(full=False)
    assert bench.code(FIRST) == "lost"


async def test_compute_instances_that_share_one_memory_admit_nothing(bench: Bench) -> None:
    bench.read(part(0, gpu_instance=3), part(1, gpu_instance=3), part(2, gpu_instance=4))
    assert [bench.code(name) for name in (FIRST, SECOND, THIRD)] == [
        "mig_shared",
        "mig_shared",
        None,
    ]


# --- what blocks them ---------------------------------------------------------------------------


async def test_heat_on_the_gpu_blocks_all_its_instances_and_no_other_gpu(bench: Bench) -> None:
    bench.leases = {FIRST: ["lease-1"], uuid(1): ["lease-2"]}
    bench.read(part(0), part(1))
    bench.run(6, part(0), part(1), margin=1)
    assert [bench.code(name) for name in bench.names()] == ["critical"] * 3 + [None]
    block = bench.view(FIRST).block
    assert block is not None
    assert block.message.startswith("its GPU admits nothing: it is critical")
    change = bench.told("gpu.level")[-1]
    assert (change.gpu, change.data["leases"]) == (uuid(0), ["lease-1"])


async def test_a_quarantined_gpu_blocks_its_instances(bench: Bench) -> None:
    bench.read(part(0))
    bench.probe.says(XidSeen(xid=Xid(uuid=uuid(0), xid=79, taken_ns=bench.clock.now_ns)))
    assert (bench.view(FIRST).fitness, bench.code(FIRST)) == ("quarantined", "quarantined")


async def test_a_cordoned_gpu_blocks_its_instances_which_are_not_cordoned(bench: Bench) -> None:
    bench.read(part(0))
    bench.monitor.cordon(uuid(0), reason="new fan")
    assert (bench.view(FIRST).cordoned, bench.code(FIRST)) == (False, "cordoned")


async def test_an_instance_can_be_cordoned_by_itself(bench: Bench) -> None:
    bench.read(part(0), part(1))
    assert bench.monitor.cordon(FIRST, reason="for the class")
    assert [bench.code(name) for name in (FIRST, SECOND)] == ["cordoned", None]
    assert bench.view(FIRST).cordon_reason == "for the class"
    assert bench.told("gpu.cordoned")[-1].gpu == FIRST
    assert bench.monitor.uncordon(FIRST)
    assert bench.code(FIRST) is None
    with pytest.raises(NotFoundError):
        bench.monitor.cordon("MIG-none", reason="")


async def test_a_cordon_outlives_the_instance(bench: Bench) -> None:
    bench.read(part(0))
    bench.monitor.cordon(FIRST, reason="")
    bench.read()
    bench.read(part(0))
    assert bench.code(FIRST) == "cordoned"


async def test_a_gpu_that_does_not_answer_takes_its_instances_along(bench: Bench) -> None:
    bench.read(part(0))
    bench.probe.fails(0, "gpu_lost")
    assert (bench.view(FIRST).status, bench.code(FIRST)) == ("lost", "lost")
    assert [event.gpu for event in bench.told("gpu.status")] == [uuid(0)]


async def test_an_instance_waits_for_the_pass_that_its_gpu_owes(bench: Bench) -> None:
    bench.read(part(0))
    bench.clock.advance(0.5)
    await bench.monitor.fresh_pass(max_age_s=0, patience_s=0.01)
    assert (bench.code(uuid(0)), bench.code(FIRST)) == ("settling", "settling")


# --- they come and go ---------------------------------------------------------------------------


async def test_an_instance_that_is_gone_is_lost_as_long_as_a_lease_is_on_it(bench: Bench) -> None:
    bench.leases = {FIRST: ["lease-1"]}
    bench.read(part(0), part(1))
    bench.read(part(1))
    assert (bench.view(FIRST).status, bench.code(FIRST)) == ("lost", "lost")
    assert "MIG was cut anew" in (bench.view(FIRST).status_reason or "")
    assert bench.view(FIRST).sample is None
    assert bench.code(SECOND) is None
    (event,) = bench.told("gpu.status")
    assert (event.gpu, event.data["status"], event.severity) == (FIRST, "lost", "warning")
    bench.leases = {}
    bench.read(part(1))
    assert bench.names() == [uuid(0), SECOND, uuid(1)]
    assert len(bench.told("gpu.status")) == 1


async def test_an_instance_that_is_gone_comes_after_the_one_that_has_its_place(
    bench: Bench,
) -> None:
    bench.leases = {FIRST: ["lease-1"]}
    bench.read(part(0), part(1))
    bench.read(part(0, name="MIG-new"), part(1))
    assert bench.names() == [uuid(0), "MIG-new", SECOND, FIRST, uuid(1)]


async def test_an_instance_that_nobody_leases_is_forgotten_with_a_word(bench: Bench) -> None:
    bench.read(part(0))
    bench.read()
    assert bench.names() == [uuid(0), uuid(1)]
    (event,) = bench.told("gpu.status")
    assert (event.gpu, event.data["status"]) == (FIRST, "lost")


async def test_an_instance_that_is_cut_out_again_takes_leases_again(bench: Bench) -> None:
    bench.leases = {FIRST: ["lease-1"]}
    bench.read(part(0))
    bench.read()
    bench.read(part(0))
    assert (bench.view(FIRST).status, bench.code(FIRST)) == ("ok", None)
    assert [event.data["status"] for event in bench.told("gpu.status")] == ["lost", "ok"]


async def test_new_instances_show_up_and_mig_can_be_turned_off(bench: Bench) -> None:
    bench.read(part(0))
    bench.read(part(0), part(2))
    assert bench.names() == [uuid(0), FIRST, THIRD, uuid(1)]
    bench.read(mode="disabled")
    assert bench.names() == [uuid(0), uuid(1)]
    assert bench.code(uuid(0)) is None


# --- what may not be read -----------------------------------------------------------------------


async def test_an_instance_that_may_not_be_read_is_no_permission_never_empty(
    bench: Bench,
) -> None:
    bench.read(part(0), part(1))
    bench.read(part(0, fault="no_permission"), part(1))
    view = bench.view(FIRST)
    assert (view.status, bench.code(FIRST)) == ("unknown", "no_permission")
    assert view.details is not None
    assert view.details.mig_mode == "no_permission"
    assert (view.sample, view.last_pass) == (None, None)
    assert view.identity.vram_total_bytes is None
    assert bench.code(SECOND) is None
    assert view.fitness == "healthy"
    bench.read(part(0), part(1))
    assert bench.code(FIRST) is None


async def test_what_stands_for_an_instance_without_a_uuid_goes_quietly(bench: Bench) -> None:
    bench.read(part(0, name="MIG-unreadable-0-0", fault="no_permission"))
    assert bench.code("MIG-unreadable-0-0") == "no_permission"
    bench.read(part(0))
    assert bench.names() == [uuid(0), FIRST, uuid(1)]
    assert [event.data["status"] for event in bench.told("gpu.status")] == ["unknown"]


async def test_an_instance_drives_a_display_where_its_gpu_does(bench: Bench) -> None:
    for display in (False, True):
        bench.read(part(0), display=display)
        details = bench.view(FIRST).details
        assert details is not None
        assert details.drives_display is display


async def test_mig_that_may_not_be_read_any_more_blocks_the_instances(bench: Bench) -> None:
    bench.read(part(0))
    bench.read(mode="no_permission", told=False)
    assert bench.code(uuid(0)) == "no_permission"
    assert (bench.code(FIRST), bench.view(FIRST).last_pass) == ("no_permission", None)


# --- the past -----------------------------------------------------------------------------------


async def test_the_past_of_an_instance_is_its_vram_at_the_heat_of_its_gpu(bench: Bench) -> None:
    bench.read(part(0, used=3 * GIB), margin=40)
    past = bench.monitor.history(FIRST, since_s=60)
    assert past.gpu == FIRST
    assert [point.max for point in past.vram_used_bytes] == [3 * GIB]
    assert [point.max for point in past.temperature_c] == [53]
    assert past.utilization_core_percent == []
