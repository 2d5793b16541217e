"""superezioctl health."""

from __future__ import annotations

from superezioctl.arguments import Command, Option
from superezioctl.exit_codes import DONE, UNHEALTHY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def health(context: Context) -> int:
    """Print the verdict; unhealthy is an exit code of its own."""
    raw = context.call("health.get")
    if context.out.json:
        context.out.document(raw)
        # Members have fixed names, but not a fixed order or spacing.
        import json  # noqa: PLC0415 - few commands read JSON themselves

        verdict = json.loads(raw)["verdict"]
    else:
        from superezioctl.views import health as view  # noqa: PLC0415 - for people only

        verdict = view.show(context.out, raw, every_check=context.arguments["all"])
    return UNHEALTHY if verdict == "unhealthy" else DONE


COMMANDS = {
    "health": Command(
        health,
        options=[Option("--all", "list every check, also those that pass")],
        description=(
            "The exit code is 3 when the verdict is unhealthy, and 0 when it is healthy or "
            "degraded: a degraded host works, and the reasons say what is missing."
        ),
        examples=[
            "superezioctl health",
            "superezioctl health --all",
            "superezioctl --json health | jq -r .verdict",
        ],
    )
}
