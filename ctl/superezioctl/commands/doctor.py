"""superezioctl doctor: what is missing on this host."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def doctor(context: Context) -> int:
    """Examine the host, and say what mends it."""
    from superezioctl.doctor.answers import ask  # noqa: PLC0415 - few commands need a doctor
    from superezioctl.doctor.examination import examine  # noqa: PLC0415 - as above
    from superezioctl.doctor.host import Host  # noqa: PLC0415 - as above
    from superezioctl.views import doctor as view  # noqa: PLC0415 - as above

    answers = ask(context.socket_path, timeout_s=context.timeout_s)
    findings = list(examine(Host(), answers, context.socket_path))
    view.show(context.out, findings)
    return FAILED if any(finding.status == "fail" for finding in findings) else DONE


COMMANDS = {
    "doctor": Command(
        doctor,
        description="Looks at the driver, the units, the daemon, its socket and directories, the "
        "groups and the health, and says for each what is wrong and the command that mends it. "
        "It changes nothing, works without a daemon, and ends in seconds whatever hangs.\n\nThe "
        "exit code is 0 when nothing fails, warnings and what is marked info included, and 1 "
        "otherwise.",
        examples=[
            "superezioctl doctor",
            "superezioctl --json doctor | jq '.checks[] | select(.status != \"ok\")'",
        ],
    )
}
