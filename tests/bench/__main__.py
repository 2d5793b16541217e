"""`make bench`: the budgets, measured in one run against baselines of the same minute.

    python -m bench [--short] [--json FILE]

Absolute figures do not carry from one machine to another, so each is printed beside its baseline
(a raw uvloop echo server, `python -c pass`) and as the median of interleaved pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.clients import client_rows
from bench.instructions import instruction_rows
from bench.processes import children_of, cpu_seconds, pss_bytes
from bench.table import Budget, Row, judged, print_table
from live_daemon import LiveDaemon

HERE = Path(__file__).parent
PING = '{"jsonrpc":"2.0","id":1,"method":"system.ping"}'
EIGHT_GPUS = "".join('[[gpu]]\nprofile = "RTX 3060"\n' for _ in range(8))

#: One user may ask 20,000 times a second, which is not what is measured here.
UNLIMITED = "[limits]\nrequests_per_second = 10_000_000\nrequests_burst = 10_000_000\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    rounds, seconds = (3, 0.5) if options.short else (9, 2.0)
    with tempfile.TemporaryDirectory(prefix="superezio-bench-") as name:
        directory = Path(name)
        load = build_load(directory)
        rows = [
            *request_rows(directory, load, rounds, seconds),
            *instruction_rows(directory),
            *called_rows(directory, rounds),
            *start_rows(directory, rounds),
            *command_rows(directory, rounds * 3),
            *idle_rows(directory, 5.0 if options.short else 30.0),
        ]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows]))
    return 0


def build_load(directory: Path) -> Path:
    binary = directory / "load"
    subprocess.run(["gcc", "-O2", "-o", binary, HERE / "load.c"], check=True)
    return binary


def request_rows(directory: Path, load: Path, rounds: int, seconds: float) -> Iterator[Row]:
    """CPU and latency per request, server and client on one core: no idle wake-up counts."""
    daemon = LiveDaemon(directory / "request", config=UNLIMITED).start()
    echo_path = directory / "echo.sock"
    echo = subprocess.Popen([sys.executable, HERE / "echo_server.py", echo_path])
    cpu = min(os.sched_getaffinity(0))
    try:
        for pid in (daemon.pid, echo.pid):
            os.sched_setaffinity(pid, {cpu})
        for label, connections, depth, figure, budget in (
            (
                "server CPU per request, 256 connections",
                256,
                1,
                "server_cpu_us",
                Budget(2.2, 1.7, "x"),
            ),
            ("p50, one connection, one core", 1, 1, "p50_us", Budget(1.6, 1.35, "x")),
            ("server CPU per request, 64 deep", 1, 64, "server_cpu_us", None),
        ):
            pairs = [
                (
                    run_load(load, daemon.socket_path, daemon.pid, connections, depth, seconds),
                    run_load(load, echo_path, echo.pid, connections, depth, seconds),
                )
                for _ in range(rounds)
            ]
            ours, base = ([pair[side][figure] for pair in pairs] for side in (0, 1))
            ratio = statistics.median(a / b for a, b in zip(ours, base, strict=True))
            name = f"system.ping: {label}"
            measured = f"{statistics.median(ours):.1f} us (echo {statistics.median(base):.1f})"
            if budget is None:
                yield Row(name, measured, f"{ratio:.2f} x")
            else:
                yield judged(name, measured, ratio, budget, ratio=True)
    finally:
        echo.terminate()
        echo.wait()
        daemon.stop()
        daemon.close()


def run_load(
    load: Path, socket: Path, pid: int, connections: int, depth: int, seconds: float
) -> dict[str, float]:
    cpu = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", cpu, load, socket, connections, depth, seconds, PING, pid]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def start_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """From spawn to READY=1, on simulated GPUs that answer."""
    times = []
    for number in range(rounds):
        daemon = LiveDaemon(directory / f"start{number}")
        begun = time.monotonic()
        daemon.start()
        times.append((time.monotonic() - begun) * 1000)
        daemon.stop()
        daemon.close()
    median = statistics.median(times)
    yield judged("spawn to READY=1", f"{median:.0f} ms", median, Budget(500, unit="ms"))


def called_rows(directory: Path, rounds: int) -> Iterator[Row]:
    with running(directory / "called") as daemon, daemon.client() as client:
        yield from client_rows(client, rounds)


def command_rows(directory: Path, rounds: int) -> Iterator[Row]:
    """A whole `superezioctl --json gpu list` beside a Python that does nothing."""
    ctl = Path(sys.executable).with_name("superezioctl")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with running(directory / "ctl") as daemon:
        environment["SUPEREZIO_SOCKET"] = str(daemon.socket_path)

        def timed(command: list[str]) -> float:
            begun = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            return (time.perf_counter() - begun) * 1000

        ours: Callable[[], float] = lambda: timed([str(ctl), "--json", "gpu", "list"])  # noqa: E731
        base: Callable[[], float] = lambda: timed([sys.executable, "-c", "pass"])  # noqa: E731
        ours(), base()
        pairs = [(ours(), base()) for _ in range(rounds)]
    a, b = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    measured = f"{a:.0f} ms (python -c pass {b:.0f})"
    yield judged("superezioctl --json gpu list", measured, ratio, Budget(3, unit="x"), ratio=True)


def idle_rows(directory: Path, seconds: float) -> Iterator[Row]:
    """CPU and memory with 8 GPUs and nobody asking: the daemon and its probe."""
    with running(directory / "idle", scenario=EIGHT_GPUS) as daemon:
        pids = [daemon.pid, *children_of(daemon.pid)]
        time.sleep(2.0)
        before, begun = cpu_seconds(pids), time.monotonic()
        time.sleep(seconds)
        used = (cpu_seconds(pids) - before) / (time.monotonic() - begun)
        memory = sum(pss_bytes(pid) for pid in pids) / (1 << 20)
    figure = "idle with 8 GPUs: CPU of a core"
    yield judged(figure, f"{used * 100:.2f} %", used * 100, Budget(0.5, unit="%"))
    figure = "idle with 8 GPUs: PSS, probe included"
    yield judged(figure, f"{memory:.0f} MB", memory, Budget(70, unit="MB"))


@contextmanager
def running(directory: Path, scenario: str = "") -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(directory, scenario=scenario).start()
    try:
        yield daemon
        daemon.stop()
    finally:
        daemon.close()


if __name__ == "__main__":
    sys.exit(main())
