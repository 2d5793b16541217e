"""What superezio.service may do and may not, tried from inside, and what more would break."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nvml_sim.build import SONAME
from nvml_sim.simulator import STATE_VARIABLE, NvmlSimulator
from system.machine import Machine
from system.service import GIB, UNIT, RefusedError, Service

_SHIPPED = Path(__file__).parents[2] / "systemd" / UNIT
_TRIES = "/usr/lib/superezio-test/tries.py"
#: Runs in place of the daemon, in all that its unit puts around it, and says how each try ended.
_SCRIPT = """\
import ctypes, errno, json, mmap, os, resource, socket, sys, time
found = {}
def tried(name, do):
    try:
        do()
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
    else:
        found[name] = "done"
def wait_for(path):
    for _ in range(2000):
        if os.path.exists(path):
            return
        time.sleep(0.005)
print("looking", flush=True)
if len(sys.argv) > 1:
    wait_for(sys.argv[1])
for node in ("nvidia0", "nvidiactl", "nvidia-uvm", "fuse-like"):
    tried("open " + node, lambda: os.close(os.open("/dev/" + node, os.O_RDWR)))
for place in ("/run/superezio", "/var/lib/superezio", "/tmp", "/etc/superezio", "/usr/lib", "/run"):
    tried("write " + place, lambda: open(place + "/tried", "w").close())
for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"):
    tried(family, lambda: socket.socket(getattr(socket, family), socket.SOCK_DGRAM).close())
both = mmap.PROT_WRITE | mmap.PROT_EXEC
tried("make code", lambda: mmap.mmap(-1, 4096, prot=both).close())
tried("map data", lambda: mmap.mmap(-1, 4096).close())
tried("list homes", lambda: os.listdir("/home"))
tried("read root's", lambda: os.listdir("/root"))
tried("set the clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
tried("signal another", lambda: os.kill(1, 0))
tried("look at another", lambda: open("/proc/1/stat").close())
tried("be somebody else", lambda: os.setuid(0))
libc = ctypes.CDLL(None, use_errno=True)
def called(status):
    if status < 0:
        raise OSError(ctypes.get_errno(), "")
tried("a namespace", lambda: called(libc.unshare(0x10000000)))
tried("mount", lambda: called(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
def run_from(directory):
    path = directory + "/program"
    with open(path, "w") as program:
        program.write("#!/bin/sh\\n")
    os.chmod(path, 0o700)
    os.posix_spawn(path, [path], {})
tried("run from its state", lambda: run_from("/var/lib/superezio"))
print(json.dumps(found), flush=True)
"""
_IN_ITS_PLACE = f"""\
[Service]
Type=exec
NotifyAccess=none
WatchdogSec=0
Restart=no
ExecStart=
ExecStart=/usr/bin/python3 {_TRIES}"""


def _nodes(machine: Machine) -> None:
    # Of a major number that the kernel here has no driver for: what is allowed ends in ENXIO.
    for name, numbers in {
        "nvidia-uvm": "511 0",
        "nvidiactl": "195 255",
        "nvidia0": "195 0",
    }.items():
        machine.run("sh", "-c", f"mknod /dev/{name}.new c {numbers}")
        machine.run("chmod", "666", f"/dev/{name}.new")
        machine.run("mv", f"/dev/{name}.new", f"/dev/{name}")


def _found(machine: Machine) -> dict[str, str]:
    def said() -> dict[str, str] | None:
        lines = [str(entry["MESSAGE"]) for entry in machine.journal(f"--unit={UNIT}")]
        return next((json.loads(line) for line in lines if line.startswith("{")), None)

    found: dict[str, str] = machine.wait_until("what was tried", said)
    return found


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    machine.run("useradd", "--groups", "superezio", "alice")
    service = Service(machine)
    machine.write(_TRIES, _SCRIPT)
    machine.run("sh", "-c", "mknod -m 666 /dev/fuse-like c 10 229")
    yield service
    machine.run("systemctl", "stop", UNIT, "superezio.socket")


def _leased_by(service: Service, user: str | None = None) -> dict[str, Any]:
    """Lease for a process that lives on, of `user`."""
    pid = service.machine.output(
        "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!", user=user
    )
    return service.call("lease.acquire", {"vram_bytes": GIB, "holder_pid": int(pid)}, user=user)


def test_the_daemon_has_no_rights_and_sees_gpus_users_and_files_of_its_own(
    service: Service,
) -> None:
    service.drop_in(f"{_IN_ITS_PLACE} /dev/nvidia0\n")
    service.start()
    service.await_message("looking")
    _nodes(service.machine)  # a driver that is loaded after the start
    assert _found(service.machine) == {
        "open nvidia0": "ENXIO",
        "open nvidiactl": "ENXIO",
        "open nvidia-uvm": "EPERM",
        "open fuse-like": "EPERM",
        "write /run/superezio": "done",
        "write /var/lib/superezio": "done",
        "write /tmp": "done",
        "write /etc/superezio": "EROFS",
        "write /usr/lib": "EROFS",
        "write /run": "EROFS",
        "AF_UNIX": "done",
        "AF_INET": "EAFNOSUPPORT",
        "AF_INET6": "EAFNOSUPPORT",
        "AF_NETLINK": "EAFNOSUPPORT",
        "AF_PACKET": "EAFNOSUPPORT",
        "make code": "EPERM",
        "map data": "done",
        "list homes": "EACCES",
        "read root's": "EACCES",
        "set the clock": "EPERM",
        "signal another": "EPERM",
        "look at another": "done",
        "be somebody else": "EPERM",
        "a namespace": "EPERM",
        "mount": "EPERM",
        "run from its state": "EACCES",
    }


def test_daemon_and_probe_have_no_capabilities(service: Service) -> None:
    service.start()
    pids = service.machine.output("pgrep", "--uid", "superezio").split()
    assert len(pids) == 2
    for pid in pids:
        status = service.machine.output("cat", f"/proc/{pid}/status")
        found = dict(re.findall(r"^(Cap\w+|NoNewPrivs|Seccomp):\s+(\w+)$", status, re.MULTILINE))
        assert {name for name, value in found.items() if int(value, 16) == 0} == {
            *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        }
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_all_that_is_stored_outlives_a_kill_in_the_sandbox(service: Service) -> None:
    """Ring, leases and cordons are written under it; metrics are told, and a limit taken over."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.start()
    lease, _ = service.lease(correlation_id="under-the-sandbox")
    service.call("gpu.cordon", {"gpu": "1", "reason": "fan"})
    service.machine.run("kill", "-KILL", str(service.main_pid))
    service.await_restart(1)
    assert service.leases() == [lease]
    assert [gpu["cordoned"] for gpu in service.call("gpu.list")["gpus"]] == [False, True]
    trace = service.machine.output("superezioctl", "--json", "trace", "under-the-sandbox")
    assert "lease.acquire" in trace
    assert "superezio_up 1" in service.machine.output("superezioctl", "metrics")


def test_a_drivers_library_is_loaded_read_and_heard_in_the_sandbox(
    service: Service, nvml_library: Path, nvml_sim: NvmlSimulator
) -> None:
    """The probe's threads sample, and a fault comes through its thread for XIDs."""
    machine = service.machine
    shutil.copy(nvml_library / SONAME, machine.root / f"usr/lib/superezio-test/{SONAME}")
    state = machine.root / "run/superezio/nvml.state"
    shutil.copy(nvml_sim.path, state)
    machine.run("chown", "superezio:", "/run/superezio/nvml.state")
    machine.write("/etc/superezio/conf.d/simulated.toml", '[gpu]\ndriver = "nvml"\n')
    service.drop_in(
        "[Service]\nEnvironment=LD_LIBRARY_PATH=/usr/lib/superezio-test"
        f" {STATE_VARIABLE}=/run/superezio/nvml.state\n"
    )
    service.start()
    gpus = machine.wait_until(
        "samples", lambda: [gpu["temperature_c"] for gpu in service.call("gpu.list")["gpus"]]
    )
    assert None not in gpus
    assert service.call("system.info")["gpu_driver"] == "nvml"
    with NvmlSimulator(state) as inside:
        inside.gpu(0).raise_xid(79)
    service.await_message("reported XID 79")
    daemon = service.main_pid
    probe = machine.output("pgrep", "--parent", str(daemon)).strip()
    loaded = [SONAME in machine.output("cat", f"/proc/{pid}/maps") for pid in (daemon, probe)]
    assert loaded == [False, True], "the probe alone has it"


def test_exposure_is_at_most_one_and_each_point_left_open_has_its_reason(machine: Machine) -> None:
    analyze = ("systemd-analyze", "security", "--offline=true", "--threshold=10")
    machine.run(*analyze, UNIT)
    points = json.loads(machine.output(*analyze, "--json=short", UNIT))
    # `RestrictAddressFamilies=~AF_UNIX`, `RootDirectory=/RootImage=`: the setting is what counts.
    left_open = {point["name"].partition("=")[0] for point in points if point["exposure"]}
    comments = "".join(re.findall(r"^#.*$", _SHIPPED.read_text(), re.MULTILINE))
    without_reason = [name for name in left_open if f"{name}=" not in comments]
    assert "PrivateUsers" in left_open
    assert without_reason == []


def test_private_users_must_not_be_used_as_all_clients_would_be_one(service: Service) -> None:
    service.start()
    alice = int(service.machine.output("id", "--user", "alice"))
    assert _leased_by(service, "alice")["uid"] == alice
    service.drop_in("[Service]\nPrivateUsers=yes\n")
    service.machine.run("systemctl", "restart", UNIT)
    assert _leased_by(service, "alice")["uid"] == 65534


def test_protect_proc_must_not_be_used_as_holders_would_be_gone(service: Service) -> None:
    service.start()
    lease = _leased_by(service, "alice")["id"]
    assert service.leases() == [lease]
    service.drop_in("[Service]\nProtectProc=invisible\n")
    service.machine.run("systemctl", "restart", UNIT)
    assert service.leases() == [], "a lease whose holder lives was lost"
    with pytest.raises(RefusedError) as refused:
        _leased_by(service, "alice")
    assert refused.value.kind == "holder_gone"


def test_proc_subset_must_not_be_used_as_kernel_and_driver_would_be_hidden(
    service: Service,
) -> None:
    service.drop_in("[Service]\nProcSubset=pid\n")
    failed = service.machine.run("systemctl", "start", UNIT, check=False)
    assert failed.returncode != 0
    service.await_message("/proc/sys/kernel/random/boot_id")


def test_private_devices_must_not_be_used_as_gpus_would_be_hidden(service: Service) -> None:
    _nodes(service.machine)
    service.drop_in(f"{_IN_ITS_PLACE}\nPrivateDevices=yes\n")
    service.start()
    found = _found(service.machine)
    assert (found["open nvidia0"], found["open nvidiactl"]) == ("ENOENT", "ENOENT")


def test_names_of_devices_alone_miss_a_driver_that_comes_later(service: Service) -> None:
    service.drop_in(f"{_IN_ITS_PLACE} /dev/nvidia0\nDeviceAllow=\nDeviceAllow=char-nvidia rw\n")
    service.start()
    service.await_message("looking")
    _nodes(service.machine)
    assert _found(service.machine)["open nvidia0"] == "EPERM"
