"""GPUs in trouble, and the children that try them again: one GPU, one child, growing pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

from msgspec.structs import replace

from supereziod.gpu.children import Child
from supereziod.gpu.frames import ProbeSpec, Target
from supereziod.gpu.patience import Backoff, Patience
from supereziod.gpu.probe_pool import ProbePool

_SECOND: Final = 1_000_000_000
Trouble = Literal["hung", "lost"]


class Trial:
    """One GPU in trouble. `child` tries it; once it `answered`, it can go back to the others."""

    def __init__(self, target: Target, trouble: Trouble, *, first_ns: int) -> None:
        self.target = target
        self.trouble = trouble
        self.child: Child | None = None
        self.next_ns = first_ns
        self.answered_ns: int | None = None
        self._backoff = Backoff(first_s=5.0, most_s=60.0)

    def give_up(self, now_ns: int) -> None:
        """End this attempt; the next one is some time off."""
        self.child = None
        self.answered_ns = None
        self.next_ns = now_ns + self._backoff.next_ns()


class Trials:
    """All GPUs in trouble. Loop-owned."""

    def __init__(self, *, pool: ProbePool, patience: Patience, clock: Callable[[], int]) -> None:
        self._pool = pool
        self._patience = patience
        self._clock = clock
        self._trials: dict[str, Trial] = {}

    def __iter__(self) -> Iterator[Trial]:
        return iter(tuple(self._trials.values()))

    def __contains__(self, target: Target) -> bool:
        return target.key in self._trials

    def begin(self, target: Target, trouble: Trouble) -> None:
        """Note that a GPU is in trouble, if that is new."""
        if target.key not in self._trials:
            pause_s = self._patience.lost_retry_s if trouble == "lost" else 0.0
            first_ns = self._clock() + round(pause_s * _SECOND)
            self._trials[target.key] = Trial(target, trouble, first_ns=first_ns)

    def end(self, trial: Trial) -> None:
        """Note that the main probe looks after the GPU again."""
        del self._trials[trial.target.key]
        if trial.child is not None:
            self._pool.retire(trial.child)

    def clear(self) -> None:
        """Forget all troubles."""
        for trial in self:
            self.end(trial)

    def drop(self, child: Child) -> None:
        """Take in that a probe is gone."""
        for trial in self:
            if trial.child is child:
                trial.give_up(self._clock())

    def of_child(self, child: Child) -> Trial | None:
        """Return the trial that this probe is for."""
        return next((trial for trial in self if trial.child is child), None)

    def of_gpu(self, uuid: str, index: int | None) -> Trial | None:
        """Return the trial of a GPU, which may have begun before it was identified."""
        return self._trials.get(uuid) or self._trials.get(f"index {index}")

    def to_skip(self) -> tuple[Target, ...]:
        """Return the GPUs that a probe for all of them must not touch."""
        return tuple(
            trial.target for trial in self if trial.trouble == "hung" and trial.answered_ns is None
        )

    def has_recovered(self, now_ns: int) -> bool:
        """Whether a GPU has answered its trial for long enough to go back to the others."""
        after_ns = self._patience.merge_after_s * _SECOND
        return any(
            trial.answered_ns is not None and now_ns - trial.answered_ns >= after_ns
            for trial in self
        )

    def tick(self, spec: ProbeSpec, *, main: Child | None) -> None:
        """Start the attempts that are due, and end those that lead nowhere."""
        now_ns = self._clock()
        for trial in self:
            if trial.child is None:
                if now_ns >= trial.next_ns and _may_try(trial, main):
                    self._try(trial, spec)
            elif _is_hopeless(trial, now_ns - round(self._patience.trial_s * _SECOND)):
                self._pool.retire(trial.child)
                trial.give_up(now_ns)

    def _try(self, trial: Trial, spec: ProbeSpec) -> None:
        trial.child = self._pool.spawn(replace(spec, only=trial.target))
        if trial.child is None:
            trial.give_up(self._clock())


def _may_try(trial: Trial, main: Child | None) -> bool:
    """A hung GPU is tried only when no other probe hangs on it: one stuck call is enough."""
    return trial.trouble == "lost" or (main is not None and main.skips(trial.target))


def _is_hopeless(trial: Trial, too_old_ns: int) -> bool:
    child = trial.child
    if child is None:
        return False
    if trial.answered_ns is not None:
        return bool(child.hanging)
    return child.is_settled or child.started_ns <= too_old_ns
