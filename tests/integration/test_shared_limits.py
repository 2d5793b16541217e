"""Limits over the real socket: two users race for one, and the daemon is killed in the middle.

The judges are the clients' logs, by the host's clock, and the definition of section 2 in fractions.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from live_daemon import LiveDaemon
from other_users import being
from plain_client import call_once

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

#: Users and groups by number, so that the host need not know them.
ANNA, BEN, EVE = 51001, 51002, 51003
STUDENTS, GUESTS = 52000, 53000
RATE, BURST, LARGEST = 1000, 1000, 25
SECOND = 10**9
CENT = 10_000
CONFIG = f"""
[access]
user_groups = ["{STUDENTS}", "{GUESTS}"]
[limits]
requests_per_second = 1000000
requests_burst = 1000000
[limit.shared.raced]
groups = ["{STUDENTS}"]
[limit.shared.raced.host]
tokens = "{RATE}/1s"
tokens_burst = {BURST}
[limit.shared.slow]
groups = ["{STUDENTS}"]
[limit.shared.slow.host]
requests = "6/1m"
money_per_day = "1.00"
concurrency = 2
"""

Json = dict[str, Any]
T = TypeVar("T")


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    """A daemon whose socket other users can reach."""
    with tempfile.TemporaryDirectory(prefix="superezio-limits-") as name:
        Path(name).chmod(0o755)
        daemon = LiveDaemon(Path(name) / "d", config=CONFIG).start()
        yield daemon
        daemon.close()


class Person:
    """A connection of a user."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._lines = connection.makefile("rb")

    def send(self, method: str, **params: Any) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> Json:
        reply: Json = json.loads(self._lines.readline())
        return reply

    def ask(self, method: str, **params: Any) -> Json:
        """Return the result, or the error's data."""
        self.send(method, **params)
        reply = self.receive()
        found: Json = reply["result"] if "result" in reply else reply["error"]["data"]
        return found


@contextmanager
def connected_as(daemon: LiveDaemon, uid: int, gid: int = STUDENTS) -> Iterator[Person]:
    """Connect as a user of the group, which the kernel notes; then be root again."""
    with socket.socket(socket.AF_UNIX) as connection:
        with being(uid, [gid], gid=gid):
            connection.connect(str(daemon.socket_path))
        connection.settimeout(20)
        yield Person(connection)


@contextmanager
def racing(daemon: LiveDaemon, uid: int, calls: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).parents[1] / "limited_clients.py"
    command = (
        *(sys.executable, str(script), str(daemon.socket_path), str(uid), str(STUDENTS)),
        *("raced", "4", str(calls), str(seed)),
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def race(daemon: LiveDaemon, calls: int) -> list[Json]:
    """Let two users with two processes each make so many calls in all; return their logs."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(racing(daemon, uid, calls // 4, seed))
            for seed, uid in enumerate((ANNA, BEN, ANNA, BEN))
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        logs: list[Json] = []
        for process in processes:
            out, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors[-2000:]
            logs += json.loads(out)["calls"]
    return logs


class Change(NamedTuple):
    """What was taken, or given back if it is negative, at some instant from `since` to `until`."""

    since: int
    until: int
    tokens: int


def judge(log: list[Json]) -> None:
    """Hold what clients were told against the definition, wherever within it was decided.

    Never overspent: when something is granted, all that was taken before it, and it, is no more
    than the burst and what has grown. Never under-granted by more than a request's worth: when
    something is refused, less than the largest request is left of the burst and what has grown.
    """
    grants = [Change(c["sent_ns"], c["answered_ns"], c["tokens"]) for c in log if c["granted"]]
    settled = [
        Change(c["answered_ns"], c["settled_ns"], c["used"] - c["tokens"])
        for c in log
        if c["settled_ns"] is not None
    ]
    changes = [*grants, *settled]
    refusals = [(c["sent_ns"], c["answered_ns"]) for c in log if not c["granted"]]
    begin = min(each.since for each in grants)
    for grant in some(grants):
        taken = surely_taken(changes, grant)
        assert taken <= BURST + Fraction((grant.until - begin) * RATE, SECOND), "overspent"
    # From a grant after the first refusal on: the burst that nobody asked for yet is gone then.
    contended = min(answered for _, answered in refusals)
    base = min((each for each in grants if each.since >= contended), key=lambda each: each.since)
    before = surely_taken(changes, base)
    for sent, answered in some([each for each in refusals if each[0] >= base.until]):
        maybe = [c for c in changes if c.since <= answered and (c.tokens > 0 or c.until <= sent)]
        taken = sum(each.tokens for each in maybe) - before
        grown = Fraction((sent - base.until) * RATE, SECOND)
        assert taken > grown - LARGEST, "it was under-granted"
    print(f"\n{len(grants)} granted, {len(refusals)} refused, {len(settled)} corrected")
    assert len(refusals) > len(log) / 10, "nothing was contended for"
    assert len(settled) > len(grants) / 10


def surely_taken(changes: list[Change], grant: Change) -> int:
    """Return what was taken before a grant at the least, and by it."""
    before = (c for c in changes if c.until <= (grant.until if c.tokens < 0 else grant.since))
    maybe_given_back = (c for c in changes if c.tokens < 0 and c.since <= grant.until < c.until)
    return sum(c.tokens for c in (*before, *maybe_given_back)) + grant.tokens


def some(of: list[T]) -> list[T]:
    """Return enough of them, the last included."""
    return [*of[:: max(1, len(of) // 200)], of[-1]]


def test_two_users_race_for_one_budget_and_never_overspend_it(daemon: LiveDaemon) -> None:
    log = race(daemon, 2000)
    assert len(log) == 2000
    judge(log)


@pytest.mark.slow
def test_two_users_race_for_one_budget_for_10000_calls(daemon: LiveDaemon) -> None:
    log = race(daemon, 10_000)
    assert len(log) == 10_000
    judge(log)


def test_a_hostile_user_drains_no_budget_it_may_not_use_nor_settles_anothers(
    daemon: LiveDaemon,
) -> None:
    with (
        connected_as(daemon, ANNA) as anna,
        connected_as(daemon, EVE, GUESTS) as eve,
        connected_as(daemon, BEN) as ben,
    ):
        taken = anna.ask("limit.acquire", name="slow", concurrency=1)
        for _ in range(20):
            assert eve.ask("limit.acquire", name="slow")["kind"] == "permission_denied"
            assert eve.ask("limit.acquire", name="slow", wait_ms=50)["kind"] == "permission_denied"
        assert eve.ask("limit.peek", name="slow")["kind"] == "permission_denied"
        assert eve.ask("limit.list")["limits"] == []
        for hostile in (eve, ben):
            assert hostile.ask("limit.reset", name="slow")["kind"] == "permission_denied"
            for near in range(-3, 4):
                used = {"requests": 1000, "retry_after_ms": 600_000}
                number = taken["reservation"] + near
                assert hostile.ask("limit.settle", reservation=number, **used)["settled"] is False
        # A name of her own is another limit.
        rates = {"requests": {"limit": 1, "period_ms": 1}}
        assert eve.ask("limit.acquire", name="mine", rates=rates)["shared"] is False
        assert anna.ask("limit.peek", name="mine")["kind"] == "not_found"
        left = {
            each["dimension"]: each["available"]
            for each in ben.ask("limit.peek", name="slow")["budgets"]
        }
        assert left == {"requests": 5, "concurrency": 1}
        assert anna.ask("limit.settle", reservation=taken["reservation"])["settled"]


def test_kill_nine_forgets_no_money_and_gives_no_fresh_burst(daemon: LiveDaemon) -> None:
    """The clients' own account of what they were told is the judge."""
    told = 0
    with connected_as(daemon, ANNA) as anna:
        for _ in range(3):
            anna.ask("limit.acquire", name="slow", money_micros=10 * CENT, concurrency=0)
            told += 10 * CENT
        number = anna.ask("limit.acquire", name="slow", money_micros=10 * CENT)["reservation"]
        anna.ask("limit.settle", reservation=number, money_micros=30 * CENT)
        told += 30 * CENT
        # In the middle of one: whether it is granted is not known, but that it is counted then.
        anna.send("limit.acquire", name="slow", money_micros=10 * CENT)
        daemon.kill()
    daemon.start()
    with connected_as(daemon, BEN) as ben:
        refused = ben.ask("limit.acquire", name="slow")
        assert (refused["kind"], refused["dimension"]) == ("rate_limited", "requests")
        note = call_once(daemon.socket_path, "limit.peek", name="slow")["note"]
        assert "the daemon had ended without writing down" in note
        over = ben.ask("limit.acquire", name="slow", requests=0, money_micros=100 * CENT - told + 1)
        assert (over["kind"], over["dimension"]) == ("rate_limited", "money")
        (spent,) = ben.ask("limit.peek", name="slow")["spend"]
        assert spent["spent_micros"] in {told, told + 10 * CENT}
        rest = 100 * CENT - spent["spent_micros"]
        ben.ask("limit.acquire", name="slow", requests=0, money_micros=rest)
        assert ben.ask("limit.peek", name="slow")["spend"][0]["spent_micros"] == 100 * CENT


def test_a_waiter_whose_client_is_killed_leaves_the_line(daemon: LiveDaemon) -> None:
    script = (
        "import os, socket, sys;"
        f"os.setgroups([{STUDENTS}]); os.setgid({STUDENTS}); os.setuid({BEN});"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode() + b'\\n'); s.recv(1)"
    )
    request = {
        "jsonrpc": "2.0", "id": 1, "method": "limit.acquire",
        "params": {"name": "slow", "concurrency": 1, "wait_ms": 60_000},
    }  # fmt: skip
    with connected_as(daemon, ANNA) as anna, connected_as(daemon, ANNA) as beside:
        held = [
            anna.ask("limit.acquire", name="slow", concurrency=1)["reservation"] for _ in range(2)
        ]
        killed = subprocess.Popen(
            [sys.executable, "-c", script, str(daemon.socket_path), json.dumps(request)]
        )
        await_waiters(daemon, 1)
        beside.send("limit.acquire", name="slow", concurrency=1, wait_ms=60_000)
        await_waiters(daemon, 2)
        killed.kill()
        killed.wait()
        await_waiters(daemon, 1)
        assert anna.ask("limit.settle", reservation=held[0])["settled"]
        assert beside.receive()["result"]["name"] == "slow"
        # A holder that ends gives its slot back as well.
        beside.socket.shutdown(socket.SHUT_RDWR)
        await_waiters(daemon, 0)
        assert anna.ask("limit.acquire", name="slow", concurrency=1, wait_ms=5000)["reservation"]


def await_waiters(daemon: LiveDaemon, count: int) -> None:
    """Return when so many wait for the limit."""
    deadline = time.monotonic() + 20
    while call_once(daemon.socket_path, "limit.peek", name="slow")["waiters"] != count:
        assert time.monotonic() < deadline, f"there are never {count} waiters"


def test_a_reload_changes_a_limit_at_once(daemon: LiveDaemon) -> None:
    with connected_as(daemon, ANNA) as anna, connected_as(daemon, EVE, GUESTS) as eve:
        for _ in range(6):
            anna.ask("limit.acquire", name="slow", concurrency=0)
        assert anna.ask("limit.acquire", name="slow")["kind"] == "rate_limited"
        path = daemon.directory / "superezio.toml"
        changed = CONFIG.replace('"6/1m"', '"6/1m"\nrequests_burst = 7')
        path.write_text(
            changed.replace("[limit.shared.slow]", "[limit.shared.slow]\neveryone = true")
        )
        reloaded = call_once(daemon.socket_path, "system.reload")
        daemon.await_notification("READY=1")
        assert reloaded["applied"] == [
            "limit.shared.slow.everyone",
            "limit.shared.slow.host.requests_burst",
        ]
        assert eve.ask("limit.acquire", name="slow")["shared"] is True
        assert anna.ask("limit.acquire", name="slow")["kind"] == "rate_limited"
