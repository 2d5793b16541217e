"""A placement decision as text: what would happen on top, and a line for each GPU."""

from __future__ import annotations

import msgspec

from superezio.wire import GpuProcess, GpuProcessList, GpuReason, Placement
from superezioctl.output import Output, printed_width
from superezioctl.views.text import place, size
from superezioctl.wording import with_users

_STYLES = {"grant": "good", "wait": "warn", "never": "bad"}
#: Reasons that say by themselves how much is free, and that it is too little.
_SHORT_OF_ROOM = frozenset({"insufficient_vram", "returning"})
_NAMES_SHOWN = 3


def show(out: Output, raw: bytes, processes: bytes | None = None) -> None:
    """Print the decision, and a line for each GPU, with who uses it without a lease."""
    placement = msgspec.json.decode(raw, type=Placement)
    users = _foreign_users(processes)
    decision = out.style(placement.decision, _STYLES[placement.decision])
    out.paragraph(f"{decision}: {_top(placement)}")
    lines = [
        (
            f"GPU {place(gpu.index, gpu.mig_index)} ({_short_name(gpu)}):",
            _room(gpu, users.get(gpu.uuid, [])),
            _answer(out, gpu),
        )
        for gpu in placement.gpus
    ]
    width = max((len(gpu) for gpu, _, _ in lines), default=0)
    aligned = [f"{gpu:<{width}} {room}: {answer}" for gpu, room, answer in lines]
    if out.on_terminal and any(printed_width(line) > out.width for line in aligned):
        # They are not lines of a table any more, and have better use for the room.
        aligned = [f"{gpu} {room}: {answer}" for gpu, room, answer in lines]
    for line in aligned:
        out.paragraph(line)
    if placement.tensor_split is not None and len(placement.chosen) > 1:
        out.line(f"split: --tensor-split {placement.tensor_split}")


def _top(placement: Placement) -> str:
    """Return the decision in a few words: the lines below have the reasons."""
    if placement.decision == "grant" or placement.quota is not None or not placement.gpus:
        return with_users(placement.summary)
    need = size(placement.vram_bytes)
    if placement.split:
        over = f"{placement.count} GPUs" if placement.count > 1 else "several GPUs"
        need += f" split over {over}"
    elif placement.count > 1:
        need += f" on each of {placement.count} GPUs"
    if placement.decision == "never":
        return f"this host can never hold {need} as asked"
    return f"no room for {need} now"


def _short_name(gpu: GpuReason) -> str:
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _room(gpu: GpuReason, users: list[GpuProcess]) -> str:
    foreign = " foreign"
    if gpu.foreign_bytes and users:
        foreign += f" ({_names(users)})"
    if gpu.code in _SHORT_OF_ROOM:
        return gpu.message.replace(" foreign", foreign, 1)
    free = "overcommitted by" if gpu.free_bytes < 0 else ""
    stands = f"{free} {size(abs(gpu.free_bytes))}".strip() + ("" if free else " free")
    if gpu.foreign_bytes:
        stands += f" after {size(gpu.foreign_bytes)}{foreign}"
    return f"{stands}, needs {size(gpu.needed_bytes)}"


def _answer(out: Output, gpu: GpuReason) -> str:
    if gpu.code in _SHORT_OF_ROOM:
        return out.style("no", "bad")
    if gpu.chosen:
        return f"{out.style('yes', 'good')}, chosen ({gpu.message})"
    word = out.style("yes", "good") if gpu.admitted else out.style("no", "bad")
    return f"{word}, {gpu.message}"


def _foreign_users(raw: bytes | None) -> dict[str, list[GpuProcess]]:
    """Return the processes without a lease, by GPU, those first that use most."""
    found: dict[str, list[GpuProcess]] = {}
    if raw is not None:
        for process in msgspec.json.decode(raw, type=GpuProcessList).processes:
            if process.lease is None:
                found.setdefault(process.gpu, []).append(process)
    for users in found.values():
        users.sort(key=lambda process: (-(process.vram_bytes or 0), process.pid))
    return found


def _names(users: list[GpuProcess]) -> str:
    """Return who they are, as far as the caller may know it."""
    shown = [_name(process) for process in users[:_NAMES_SHOWN]]
    if len(users) > _NAMES_SHOWN:
        shown.append(f"and {len(users) - _NAMES_SHOWN} more")
    return ", ".join(shown)


def _name(process: GpuProcess) -> str:
    words = (process.command or "").split()
    name = words[0].rpartition("/")[2] if words else ""
    return name or process.container or process.unit or f"pid {process.pid}"
