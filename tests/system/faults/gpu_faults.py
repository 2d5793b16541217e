"""Faults of the GPUs' side: the probe, and the driver, which is the simulated one."""

from __future__ import annotations

from supereziod.gpu.control import DriverFault
from system.faults.fault import Fault, Sight
from system.faults.host import SOCKET_UNIT, FaultyHost
from system.service import GIB, UNIT

_RESPONSE = "superezio-overheat.service"
_MODEL = "superezio-model@server.service"
#: Its card is the hot one: its lease is asked back before anything else is done.
_MODEL_FILE = """\
command = ["/usr/bin/sleep", "infinity"]
vram = "8GiB"
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
    """Restart, restart, restart, failed; the models are stopped, and all is back once it is cool.

    The card cools down only after they have been stopped, so that nothing else brings it back.
    The model on it has ended by then, and waits: it is among what is stopped and brought back.
    """
    model = _start_model(host)
    host.gpus.temperature(0, 95)
    host.event("watchdog.withheld", timeout_s=60)
    host.status("95 C")
    host.event("overheat.models_stopped", _MODEL, timeout_s=180)
    failed = host.state(r"failed \(Result: watchdog\)").removeprefix("Active: ")
    aborts = sum("Watchdog timeout" in str(each["MESSAGE"]) for each in host.entries())
    assert aborts == 1 + 3, "a hot quarter of an hour is three restarts, however many clients ask"
    assert host.machine.properties(_MODEL, "ActiveState") == {"ActiveState": "inactive"}
    status = host.status(
        "reads CRITICAL at 95 C.*; the daemon and 1 models stay stopped", unit=_RESPONSE
    )

    host.gpus.temperature(0, 40)
    said = host.event("overheat.over", timeout_s=60)
    host.machine.wait_for_properties(_RESPONSE, ActiveState="inactive", Result="success")
    for unit in (SOCKET_UNIT, UNIT, _MODEL):
        assert host.machine.properties(unit, "ActiveState") == {"ActiveState": "active"}, unit
    assert _model_lease(host) != model, "it has a lease of its own, as one that was started anew"
    host.machine.run("systemctl", "stop", _MODEL)
    host.gpus.restore(0)
    host.status("^healthy", timeout_s=60)
    return Sight(f"{aborts} aborts, {failed}; models stopped; cool; all back", status, said)


def _start_model(host: FaultyHost) -> str:
    """Start a model server, and return its lease."""
    host.machine.write("/etc/superezio/models/server.toml", _MODEL_FILE)
    host.machine.run("systemctl", "start", _MODEL)
    return _model_lease(host)


def _model_lease(host: FaultyHost) -> str:
    leases = host.service.call("lease.list")["leases"]
    (lease,) = (each["id"] for each in leases if each["name"] == "server")
    return str(lease)


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
    Fault(name="probe killed", provoke=probe_killed, away_s=5, lives_on=True),
    Fault(name="probe stuck", provoke=probe_stuck, away_s=5, lives_on=True),
    Fault(name="driver removed", provoke=driver_removed, away_s=5, lives_on=True),
    Fault(name="driver upgraded", provoke=driver_upgraded, away_s=5, lives_on=True),
)
#: After all others, as the wait for another restart grows with each.
HEAT = (Fault(name="overheating", provoke=overheating, away_s=60),)
