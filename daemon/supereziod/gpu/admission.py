"""Whether a GPU, or a MIG instance, admits leases at all, however much VRAM is free on it."""

from __future__ import annotations

from typing import Final

from superezio.wire import FitnessState, GpuStatus, Level
from supereziod.gpu.hardware import Block, Cooling, Fault, GpuDetails, GpuSample

#: What is said of a whole GPU and not of its instances.
_OF_THE_WHOLE: Final = frozenset({"mig_enabled", "no_permission"})


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
    cooling: Cooling | None = None,
) -> Block | None:
    """Return why the GPU admits nothing, the weightiest reason first; None if it admits."""
    if status != "ok":
        return Block(code=status, message=status_reason or f"the GPU is {status}")
    if last_pass is None or answers_late:
        return Block(code="settling", message="it has not answered the last pass yet")
    block = _block_of_level(level, cooling)
    if block is not None:
        return block
    if fitness == "quarantined":
        return Block(code="quarantined", message=f"it is quarantined: {fitness_reason}")
    return _block_of_cordon(cordon_reason) or _block_of_mode(details)


def block_of_instance(
    *,
    gpu_block: Block | None,
    status: GpuStatus,
    fault: Fault | None,
    cordon_reason: str | None,
    last_pass: GpuSample | None,
    details: GpuDetails | None,
    shares_memory: bool,
) -> Block | None:
    """Return why a MIG instance admits nothing.

    What keeps leases off its GPU keeps them off the instance, but that the GPU is cut up. One that
    `shares_memory` with another compute instance has no VRAM of its own that could be promised.
    """
    if gpu_block is not None and gpu_block.code not in _OF_THE_WHOLE:
        return Block(code=gpu_block.code, message=f"its GPU admits nothing: {gpu_block.message}")
    if status != "ok":
        why = fault.message if fault is not None else "it is not there any more"
        forbidden = fault is not None and fault.kind == "no_permission"
        return Block(code="no_permission" if forbidden else status, message=why)
    if last_pass is None:
        return Block(code="settling", message="no pass has found it yet")
    if shares_memory:
        return Block(
            code="mig_shared",
            message="it is one of several compute instances that share one memory",
        )
    return _block_of_cordon(cordon_reason) or _block_of_compute_mode(details)


def _block_of_cordon(reason: str | None) -> Block | None:
    if reason is None:
        return None
    why = f": {reason}" if reason else ""
    return Block(code="cordoned", message=f"it is cordoned{why}")


def _block_of_level(level: Level, cooling: Cooling | None) -> Block | None:
    if level in {"hot", "critical"}:
        until = "it is cooler"
        if cooling is not None:
            until = f"it has stayed cool for {cooling.closed_s:.0f} s more"
        return Block(code=level, message=f"it is {level}: no new leases until {until}")
    if level == "unknown":
        return Block(code="unknown", message="its temperature is not known")
    return None


def _block_of_mode(details: GpuDetails | None) -> Block | None:
    mig_mode = None if details is None else details.mig_mode
    prohibited = _block_of_compute_mode(details)
    if prohibited is not None:
        return prohibited
    if mig_mode == "enabled":
        return Block(
            code="mig_enabled", message="MIG is on: its instances can be leased, the whole cannot"
        )
    if mig_mode == "no_permission":
        return Block(code="no_permission", message="whether MIG is on may not be read")
    return None


def _block_of_compute_mode(details: GpuDetails | None) -> Block | None:
    # EXCLUSIVE_PROCESS is no block: whether it is taken depends on the leases too.
    if details is not None and details.compute_mode == "prohibited":
        return Block(code="compute_prohibited", message="its compute mode is PROHIBITED")
    return None
