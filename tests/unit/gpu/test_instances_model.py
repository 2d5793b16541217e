"""Whatever is done to MIG, what is shown of its instances is what a plain model says of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gpu_views import FakeClock
from probe_doubles import GIB, NO_DETAILS, SilentLog, identity, instance, sample, uuid
from supereziod.gpu.announcements import GpuAnnouncements
from supereziod.gpu.frames import ProbeSpec, Reading
from supereziod.gpu.hardware import GpuView, InstanceReading
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.roster import GpuRoster, MonitorRules
from supereziod.gpu.track import Surroundings
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

Deed = Literal["cut", "destroy", "forbid", "allow", "lease", "release", "cordon", "uncordon", "use"]
PLACES = range(4)
MIG_ON = replace(NO_DETAILS, mig_mode="enabled")


def name_of(place: int) -> str:
    return f"MIG-{place}"


class Model:
    """The rules of the pages, and nothing of the code: by place, what is so."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.forbidden: set[int] = set()
        self.leased: set[int] = set()
        self.cordoned: set[int] = set()
        self.shown: set[int] = set()
        self.used: dict[int, int] = {}
        self.gpu_cordoned = False

    def read(self) -> None:
        """A reading shows what is there, and what is gone for as long as it is leased."""
        self.shown = self.there | (self.shown & self.leased)

    def code(self, place: int) -> str | None:
        if self.gpu_cordoned:
            return "cordoned"
        if place not in self.there:
            return "lost"
        if place in self.forbidden:
            return "no_permission"
        return "cordoned" if place in self.cordoned else None


class World:
    """The roster of one GPU, and the model, to which the same is done."""

    def __init__(self, state: Path) -> None:
        self.model = Model()
        self.clock = FakeClock()
        self._read_before: set[int] = set()
        self.records = GpuRecords(
            Documents(Database.open(state, schema=Documents.SCHEMA)),
            boot_id="boot",
            logger=SilentLog(),
        )
        self.roster = GpuRoster(
            spec=ProbeSpec(driver="nvml"),
            rules=MonitorRules(),
            records=self.records,
            tell=GpuAnnouncements(
                EventLog(logger=SilentLog()),
                leases_on=lambda name: [
                    "lease" for place in self.model.leased if name == name_of(place)
                ],
            ),
            excuse=lambda _uuid: None,
            clock=self.clock,
        )
        self.roster.identify(identity(0))

    def do(self, deed: Deed, place: int) -> None:
        model = self.model
        match deed:
            case "cut":
                model.there.add(place)
            case "destroy":
                model.there.discard(place)
            case "forbid":
                model.forbidden.add(place)
            case "allow":
                model.forbidden.discard(place)
            case "lease":
                model.leased.add(place)
            case "release":
                model.leased.discard(place)
            case "use":
                model.used[place] = model.used.get(place, 0) + GIB
            case "cordon" if place in model.shown:
                model.cordoned.add(place)
                self._cordon(name_of(place), "by hand")
            case "uncordon" if place in model.shown:
                model.cordoned.discard(place)
                self._cordon(name_of(place), None)

    def cordon_gpu(self) -> None:
        self.model.gpu_cordoned = not self.model.gpu_cordoned
        self._cordon(uuid(0), "by hand" if self.model.gpu_cordoned else None)

    def _cordon(self, name: str, reason: str | None) -> None:
        """As the monitor does it."""
        self.roster.get(name).cordon_reason = reason
        self.records.cordons.pop(name, None)
        if reason is not None:
            self.records.cordons[name] = reason

    def read(self, *, full: bool) -> dict[str, GpuView]:
        self.clock.advance(1)
        at_ns = self.clock.now_ns
        model = self.model
        readable = model.there - model.forbidden
        reading = Reading(
            sample=sample(uuid(0), at_ns, full=full, details=MIG_ON),
            pass_id=0,
            instances=tuple(self._found(place, at_ns, full=full) for place in sorted(model.there)),
        )
        self._read_before = readable
        model.read()
        self.roster.take(reading, at_ns)
        self.roster.judge(Surroundings(attached=True, driver_fault=None))
        return {view.uuid: view for view in self.roster.views()}

    def _found(self, place: int, at_ns: int, *, full: bool) -> InstanceReading:
        forbidden = place in self.model.forbidden
        found = instance(
            uuid(0),
            place,
            at_ns=at_ns,
            name=name_of(place),
            used=self.model.used.get(place, 0),
            fault="no_permission" if forbidden else None,
        )
        if found.sample is None or full or place not in self._read_before:
            return found  # a driver reads what is new to it with its processes
        return replace(found, sample=replace(found.sample, processes=None))


STEPS = st.one_of(
    st.tuples(
        st.sampled_from(
            ("cut", "destroy", "forbid", "allow", "lease", "release", "cordon", "uncordon", "use")
        ),
        st.sampled_from(PLACES),
    ),
    st.sampled_from(["read", "pass", "cordon the GPU"]),
)


@given(st.lists(STEPS, max_size=30))
def test_instances_are_shown_as_the_model_has_them(steps: list[tuple[Deed, int] | str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory) / "state.db")
        world.read(full=True)
        for step in [*steps, "read"]:
            match step:
                case "read" | "pass":
                    check(world.model, world.read(full=step == "pass"))
                case "cordon the GPU":
                    world.cordon_gpu()
                case (deed, place):
                    world.do(deed, place)


def check(model: Model, views: dict[str, GpuView]) -> None:
    assert set(views) == {uuid(0), *map(name_of, model.shown)}
    for place in model.shown:
        view = views[name_of(place)]
        assert (None if view.block is None else view.block.code) == model.code(place)
        assert view.cordoned == (place in model.cordoned)
        known = place in model.there and place not in model.forbidden
        used = None if view.sample is None else view.sample.vram_used_bytes
        assert used == (model.used.get(place, 0) if known else None)
        assert (view.last_pass is not None) == known
        assert (view.identity.vram_total_bytes is not None) == known
