"""Faults of what the daemon writes to: full, read-only, corrupt."""

from __future__ import annotations

from system.faults.fault import Fault, Sight
from system.faults.host import RUNTIME, STATE, FaultyHost
from system.service import GIB, SOCKET, UNIT, RefusedError

#: More breakers to keep than the log has room for as it is.
_BREAKERS = """\
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
answers = sock.makefile("r")
for number in range(600):
    params = {"name": f"breaker-of-a-service-with-a-rather-long-name-{number}"}
    request = {"jsonrpc": "2.0", "id": number, "method": "breaker.acquire", "params": params}
    sock.sendall(json.dumps(request).encode() + b"\\n")
    permit = json.loads(answers.readline())["result"]
    params = {"name": permit["name"], "permit": permit["permit"], "outcome": "success"}
    request = {"jsonrpc": "2.0", "id": number, "method": "breaker.settle", "params": params}
    sock.sendall(json.dumps(request).encode() + b"\\n")
    answers.readline()
"""


def runtime_full(host: FaultyHost) -> Sight:
    file = _fill(host, RUNTIME)
    status = host.status("^degraded.*(full|cannot write)")
    refused = _refusal(host)
    host.machine.run("rm", file)
    host.status("^healthy", timeout_s=40)
    return Sight(f"grants refused: {refused}", status, host.event("health.changed", "full|write"))


def state_full(host: FaultyHost) -> Sight:
    # A log that has grown before is written over, and takes no room.
    host.restart()
    host.forgive()
    file = _fill(host, STATE)
    left = host.machine.output("df", "--output=avail", STATE).split()[-1]
    host.machine.run("/usr/bin/python3", "-c", _BREAKERS, SOCKET)
    status = host.status("^degraded: cannot write .*state.db")
    host.machine.run("rm", file)
    host.status("^healthy", timeout_s=40)
    return Sight(f"{left} KiB left", status, host.event("health.changed", "state.db"))


def state_read_only(host: FaultyHost) -> Sight:
    """From a start on: the kernel makes no file system read-only that is being written to."""
    host.machine.run("systemctl", "stop", UNIT, "superezio.socket")
    host.machine.run("mount", "-o", "remount,ro", STATE)
    mounted = host.machine.output("findmnt", "--noheadings", "--output=OPTIONS", STATE)
    assert mounted.startswith("ro,"), mounted
    host.start()
    status = host.status("^degraded: cannot use .*state.db")
    said = host.event("health.changed", "state.db")
    host.service.lease()
    host.machine.run("mount", "-o", "remount,rw", STATE)
    host.forgive()
    host.restart()
    host.status("^healthy", timeout_s=30)
    return Sight("mounted ro, and a lease is granted", status, said)


def state_corrupt(host: FaultyHost) -> Sight:
    host.machine.run("systemctl", "stop", UNIT, "superezio.socket")
    spoil = f"rm -f {STATE}/state.db-*; dd if=/dev/urandom of={STATE}/state.db bs=4096 count=4"
    host.machine.run("sh", "-c", spoil)
    host.start()
    status = host.status("^degraded: a corrupt file was found")
    said = host.event("health.changed", "corrupt")
    aside = host.machine.output("sh", "-c", f"ls {STATE}/state.db.corrupt-*")
    host.machine.run("rm", *aside.split())
    host.forgive()
    host.restart()
    host.status("^healthy")
    return Sight(f"kept as {aside.strip().rpartition('/')[2]}", status, said)


def leases_corrupt(host: FaultyHost) -> Sight:
    """Nobody knows any more what was leased: that is said, and none is believed to stand."""
    host.machine.run("systemctl", "stop", UNIT, "superezio.socket")
    file = f"{RUNTIME}/leases.db"
    spoil = f"rm -f {file}-*; dd if=/dev/urandom of={file} bs=4096 count=4"
    host.machine.run("sh", "-c", spoil)
    host.start()
    status = host.status("^degraded: a corrupt file was found and moved to .*leases.db")
    said = host.event("lease.lost", "those of this boot are not known any more")
    aside = host.machine.output("sh", "-c", f"ls {file}.corrupt-*")
    # Each holder that asks for its own is told.
    host.await_renewal()
    host.machine.run("rm", *aside.split())
    host.forgive()
    host.restart()
    host.status("^healthy")
    return Sight(f"kept as {aside.strip().rpartition('/')[2]}", status, said)


def _fill(host: FaultyHost, directory: str) -> str:
    file = f"{directory}/filler"
    host.machine.run("dd", "if=/dev/zero", f"of={file}", "bs=4096", check=False)
    left = host.machine.output("df", "--output=avail", directory).split()[-1]
    assert left == "0", left
    return file


def _refusal(host: FaultyHost) -> str:
    try:
        host.service.call("lease.acquire", {"vram_bytes": GIB})
    except RefusedError as refused:
        return str(refused.kind)
    raise AssertionError("a grant that cannot be recorded is none")


FAULTS = (
    Fault(name="runtime directory full", provoke=runtime_full, away_s=5, lives_on=True),
    Fault(name="state directory full", provoke=state_full, away_s=10),
    Fault(name="state directory read-only", provoke=state_read_only, away_s=15),
    Fault(name="corrupt state file", provoke=state_corrupt, away_s=15),
    Fault(name="corrupt file of leases", provoke=leases_corrupt, away_s=15, says_loss=True),
)
