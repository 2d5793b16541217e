"""kill -9 at every system call between the arrival of a request and its answer loses nothing.

What a client was told stands in the next run; what it was not told it can ask for again. Judged
by what clients are told, never by the daemon's database. `make kill-points` kills at every call;
here it is at some, spread over them all.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from plain_client import Json, RefusedError
from syscall_stops import Follower, why_not

GIB = 1 << 30
#: A length that no other read has.
REQUEST_BYTES = 1777
#: How many of the points are tried, unless all are.
SAMPLES = 8
#: Below this, the tracer cannot have seen what a request does: it opens, looks, commits, writes.
LEAST_POINTS = 12
ALL = bool(os.environ.get("SUPEREZIO_KILL_POINTS"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200 if ALL else 120),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


class Host:
    """A daemon, a lease of somebody else that nothing may touch, and a client that is cut off."""

    def __init__(self, daemon: LiveDaemon, *, bystander: int) -> None:
        self.daemon = daemon
        self._bystander = self.ask(
            "lease.acquire",
            vram_bytes=2 * GIB,
            holder_pid=bystander,
            name="bystander",
            wait_ms=5000,
        )
        self.entered = 0

    def ask(self, method: str, meta: Json | None = None, **params: Any) -> Json:
        """Ask over a connection of its own."""
        with self._connected() as connection:
            connection.sendall(_line(method, meta, params))
            reply = _reply(connection)
        assert reply is not None, "the daemon is not there"
        return _result(reply)

    def ask_and_kill(
        self, kill_at: int | None, method: str, meta: Json | None = None, **params: Any
    ) -> Json | None:
        """Ask, and kill the daemon at a system call of the request; None if no answer came."""
        return self.ask_all_and_kill(kill_at, [(method, meta, params)])[0]

    def ask_all_and_kill(
        self, kill_at: int | None, requests: list[tuple[str, Json | None, Json]]
    ) -> list[Json | None]:
        """Ask several things, each over its own connection, and kill it before all are answered.

        The next daemon runs when this returns. `entered` is how many calls there were.
        """
        follower = Follower(self.daemon.pid)
        with ExitStack() as stack:
            connections = [stack.enter_context(self._connected()) for _ in requests]
            lengths = [REQUEST_BYTES + number for number in range(len(requests))]
            for connection, request, length in zip(connections, requests, lengths, strict=True):
                connection.sendall(_line(*request, length=length))
            self.entered = follower.follow(lengths, kill_at=kill_at)
            if self.entered == kill_at:
                self.daemon.kill()
            replies = [_reply(connection) for connection in connections]
        if self.entered == kill_at:
            self.daemon.start()
        return [None if reply is None else _result(reply) for reply in replies]

    def check(self, **leases: str) -> None:
        """All leases are the bystander's, as it was, and these; the GPUs are taken by no others."""
        listed = self.ask("lease.list")["leases"]
        found = {lease["name"]: lease for lease in listed}
        assert len(listed) == len(found), "one name, two leases"
        bystander = found.pop("bystander")
        assert bystander["id"] == self._bystander["id"]
        assert _placed(bystander) == _placed(self._bystander)
        assert {name: lease["id"] for name, lease in found.items()} == leases
        reserved = sum(size for lease in listed for size in _placed(lease).values())
        # What was released is spoken for until the next reading.
        shown = sum(gpu["vram_reserved_bytes"] for gpu in self.ask("gpu.list")["gpus"])
        assert shown >= reserved
        self.ask("placement.explain", vram_bytes=GIB)

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.daemon.socket_path))
            connection.settimeout(30)
            yield connection


def _line(method: str, meta: Json | None, params: Json, *, length: int = 0) -> bytes:
    request: Json = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    if meta:
        request["meta"] = meta
    return json.dumps(request).encode().ljust(max(0, length - 1)) + b"\n"


def _reply(connection: socket.socket) -> Json | None:
    try:
        line = connection.makefile("rb").readline()
    except ConnectionResetError:
        return None
    reply: Json | None = json.loads(line) if line.endswith(b"\n") else None
    return reply


def _result(reply: Json) -> Json:
    if "error" in reply:
        raise RefusedError(reply["error"])
    result: Json = reply["result"]
    return result


def _placed(lease: Json) -> dict[str, int]:
    return {gpu["uuid"]: gpu["reserved_bytes"] for gpu in lease["gpus"]}


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Processes that do nothing but live."""
    processes = [subprocess.Popen(["sleep", "3600"]) for _ in range(3)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def host(tmp_path: Path, sleepers: list[int], request: pytest.FixtureRequest) -> Iterator[Host]:
    age = getattr(request, "param", "1s")
    config = f'[leases]\nreading_age = "{age}"\n'
    daemon = LiveDaemon(tmp_path / "daemon", config=config).start()
    try:
        yield Host(daemon, bystander=sleepers[0])
    finally:
        daemon.close()


def unharmed(host: Host, try_at: Callable[[int | None], None]) -> int:
    """Return how many points there are: more, where the daemon had something else to do as well."""
    try_at(None)
    return host.entered


def at_each_point(host: Host, what: str, try_at: Callable[[int | None], None]) -> None:
    """Try at the points of a request: at every one until it is done unharmed, or at some.

    The daemon does other things between, now more and now less, so that an answer may come before
    a call that it came after the last time: it is over when that has happened three times running.
    """
    points = min(unharmed(host, try_at) for _ in range(5))
    tried = missed = 0
    step = 1 if ALL else max(1, points // SAMPLES)
    point = step
    while missed < 3:
        try_at(point)
        if host.entered < point:
            missed += 1
        else:
            missed = 0
            tried += 1
        point += step
    print(f"{what}: {points} system calls, killed at {tried} of them")
    assert points >= LEAST_POINTS
    assert tried >= (LEAST_POINTS if ALL else SAMPLES // 2)


@pytest.mark.parametrize(
    ("host", "how"), [("60s", "at once"), ("50ms", "after a reading")], indirect=["host"]
)
def test_an_acquire_is_granted_once(host: Host, sleepers: list[int], how: str) -> None:
    keys = iter(range(100_000))

    def try_at(point: int | None) -> None:
        meta = {"idempotency_key": f"key-{next(keys)}"}
        params = {"vram_bytes": GIB, "holder_pid": sleepers[1], "name": "new", "wait_ms": 5000}
        told = host.ask_and_kill(point, "lease.acquire", meta, **params)
        again = host.ask("lease.acquire", meta, **params)
        if told is not None:
            assert told["id"] == again["id"]
            assert _placed(told) == _placed(again)
        host.check(new=again["id"])
        assert host.ask("lease.release", lease=again["id"])["released"] is True
        host.check()

    at_each_point(host, f"an acquire that is granted {how}", try_at)


def test_an_attach_that_was_answered_stands(host: Host, sleepers: list[int]) -> None:
    def try_at(point: int | None) -> None:
        lease = host.ask(
            "lease.acquire", vram_bytes=GIB, holder_pid=sleepers[1], name="new", wait_ms=5000
        )["id"]
        told = host.ask_and_kill(point, "lease.attach", lease=lease, pid=sleepers[2])
        holders = {each["pid"] for each in host.ask("lease.get", lease=lease)["holder"]}
        assert sleepers[1] in holders
        if told is not None:
            assert holders == set(sleepers[1:])
        host.ask("lease.attach", lease=lease, pid=sleepers[2])
        holders = {each["pid"] for each in host.ask("lease.get", lease=lease)["holder"]}
        assert holders == set(sleepers[1:])
        host.check(new=lease)
        host.ask("lease.release", lease=lease)

    at_each_point(host, "an attach", try_at)


def test_a_release_that_was_answered_is_done_and_any_can_be_repeated(
    host: Host, sleepers: list[int]
) -> None:
    def try_at(point: int | None) -> None:
        lease = host.ask(
            "lease.acquire", vram_bytes=GIB, holder_pid=sleepers[1], name="new", wait_ms=5000
        )["id"]
        told = host.ask_and_kill(point, "lease.release", lease=lease)
        if told is not None:
            host.check()
        again = host.ask("lease.release", lease=lease)
        assert told is None or again["released"] is False
        host.check()
        with pytest.raises(RefusedError) as refused:
            host.ask("lease.get", lease=lease)
        assert refused.value.kind == "stale_lease"

    at_each_point(host, "a release", try_at)


@pytest.mark.parametrize("host", ["60s"], indirect=True)
def test_an_acquire_that_waits_for_a_release_is_granted_once(
    host: Host, sleepers: list[int]
) -> None:
    keys = iter(range(100_000))
    #: More than half of the larger GPU, so that there is room for one at a time.
    size = 8 * GIB

    def try_at(point: int | None) -> None:
        before = host.ask(
            "lease.acquire", vram_bytes=size, holder_pid=sleepers[1], name="old", wait_ms=5000
        )["id"]
        meta = {"idempotency_key": f"key-{next(keys)}"}
        params = {"vram_bytes": size, "holder_pid": sleepers[2], "name": "new", "wait_ms": 9000}
        told, released = host.ask_all_and_kill(
            point,
            [("lease.acquire", meta, params), ("lease.release", None, {"lease": before})],
        )
        again = host.ask("lease.release", lease=before)
        assert released is None or again["released"] is False
        granted = host.ask("lease.acquire", meta, **params)
        if told is not None:
            assert told["id"] == granted["id"]
        host.check(new=granted["id"])
        host.ask("lease.release", lease=granted["id"])

    at_each_point(host, "an acquire that waits for a release", try_at)
