"""The MIG devices of a simulated card: cut out, taken away and forbidden while programs run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nvml_sim import layout

if TYPE_CHECKING:
    from nvml_sim.simulator import SimulatedGpu

NO_PERMISSION: Final = 4


class MigDevices:
    """The devices of one card, by UUID."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu

    def add(
        self,
        *,
        memory_bytes: int,
        profile: str = "1g.10gb",
        gpu_instance: int | None = None,
        compute_instance: int = 0,
        reserved_bytes: int = 0,
    ) -> str:
        """Enable MIG, cut out one more device, and return its UUID.

        It takes the first free index, and the UUID goes by its instances: what is cut out again
        in the same place has the UUID that it had. Devices of one `gpu_instance` share its memory.
        """
        raw = self._gpu.raw
        index = next(i for i, mig in enumerate(raw.mig_devices) if not mig.present)
        mig = raw.mig_devices[index]
        mig.gpu_instance = index + 1 if gpu_instance is None else gpu_instance
        mig.compute_instance = compute_instance
        number = mig.gpu_instance * 100 + compute_instance
        mig.uuid = f"MIG-51a11e57-0000-4000-{self._gpu.index:04d}-{number:012d}".encode()
        mig.name = f"{self._gpu.name} MIG {profile}".encode()
        slices = {letter: int(count) for count, letter in re.findall(r"(\d+)([cg])\.", profile)}
        mig.gpu_slices = slices["g"]
        mig.compute_slices = slices.get("c", mig.gpu_slices)
        mig.memory_total_bytes, mig.memory_reserved_bytes = memory_bytes, reserved_bytes
        mig.memory_extra_bytes = mig.rc = 0
        mig.present = 1  # last: a reader that comes now sees all of it
        self._gpu.set(mig_mode=1)
        return str(mig.uuid.decode())

    def remove(self, uuid: str) -> None:
        """Destroy a device, as an administrator does: its handles are good for nothing."""
        self.find(uuid).present = 0

    def forbid(self, uuid: str, *, rc: int = NO_PERMISSION) -> None:
        """Have all that is read of a device, but what it is called, answer `rc`; 0 mends it."""
        self.find(uuid).rc = rc

    def disable(self) -> None:
        """Turn MIG off, its devices with it."""
        for mig in self._gpu.raw.mig_devices:
            mig.present = 0
        self._gpu.set(mig_mode=0)

    def find(self, uuid: str) -> layout.Mig:
        """Return the struct of a device."""
        for mig in self._gpu.raw.mig_devices:
            if mig.present and mig.uuid == uuid.encode():
                found: layout.Mig = mig
                return found
        raise LookupError(f"cannot find MIG device {uuid!r} on {self._gpu.uuid}")

    def free_bytes(self, uuid: str) -> int:
        """What a claim on a device could get now."""
        with self._gpu.locked():
            return self.free_bytes_of(self.find(uuid))

    def free_bytes_of(self, device: layout.Mig) -> int:
        """As `free_bytes`, under the lock."""
        room = int(device.memory_total_bytes - device.memory_reserved_bytes)
        return room - int(device.memory_extra_bytes) - self._gpu.held_bytes(device.gpu_instance)

    @property
    def extra_bytes(self) -> int:
        """VRAM in use on all devices that no listed process holds."""
        devices = (mig for mig in self._gpu.raw.mig_devices if mig.present)
        return sum(int(mig.memory_extra_bytes) for mig in devices)
