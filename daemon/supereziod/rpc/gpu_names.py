"""Which GPU is meant: a UUID, a unique beginning of one, or an index (of an instance, `0:1`).

A name of digits alone is an index, and nothing else: a mistyped one is to meet no other GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from superezio.errors import GpusUnavailableError, InvalidParamsError, NotFoundError
from supereziod.gpu.absence import absence_of_gpus
from supereziod.gpu.hardware import GpuView, Snapshot

#: Python refuses to read numbers of some thousand digits.
_MAX_INDEX_DIGITS: Final = 9
#: What a beginning of a UUID has at least, without its prefix: shorter ones are slips of the hand.
_MIN_BEGINNING: Final = 4
_PREFIXES: Final = ("gpu-", "mig-")


def find_gpu(snapshot: Snapshot, name: str) -> GpuView:
    """Return the GPU that `name` means. Raises NotFoundError, InvalidParamsError."""
    is_index = len(name) <= _MAX_INDEX_DIGITS and name.isdecimal()
    place = str(int(name)) if is_index else name
    # A MIG instance that is gone comes after the one that has its place now.
    found = [gpu for gpu in snapshot.gpus if gpu.identity.place == place]
    if found:
        return found[0]
    found = [gpu for gpu in snapshot.gpus if gpu.uuid == name]
    if not found and _is_beginning(name):
        found = [gpu for gpu in snapshot.gpus if _begins(gpu.uuid, name)]
    if len(found) == 1:
        return found[0]
    if found:
        uuids = ", ".join(gpu.uuid for gpu in found)
        raise InvalidParamsError(f"{name!r} is the beginning of several GPUs: {uuids}")
    raise _unknown(snapshot, name)


def find_units(snapshot: Snapshot, names: Iterable[str]) -> list[str]:
    """Return the UUIDs that `names` mean in a request: a GPU's, and those of its MIG instances.

    Raises NotFoundError, InvalidParamsError.
    """
    found: list[str] = []
    for name in names:
        uuid = find_gpu(snapshot, name).uuid
        parts = [gpu for gpu in snapshot.gpus if gpu.identity.mig is not None]
        found.append(uuid)
        found += [p.uuid for p in parts if p.identity.mig and p.identity.mig.parent == uuid]
    return found


def _is_beginning(name: str) -> bool:
    """Whether `name` may be the beginning of a UUID: by a prefix and more, or long enough."""
    folded = name.casefold()
    if folded.startswith(_PREFIXES):
        return folded not in _PREFIXES
    return len(name) >= _MIN_BEGINNING and not name.isdecimal()


def _begins(uuid: str, beginning: str) -> bool:
    folded = beginning.casefold()
    return uuid.casefold().startswith(folded) or _bare(uuid).startswith(folded)


def _bare(uuid: str) -> str:
    """Return what is behind the prefix."""
    folded = uuid.casefold()
    return next((folded.removeprefix(p) for p in _PREFIXES if folded.startswith(p)), folded)


def _unknown(snapshot: Snapshot, name: str) -> NotFoundError | GpusUnavailableError:
    absence = absence_of_gpus(snapshot)
    if absence is not None:
        return GpusUnavailableError(f"cannot find GPU {name!r}: {absence.sentence}")
    known = ", ".join(f"{gpu.identity.place} ({gpu.uuid})" for gpu in snapshot.gpus)
    return NotFoundError(
        f"no GPU {name!r}; there are {known}{_hint(snapshot, name)}", data={"gpu": name}
    )


def _hint(snapshot: Snapshot, name: str) -> str:
    """Say how to write the beginning of a UUID, to whoever may have meant one."""
    meant = [gpu.uuid for gpu in snapshot.gpus if _bare(gpu.uuid).startswith(name.casefold())]
    if not name or not meant:
        return ""
    end = len(meant[0]) - len(_bare(meant[0])) + len(name)
    return f"; for the UUID that begins so write {meant[0][:end]}"
