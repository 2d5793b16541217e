"""superezioctl logs: what was logged of a request, a lease or a GPU."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, UsageError, positive
from superezioctl.exit_codes import DONE
from superezioctl.lease_ids import lease_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def logs(context: Context) -> int:
    """Read the journal where that is allowed, and the daemon's own events elsewhere."""
    arguments = context.arguments
    wanted = {
        field: arguments[field]
        for field in ("correlation_id", "lease", "gpu")
        if arguments[field] is not None
    }
    if len(wanted) > 1:
        raise UsageError("choose one of --correlation-id, --lease and --gpu")
    if arguments["audit"]:
        wanted["audit"] = "1"
    from superezioctl.views import logs as view  # noqa: PLC0415 - starts processes

    view.show(context, wanted, lines=arguments["lines"], follow=arguments["follow"])
    return DONE


COMMANDS = {
    "logs": Command(
        logs,
        options=[
            Option(
                "--lease",
                "of this lease: its id, or the beginning of it",
                metavar="LEASE",
                convert=lease_id,
            ),
            Option("--gpu", "of this GPU: a UUID, or what gpu show takes", metavar="GPU"),
            Option("--audit", "administrative acts alone: who did what, or was refused"),
            Option(
                "--lines",
                "how many of the newest",
                metavar="N",
                short="-n",
                convert=positive,
                default=200,
            ),
            Option("--follow", "go on with what is logged from now on", short="-f"),
        ],
        description="--correlation-id ID asks for all that was logged of one request.\n\nThe "
        "journal has everything, for root and the groups adm and systemd-journal. To others, and "
        "where the daemon does not run under systemd, the daemon tells the events it remembers. "
        "Of administrative acts the journal alone has the records.",
        examples=[
            "superezioctl logs --correlation-id 5c1e",
            "superezioctl logs --gpu 0 -n 50",
            "superezioctl logs --lease 3f2a --follow",
            "superezioctl logs --audit",
        ],
    )
}
