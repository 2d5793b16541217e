"""What NVML's answers mean: codes, field values and process lists, without calling NVML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from supereziod.gpu.hardware import Fault, FaultKind, ProcessType, ProcessUse

Handle: TypeAlias = Any  # pynvml's pointers and structs are not typed
NvmlError: TypeAlias = Any
FieldValue: TypeAlias = Any
ProcessInfo: TypeAlias = Any

UNINITIALIZED: Final = 1
INVALID_ARGUMENT: Final = 2
NO_PERMISSION: Final = 4
NOT_FOUND: Final = 6
INSUFFICIENT_SIZE: Final = 7
TIMEOUT: Final = 10
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15

#: The card, or this driver, has no such value, or not for us: it is null, and nothing is wrong.
ABSENT: Final = frozenset(
    {
        INVALID_ARGUMENT,  # how old drivers refuse a sensor, clock or counter they do not know
        3,  # not supported
        NO_PERMISSION,
        FUNCTION_NOT_FOUND,
        14,  # corrupted infoROM: power, energy and ECC are kept there
        21,  # no data
        22,  # not with ECC on
        25,  # struct version not known
        26,  # deprecated
        27,  # not ready
    }
)
#: Whatever was asked for, this is not about the value.
FATAL: Final[Mapping[int, tuple[FaultKind, str]]] = {
    UNINITIALIZED: ("no_driver", "NVML is not initialised"),
    NOT_FOUND: ("gpu_lost", "the driver does not know the GPU any more"),
    9: ("no_driver", "the NVIDIA driver is not loaded"),
    12: ("no_library", "libnvidia-ml.so.1 is not installed"),
    GPU_IS_LOST: ("gpu_lost", "the GPU has fallen off the bus"),
    16: ("gpu_lost", "the GPU needs a reset before it can be used again"),
    18: ("version_mismatch", "the driver was replaced: its version is not the NVML library's"),
    28: ("gpu_lost", "the driver does not know the GPU any more"),
}
_OF_THE_DRIVER: Final[frozenset[FaultKind]] = frozenset(
    {"no_driver", "no_library", "version_mismatch"}
)

#: The member of NVML's value union by the type that the field says it has.
_UNION_MEMBERS: Final = {
    0: "dVal",
    1: "uiVal",
    2: "ulVal",
    3: "ullVal",
    4: "sllVal",
    5: "siVal",
    6: "usVal",
}
_PID_MAX: Final = 1 << 22  # the kernel's own limit on 64 bit
_TYPES: Final[dict[frozenset[str], ProcessType]] = {
    frozenset("C"): "C",
    frozenset("G"): "G",
    frozenset("M"): "M",
    frozenset("CG"): "C+G",
    frozenset("CM"): "M+C",
    frozenset("GM"): "C+G",  # an MPS client computes
    frozenset("CGM"): "M+C",
}


@dataclass(frozen=True, slots=True)
class NvmlGpu:
    """A GPU as NVML is asked about it, and what its margin is counted from.

    `mig_index` is that of a MIG instance on the GPU. Codes in `absent` say that it has no such
    value.
    """

    handle: Handle
    uuid: str | None
    index: int
    slowdown_temperature_c: int | None = None
    tlimit_slowdown_c: int | None = None
    mig_index: int | None = None
    absent: frozenset[int] = ABSENT

    @property
    def label(self) -> str:
        """What messages call it."""
        if self.mig_index is None:
            return f"GPU {self.index}"
        return f"MIG instance {self.index}:{self.mig_index}"


class Memory(NamedTuple):
    """VRAM in bytes. Without `reserved`, `used` includes it."""

    total: int | None
    used: int | None
    free: int | None
    reserved: int | None


def to_fault(
    code: int, what: str, text: str, *, uuid: str | None = None, index: int | None = None
) -> Fault:
    """Return the fault that `code` is, met while trying to `what`."""
    kind, reason = FATAL.get(code, ("unknown", f"{text} (NVML {code})"))
    if code == NO_PERMISSION:
        kind, reason = "no_permission", "no permission to use the NVIDIA device nodes"
    message = f"cannot {what}: {reason}"
    if kind in _OF_THE_DRIVER:
        return Fault(kind=kind, message=message)
    return Fault(kind=kind, message=message, uuid=uuid, index=index)


def field_number(field: FieldValue) -> int | float | None:
    """Return what a field value holds; None if that field failed or has a type we do not know.

    The other members of the union, and a failed field's, read as plausible garbage.
    """
    member = _UNION_MEMBERS.get(field.valueType)
    if field.nvmlReturn != 0 or member is None:
        return None
    number: int | float = getattr(field.value, member)
    return number


def merge_processes(
    lists: Mapping[Literal["C", "G", "M"], Iterable[ProcessInfo]], *, vram_total_bytes: int | None
) -> tuple[ProcessUse, ...]:
    """Merge NVML's lists by pid, in pid order: a process in two lists holds its VRAM once.

    Its VRAM is the largest that a list has for it, and None if no list knows. Entries that cannot
    be (some R535 drivers shift their structs) are dropped, as is VRAM beyond the card's.
    """
    letters: dict[int, set[str]] = {}
    vram: dict[int, int | None] = {}
    for letter, entries in lists.items():
        for entry in entries:
            pid, used = entry.pid, entry.usedGpuMemory
            if not 0 < pid <= _PID_MAX:
                continue
            if used is not None and vram_total_bytes is not None and used > vram_total_bytes:
                used = None
            letters.setdefault(pid, set()).add(letter)
            known = vram.get(pid)
            vram[pid] = used if known is None else max(known, used or 0)
    return tuple(
        ProcessUse(pid=pid, type=_TYPES[frozenset(letters[pid])], vram_bytes=vram[pid])
        for pid in sorted(vram)
    )
