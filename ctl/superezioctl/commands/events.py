"""superezioctl events: follow what changes."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, positive, whole
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

#: The types there are, for a shell to complete; a newer daemon may have more.
TYPES = (
    "daemon.started", "daemon.stopping", "config.reloaded", "config.refused", "health.changed",
    "host.resumed", "watchdog.withheld", "watchdog.resumed", "watchdog.restarted",
    "connection.dropped", "driver.found", "driver.lost", "probe.started", "probe.lost",
    "probe.stuck", "probe.detached", "probe.attached", "gpu.status", "gpu.level", "gpu.fitness",
    "gpu.xid", "gpu.cordoned", "gpu.uncordoned", "gpu.overcommitted", "lease.queued",
    "lease.position", "lease.cancelled", "lease.expired", "lease.granted", "lease.active",
    "lease.grown", "lease.attached", "lease.orphaned", "lease.draining", "lease.acknowledged",
    "lease.refused", "lease.kept", "lease.released", "lease.lost", "lease.overrun", "lease.idle",
    "lease.unreturned",
)  # fmt: skip
#: The beginnings that stand for several.
FAMILIES = tuple(dict.fromkeys(f"{name.partition('.')[0]}." for name in TYPES))


def events(context: Context) -> int:
    """Print events as they come, over restarts of the daemon too."""
    from superezioctl.views import events as view  # noqa: PLC0415 - imports the typed client

    arguments = context.arguments
    places = view.Places(context)
    with view.follow(context, types=arguments["type"], replay=arguments["replay"]) as stream:
        for number, notification in enumerate(stream, start=1):
            view.show(context.out, notification, places)
            if number == arguments["count"]:
                break
    return DONE


COMMANDS = {
    "events": Command(
        events,
        options=[
            Option(
                "--type",
                "only these: a name, or the beginning of names with its dot, such as lease.",
                metavar="TYPE",
                repeat=True,
                offers=(*FAMILIES, *TYPES),
            ),
            Option(
                "--replay",
                "begin with so many past events",
                metavar="N",
                convert=whole,
                default=0,
            ),
            Option("--count", "end after so many", metavar="N", convert=positive),
        ],
        description="Ends with Ctrl-C. When the daemon restarts it is waited for. Events that "
        "were lost because they were not read in time are counted. With --json each line has "
        "`event` and `lost`.",
        examples=[
            "superezioctl events",
            "superezioctl events --type lease. --type health. --replay 20",
            "superezioctl --json events --type gpu.level | jq .event.message",
        ],
    )
}
