"""The NVIDIA driver, by its files alone: cards, library, kernel module, device nodes.

NVML is not called here, for such a call may hang; what it says the daemon is asked for.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from superezio.wire import Gpu, SystemInfo
from superezioctl.doctor.finding import Finding, fail, ok, warn
from superezioctl.doctor.host import Host

_LIBRARY = "libnvidia-ml.so.1"
_NVIDIA = "0x10de"
#: The class of a display controller, which a GPU is even without a display.
_DISPLAY = "0x03"
_VERSION = re.compile(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b")
_CAPABILITIES = "/proc/driver/nvidia/capabilities"
_READ = 0o004
_READ_WRITE = 0o666
#: By the id of the distribution, or of one that it is like.
_PACKAGES = {
    "ubuntu": "ubuntu-drivers install",
    "debian": "apt-get install nvidia-driver",
    "fedora": "dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda",
    "arch": "pacman -S nvidia nvidia-utils",
}


def check(host: Host, system: SystemInfo | None, gpus: list[Gpu] | None) -> Iterator[Finding]:
    """Check what the driver needs; simulated GPUs need nothing of it."""
    if system is not None and system.gpu_driver == "simulated":
        yield ok("card", "the daemon simulates its GPUs, which needs neither card nor driver")
        return
    cards = _cards(host)
    loaded = _module_version(host)
    if not cards and loaded is None:
        yield _without_cards(gpus, runs=system is not None)
        return
    yield ok("card", f"NVIDIA cards on the PCI bus: {len(cards)}")
    error = _library_error(host)
    yield _library(host, error)
    yield _module(host, loaded, installed=error is None)
    if loaded is not None:
        yield from _versions(host, loaded)
        yield _nodes(host)


def _without_cards(gpus: list[Gpu] | None, *, runs: bool) -> Finding:
    if gpus:
        return ok("card", f"the daemon sees {len(gpus)}, though not on a PCI bus we can see")
    how = "runs" if runs else "would run"
    message = f"there is no NVIDIA card on the PCI bus: the daemon {how}, with no GPUs"
    return warn("card", message, "lspci -d 10de:")


def check_mig(host: Host, system: SystemInfo | None, gpus: list[Gpu] | None) -> Finding:
    """Check that the daemon may read MIG devices, where there are any."""
    refused = sorted({str(gpu.index) for gpu in gpus or () if gpu.mig_mode == "no_permission"})
    if system is not None and system.gpu_driver == "simulated":
        return _simulated_mig(refused, gpus or [], f"{system.runtime_dir}/simulated")
    instances = [
        f"{gpu}/mig/{instance}"
        for gpu in host.names(_CAPABILITIES)
        for instance in host.names(f"{_CAPABILITIES}/{gpu}/mig")
        if instance.startswith("gi")
    ]
    seen = _seen(gpus or [])
    if not refused and not instances:
        if seen:
            return ok("mig", f"MIG instances: {seen}, which the daemon reads")
        return ok("mig", "no GPU is divided into MIG instances")
    files = ["mig/monitor", *(f"{instance}/access" for instance in instances)]
    nodes = {node: file for file in files if (node := _capability_node(host, file))}
    mend = _mend_nodes(host, nodes)
    if refused:
        return fail(
            "mig", f"the daemon may not read the MIG devices of gpu {', '.join(refused)}", mend
        )
    if gpus is None and not all(_open_to_all(host, node, _READ) for node in nodes):
        return warn(
            "mig", "MIG devices are not open to everyone: the daemon has to read them", mend
        )
    return ok("mig", f"MIG instances: {len(instances)}, and nothing keeps the daemon from them")


def _simulated_mig(refused: list[str], gpus: list[Gpu], directory: str) -> Finding:
    if refused:
        return fail(
            "mig",
            f"the daemon may not read the MIG devices of gpu {', '.join(refused)}: so it is "
            "simulated",
            f"python -m supereziod.gpu.control --directory {directory} {refused[0]} "
            "mig_forbidden=false",
        )
    seen = _seen(gpus)
    if seen:
        return ok("mig", f"MIG instances: {seen}, which the daemon simulates")
    return ok("mig", "no GPU is divided into MIG instances")


def _seen(gpus: list[Gpu]) -> int:
    return sum(gpu.parent is not None for gpu in gpus)


def _mend_nodes(host: Host, nodes: dict[str, str]) -> str:
    missing = [file for node, file in nodes.items() if not host.exists(node)]
    closed = [node for node in nodes if not _open_to_all(host, node, _READ)]
    return host.as_root(
        *(f"nvidia-modprobe -f {_CAPABILITIES}/{file}" for file in missing),
        f"setfacl -m u:superezio:r {' '.join(closed) or '/dev/nvidia-caps/*'}",
    )


def _cards(host: Host) -> list[str]:
    devices = "/sys/bus/pci/devices"
    return [
        name
        for name in host.names(devices)
        if (host.text(f"{devices}/{name}/vendor") or "").strip() == _NVIDIA
        and (host.text(f"{devices}/{name}/class") or "").startswith(_DISPLAY)
    ]


def _library_error(host: Host) -> str | None:
    try:
        host.load(_LIBRARY)
    except OSError as error:
        return str(error)
    return None


def _library(host: Host, error: str | None) -> Finding:
    if error is None:
        return ok("library", f"{_LIBRARY} is there")
    missing = "cannot open shared object file: No such file" in error
    why = "is not installed" if missing else f"cannot be loaded: {error}"
    return fail("library", f"{_LIBRARY}, the driver's library, {why}", _install(host))


def _install(host: Host) -> str:
    """Return the command that installs the driver on this distribution."""
    release = host.text("/etc/os-release") or ""
    ids = re.findall(r'^ID(?:_LIKE)?="?([^"\n]+)', release, re.MULTILINE)
    for id_ in " ".join(ids).split():
        if id_ in _PACKAGES:
            return host.as_root(_PACKAGES[id_])
    return "install the NVIDIA driver as your distribution has it"


def _versions(host: Host, loaded: str) -> Iterator[Finding]:
    """Compare the versions of library and module, where both can be told."""
    version = _library_version(host)
    if version is None or not loaded:
        return
    if version == loaded:
        yield ok("driver_version", f"library and kernel module are both of driver {loaded}")
        return
    yield fail(
        "driver_version",
        f"the library is of driver {version} and the kernel module of {loaded}: it was upgraded "
        "under what runs",
        host.as_root("reboot"),
    )


def _library_version(host: Host) -> str | None:
    """Return the version in the name of the file that was loaded."""
    maps = host.text("/proc/self/maps") or ""
    names = [line.rpartition("/")[2] for line in maps.splitlines() if "libnvidia-ml.so" in line]
    matches = (_VERSION.search(name.removeprefix("libnvidia-ml.so.")) for name in names)
    return next((match[1] for match in matches if match), None)


def _module_version(host: Host) -> str | None:
    """Return the version of the kernel module that is loaded; empty where it does not say."""
    version = (host.text("/sys/module/nvidia/version") or "").strip()
    if version:
        return version
    proc = host.text("/proc/driver/nvidia/version")
    if proc is None:
        return "" if host.exists("/sys/module/nvidia") else None
    match = _VERSION.search(proc.partition("\n")[0])
    return match[1] if match else ""


def _module(host: Host, loaded: str | None, *, installed: bool) -> Finding:
    if loaded is not None:
        return ok("kernel_module", f"nvidia {loaded or '(of an unknown version)'} is loaded")
    if host.exists("/sys/module/nouveau"):
        disable = host.as_root("tee /etc/modprobe.d/nouveau.conf", "reboot")
        return fail(
            "kernel_module",
            "nouveau drives the cards, so that nvidia cannot be loaded",
            f"echo 'blacklist nouveau' | {disable}",
        )
    load = host.as_root("modprobe nvidia") if installed else _install(host)
    return fail("kernel_module", "nvidia is not loaded", load)


def _nodes(host: Host) -> Finding:
    """Check /dev/nvidia*: one for control, and one for each card that the driver has."""
    minors = _minors(host)
    wanted = ["/dev/nvidiactl", *(f"/dev/nvidia{minor}" for minor in minors)]
    missing = [node for node in wanted if not host.exists(node)]
    make = host.as_root(*(f"nvidia-modprobe -c {minor} -u" for minor in minors or [0]))
    if missing:
        # A container is given the nodes of some cards, while it sees the files of all.
        some = host.exists(wanted[0]) and len(missing) < len(minors)
        found = warn if some else fail
        return found("device_nodes", f"{', '.join(missing)}: not there", make)
    closed = [node for node in wanted if not _open_to_all(host, node, _READ_WRITE)]
    if closed:
        return warn(
            "device_nodes",
            f"{', '.join(closed)}: not open to everyone, the daemon's user and yours included",
            host.as_root(f"chmod 666 {' '.join(closed)}"),
        )
    if not host.exists("/dev/nvidia-uvm"):
        return warn("device_nodes", "/dev/nvidia-uvm is not there: CUDA programs need it", make)
    return ok("device_nodes", f"{', '.join(wanted)}: there, and open to everyone")


def _minors(host: Host) -> list[int]:
    found = []
    for bus_id in host.names("/proc/driver/nvidia/gpus"):
        information = host.text(f"/proc/driver/nvidia/gpus/{bus_id}/information") or ""
        match = re.search(r"^Device Minor:\s*(\d+)$", information, re.MULTILINE)
        if match:
            found.append(int(match[1]))
    return sorted(found)


def _capability_node(host: Host, file: str) -> str | None:
    """Return the device node that a capability of the driver goes by."""
    text = host.text(f"{_CAPABILITIES}/{file}") or ""
    match = re.search(r"^DeviceFileMinor:\s*(\d+)$", text, re.MULTILINE)
    return f"/dev/nvidia-caps/nvidia-cap{match[1]}" if match else None


def _open_to_all(host: Host, node: str, mode: int) -> bool:
    found = host.stat(node)
    return isinstance(found, os.stat_result) and stat.S_IMODE(found.st_mode) & mode == mode
