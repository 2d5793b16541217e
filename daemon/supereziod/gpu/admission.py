"""Whether a GPU admits leases at all, before anybody asks how much VRAM is free on it."""

from __future__ import annotations

from superezio.wire import FitnessState, GpuStatus, Level
from supereziod.gpu.hardware import Block, GpuDetails, GpuSample


def block_of(
    *,
    status: GpuStatus,
    status_reason: str | None,
    answers_late: bool,
    level: Level,
    fitness: FitnessState,
    fitness_reason: str,
    cordon_reason: str | None,
    last_pass: GpuSample | None,
    details: GpuDetails | None,
) -> Block | None:
    """Return why the GPU admits nothing, the weightiest reason first; None if it admits."""
    if status != "ok":
        return Block(code=status, message=status_reason or f"the GPU is {status}")
    if last_pass is None or answers_late:
        return Block(code="settling", message="it has not answered the last pass yet")
    block = _block_of_level(level)
    if block is not None:
        return block
    if fitness == "quarantined":
        return Block(code="quarantined", message=f"it is quarantined: {fitness_reason}")
    if cordon_reason is not None:
        why = f": {cordon_reason}" if cordon_reason else ""
        return Block(code="cordoned", message=f"it is cordoned{why}")
    return _block_of_mode(details)


def _block_of_level(level: Level) -> Block | None:
    if level in {"hot", "critical"}:
        return Block(code=level, message=f"it is {level}: no new leases until it is cooler")
    if level == "unknown":
        return Block(code="unknown", message="its temperature is not known")
    return None


def _block_of_mode(details: GpuDetails | None) -> Block | None:
    # EXCLUSIVE_PROCESS is no block: whether it is taken depends on the leases too.
    if details is None:
        return None
    if details.compute_mode == "prohibited":
        return Block(code="compute_prohibited", message="its compute mode is PROHIBITED")
    if details.mig_mode == "enabled":
        return Block(code="mig_enabled", message="MIG is on: the whole GPU cannot be leased")
    if details.mig_mode == "no_permission":
        return Block(code="mig_enabled", message="whether MIG is on may not be read")
    return None
