"""Clients that are many, slow, deaf or mad: the daemon lives, serves the others, stays small."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import call_once, plain_client

IDLE_CONNECTIONS = 5_000
FUZZED_FRAMES = 10_000
#: What all of this together may add to the daemon's resident memory.
MEMORY_BOUND_BYTES = 160 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("hostile")).start()
    yield live
    assert live.process is not None
    assert live.process.poll() is None, live.log()[-4000:]
    live.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE_CONNECTIONS + 200:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def connect(daemon: LiveDaemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    # Blocking: with a timeout, connect fails instead of waiting for room in the backlog.
    connection.connect(str(daemon.socket_path))
    connection.settimeout(10)
    return connection


def served(daemon: LiveDaemon) -> float:
    """Seconds that an ordinary client waits for an answer now."""
    begun = time.monotonic()
    assert call_once(daemon.socket_path, "system.ping")["pid"] == daemon.pid
    return time.monotonic() - begun


@pytest.mark.usefixtures("many_files")
def test_5000_idle_connections_leave_the_others_served(daemon: LiveDaemon) -> None:
    before = resident_bytes(daemon.pid)
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            stack.enter_context(connect(daemon))
        # Whoever comes last is answered once all before it were accepted: now they are idle.
        served(daemon)
        waited = max(served(daemon) for _ in range(20))
        grown = resident_bytes(daemon.pid) - before
    print(
        f"\n{IDLE_CONNECTIONS} idle connections: {grown / IDLE_CONNECTIONS / 1024:.1f} KiB each,"
        f" worst ping {waited * 1000:.1f} ms"
    )
    assert grown < MEMORY_BOUND_BYTES
    assert waited < 1.0


async def test_a_client_that_sends_a_byte_at_a_time_is_served_and_holds_up_nobody(
    daemon: LiveDaemon,
) -> None:
    slow = connect(daemon)
    slow.settimeout(0)
    loop = asyncio.get_running_loop()
    request = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
    with slow:
        for byte in request:
            await loop.sock_sendall(slow, bytes([byte]))
            assert served(daemon) < 1.0
        reply = json.loads(await loop.sock_recv(slow, 65536))
    assert reply["result"]["pid"] == daemon.pid


async def test_a_subscriber_that_never_reads_is_bounded_and_told_what_it_lost(
    daemon: LiveDaemon,
) -> None:
    before = resident_bytes(daemon.pid)
    deaf = connect(daemon)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events.subscribe"}\n')
    worst = 0.0
    async with plain_client(daemon.socket_path) as client:
        for _ in range(4_000):
            lease = await client.call("lease.acquire", vram_bytes=1 << 30, mode="connection")
            begun = time.monotonic()
            await client.call("lease.release", lease=lease["id"])
            worst = max(worst, time.monotonic() - begun)
    grown = resident_bytes(daemon.pid) - before
    print(
        f"\n8,000 events past a deaf subscriber: {grown / (1 << 20):.1f} MiB,"
        f" worst release {worst * 1000:.1f} ms"
    )
    deaf.close()
    assert grown < MEMORY_BOUND_BYTES
    assert worst < 1.0


def test_a_mebibyte_of_garbage_gets_an_error_and_the_connection_goes_on(
    daemon: LiveDaemon,
) -> None:
    garbage = random.Random(6).randbytes(1 << 20).replace(b"\n", b" ")
    with connect(daemon) as connection:
        connection.sendall(garbage + b"\n")
        connection.sendall(b'{"jsonrpc":"2.0","id":7,"method":"system.ping"}\n')
        replies = connection.makefile("rb")
        first, second = json.loads(replies.readline()), json.loads(replies.readline())
    assert first["error"]["data"]["kind"] in {"parse_error", "frame_too_large"}
    assert second["id"] == 7
    assert served(daemon) < 1.0


def fuzzed_frames(count: int, seed: int) -> Iterator[bytes]:
    """Good requests with bytes changed, cut, doubled and swapped; and plain noise."""
    chance = random.Random(seed)
    good = [
        b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}',
        b'{"jsonrpc":"2.0","id":"a","method":"lease.acquire","params":{"vram_bytes":1}}',
        b'{"jsonrpc":"2.0","id":2,"method":"gpu.get","params":["0"],"meta":{"deadline_ms":5}}',
        b'[{"jsonrpc":"2.0","method":"health.get"},{"jsonrpc":"2.0","id":3,"method":"x"},1]',
        b'{"jsonrpc":"2.0","id":null,"method":"placement.explain","params":{"vram_bytes":-1}}',
    ]
    for _ in range(count):
        frame = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(frame)) if frame else 0
            change = chance.randrange(4)
            if change == 0 and frame:
                frame[place] = chance.randrange(256)
            elif change == 1:
                del frame[place : place + chance.randint(1, 8)]
            elif change == 2:
                frame[place:place] = frame[place : place + chance.randint(1, 8)]
            else:
                frame[place:place] = chance.choice(
                    (b"[", b"{", b'"', b"\xff", b"1e999", b"\\u0000")
                )
        yield bytes(frame)


def test_10000_fuzzed_frames_each_get_an_answer_or_none_and_nothing_breaks(
    daemon: LiveDaemon,
) -> None:
    before = resident_bytes(daemon.pid)
    answers = 0
    begun = time.monotonic()
    frames = list(fuzzed_frames(FUZZED_FRAMES, seed=1))
    for start in range(0, len(frames), 100):
        with connect(daemon) as connection:
            connection.sendall(b"\n".join(frames[start : start + 100]) + b"\n")
            connection.sendall(b'{"jsonrpc":"2.0","id":"last","method":"system.ping"}\n')
            for line in connection.makefile("rb"):
                reply = json.loads(line)
                answers += 1
                if isinstance(reply, dict) and reply.get("id") == "last":
                    break
            else:
                pytest.fail("the daemon closed the connection")
    grown = resident_bytes(daemon.pid) - before
    print(
        f"\n{FUZZED_FRAMES} fuzzed frames: {answers} answers in"
        f" {time.monotonic() - begun:.1f} s, {grown / (1 << 20):.1f} MiB"
    )
    assert "Traceback" not in daemon.log()
    assert grown < MEMORY_BOUND_BYTES
    assert served(daemon) < 1.0
