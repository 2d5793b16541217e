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

        placement.show(context.out, raw)
    return DONE


COMMANDS = {
    "explain": Command(
        explain,
        options=PLACEMENT,
        description="Nothing is leased. The exit code is 0 whatever the decision is.",
        examples=[
            "superezioctl explain --vram 8GiB",
            "superezioctl explain --vram 5GiB --gpus 2 --policy spread",
        ],
    )
}
