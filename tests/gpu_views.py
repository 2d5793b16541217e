"""Builds what the monitor would show of a GPU, from the few figures that a test is about."""

from __future__ import annotations

from collections.abc import Mapping

from supereziod.gpu.hardware import (
    Block,
    GpuDetails,
    GpuIdentity,
    GpuSample,
    GpuView,
    ProcessUse,
    Snapshot,
)

GIB = 1 << 30


class FakeClock:
    """A monotonic clock that a test turns."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def a_pass(
    uuid: str,
    *,
    taken_ns: int,
    total: int | None,
    used: int | None,
    processes: Mapping[int, int | None],
    driver_reserved: int | None = 0,
    utilization: int | None = 0,
    margin: int | None = 30,
    listed: bool = True,
) -> GpuSample:
    """Return a sample with processes (bytes by pid); `listed`: the driver names them at all."""
    return GpuSample(
        uuid=uuid,
        taken_ns=taken_ns,
        vram_total_bytes=total,
        vram_used_bytes=used,
        vram_free_bytes=None if total is None or used is None else total - used,
        vram_driver_reserved_bytes=driver_reserved,
        utilization_core_percent=utilization,
        utilization_memory_percent=None,
        temperature_c=50,
        margin_c=margin,
        margin_source="threshold",
        power_w=None,
        throttle_mask=0,
        processes=tuple(
            ProcessUse(pid=pid, type="C", vram_bytes=size) for pid, size in processes.items()
        ),
        processes_listed=listed,
    )


def a_view(
    uuid: str,
    *,
    last_pass: GpuSample | None,
    total: int | None = None,
    index: int = 0,
    name: str = "NVIDIA GeForce RTX 3060",
    block: Block | None = None,
    details: GpuDetails | None = None,
) -> GpuView:
    """Return a healthy GPU whose newest sample is its last pass."""
    if total is None and last_pass is not None:
        total = last_pass.vram_total_bytes
    return GpuView(
        identity=GpuIdentity(
            uuid=uuid,
            index=index,
            pci_bus_id=f"00000000:{index + 1:02X}:00.0",
            name=name,
            compute_capability="8.6",
            vram_total_bytes=total,
            slowdown_temperature_c=93,
            shutdown_temperature_c=98,
            max_temperature_c=90,
            memory_max_temperature_c=None,
        ),
        status="ok",
        status_reason=None,
        sample=last_pass,
        last_pass=last_pass,
        details=details,
        level="normal",
        fitness="healthy",
        cordoned=False,
        cordon_reason=None,
        block=block,
    )


def a_snapshot(*views: GpuView, taken_ns: int = 0) -> Snapshot:
    """Return a snapshot of a host with an answering driver."""
    return Snapshot(
        taken_ns=taken_ns,
        ready=True,
        attached=True,
        driver=None,
        driver_fault=None,
        gpus=views,
    )
