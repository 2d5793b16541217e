"""What is done about heat, in order, with a real probe and a systemctl that may fail."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from supereziod.gpu.control import SimulatedControl
from supereziod.gpu.frames import ProbeSpec, SimulatedSpec
from supereziod.gpu.thermal import Thresholds
from supereziod.health.notifier import Notifier
from supereziod.overheat.decision import Heat
from supereziod.overheat.holders import LeaseHolder
from supereziod.overheat.record import Stopped, StoppedRecord, StoppedUnit
from supereziod.overheat.response import Patience, Response
from supereziod.overheat.systemctl import Systemctl
from supereziod.overheat.thermometer import Thermometer, thresholds_of
from unit.overheat.conftest import Systemd

DAEMON = ["reset-failed superezio.socket superezio.service", "start superezio.socket"]
DAEMON += ["start superezio.service"]
#: How a model is started again.
AGAIN = ("reset-failed {0}.service", "start {0}.service")
THRESHOLDS = Thresholds().scaled(0.001)


class Scene:
    """A response on a host with simulated GPUs."""

    def __init__(self, tmp_path: Path, systemd: Systemd) -> None:
        self.gpus = SimulatedControl(tmp_path / "simulated")
        self.systemd = systemd
        self.record = StoppedRecord(tmp_path, boot_id="b")
        self.directory = tmp_path
        self.holders: list[LeaseHolder] = []
        self.response = Response(
            systemctl=Systemctl([str(systemd.program)]),
            record=self.record,
            thermometer=self.thermometer,
            holders=lambda: self.holders,
            notifier=Notifier(environ={}),
            patience=Patience(
                cool_s=20,
                retry_s=0.05,
                look_s=10,
                tick_s=0.02,
                stop_s=5,
                service_s=5,
                model_s=0.3,
                model_look_s=0.05,
            ),
            boot_id="b",
        )

    def thermometer(self, were_critical: Collection[str]) -> Thermometer:
        simulated = SimulatedSpec(
            directory=str(self.gpus.directory), epoch_ns=time.monotonic_ns(), read_only=True
        )
        spec = ProbeSpec(driver="simulated", simulated=simulated, period_s=0.05)
        return Thermometer(
            spec=spec, thresholds=thresholds_of(THRESHOLDS, {}), were_critical=were_critical
        )

    async def critical(self) -> list[Heat]:
        self.gpus.temperature(0, 95)
        heats, fault = await self.response.read()
        assert fault is None
        return [heat for heat in heats if heat.level == "critical"]

    def stopped(self, *units: StoppedUnit) -> Stopped:
        return Stopped(boot_id="b", since_ns=1, gpus=(), units=units)


@pytest.fixture
def scene(tmp_path: Path, systemd: Systemd) -> Scene:
    return Scene(tmp_path, systemd)


def running(*names: str) -> str:
    block = "echo Id={0}; echo Slice=superezio-models.slice; echo ActiveState=active; echo"
    return "; ".join(block.format(name) for name in names) or "true"


def holder(unit: str, *, in_slice: bool = True) -> LeaseHolder:
    return LeaseHolder(
        lease="1", owner_uid=7, gpus=(), pid=9, unit=unit, in_slice=in_slice, command=None
    )


def told(logs: list[Any], event: str) -> list[Any]:
    return [entry.get("unit_name") for entry in logs if entry["event"] == event]


async def test_a_fresh_look_finds_the_hot_gpu_and_leaves_the_simulation_as_it_is(
    scene: Scene,
) -> None:
    (hot,) = await scene.critical()
    assert hot.label == "GPU 0 (NVIDIA GeForce RTX 3060)"
    assert [file.name for file in scene.gpus.directory.iterdir()] == ["control.json"]


async def test_what_runs_is_on_record_before_it_is_stopped(scene: Scene) -> None:
    record = scene.directory / "stopped.json"
    first = f"[ -e {scene.directory}/stopped ] && exit; touch {scene.directory}/stopped"
    keep = f"{first}; cp {record} {scene.directory}/seen"
    scene.systemd.answer({"show": running("a.service", "b.service"), "stop": keep})
    await scene.response.begin(await scene.critical())
    assert b"a.service" in (scene.directory / "seen").read_bytes()
    assert scene.systemd.calls[0] == "stop a.service b.service"


async def test_what_comes_up_while_they_are_stopped_is_stopped_too(scene: Scene) -> None:
    mark = scene.directory / "asked"
    again = f"if [ -e {mark} ]; then {running('late.service')}; else {running('a.service')}; fi"
    scene.systemd.answer({"show": f"{again}; touch {mark}"})
    stopped = await scene.response.begin(await scene.critical())
    assert [unit.name for unit in stopped.units] == ["a.service", "late.service"]
    assert scene.systemd.calls[:2] == ["stop a.service", "stop late.service"]


async def test_who_held_a_lease_is_started_first_and_who_never_served_last(scene: Scene) -> None:
    blocks = running("a.service", "b.service", "c.service", "d.service").split("; echo; ")
    since = [f"echo ActiveEnterTimestampMonotonic={us}" for us in (0, 0, 5, 5)]
    show = "; echo; ".join("; ".join(each) for each in zip(since, blocks, strict=True))
    mark = scene.directory / "asked"
    scene.systemd.answer({"show": f"[ -e {mark} ] && exit; touch {mark}; {show}"})
    scene.holders = [holder("d.service"), holder("b.service"), holder("x.scope", in_slice=False)]
    with capture_logs() as logs:
        stopped = await scene.response.begin(await scene.critical())
    assert [unit.name for unit in stopped.units] == [
        *("d.service", "b.service", "c.service", "a.service"),
    ]
    assert scene.record.load() == stopped, "and whoever goes on knows the order"
    (outside,) = [entry for entry in logs if entry["event"] == "overheat.holder_outside"]
    assert outside["holder_unit"] == "x.scope"


async def test_units_that_do_not_stop_or_cannot_be_asked_for_are_told(scene: Scene) -> None:
    scene.systemd.answer({"show": running("a.service"), "stop": "echo no >&2; exit 1"})
    with capture_logs() as logs:
        stopped = await scene.response.begin(await scene.critical())
    assert [unit.name for unit in stopped.units] == ["a.service"]
    assert told(logs, "overheat.models_not_stopped")
    scene.systemd.answer({"show": "exit 1"})
    with capture_logs() as logs:
        await scene.response.stop_models(stopped)
    assert told(logs, "overheat.models_unknown")


async def test_a_record_that_cannot_be_written_keeps_nobody_from_stopping(
    tmp_path: Path, systemd: Systemd
) -> None:
    scene = Scene(tmp_path / "here", systemd)
    scene.record = StoppedRecord(tmp_path / "nowhere", boot_id="b")
    scene.response._record = scene.record
    scene.systemd.answer({"show": running("a.service")})
    with capture_logs() as logs:
        await scene.response.begin(await scene.critical())
    assert told(logs, "overheat.record_not_written")
    assert scene.systemd.calls[0] == "stop a.service"


async def test_one_model_that_does_not_start_keeps_no_other_from_it(scene: Scene) -> None:
    scene.systemd.answer(
        {"start -- bad.service": "echo broken >&2; exit 1", "start -- slow.service": "sleep 5"}
    )
    units = [StoppedUnit(name=f"{name}.service") for name in ("a", "bad", "slow", "z")]
    units.append(StoppedUnit(name="run-1.scope", transient=True))
    with capture_logs() as logs:
        await scene.response.finish(scene.stopped(*units))
    assert scene.systemd.calls == [
        *DAEMON,
        *(call.format(name) for name in ("a", "bad", "slow", "z") for call in AGAIN),
    ]
    assert told(logs, "overheat.model_started") == ["a.service", "z.service"]
    assert told(logs, "overheat.model_not_started") == ["bad.service", "run-1.scope"]
    assert told(logs, "overheat.model_starting") == ["slow.service"]
    assert scene.record.load() is None


async def test_the_next_has_its_turn_as_soon_as_one_waits_for_a_lease(
    tmp_path: Path, systemd: Systemd
) -> None:
    scene = Scene(tmp_path, systemd)
    scene.response._patience = replace(scene.response._patience, model_s=60)
    waits = "echo SubState=start; echo StatusText=waiting for a lease of 8.0 GiB"
    scene.systemd.answer({"start -- a.service": "exec sleep 50", "show": waits})
    units = [StoppedUnit(name=f"{name}.service") for name in "az"]
    with capture_logs() as logs:
        await scene.response.finish(scene.stopped(*units))
    assert told(logs, "overheat.model_starting") == ["a.service"]
    assert told(logs, "overheat.model_started") == ["z.service"]
    assert scene.record.load() is None


async def test_where_the_daemon_fails_anew_no_further_model_is_started(scene: Scene) -> None:
    mark = scene.directory / "failed"
    shown = f"[ -e {mark} ] && echo ActiveState=failed || echo ActiveState=activating"
    scene.systemd.answer({"start -- a.service": f"touch {mark}", "show": shown})
    stopped = scene.stopped(*(StoppedUnit(name=f"{name}.service") for name in "abc"))
    with capture_logs() as logs:
        rest = await scene.response.finish(stopped)
    assert [unit.name for unit in rest.units] == ["b.service", "c.service"]
    assert scene.record.load() == rest, "and whoever goes on goes on with them"
    assert told(logs, "overheat.model_started") == ["a.service"]
    (anew,) = [entry for entry in logs if entry["event"] == "overheat.failed_anew"]
    assert anew["unit_names"] == ["b.service", "c.service"]
    scene.systemd.answer({"show": "exit 1"})
    with capture_logs() as logs:
        rest = await scene.response.start_models(rest)
    assert rest.units == ()
    assert len(told(logs, "overheat.systemd_unknown")) == 2, "what is not known keeps nobody down"


async def test_a_model_whose_unit_systemd_has_forgotten_is_started(scene: Scene) -> None:
    """`systemctl reset-failed` is an error for a unit that is not loaded; a start loads it."""
    scene.systemd.answer({"reset-failed -- a.service": "echo not loaded >&2; exit 1"})
    with capture_logs() as logs:
        await scene.response.finish(scene.stopped(StoppedUnit(name="a.service")))
    assert told(logs, "overheat.model_started") == ["a.service"]


async def test_where_the_daemon_does_not_start_no_model_is_and_it_is_tried_again(
    scene: Scene,
) -> None:
    mark = scene.directory / "tried"
    once = f"[ -e {mark} ] || {{ touch {mark}; echo broken >&2; exit 1; }}"
    scene.systemd.answer({"start -- superezio.service": once})
    with capture_logs() as logs:
        await scene.response.finish(scene.stopped(StoppedUnit(name="a.service")))
    assert scene.systemd.calls == [*DAEMON, *DAEMON, *(call.format("a") for call in AGAIN)]
    assert told(logs, "overheat.daemon_not_started") == ["superezio.service"]
