"""superezioctl gpu: what is known of the GPUs."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional, one_of, seconds
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def list_(context: Context) -> int:
    """List all GPUs."""
    raw = context.call("gpu.list")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import gpus  # noqa: PLC0415 - for people only

        if gpus.is_empty(raw):
            gpus.show_none(context.out, context.call("health.get"))
        else:
            gpus.show_list(context.out, raw)
    return DONE


def show(context: Context) -> int:
    """Show one GPU."""
    raw = context.call("gpu.get", {"gpu": context.arguments["gpu"]})
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import gpus  # noqa: PLC0415 - for people only

        gpus.show_one(context.out, raw)
        if gpus.is_cut_up(raw):
            gpus.show_instances(context.out, raw, context.call("gpu.list"))
    return DONE


def history(context: Context) -> int:
    """Show the past of one GPU."""
    params = {"gpu": context.arguments["gpu"], "since_s": context.arguments["since"]}
    raw = context.call("gpu.history", params)
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import history as view  # noqa: PLC0415 - for people only

        gpu = context.call("gpu.get", {"gpu": context.arguments["gpu"]})
        view.show(context.out, raw, gpu, metrics=context.arguments["metric"])
    return DONE


def processes(context: Context) -> int:
    """List processes on one GPU or on all."""
    gpu = context.arguments["gpu"]
    raw = context.call("gpu.processes", None if gpu is None else {"gpu": gpu})
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import gpus  # noqa: PLC0415 - for people only

        gpus.show_processes(context.out, raw, context.call("gpu.list"))
    return DONE


_GPU = Positional(
    "GPU", "an index (0:1 of a MIG instance), a UUID, or the beginning of one (4 characters)"
)

COMMANDS = {
    "gpu list": Command(
        list_,
        description="LEASABLE is what a new lease could get now: total VRAM less the driver's "
        "part, what leases hold and what other programs use. It is 0 on a GPU that admits nothing; "
        "STATE says why. A GPU that MIG cuts up is leased by its instances, which stand under it. "
        "A terminal that is too narrow for all columns gets those without which the rest is clear.",
        examples=[
            "superezioctl gpu list",
            "superezioctl --json gpu list | jq -r '.gpus[] | [.uuid, .temperature_c] | @tsv'",
        ],
    ),
    "gpu show": Command(
        show,
        positionals=[_GPU],
        description="What a card or its driver does not tell is shown as a dash; in JSON it is "
        "null.",
        examples=[
            "superezioctl gpu show 0",
            "superezioctl gpu show GPU-5ed2",
            "superezioctl gpu show 0:1",
        ],
    ),
    "gpu history": Command(
        history,
        options=[
            Option(
                "--since",
                "how far back to go",
                metavar="DURATION",
                convert=seconds,
                default=900.0,
            ),
            Option(
                "--metric",
                "only this: temperature, power, utilisation or vram",
                metavar="METRIC",
                convert=one_of("temperature", "power", "utilisation", "vram"),
                repeat=True,
            ),
        ],
        positionals=[_GPU],
        description="Draws a curve for each metric, as wide as the terminal: its unit and figures "
        "are above it, and below it the time of day, here. There is a value for "
        "each second of the last 15 minutes, and for each 15 seconds of the last 24 hours. With "
        "--json it is the values, of all metrics.",
        examples=[
            "superezioctl gpu history 0",
            "superezioctl gpu history 1 --since 6h --metric temperature --metric power",
        ],
    ),
    "gpu processes": Command(
        processes,
        positionals=[Positional("GPU", f"only those on this one: {_GPU.summary}", optional=True)],
        description="Users, commands, units and containers of other users are shown to admins "
        "only.",
        examples=["superezioctl gpu processes", "superezioctl gpu processes 0"],
    ),
}
