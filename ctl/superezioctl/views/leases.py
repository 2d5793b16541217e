"""Leases and the queue as text."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable

import msgspec

from superezio.quantities import format_duration
from superezio.wire import Lease, LeaseList, Revocation, Waiter
from superezioctl.columns import columns_of
from superezioctl.lease_ids import SHOWN_COLUMNS
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, fit, place, size, user
from superezioctl.wording import with_places, with_users

#: As much of what people choose as a table has room for; the holder gets the rest of the line.
_USER_COLUMNS = 8
_NAME_COLUMNS = 12
_HOLDER_LEAST_COLUMNS = 8
_NARROWEST = 20
#: What has just been granted, or pauses, is not called idle.
_IDLE_FROM_S = 60


def show_list(out: Output, raw: bytes) -> None:
    """Print the leases, and who waits."""
    found = msgspec.json.decode(raw, type=LeaseList)
    show_leases(out, found.leases)
    if found.queue:
        out.line()
        show_queue(out, found.queue)


def show_leases(out: Output, leases: list[Lease]) -> None:
    """Print a line for each lease."""
    if not leases:
        out.line("no leases")
        return
    header = ["LEASE", "STATE", "GPU", "RESERVED", "ACTUAL", "USER", "AGE", "NAME"]
    rows = [
        [
            lease.id[:SHOWN_COLUMNS],
            _state(lease),
            "+".join(
                place(gpu.index, gpu.mig_index) if gpu.index is not None else "?"
                for gpu in lease.gpus
            )
            + (" alone" if lease.policy == "exclusive" else ""),
            size(_total(gpu.reserved_bytes for gpu in lease.gpus)),
            size(_total(gpu.actual_bytes for gpu in lease.gpus)),
            fit(user(lease.uid), _USER_COLUMNS),
            format_duration(lease.age_s),
            fit(lease.name or NOTHING, _NAME_COLUMNS),
        ]
        for lease in leases
    ]
    taken = sum(2 + max(map(columns_of, column)) for column in zip(header, *rows, strict=True))
    room = max(_HOLDER_LEAST_COLUMNS, out.width - taken)
    for row, lease in zip(rows, leases, strict=True):
        row.append(fit(_holder(lease), room))
    out.table([*header, "HOLDER"], rows, right=(3, 4), spare=(6, 4, 5, 8, 3), cut=7)


def _total(sizes: Iterable[int | None]) -> int | None:
    """Return what a lease has on all its GPUs; None where one of them is not known."""
    total = 0
    for each in sizes:
        if each is None:
            return None
        total += each
    return total


def show_waiters(out: Output, raw: bytes) -> None:
    """Print who waits, with the ids to take them out by."""
    queue = msgspec.json.decode(raw, type=LeaseList).queue
    if not queue:
        out.line("nobody waits")
    show_queue(out, queue, with_ids=True)


def show_queue(out: Output, queue: list[Waiter], *, with_ids: bool = False) -> None:
    """Print a line for each waiter, in order, and why it waits."""
    for waiter in queue:
        what = f"{size(waiter.vram_bytes)} x {waiter.count}, {waiter.policy}"
        if waiter.split:
            over = f"{waiter.count} GPUs" if waiter.count > 1 else "GPUs"
            what = f"{size(waiter.vram_bytes)} split over {over}, {waiter.policy}"
        if waiter.priority:
            what += f", priority {waiter.priority}"
        who = f"{user(waiter.uid)}{f' ({waiter.name})' if waiter.name else ''}"
        if with_ids:
            who = f"{waiter.id[:SHOWN_COLUMNS]} {who}"
        waited, left = format_duration(waiter.waited_s), format_duration(waiter.remaining_s)
        line = f"{waiter.position}. {who}: {what}, waits {waited}, {left} at most"
        out.paragraph(line)
        for part in textwrap.wrap(with_users(waiter.reason), max(_NARROWEST, out.width - 4)):
            out.line(f"   {part}")


def show_one(out: Output, raw: bytes) -> None:
    """Print all of one lease."""
    lease = msgspec.json.decode(raw, type=Lease)
    rows = [
        ("lease", out.style(lease.id, "bold")),
        ("state", lease.state),
        ("mode", lease.mode),
        ("user", user(lease.uid)),
        ("name", lease.name or NOTHING),
        ("policy", _policy(lease)),
        *([("model", lease.model)] if lease.model else []),
        ("holder", _holder(lease)),
        ("granted", f"{lease.granted_at} ({format_duration(lease.age_s)} ago)"),
        ("correlation", lease.correlation_id or NOTHING),
    ]
    if lease.expires_in_s is not None:
        what = "resumed" if lease.mode == "connection" else "renewed"
        rows.append(("ends", f"in {format_duration(lease.expires_in_s)}, unless it is {what}"))
    if lease.revocation is not None:
        places = {
            gpu.uuid: place(gpu.index, gpu.mig_index) for gpu in lease.gpus if gpu.index is not None
        }
        rows += _revocation(lease.revocation, places)
    if lease.idle_s is not None:
        rows.append(("idle", f"for {format_duration(lease.idle_s)}: its processes use nothing"))
    for gpu in lease.gpus:
        index = place(gpu.index, gpu.mig_index)
        part = "" if gpu.split_ratio is None else f" ({gpu.split_ratio:.1%} of it)"
        uses = f"reserved {size(gpu.reserved_bytes)}{part}, uses {size(gpu.actual_bytes)}"
        rows.append(("gpu", f"{index} ({gpu.uuid}): {uses}"))
    if lease.tensor_split is not None:
        rows.append(("tensor split", lease.tensor_split))
    rows += [("set", f"{name}={value}") for name, value in sorted(lease.environment.items())]
    for name, text in rows:
        line = f"{out.style(f'{name:<12}', 'dim')} {text}"
        # What is to be copied stays in one.
        if name == "set":
            out.line(line)
        else:
            out.paragraph(line, indent=13)


def show_exports(out: Output, raw: bytes) -> None:
    """Print the environment as a shell reads it."""
    lease = msgspec.json.decode(raw, type=Lease)
    for name, value in sorted({"SUPEREZIO_LEASE": lease.id, **lease.environment}.items()):
        out.line(f"export {name}={shlex.quote(value)}")


def _revocation(order: Revocation, places: dict[str, str]) -> list[tuple[str, str]]:
    left = format_duration(order.remaining_s)
    why = with_users(with_places(order.message, places))
    rows = [("revoked", f"lost in {left}, unless it ends before: {why}")]
    if order.answer is not None:
        said = f": {order.answer_message}" if order.answer_message else ""
        rows.append(("answer", f"{order.answer}{said}"))
    return rows


def _policy(lease: Lease) -> str:
    if lease.policy != "exclusive":
        return lease.policy
    return "exclusive: no other lease gets onto its GPU while it stands"


def _state(lease: Lease) -> str:
    if lease.state in {"granted", "active"} and (lease.idle_s or 0) >= _IDLE_FROM_S:
        return f"idle {format_duration(lease.idle_s or 0)}"
    return lease.state


def _holder(lease: Lease) -> str:
    if lease.mode != "process" and not lease.holder:
        return lease.mode
    processes = ", ".join(
        f"{process.pid} {process.command}" if process.command else str(process.pid)
        for process in lease.holder
    )
    return processes or NOTHING
