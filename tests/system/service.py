"""superezio.service in a machine: configured for simulated GPUs, called over its socket."""

from __future__ import annotations

import json
import time
from typing import Any

from system.machine import Machine

UNIT = "superezio.service"
SCENARIO = "/etc/superezio/scenario.toml"
SOCKET = "/run/superezio/control.sock"
GIB = 1 << 30
#: As independent of the project's client as can be. Prints one answer; gives up after a while.
_CALLER = """\
import json, socket, sys
path, timeout, request = sys.argv[1], float(sys.argv[2]), sys.argv[3]
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(timeout)
    sock.connect(path)
    sock.sendall(request.encode() + b"\\n")
    print(sock.makefile("r").readline())
"""
#: A thousand clients connect at once, each asks, and each waits for its answer.
ASKING_CROWD = """\
import json, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
crowd = []
for number in range(1000):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(sys.argv[1])
    request = {"jsonrpc": "2.0", "id": number, "method": "system.ping"}
    sock.sendall(json.dumps(request).encode() + b"\\n")
    crowd.append(sock)
print("connected", flush=True)
answers = [json.loads(sock.makefile("r").readline()) for sock in crowd]
print(sum("result" in answer and answer["id"] == n for n, answer in enumerate(answers)))
"""


class RefusedError(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.kind = error["data"]["kind"]


class Service:
    """The service in `machine`, judged by its answers, by systemctl and by the journal."""

    def __init__(self, machine: Machine, *, config: str = "", scenario: str = "") -> None:
        self.machine = machine
        machine.write(SCENARIO, scenario)
        self.configure(config)

    def configure(self, config: str) -> None:
        """Write the configuration: simulated GPUs, and what else is said."""
        self.machine.write("/etc/superezio/superezio.toml", config)
        self.machine.write(
            "/etc/superezio/conf.d/simulated.toml",
            f'[gpu]\ndriver = "simulated"\nscenario = "{SCENARIO}"\n',
        )

    def drop_in(self, text: str, *, name: str = "test") -> None:
        """Change the unit, as an administrator does."""
        self.machine.write(f"/etc/systemd/system/{UNIT}.d/{name}.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        """Start socket and service; returns when the service is ready."""
        self.machine.run("systemctl", "start", "superezio.socket", UNIT)

    @property
    def main_pid(self) -> int:
        """The pid, in the machine, of the instance that runs now."""
        return int(self.machine.properties(UNIT, "MainPID")["MainPID"])

    def await_restart(self, number: int, *, timeout_s: float = 30) -> None:
        """Wait until systemd has restarted it so many times, and it is ready again."""
        self.machine.wait_for_properties(
            UNIT, NRestarts=str(number), ActiveState="active", timeout_s=timeout_s
        )

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        user: str | None = None,
        correlation_id: str | None = None,
        timeout_s: float = 10,
    ) -> dict[str, Any]:
        """Call a method from inside the machine. Raises RefusedError."""
        done = self.machine.run(
            *self.caller(method, params, correlation_id=correlation_id, timeout_s=timeout_s),
            user=user,
            timeout_s=timeout_s + 10,
        )
        return self.result(done.stdout)

    def conditions(self) -> set[str]:
        """Return the conditions that health shows now, of whichever severity."""
        return {reason["check"] for reason in self.call("health.get")["reasons"]}

    def caller(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        correlation_id: str | None = None,
        timeout_s: float = 10,
    ) -> list[str]:
        """Return the command that makes one call."""
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
        request["params"] = params or {}
        if correlation_id is not None:
            request["meta"] = {"correlation_id": correlation_id}
        return ["/usr/bin/python3", "-c", _CALLER, SOCKET, str(timeout_s), json.dumps(request)]

    def result(self, answer: str) -> dict[str, Any]:
        """Return the result in an answer. Raises RefusedError."""
        parsed = json.loads(answer)
        if "error" in parsed:
            raise RefusedError(parsed["error"])
        result: dict[str, Any] = parsed["result"]
        return result

    def lease(self, *, correlation_id: str | None = None) -> tuple[str, int]:
        """Lease a GiB for a process that lives on; return the lease and the process."""
        holder = self.machine.output("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
        pid = int(holder)
        granted = self.call(
            "lease.acquire",
            {"vram_bytes": GIB, "holder_pid": pid, "wait_ms": 5000},
            correlation_id=correlation_id,
        )
        return granted["id"], pid

    def leases(self) -> list[str]:
        """Return the ids of the leases that stand."""
        return [lease["id"] for lease in self.call("lease.list")["leases"]]

    def start_times(self) -> list[float]:
        """Return when each instance so far was started, in seconds of the machine's clock."""
        entries = self.machine.journal(f"UNIT={UNIT}", "JOB_TYPE=start", "JOB_RESULT=done")
        return [int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6 for entry in entries]

    def messages(self, *matches: str) -> list[str]:
        """Return the messages of the service's own journal."""
        return [str(entry["MESSAGE"]) for entry in self.machine.journal(f"--unit={UNIT}", *matches)]

    def await_message(self, part: str, *, timeout_s: float = 20) -> str:
        """Wait for a line in the service's journal."""

        def found() -> str | None:
            return next((line for line in self.messages() if part in line), None)

        message: str = self.machine.wait_until(f"journal: {part}", found, timeout_s=timeout_s)
        return message


def seconds_since(started: float) -> float:
    """Return the time since a reading of time.monotonic()."""
    return time.monotonic() - started
