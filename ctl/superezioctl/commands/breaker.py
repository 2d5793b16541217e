"""superezioctl breaker: what is known of the services that programs call, and to decide over it."""

from __future__ import annotations

import json

from superezioctl.arguments import Command, Positional
from superezioctl.exit_codes import DONE
from superezioctl.users import whose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def list_(context: Context) -> int:
    """List the breakers."""
    raw = context.call("breaker.list")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import breakers  # noqa: PLC0415 - for people only

        breakers.show_list(context.out, raw)
    return DONE


def show(context: Context) -> int:
    """Show one breaker."""
    raw = _call(context, "breaker.get")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import breakers  # noqa: PLC0415 - for people only

        breakers.show_one(context.out, raw)
    return DONE


def open_(context: Context) -> int:
    """Force one open."""
    raw = _call(context, "breaker.force_open")
    return _tell(context, raw, f"rejects every call: `{_closing(context)}` ends that")


def close(context: Context) -> int:
    """Close one."""
    return _tell(context, _call(context, "breaker.reset"), "lets calls through")


def disable(context: Context) -> int:
    """Disable one."""
    raw = _call(context, "breaker.disable")
    return _tell(
        context, raw, f"lets every call through, and counts none: `{_closing(context)}` ends that"
    )


def reset(context: Context) -> int:
    """Reset one."""
    return _tell(context, _call(context, "breaker.reset"), "begins anew, closed")


def _call(context: Context, method: str) -> bytes:
    arguments = context.arguments
    params: dict[str, object] = {"name": arguments["breaker"]}
    if arguments["uid"] is not None:
        params["uid"] = arguments["uid"]
    return context.call(method, params)


def _tell(context: Context, raw: bytes, sentence: str) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        context.out.line(f"breaker {context.arguments['breaker']} {sentence}")
        told = json.loads(raw)
        if not (told["called"] or told["shared"]):
            # It may be meant for calls that are still to come.
            context.out.note(
                f"nobody has used the breaker {told['name']} yet: `superezioctl breaker list` shows"
                " those there are"
            )
    return DONE


def _closing(context: Context) -> str:
    arguments = context.arguments
    of_uid = "" if arguments["uid"] is None else f" --uid {arguments['uid']}"
    return f"superezioctl breaker close {arguments['breaker']}{of_uid}"


_BREAKER = Positional("BREAKER", "the name that programs call it by")
_UID = whose("that of this user")
_WHO = "Your own; one that is shared is an admin's to decide over."

COMMANDS = {
    "breaker list": Command(
        list_,
        description="Your own breakers, and those that the configuration shares with you "
        "([breaker.shared.NAME]); an admin sees all. A breaker of one's own is there from its "
        "first call on, until nobody has used it for an hour.",
        examples=[
            "superezioctl breaker list",
            "superezioctl --json breaker list | jq '.breakers[] | select(.state != \"closed\")'",
        ],
    ),
    "breaker show": Command(
        show,
        positionals=[_BREAKER],
        options=[_UID],
        examples=[
            "superezioctl breaker show openai",
            "superezioctl breaker show mine --uid alice",
        ],
    ),
    "breaker open": Command(
        open_,
        positionals=[_BREAKER],
        options=[_UID],
        description="Every call is turned away until `breaker close` (or `reset`, or `disable`), "
        f"over restarts of the daemon and reboots too. {_WHO}",
        examples=["superezioctl breaker open openai"],
    ),
    "breaker close": Command(
        close,
        positionals=[_BREAKER],
        options=[_UID],
        description="Ends `breaker open` and `breaker disable`, and closes one that opened by "
        "itself before its time. It is the same as `breaker reset`: what was counted is forgotten, "
        f"and how often it opened. {_WHO}",
        examples=["superezioctl breaker close openai"],
    ),
    "breaker disable": Command(
        disable,
        positionals=[_BREAKER],
        options=[_UID],
        description="Calls go through whatever becomes of them, until `breaker close`, over "
        f"restarts of the daemon and reboots too. {_WHO}",
        examples=["superezioctl breaker disable openai"],
    ),
    "breaker reset": Command(
        reset,
        positionals=[_BREAKER],
        options=[_UID],
        description="It is closed then, with nothing counted and every opening forgiven: what "
        f"`breaker close` does, too. {_WHO}",
        examples=["superezioctl breaker reset openai"],
    ),
}
