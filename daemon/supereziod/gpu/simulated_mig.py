"""The MIG instances of a simulated card: what it is cut into, and a pass of each by its claims."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from msgspec import Struct

from supereziod.gpu.claims import Card
from supereziod.gpu.hardware import Fault, GpuSample, InstanceReading, MigInstance, ProcessUse
from supereziod.gpu.mig_sizes import RESERVED_BYTES, MigSize, mig_size
from supereziod.gpu.profiles import Profile

_FORBIDDEN = "no permission to read MIG: /dev/nvidia-caps is closed to the daemon (simulated)"


class Holding(Struct, frozen=True, kw_only=True):
    """What claims take of one card or instance."""

    used_bytes: int
    processes: tuple[ProcessUse, ...]


class SimulatedInstance(Struct, frozen=True, kw_only=True):
    """One instance. Cut out again at the same index and size, it has the UUID that it had."""

    uuid: str
    index: int
    size: MigSize

    @property
    def usable_bytes(self) -> int:
        """The VRAM that processes can get."""
        return self.size.vram_bytes - RESERVED_BYTES


def cut(slot: int, profile: Profile, sizes: Sequence[str]) -> list[SimulatedInstance]:
    """Return the instances of the card in a slot that is cut into these sizes."""
    return [
        SimulatedInstance(
            uuid=_uuid(f"{slot} {profile.name} {index} {size}"), index=index, size=mig_size(size)
        )
        for index, size in enumerate(sizes)
    ]


def as_cards(slot: int, instances: Sequence[SimulatedInstance]) -> list[Card]:
    """Return the instances as stand-ins see them."""
    return [Card(each.uuid, slot, each.usable_bytes, each.index) for each in instances]


def read_instance(
    instance: SimulatedInstance,
    *,
    gpu_uuid: str,
    gpu_name: str,
    now_ns: int,
    holding: Callable[[str], Holding],
    forbidden: bool,
    full: bool,
) -> InstanceReading:
    """Return what a reading of its card finds of an instance."""
    return InstanceReading(
        uuid=instance.uuid,
        name=f"{gpu_name} MIG {instance.size.profile}",
        instance=MigInstance(
            parent=gpu_uuid,
            index=instance.index,
            gpu_instance=instance.index + 1,
            compute_instance=0,
            profile=instance.size.profile,
        ),
        sample=None if forbidden else _sample(instance, holding(instance.uuid), now_ns, full=full),
        fault=Fault(kind="no_permission", message=_FORBIDDEN, uuid=instance.uuid)
        if forbidden
        else None,
    )


def _sample(instance: SimulatedInstance, held: Holding, now_ns: int, *, full: bool) -> GpuSample:
    return GpuSample(
        uuid=instance.uuid,
        taken_ns=now_ns,
        vram_total_bytes=instance.size.vram_bytes,
        vram_used_bytes=held.used_bytes,
        vram_free_bytes=instance.usable_bytes - held.used_bytes,
        vram_driver_reserved_bytes=RESERVED_BYTES,
        utilization_core_percent=None,
        utilization_memory_percent=None,
        temperature_c=None,
        margin_c=None,
        margin_source=None,
        power_w=None,
        throttle_mask=None,
        processes=held.processes if full else None,
    )


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
    return "MIG-" + "-".join(parts)
