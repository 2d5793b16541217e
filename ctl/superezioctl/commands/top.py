"""superezioctl top: the live screen."""

from __future__ import annotations

import os
import sys

from superezioctl.arguments import Command, UsageError
from superezioctl.exit_codes import DONE, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

#: As the extra `top` of the package has it. Of the package itself no index has to have heard.
LIBRARY = "prompt_toolkit>=3.0.50"


def top(context: Context) -> int:
    """Show the screen, if there is a library to draw it and a terminal to draw it on."""
    if context.out.json:
        raise UsageError("top is a screen: `superezioctl --json status` has what is on it")
    try:
        import prompt_toolkit  # noqa: F401, PLC0415 - an extra of the package
    except ImportError:
        sudo = "" if os.access(sys.prefix, os.W_OK) else "sudo "
        context.out.note(
            "superezioctl top: the library that draws the screen is not installed. Install it "
            f"with `{sudo}{sys.executable} -m pip install '{LIBRARY}'`; `superezioctl status` "
            "works without."
        )
        return FAILED
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise UsageError("top needs a terminal to draw on: `superezioctl status` needs none")
    from superezioctl.top import screen  # noqa: PLC0415 - imports the library

    screen.show(context.out, context.socket_path)
    return DONE


COMMANDS = {
    "top": Command(
        top,
        description="Shows the GPUs, the leases, the processes and the queue, each second and "
        "at once after an event; a daemon that restarts is waited for. Tab goes from section to "
        "section and the arrows from row to row; r releases and v revokes the selected lease, x "
        "takes the selected one out of the queue, c cordons and u uncordons the selected GPU, ? "
        "explains, q quits. What you may not do the daemon refuses, and its words are shown.\n\n"
        "It draws with a library that is not there everywhere: where it is missing, this command "
        "says how to install it. Without colour where NO_COLOR is set.",
        examples=["superezioctl top", "NO_COLOR=1 superezioctl top"],
    )
}
