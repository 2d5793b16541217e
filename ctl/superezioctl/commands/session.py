"""superezioctl session: who uses what."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def list_(context: Context) -> int:
    """List one's own sessions; for admins, all."""
    raw = context.call("session.list")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import sessions  # noqa: PLC0415 - for people only

        sessions.show(context.out, raw)
    return DONE


COMMANDS = {
    "session list": Command(
        list_,
        description="A session is what one program does, over one or more connections. Each "
        "connection has one that nobody opened; a program that opens one can go on with it after "
        "a reconnect. You see your own, admins see all.",
        examples=[
            "superezioctl session list",
            "superezioctl --json session list | jq '.sessions[].used'",
        ],
    )
}
