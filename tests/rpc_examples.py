"""The examples of docs/rpc.md: one exchange for each method, with a daemon on simulated GPUs.

`.venv/bin/python tests/rpc_examples.py` prints a new recording, for docs/rpc-examples.json. Pids,
times and random ids differ each time, so that it is recorded when the shape of an answer has
changed, and not at every build.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from live_daemon import LiveDaemon

Json = dict[str, Any]

_GIB = 1 << 30
_CONFIG = """
[limit.shared.openai]
everyone = true
[limit.shared.openai.host]
tokens = "90000/1m"
money_per_month = "200.00"
"""


class Wire:
    """One connection, and the lines that went over it, as objects."""

    def __init__(self, socket_path: Path) -> None:
        self.exchanges: dict[str, Json] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(socket_path))
        self._lines = self._socket.makefile("r")
        self._ids = itertools.count(1)
        self._kept: deque[Json] = deque()

    def ask(
        self, method: str, params: Json | None = None, *, meta: Json | None = None, name: str = ""
    ) -> Json:
        """Make one exchange and keep it; return the result, or the error."""
        request = self.send(method, params, meta=meta)
        answer = self.receive(request["id"])
        self.exchanges[name or method] = {"request": request, "answer": answer}
        result: Json = answer["result"] if "result" in answer else answer["error"]
        return result

    def send(self, method: str, params: Json | None = None, *, meta: Json | None = None) -> Json:
        """Send a request and do not wait."""
        request: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        if params is not None:
            request["params"] = params
        if meta is not None:
            request["meta"] = meta
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return request

    def receive(self, request_id: int) -> Json:
        """Return the answer to a request; what comes before it is kept."""
        while True:
            message: Json = json.loads(self._lines.readline())
            if message.get("id") == request_id:
                return message
            self._kept.append(message)

    def event(self, type_: str) -> Json:
        """Return the next notification of an event of this type."""
        while True:
            message: Json = self._kept.popleft() if self._kept else json.loads(next(self._lines))
            if message.get("params", {}).get("event", {}).get("type") == type_:
                return message

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()


def record(directory: Path) -> dict[str, Json]:
    """Return an exchange for each method, and some more, by name."""
    with ExitStack() as stack:
        daemon = LiveDaemon(directory, config=_CONFIG)
        stack.callback(daemon.close)
        daemon.start()
        wire = Wire(daemon.socket_path)
        stack.callback(wire.close)
        _look(wire)
        _lease(wire, daemon)
        _resume(wire, daemon)
        _renew(wire)
        _limit(wire)
        wire.ask("gpu.history", {"gpu": "0", "since_s": 5})
        wire.ask("metrics.get")
        _call_services(wire)
        _cache(wire, daemon)
        _trace(wire)
        _administer(wire, daemon)
        return _as_installed(wire.exchanges, directory)


def _look(wire: Wire) -> None:
    opened = wire.ask("session.open", {"name": "renderer"})
    session = {"session_id": opened["session_id"]}
    wire.ask("system.ping")
    wire.ask("system.info")
    wire.ask("health.get")
    wire.ask("gpu.list")
    wire.ask("session.list", meta=session)
    wire.ask("session.close", session)
    wire.ask("rpc.discover")


def _lease(wire: Wire, daemon: LiveDaemon) -> None:
    wire.ask("events.subscribe", {"types": ["lease.", "gpu.level"], "replay": 10})
    with _process("sleep", "60") as holder:
        lease = wire.ask(
            "lease.acquire",
            {"vram_bytes": 8 * _GIB, "holder_pid": holder.pid, "name": "llm", "wait_ms": 30_000},
            meta={"correlation_id": "job-17", "idempotency_key": "job-17", "deadline_ms": 35_000},
        )
        wire.exchanges["event"] = {"notification": wire.event("lease.granted")}
        with _standin(daemon, lease) as model:
            wire.ask("lease.attach", {"lease": lease["id"], "pid": model.pid})
            wire.event("lease.active")
            wire.ask("gpu.processes", {"gpu": "0"})
            wire.ask("gpu.get", {"gpu": lease["gpus"][0]["uuid"][:12]})
            wire.ask("lease.get", {"lease": lease["id"]})
            wire.ask("lease.quota")
            wire.ask("placement.explain", {"vram_bytes": 3 * _GIB, "policy": "spread"})
            wire.ask("lease.acquire", {"vram_bytes": 9 * _GIB}, name="no_capacity")
            wire.send("lease.acquire", {"vram_bytes": 9 * _GIB, "wait_ms": 60_000})
            wire.event("lease.queued")
            queue = wire.ask("lease.list")["queue"]
            wire.ask("lease.cancel", {"waiter": queue[0]["id"]})
            waiting = wire.send("lease.acquire", {"vram_bytes": 9 * _GIB, "wait_ms": 60_000})
            wire.event("lease.queued")
            wire.ask("rpc.cancel", {"id": waiting["id"]})
        wire.ask("lease.ready", {"lease": lease["id"]})
        order = {"lease": lease["id"], "deadline_s": 60, "reason": "a new driver"}
        wire.ask("lease.revoke", order)
        answer = {"lease": lease["id"], "message": "saving the last epoch"}
        wire.ask("lease.acknowledge", answer)
        wire.ask("lease.release", {"lease": lease["id"]})


def _resume(wire: Wire, daemon: LiveDaemon) -> None:
    other = Wire(daemon.socket_path)
    # On the second GPU, whether what was released on the first is back yet or not.
    params = {"vram_bytes": _GIB, "mode": "connection", "wait_ms": 30_000, "avoid": ["0"]}
    lease = other.ask("lease.acquire", params)["id"]
    other.close()
    wire.event("lease.orphaned")
    wire.ask("lease.resume", {"lease": lease})


def _renew(wire: Wire) -> None:
    params = {"vram_bytes": _GIB, "mode": "ttl", "ttl_ms": 30_000, "wait_ms": 30_000}
    lease = wire.receive(wire.send("lease.acquire", params)["id"])["result"]["id"]
    wire.ask("lease.renew", {"lease": lease})
    wire.receive(wire.send("lease.release", {"lease": lease})["id"])


def _call_services(wire: Wire) -> None:
    rules = {"minimum_calls": 1, "open_s": 20}
    call = {"name": "openai/gpt"}
    permit = wire.ask("breaker.acquire", {**call, "rules": rules})["permit"]
    outcome = {"outcome": "throttled", "retry_after_ms": 45_000}
    wire.ask("breaker.settle", {**call, "permit": permit, **outcome})
    wire.ask("breaker.get", call)
    wire.ask("breaker.list")
    wire.ask("breaker.force_open", call)
    wire.ask("breaker.disable", call)
    wire.ask("breaker.reset", call)


def _cache(wire: Wire, daemon: LiveDaemon) -> None:
    at = {"namespace": "embeddings", "key": "sha256:8c1f"}
    lead = wire.ask("cache.get", {**at, "fill": True}, name="cache.lead")
    wire.ask(
        "cache.set",
        {**at, "text": "[0.12, 0.97]", "tags": ["model-2"], "token": lead["token"]},
    )
    wire.ask("cache.get", {**at, "fill": True})
    other = {"namespace": "embeddings", "key": "sha256:77aa"}
    lead = wire.ask("cache.get", {**other, "fill": True}, name="cache.other")
    waiting = Wire(daemon.socket_path)
    request = waiting.send("cache.get", {**other, "fill": True})
    while wire.ask("cache.stats")["namespaces"][0]["waiting"] == 0:
        pass
    wire.ask("cache.fail", {**other, "token": lead["token"], "error": "HTTP 503"})
    failed = {"request": request, "answer": waiting.receive(request["id"])}
    wire.exchanges["fill_failed"] = failed
    waiting.close()
    wire.ask("cache.delete", {"namespace": "embeddings", "tag": "model-2"})
    wire.ask("cache.clear", {"namespace": "embeddings"})


def _trace(wire: Wire) -> None:
    attributes = {"file": "llama.gguf", "layers": 33}
    span = {"correlation_id": "job-17", "name": "load the model", "duration_ms": 1500}
    wire.ask("trace.annotate", {**span, "attributes": attributes})
    wire.ask("trace.get", {"id": "job-17"})
    wire.ask("trace.find", {"failed": True, "method": "lease.", "last": 2})


def _limit(wire: Wire) -> None:
    taken = wire.ask("limit.acquire", {"name": "openai", "tokens": 900, "wait_ms": 5000})
    wire.ask("limit.acquire", {"name": "openai", "tokens": 90_000}, name="rate_limited")
    remaining = {"tokens": 40_000, "tokens_reset_ms": 27_000}
    used = {"reservation": taken["reservation"], "tokens": 412, "remaining": remaining}
    wire.ask("limit.settle", used)
    wire.ask("limit.peek", {"name": "openai"})
    wire.ask("limit.list")
    wire.ask("limit.reset", {"name": "openai"})


def _administer(wire: Wire, daemon: LiveDaemon) -> None:
    subscription = wire.exchanges["events.subscribe"]["answer"]["result"]["subscription"]
    wire.ask("events.unsubscribe", {"subscription": subscription})
    wire.ask("gpu.cordon", {"gpu": "1", "reason": "new fan"})
    wire.ask("gpu.uncordon", {"gpu": "1"})
    wire.ask("system.log_level", {"level": "debug"})
    wire.ask("system.reload")
    wire.ask("config.get", {"key": "limit.shared.openai.host"})
    daemon.configure(_CONFIG.replace("200.00", "300.00"))
    wire.ask("config.diff")
    wire.ask("gpu.detach")
    wire.ask("gpu.attach")


@contextmanager
def _process(
    *command: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _standin(daemon: LiveDaemon, lease: Json) -> Iterator[subprocess.Popen[str]]:
    """A process that uses what was leased, from its first line of output on."""
    command = (sys.executable, "-m", "supereziod.gpu.standin", "--vram", "7GiB")
    environment = {**daemon.standin_environment(), **lease["environment"]}
    with _process(*command, environment=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def _command_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()


def _as_installed(exchanges: dict[str, Json], directory: Path) -> dict[str, Json]:
    """Name the paths that an installed daemon has."""
    text = json.dumps(exchanges)
    for path, installed in (
        (directory / "run", "/run/superezio"),
        (directory / "control.sock", "/run/superezio/control.sock"),
        (directory / "state", "/var/lib/superezio"),
        (directory / "superezio.toml", "/etc/superezio/superezio.toml"),
        (_command_of("self"), "python render.py"),
        (sys.executable, "/usr/bin/python3"),
    ):
        text = text.replace(str(path), installed)
    named: dict[str, Json] = json.loads(text)
    # Some hundred lines, of which docs/metrics.md tells.
    metrics = named["metrics.get"]["answer"]["result"]
    metrics["text"] = "".join(
        line + "\n" for line in metrics["text"].splitlines() if "superezio_up" in line
    )
    # Some thousand lines, and the daemon's own account of what docs/rpc.md says.
    named["rpc.discover"]["answer"]["result"] = {"openrpc": "1.3.2", "methods": []}
    return named


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        exchanges = record(Path(scratch) / "daemon")
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in exchanges.items())
    print("{\n" + ",\n".join(lines) + "\n}")
