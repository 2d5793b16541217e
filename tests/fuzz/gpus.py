"""The simulated driver behind a probe that is no process: it reads when the test's loop says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supereziod.gpu.frames import Batch, FromProbe, Identified, Opened, Pass, Reading, ToProbe
from supereziod.gpu.frames import ProbeSpec as Spec
from supereziod.gpu.probe_process import ProbeHandle, ProbeListener
from supereziod.gpu.scenario import parse_scenario
from supereziod.gpu.simulated import SimulatedDriver

#: Two plain cards, and one that MIG has cut up.
_SCENARIO: Final = """
[[gpu]]
profile = "RTX 3060"
[[gpu]]
profile = "RTX 2060"
[[gpu]]
profile = "A100 80GB"
instances = ["1g.10gb", "2g.20gb"]
"""


class InnerProbe:
    """A probe as the supervisor holds it. It says what the simulated driver reads."""

    pid = 99

    def __init__(self, spec: Spec, listener: ProbeListener, clock: Callable[[], int]) -> None:
        assert spec.simulated is not None
        self._driver = SimulatedDriver(
            directory=Path(spec.simulated.directory),
            scenario=parse_scenario(_SCENARIO),
            epoch_ns=spec.simulated.epoch_ns,
            since_ns=spec.since_ns,
            clock=clock,
            wait=_never,
        )
        self._period_s = spec.period_s
        self._listener = listener
        self._uuids: dict[str, str | None] = {}
        self._timer: asyncio.TimerHandle | asyncio.Handle
        self._timer = asyncio.get_running_loop().call_soon(self._begin)

    def send(self, frame: ToProbe) -> None:
        """Read at once what is asked for, and answer as soon as may be."""
        if isinstance(frame, Pass):
            asyncio.get_running_loop().call_soon(self._read, frame.uuids, frame.id)

    def retire(self) -> None:
        """End."""
        self._timer.cancel()
        self._uuids = {}
        asyncio.get_running_loop().call_soon(self._listener.probe_ended, self, "exit code 0")

    def abandon(self) -> None:
        """Say nothing more."""
        self._timer.cancel()

    def _begin(self) -> None:
        info = self._driver.open()
        indexes = tuple(range(info.gpu_count))
        self._say(Opened(info=info, indexes=indexes))
        for index in indexes:
            identity = self._driver.identify(index)
            sample = self._driver.sample(identity.uuid, with_processes=True)
            self._uuids[identity.uuid] = sample.details.mig_mode if sample.details else None
            self._say(Identified(identity=identity))
        self._tick()

    def _tick(self) -> None:
        self._read(frozenset(self._uuids), 0)
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._tick)

    def _read(self, uuids: frozenset[str], pass_id: int) -> None:
        readings = tuple(self._reading(uuid, pass_id) for uuid in self._uuids if uuid in uuids)
        self._say(Batch(readings=readings))

    def _reading(self, uuid: str, pass_id: int) -> Reading:
        cut_up = self._uuids[uuid] == "enabled"
        return Reading(
            sample=self._driver.sample(uuid, with_processes=True),
            pass_id=pass_id,
            instances=self._driver.instances(uuid, with_processes=True) if cut_up else (),
        )

    def _say(self, frame: FromProbe) -> None:
        self._listener.probe_said(self, frame)


def launching(clock: Callable[[], int]) -> Callable[[Spec, ProbeListener], ProbeHandle]:
    """Return what launches such probes."""
    return lambda spec, listener: InnerProbe(spec, listener, clock)


def _never(seconds: float) -> None:
    raise AssertionError(f"a call of the driver waits {seconds} s")
