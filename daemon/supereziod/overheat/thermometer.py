"""How hot the GPUs are, read by a probe as the daemon's: a child, which may hang where we may not.

Each GPU has a ladder of its own, with the daemon's thresholds. A probe that ends is followed by
another; what does not answer is UNKNOWN, and neither CRITICAL nor cool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec.structs import replace

from supereziod.gpu.frames import (
    Batch,
    Failed,
    FromProbe,
    Identified,
    Opened,
    ProbeSpec,
)
from supereziod.gpu.hardware import HW_THERMAL_SLOWDOWN, GpuIdentity, GpuSample
from supereziod.gpu.probe_process import Launch, ProbeHandle, launch_probe
from supereziod.gpu.thermal import ThermalLadder, Thresholds
from supereziod.overheat.decision import Heat

_SECOND: Final = 1_000_000_000
_PAUSE_S: Final = 1.0
_END_WITHIN_S: Final = 2.0
_COOL: Final = frozenset({"normal", "warm"})
#: More than enter a level, as samples may be dropped where they come late.
_SAMPLES_TO_SPARE: Final = 2


class Thermometer:
    """Loop-owned. `tick` has to be called about twice a period, as long as it is open.

    `were_critical` are GPUs that are so until they have left CRITICAL and HOT by the rules.
    """

    def __init__(
        self,
        *,
        spec: ProbeSpec,
        thresholds: Callable[[str], Thresholds],
        were_critical: Collection[str] = (),
        clock: Callable[[], int] = time.monotonic_ns,
        launch: Launch = launch_probe,
    ) -> None:
        self._spec = spec
        self._thresholds = thresholds
        self._were_critical = frozenset(were_critical)
        self._clock = clock
        self._launch = launch
        self._probe: ProbeHandle | None = None
        self._leaving: ProbeHandle | None = None
        self._left = asyncio.Event()
        self._start_ns = clock()
        self._opened: Opened | None = None
        self._fault: str | None = None
        self._gpus: dict[str, _Gpu] = {}
        self.tick()

    @property
    def fault(self) -> str | None:
        """Why no GPU can be read, or None."""
        return self._fault

    @property
    def is_decided(self) -> bool:
        """Whether more samples would not make another GPU CRITICAL, as far as they can tell."""
        if self._fault is not None:
            return True
        if self._opened is None:
            return False
        listed = len(self._opened.indexes)
        return len(self._gpus) >= listed and all(gpu.is_decided for gpu in self._gpus.values())

    def heats(self) -> list[Heat]:
        """Return what is known of every GPU now, by index."""
        gpus = sorted(self._gpus.values(), key=lambda gpu: gpu.identity.index)
        return [gpu.heat() for gpu in gpus]

    def are_cool(self, uuids: Collection[str]) -> bool:
        """Tell whether these GPUs, and all others that were seen CRITICAL, admit leases again."""
        hot = {*uuids, *(uuid for uuid, gpu in self._gpus.items() if gpu.was_critical)}
        levels = {uuid: gpu.ladder.level for uuid, gpu in self._gpus.items()}
        return all(levels.get(uuid) in _COOL for uuid in hot)

    def are_cooling(self, uuids: Collection[str]) -> bool:
        """Tell whether each of these GPUs is on its way down by the last that was read of it."""
        gpus = [self._gpus.get(uuid) for uuid in uuids]
        return all(
            gpu is not None and (gpu.ladder.level in _COOL or gpu.ladder.cooling is not None)
            for gpu in gpus
        )

    def tick(self) -> None:
        """Do what has become due: notice what did not come, start a probe that is missing."""
        now_ns = self._clock()
        for gpu in self._gpus.values():
            gpu.ladder.gap(now_ns)
        if self._probe is None and now_ns >= self._start_ns:
            self._start_ns = now_ns + round(_PAUSE_S * _SECOND)
            try:
                self._probe = self._launch(replace(self._spec, since_ns=now_ns), self)
            except OSError as error:
                self._fault = f"a probe cannot be started: {error}"

    async def aclose(self) -> None:
        """Tell the probe to end, and let go of one that does not: it hangs in the driver."""
        probe, self._probe = self._probe, None
        if probe is None:
            return
        self._leaving = probe
        probe.retire()
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await self._left.wait()
        except TimeoutError:
            probe.abandon()

    # --- from the probe ---------------------------------------------------------------------

    def probe_said(self, probe: ProbeHandle, frame: FromProbe) -> None:
        """Take in a frame."""
        if probe is not self._probe:
            return
        match frame:
            case Opened():
                self._opened, self._fault = frame, None
            case Failed(fault=fault):
                self._fault = fault.message
            case Identified(identity=identity):
                self._identify(identity)
            case Batch():
                self._take(frame)
            case _:
                return

    def probe_ended(self, probe: ProbeHandle, how: str) -> None:
        """Take in that the probe is gone: `tick` starts another."""
        if probe is self._leaving:
            self._left.set()
        if probe is self._probe:
            self._probe = self._opened = None
            if self._fault is None and not self._gpus:
                self._fault = f"the probe ended before it had read a GPU ({how})"

    def _identify(self, identity: GpuIdentity) -> None:
        known = self._gpus.get(identity.uuid)
        if known is not None:
            known.identity = identity
            return
        thresholds = self._thresholds(identity.uuid)
        was_critical = identity.uuid in self._were_critical
        self._gpus[identity.uuid] = _Gpu(
            identity,
            thresholds=thresholds,
            ladder=ThermalLadder(
                thresholds=thresholds,
                period_s=self._spec.period_s,
                max_temperature_c=identity.max_temperature_c,
                resume="critical" if was_critical else "unknown",
            ),
        )

    def _take(self, batch: Batch) -> None:
        now_ns = self._clock()
        for reading in batch.readings:
            gpu = self._gpus.get(reading.sample.uuid)
            if gpu is not None:
                gpu.take(reading.sample, now_ns)
        for fault in batch.faults:
            self._blame(fault.uuid, fault.fault.message)
        for waiting in batch.waiting:
            self._blame(waiting.uuid, "a call of the driver for it does not return")

    def _blame(self, uuid: str | None, message: str) -> None:
        gpu = self._gpus.get(uuid or "")
        if gpu is not None:
            gpu.fault = message


class _Gpu:
    def __init__(
        self, identity: GpuIdentity, *, thresholds: Thresholds, ladder: ThermalLadder
    ) -> None:
        self.identity = identity
        self.ladder = ladder
        self.fault: str | None = None
        self.was_critical = False
        self._needed = thresholds.critical_enter_samples + _SAMPLES_TO_SPARE
        self._samples = 0
        self._sample: GpuSample | None = None

    @property
    def is_decided(self) -> bool:
        if self.ladder.level == "critical" or self.fault is not None:
            return True
        sample = self._sample
        # Brakes of the hardware count by their time, which is longer than a few samples.
        braking = sample is not None and (sample.throttle_mask or 0) & HW_THERMAL_SLOWDOWN
        return self._samples >= self._needed and not braking

    def take(self, sample: GpuSample, now_ns: int) -> None:
        self.fault = None
        self._sample = sample
        self._samples += 1
        self.ladder.observe(sample, now_ns)
        self.was_critical = self.was_critical or self.ladder.level == "critical"

    def heat(self) -> Heat:
        sample = self._sample
        return Heat(
            uuid=self.identity.uuid,
            label=self.identity.label,
            level=self.ladder.level,
            temperature_c=sample.temperature_c if sample is not None else None,
            margin_c=sample.margin_c if sample is not None else None,
            is_cooling=self.ladder.cooling is not None,
            fault=self.fault,
        )


def thresholds_of(
    common: Thresholds, by_gpu: Mapping[str, Thresholds]
) -> Callable[[str], Thresholds]:
    """Return which ladder a GPU has."""
    return lambda uuid: by_gpu.get(uuid, common)


def longest_look_s(spec: ProbeSpec, thresholds: Thresholds, *, open_s: float) -> float:
    """Return how long it may take until a GPU that is CRITICAL is known to be."""
    samples_s = (thresholds.critical_enter_samples + _SAMPLES_TO_SPARE) * spec.period_s
    return open_s + spec.deadline_s + max(samples_s, thresholds.critical_throttle_s)
