"""superezioctl gpu: what an admin does to the GPUs."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def cordon(context: Context) -> int:
    """Cordon one GPU."""
    params = {"gpu": context.arguments["gpu"], "reason": context.arguments["reason"]}
    raw = context.call("gpu.cordon", params)
    return _tell_change(context, raw, "is cordoned: it gets no new leases")


def uncordon(context: Context) -> int:
    """Undo it."""
    raw = context.call("gpu.uncordon", {"gpu": context.arguments["gpu"]})
    return _tell_change(context, raw, "is not cordoned")


def detach(context: Context) -> int:
    """Stop the probe."""
    raw = context.call("gpu.detach")
    return _tell(context, raw, "the daemon has let go of the driver: `superezioctl gpu attach`")


def attach(context: Context) -> int:
    """Start the probe."""
    raw = context.call("gpu.attach")
    return _tell(context, raw, "the daemon watches the GPUs")


def _tell_change(context: Context, raw: bytes, what: str) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import gpus  # noqa: PLC0415 - for people only

        gpus.show_change(context.out, raw, what, typed=context.arguments["gpu"])
    return DONE


def _tell(context: Context, raw: bytes, sentence: str) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        context.out.line(sentence)
    return DONE


_GPU = Positional(
    "GPU", "an index (0:1 of a MIG instance), a UUID, or the beginning of one (4 characters)"
)

COMMANDS = {
    "gpu cordon": Command(
        cordon,
        options=[
            Option("--reason", "why, for those who wonder", metavar="TEXT", default=""),
        ],
        positionals=[_GPU],
        description="Leases that are there stay. The cordon stands until it is undone, over "
        "restarts and reboots too, unless health has state_not_kept. For admins.",
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
