"""Faults of the GPUs' side: the probe, and the driver, which is the simulated one."""

from __future__ import annotations

from supereziod.gpu.control import DriverFault
from system.faults.fault import Fault, Sight
from system.faults.host import FaultyHost
from system.service import GIB, UNIT

_RESPONSE = "superezio-overheat.service"
#: A twentieth of the shipped times.
_QUICK_HEAT = """\
[watchdog]
grace = "1500ms"
[gpu.thermal]
warm_enter_dwell = "500ms"
hot_enter_dwell = "250ms"
critical_throttle_dwell = "500ms"
"""


def probe_killed(host: FaultyHost) -> Sight:
    probe = host.probe_pid()
    host.signal("KILL", probe)
    said = host.event("probe.lost", str(probe))
    host.wait_until("another probe", lambda: _children(host) not in ([], [probe]))
    _admits(host)
    return Sight("another pid probes", host.status("^healthy"), said)


def probe_stuck(host: FaultyHost) -> Sight:
    probe = host.probe_pid()
    host.signal("STOP", probe)
    said = host.event("probe.lost", f"{probe} is silent", timeout_s=40)
    status = host.status("^degraded: .*does not answer|probe")
    _admits(host)
    host.signal("CONT", probe)
    host.wait_until("the end of the old one", lambda: probe not in _children(host))
    host.status("^healthy", timeout_s=40)
    return Sight("state T, another pid probes", status, said)


def driver_removed(host: FaultyHost) -> Sight:
    return _without_driver(host, "no_driver", "^degraded.*driver")


def driver_upgraded(host: FaultyHost) -> Sight:
    return _without_driver(host, "version_mismatch", "^degraded.*(version|upgraded|mismatch)")


def _without_driver(host: FaultyHost, fault: DriverFault, shown: str) -> Sight:
    """Have the driver answer with a fault, and then as before."""
    host.gpus.driver_fault(fault)
    status = host.status(shown)
    said = host.event("driver.lost")
    host.gpus.driver_fault(None)
    found = host.event("driver.found", timeout_s=40)
    host.status("^healthy", timeout_s=40)
    _admits(host)
    return Sight(found, status, said)


def overheating(host: FaultyHost) -> Sight:
    """Restart, restart, restart, failed; then whatever the host has to answer it with."""
    file = "/etc/superezio/conf.d/hot.toml"
    host.machine.write(file, _QUICK_HEAT)
    host.restart()
    host.forgive()
    host.gpus.temperature(0, 95)
    said = host.event("watchdog.withheld", timeout_s=40)
    status = host.status("95 C", timeout_s=20)
    failed = host.state(r"failed \(Result: watchdog\)", timeout_s=100)
    aborts = sum("Failed with result 'watchdog'" in each["MESSAGE"] for each in host.entries())
    assert aborts >= 3, "a hot quarter of an hour is three restarts, never a storm"
    host.gpus.temperature(0, None)
    host.machine.run("rm", file)
    if host.machine.properties(_RESPONSE, "LoadState") == {"LoadState": "loaded"}:
        host.machine.wait_for_properties(UNIT, ActiveState="active", timeout_s=100)
    else:
        host.start()
    return Sight(f"{aborts} watchdogs, then {failed}", status, said)


def _admits(host: FaultyHost) -> None:
    """Wait until a lease is granted again."""
    granted = host.service.call(
        "lease.acquire",
        {"vram_bytes": GIB, "mode": "ttl", "ttl_ms": 60000, "wait_ms": 30000},
        timeout_s=35,
    )
    host.service.call("lease.release", {"lease": granted["id"]})


def _children(host: FaultyHost) -> list[int]:
    pid = host.service.main_pid
    return [
        int(each) for each in host.machine.output("cat", f"/proc/{pid}/task/{pid}/children").split()
    ]


FAULTS = (
    Fault(name="probe killed", provoke=probe_killed, away_s=2),
    Fault(name="probe stuck", provoke=probe_stuck, away_s=2),
    Fault(name="driver removed", provoke=driver_removed, away_s=2),
    Fault(name="driver upgraded", provoke=driver_upgraded, away_s=2),
)
#: After all others, as a card does not cool down at once.
HEAT = (Fault(name="overheating", provoke=overheating, away_s=120, is_short=False),)
