"""superezioctl config show, check and diff: what the daemon goes by, and what its files say."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional
from superezioctl.exit_codes import DONE, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def show(context: Context) -> int:
    """Print what is in force, as TOML."""
    key = context.arguments["key"]
    raw = context.call("config.get", {"key": key, "all": context.arguments["all"]})
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import configuration  # noqa: PLC0415 - for people only

        origins = context.arguments["origin"]
        configuration.show(context.out, raw, origins=origins, with_head=key is None)
    return DONE


def diff(context: Context) -> int:
    """Print what the daemon's files say that is not in force."""
    raw = context.call("config.diff")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import configuration  # noqa: PLC0415 - for people only

        configuration.show_changes(context.out, raw)
    return DONE


def check(context: Context) -> int:
    """Have supereziod's own reader check files, in a process of its own: no daemon is needed."""
    from superezioctl import file_check  # noqa: PLC0415 - for this command only

    raw = file_check.check(context.arguments["file"])
    if context.out.json:
        context.out.document(raw)
        return DONE if file_check.is_good(raw) else FAILED
    from superezioctl.views import configuration  # noqa: PLC0415 - for people only

    return DONE if configuration.show_check(context.out, raw) else FAILED


COMMANDS = {
    "config show": Command(
        show,
        positionals=[
            Positional("KEY", "a key or a section, such as leases or leases.grace", optional=True)
        ],
        options=[
            Option("--origin", "add where each value was set"),
            Option("--all", "print what nobody has set, too, with its default"),
        ],
        description="The output is TOML, and would do as a configuration file. It is what the "
        "running daemon goes by: a key that waits for a restart has its old value, and a level "
        "that `superezioctl log-level` has set is told with who did it. Values are set "
        "in /etc/superezio/superezio.toml, conf.d beside it, variables (SUPEREZIO__LEASES__GRACE) "
        "and options of supereziod; the later one wins. For admins.",
        examples=[
            "superezioctl config show --origin",
            "superezioctl config show leases.grace",
            "superezioctl config show --all limits",
            "superezioctl --json config show | jq '.values[] | select(.live).key'",
        ],
    ),
    "config check": Command(
        check,
        positionals=[
            Positional("FILE", "with conf.d beside it; default: those of supereziod", optional=True)
        ],
        description="Tells every mistake with file, line and key, and what to write instead, and "
        "warns of names that this host does not know and of what is shared with nobody. Needs no "
        "daemon and changes nothing: it is `supereziod --check`, with exit code 1 for what is bad. "
        "Whether keys go together is seen once each by itself is good.",
        examples=[
            "superezioctl config check && superezioctl reload",
            "superezioctl config check /tmp/new/superezio.toml",
            "superezioctl --json config check | jq -r '.problems[].key'",
        ],
    ),
    "config diff": Command(
        diff,
        description="The daemon reads its files and tells what is not in force, and whether a "
        "reload would apply it or a restart has to. Nothing changes. For admins.",
        examples=["superezioctl config diff", "superezioctl --json config diff | jq .changes"],
    ),
}
