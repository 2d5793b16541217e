"""superezioctl events: follow what changes."""

from __future__ import annotations

from itertools import islice

from superezioctl.arguments import Command, Option, UsageError, did_you_mean, positive, whole
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from superezioctl.context import Context

#: As many events as the daemon keeps, and gives.
_REMEMBERED = 4096
#: The types there are, for a shell to complete and for what is mistyped; a newer daemon may have
#: more.
TYPES = (
    "daemon.started", "daemon.stopping", "daemon.ended_suddenly", "config.reloaded",
    "config.refused", "health.changed", "state.mended", "host.resumed", "watchdog.withheld",
    "watchdog.resumed", "watchdog.restarted",
    "connection.dropped", "driver.found", "driver.lost", "probe.started", "probe.lost",
    "probe.stuck", "probe.detached", "probe.attached", "gpu.status", "gpu.level", "gpu.fitness",
    "gpu.xid", "gpu.cordoned", "gpu.uncordoned", "gpu.overcommitted", "lease.queued",
    "lease.position", "lease.cancelled", "lease.expired", "lease.granted", "lease.active",
    "lease.grown", "lease.attached", "lease.orphaned", "lease.draining", "lease.acknowledged",
    "lease.refused", "lease.kept", "lease.released", "lease.lost", "lease.overrun", "lease.idle",
    "lease.unreturned", "cache.cleared", "breaker.opened", "breaker.half_open", "breaker.closed",
    "breaker.forced_open", "breaker.disabled", "limit.blocked", "limit.spent",
    "limit.overshot", "limit.reset", "limit.state_lost", "limit.restarted",
)  # fmt: skip
#: The beginnings that stand for several.
FAMILIES = tuple(dict.fromkeys(f"{name.partition('.')[0]}." for name in TYPES))


def events(context: Context) -> int:
    """Print events as they come, over restarts of the daemon too."""
    from superezioctl.views import events as view  # noqa: PLC0415 - imports the typed client

    arguments = context.arguments
    count, follows = arguments["count"], not arguments["no_follow"]
    if not follows and arguments["follow"]:
        raise UsageError("--follow goes on, and --no-follow ends: choose one")
    replay = arguments["replay"]
    if not (follows or replay):
        replay = min(count or _REMEMBERED, _REMEMBERED)
    places = view.Places(context)
    with view.follow(context, types=arguments["type"], replay=replay) as stream:
        _check_types(context, arguments["type"], unknown=stream.unknown_types)
        shown = stream if follows else islice(stream, stream.replayed)
        for number, notification in enumerate(shown, start=1):
            view.show(context.out, notification, places)
            if number == count:
                break
    return DONE


def _check_types(
    context: Context, types: Sequence[str], *, unknown: Collection[str] | None
) -> None:
    """Refuse types that the daemon has no event of; it would be silent for ever.

    An older daemon does not say which those are, and may know types that are newer than this
    version; then there is a warning. Raises UsageError.
    """
    known = (*FAMILIES, *TYPES)
    for type_ in types:
        if unknown is None:
            if type_ not in known:
                meant = did_you_mean(type_, known) or "."
                context.out.note(
                    f"superezioctl: warning: no event type {type_!r} is known{meant} It is "
                    "listened for all the same, as the daemon may know more."
                )
        elif type_ in unknown:
            if type_ in known:
                raise UsageError(f"the daemon has no event type {type_!r}: it is another version")
            meant = did_you_mean(type_, known) or f": they begin with {', '.join(FAMILIES)}"
            raise UsageError(f"there is no event type {type_!r}{meant}")


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
            Option(
                "--count",
                "end after so many, past ones included",
                metavar="N",
                convert=positive,
            ),
            Option("--follow", "go on as events come, as it does by itself", short="-f"),
            Option(
                "--no-follow",
                "print the past events that there are, or the last --replay N of them, and end",
            ),
        ],
        description="Ends with Ctrl-C. When the daemon restarts it is waited for. Events that "
        "were lost because they were not read in time are counted. With --json each line has "
        "`event` and `lost`.\n\nWhere fewer events than --count have happened, it waits for the "
        "rest; with --no-follow it does not. The daemon remembers the last 4,096 since it started."
        f"\n\nTypes begin with {', '.join(FAMILIES[:-1])} and {FAMILIES[-1]} and are listed in "
        "superezio-rpc(7), under EVENTS; one that no event has is refused.",
        examples=[
            "superezioctl events",
            "superezioctl events --no-follow --replay 50",
            "superezioctl events --type lease. --type health. --replay 20",
            "superezioctl --json events --type gpu.level | jq .event.message",
        ],
    )
}
