"""All that is known of one GPU now: its readings, its ladder, its fitness, its past."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from superezio.wire import GpuHistory, GpuStatus, Level
from supereziod.gpu.admission import block_of
from supereziod.gpu.fitness import Fitness
from supereziod.gpu.hardware import Fault, GpuDetails, GpuIdentity, GpuSample, GpuView
from supereziod.gpu.history import History
from supereziod.gpu.thermal import ThermalLadder

_SECOND: Final = 1_000_000_000


class Surroundings(Struct, frozen=True, kw_only=True):
    """What holds for all GPUs alike when one is judged."""

    attached: bool
    driver_fault: Fault | None


class GpuTrack:
    """One GPU. Changed by the monitor alone."""

    def __init__(self, identity: GpuIdentity, *, ladder: ThermalLadder, fitness: Fitness) -> None:
        self.identity = identity
        self.ladder = ladder
        self.fitness = fitness
        self.history = History()
        self.sample: GpuSample | None = None
        self.last_pass: GpuSample | None = None
        self.details: GpuDetails | None = None
        self.fault: Fault | None = None
        self.waiting_since_ns: int | None = None
        self.answers_late = False
        self.unanswered: tuple[int, int] | None = None
        self.cordon_reason: str | None = None
        self.status: GpuStatus = "unknown"
        self.status_reason: str | None = "it has not been read yet"
        self._trusted_from_ns = 0
        # What was told last: a GPU that answers from its first reading on is no news.
        self.told_status: GpuStatus = "ok"
        self.told_level: Level | None = None

    @property
    def uuid(self) -> str:
        """The UUID."""
        return self.identity.uuid

    @property
    def label(self) -> str:
        """What people call it."""
        return self.identity.label

    def past(self, *, since_s: float, now_ns: int) -> GpuHistory:
        """Return the last `since_s` seconds."""
        return self.history.query(self.uuid, since_s=since_s, now_ns=now_ns)

    def is_worth_waiting_for(self, *, for_all: bool) -> bool:
        """Whether a pass waits for it: it answers, as far as is known; late ones if `for_all`."""
        return self.status == "ok" and (for_all or not self.answers_late)

    def ask(self, pass_id: int, now_ns: int) -> None:
        """Note that a pass was asked for; the oldest one unanswered counts."""
        if self.unanswered is None:
            self.unanswered = pass_id, now_ns

    def take(self, sample: GpuSample, pass_id: int, now_ns: int) -> bool:
        """Take in a reading; False if it is older than what is known."""
        if self.unanswered is not None:
            asked_id, asked_ns = self.unanswered
            is_later = sample.processes is not None and sample.taken_ns > asked_ns
            if pass_id >= asked_id or is_later:
                self.unanswered = None
                self.answers_late = False
            elif sample.taken_ns <= asked_ns:
                # It was being read when the pass was asked for, which begins only now.
                self.unanswered = asked_id, now_ns
        if self.sample is not None and sample.taken_ns <= self.sample.taken_ns:
            return False
        self.sample = sample
        self.waiting_since_ns = None
        self.fault = None
        if sample.processes is not None:
            self.last_pass = sample
            self.details = sample.details
        self.history.add(sample)
        return True

    def forget_calls(self, now_ns: int) -> None:
        """The probe that the calls were out in is gone: what it read says nothing of now."""
        self._trusted_from_ns = now_ns
        self.waiting_since_ns = None
        self.unanswered = None
        self.answers_late = False

    def judge(
        self, now_ns: int, *, around: Surroundings, stale_ns: int, deadline_ns: int
    ) -> tuple[GpuStatus, str | None]:
        """Return the status that holds now, and why."""
        if not around.attached:
            return "detached", "the probe is detached: superezioctl gpu attach brings it back"
        if around.driver_fault is not None:
            return "unknown", f"no driver: {around.driver_fault.message}"
        if self.fault is not None and self.fault.kind == "gpu_lost":
            return "lost", self.fault.message
        silence = self._silence(now_ns, stale_ns=stale_ns, deadline_ns=deadline_ns)
        return ("ok", None) if silence is None else ("unknown", silence)

    def _silence(self, now_ns: int, *, stale_ns: int, deadline_ns: int) -> str | None:
        """Return why nothing fresh is known of the GPU, or None if something is."""
        if self.fault is not None:
            return self.fault.message
        if self.waiting_since_ns is not None:
            return "a call of the driver for it does not return"
        if self.sample is None or self.sample.taken_ns <= self._trusted_from_ns:
            return "it has not been read yet"
        if now_ns - self.sample.taken_ns >= stale_ns:
            return f"no fresh sample for {stale_ns / _SECOND:g} s"
        if self.unanswered is not None and now_ns - self.unanswered[1] >= deadline_ns:
            return f"a pass was not answered within {deadline_ns / _SECOND:g} s"
        return None

    def view(self) -> GpuView:
        """Return what the rest of the daemon sees."""
        return GpuView(
            identity=self.identity,
            status=self.status,
            status_reason=self.status_reason,
            sample=self.sample,
            last_pass=self.last_pass,
            details=self.details,
            level=self.ladder.level,
            fitness=self.fitness.state,
            cordoned=self.cordon_reason is not None,
            cordon_reason=self.cordon_reason,
            block=block_of(
                status=self.status,
                status_reason=self.status_reason,
                answers_late=self.answers_late,
                level=self.ladder.level,
                fitness=self.fitness.state,
                fitness_reason=self.fitness.reason,
                cordon_reason=self.cordon_reason,
                last_pass=self.last_pass,
                details=self.details,
                cooling=self.ladder.cooling,
            ),
            cooling=self.ladder.cooling,
        )


def is_placeholder(track: GpuTrack) -> bool:
    """Whether it stands for a GPU that is not identified."""
    return track.uuid == unidentified(track.identity.index).uuid


def unidentified(index: int) -> GpuIdentity:
    """Return what stands for a GPU that hung before it could be told which one it is."""
    return GpuIdentity(
        uuid=f"unidentified-{index}",
        index=index,
        pci_bus_id="",
        name="unidentified GPU",
        compute_capability=None,
        vram_total_bytes=None,
        slowdown_temperature_c=None,
        shutdown_temperature_c=None,
        max_temperature_c=None,
        memory_max_temperature_c=None,
    )
