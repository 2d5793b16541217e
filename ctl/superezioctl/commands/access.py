"""superezioctl access: who may do what."""

from __future__ import annotations

from superezioctl.arguments import Command
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

ROLES = ("observer", "user", "admin")


def access(context: Context) -> int:
    """Print the table that the daemon decides by."""
    import json  # noqa: PLC0415 - this command reads JSON itself

    methods = json.loads(context.call("rpc.discover"))["methods"]
    rows = [{"method": method["name"], **method["x-access"]} for method in methods]
    mine = json.loads(context.call("system.info"))["role"]
    if context.out.json:
        document = {"your_role": mine, "methods": rows}
        context.out.document(json.dumps(document, ensure_ascii=False).encode())
        return DONE
    context.out.table(
        ("METHOD", *(role.upper() for role in ROLES), "WHAT OF OTHERS IS VISIBLE"),
        [
            (
                row["method"],
                *("yes" if reaches(role, row["role"]) else "-" for role in ROLES),
                str(row["visibility"]),
            )
            for row in rows
        ],
        spare=(4,),
        cut=0,
    )
    context.out.line()
    context.out.paragraph(
        f"Your role is {mine}. Groups give roles: superezio makes a user, superezio-admin an admin "
        "(log in again after joining); root is an admin.",
        indent=0,
    )
    return DONE


def reaches(role: str, needed: str) -> bool:
    """Say whether `role` is at least `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


COMMANDS = {
    "access": Command(
        access,
        description="The table is the one the daemon decides by. Each role has the rights of the "
        "one before it. What of others is visible: public is all, as nothing in it is personal; "
        "masked are their entries without what is personal; own is nothing. An admin sees all.",
        examples=["superezioctl access"],
    )
}
