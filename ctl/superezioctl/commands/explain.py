"""superezioctl explain: a decision that is not carried out."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE
from superezioctl.placement_options import PLACEMENT, placement_params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def explain(context: Context) -> int:
    """Print the decision, and the reason of every GPU."""
    raw = context.call("placement.explain", placement_params(context.arguments))
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import placement  # noqa: PLC0415 - for people only

        placement.show(context.out, raw, _processes(context))
    return DONE


def _processes(context: Context) -> bytes | None:
    """Return who is on the GPUs, to name what is foreign; an older answer than the placement's."""
    from superezio.errors import SuperezioError  # noqa: PLC0415 - for people only

    try:
        return context.call("gpu.processes")
    except SuperezioError:
        return None  # the figures stand without the names


COMMANDS = {
    "explain": Command(
        explain,
        options=PLACEMENT,
        description="Nothing is leased. The exit code is 0 whatever the decision is.\n\n"
        "On top is what `superezioctl run` would be answered now, and below a line for each GPU: "
        "what is free, what programs without a lease use (foreign, and whose), and yes or no.",
        examples=[
            "superezioctl explain --vram 8GiB",
            "superezioctl explain --vram 5GiB --gpus 2 --policy spread",
            "superezioctl explain --vram 20GiB --split --min-compute-capability 8.0",
        ],
    )
}
