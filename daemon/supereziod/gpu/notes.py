"""How GPUs were, in the few figures that a flight record has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from superezio.flight.records import GpuNote
from supereziod.gpu.hardware import GpuView, Snapshot

#: Figures of more GPUs than this would not fit into a record.
_MAX_GPUS: Final = 16


def gpu_notes(
    snapshot: Callable[[], Snapshot], clock: Callable[[], int]
) -> Callable[[Sequence[str] | None], list[GpuNote]]:
    """Return what tells how the GPUs with some UUIDs are now, or all of them."""

    def notes(uuids: Sequence[str] | None) -> list[GpuNote]:
        now_ns = clock()
        wanted = [gpu for gpu in snapshot().gpus if uuids is None or gpu.uuid in uuids]
        return [_note(gpu, now_ns) for gpu in wanted[:_MAX_GPUS]]

    return notes


def _note(gpu: GpuView, now_ns: int) -> GpuNote:
    sample = gpu.sample
    identity = gpu.identity
    return GpuNote(
        uuid=gpu.uuid,
        index=identity.index,
        temperature_c=None if sample is None else sample.temperature_c,
        margin_c=None if sample is None else sample.margin_c,
        vram_used_bytes=None if sample is None else sample.vram_used_bytes,
        vram_total_bytes=identity.vram_total_bytes,
        utilization_core_percent=None if sample is None else sample.utilization_core_percent,
        age_ms=-1 if sample is None else (now_ns - sample.taken_ns) // 1_000_000,
    )
