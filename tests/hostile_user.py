"""A user who takes all that it can of one kind, and goes on asking: a program of its own.

    python -I -S hostile_user.py KIND UID GID SOCKET

It is started as root and becomes that user before it connects. When it is refused for the first
time, or has what is to be had, it prints one JSON object, {"reached": ..., "refused": ...}; then it
keeps at it until its input ends. With the standard library alone, as an outsider's would be.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]


IDS = itertools.count(1)
#: Reservations, of which 20,000 of a user are kept.
_MORE_THAN_KEPT = 25_000


class Connection:
    """One connection; `ask` waits for its answer, `send` does not."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(sys.argv[4])
        self.socket.settimeout(30)
        self.lines = self.socket.makefile("rb")

    def send(self, method: str, **params: Any) -> None:
        self.socket.sendall(request(method, **params))

    def ask(self, method: str, **params: Any) -> Json:
        self.send(method, **params)
        return self.answer()

    def ask_often(self, times: int, method: str, **params: Any) -> list[Json]:
        """Make a call again and again with one write; return the answers."""
        self.socket.sendall(b"".join(request(method, **params) for _ in range(times)))
        return [self.answer() for _ in range(times)]

    def refused_by_now(self) -> str | None:
        """What was refused of all that was sent, None where it waits or was answered."""
        self.send("system.ping")
        found = None
        while True:
            answer = self.answer()
            if "uptime_s" in answer.get("result", ()):
                return found
            found = found or refusal(answer)

    def answer(self) -> Json:
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionResetError("the daemon closed the connection")
            answer: Json = json.loads(line)
            if "method" not in answer:
                return answer


def request(method: str, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": next(IDS), "method": method, "params": params}
    return json.dumps(message).encode() + b"\n"


def refusal(answer: Json) -> str | None:
    """What it was refused with, None where it was not."""
    if "error" not in answer:
        return None
    data = answer["error"]["data"]
    return str(data.get("limit") or data["kind"])


def is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def until_refused(calls: Iterator[Json]) -> None:
    """Count answers until one is a refusal; then say so, and go on until told to end."""
    count = 0
    for answer in calls:
        refused = refusal(answer)
        if refused is None:
            count += 1
        else:
            tell(count, refused)
            break
    for _ in calls:
        if is_over():
            return


def tell(reached: int, refused: str | None) -> None:
    print(json.dumps({"reached": reached, "refused": refused}), flush=True)


# --- kinds --------------------------------------------------------------------------------------


def connections() -> None:
    held: list[Connection] = []

    def calls() -> Iterator[Json]:
        while True:
            connection = Connection()
            try:
                answer = connection.ask("system.ping")
            except OSError:
                continue
            if "result" in answer:
                held.append(connection)
            yield answer

    until_refused(calls())


def unfinished_lines() -> None:
    """Lines that never end, of nearly the longest that is read."""
    part = b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 1_000_000
    with_many_connections(part, 400)


def requests_ahead() -> None:
    """Requests that wait, as their turn comes only when answers are read."""
    with_many_connections(request("system.ping") * 2500, 800)


def unread() -> None:
    """Answers that nobody reads."""
    with_many_connections(request("rpc.discover") * 10, 600)


def with_many_connections(sends: bytes, most: int) -> None:
    """Have so many that have sent that and read nothing; for each that is closed, a new one."""
    held: dict[int, Connection] = {}
    sent, told, poll = 0, False, select.poll()
    patience = time.monotonic() + 10
    while not is_over():
        if len(held) < most:
            connection = Connection()
            with contextlib.suppress(OSError):
                connection.socket.sendall(sends)
            held[connection.socket.fileno()] = connection
            poll.register(connection.socket, 0)  # to hear of its end alone
            sent += 1
        gone = [fd for fd, _ in poll.poll(0 if len(held) < most else 5)]
        for fd in gone:
            poll.unregister(fd)
            del held[fd]
        if not told and (gone or time.monotonic() > patience):
            told = True
            tell(sent, "closed" if gone else None)


def requests() -> None:
    pings = request("system.ping") * 2000
    connection = Connection()
    count, told = 0, False
    while not is_over():
        connection.socket.sendall(pings)
        for _ in range(2000):
            line = connection.lines.readline()
            if b"requests_per_second" in line and not told:
                told = True
                tell(count, "requests_per_second")
            count += 1


def in_flight() -> None:
    connection = Connection()
    rates = {"requests": {"limit": 1, "period_ms": 86_400_000, "burst": 1}}
    connection.ask("limit.acquire", name="full", rates=rates)
    until_some_are_refused([connection], 1000, "limit.acquire", name="full", wait_ms=3_600_000)


def until_some_are_refused(
    held: list[Connection],
    each: int,
    method: str,
    waits: Callable[[], int] | None = None,
    **params: Any,
) -> None:
    """Make calls that wait, `each` over one connection, until one is refused; then go on.

    `waits` counts those that wait, where a refusal takes longer than the call after it.
    """
    count = 0
    while True:
        for _ in range(each):
            held[-1].send(method, **params)
            count += 1
            refused = held[-1].refused_by_now()
            if refused:
                tell(waits() if waits else count - 1, refused)
                while not is_over():
                    held[-1].send(method, **params)
                    held[-1].refused_by_now()
                return
        held.append(Connection())


def waiters(method: str, params: Json, first: Json) -> Callable[[], None]:
    """Requests that wait, over as many connections as it takes."""

    def run() -> None:
        held = [Connection(), Connection()]
        held[0].ask(method, **first)
        until_some_are_refused(held, 200, method, **params)

    return run


def queue() -> None:
    """Acquires of the larger GPU, which is not free, at the highest priority of a user."""
    wish = {"vram_bytes": 10 << 30, "wait_ms": 3_600_000, "mode": "connection", "priority": 100}
    looks = Connection()

    def waits() -> int:
        return len(looks.ask("lease.list")["result"]["queue"])

    until_some_are_refused([Connection()], 32, "lease.acquire", waits, **wish)


def many(method: str, numbered: dict[str, str], **params: Any) -> Callable[[], None]:
    """One call again and again, with what tells it from the last."""

    def run() -> None:
        connection = Connection()

        def calls() -> Iterator[Json]:
            for number in itertools.count():
                own = {name: text.format(number) for name, text in numbered.items()}
                yield connection.ask(method, **params, **own)

        until_refused(calls())

    return run


def permits() -> None:
    def calls() -> Iterator[Json]:
        held: list[Connection] = []
        while True:
            held.append(Connection())
            for _ in range(4):
                yield from held[-1].ask_often(250, "breaker.acquire", name="one")

    until_refused(calls())


def reservations() -> None:
    """Limits remember so many; the oldest make room, and nobody is refused."""
    asked = {"name": "open", "concurrency": 0, "rates": {"requests": {"limit": 1_000_000_000}}}
    connection, count = Connection(), 0
    while not is_over():
        answers = connection.ask_often(500, "limit.acquire", **asked)
        refused = {*map(refusal, answers)} - {None, "requests_per_second"}
        assert not refused, refused
        if count < _MORE_THAN_KEPT <= count + len(answers):
            tell(count + len(answers), None)
        count += len(answers)


def searches() -> None:
    """Look through all that the flight recorder has, several at a time."""
    connection = Connection()
    asks = b"".join(request("trace.find", last=1000, slow_ms=1e9) for _ in range(8))
    count, told = 0, False
    while not is_over():
        connection.socket.sendall(asks)
        refused = [refusal(connection.answer()) for _ in range(8)]
        count += refused.count(None)
        if any(refused) and not told:
            told = True
            tell(count, next(filter(None, refused)))


def cache() -> None:
    """Values that fill what one user may have; its own oldest make room."""
    connection = Connection()
    text = "x" * (250 << 10)
    for number in itertools.count():
        connection.ask("cache.set", namespace=f"n{number % 3}", key=str(number), text=text)
        if number == 700:
            stats = connection.ask("cache.stats")["result"]["namespaces"]
            tell(sum(each["used_bytes"] for each in stats) >> 20, None)
        if number % 10 == 0 and is_over():
            return


def events() -> None:
    """Subscriptions that nobody reads, and a breaker whose changes are told to them."""
    held: list[Connection] = []
    count = 0
    while True:
        connection = Connection()
        held.append(connection)
        answers = [connection.ask("events.subscribe") for _ in range(16)]
        count += sum("result" in each for each in answers)
        refused = next(filter(None, map(refusal, answers)), None)
        if refused:
            break
    tell(count, refused)
    flips = Connection()
    while not is_over():
        flips.ask("breaker.force_open", name="flips")
        flips.ask("breaker.reset", name="flips")


KINDS: dict[str, Callable[[], None]] = {
    "connections": connections,
    "requests": requests,
    "in flight": in_flight,
    "unfinished lines": unfinished_lines,
    "requests ahead": requests_ahead,
    "unread answers": unread,
    "queue": queue,
    "leases": many("lease.acquire", {}, vram_bytes=1 << 20, mode="ttl", ttl_ms=600_000),
    "sessions": many("session.open", {"name": "{}"}),
    "events": events,
    "annotations": many("trace.annotate", {"name": "{}", "correlation_id": "{}"}),
    "spans of one id": many("trace.annotate", {"name": "{}"}, correlation_id="one"),
    "searches": searches,
    "cache": cache,
    "cache namespaces": many("cache.set", {"namespace": "n{}"}, key="k", text="v"),
    "cache fills": many("cache.get", {"key": "{}"}, namespace="n", fill=True),
    "cache waiters": waiters(
        "cache.get",
        {"namespace": "n", "key": "k", "fill": True, "wait_ms": 3_600_000},
        {"namespace": "n", "key": "k", "fill": True, "lead_ms": 3_600_000},
    ),
    "limit names": many("limit.acquire", {"name": "n{}"}, rates={"concurrency": 1}, concurrency=0),
    "limit waiters": waiters(
        "limit.acquire",
        {"name": "full", "wait_ms": 3_600_000},
        {"name": "full", "rates": {"requests": {"limit": 1, "period_ms": 86_400_000, "burst": 1}}},
    ),
    "reservations": reservations,
    "breakers": many("breaker.acquire", {"name": "b{}"}),
    "permits": permits,
}


if __name__ == "__main__":
    kind, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    KINDS[kind]()
    os._exit(0)  # thousands of connections are closed at once
