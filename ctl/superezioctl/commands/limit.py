"""superezioctl limit: what is left of the limits that programs share."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional, whole
from superezioctl.exit_codes import DONE
from superezioctl.users import whose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context


def list_(context: Context) -> int:
    """Show all limits."""
    raw = context.call("limit.list")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import limits  # noqa: PLC0415 - for people only

        limits.show_list(context.out, raw)
    return DONE


def show(context: Context) -> int:
    """Show one limit."""
    skip = context.arguments["skip"] or 0
    raw = context.call("limit.peek", {**_named(context), **({"skip": skip} if skip else {})})
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import limits  # noqa: PLC0415 - for people only

        limits.show_one(context.out, raw, skipped=skip)
    return DONE


def reset(context: Context) -> int:
    """Have all of a limit there again."""
    arguments = context.arguments
    raw = context.call("limit.reset", {**_named(context), "spend": arguments["spend"]})
    if context.out.json:
        context.out.document(raw)
    else:
        spent = ", and nothing counts as spent" if arguments["spend"] else _stays_spent(context)
        context.out.line(f"all of the limit {arguments['name']} is there again{spent}")
    return DONE


def _stays_spent(context: Context) -> str:
    """Return that money is not a rate, where any of it is spent."""
    import json  # noqa: PLC0415 - for people only

    windows = json.loads(context.call("limit.peek", _named(context)))["spend"]
    return "; money stays spent: --spend" if any(w["spent_micros"] for w in windows) else ""


def _named(context: Context) -> dict[str, Any]:
    arguments = context.arguments
    given = {"key": arguments["key"], "uid": arguments["uid"]}
    return {"name": arguments["name"], **{k: v for k, v in given.items() if v is not None}}


_NAME = Positional("NAME", "the limit, as programs call it")
_KEY = Option("--key", "that of one key, where the limit has a budget for each", metavar="KEY")
_UID = whose("that of this user, or the user's part of a shared one")

COMMANDS = {
    "limit list": Command(
        list_,
        description="Your own limits, and those that the configuration shares with you; an admin "
        "sees all. A line for each thing that is limited, and for whom.",
        examples=[
            "superezioctl limit list",
            "superezioctl --json limit list | jq '.limits[] | {name, waiters}'",
        ],
    ),
    "limit show": Command(
        show,
        options=[
            _KEY,
            _UID,
            Option(
                "--skip",
                "leave out so many users, keys and sessions, where there are more than are shown",
                metavar="COUNT",
                convert=whole,
            ),
        ],
        positionals=[_NAME],
        description="What is left of it and when it is whole, what is blocked until when, and what "
        "was spent of money that is capped by day or month. Of many users, keys and sessions, 200 "
        "are shown at a time.",
        examples=[
            "superezioctl limit show openai",
            "superezioctl limit show openai --key acme",
            "superezioctl limit show openai --skip 200",
        ],
    ),
    "limit reset": Command(
        reset,
        options=[
            _KEY,
            _UID,
            Option("--spend", "take it that nothing was spent this day and month, too"),
        ],
        positionals=[_NAME],
        description="Its rates are there in full again, and no block is left. Who has reserved "
        "keeps what was reserved, and money that was spent of a cap by day or month stays spent "
        "without --spend. A shared limit is for admins.",
        examples=["superezioctl limit reset openai", "superezioctl limit reset openai --spend"],
    ),
}
