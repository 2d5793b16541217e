"""superezioctl lease quota: how much the caller may have leased."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context


def quota(context: Context) -> int:
    """Show the quotas that apply to the caller."""
    raw = context.call("lease.quota")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import quotas  # noqa: PLC0415 - for people only

        quotas.show(context.out, raw)
    return DONE


COMMANDS = {
    "lease quota": Command(
        quota,
        description="A quota of a group is one for all its members. All that apply have to hold; "
        "admins are held to none. Quotas are set in the configuration, under [leases.quota].",
        examples=["superezioctl lease quota", "superezioctl --json lease quota | jq .quotas"],
    )
}
