"""What somebody should know of an answer that is not what was asked for, or not all that was meant.

It is no failure, so that it is said on standard error, in a line each, and the exit code stays 0.
"""

from __future__ import annotations

import json
import time

from superezio.errors import SuperezioError
from superezio.quantities import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from superezioctl.context import Context

_MIB = 1 << 20
_GIB = 1 << 30
#: More than this part of what is reserved is an overrun; the lease is not raised for less.
_MOST_PERCENT = 110
#: What is lost of a deadline on the way, by rounding and between two clocks.
_SLACK_S = 0.05


def warn(context: Context, command: str, text: str) -> None:
    """Say it in a line on standard error; to a program as a JSON document."""
    context.out.flush()
    if context.out.json:
        context.out.note(json.dumps({"warning": text}, ensure_ascii=False))
    else:
        context.out.note(f"superezioctl {command}: {text}")


def on_priority(context: Context, lease: dict[str, Any], *, command: str) -> None:
    """Say that a lease has less priority than was asked for."""
    asked = context.arguments["priority"]
    if lease["priority"] < asked:
        warn(
            context,
            command,
            f"the priority is {lease['priority']}, and not {asked}: your role may have no more "
            "(leases.priority_maximum_user, or _admin)",
        )


def on_holder(context: Context, lease: dict[str, Any], *, command: str) -> None:
    """Say that the holder of a new lease has others, or uses more than it reserved.

    That the other leases cannot be seen is no failure: the lease stands.
    """
    try:
        known = json.loads(context.call("lease.list", retry=False))["leases"]
    except SuperezioError:
        return
    others = _others_of_its_holder(lease, known)
    if others:
        ids = ", ".join(each["id"] for each in others)
        leases, it = ("another lease", "it") if len(others) == 1 else ("other leases", "one")
        warn(
            context,
            command,
            f"what holds this lease has {leases} already, {ids}, and they add up: "
            f"`superezioctl lease release` gives {it} back",
        )
    _on_use(context, lease, others, command)


def _others_of_its_holder(
    lease: dict[str, Any], known: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the leases that have a process in common with `lease`, or with one that has."""
    left = [each for each in known if each["id"] != lease["id"]]
    holder = _processes_of(lease)
    found: list[dict[str, Any]] = []
    while linked := [each for each in left if not holder.isdisjoint(_processes_of(each))]:
        found += linked
        left = [each for each in left if each not in linked]
        holder.update(*map(_processes_of, linked))
    return found


def _processes_of(lease: dict[str, Any]) -> set[tuple[int, int]]:
    return {(process["pid"], process["start_time"]) for process in lease["holder"]}


def _on_use(
    context: Context, lease: dict[str, Any], others: Sequence[dict[str, Any]], command: str
) -> None:
    """Say that more is used already than was reserved, and what would have been enough."""
    needs: list[int] = []
    used_bytes, reserved_bytes, raised = 0, 0, False
    for gpu in lease["gpus"]:
        used = gpu["actual_bytes"] or 0
        theirs = sum(
            part["reserved_bytes"]
            for other in others
            for part in other["gpus"]
            if part["uuid"] == gpu["uuid"]
        )
        reserved = gpu["reserved_bytes"] + theirs
        needs.append(max(gpu["reserved_bytes"], used - theirs))
        if used > reserved:
            used_bytes, reserved_bytes = used_bytes + used, reserved_bytes + reserved
            raised = raised or used * 100 > reserved * _MOST_PERCENT
    if not used_bytes:
        return
    need = sum(needs) if context.arguments["split"] else max(needs)
    what_follows = ""
    if raised and lease["state"] != "growing":
        what_follows = "; after three readings that is an overrun, and the lease is raised to it"
    warn(
        context,
        command,
        f"{format_size(used_bytes)} are in use already, and {format_size(reserved_bytes)} "
        f"reserved: --vram {_as_asked(need)} asks for enough{what_follows}",
    )


def _as_asked(size_bytes: int) -> str:
    """Return a size as --vram takes it, and no smaller."""
    if size_bytes % _GIB == 0:
        return f"{size_bytes // _GIB}GiB"
    return f"{-(-size_bytes // _MIB)}MiB"


class Deadline:
    """The deadline that a lease had before it is revoked once more: no deadline is lengthened."""

    def __init__(self, context: Context, lease: str) -> None:
        self._context = context
        self._asked_s = time.monotonic()
        self._left_s: float | None = None
        try:
            order = json.loads(context.call("lease.get", {"lease": lease})).get("revocation")
        except SuperezioError:
            return  # to revoke it will say why
        if order is not None:
            self._left_s = order["remaining_s"]

    def compare(self, raw: bytes, *, command: str) -> None:
        """Say so where the earlier one stands."""
        order = json.loads(raw).get("revocation")
        if self._left_s is None or order is None:
            return
        passed_s = time.monotonic() - self._asked_s
        if order["remaining_s"] + passed_s + _SLACK_S < self._left_s:
            return  # it was brought forward
        wanted_s = self._context.arguments["deadline"]
        instead = "" if wanted_s is None else f", and not in {format_duration(wanted_s)}"
        warn(
            self._context,
            command,
            "it was revoked before, and that deadline stands, for none is lengthened: it is lost "
            f"in {format_duration(order['remaining_s'])}{instead}",
        )
