"""The units: installed, enabled, active, and if they failed, why."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from superezioctl.doctor.finding import Finding, fail, ok, warn
from superezioctl.doctor.host import Host, properties
from superezioctl.unit import OVERHEAT, STOPPED, has_bad_configuration, is_still_to_start

SERVICE = "superezio.service"
SOCKET = "superezio.socket"
_MODEL = "superezio-model@"
_PROPERTIES = (
    "Id",
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "StatusText",
)
#: A daemon that hangs is killed after so long, which costs no lease.
_STOPS_WITHIN_S = 15
_WHY = {
    "start-limit-hit": "it failed, or was started, too often in a quarter of an hour",
    "watchdog": "it did not ping its watchdog: it hung, or a GPU stayed critical",
    "oom-kill": "the kernel ran out of memory and killed it",
    "timeout": "it took too long to start or to stop",
    "resources": "systemd could not set it up",
}
Units = dict[str, dict[str, str]]


def units(host: Host) -> Units | None:
    """Return what systemd knows of the units by name; None where there is no systemd to ask."""
    if not host.exists("/run/systemd/system"):
        return None
    wanted = f"--property={','.join(_PROPERTIES)}"
    asked = (SERVICE, SOCKET, OVERHEAT, f"{_MODEL}*.service")
    shown = host.run("systemctl", "show", *asked, "--no-pager", wanted)
    if shown is None:
        return None
    return {unit["Id"]: unit for unit in properties(shown) if "Id" in unit}


def how_to_start(host: Host, known: Units | None) -> str:
    """Return the command that starts the daemon on this host."""
    if not is_installed(known):
        return "supereziod"
    service = (known or {}).get(SERVICE, {})
    if _is_too_hot(host, known):
        return "journalctl -u superezio-overheat -n 50"
    start = f"systemctl start {SOCKET} {SERVICE}"
    if service.get("ActiveState") == "failed":
        # Past its start limit systemd refuses a plain start.
        return host.as_root(f"systemctl reset-failed {SOCKET} {SERVICE}", start)
    if is_active(known):
        # Nobody reaches what runs: of the socket there is nothing but the name to systemd, or it
        # was stopped, and systemd does not listen for a service that runs.
        return host.as_root(f"systemctl restart {SOCKET} {SERVICE}")
    return host.as_root(start)


def how_to_restart(host: Host, known: Units | None, *, pid: int | None = None) -> str:
    """Return the command that ends a daemon that runs, and starts it again.

    `pid` is who listens, where systemd does not: one that was started by hand, by its own words.
    """
    service = (known or {}).get(SERVICE, {})
    if service.get("ActiveState") in {"active", "activating"}:
        return host.as_root(f"systemctl restart {SERVICE}")
    if service.get("ActiveState") == "failed" or pid is None:
        return how_to_start(host, known)
    found = host.stat(f"/proc/{pid}")
    other = isinstance(found, os.stat_result) and found.st_uid != host.uid
    sudo = "sudo " if other and host.uid != 0 else ""
    words = (host.text(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0")
    # A second daemon does not start beside one that has not ended yet.
    end = f"timeout {_STOPS_WITHIN_S} tail --pid={pid} -f /dev/null || {sudo}kill -9 {pid}"
    return f"{sudo}kill {pid}; {end}; {sudo}{shlex.join(words) if words[0] else 'supereziod'}"


def check(host: Host, known: Units | None, *, answers: bool) -> Iterator[Finding]:
    """Check the units. A daemon that answers without them was started by hand, which is fine."""
    if known is None:
        yield _without_systemd(answers=answers)
        return
    service, socket = known.get(SERVICE, {}), known.get(SOCKET, {})
    if service.get("LoadState") != "loaded":
        state = service.get("LoadState", "unknown").replace("not-found", "not installed")
        yield warn(
            "unit",
            f"{SERVICE} is {state}: the daemon does not start with the host",
            host.as_root("make install"),
        )
        return
    yield ok("unit", f"{SERVICE} is installed")
    if _is_too_hot(host, known):
        status = known[OVERHEAT].get("StatusText") or "it waits for the GPUs to be cool"
        message = f"{OVERHEAT} starts the daemon again once the GPUs are cool: {status}"
        yield fail("overheat", message, how_to_start(host, known))
    yield _enabled(host, service, socket)
    yield _active(host, known, answers=answers)
    yield _listening(host, known, answers=answers)
    yield from _models(known)


def is_installed(known: Units | None) -> bool:
    """Say whether systemd has the service."""
    return (known or {}).get(SERVICE, {}).get("LoadState") == "loaded"


def is_active(known: Units | None) -> bool:
    """Say whether systemd has the service running."""
    return (known or {}).get(SERVICE, {}).get("ActiveState") == "active"


def _is_too_hot(host: Host, known: Units | None) -> bool:
    """Say whether the daemon stands still until it is cool: it is nobody's to start then."""
    units = known or {}
    if units.get(OVERHEAT, {}).get("ActiveState") != "active":
        return False
    return not is_active(known) and is_still_to_start(host.text(STOPPED))


def _without_systemd(*, answers: bool) -> Finding:
    if answers:
        return ok("unit", "no systemd answers here, and none is needed: the daemon runs")
    return warn("unit", "no systemd answers here: run the daemon in a terminal", "supereziod")


def _enabled(host: Host, service: dict[str, str], socket: dict[str, str]) -> Finding:
    states = {SERVICE: service.get("UnitFileState"), SOCKET: socket.get("UnitFileState")}
    off = [name for name, state in states.items() if state not in {"enabled", "static"}]
    if not off:
        return ok("unit_enabled", f"{SERVICE} and {SOCKET} start with the host")
    return warn(
        "unit_enabled",
        f"{' and '.join(off)}: not started with the host",
        host.as_root(f"systemctl enable {' '.join(off)}"),
    )


def _active(host: Host, known: Units, *, answers: bool) -> Finding:
    service = known[SERVICE]
    state = f"{service.get('ActiveState', 'unknown')} ({service.get('SubState', 'unknown')})"
    active = service.get("ActiveState")
    if active == "active":
        restarts = service.get("NRestarts", "0")
        again = f", restarted {restarts} times" if restarts not in {"", "0"} else ""
        return ok("unit_active", f"{SERVICE} is active{again}")
    if active == "failed":
        return _failed(host, known)
    if active in {"activating", "reloading", "deactivating"}:
        return warn("unit_active", f"{SERVICE} is {state}", "journalctl -u superezio -n 50")
    found = warn if answers else fail
    return found("unit_active", f"{SERVICE} is {state}", how_to_start(host, known))


def _failed(host: Host, known: Units) -> Finding:
    result = known[SERVICE].get("Result", "")
    status = known[SERVICE].get("ExecMainStatus", "")
    start = how_to_start(host, known)
    if has_bad_configuration(known[SERVICE]):
        message = f"{SERVICE} has failed: its configuration is bad"
        return fail("unit_active", message, f"superezioctl config check && {start}")
    why = _WHY.get(result, f"result {result}, status {status}")
    message = f"{SERVICE} has failed: {why}; `journalctl -u superezio -n 50` has the rest"
    return fail("unit_active", message, start)


def _listening(host: Host, known: Units, *, answers: bool) -> Finding:
    state = known.get(SOCKET, {}).get("ActiveState", "unknown")
    if state == "active":
        return ok("socket_unit", f"{SOCKET} is active")
    found = warn if answers else fail
    return found(
        "socket_unit", f"{SOCKET} is {state}: nobody listens for systemd", how_to_start(host, known)
    )


def _models(known: Units) -> Iterator[Finding]:
    """Name model servers that systemd has given up."""
    for name in sorted(known):
        if not name.startswith(_MODEL) or known[name].get("ActiveState") != "failed":
            continue
        model = name.removeprefix(_MODEL).removesuffix(".service")
        yield warn(
            "model",
            f"the model {model} has failed, and systemd starts it no more: `superezioctl model"
            " list` says how to go on",
            f"journalctl -u {_MODEL}{model} -n 50",
        )
