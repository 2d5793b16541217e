"""superezioctl gpu: what an admin does to the GPUs."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def cordon(context: Context) -> int:
    """Cordon one GPU."""
    gpu = context.arguments["gpu"]
    raw = context.call("gpu.cordon", {"gpu": gpu, "reason": context.arguments["reason"]})
    return _tell(context, raw, f"gpu {gpu} is cordoned: it gets no new leases")


def uncordon(context: Context) -> int:
    """Undo it."""
    gpu = context.arguments["gpu"]
    raw = context.call("gpu.uncordon", {"gpu": gpu})
    return _tell(context, raw, f"gpu {gpu} is not cordoned")


def detach(context: Context) -> int:
    """Stop the probe."""
    raw = context.call("gpu.detach")
    return _tell(context, raw, "the daemon has let go of the driver: `superezioctl gpu attach`")


def attach(context: Context) -> int:
    """Start the probe."""
    raw = context.call("gpu.attach")
    return _tell(context, raw, "the daemon watches the GPUs")


def _tell(context: Context, raw: bytes, sentence: str) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        context.out.line(sentence)
    return DONE


_GPU = Positional("GPU", "a UUID, the beginning of one, or an index (0:1 of a MIG instance)")

COMMANDS = {
    "gpu cordon": Command(
        cordon,
        options=[
            Option("--reason", "why, for those who wonder", metavar="TEXT", default=""),
        ],
        positionals=[_GPU],
        description="Leases that are there stay. The cordon stands until it is undone, over "
        "restarts and reboots too. For admins.",
        examples=[
            "superezioctl gpu cordon 1 --reason 'new fan'",
            "superezioctl gpu cordon MIG-2f86 --reason 'for the class'",
        ],
    ),
    "gpu uncordon": Command(
        uncordon,
        positionals=[_GPU],
        description="For admins.",
        examples=["superezioctl gpu uncordon 1"],
    ),
    "gpu detach": Command(
        detach,
        description="While it is detached the GPUs are unknown: leases stay, new ones wait. For "
        "admins.",
        examples=["superezioctl gpu detach && nvidia-smi --gpu-reset; superezioctl gpu attach"],
    ),
    "gpu attach": Command(attach, description="For admins.", examples=["superezioctl gpu attach"]),
}
