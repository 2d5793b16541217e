"""The board as lines of text, for a terminal of any size. Pure: nothing is asked and none is kept.

Styles are those of `Output`, which leaves them out where colour is not wanted; the selected row has
a mark besides, so that it is found without colour too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from superezio.quantities import format_duration
from superezio.wire import Gpu, GpuProcess, Lease, Waiter
from superezioctl.columns import padded
from superezioctl.lease_ids import SHOWN_COLUMNS
from superezioctl.output import Output, harmless, plain, printed_width
from superezioctl.top.board import SECTIONS, Board
from superezioctl.top.cursor import Cursor
from superezioctl.views import status
from superezioctl.views.gpus import short_name, state
from superezioctl.views.text import NOTHING, figure, fit, size, styled, user
from superezioctl.views.text import place as gpu_place

HELP = (
    "superezioctl top",
    "",
    "  Tab, Shift-Tab    the next section, the one before",
    "  arrows, PgUp/PgDn up and down in the section",
    "  r                 release the selected lease (asks first): its program goes on",
    "  v                 revoke it (asks first): its program is told to end",
    "  x                 take the selected one out of the queue (asks first)",
    "  c                 cordon the selected GPU (asks for a reason)",
    "  u                 uncordon the selected GPU",
    "  ?                 this help; any key goes back",
    "  q                 quit",
    "",
    "A GPU's bar is its VRAM: used by leases, reserved beyond that, used by others,",
    "the driver's part, free. Margin is the distance to the temperature at which",
    "the card slows down. What a card does not tell is a dash.",
)
KEYS = "Tab arrows  r release  v revoke  x cancel  c cordon  u uncordon  ? help  q quit"

_LOAD_COLUMNS = 6
_USER_COLUMNS = 8
_NAME_COLUMNS = 12
_MODEL_COLUMNS = 14
#: An id of a container has 64 columns, and the command is still to be seen.
_UNIT_COLUMNS = 16
#: The selected row has a mark, and the others room for it.
_MARK_COLUMNS = 2
_NARROWEST = 20
_REASON_ROWS = 2
_TITLES = {"gpus": "GPUs", "leases": "leases", "processes": "processes", "queue": "queue"}
_NONE = {
    "gpus": "none: the first line says why",
    "leases": "none",
    "processes": "none on the GPUs",
    "queue": "nobody waits",
}
#: A row of a section: one line or more.
Row = Sequence[str]


def screen(out: Output, board: Board, cursor: Cursor, *, width: int, height: int) -> list[str]:
    """Return `height` lines at most, harmless ones, with styles in them."""
    lines = _head(out, board, width)
    parts = [
        _part(out, board, cursor, section, width=width - _MARK_COLUMNS, height=height)
        for section in SECTIONS
    ]
    rooms = share([part.wanted for part in parts], height - len(lines))
    for part, room in zip(parts, rooms, strict=True):
        lines += _section(out, part, cursor, room)
    return [harmless(line.replace("\n", " ")) for line in lines[:height]]


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of a section that are near the selected one; the others take no time."""

    section: str
    rows: Sequence[Row]
    first: int
    total: int

    @property
    def wanted(self) -> int:
        """The lines it would fill, its title included."""
        return 1 + (sum(map(len, self.rows)) or 1)


def _part(
    out: Output, board: Board, cursor: Cursor, section: str, *, width: int, height: int
) -> _Part:
    place = cursor.place(section)
    first = max(0, place - height)
    near = slice(first, place + max(1, height))
    if section == "gpus":
        rows, total = [_gpu(out, gpu) for gpu in board.gpus[near]], len(board.gpus)
    elif section == "leases":
        cells = _lease_cells(board.leases[near])
        rows, total = _table(cells, right=(3, 4), width=width), len(board.leases)
    elif section == "processes":
        cells = [_process_cells(board, process) for process in board.processes[near]]
        rows, total = _table(cells, right=(1, 3), width=width), len(board.processes)
    else:
        rows, total = [_waiter(each, width) for each in board.queue[near]], len(board.queue)
    return _Part(section, rows, first, total)


def share(wanted: Sequence[int], room: int) -> list[int]:
    """Divide the lines of a screen: nobody gets more than wanted, and what is left is shared."""
    given = [0] * len(wanted)
    for _ in range(min(room, sum(wanted))):
        least = min(
            (number for number in range(len(wanted)) if given[number] < wanted[number]),
            key=lambda number: given[number],
        )
        given[least] += 1
    return given


def visible(rows: Sequence[Row], selected: int, room: int) -> tuple[int, int]:
    """Return which rows (from, up to) are shown in `room` lines: the selected one is."""
    start = end = selected
    left = room
    while end < len(rows) and (len(rows[end]) <= left or end == selected):
        left -= len(rows[end])
        end += 1
    while start > 0 and len(rows[start - 1]) <= left:
        start -= 1
        left -= len(rows[start])
    return start, end


def _head(out: Output, board: Board, width: int) -> list[str]:
    verdict = "?" if board.health is None else styled(out, board.health.verdict)
    if board.trouble is not None:
        return [f"{out.style(board.trouble, 'bad')}  {out.style('last known:', 'dim')} {verdict}"]
    daemon = ""
    if board.system is not None:
        system = board.system
        daemon = f"superezio {system.version}, up {format_duration(system.uptime_s)}"
        daemon += f", driver {system.driver_version}" if system.driver_version else ""
    lines = [f"{verdict}  {out.style(daemon, 'dim')}"]
    reasons = board.health.reasons if board.health is not None else []
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        first = f"  {reasons[0].severity}: {reasons[0].message}"
        lines.append(out.style(fit(first, width - len(more)), "warn") + more)
    return lines


def _section(out: Output, part: _Part, cursor: Cursor, room: int) -> list[str]:
    if not room:
        return []
    name, rows = part.section, part.rows
    focused = cursor.section == name
    if not rows:
        lines = [_title(out, name, "", focused=focused), f"  {_NONE[name]}"]
        return lines[:room]
    place = cursor.place(name) - part.first
    start, end = visible(rows, place, room - 1)
    shown = f"{part.first + start + 1}-{part.first + end} of " if end - start < part.total else ""
    lines = [_title(out, name, f" ({shown}{part.total})", focused=focused)]
    for number in range(start, end):
        chosen = number == place
        mark = (">" if focused else "-") if chosen else " "
        for line in rows[number]:
            text = f"{mark} {line}"
            lines.append(out.style(plain(text), "selected") if chosen and focused else text)
            mark = " "
    return lines[:room]


def _title(out: Output, name: str, count: str, *, focused: bool) -> str:
    title = out.style(f"{_TITLES[name]}{count}", "bold", *(("note",) if focused else ()))
    return f"{title}  {out.style(status.legend(out), 'dim')}" if name == "gpus" else title


def _gpu(out: Output, gpu: Gpu) -> Row:
    name = f"{gpu_place(gpu.index, gpu.mig_index)} "
    name += padded(fit(short_name(gpu), _MODEL_COLUMNS), _MODEL_COLUMNS)
    heat = f"{figure(gpu.temperature_c, '°C'):>6} margin {figure(gpu.margin_c):>3}"
    power = f"{figure(gpu.power_w):>3}/{figure(gpu.power_limit_w, 'W'):<5}"
    used = f"{size(gpu.vram_used_bytes)} of {size(gpu.vram_total_bytes)}"
    first, *others = state(out, gpu).split(", ")
    lines = [
        f"{name} {heat}  {power} {_load(out, gpu)}  {first}",
        f"  {status.bar(out, gpu)} {used}, {size(gpu.vram_leasable_bytes)} leasable",
    ]
    if gpu.blocked_reason is not None:
        others.append(f"admits no lease: {gpu.blocked_reason}")
    return [*lines, "  " + ", ".join(others)] if others else lines


def _load(out: Output, gpu: Gpu) -> str:
    load = gpu.utilization_core_percent
    filled = round((load or 0) / 100 * _LOAD_COLUMNS)
    full, empty = ("█", "·") if out.unicode else ("#", ".")
    drawn = out.style(full * filled, "note") + out.style(empty * (_LOAD_COLUMNS - filled), "dim")
    return f"util [{drawn}] {figure(load, '%'):>5}"


def _lease_cells(leases: Sequence[Lease]) -> list[list[str]]:
    return [
        [
            lease.id[:SHOWN_COLUMNS],
            lease.state,
            "gpu "
            + "+".join(
                "?" if gpu.index is None else gpu_place(gpu.index, gpu.mig_index)
                for gpu in lease.gpus
            ),
            "+".join(size(gpu.actual_bytes) for gpu in lease.gpus),
            "of " + "+".join(size(gpu.reserved_bytes) for gpu in lease.gpus),
            fit(user(lease.uid), _USER_COLUMNS),
            format_duration(lease.age_s),
            fit(lease.name or NOTHING, _NAME_COLUMNS),
            ", ".join(f"{each.pid} {each.command or ''}".rstrip() for each in lease.holder)
            or lease.mode,
        ]
        for lease in leases
    ]


def _process_cells(board: Board, process: GpuProcess) -> list[str]:
    gpu = board.gpu(process.gpu)
    return [
        "gpu ?" if gpu is None else f"gpu {gpu_place(gpu.index, gpu.mig_index)}",
        str(process.pid),
        process.type,
        size(process.vram_bytes),
        fit(process.user or user(process.uid), _USER_COLUMNS),
        process.lease[:SHOWN_COLUMNS] if process.lease else "no lease",
        fit(process.container or process.unit or NOTHING, _UNIT_COLUMNS),
        process.command or NOTHING,
    ]


def _waiter(waiter: Waiter, width: int) -> Row:
    """Return who waits for what, and below it why: the reason is what one looks for."""
    name = f" ({fit(waiter.name, _NAME_COLUMNS)})" if waiter.name else ""
    waited, left = format_duration(waiter.waited_s), format_duration(waiter.remaining_s)
    what = f"{size(waiter.vram_bytes)} {'split' if waiter.split else 'x'} {waiter.count}"
    who = f"{fit(user(waiter.uid), _USER_COLUMNS)}{name}"
    first = f"{waiter.position}. {who}: {what}, waits {waited}, {left} at most"
    why = textwrap.wrap(waiter.reason, max(_NARROWEST, width - 3))
    shown = why[:_REASON_ROWS]
    if len(why) > len(shown):
        shown[-1] = fit(f"{shown[-1]} {why[len(shown)]}", max(_NARROWEST, width - 3))
    return [fit(first, width), *(f"   {line}" for line in shown)]


def _table(cells: list[list[str]], *, right: Sequence[int], width: int) -> list[Row]:
    """Return a line for each row; what does not fit is the end of its last cells."""
    if not cells:
        return []
    cells = [[cell.replace("\n", " ") for cell in row] for row in cells]
    widths = [max(map(printed_width, column)) for column in zip(*cells, strict=True)]
    return [
        [
            fit(
                "  ".join(
                    padded(cell, columns, right=column in right)
                    for column, (cell, columns) in enumerate(zip(row, widths, strict=True))
                ).rstrip(),
                width,
            )
        ]
        for row in cells
    ]
