"""One user asks for what costs most, over many connections: newcomers are answered all the same.

SEMANTICS, case 21: a user who fills every limit leaves the others served.
"""

from __future__ import annotations

import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from other_users import being
from plain_client import call_once

LEASES = 1000
CONNECTIONS = 400
#: Newcomers waited for tens of seconds when each connection had a turn of its own.
BOUND_S = 2.0
#: A sample is no shorter than so many newcomers, nor than so many answers to the flood.
NEWCOMERS, ANSWERS = 15, 5
#: By number, so that the host need not know them.
USER, OTHER, USERS = 51001, 51002, 52000
METRICS = b'{"jsonrpc":"2.0","id":1,"method":"metrics.get"}\n'
LIST = b'{"jsonrpc":"2.0","id":1,"method":"lease.list"}\n'
BATCH = b"[" + b",".join([LIST.rstrip()] * 50) + b"]\n"
ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not ROOT, reason="needs root, to be other users")


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    """A daemon with many leases, whose socket other users can reach."""
    with tempfile.TemporaryDirectory(prefix="superezio-floods-") as name:
        Path(name).chmod(0o755)
        config = f'[access]\nuser_groups = ["{USERS}"]\n'
        daemon = LiveDaemon(Path(name) / "d", config=config).start()
        try:
            client = daemon.client()
            for number in range(LEASES):
                client.lease_acquire("1MiB", mode="ttl", ttl=3600.0, name=f"lease {number}")
            client.close()
            yield daemon
        finally:
            daemon.close()


def being_in_the_group(uid: int) -> AbstractContextManager[None]:
    """Be another user, unless the test itself is that one."""
    return nullcontext() if uid == os.geteuid() else being(uid, [USERS], gid=uid)


class Flood:
    """Connections of one user that have `requests` in flight each, all the time."""

    def __init__(
        self, daemon: LiveDaemon, uid: int, line: bytes, requests: int, connections: int
    ) -> None:
        self.answers = 0
        self._line = line
        self._over = threading.Event()
        self._stack = ExitStack()
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        with being_in_the_group(uid):
            for _ in range(connections):
                connection = self._stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(str(daemon.socket_path))
                connection.sendall(line * requests)
                connection.settimeout(0)
                self._sockets[connection.fileno()] = connection
                self._poll.register(connection, select.EPOLLIN)
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._over.is_set():
            for fd, _ in self._poll.poll(0.1):
                connection = self._sockets[fd]
                ended = connection.recv(1 << 20).count(b"\n")
                if ended:
                    self.answers += ended
                    connection.sendall(self._line * ended)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._poll.close()
        self._stack.close()


@contextmanager
def flooding(
    daemon: LiveDaemon, uid: int, line: bytes, requests: int, connections: int = CONNECTIONS
) -> Iterator[Flood]:
    flood = Flood(daemon, uid, line, requests, connections)
    try:
        yield flood
    finally:
        flood.close()


def first_answers_s(daemon: LiveDaemon, uid: int, flood: Flood) -> list[float]:
    """Return how long newcomers, one after the other, wait for their first answer."""
    waited: list[float] = []
    deadline = time.monotonic() + 60
    while len(waited) < NEWCOMERS or flood.answers < ANSWERS:
        assert time.monotonic() < deadline, "the flood is not answered at all"
        with being_in_the_group(uid):
            begun = time.monotonic()
            assert call_once(daemon.socket_path, "system.ping")["pid"] == daemon.pid
            waited.append(time.monotonic() - begun)
    return waited


@pytest.mark.parametrize(
    ("flooder", "newcomer"),
    [
        pytest.param(USER, OTHER, id="of a user", marks=AS_ROOT),
        pytest.param(USER, USER, id="of a user who is a newcomer, too", marks=AS_ROOT),
        pytest.param(os.geteuid(), OTHER, id="of root", marks=AS_ROOT),
        pytest.param(os.geteuid(), os.geteuid(), id="of whoever runs the daemon"),
    ],
)
@pytest.mark.parametrize(
    ("line", "requests"), [(LIST, 1), (LIST, 50), (BATCH, 1)], ids=["one", "pipelined", "batch"]
)
def test_lists_in_flight_on_hundreds_of_connections_leave_newcomers_served(
    daemon: LiveDaemon, flooder: int, newcomer: int, line: bytes, requests: int
) -> None:
    with flooding(daemon, flooder, line, requests) as flood:
        waited = first_answers_s(daemon, newcomer, flood)
        answered = flood.answers
    print(
        f"\nworst of {len(waited)} first answers {max(waited) * 1000:.0f} ms,"
        f" beside {answered} answers to the flood"
    )
    assert max(waited) < BOUND_S


@AS_ROOT
def test_metrics_that_one_user_asks_for_all_the_time_leave_newcomers_served(
    daemon: LiveDaemon,
) -> None:
    with flooding(daemon, USER, METRICS, 50) as flood:
        waited = first_answers_s(daemon, OTHER, flood)
        answered = flood.answers
    print(f"\nworst first answer {max(waited) * 1000:.0f} ms, beside {answered} pages of metrics")
    assert max(waited) < BOUND_S


def test_a_flood_is_answered_itself(daemon: LiveDaemon) -> None:
    """It is made to wait, and nothing of it is refused or lost.

    Many times what a turn of one user holds, and no more: each of these answers is computed.
    """
    connections = CONNECTIONS // 4
    with flooding(daemon, os.geteuid(), LIST, 1, connections) as flood:
        deadline = time.monotonic() + 60
        while flood.answers < connections and time.monotonic() < deadline:
            call_once(daemon.socket_path, "system.ping")
        assert flood.answers >= connections
    assert "Traceback" not in daemon.log()
