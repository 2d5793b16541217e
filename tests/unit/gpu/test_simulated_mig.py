"""A simulated card that MIG cuts up: instances with claims of their own, cut anew while it runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_views import FakeClock
from supereziod.gpu.claims import Card, Claim, ClaimsDirectory, OutOfVramError, read_stat
from supereziod.gpu.control import SimulatedControl
from supereziod.gpu.hardware import InstanceReading
from supereziod.gpu.mig_sizes import RESERVED_BYTES
from supereziod.gpu.scenario import ScenarioError, parse_scenario
from supereziod.gpu.simulated import SimulatedDriver

GIB = 1 << 30
SECOND = 1_000_000_000
CUT = """
[[gpu]]
profile = "A100 80GB"
instances = ["3g.40gb", "1g.10gb"]
"""


class Host:
    """A simulation of one card with a clock of its own."""

    def __init__(self, directory: Path, scenario: str = CUT) -> None:
        self.clock = FakeClock(1000 * SECOND)
        self.control = SimulatedControl(directory)
        self.claims = ClaimsDirectory(directory)
        self.driver = SimulatedDriver(
            directory=directory,
            scenario=parse_scenario(scenario),
            epoch_ns=self.clock.now_ns,
            since_ns=self.clock.now_ns,
            clock=self.clock,
        )
        self.driver.open()
        self.uuid = self.driver.identify(0).uuid

    def read(self, *, full: bool = True) -> list[InstanceReading]:
        return list(self.driver.instances(self.uuid, with_processes=full))

    def sizes(self) -> list[str | None]:
        return [reading.instance.profile for reading in self.read()]

    def claim(self, pid: int, uuid: str, vram: int) -> None:
        self.claims.add(Claim(pid, read_stat(pid) or 0, uuid, vram, 40))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        yield sleeper
        sleeper.kill()


def test_a_card_is_cut_into_what_the_scenario_says(host: Host) -> None:
    big, small = host.read()
    assert (big.name, big.instance.index) == ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 0)
    assert (small.name, small.instance.index) == ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 1)
    assert {big.instance.parent, small.instance.parent} == {host.uuid}
    assert small.uuid.startswith("MIG-")
    assert small.sample is not None
    assert small.sample.vram_total_bytes == 10 * GIB
    assert small.sample.vram_free_bytes == 10 * GIB - RESERVED_BYTES
    details = host.driver.sample(host.uuid, with_processes=True).details
    assert details is not None
    assert details.mig_mode == "enabled"


def test_what_a_process_claims_is_on_its_instance_and_in_the_sum_of_the_card(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    big, small = host.read()
    host.claim(process.pid, small.uuid, 4 * GIB)
    big, small = host.read()
    assert small.sample is not None
    assert big.sample is not None
    assert small.sample.vram_used_bytes == 4 * GIB
    assert [p.pid for p in small.sample.processes or ()] == [process.pid]
    assert (big.sample.vram_used_bytes, big.sample.processes) == (0, ())
    whole = host.driver.sample(host.uuid, with_processes=True)
    assert whole.vram_used_bytes == 4 * GIB
    assert [p.pid for p in whole.processes or ()] == [process.pid]
    assert whole.utilization_core_percent is None
    process.kill()
    process.wait()
    assert host.driver.sample(host.uuid, with_processes=False).vram_used_bytes == 0


def test_a_fast_reading_has_no_processes_but_of_what_is_new(host: Host) -> None:
    def passes() -> list[bool]:
        samples = [reading.sample for reading in host.read(full=False)]
        return [sample is not None and sample.processes is not None for sample in samples]

    assert passes() == [True, True]
    assert passes() == [False, False]
    host.control.cut(0, "3g.40gb", "1g.10gb", "1g.10gb")
    assert passes() == [False, False, True]


def test_a_claim_has_no_more_room_than_its_instance(
    host: Host, process: subprocess.Popen[bytes]
) -> None:
    small = host.read()[1]
    with pytest.raises(OutOfVramError, match="out of memory"):
        host.claim(process.pid, small.uuid, 10 * GIB)


def test_a_card_is_cut_anew_while_it_runs(host: Host) -> None:
    """What is cut out again at its place has the UUID it had; stand-ins find what is there now."""
    before = host.read()
    host.control.cut(0, "3g.40gb")
    assert [reading.uuid for reading in host.read()] == [before[0].uuid]
    host.control.cut(0)
    assert host.read() == []
    host.control.cut(0, "3g.40gb", "2g.20gb", "1g.10gb")
    now = host.read()
    assert [reading.instance.profile for reading in now] == ["3g.40gb", "2g.20gb", "1g.10gb"]
    assert now[0].uuid == before[0].uuid
    assert now[1].uuid != before[1].uuid
    assert host.claims.cards() == [
        Card(host.uuid, 0, host.claims.cards()[0].usable_bytes),
        *(
            Card(reading.uuid, 0, gib * GIB - RESERVED_BYTES, index)
            for index, (reading, gib) in enumerate(zip(now, (40, 20, 10), strict=True))
        ),
    ]
    host.control.restore(0)
    assert host.read() == [*before]


def test_instances_that_may_not_be_read_have_no_figures(host: Host) -> None:
    host.control.forbid_mig(0)
    readings = host.read()
    assert [reading.sample for reading in readings] == [None, None]
    assert [r.fault.kind if r.fault else None for r in readings] == ["no_permission"] * 2


def test_events_cut_a_card_and_forbid_its_instances(tmp_path: Path) -> None:
    host = Host(
        tmp_path,
        CUT
        + """
        [[event]]
        at = "10s"
        gpu = 0
        kind = "mig"
        instances = ["7g.80gb"]
        for = "10s"
        [[event]]
        at = "12s"
        gpu = 0
        kind = "mig_forbidden"
        for = "2s"
        """,
    )
    assert host.sizes() == ["3g.40gb", "1g.10gb"]
    host.clock.advance(11)
    assert host.sizes() == ["7g.80gb"]
    assert host.read()[0].fault is None
    host.clock.advance(2)
    assert host.read()[0].fault is not None
    host.clock.advance(8)
    assert host.sizes() == ["3g.40gb", "1g.10gb"]


def test_mig_that_is_on_may_have_no_instances(tmp_path: Path) -> None:
    host = Host(tmp_path, "[[gpu]]\nprofile = 'H100 80GB'\nmig = true\n")
    assert host.read() == []


@pytest.mark.parametrize(
    ("card", "sizes", "words"),
    [
        ("A100 80GB", ["10gb"], "write it like 1g.10gb"),
        ("A100 80GB", ["4g.40gb", "4g.40gb"], "7 slices"),
        ("A100 80GB", ["1g.40gb", "1g.40gb", "1g.10gb"], "more VRAM than the card"),
        ("RTX 3060", ["1g.10gb"], "has no MIG"),
    ],
)
@pytest.mark.parametrize("event", ["", "[[event]]\nat = '0s'\ngpu = 0\nkind = 'mig'\n"])
def test_a_card_that_cannot_be_cut_so_is_refused(
    card: str, sizes: list[str], words: str, event: str
) -> None:
    text = f"[[gpu]]\nprofile = '{card}'\n{event}"
    with pytest.raises(ScenarioError, match=words) as raised:
        parse_scenario(f"{text}instances = {sizes}\n")
    assert "instances" in str(raised.value)
