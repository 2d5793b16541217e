"""Why no GPU is known at all, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from supereziod.gpu.hardware import FaultKind, Snapshot

#: What mends a driver that does not answer; of other faults the journal knows more.
DRIVER_REMEDIES: Final[Mapping[FaultKind, str]] = {
    "no_library": "Install the NVIDIA driver (it brings libnvidia-ml.so.1); no restart is needed.",
    "no_driver": "Load the NVIDIA kernel module (modprobe nvidia); no restart is needed.",
    "version_mismatch": "The driver was upgraded: reboot, or reload it with the GPUs idle.",
    "no_permission": "Let the daemon's user reach /dev/nvidia* (see the unit's DeviceAllow).",
}
_OTHER_REMEDY: Final = "See the journal; the daemon tries again by itself."


class Absence(Struct, frozen=True, kw_only=True):
    """Why there is no GPU. `remedy` is a sentence for whoever has to act.

    `passes`: nobody has to, it is over in a moment.
    """

    why: str
    remedy: str | None = None
    passes: bool = False

    @property
    def sentence(self) -> str:
        """Both, to be put after a colon."""
        return self.why if self.remedy is None else f"{self.why.rstrip('.')}. {self.remedy}"


def absence_of_gpus(snapshot: Snapshot) -> Absence | None:
    """Return why the snapshot has no GPU; None where it has one."""
    if snapshot.gpus:
        return None
    fault = snapshot.driver_fault
    if fault is not None:
        return Absence(why=fault.message, remedy=DRIVER_REMEDIES.get(fault.kind, _OTHER_REMEDY))
    if not snapshot.attached:
        return Absence(
            why="the probe is detached from the GPUs",
            remedy="Run `superezioctl gpu attach` when the work on the driver is done.",
        )
    if snapshot.ready:
        return Absence(
            why="this host has no GPUs",
            remedy="Check the seating and power of the cards (lspci -d 10de:).",
        )
    return Absence(why="no GPU has been read yet", passes=True)
