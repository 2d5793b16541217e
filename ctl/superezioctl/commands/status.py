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
    parts["breakers"] = _breakers(context)
    if context.out.json:
        members = b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in parts.items())
        context.out.document(b"{%b}" % members)
    else:
        from superezioctl.views import status as view  # noqa: PLC0415 - for people only

        view.show(context.out, parts)
    return DONE


def _breakers(context: Context) -> bytes:
    """Return the breakers that the caller may see; null for one who may see none."""
    try:
        return context.call("breaker.list")
    except Exception as error:
        if getattr(error, "kind", None) != "permission_denied":
            raise
        return b"null"


COMMANDS = {
    "status": Command(
        status,
        description=(
            "Bars show a GPU's VRAM: what leases use, what they reserve beyond that, what other "
            "programs use, and what is free. Services that programs share are named where their "
            "breaker does not let calls through as usual.\n\nThe exit code is 0 whatever the "
            "verdict is; `superezioctl health` has one that scripts can use."
        ),
        examples=["superezioctl status", "watch superezioctl status"],
    )
}
