"""superezioctl status: one screen."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

_PARTS = {
    "system": "system.info",
    "health": "health.get",
    "gpus": "gpu.list",
    "leases": "lease.list",
}


def status(context: Context) -> int:
    """Ask for everything that is on the screen, over one connection."""
    parts = {name: context.call(method) for name, method in _PARTS.items()}
    if context.out.json:
        members = b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in parts.items())
        context.out.document(b"{%b}" % members)
    else:
        from superezioctl.views import status as view  # noqa: PLC0415 - for people only

        view.show(context.out, parts)
    return DONE


COMMANDS = {
    "status": Command(
        status,
        description=(
            "Bars show a GPU's VRAM: what leases use, what they reserve beyond that, what other "
            "programs use, and what is free.\n\nThe exit code is 0 whatever the verdict is; "
            "`superezioctl health` has one that scripts can use."
        ),
        examples=["superezioctl status", "watch superezioctl status"],
    )
}
