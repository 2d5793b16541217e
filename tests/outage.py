"""A service that is down for a while, and what it sees of 50 processes that share a breaker.

    python -m outage [--seconds 60] [--clients 50]

The service is an HTTP server on loopback that answers 503 while it is down; the clients go through
the httpx adapter, call it again and again, and heed no retry_after: `outage_clients.py`. What is
judged is the server's log and the clients', never what the daemon says of itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from live_daemon import LiveDaemon

#: How long a client waits from one call to the next.
PERIOD_S: Final = 0.25
HALF_OPEN_CALLS: Final = 3
BEFORE_S: Final = 2.0
_CLIENTS: Final = Path(__file__).with_name("outage_clients.py")


class Arrival(Struct, frozen=True):
    """A request that reached the service, by CLOCK_MONOTONIC, and how it was answered."""

    at_s: float
    status: int


class Outcome(Struct, frozen=True):
    """One call of a client. `kind`: ok, failed (answered 503), blocked, or what it raised.

    `ping_s` is what the daemon took just before to answer the same client that it is there.
    """

    client: int
    began_s: float
    took_s: float
    ping_s: float
    kind: str
    retry_after_s: float | None = None
    text: str = ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were ended in mid-request."""


class Service:
    """The HTTP server. It is up or down, and logs what reaches it."""

    def __init__(self) -> None:
        self.down = False
        self.log: list[Arrival] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = 503 if service.down else 200
                service.log.append(Arrival(time.monotonic(), status))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"hi")

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1/answers"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Scale(Struct, frozen=True, kw_only=True):
    """How long everything takes, in seconds."""

    outage_s: float
    open_s: float
    open_limit_s: float
    clients: int = 50

    @property
    def after_s(self) -> float:
        """How long to look on after the outage: what one interval, its spread and a call take."""
        return 1.1 * self.open_limit_s + 5.0

    def rules(self) -> dict[str, Any]:
        """Return the rules of the breaker, as the clients say them."""
        return {
            "window_calls": 100,
            "minimum_calls": 20,
            "failure_rate": 0.5,
            "slow_call_s": 0.9 * self.open_s,
            "open_s": self.open_s,
            "open_limit_s": self.open_limit_s,
            "half_open_calls": HALF_OPEN_CALLS,
        }

    def most_probes(self, span_s: float) -> int:
        """Return how many calls may reach a service that stays down, in so long after opening."""
        probes, at_s, wait_s = 0, 0.0, self.open_s
        while (at_s := at_s + wait_s) <= span_s:
            probes += HALF_OPEN_CALLS
            wait_s = min(2 * wait_s, self.open_limit_s)
        return probes


class Observed(Struct, frozen=True, kw_only=True):
    """What the service and the clients saw; times are of CLOCK_MONOTONIC."""

    scale: Scale
    down_s: float
    up_s: float
    arrivals: list[Arrival]
    outcomes: list[Outcome]

    def during(self, since_s: float, until_s: float) -> list[Outcome]:
        return [each for each in self.outcomes if since_s <= each.began_s < until_s]

    @property
    def blocked(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.kind == "blocked"]

    @property
    def opened_s(self) -> float:
        """When the breaker was first seen to be open."""
        return min(each.began_s + each.took_s for each in self.blocked)

    @property
    def reached(self) -> int:
        """How many calls reached the service while the breaker was open, and it was down.

        A call that was let through before has a second to get there.
        """
        since_s = self.opened_s + 1.0
        return sum(since_s < each.at_s < self.up_s for each in self.arrivals)

    @property
    def recovered_s(self) -> float:
        """How long after the end of the outage the last call was turned away."""
        return max(each.began_s + each.took_s for each in self.blocked) - self.up_s


def observe(directory: Path, scale: Scale) -> Observed:
    """Let it happen."""
    service = Service()
    daemon = LiveDaemon(directory).start()
    service.start()
    try:
        with _clients(daemon, service, scale, directory) as clients:
            time.sleep(BEFORE_S)
            service.down, down_s = True, time.monotonic()
            time.sleep(scale.outage_s)
            service.down, up_s = False, time.monotonic()
            time.sleep(scale.after_s)
            clients.terminate()
            assert clients.wait(30) == 0
    finally:
        daemon.close()
        service.close()
    outcomes = [
        Outcome(**json.loads(line))
        for log in sorted(directory.glob("client-*.jsonl"))
        for line in log.read_text().splitlines()
    ]
    return Observed(scale=scale, down_s=down_s, up_s=up_s, arrivals=service.log, outcomes=outcomes)


@contextmanager
def _clients(
    daemon: LiveDaemon, service: Service, scale: Scale, directory: Path
) -> Iterator[subprocess.Popen[str]]:
    """Start the clients, and yield when each of them has called."""
    task = {
        "socket": str(daemon.socket_path),
        "url": service.url,
        "rules": scale.rules(),
        "clients": scale.clients,
        "period_s": PERIOD_S,
        "directory": str(directory),
    }
    process = subprocess.Popen(
        [sys.executable, str(_CLIENTS), json.dumps(task)], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "all have called\n"
            yield process
        finally:
            process.kill()


def faults(seen: Observed) -> list[str]:
    """Return what was not as it has to be."""
    kinds = {each.kind: each for each in seen.outcomes}
    if missing := {"ok", "failed", "blocked"} - kinds.keys():
        return [f"no call was {missing}: the outage was not seen to happen"]
    return [*_other_faults(seen, kinds), *_faults_of_the_outage(seen), *_faults_after(seen)]


def _other_faults(seen: Observed, kinds: dict[str, Outcome]) -> Iterator[str]:
    if other := kinds.keys() - {"ok", "failed", "blocked"}:
        yield f"calls ended otherwise: {[kinds[each] for each in other]}"
    before = [each for each in seen.outcomes if each.began_s + each.took_s < seen.down_s]
    if early := [each for each in before if each.kind != "ok"]:
        yield f"{len(early)} calls did not go well before the outage: {early[0]}"


def _faults_of_the_outage(seen: Observed) -> Iterator[str]:
    scale = seen.scale
    most = scale.most_probes(seen.up_s - seen.opened_s)
    if not 0 < seen.reached <= most:
        yield f"{seen.reached} calls reached the service that was down, not 1 to {most}"
    if (told := len({each.client for each in seen.blocked})) != scale.clients:
        yield f"{told} of {scale.clients} clients were told that it is down"
    longest_s = 1.1 * scale.open_limit_s + 0.001
    for each in seen.blocked:
        if not 0 < (each.retry_after_s or 0) <= longest_s or "open" not in each.text:
            yield f"no clear error: {each}"
            return


def _faults_after(seen: Observed) -> Iterator[str]:
    scale, end_s = seen.scale, seen.up_s + seen.scale.after_s
    if seen.recovered_s > scale.open_limit_s + 1.0:
        yield f"it was {seen.recovered_s:.1f} s until all calls were let through again"
    last = seen.during(end_s - 3.0, end_s)
    if {each.client for each in last if each.kind == "ok"} != set(range(scale.clients)):
        yield "not all clients went well in the end"


def refusal_ms(seen: Observed, part: float) -> float:
    """Return how long that part of the refused clients waited at most for the word of it."""
    return _quantile([each.took_s * 1000 for each in seen.blocked], part)


def beyond_ping_ms(seen: Observed, part: float) -> float:
    """Return how much longer than a ping that part of the refusals took at most.

    The ping went before, over the same connection: a machine that is busy delays the one as well
    as the other, and what a refusal costs by itself is left.
    """
    return _quantile([(each.took_s - each.ping_s) * 1000 for each in seen.blocked], part)


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=50)
    given = parser.parse_args()
    scale = Scale(outage_s=given.seconds, open_s=2.0, open_limit_s=8.0, clients=given.clients)
    with tempfile.TemporaryDirectory() as directory:
        seen = observe(Path(directory), scale)
    p50, p99, most = (refusal_ms(seen, part) for part in (0.5, 0.99, 1.0))
    most_probes = scale.most_probes(seen.up_s - seen.opened_s)
    for what, measured in (
        ("outage", f"{seen.up_s - seen.down_s:.1f} s, {scale.clients} clients"),
        ("calls in all", f"{len(seen.outcomes):,}"),
        ("open after", f"{seen.opened_s - seen.down_s:.2f} s"),
        ("reached the service while open", f"{seen.reached} (probes that may: {most_probes})"),
        ("turned away", f"{len(seen.blocked):,} calls"),
        ("told so in", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {most:.2f} ms"),
        ("beyond a ping", f"p50 {beyond_ping_ms(seen, 0.5):.2f} ms"),
        ("last one turned away", f"{seen.recovered_s:.2f} s after the outage"),
    ):
        print(f"{what:32}{measured}")
    found = faults(seen)
    if p99 > 5.0:
        found.append(f"1 % of the refusals took more than {p99:.1f} ms, not 5")
    for fault in found:
        print(f"FAULT {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
