"""The one screen: verdict, GPUs as bars, leases, queue."""

from __future__ import annotations

import msgspec

from superezio.quantities import format_duration, format_size
from superezio.wire import BreakerList, Gpu, GpuList, Health, Lease, LeaseList, SystemInfo
from superezioctl.output import Output, printed_width
from superezioctl.views.gpus import short_name, state
from superezioctl.views.health import NOT_READ_YET, is_starting, show_reason
from superezioctl.views.leases import show_queue
from superezioctl.views.text import figure, fit, place, size, styled, user

#: leases' use, what they reserve beyond it, others' use, the driver's part, free
_MARKS = "█▒▓x·"
_MARKS_ASCII = "#+ox."
_STYLES = ("good", "good", "warn", "dim", "dim")
_BAR_COLUMNS = 32
#: What is not as usual. That one is disabled is an admin's wish, and of use to know all the same.
_STATES = {
    "open": "open",
    "half_open": "half-open",
    "forced_open": "held open",
    "disabled": "disabled",
}


def show(out: Output, parts: dict[str, bytes]) -> None:
    """Print the screen from the answers by name."""
    system = msgspec.json.decode(parts["system"], type=SystemInfo)
    health = msgspec.json.decode(parts["health"], type=Health)
    gpus = msgspec.json.decode(parts["gpus"], type=GpuList).gpus
    leases = msgspec.json.decode(parts["leases"], type=LeaseList)
    daemon = f"superezio {system.version}, up {format_duration(system.uptime_s)}"
    driver = f", driver {system.driver_version}" if system.driver_version else ""
    out.paragraph(f"{styled(out, health.verdict)}  {out.style(daemon + driver, 'dim')}")
    for reason in health.reasons:
        show_reason(out, reason)
    services = _services(parts["breakers"])
    if services:
        out.paragraph(f"{out.style('services:', 'bold')} {', '.join(services)}")
    out.line()
    if gpus:
        _show_gpus(out, gpus)
    else:
        out.line(NOT_READ_YET if is_starting(health) else "no GPUs")
    out.line()
    _show_leases(out, leases.leases)
    if leases.queue:
        out.line(out.style(f"queue ({len(leases.queue)})", "bold"))
        show_queue(out, leases.queue)


def _services(raw: bytes) -> list[str]:
    """Return in words what is the matter with the services that programs share."""
    found = msgspec.json.decode(raw, type=BreakerList | None)
    return [
        f"{each.name} {_STATES[each.state]} for {format_duration(round(each.state_s))}"
        for each in (found.breakers if found is not None else [])
        if each.shared and each.state in _STATES
    ]


def _show_gpus(out: Output, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        out.paragraph(
            f"{out.style(f'gpu {place(gpu.index, gpu.mig_index)}', 'bold')}  {short_name(gpu)}  "
            f"{figure(gpu.temperature_c, '°C')} (margin {figure(gpu.margin_c)})  "
            f"{figure(gpu.power_w)}/{figure(gpu.power_limit_w, 'W')}  "
            f"util {figure(gpu.utilization_core_percent, '%')}  {state(out, gpu)}"
        )
        if gpu.mig_mode == "enabled":
            used, total = size(gpu.vram_used_bytes), size(gpu.vram_total_bytes)
            out.line(f"  cut up by MIG into the instances below; {used} of {total} in use on them")
            continue
        _show_bar(out, gpu)
        if gpu.blocked_reason is not None:
            out.paragraph(f"  admits no lease: {gpu.blocked_reason}")
    out.paragraph(out.style(f"  {legend(out)}", "dim"))


def _show_bar(out: Output, gpu: Gpu) -> None:
    """Print the bar with its figures, or where there is no room for both these below it."""
    drawn, figures = f"  {bar(out, gpu)}", _figures(gpu)
    if out.on_terminal and printed_width(f"{drawn} {figures}") > out.width:
        out.line(drawn)
        out.paragraph(f"    {figures}")
    else:
        out.line(f"{drawn} {figures}")


def legend(out: Output) -> str:
    """Return what the marks in a bar mean."""
    marks = _MARKS if out.unicode else _MARKS_ASCII
    names = ("used by leases", "reserved", "others", "driver", "free")
    return "  ".join(f"{mark} {name}" for mark, name in zip(marks, names, strict=True))


def bar(out: Output, gpu: Gpu) -> str:
    """Draw a GPU's VRAM."""
    total = gpu.vram_total_bytes
    marks = _MARKS if out.unicode else _MARKS_ASCII
    if not total or gpu.vram_used_bytes is None:
        return f"[{'?' * _BAR_COLUMNS}]"
    foreign = gpu.vram_foreign_bytes or 0
    leased = max(0, gpu.vram_used_bytes - foreign)
    amounts = [
        leased,
        max(0, gpu.vram_reserved_bytes - leased),
        foreign,
        gpu.vram_driver_reserved_bytes or 0,
    ]
    drawn, done, columns = "", 0, 0
    for amount, mark, style in zip(amounts, marks, _STYLES, strict=False):
        done += amount
        # Sums are rounded, not parts: the bar has the same length whatever is in it.
        end = min(_BAR_COLUMNS, round(done / total * _BAR_COLUMNS))
        drawn += out.style(mark * (end - columns), style)
        columns = max(columns, end)
    return f"[{drawn}{out.style(marks[4] * (_BAR_COLUMNS - columns), 'dim')}]"


def _figures(gpu: Gpu) -> str:
    used = "?" if gpu.vram_used_bytes is None else format_size(gpu.vram_used_bytes)
    total = "?" if gpu.vram_total_bytes is None else format_size(gpu.vram_total_bytes)
    return f"{used} of {total}, {format_size(gpu.vram_leasable_bytes)} leasable"


def _show_leases(out: Output, leases: list[Lease]) -> None:
    if not leases:
        out.line("no leases")
        return
    out.line(out.style(f"leases ({len(leases)})", "bold"))
    for lease in leases:
        places = ", ".join(
            f"gpu {'?' if gpu.index is None else place(gpu.index, gpu.mig_index)}: "
            f"{size(gpu.actual_bytes)} of "
            f"{size(gpu.reserved_bytes)}"
            for gpu in lease.gpus
        )
        holder = ", ".join(
            f"{process.pid} {process.command or ''}".rstrip() for process in lease.holder
        )
        name = f"{lease.name}, " if lease.name else ""
        age = format_duration(lease.age_s)
        line = f"  {places}  {user(lease.uid)}: {name}{holder or lease.mode}, {age}, {lease.state}"
        out.paragraph(fit(line, max(out.width, 80)))
