"""A user who reads nothing, over many connections: the daemon stays small, another is served."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from live_daemon import LiveDaemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

ANNA, BEN, CREW = 51001, 51002, 52000
CONNECTIONS = 600
#: Each asks for what is some 80 KiB to read, ten times; the kernel takes some 200 KiB of it.
REQUESTS = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}\n' * 10
BOUND_BYTES = 16 << 20
#: As many may stay, with what is sent to each at once.
STAY = 100
CONFIG = f"""
[access]
user_groups = ["{CREW}"]

[limits]
write_buffer_per_uid = "16MiB"
"""
#: What was freed is given back at once, and is not resident any more. Otherwise holes between the
#: answers are counted with what is kept: as much again, where others take the processor away.
HEAP = {"MALLOC_MMAP_THRESHOLD_": "32768"}


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory(prefix="superezio-unread-") as name:
        Path(name).chmod(0o755)
        live = LiveDaemon(Path(name) / "d", config=CONFIG, environment=HEAP)
        try:
            yield live.start()
        finally:
            live.close()


def _connected_as(daemon: LiveDaemon, uid: int) -> socket.socket:
    """Connect as a user of the group, which the kernel notes; then be root again."""
    connection = socket.socket(socket.AF_UNIX)
    groups = os.getgroups()
    os.setgroups([CREW])
    os.seteuid(uid)
    try:
        connection.connect(str(daemon.socket_path))
    finally:
        os.seteuid(0)
        os.setgroups(groups)
    connection.settimeout(20)
    return connection


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _ask(connection: socket.socket, method: str) -> float:
    """Return the seconds that an answer takes."""
    begun = time.monotonic()
    request = {"jsonrpc": "2.0", "id": 1, "method": method}
    connection.sendall(json.dumps(request).encode() + b"\n")
    assert json.loads(connection.makefile("rb").readline())["result"]
    return time.monotonic() - begun


def test_who_reads_nothing_over_many_connections_is_bounded_and_another_is_served(
    daemon: LiveDaemon,
) -> None:
    told = f"uid {ANNA} left too many answers unread over all its connections"
    with ExitStack() as stack:
        ben = stack.enter_context(_connected_as(daemon, BEN))
        _ask(ben, "rpc.discover")  # The answer is made once.
        before = _resident_bytes(daemon.pid)
        grown, waits = 0, []
        for number in range(CONNECTIONS):
            stack.enter_context(_connected_as(daemon, ANNA)).sendall(REQUESTS)
            # On a busy machine most are closed before the last has come.
            if number % 20 == 0:
                waits.append(_ask(ben, "system.ping"))
                grown = max(grown, _resident_bytes(daemon.pid) - before)
        deadline = time.monotonic() + 60
        while (closed := daemon.log().count(told)) < CONNECTIONS - STAY:
            assert time.monotonic() < deadline, f"{closed} were closed"
            waits.append(_ask(ben, "system.ping"))
            grown = max(grown, _resident_bytes(daemon.pid) - before)
        print(
            f"\n{CONNECTIONS} deaf connections: {grown / (1 << 20):.1f} MiB,"
            f" worst ping of another {max(waits) * 1000:.1f} ms"
        )
    assert grown < 2 * BOUND_BYTES
    assert max(waits) < 1.0
    assert f"(uid {BEN})" not in daemon.log()
