"""User-space instructions per request, counted by valgrind: the one figure that does not drift.

A run's start and end cancel out: what is told is the difference of two runs, one of which answers
more requests, each after the same warm-up.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from bench.table import Budget, Row, judged

SERVER: Final = Path(__file__).with_name("request_server.py")
PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
ACQUIRE: Final = b'{"jsonrpc":"2.0","id":1,"method":"limit.acquire","params":{"name":"openai"}}\n'
PERMIT: Final = b'{"jsonrpc":"2.0","id":1,"method":"breaker.acquire","params":{"name":"openai"}}\n'
SETTLE: Final = (
    b'{"jsonrpc":"2.0","id":1,"method":"breaker.settle",'
    b'"params":{"name":"openai","permit":%b,"outcome":"success"}}\n'
)
_PERMIT: Final = re.compile(rb'"permit":(\d+)')
REQUESTS: Final = 6400
#: Past the point where the interpreter has specialised the path.
WARM_UP: Final = 640
#: Python takes half a minute to start under valgrind on a slow machine.
PATIENCE_S: Final = 240.0


AT_ONE: Final = Budget(20_000, 16_000)
AT_64: Final = Budget(14_000, 10_000)


class Scenario(NamedTuple):
    """A request, and, where there is one, the request that follows from the permit it gets."""

    line: bytes
    depth: int
    then: bytes | None = None


def instruction_rows(directory: Path) -> Iterator[Row]:
    """The budgets are those of limit.acquire, with the flight record to come in it."""
    if shutil.which("valgrind") is None:
        yield Row("instructions per request", "skipped: valgrind is not installed")
        return
    kinds = (("system.ping", PING), ("limit.acquire", ACQUIRE))
    depths = ((1, AT_ONE), (64, AT_64))
    cases = [(name, line, *each) for name, line in kinds for each in depths]
    counts = per_request(directory, [Scenario(line, depth) for _, line, depth, _ in cases])
    for (name, _, depth, budget), count in zip(cases, counts, strict=True):
        yield judged(f"{name}: instructions, {depth} to a read", f"{count:,.0f}", count, budget)
    pairs = [Scenario(PERMIT, depth, SETTLE) for depth, _ in depths]
    for pair, count in zip(pairs, per_request(directory / "breaker", pairs), strict=True):
        name = f"breaker.acquire and settle: instructions, {pair.depth} to a read"
        yield Row(name, f"{count:,.0f}")


def per_request(directory: Path, scenarios: Sequence[Scenario]) -> Iterator[float]:
    """Yield the instructions that each scenario's request takes."""
    directory.mkdir(exist_ok=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        runs = [
            pool.submit(_count, directory / f"count{number}", scenarios, measured)
            for number, measured in enumerate((None, *scenarios))
        ]
        base, *counts = [run.result() for run in runs]
    for count in counts:
        yield (count - base) / REQUESTS


def _count(directory: Path, warm_up: Sequence[Scenario], measured: Scenario | None) -> int:
    """Return the instructions of one life of the server."""
    directory.mkdir()
    path = directory / "control.sock"
    command = [
        *("valgrind", "--tool=callgrind", f"--callgrind-out-file={directory / 'callgrind.out'}"),
        *(sys.executable, str(SERVER), str(path)),
    ]
    # The layout of dicts is drawn anew in each process unless it is told not to.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with _connected(path, server) as connection:
            for scenario in warm_up:
                _ask(connection, scenario, WARM_UP)
            if measured is not None:
                _ask(connection, measured, REQUESTS)
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
    found = re.search(r"Collected : (\d+)", told)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing:\n{told[-2000:]}")
    return int(found[1])


def _connected(path: Path, server: subprocess.Popen[str]) -> socket.socket:
    """Return a connection, as soon as the server listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server does not start under valgrind") from None
            time.sleep(0.1)
        else:
            connection.settimeout(PATIENCE_S)
            return connection


def _ask(connection: socket.socket, scenario: Scenario, count: int) -> None:
    """Have `count` requests answered, `depth` at a time, and as many that follow from them."""
    chunk = scenario.line * scenario.depth
    for _ in range(count // scenario.depth):
        answers = _exchange(connection, chunk, scenario.depth)
        if scenario.then is not None:
            permits = _PERMIT.findall(answers)
            _exchange(connection, b"".join(scenario.then % each for each in permits), len(permits))


def _exchange(connection: socket.socket, chunk: bytes, depth: int) -> bytes:
    connection.sendall(chunk)
    answers = b""
    while answers.count(b"\n") < depth:
        answers += connection.recv(1 << 20)
    return answers
