"""GPUs as text."""

from __future__ import annotations

import msgspec

from superezio.quantities import format_duration
from superezio.wire import CordonChange, Gpu, GpuList, GpuProcessList, Health
from superezioctl.lease_ids import SHOWN_COLUMNS
from superezioctl.output import Output
from superezioctl.views.health import NOT_READ_YET, is_starting
from superezioctl.views.text import NOTHING, figure, place, size, styled, user

#: As much of a UUID as tells the GPUs of a host apart; `gpu show` takes it.
_UUID_COLUMNS = 12


def show_none(out: Output, raw: bytes) -> None:
    """Say why the list is empty, by the health of the host."""
    if is_starting(msgspec.json.decode(raw, type=Health)):
        out.line(NOT_READ_YET)
    else:
        out.line("no GPUs: `superezioctl health` says why")


def is_empty(raw: bytes) -> bool:
    """Whether there is no GPU in a list."""
    return not msgspec.json.decode(raw, type=GpuList).gpus


def show_list(out: Output, raw: bytes) -> None:
    """Print a line for each GPU."""
    gpus = msgspec.json.decode(raw, type=GpuList).gpus
    header = (
        "GPU",
        "NAME",
        "TEMP",
        "UTIL",
        "POWER",
        "USED",
        "TOTAL",
        "LEASABLE",
        "LEASES",
        "STATE",
    )
    out.table(
        header,
        [
            (
                place(gpu.index, gpu.mig_index),
                _name_in_list(gpu),
                figure(gpu.temperature_c, "°C"),
                figure(gpu.utilization_core_percent, "%"),
                figure(gpu.power_w, "W"),
                size(gpu.vram_used_bytes),
                size(gpu.vram_total_bytes),
                size(gpu.vram_leasable_bytes),
                str(gpu.leases),
                state(out, gpu),
            )
            for gpu in gpus
        ],
        right=(2, 3, 4, 5, 6, 7, 8),
        spare=(4, 3, 8, 6, 2),
        cut=1,
    )
    down = {gpu.uuid for gpu in gpus if _is_down(gpu)}
    for gpu in gpus:
        # What is said of a GPU goes for its instances too.
        if gpu.blocked_reason is not None and gpu.parent not in down:
            which = place(gpu.index, gpu.mig_index)
            out.paragraph(f"gpu {which} admits no lease: {gpu.blocked_reason}")


def _is_down(gpu: Gpu) -> bool:
    """Whether the GPU is out of order as a whole, and not only cut up."""
    return (
        gpu.status != "ok"
        or gpu.level in {"hot", "critical", "unknown"}
        or gpu.fitness == "quarantined"
        or gpu.cordoned
    )


def _name_in_list(gpu: Gpu) -> str:
    if gpu.parent is None:
        return short_name(gpu)
    return f"  MIG {gpu.mig_profile or 'instance'}"


def short_name(gpu: Gpu) -> str:
    """Return the name without the maker's, which is the same for all."""
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def state(out: Output, gpu: Gpu) -> str:
    """Return what matters most of a GPU's states, in its colour."""
    if gpu.mig_mode == "no_permission":
        return out.style("no permission", "warn")
    if gpu.status != "ok":
        return styled(out, gpu.status)
    if gpu.fitness == "quarantined":
        return styled(out, gpu.fitness)
    words = [styled(out, gpu.level)]
    if gpu.fitness != "healthy":
        words.append(styled(out, gpu.fitness))
    if gpu.cordoned:
        words.append(out.style("cordoned", "warn"))
    if gpu.mig_mode == "enabled":
        words.append("cut by MIG")
    return ", ".join(words)


def show_one(out: Output, raw: bytes) -> None:
    """Print all that is known of one GPU."""
    gpu = msgspec.json.decode(raw, type=Gpu)
    out.line(out.style(f"gpu {place(gpu.index, gpu.mig_index)}: {gpu.name}", "bold"))
    rows = [*_states(out, gpu), *_memory(gpu), *_figures(gpu), *_identity(gpu)]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        out.paragraph(f"  {out.style(f'{name:<{width}}', 'dim')}  {text}", indent=width + 4)


def _states(out: Output, gpu: Gpu) -> list[tuple[str, str]]:
    cordon = f"yes: {gpu.cordon_reason}" if gpu.cordon_reason else "yes"
    status = styled(out, gpu.status)
    return [
        ("status", f"{status}: {gpu.status_reason}" if gpu.status_reason else status),
        ("level", styled(out, gpu.level)),
        ("fitness", styled(out, gpu.fitness)),
        ("cordoned", cordon if gpu.cordoned else "no"),
        ("admits leases", "yes" if gpu.admissible else f"no: {gpu.blocked_reason or 'not said'}"),
    ]


def _memory(gpu: Gpu) -> list[tuple[str, str]]:
    return [
        ("VRAM total", size(gpu.vram_total_bytes)),
        ("VRAM used", size(gpu.vram_used_bytes)),
        ("VRAM free", size(gpu.vram_free_bytes)),
        ("VRAM of the driver", size(gpu.vram_driver_reserved_bytes)),
        ("VRAM of leases", f"{size(gpu.vram_reserved_bytes)} (leases: {gpu.leases})"),
        ("VRAM of others", size(gpu.vram_foreign_bytes)),
        ("VRAM leasable", size(gpu.vram_leasable_bytes)),
    ]


def _figures(gpu: Gpu) -> list[tuple[str, str]]:
    throttling = NOTHING if gpu.throttle_reasons is None else ", ".join(gpu.throttle_reasons)
    thresholds = f"slows down at {figure(gpu.slowdown_temperature_c)}, stops at "
    thresholds += figure(gpu.shutdown_temperature_c)
    ecc = {None: NOTHING, True: "on", False: "off"}[gpu.ecc_enabled]
    if gpu.ecc_enabled:
        ecc += f", {figure(gpu.ecc_corrected)} corrected, {figure(gpu.ecc_uncorrected)} not"
    age = NOTHING if gpu.sample_age_s is None else f"{format_duration(gpu.sample_age_s)} ago"
    return [
        ("temperature", f"{figure(gpu.temperature_c, '°C')} ({thresholds})"),
        ("margin", figure(gpu.margin_c, "°C")),
        ("memory temperature", figure(gpu.memory_temperature_c, "°C")),
        ("throttled by", throttling or "nothing"),
        ("utilisation", figure(gpu.utilization_core_percent, "%")),
        ("memory utilisation", figure(gpu.utilization_memory_percent, "%")),
        ("power", f"{figure(gpu.power_w, 'W')} of {figure(gpu.power_limit_w, 'W')}"),
        ("fan", figure(gpu.fan_percent, "%")),
        ("clocks", f"{figure(gpu.clock_core_mhz)} / {figure(gpu.clock_memory_mhz)} MHz"),
        ("ECC", ecc),
        ("sampled", age),
    ]


def _identity(gpu: Gpu) -> list[tuple[str, str]]:
    link = f"generation {figure(gpu.pcie_generation)} of {figure(gpu.pcie_generation_max)}, "
    link += f"x{figure(gpu.pcie_width)} of x{figure(gpu.pcie_width_max)}"
    return [
        ("UUID", gpu.uuid),
        ("PCI bus id", gpu.pci_bus_id),
        ("PCIe", link),
        ("driver", figure(gpu.driver_version)),
        ("CUDA", figure(gpu.cuda_version)),
        ("compute capability", figure(gpu.compute_capability)),
        ("compute mode", figure(gpu.compute_mode)),
        ("MIG", _mig(gpu)),
        ("display", {None: NOTHING, True: "attached", False: "none"}[gpu.drives_display]),
    ]


def _mig(gpu: Gpu) -> str:
    if gpu.parent is None:
        return figure(gpu.mig_mode)
    return f"{gpu.mig_profile or 'an instance'}, a part of gpu {gpu.index} ({gpu.parent})"


def is_cut_up(raw: bytes) -> bool:
    """Whether MIG cuts up the GPU that was shown."""
    return msgspec.json.decode(raw, type=Gpu).mig_mode == "enabled"


def show_instances(out: Output, raw: bytes, gpus: bytes) -> None:
    """Print a line for each MIG instance of the GPU that was shown."""
    whole = msgspec.json.decode(raw, type=Gpu)
    parts = [g for g in msgspec.json.decode(gpus, type=GpuList).gpus if g.parent == whole.uuid]
    out.line("MIG instances" if parts else "MIG is on, and there are no instances: none to lease")
    for part in parts:
        which = place(part.index, part.mig_index)
        free = f"{size(part.vram_leasable_bytes)} of {size(part.vram_total_bytes)} leasable"
        reason = "" if part.blocked_reason is None else f": {part.blocked_reason}"
        out.paragraph(
            f"  {which}  {part.mig_profile or NOTHING}  {free}, leases: {part.leases},"
            f" {state(out, part)}{reason}  {part.uuid}",
            indent=len(which) + 4,
        )


def show_change(out: Output, raw: bytes, what: str, *, typed: str) -> None:
    """Print that the GPU which was meant by `typed` is `what`."""
    change = msgspec.json.decode(raw, type=CordonChange)
    which = typed
    if change.gpu is not None:
        which = f"{place(change.index, change.mig_index)} ({change.name}, {change.gpu})"
    out.paragraph(f"gpu {which} {what}")
    if change.recorded is False:
        out.paragraph("not kept over a reboot: see `superezioctl health`")


def show_processes(out: Output, raw: bytes, gpus: bytes) -> None:
    """Print a line for each process, its GPU by the index that `gpus` tells."""
    processes = msgspec.json.decode(raw, type=GpuProcessList).processes
    if not processes:
        out.line("no processes on the GPUs")
        return
    index = {
        gpu.uuid: place(gpu.index, gpu.mig_index)
        for gpu in msgspec.json.decode(gpus, type=GpuList).gpus
    }
    out.table(
        ("GPU", "PID", "TYPE", "VRAM", "USER", "LEASE", "UNIT", "COMMAND"),
        [
            (
                index.get(process.gpu, process.gpu[:_UUID_COLUMNS]),
                str(process.pid),
                process.type,
                size(process.vram_bytes),
                process.user or user(process.uid),
                (process.lease or NOTHING)[:SHOWN_COLUMNS],
                process.container or process.unit or NOTHING,
                process.command or NOTHING,
            )
            for process in processes
        ],
        right=(1, 3),
        spare=(2,),
        cut=7,
    )
